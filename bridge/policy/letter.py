"""What is written to a person in place of an interaction: plain text that needs no knowledge of XEP-0268.

House rules: every line that is not ours is quoted with `> `, cut short and without control characters, so that nobody
speaks in the host's name; who reported something to this host is never said.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from bridge.iodef.model import Source
from bridge.policy.lookalike import with_ascii
from bridge.policy.record import Interaction
from bridge.xep0268.model import Kind, Status

_MOST_LINES = 12
_MOST_SOURCES = 20
_MOST_CHARACTERS = 200
_ASKED = {
    "block-host": "stop it: suspend these accounts, or block what sends from there",
    "block-network": "block the network it comes from",
    "contact-source-site": "contact whoever runs the source",
    "contact-target-site": "contact whoever runs the target",
    "contact-sender": "contact us",
    "investigate": "look into it",
    "rate-limit-host": "limit what these accounts may send",
    "status-triage": "tell us how it stands",
}


def letter(interaction: Interaction, *, link: str = "") -> str:
    """Write the text of a report or request; `link` leads to its answer page, "": there is none."""
    document = interaction.document
    lines = [
        _opening(interaction),
        "",
        *_told(text.text for text in document.descriptions),
        *sources_told(document.sources),
        *_when(document.started_at or document.detected_at, document.ended_at),
    ]
    if interaction.kind is Kind.REQUEST:
        wanted = dict.fromkeys(one.action for one in document.expectations)
        lines += ["", "We ask you to:", *(f"- {_ASKED.get(one, quoted(one))}" for one in wanted)]
        lines += _told(text.text for one in document.expectations for text in one.descriptions)
    lines += ["", f"Our reference: {quoted(document.identity.text)}"]
    lines.append("Please answer here; what you write reaches the operators.")
    if link:
        lines.append(f"Or see it and answer on this page, no account needed: {link}")
    lines += ["", "Servers can tell each other this by themselves: https://xmpp.org/extensions/xep-0268.html"]
    return "\n".join(lines)


def subject(interaction: Interaction) -> str:
    """One line for a mail."""
    what = "Request" if interaction.kind is Kind.REQUEST else "Report"
    return f"{what} from {interaction.host} about {interaction.peer}: {quoted(interaction.document.identity.text)}"


def _opening(interaction: Interaction) -> str:
    host, peer = with_ascii(interaction.host), with_ascii(interaction.peer)
    start = f"This is the XMPP server {host}, writing for its operators to those of {peer}."
    if interaction.kind is Kind.REQUEST:
        return f"{start} We ask for your help with an incident:"
    if interaction.status is Status.RESOLVED:
        return f"{start} An incident that we told you of is over:"
    if interaction.status is Status.UPDATED:
        return f"{start} There is more about an incident that we told you of:"
    return f"{start} We saw an incident that you may want to act on:"


def _told(texts: Iterable[str]) -> Iterator[str]:
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    yield from (f"> {quoted(line.strip())}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield "> …"


def sources_told(sources: tuple[Source, ...]) -> Iterator[str]:
    """Say in lines where it comes from, and how much of it."""
    if not sources:
        return
    yield "Sources:"
    for one in sources[:_MOST_SOURCES]:
        counted = ", ".join(f"{each.value:.15g} {quoted(each.type)}" for each in one.counters[:5])
        yield f"> {quoted(one.address)}" + (f": {counted}" if counted else "")
    if len(sources) > _MOST_SOURCES:
        yield f"and {len(sources) - _MOST_SOURCES} more"


def _when(started_at: datetime | None, ended_at: datetime | None) -> Iterator[str]:
    if started_at is not None:
        until = f" until {_moment(ended_at)}" if ended_at is not None else ""
        yield f"When: {_moment(started_at)}{until}"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def quoted(text: str) -> str:
    """Text that is not ours on one line: cut short, and without characters that hide or break lines."""
    plain = "".join("�" if unicodedata.category(one) in _HIDDEN else one for one in text)
    return plain if len(plain) <= _MOST_CHARACTERS else plain[: _MOST_CHARACTERS - 1] + "…"


_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
