"""What Prosody has in force, compared with what is recorded: somebody may have undone it there, or restored a backup.

And an answer may have got lost: what failed as far as is recorded may be in force.

House rules: nothing is applied or lifted from here, that needs a yes; each difference is an item of its own in the
host's lane of approvals, behind whatever was asked of Prosody before, and is judged anew when its turn comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from bridge import log
from bridge.errors import UnavailableError, UnsupportedError
from bridge.policy import lanes
from bridge.policy import mitigation as rules_of
from bridge.policy.change import Change
from bridge.policy.decisions import Mitigation, MitigationState
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

_log = log.get(__name__)

EVERY_SECONDS: Final = 300
_MOST: Final = 2000
Item = dict[str, Any]


class Standing(Protocol):
    """What Prosody has: rows with `mitigation`; of those that ended lately, also `how`."""

    @property
    def active(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102
    @property
    def ended(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102


class Server(Protocol):
    """What is asked of the host's Prosody; see `clients.prosody.ProsodyClient`."""

    async def standing(self, host: str) -> Standing: ...  # noqa: D102


async def begin(store: Store, hosts: Sequence[str], *, now: datetime) -> None:
    """Queue the comparison for these hosts."""
    await commit(store, Change(appends=tuple(lanes.compare(host, now) for host in hosts)))


async def compare(store: Store, server: Server, item: Item, *, now: datetime) -> Change:
    """Queue an item for each mitigation that is in force as far as is recorded, and is not in Prosody; or the reverse.

    Nothing where Prosody is away, or the question is an old one: it is asked again soon.
    """
    host = item["reconcile"]
    if now - datetime.fromisoformat(item["at"]) > timedelta(seconds=EVERY_SECONDS):
        return Change()
    index = keys.mitigations_active(host)
    ids = (await load.newest(store, [index], limit=_MOST))[index]
    names = [keys.mitigation(one) for one in ids]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    applied = [one for one in records if isinstance(one, Mitigation) and one.state is MitigationState.APPLIED]
    try:
        there = await server.standing(host)
    except (UnavailableError, UnsupportedError) as error:
        _log.info("mitigations are not compared with Prosody's", host=host, reason=str(error))
        return Change()
    active = {one.get("mitigation") for one in there.active}
    ended = {one.get("mitigation"): str(one.get("how")) for one in there.ended}
    missing = [one for one in applied if one.id not in active]
    lost = await _failed(store, host, sorted(one for one in active if isinstance(one, str)))
    return Change(
        appends=(
            *(lanes.missing(host, one.id, ended.get(one.id, "")) for one in missing),
            *(lanes.in_force(host, one.id, one.revision) for one in lost),
        )
    )


async def _failed(store: Store, host: str, active: Sequence[str]) -> list[Mitigation]:
    """Find what failed as far as is recorded, among what Prosody has in force."""
    names = [keys.mitigation(one) for one in active[:_MOST]]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    return [
        one
        for one in records
        if isinstance(one, Mitigation) and one.host == host and one.state is MitigationState.FAILED
    ]


def judged(known: Mitigation, how: str, *, now: datetime) -> Mitigation | None:
    """What a mitigation is that Prosody no longer has; None: what is recorded changed meanwhile.

    Args:
        known: as recorded.
        how: how it ended there (`undone`, `expired`, `lifted`); "": Prosody knows nothing of it.
        now: the time.
    """
    if known.state is not MitigationState.APPLIED:
        return None
    if how == "expired" or now >= known.expires_at:
        return rules_of.expired(known, at=now)
    if how == "undone":
        return rules_of.lifted(replace(known, lifted_by="prosodyctl"), {"was": how}, at=now)
    note = (
        "Prosody had ended it before" if how else "Prosody does not know it any more, so it is not in force"
    )
    return rules_of.lifted(replace(known, note=note), {}, at=now)


def warning(after: Mitigation, how: str) -> str:
    """What the admins are told; "": nothing, because they did it or its time is over."""
    if how in {"undone", "expired"} or after.state is MitigationState.EXPIRED:
        return ""
    return (
        f"Mitigation {after.id} is no longer in force on {after.host}: Prosody does not have it any more. Was its "
        f"storage restored? To see it: incident-bridge mitigations show {after.id}"
    )


def found(after: Mitigation) -> str:
    """What the admins are told of what failed, and is in force."""
    return (
        f"Mitigation {after.id} is in force on {after.host}, although you were told that it failed. "
        f"To see it: incident-bridge mitigations show {after.id}. "
        f"To take it back: incident-bridge mitigations lift {after.id}"
    )
