"""What the operator gives on the command line becomes an Incident: from options, from a file, from a stored incident.

House rule: a file is read as `validate` reads it, and goes out whole; options make typed views.
"""

import argparse
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from bridge.cli.arguments import UsageError
from bridge.cli.validate import read_bytes
from bridge.errors import MalformedError, RefusedError
from bridge.iodef import values
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId, RecordItem, Restriction, Severity, Source
from bridge.iodef.table import Text as Kinds
from bridge.log import visible
from bridge.pipeline import compose
from bridge.pipeline.compose import IMPACTS, Details, Given, PrivateError
from bridge.policy.record import Incident, Interaction
from bridge.xep0268.model import Kind
from bridge.xmpp.jid import Jid

_MOST_EVIDENCE_BYTES = 96 * 1024
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
    about.add_argument("--impact", choices=IMPACTS, metavar="TYPE", help=", ".join(IMPACTS))
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
    return _address(address, "source", count=int(number[:15]))


def _target(text: str) -> Source:
    return _address(text, "target")


def _address(text: str, system: str, *, count: int | None = None) -> Source:
    try:
        return compose.address(text, system=system, count=count)
    except MalformedError as error:
        raise argparse.ArgumentTypeError(f"is not a JID: {error.rule}") from None


_OPTIONS = ("id", "description", "source", "target", "impact", "severity", "started", "ended", "contact",
            "chatroom", "restriction", "related", "evidence")  # fmt: skip


def given(arguments: argparse.Namespace) -> list[str]:
    """The options that describe an incident and were used."""
    return [f"--{name}" for name in _OPTIONS if getattr(arguments, name)]


def _details(arguments: argparse.Namespace) -> Details:
    """What the options say."""
    return Details(
        text=arguments.id,
        description=arguments.description,
        sources=tuple(arguments.source),
        targets=tuple(arguments.target),
        impact=arguments.impact,
        severity=Severity(arguments.severity) if arguments.severity else None,
        started_at=arguments.started,
        ended_at=arguments.ended,
        contacts=tuple(arguments.contact),
        chatrooms=tuple(arguments.chatroom),
        restriction=Restriction(arguments.restriction) if arguments.restriction else None,
        related=tuple(arguments.related),
        evidence=tuple(map(_evidence, arguments.evidence)),
    )


def _evidence(name: str) -> RecordItem:
    data = read_bytes(name, most=_MOST_EVIDENCE_BYTES + 1)
    if len(data) > _MOST_EVIDENCE_BYTES:
        raise UsageError(f"{name}: has more than {_MOST_EVIDENCE_BYTES} bytes; give the lines that matter")
    return compose.evidence(data.decode("utf-8", "replace"), meaning=Path(name).name)


def new_document(host: str, arguments: argparse.Namespace) -> Document:
    """An incident of this host's own, from options."""
    if not (arguments.description or arguments.source):
        raise UsageError(
            "say what happened: --description TEXT or --source JID, or give --file or --incident"
        )
    return compose.new_document(host, _details(arguments))


def again(newest: Interaction, arguments: argparse.Namespace) -> Document:
    """The next edition of an own incident: the newest as the options change it, reported now."""
    if arguments.id:
        raise UsageError("--id: the incident has its identifier; leave it out")
    return compose.again(newest, _details(arguments))


def from_file(name: str, host: str, kind: Kind) -> Given:
    """Read a document as if `host` sent it."""
    data = read_bytes(name)
    try:
        return compose.from_document(data, host, kind)
    except RefusedError as error:
        raise UsageError(f"{name} cannot be sent: {visible(error.stanza_error.text)}") from None


def of_peer(incident: Incident, newest: Interaction, to: Iterable[str], *, even_private: bool) -> Document:
    """What of another server's incident may go into a request to `to`.

    Raises:
        UsageError: its reporter says that nobody else may learn of it.
    """
    try:
        return compose.of_peer(incident, newest, to, even_private=even_private)
    except PrivateError as error:
        raise UsageError(f"{error}; to tell others: --even-private") from None
