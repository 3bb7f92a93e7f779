"""What the operator gives on the command line becomes an Incident: from options, from a file, from a stored incident.

House rule: a file is read as `validate` reads it, and goes out whole; options make typed views.
"""

import argparse
import ipaddress
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge.cli.arguments import UsageError
from bridge.cli.validate import as_iq, read_bytes
from bridge.errors import MalformedError, RefusedError
from bridge.iodef import values
from bridge.iodef.model import (
    Contact,
    Counter,
    Impact,
    IncidentId,
    RecordItem,
    Restriction,
    Severity,
    Source,
    Text,
)
from bridge.iodef.model import Incident as Document
from bridge.iodef.table import CLASSES, EXT_VALUE, tag
from bridge.iodef.table import Text as Kinds
from bridge.log import visible
from bridge.policy.disclosure import redacted, reread
from bridge.policy.record import Incident, Interaction
from bridge.xep0268.model import Kind, Reading
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid

_MOST_EVIDENCE_BYTES = 96 * 1024
_COUNTER = "xmpp-presence"
_IMPACTS = sorted((CLASSES[tag("Impact")].attributes["type"].values or frozenset()) - {EXT_VALUE})
_RESTRICTIONS = [str(one) for one in Restriction if one is not Restriction.DEFAULT]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that describe an incident."""
    about = parser.add_argument_group("the incident")
    one = about.add_mutually_exclusive_group()
    one.add_argument(
        "--file", metavar="FILE", help="an IODEF document, an Incident, or what validate takes; - is stdin"
    )
    one.add_argument("--incident", metavar="ID", help="a stored incident, or enough of its id")
    about.add_argument("--id", metavar="TEXT", help="its identifier on this host (default: a new UUID)")
    about.add_argument("--description", metavar="TEXT", help="what happened, for people")
    about.add_argument("--source", type=_source, action="append", default=[], metavar="JID[=N]",
                       help="who did it; N: so many presence stanzas; may be repeated")  # fmt: skip
    about.add_argument("--target", type=_target, action="append", default=[], metavar="JID",
                       help="against whom; may be repeated")  # fmt: skip
    about.add_argument("--impact", choices=_IMPACTS, metavar="TYPE", help=", ".join(_IMPACTS))
    about.add_argument("--severity", choices=[str(one) for one in Severity])
    about.add_argument("--started", type=_time, metavar="TIME", help="like 2026-11-21T22:50:00Z")
    about.add_argument("--ended", type=_time, metavar="TIME")
    about.add_argument("--contact", type=_jid, action="append", default=[], metavar="JID",
                       help="an admin whom the peer may ask; may be repeated")  # fmt: skip
    about.add_argument("--chatroom", type=_jid, action="append", default=[], metavar="JID",
                       help="a room where admins can be asked; may be repeated")  # fmt: skip
    about.add_argument(
        "--restriction", choices=_RESTRICTIONS, help="who may learn of it (default need-to-know)"
    )
    about.add_argument("--related", type=identity, action="append", default=[], metavar="NAME/TEXT",
                       help="the identifier of an incident it has to do with; may be repeated")  # fmt: skip
    about.add_argument("--evidence", action="append", default=[], metavar="FILE",
                       help="a text, such as lines of a log; may be repeated")  # fmt: skip


def identity(text: str) -> IncidentId:
    """`jabber.org/4BF5D2CE…`: the server that named an incident, and the name."""
    name, slash, own = text.partition("/")
    if not (slash and name.strip() and own.strip()):
        raise argparse.ArgumentTypeError("must be NAME/TEXT, such as jabber.org/4BF5D2CE")
    return IncidentId(name=name.strip(), text=own.strip())


def _jid(text: str) -> str:
    try:
        return str(Jid.parse(text))
    except MalformedError as error:
        raise argparse.ArgumentTypeError(f"is not a JID: {error.rule}") from None


def _time(text: str) -> datetime:
    moment = values.time(text)
    if moment is None:
        raise argparse.ArgumentTypeError(f"is not {values.EXPECTED[Kinds.TIME]}")
    return moment


def _source(text: str) -> Source:
    address, equals, number = text.rpartition("=")
    if not (equals and number.isascii() and number.isdecimal()):
        return _address(text, "source")
    counter = Counter(type=_COUNTER, value=float(number[:15]))
    return replace(_address(address, "source"), counters=(counter,))


def _target(text: str) -> Source:
    return _address(text, "target")


def _address(text: str, system: str) -> Source:
    """A JID; an IP address is told as one."""
    try:
        version = ipaddress.ip_address(text).version
    except ValueError:
        jid = _jid(text)
        return Source(address=jid, category="xmpp", system=system, jid=jid)
    return Source(address=text, category=f"ipv{version}-addr", system=system)


_OPTIONS = ("id", "description", "source", "target", "impact", "severity", "started", "ended", "contact",
            "chatroom", "restriction", "related", "evidence")  # fmt: skip


def given(arguments: argparse.Namespace) -> list[str]:
    """The options that describe an incident and were used."""
    return [f"--{name}" for name in _OPTIONS if getattr(arguments, name)]


def with_options(document: Document, arguments: argparse.Namespace) -> Document:
    """The document as the options change it: what is one is replaced, what may be repeated is added."""
    changes: dict[str, Any] = {}
    if arguments.description:
        changes["descriptions"] = (Text(text=arguments.description),)
    if arguments.impact or arguments.severity:
        known = document.impacts[0] if document.impacts else Impact()
        severity = Severity(arguments.severity) if arguments.severity else known.severity
        changes["impacts"] = (replace(known, type=arguments.impact or known.type, severity=severity),)
    if arguments.restriction:
        changes["restriction"] = Restriction(arguments.restriction)
    if arguments.started:
        changes["started_at"] = arguments.started
    if arguments.ended:
        changes["ended_at"] = arguments.ended
    contacts = [Contact(role="admin", type="person", jids=(jid,)) for jid in arguments.contact]
    contacts += [Contact(role="chatroom", type="organization", jids=(jid,)) for jid in arguments.chatroom]
    return replace(
        document,
        **changes,
        contacts=_added(document.contacts, contacts),
        sources=_added(document.sources, arguments.source),
        targets=_added(document.targets, arguments.target),
        related=_added(document.related, arguments.related),
        record_items=_added(document.record_items, map(_evidence, arguments.evidence)),
    )


def _added(known: tuple[Any, ...], more: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys((*known, *more)))


def _evidence(name: str) -> RecordItem:
    data = read_bytes(name, most=_MOST_EVIDENCE_BYTES + 1)
    if len(data) > _MOST_EVIDENCE_BYTES:
        raise UsageError(f"{name}: has more than {_MOST_EVIDENCE_BYTES} bytes; give the lines that matter")
    return RecordItem(dtype="string", text=data.decode("utf-8", "replace").strip(), meaning=Path(name).name)


def new_document(host: str, arguments: argparse.Namespace) -> Document:
    """An incident of this host's own, from options."""
    if not (arguments.description or arguments.source):
        raise UsageError(
            "say what happened: --description TEXT or --source JID, or give --file or --incident"
        )
    text = arguments.id or str(uuid.uuid4())
    empty = Document(identity=IncidentId(name=host, text=text), restriction=Restriction.NEED_TO_KNOW)
    return with_options(empty, arguments)


def again(newest: Interaction, arguments: argparse.Namespace) -> Document:
    """The next edition of an own incident: the newest as the options change it, reported now."""
    if arguments.id:
        raise UsageError("--id: the incident has its identifier; leave it out")
    # The newest edition may be a request of ours; what it asked for is asked again only by another request.
    known = replace(newest.document, reported_at=None, purpose=Kind.REPORT.purpose, expectations=())
    return with_options(known, arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class FromFile:
    """What a file holds, and a sentence on each thing that was dropped or repaired in it."""

    reading: Reading
    notes: tuple[str, ...]


def from_file(name: str, host: str, kind: Kind) -> FromFile:
    """Read a document as if `host` sent it."""
    try:
        root, dropped = xml.parse_file(read_bytes(name))
        iq = as_iq(root, sender=Jid.parse(host), kind=kind)
        reading = read(iq)
    except RefusedError as error:
        raise UsageError(f"{name} cannot be sent: {visible(error.stanza_error.text)}") from None
    if reading.kind is Kind.INQUIRY is not kind:
        raise UsageError(f"{name} is an inquiry, which tells nothing")
    if reading.kind is not kind:
        reading.tree.set("purpose", kind.purpose)
    repairs = tuple(f"{one.path}: {one.rule}; {one.done}" for one in reading.repairs)
    return FromFile(reading=reading, notes=(*dropped, *repairs))


def of_peer(incident: Incident, newest: Interaction, to: Iterable[str], *, even_private: bool) -> Document:
    """What of another server's incident may go into a request to `to`.

    Raises:
        UsageError: its reporter says that nobody else may learn of it.
    """
    if set(to) == {incident.reporter}:
        return reread(newest).incident
    is_private = incident.restriction not in (Restriction.PUBLIC, Restriction.NEED_TO_KNOW)
    if is_private and not even_private:
        raise UsageError(
            f"{incident.reporter} reported it as private, for nobody else; to tell others: --even-private"
        )
    payload = redacted(newest, Restriction.NEED_TO_KNOW, host=incident.host, status=incident.status)
    iq = as_iq(xml.parse(payload), sender=Jid.parse(incident.host), kind=Kind.REPORT)
    return read(iq).incident
