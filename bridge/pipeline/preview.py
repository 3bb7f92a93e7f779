"""What an approval's mitigations would touch on this server, asked of Prosody; and what a rule says yes to.

House rule: a preview is what was so when it was asked; it is shown with its time, and nothing is refused for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from bridge import log
from bridge.errors import UnavailableError, UnsupportedError
from bridge.pipeline.actors import BRIDGE
from bridge.pipeline.approve import Rules as ApproveRules
from bridge.pipeline.approve import accept, loaded, protected_now
from bridge.policy import lanes
from bridge.policy import mitigation as rules_of
from bridge.policy.approval import may_be_automatic
from bridge.policy.change import Change, Put, Timer
from bridge.policy.decisions import Approval, ApprovalState, Target, TargetState
from bridge.policy.mitigation import GIVE_UP_SECONDS, RETRY_SECONDS, Yes
from bridge.policy.record import Interaction, Peer
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import StaleError, commit
from bridge.store.connect import Store

_log = log.get(__name__)

Item = dict[str, Any]


class Answer(Protocol):
    """What Prosody says to a command about a mitigation."""

    @property
    def ok(self) -> bool: ...  # noqa: D102
    @property
    def status(self) -> int: ...  # noqa: D102
    @property
    def error(self) -> str: ...  # noqa: D102
    @property
    def detail(self) -> Mapping[str, Any]: ...  # noqa: D102


class Server(Protocol):
    """What is asked of the host's Prosody; see `clients.prosody.ProsodyClient`."""

    async def preview(  # noqa: D102
        self,
        host: str,
        *,
        account: str | None = None,
        domain: str | None = None,
        room: str | None = None,
        jid: str | None = None,
    ) -> Mapping[str, Any]: ...
    async def mitigate(  # noqa: D102
        self,
        host: str,
        action: str,
        *,
        mitigation: str,
        revision: int,
        expires_at: datetime,
        target: Mapping[str, str],
        reason: str,
        webhook_id: str,
    ) -> Answer: ...
    async def lift(self, host: str, *, mitigation: str, revision: int, webhook_id: str) -> Answer: ...  # noqa: D102


class AutomaticRule(Protocol):
    """One of `policy.approve_automatically`."""

    @property
    def peer(self) -> str: ...  # noqa: D102
    @property
    def action(self) -> str: ...  # noqa: D102
    @property
    def per_day(self) -> int: ...  # noqa: D102


class Rules(ApproveRules, Protocol):
    """What the operator configured that matters here; see `[policy]`."""

    @property
    def approve_automatically(self) -> Sequence[AutomaticRule]: ...  # noqa: D102


async def refresh(
    store: Store, server: Server, approval: Approval, *, rules: Rules, now: datetime
) -> Approval:
    """Ask anew, and keep the answer while nobody has decided.

    Raises:
        UnavailableError: Prosody cannot be reached.
        ConfigError: the approval is gone.
    """
    after = await previewed(store, server, approval, rules=rules, now=now)
    if approval.state is not ApprovalState.OPEN:
        return after
    try:
        await commit(store, Change(puts=(Put(approval, after),)))
    except StaleError:
        return await loaded(store, approval.id)
    return after


async def preview(store: Store, server: Server, item: Item, *, rules: Rules, now: datetime) -> Change:
    """Ask what an approval's mitigations would touch; where a rule says so, approve it at once."""
    name = keys.approval(item["preview"])
    known = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(known, Approval) or known.state is not ApprovalState.OPEN:
        return Change()
    try:
        after = await previewed(store, server, known, rules=rules, now=now)
    except UnavailableError as error:
        return _preview_again(known, item, error, now)
    automatic = await _automatic(store, known, after, rules, now)
    return automatic or Change(puts=(Put(known, after),))


async def previewed(
    store: Store, server: Server, approval: Approval, *, rules: Rules, now: datetime
) -> Approval:
    """Ask Prosody what each target that is offered would touch.

    Raises:
        UnavailableError: it cannot be reached.
    """
    targets = tuple([await _previewed(server, approval.host, one) for one in approval.targets])
    ready = await protected_now(store, replace(approval, targets=targets), rules)
    return replace(ready, previewed_at=now)


async def _previewed(server: Server, host: str, target: Target) -> Target:
    if target.state is not TargetState.OFFERED:
        return target
    try:
        found = dict(await server.preview(host, **target.fields))
    except UnsupportedError as error:
        found = {"error": str(error)}
    return replace(target, preview=found)


def _preview_again(known: Approval, item: Item, error: UnavailableError, now: datetime) -> Change:
    """Ask again soon, for a day; it can be approved without."""
    if now >= known.created_at + timedelta(seconds=GIVE_UP_SECONDS):
        return Change()
    tries = item.get("tries", 0) + 1
    _log.warning("a preview waits for Prosody", host=known.host, approval=known.id, reason=str(error))
    delay = RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1]
    again = {"id": f"{known.id}-p-t{tries}", "preview": known.id, "tries": tries}
    due_at = now + timedelta(seconds=delay)
    append = lanes.approval(known.host, again)
    return Change(timers=(Timer(name=f"preview-{known.id}", due_at=due_at, append=append),))


async def _automatic(
    store: Store, before: Approval, approval: Approval, rules: Rules, now: datetime
) -> Change | None:
    """Say yes where a rule of the operator's does; None: it waits for a person."""
    rule = next((one for one in rules.approve_automatically if one.peer == approval.requester), None)
    if rule is None or approval.request is None:
        return None
    names = [keys.interaction(approval.request), keys.peer(approval.host, approval.requester)]
    records = (await load.fetch(store, names=names)).records
    asked, peer = (records[name] for name in names)
    if not isinstance(asked, Interaction) or not isinstance(peer, Peer):
        return None
    if peer.trust is not Trust.TRUSTED:  # any more: what it asked for while it was waits for a person
        return None
    if not may_be_automatic(approval, action=rule.action, per_day=rule.per_day, done=peer.automatic, now=now):
        return None
    yes = Yes(
        by=BRIDGE.name,
        at=now,
        expires_at=now + timedelta(days=rules.mitigation_days),
        is_automatic=True,
        reason=f"policy.approve_automatically allows {rule.action} for {rule.peer}",
    )
    after, change = accept(before, approval, rules_of.chosen(approval, None), yes, asked)
    spent = [one for one in peer.automatic if one[1] > now - timedelta(days=1)]
    spent += [(rule.action, now) for one in after.targets if one.mitigation_id]
    return change + Change(puts=(Put(peer, replace(peer, automatic=tuple(spent))),))
