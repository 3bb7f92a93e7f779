"""What an operator or a consumer says becomes an Incident: from details, from a document, from a stored incident.

House rules: a document goes out whole, as it is read; details make typed views. What cannot be sent is a
MalformedError whose path names what was given.
"""

import ipaddress
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from lxml import etree

from bridge.errors import ConfigError, MalformedError
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
from bridge.iodef.table import NAMESPACE as IODEF_NAMESPACE
from bridge.policy.abuse import SPAM_IMPACT
from bridge.policy.disclosure import redacted, reread
from bridge.policy.record import Incident, Interaction
from bridge.xep0268.model import NAMESPACE, Kind, Reading
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import Iq, read_iq
from bridge.xmpp.xml import Element

IMPACTS: Final = sorted(
    (CLASSES[tag("Impact")].attributes["type"].values or frozenset()) - {EXT_VALUE} | {SPAM_IMPACT}
)
"""The words of RFC 5070 §3.10.1, and the one that it lacks."""
_COUNTER: Final = "xmpp-presence"
_ANYBODY: Final = "host.example"


class PrivateError(ConfigError):
    """Its reporter says that nobody else may learn of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is known of an incident; None and empty: nothing is said.

    Attributes:
        text: its identifier on this host; None: a new UUID.
        contacts, chatrooms: prepared JIDs of admins, and of rooms where they can be asked.
    """

    text: str | None = None
    description: str | None = None
    sources: tuple[Source, ...] = ()
    targets: tuple[Source, ...] = ()
    impact: str | None = None
    severity: Severity | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    contacts: tuple[str, ...] = ()
    chatrooms: tuple[str, ...] = ()
    restriction: Restriction | None = None
    related: tuple[IncidentId, ...] = ()
    evidence: tuple[RecordItem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a document holds, and a sentence on each thing that was dropped or repaired in it."""

    reading: Reading
    notes: tuple[str, ...]


def address(text: str, *, system: str, count: int | None = None) -> Source:
    """A source or target: a JID, or an IP address, which is told as one; `count`: so many presence stanzas.

    Raises:
        MalformedError: it is neither.
    """
    counters = () if count is None else (Counter(type=_COUNTER, value=float(count)),)
    try:
        version = ipaddress.ip_address(text).version
    except ValueError:
        jid = str(Jid.parse(text))
        return Source(address=jid, category="xmpp", system=system, jid=jid, counters=counters)
    return Source(address=text, category=f"ipv{version}-addr", system=system, counters=counters)


def evidence(text: str, *, meaning: str | None = None) -> RecordItem:
    """A piece of evidence, such as lines of a log."""
    return RecordItem(dtype="string", text=text.strip(), meaning=meaning)


def with_details(document: Document, details: Details) -> Document:
    """The document as the details change it: what is one is replaced, what may be repeated is added."""
    changes: dict[str, Any] = {}
    if details.description:
        changes["descriptions"] = (Text(text=details.description),)
    if details.impact or details.severity:
        known = document.impacts[0] if document.impacts else Impact()
        severity = details.severity or known.severity
        others = () if details.impact else document.impacts[1:]
        changes["impacts"] = (replace(known, type=details.impact or known.type, severity=severity), *others)
    if details.restriction:
        changes["restriction"] = details.restriction
    if details.started_at:
        changes["started_at"] = details.started_at
    if details.ended_at:
        changes["ended_at"] = details.ended_at
    contacts = [Contact(role="admin", type="person", jids=(jid,)) for jid in details.contacts]
    contacts += [Contact(role="chatroom", type="organization", jids=(jid,)) for jid in details.chatrooms]
    return replace(
        document,
        **changes,
        contacts=_added(document.contacts, contacts),
        sources=_added(document.sources, details.sources),
        targets=_added(document.targets, details.targets),
        related=_added(document.related, details.related),
        record_items=_added(document.record_items, details.evidence),
    )


def _added(known: tuple[Any, ...], more: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys((*known, *more)))


def new_document(host: str, details: Details) -> Document:
    """An incident of this host's own."""
    text = details.text or str(uuid.uuid4())
    empty = Document(identity=IncidentId(name=host, text=text), restriction=Restriction.NEED_TO_KNOW)
    return with_details(empty, details)


def again(newest: Interaction, details: Details) -> Document:
    """The next edition of an own incident: the newest as the details change it, reported now."""
    # The newest edition may be a request of ours; what it asked for is asked again only by another request.
    known = replace(newest.document, reported_at=None, purpose=Kind.REPORT.purpose, expectations=())
    return with_details(known, details)


def as_iq(root: Element, *, sender: Jid, kind: Kind) -> Iq:
    """Wrap what a file holds (an IQ, a payload, an Incident or an IODEF-Document) as it would travel."""
    name = etree.QName(root)
    if name.localname == "iq":
        return read_iq(root)
    if name.namespace == IODEF_NAMESPACE and name.localname in {"Incident", "IODEF-Document"}:
        incidents = [root] if name.localname == "Incident" else root.findall(f"{{{IODEF_NAMESPACE}}}Incident")
        root = etree.Element(f"{{{NAMESPACE}}}{kind.value}", nsmap={None: NAMESPACE})
        root.extend(incidents)
    elif name.namespace == NAMESPACE and name.localname in {str(known) for known in Kind}:
        kind = Kind(name.localname)
    return Iq(type=kind.iq_type, id="validate", sender=sender, to=Jid.parse(_ANYBODY), payload=root)


def from_document(data: bytes, host: str, kind: Kind) -> Given:
    """Read a document as if `host` sent it.

    Raises:
        MalformedError: it cannot be sent; the path is that inside the document.
        RefusedError: so.
    """
    root, dropped = xml.parse_file(data)
    reading = read(as_iq(root, sender=Jid.parse(host), kind=kind))
    if reading.kind is Kind.INQUIRY is not kind:
        raise MalformedError("", "is an inquiry, which tells nothing")
    if reading.kind is not kind:
        reading.tree.set("purpose", kind.purpose)
    repairs = tuple(f"{one.path}: {one.rule}; {one.done}" for one in reading.repairs)
    return Given(reading=reading, notes=(*dropped, *repairs))


def of_peer(incident: Incident, newest: Interaction, to: Iterable[str], *, even_private: bool) -> Document:
    """What of another server's incident may go into a request to `to`.

    Raises:
        PrivateError: its reporter says that nobody else may learn of it.
    """
    if set(to) == {incident.reporter}:
        return reread(newest).incident
    is_private = incident.restriction not in {Restriction.PUBLIC, Restriction.NEED_TO_KNOW}
    if is_private and not even_private:
        raise PrivateError(f"{incident.reporter} reported it as private, for nobody else")
    payload = redacted(newest, Restriction.NEED_TO_KNOW, host=incident.host, status=incident.status)
    iq = as_iq(xml.parse(payload), sender=Jid.parse(incident.host), kind=Kind.REPORT)
    return read(iq).incident
