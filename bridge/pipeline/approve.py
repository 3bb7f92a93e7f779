"""What operators decide: yes or no to a request, something unasked, and taking it back.

House rules: what is decided on is loaded anew; of two who decide at once one wins, and the other is told who; nothing
is done here, it waits in the host's lane of approvals.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.responses import tell
from bridge.policy import events, lanes
from bridge.policy import mitigation as rules_of
from bridge.policy.approval import protect, touched
from bridge.policy.change import Change, Put, Timer
from bridge.policy.decisions import Approval, ApprovalState, Grounds, Mitigation, Target
from bridge.policy.mitigation import Yes, about
from bridge.policy.record import Incident, Interaction, Outcome, Peer
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import StaleError, commit
from bridge.store.connect import Store

_ATTEMPTS = 10
_DONE = {
    ApprovalState.OPEN: "it is open",
    ApprovalState.APPROVED: "it was approved and is being carried out",
    ApprovalState.DONE: "it was done",
    ApprovalState.PARTLY: "it was done in part",
    ApprovalState.FAILED: "it was approved, and failed",
    ApprovalState.DECLINED: "it was declined",
    ApprovalState.EXPIRED: "it expired",
}


class Rules(Protocol):
    """What the operator configured that matters here; see `[policy]`."""

    @property
    def mitigation_days(self) -> int: ...  # noqa: D102
    @property
    def protected(self) -> Collection[str]: ...  # noqa: D102


async def approve(
    store: Store,
    approval: Approval,
    addresses: Sequence[str] | None,
    *,
    actor: Actor,
    rules: Rules,
    now: datetime,
    expires_at: datetime | None = None,
    second_yes: bool = False,
) -> Approval:
    """Say yes to a request, or to some of it; carrying out begins at once.

    Args:
        store: where it lies.
        approval: what is decided about.
        addresses: the targets meant, see `mitigation.chosen`; None: all that are offered.
        actor: who says so.
        rules: the operator's.
        now: the time.
        expires_at: when the mitigations end; None: after `rules.mitigation_days`.
        second_yes: protected names are meant too.

    Raises:
        ConfigError: the addresses cannot be approved; ProtectedError: without a second yes.
        ConflictError: somebody else decided first; the message says who.
    """
    yes = _yes(actor, rules, now=now, expires_at=expires_at, is_second=second_yes)
    for _ in range(_ATTEMPTS):
        known = await _open(store, approval.id)
        ready = await protected_now(store, known, rules)
        asked = await _asked(store, known)
        after, change = accept(known, ready, rules_of.chosen(ready, addresses), yes, asked)
        if await _is_first(store, change):
            return after
    raise ConflictError("it changes faster than it can be decided; try again")


async def decline(store: Store, approval: Approval, *, actor: Actor, reason: str, now: datetime) -> Approval:
    """Say no to a request, and tell the requester why.

    Raises:
        ConflictError: somebody else decided first; the message says who.
    """
    for _ in range(_ATTEMPTS):
        known = await _open(store, approval.id)
        after = rules_of.decline(
            known, state=ApprovalState.DECLINED, by=actor.name, origin=actor.origin, reason=reason, at=now
        )
        told = await tell(store, after, (), about="declined", outcome=Outcome.DECLINED, now=now)
        change = Change(
            puts=(Put(known, after),),
            audits=audits((known.host,), actor, "approval.decline", known.id, now=now, detail=reason),
            counts=(("approvals", "declined"),),
        )
        if await _is_first(store, change + told):
            return after
    raise ConflictError("it changes faster than it can be decided; try again")


async def act(
    store: Store,
    incident: Incident,
    targets: Sequence[Target],
    *,
    approval_id: str,
    actor: Actor,
    rules: Rules,
    now: datetime,
    expires_at: datetime | None = None,
    second_yes: bool = False,
    reason: str = "",
) -> Approval:
    """Do something about an incident that nobody requested anything about.

    Args:
        store: where it lies.
        incident: what it is about.
        targets: made by `policy.approval.own_target`.
        approval_id: a new id; a call whose answer got lost may be repeated with it.
        actor: who does it.
        rules: the operator's.
        now: the time.
        expires_at: when the mitigations end; None: after `rules.mitigation_days`.
        second_yes: protected names are meant too.
        reason: for people.

    Raises:
        ConfigError: no target, or too many; ProtectedError: without a second yes.
    """
    made = Approval(
        id=approval_id,
        host=incident.host,
        incident_id=incident.id,
        request=None,
        requester="",
        targets=tuple(targets),
        created_at=now,
        expires_at=now,
        is_unlisted=bool(incident.only_to),
    )
    yes = _yes(actor, rules, now=now, expires_at=expires_at, is_second=second_yes, reason=reason)
    return await _do(store, made, yes, rules)


async def act_on(
    store: Store,
    host: str,
    targets: Sequence[Target],
    grounds: Grounds,
    *,
    approval_id: str,
    actor: Actor,
    rules: Rules,
    now: datetime,
    expires_at: datetime | None = None,
    second_yes: bool = False,
    reason: str = "",
    more: Change | None = None,
) -> Approval:
    """Do something where there is no incident. For the rest see `act`.

    Args:
        store: where it lies.
        host: on which host.
        targets: made by `policy.approval.own_target`.
        grounds: why.
        approval_id: see `act`, as for all that follows.
        actor: who does it.
        rules: the operator's.
        now: the time.
        expires_at: when the mitigations end.
        second_yes: protected names are meant too.
        reason: for people.
        more: what is written with it.

    Raises:
        ConfigError: no target, or too many; ProtectedError: without a second yes.
        ConflictError: what `more` is about changed meanwhile.
    """
    made = Approval(
        id=approval_id,
        host=host,
        incident_id="",
        request=None,
        requester="",
        targets=tuple(targets),
        created_at=now,
        expires_at=now,
        feeds=grounds.feeds,
        draft_id=grounds.draft_id,
    )
    yes = _yes(actor, rules, now=now, expires_at=expires_at, is_second=second_yes, reason=reason)
    return await _do(store, made, yes, rules, more)


async def _do(store: Store, made: Approval, yes: Yes, rules: Rules, more: Change | None = None) -> Approval:
    ready = await protected_now(store, made, rules)
    after, change = accept(None, ready, rules_of.chosen(ready, None), yes, None)
    if await _is_first(store, change + (more or Change())):
        return after
    before = await stored(store, made.id)
    if before is None:
        raise ConflictError("it changed meanwhile; try again")
    return before  # it was stored, and the answer got lost


async def lift(
    store: Store, mitigation: Mitigation, *, actor: Actor, reason: str, now: datetime
) -> Mitigation:
    """Take a mitigation back; the requester is told once Prosody has lifted it.

    Raises:
        ConflictError: there is nothing to take back any more; the message says why.
    """
    for _ in range(_ATTEMPTS):
        name = keys.mitigation(mitigation.id)
        known = (await load.fetch(store, names=[name])).records[name]
        if not isinstance(known, Mitigation):
            raise ConfigError(f"mitigation {mitigation.id} is gone from the store")
        if not rules_of.may_be_lifted(known):
            by = f" by {known.lifted_by}" if known.lifted_by else ""
            raise ConflictError(f"mitigation {known.id} is {known.state} already{by}")
        after = rules_of.lift(known, by=actor.name, reason=reason, at=now)
        change = Change(
            puts=(Put(known, after),),
            appends=(lanes.carry_out(after.host, after.id, after.revision),),
            audits=audits((after.host,), actor, "mitigation.lift", after.id, now=now, detail=reason),
        )
        if await _is_first(store, change):
            return after
    raise ConflictError("it changes faster than it can be taken back; try again")


def accept(
    before: Approval | None, ready: Approval, which: frozenset[int], yes: Yes, asked: Interaction | None
) -> tuple[Approval, Change]:
    """Write down a yes, queue what it means, and see that each mitigation ends in time.

    Args:
        before: as stored; None: it is new.
        ready: the same, with what is protected as of now.
        which: the targets meant.
        yes: whose.
        asked: the request, if it is still there.
    """
    after, mitigations = rules_of.approve(ready, which, yes)
    change = Change(puts=(Put(before, after),), counts=(("approvals", "approved"),))
    if asked is not None:
        change += Change(events=(events.decided(asked, after, now=yes.at),))
    actor = Actor(name=yes.by, origin=yes.origin)
    for one in mitigations:
        over = lanes.approval(one.host, {"id": f"{one.id}-x", "mitigation_expired": one.id})
        detail = f"{one.id} {about(one.type, one.target)}"
        change += Change(
            puts=(Put(None, one),),
            appends=(lanes.carry_out(one.host, one.id, one.revision),),
            timers=(Timer(name=f"mitigation-{one.id}", due_at=one.expires_at, append=over),),
            audits=audits((one.host,), actor, "approval.approve", after.id, now=yes.at, detail=detail),
        )
    return after, change


async def protected_now(store: Store, approval: Approval, rules: Rules) -> Approval:
    """Say anew which targets need a second yes; trust may have changed since it was asked for."""
    jids = [jid for one in approval.targets if (jid := touched(one)) is not None]
    names = [keys.peer(approval.host, domain) for domain in dict.fromkeys(jid.domain for jid in jids)]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    trusted = {one.domain for one in records if isinstance(one, Peer) and one.trust is Trust.TRUSTED}
    targets = protect(approval.targets, protected=rules.protected, trusted=trusted)
    return replace(approval, targets=targets)


async def loaded(store: Store, approval_id: str) -> Approval:
    """Load an approval.

    Raises:
        ConfigError: it is gone.
    """
    known = await stored(store, approval_id)
    if known is None:
        raise ConfigError(f"approval {approval_id} is gone from the store")
    return known


async def stored(store: Store, approval_id: str) -> Approval | None:
    """Load an approval, if it is there."""
    name = keys.approval(approval_id)
    known = (await load.fetch(store, names=[name])).records[name]
    return known if isinstance(known, Approval) else None


def _yes(
    actor: Actor,
    rules: Rules,
    *,
    now: datetime,
    expires_at: datetime | None,
    is_second: bool,
    reason: str = "",
) -> Yes:
    end = expires_at or now + timedelta(days=rules.mitigation_days)
    if end <= now:
        raise ConfigError("it would be over before it begins; choose a later end")
    return Yes(by=actor.name, origin=actor.origin, at=now, expires_at=end, is_second=is_second, reason=reason)


async def _open(store: Store, approval_id: str) -> Approval:
    """Load an approval that nobody decided about yet."""
    known = await loaded(store, approval_id)
    if known.state is not ApprovalState.OPEN:
        at = f" at {known.decided_at:%Y-%m-%d %H:%M:%SZ}" if known.decided_at else ""
        who = f"{known.decided_by or 'somebody'} was faster{at}"
        raise ConflictError(f"approval {known.id} is decided: {_DONE[known.state]}; {who}")
    return known


async def _asked(store: Store, approval: Approval) -> Interaction | None:
    if approval.request is None:
        return None
    name = keys.interaction(approval.request)
    found = (await load.fetch(store, names=[name])).records[name]
    return found if isinstance(found, Interaction) else None


async def _is_first(store: Store, change: Change) -> bool:
    """Commit, unless something changed since it was loaded."""
    try:
        await commit(store, change)
    except StaleError:
        return False
    return True
