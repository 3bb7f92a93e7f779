"""What is written to a person in place of an interaction: plain text that needs no knowledge of XEP-0268.

House rules: every line that is not ours is quoted with `> `, cut short and without control characters, so that nobody
speaks in the host's name; what a user wrote is said to be that only where this host itself wrote the document; who
reported something to this host is never said; whatever the document holds, it is less than `MAX_BYTES`.
"""

import textwrap
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import Source
from bridge.policy import abuse
from bridge.policy.lookalike import with_ascii
from bridge.policy.record import Interaction
from bridge.policy.words import count
from bridge.xep0268.model import Kind, Status

MAX_BYTES = 16_000
"""mod_incident_bridge passes on no longer text."""
MAX_ITEMS = 20
_MOST_LINES = 12
_MOST_SOURCES = 20
_MOST_CHARACTERS = 200
_MOST_ITEM_CHARACTERS = 4000  # of one piece of evidence; what a user wrote is shorter
# So many bytes there are for each part that is not ours; names and the link have the rest of `MAX_BYTES`.
_DESCRIPTION_BYTES = 2600
_SOURCES_BYTES = 2800
_ITEMS_BYTES = 3000
_ACTIONS_BYTES = 800
_ASKED_BYTES = 1200
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What a document has besides what it says itself: what a user wrote, or evidence.

    Attributes:
        title: whose words these are, in ours.
        text: not ours.
    """

    title: str
    text: str


def letter(interaction: Interaction, *, link: str = "") -> str:
    """Write the text of a report or request; `link` leads to its answer page, "": there is none."""
    document = interaction.document
    told = _quotes(text.text for text in document.descriptions)
    lines = [
        _opening(interaction),
        "",
        *_within(_DESCRIPTION_BYTES, told),
        *_within(_SOURCES_BYTES, sources_told(document.sources, is_own=interaction.is_about_own)),
        *_within(_ITEMS_BYTES, _items_told(items(interaction))),
        *_when(document.started_at or document.detected_at, document.ended_at),
    ]
    if interaction.kind is Kind.REQUEST:
        lines += ["", "We ask you to:", *_asked(document)]
    lines += ["", f"Our reference: {quoted(document.identity.text)}"]
    lines.append("Please answer here; what you write reaches the operators.")
    if link:
        lines.append(f"Or see it and answer on this page, no account needed: {link}")
    lines += ["", "Servers can tell each other this by themselves: https://xmpp.org/extensions/xep-0268.html"]
    return "\n".join(lines)


def _asked(document: Document) -> Iterator[str]:
    wanted = dict.fromkeys(one.action for one in document.expectations)
    yield from _within(_ACTIONS_BYTES, (_action(one) for one in wanted))
    texts = (text.text for one in document.expectations for text in one.descriptions)
    yield from _within(_ASKED_BYTES, _quotes(texts))


def _action(word: str) -> str:
    return f"- {_ASKED[word]}" if word in _ASKED else f"> {quoted(word)}"


def _within(most_bytes: int, lines: Iterable[str]) -> Iterator[str]:
    """Keep the lines for which there is room, and say where some are left out."""
    room = most_bytes - len("> …\n".encode())
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            yield "> …"
            return
        yield line


def items(interaction: Interaction) -> tuple[Item, ...]:
    """What users wrote, and evidence, each with whose it is."""
    document, host = interaction.document, interaction.host
    accused = {one.jid for one in document.sources if one.jid} if interaction.is_about_own else set()
    found = []
    for one in document.record_items:
        about = abuse.words_about(one, host)
        title = (
            f"A user of {with_ascii(host)} wrote about {quoted(about)}:" if about in accused else "Evidence:"
        )
        found.append(Item(title=title, text=one.text))
    return tuple(found)


def _items_told(told: tuple[Item, ...]) -> Iterator[str]:
    for one in told[:MAX_ITEMS]:
        yield one.title
        lines = (line for line in one.text[:_MOST_ITEM_CHARACTERS].splitlines() if line.strip())
        yield from _quotes(part for line in lines for part in textwrap.wrap(line, _MOST_CHARACTERS))
    if len(told) > MAX_ITEMS:
        yield f"and {len(told) - MAX_ITEMS} more"


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


def _quotes(texts: Iterable[str]) -> Iterator[str]:
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    yield from (f"> {quoted(line.strip())}" for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield "> …"


def sources_told(sources: tuple[Source, ...], *, is_own: bool) -> Iterator[str]:
    """Say in lines where it comes from, and how much of it; `is_own`: this host itself wrote the document."""
    if not sources:
        return
    yield "Sources:"
    for one in sources[:_MOST_SOURCES]:
        counted = ", ".join(counters_told(one, is_own=is_own)[:5])
        yield f"> {quoted(one.address)}" + (f": {counted}" if counted else "")
    if len(sources) > _MOST_SOURCES:
        yield f"and {len(sources) - _MOST_SOURCES} more"


def counters_told(source: Source, *, is_own: bool) -> tuple[str, ...]:
    """How much of it, and how many users of ours reported it; see `sources_told`."""
    users = abuse.users_in(source) if is_own else 0
    rest = (one for one in source.counters if not (users and abuse.counts_users(one)))
    counted = tuple(f"{one.value:.15g} {quoted(one.type)}" for one in rest)
    return (f"reported by {count(users, 'user')}", *counted) if users else counted


def _when(started_at: datetime | None, ended_at: datetime | None) -> Iterator[str]:
    if started_at is not None:
        times = dict.fromkeys(_moment(one) for one in (started_at, ended_at) if one is not None)
        yield f"When: {' until '.join(times)}"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def quoted(text: str) -> str:
    """Text that is not ours on one line: cut short, and without characters that hide or break lines."""
    plain = "".join("�" if unicodedata.category(one) in _HIDDEN else one for one in text)
    return plain if len(plain) <= _MOST_CHARACTERS else plain[: _MOST_CHARACTERS - 1] + "…"


_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
