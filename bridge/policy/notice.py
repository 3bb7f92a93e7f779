"""What the host's admins are told in chat (DESIGN §5 "Notices to admins").

House rules: fixed text with kind, peer and counts, never a word from a document; at most one message a minute;
strangers only in a digest, at most hourly.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bridge.policy import lanes
from bridge.policy.abuse_record import AbuseKind, Shortage
from bridge.policy.change import Change, Put, Tally, Telling, Timer
from bridge.policy.record import Interaction, Notices
from bridge.policy.trust import Rule
from bridge.xep0268.model import Kind

NOTICE_SECONDS = 60
DIGEST_SECONDS = 3600
_SHORTAGE_AGAIN = timedelta(days=1)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_MOST_LINES = 20
_MOST_BYTES = 1000  # of lines; Prosody takes a message of 2000 bytes, and a domain may have a thousand


def note(notices: Notices, interaction: Interaction, *, now: datetime) -> Change:
    """Count an interaction among what the admins are to be told, and look at the counts when they may be told."""
    if interaction.quarantined:
        telling = Telling.DIGEST
    elif interaction.rule is Rule.NOTIFY:
        telling = Telling.NOTICE
    else:
        return Change()
    tally = Tally(host=notices.host, telling=telling, peer=interaction.peer, kind=interaction.kind)
    return Change(tallies=(tally,), timers=(look(notices, telling, now=now),))


def note_draft(notices: Notices, domain: str, kind: AbuseKind, *, now: datetime) -> Change:
    """Count among what the admins are to be told that users began to report a domain."""
    tally = Tally(host=notices.host, telling=Telling.NOTICE, peer=domain, kind=kind)
    return Change(tallies=(tally,), timers=(look(notices, Telling.NOTICE, now=now),))


def note_shortage(notices: Notices, *, now: datetime) -> Change:
    """Have the admins told, once a day, that not all that users report is kept."""
    known = notices.short_at
    if known is not None and known <= now < known + _SHORTAGE_AGAIN:
        return Change()
    tally = Tally(host=notices.host, telling=Telling.NOTICE, peer=notices.host, kind=Shortage.NO_PLACE)
    return Change(
        puts=(Put(notices if notices.version else None, replace(notices, short_at=now)),),
        tallies=(tally,),
        timers=(look(notices, Telling.NOTICE, now=now),),
    )


def look(notices: Notices, telling: Telling, *, now: datetime) -> Timer:
    """Look at what waits as soon as the admins may be told again."""
    item = {"id": f"{telling}-{now.timestamp()}", "interaction": None, "notice": telling}
    due_at = may_tell_at(notices, telling, now=now)
    return Timer(name=f"{telling}-{notices.host}", due_at=due_at, append=lanes.outgoing(notices.host, item))


def may_tell_at(notices: Notices, telling: Telling, *, now: datetime) -> datetime:
    """When the admins may be told again; it may be past, and stays the same until they are told.

    (So that what comes in all the time never puts a look at it off, whosever clock is ahead.)
    """
    is_digest = telling is Telling.DIGEST
    told_at = notices.digest_told_at if is_digest else notices.told_at
    pause = timedelta(seconds=DIGEST_SECONDS if is_digest else NOTICE_SECONDS)
    if told_at is None or told_at > now + pause:  # never, or by a clock that was set back since
        return _LONG_AGO
    return told_at + pause


def told(notices: Notices, telling: Telling, tallies: Sequence[Tally], *, now: datetime) -> Change:
    """Note that the admins were told of so much; what was counted meanwhile goes on waiting."""
    is_digest = telling is Telling.DIGEST
    after = replace(notices, digest_told_at=now) if is_digest else replace(notices, told_at=now)
    return Change(
        puts=(Put(notices if notices.version else None, after),),
        tallies=tuple(replace(one, count=-one.count) for one in tallies),
    )


def text(host: str, telling: Telling, tallies: Sequence[Tally], *, open_approvals: int = 0) -> str:
    """Write the message, those who sent most first.

    Args:
        host: whose admins are told.
        telling: of whom.
        tallies: what waits.
        open_approvals: how many requests wait for a yes or no; told unless it is a digest.
    """
    waiting = sorted(tallies, key=lambda one: (-one.count, one.peer, one.kind))
    lines: list[str] = []
    size_bytes = 0
    for one in waiting[:_MOST_LINES]:
        line = f"{one.peer}: {_said(one)}"
        size_bytes += len(line.encode()) + 1
        if size_bytes > _MOST_BYTES:
            break
        lines.append(line)
    if len(lines) < len(waiting):
        lines.append(f"and {len(waiting) - len(lines)} more")
    head = (
        f"Incidents for {host} from servers you have not decided about (in quarantine):"
        if telling is Telling.DIGEST
        else f"Incidents for {host}:"
    )
    if open_approvals and telling is not Telling.DIGEST:
        waits = "1 request waits" if open_approvals == 1 else f"{open_approvals} requests wait"
        lines.append(f"{waits} for your yes or no: incident-bridge approvals list")
    if any(isinstance(one.kind, Kind) for one in waiting):
        lines.append("To see them: incident-bridge incidents list")
    if any(isinstance(one.kind, AbuseKind | Shortage) for one in waiting):
        lines.append("To see what users report: incident-bridge abuse list")
    return "\n".join([head, *lines])


def _said(tally: Tally) -> str:
    if isinstance(tally.kind, AbuseKind):
        return f"users report {tally.kind}"
    if isinstance(tally.kind, Shortage):
        return "users report more than is kept; what one user alone reports gives way"
    return _counted(tally.kind, tally.count)


def _counted(kind: Kind, count: int) -> str:
    plural = {Kind.INQUIRY: "inquiries"}.get(kind, f"{kind}s")
    return f"{count} {kind if count == 1 else plural}"
