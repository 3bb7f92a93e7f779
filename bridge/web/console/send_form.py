"""What is typed into the forms that send: read once, every mistake named by its field, and made into a document.

House rule: nothing here asks the store; what may go to whom is decided by `pipeline/originate`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from bridge.errors import MalformedError
from bridge.iodef.model import IncidentId, Restriction, Severity, Source
from bridge.iodef.table import CLASSES, EXT_VALUE, tag
from bridge.pipeline import compose
from bridge.pipeline.compose import IMPACTS, Details
from bridge.web.console.guard import Visit
from bridge.xmpp.jid import Jid, prep_domain
from bridge.xmpp.xml import legal

T = TypeVar("T")
ACTIONS: Final = sorted(
    (CLASSES[tag("Expectation")].attributes["action"].values or frozenset()) - {EXT_VALUE, "nothing"}
)
RESTRICTIONS: Final = [str(one) for one in Restriction if one is not Restriction.DEFAULT]
_MOST_PEERS: Final = 100
_MOST_LINES: Final = 500
_MOST: Final = {  # characters, of each field
    "description": 20_000,
    "evidence": 98_304,
    "document": 131_072,
    "text": 4000,
    "sources": 200_000,
    "targets": 200_000,
}
_MOST_OTHERS: Final = 20_000
LINES: Final = (
    "host", "to", "incident", "request", "name", "identifier", "own", "description", "sources", "targets", "impact",
    "severity", "started", "ended", "contacts", "chatrooms", "restriction", "related", "evidence", "document", "text",
    "outcome", "again", "even_private",
)  # fmt: skip
LISTS: Final = ("peers", "actions")


class WrongError(Exception):
    """What was typed cannot be sent; `fields` says why, by field; "" is the form as a whole."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(", ".join(fields))
        self.fields = fields


@dataclass(slots=True)
class Reader:
    """Reads fields one after the other, and notes each mistake beside its field."""

    typed: Mapping[str, Any]
    wrong: dict[str, str] = field(default_factory=dict)

    def blame(self, name: str, rule: str) -> None:
        """Note a mistake; the first of a field is the one that is said."""
        self.wrong.setdefault(name, rule)

    def lines(self, name: str, read: Callable[[str], T], *, most: int = _MOST_LINES) -> tuple[T, ...]:
        """What each line says, each once."""
        found: dict[T, None] = {}
        lines = [line.strip() for line in self.typed[name].splitlines() if line.strip()]
        if len(lines) > most:
            self.blame(name, f"has {len(lines)} lines; {most} is the most")
        for number, line in enumerate(lines[:most], start=1):
            try:
                found[read(line)] = None
            except MalformedError as error:
                where = f"line {number}, " if self.typed[name].count("\n") and name != "to" else ""
                self.blame(name, f"{where}“{line[:60]}”: {error.rule}")
        return tuple(found)

    def choice(self, name: str, offered: list[str]) -> str:
        """One of those offered, or ""."""
        value: str = self.typed[name]
        if value and value not in offered:
            self.blame(name, "choose one of those offered")
            return ""
        return value

    def moment(self, name: str) -> datetime | None:
        """A time as the field writes it, in UTC."""
        text = self.typed[name]
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            self.blame(name, "is no time; write it like 2026-11-21T22:50, in UTC")
            return None
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

    def finish(self) -> None:
        """Say what is wrong.

        Raises:
            WrongError: something is.
        """
        if self.wrong:
            raise WrongError(self.wrong)


async def read(visit: Visit) -> dict[str, Any]:
    """What was typed, as XML can carry it and as the form shows it again."""
    typed: dict[str, Any] = {}
    for name in LINES:
        typed[name] = legal((await visit.field(name)).replace("\r\n", "\n").replace("\r", "\n"))
    for name in LISTS:
        typed[name] = [one for one in await visit.fields(name) if len(one) <= _MOST_OTHERS]
    return typed


def empty() -> dict[str, Any]:
    """A form nobody typed into."""
    return {**dict.fromkeys(LINES, ""), **{name: [] for name in LISTS}}


def check_lengths(reader: Reader) -> None:
    """Blame what is longer than servers take."""
    for name in LINES:
        most = _MOST.get(name, _MOST_OTHERS)
        if len(reader.typed[name]) > most:
            reader.blame(name, f"has {len(reader.typed[name]):,} characters; {most:,} is the most")


def recipients(reader: Reader, host: str, *, is_needed: bool) -> tuple[str, ...]:
    """The servers that were ticked or typed, each once."""

    def domain(word: str) -> str:
        found = prep_domain(word)
        if found == host:
            raise MalformedError("", "is this host itself")
        return found

    typed = "\n".join([*reader.typed["peers"], *reader.typed["to"].replace(",", " ").split()])
    found = Reader({"to": typed}, reader.wrong).lines("to", domain, most=_MOST_PEERS)
    if is_needed and not found and "to" not in reader.wrong:
        reader.blame("to", "choose at least one server")
    return found


def details(reader: Reader) -> Details:
    """What is said of the incident."""
    typed = reader.typed
    severity = reader.choice("severity", [str(one) for one in Severity])
    restriction = reader.choice("restriction", RESTRICTIONS)
    impact = reader.choice("impact", IMPACTS)
    return Details(
        text=typed["own"] or None,
        description=typed["description"] or None,
        sources=reader.lines("sources", _source),
        targets=reader.lines("targets", lambda line: compose.address(line, system="target")),
        impact=impact or None,
        severity=Severity(severity) if severity else None,
        started_at=reader.moment("started"),
        ended_at=reader.moment("ended"),
        contacts=reader.lines("contacts", _jid),
        chatrooms=reader.lines("chatrooms", _jid),
        restriction=Restriction(restriction) if restriction else None,
        related=reader.lines("related", _identity),
        evidence=(compose.evidence(typed["evidence"]),) if typed["evidence"] else (),
    )


def _jid(line: str) -> str:
    return str(Jid.parse(line))


def _source(line: str) -> Source:
    """An address, and if a number follows it, so many presence stanzas."""
    address, space, number = line.rpartition(" ")
    if not (space and number.isascii() and number.isdecimal()):
        return compose.address(line, system="source")
    return compose.address(address.strip(), system="source", count=int(number[:15]))


def _identity(line: str) -> IncidentId:
    name, slash, text = line.partition("/")
    if not (slash and name.strip() and text.strip()):
        raise MalformedError("", "must be NAME/TEXT, such as jabber.org/4BF5D2CE")
    return IncidentId(name=name.strip(), text=text.strip())


def identity(reader: Reader) -> IncidentId:
    """The identifier of an incident that nobody here knows, maybe."""
    for name in ("name", "identifier"):
        if not reader.typed[name]:
            reader.blame(name, "say both who named the incident, and how")
    return IncidentId(name=reader.typed["name"], text=reader.typed["identifier"])


def actions(reader: Reader, offered: list[str]) -> tuple[str, ...]:
    """What was ticked, of what is offered."""
    return tuple(one for one in offered if one in reader.typed["actions"])
