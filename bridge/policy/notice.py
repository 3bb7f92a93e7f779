"""What the host's admins are told in chat (DESIGN §5 "Notices to admins").

House rules: fixed text with kind, peer and counts, never a word from a document; at most one message a minute;
strangers only in a digest, at most hourly.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from bridge.policy import lanes
from bridge.policy.change import Timer
from bridge.policy.record import Interaction, Notices
from bridge.policy.trust import Rule
from bridge.xep0268.model import Kind

NOTICE_SECONDS = 60
DIGEST_SECONDS = 3600
_MOST_LINES = 20
_MOST_BYTES = 1000  # of lines; Prosody takes a message of 2000 bytes, and a domain may have a thousand
Waiting = tuple[tuple[str, Kind, int], ...]


def note(notices: Notices, interaction: Interaction, *, now: datetime) -> tuple[Notices, tuple[Timer, ...]]:
    """Remember that the admins are to be told of an interaction, and when."""
    if interaction.quarantined:
        due_at = _due(notices.digest_told_at, DIGEST_SECONDS, now)
        after = replace(notices, digest=_count(notices.digest, interaction))
        return after, (_timer(notices.host, "digest", due_at),) if not notices.digest else ()
    if interaction.rule is not Rule.NOTIFY:
        return notices, ()
    due_at = _due(notices.told_at, NOTICE_SECONDS, now)
    after = replace(notices, waiting=_count(notices.waiting, interaction))
    return after, (_timer(notices.host, "notice", due_at),) if not notices.waiting else ()


def told(notices: Notices, name: str, *, now: datetime) -> Notices:
    """Note that the admins were told."""
    if name == "digest":
        return replace(notices, digest=(), digest_told_at=now)
    return replace(notices, waiting=(), told_at=now)


def text(notices: Notices, name: str, *, open_approvals: int = 0) -> str | None:
    """Write the message; None if there is nothing to tell.

    Args:
        notices: what waits.
        name: `notice` or `digest`.
        open_approvals: how many requests wait for a yes or no; told unless it is a digest.
    """
    waiting = notices.digest if name == "digest" else notices.waiting
    if not waiting:
        return None
    lines: list[str] = []
    size_bytes = 0
    for peer, kind, count in waiting[:_MOST_LINES]:
        line = f"{peer}: {_counted(kind, count)}"
        size_bytes += len(line.encode()) + 1
        if size_bytes > _MOST_BYTES:
            break
        lines.append(line)
    if len(lines) < len(waiting):
        lines.append(f"and {len(waiting) - len(lines)} more")
    head = (
        f"Incidents for {notices.host} from servers you have not decided about (in quarantine):"
        if name == "digest"
        else f"Incidents for {notices.host}:"
    )
    if open_approvals and name != "digest":
        waits = "1 request waits" if open_approvals == 1 else f"{open_approvals} requests wait"
        lines.append(f"{waits} for your yes or no: incident-bridge approvals list")
    return "\n".join([head, *lines, "To see them: incident-bridge incidents list"])


def _counted(kind: Kind, count: int) -> str:
    plural = {Kind.INQUIRY: "inquiries"}.get(kind, f"{kind}s")
    return f"{count} {kind if count == 1 else plural}"


def _count(waiting: Waiting, interaction: Interaction) -> Waiting:
    counts = {(peer, kind): count for peer, kind, count in waiting}
    key = (interaction.peer, interaction.kind)
    if key not in counts and len(counts) >= 1000:  # noqa: PLR2004 - a bound for strangers' domains
        return waiting
    counts[key] = counts.get(key, 0) + 1
    return tuple((peer, kind, count) for (peer, kind), count in counts.items())


def _due(told_at: datetime | None, seconds: int, now: datetime) -> datetime:
    return now if told_at is None else max(now, told_at + timedelta(seconds=seconds))


def _timer(host: str, name: str, due_at: datetime) -> Timer:
    item = {"id": f"{name}-{due_at.timestamp()}", "interaction": None, "notice": name}
    return Timer(name=f"{name}-{host}", due_at=due_at, append=lanes.outgoing(host, item))
