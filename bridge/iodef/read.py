"""Read an Incident: check its identity, repair it, project the typed view.

House rules: the only reasons to refuse an Incident here are its IncidentID and the version of IODEF.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypedDict, TypeVar

from bridge.errors import Condition, ErrorType, MalformedError, RefusedError, StanzaError
from bridge.iodef import values
from bridge.iodef.model import (
    Completion,
    Confidence,
    Contact,
    Counter,
    Expectation,
    HistoryItem,
    Impact,
    Incident,
    IncidentId,
    RecordItem,
    Restriction,
    Severity,
    Source,
    Text,
)
from bridge.iodef.repair import Repair, repair
from bridge.iodef.table import EXT_VALUE, JID_NAMESPACE, NAMESPACE_V2, XEP_NAMESPACE, tag
from bridge.xmpp.jid import Jid
from bridge.xmpp.xml import Element, tag_of

INCIDENT = tag("Incident")
_STATUS_MEANING = re.compile(r"(xmpp-)?(incident-)?status", re.IGNORECASE)
_NEEDED = {
    "ReportTime": "the time of receipt stands for it",
    "Assessment": "the impact is unknown",
    "Contact": "the sending server stands for it",
}
_JID = f"{{{JID_NAMESPACE}}}jid"
_MAX_JID = 3071
MAX_REPEATED = 8
"""So many addresses of one Node carry its counters each; of more, only the first does (else a small document
would become a view of many megabytes)."""
_E = TypeVar("_E", bound=StrEnum)
_T = TypeVar("_T")


class _Details(TypedDict, total=False):
    counters: tuple[Counter, ...]
    roles: tuple[str, ...]
    ports: tuple[str, ...]
    descriptions: tuple[Text, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One Incident as read; `tree` is the repaired element, `repairs` what was changed to get it."""

    tree: Element
    incident: Incident
    repairs: tuple[Repair, ...]


def read(
    incident_element: Element,
    *,
    default_name: str | None,
    purpose: str | None,
    only_id_required: bool,
    path: str = "Incident",
) -> Document:
    """Read one Incident element; the element given is not changed.

    Args:
        incident_element: the Incident.
        default_name: what a missing `IncidentID@name` is taken for; None leaves the name "".
        purpose: what a missing `Incident@purpose` is taken for.
        only_id_required: whether to accept without comment that everything but the IncidentID is missing.
        path: what the paths in errors and repairs begin with.

    Raises:
        MalformedError: not an Incident, or no IncidentID with text.
        RefusedError: IODEF version 2.
    """
    check_is_incident(incident_element, path)
    identity = _first(incident_element, _INCIDENT_ID)
    if identity is None:
        raise MalformedError(path, "the IncidentID is missing")
    if not (identity.text or "").strip():
        raise MalformedError(f"{path}/IncidentID", "the text of the IncidentID is missing")
    tree, repairs = repair(incident_element, default_name=default_name, purpose=purpose, path=path)
    missing = () if only_id_required else _missing(tree, path)
    return Document(tree=tree, incident=project(tree), repairs=(*repairs, *missing))


def check_is_incident(element: Element, path: str) -> None:
    """Refuse what is not an Incident of IODEF version 1."""
    if element.tag == INCIDENT:
        return
    if tag_of(element).startswith(f"{{{NAMESPACE_V2}}}"):
        text = f"{path}: IODEF version 2 is not supported, send version 1 (RFC 5070)"
        raise RefusedError(StanzaError(ErrorType.CANCEL, Condition.FEATURE_NOT_IMPLEMENTED, text))
    raise MalformedError(path, "an Incident in the namespace urn:ietf:params:xml:ns:iodef-1.0 is expected")


def project(tree: Element) -> Incident:
    """The typed view of a repaired Incident."""
    lang = tree.get("lang")
    events = list(tree.iter(_EVENT_DATA))
    systems = _systems(events, lang)
    return Incident(
        identity=_incident_id(_first(tree, _INCIDENT_ID)) or IncidentId(name="", text=""),
        purpose=_coded(tree, "purpose", "other"),
        restriction=_member(Restriction, tree.get("restriction")) or Restriction.PRIVATE,
        lang=lang,
        status=_status(tree),
        detected_at=_time(tree, events, "DetectTime"),
        started_at=_time(tree, events, "StartTime"),
        ended_at=_time(tree, events, "EndTime"),
        reported_at=_time(tree, [], "ReportTime"),
        descriptions=_texts(tree, lang),
        impacts=_impacts(tree),
        confidence=_confidence(tree),
        contacts=_contacts(tree, events),
        sources=tuple(system for system in systems if system.system == "source"),
        targets=tuple(system for system in systems if system.system == "target"),
        others=tuple(system for system in systems if system.system not in ("source", "target")),
        expectations=_unique(
            _expectation(item, lang) for event in events for item in event.iterchildren(_EXPECTATION)
        ),
        history=tuple(_history_item(item, lang) for item in _below(tree, *_HISTORY_ITEMS)),
        record_items=_record_items(events),
        related=_incident_ids(tree, _RELATED),
        alternatives=_incident_ids(tree, _ALTERNATIVES),
    )


def is_status(additional_data: Element) -> bool:
    """Whether this is one of the ways in which an Incident's status is stated."""
    meaning = additional_data.get("meaning")
    return meaning is not None and _STATUS_MEANING.fullmatch(meaning.strip()) is not None


def _missing(tree: Element, path: str) -> tuple[Repair, ...]:
    return tuple(
        Repair(path=path, rule=f"{name} is missing", done=done)
        for name, done in _NEEDED.items()
        if _first(tree, tag(name)) is None
    )


def _status(tree: Element) -> str | None:
    ours: list[str] = []
    others: list[str] = []
    for data in tree.iterchildren(_ADDITIONAL_DATA):
        if is_status(data):
            text = "".join(data.itertext()).strip()
            is_ours = data.get("meaning") == "status" and data.get("formatid") == XEP_NAMESPACE
            (ours if is_ours else others).append(text[:100])
    return next((text for text in ours + others if text), None)


def _incident_id(element: Element | None) -> IncidentId | None:
    if element is None:
        return None
    return IncidentId(name=element.get("name", ""), text=_text(element), instance=element.get("instance"))


def _incident_ids(tree: Element, path: tuple[str, ...]) -> tuple[IncidentId, ...]:
    return _unique(
        IncidentId(name=item.get("name", ""), text=_text(item), instance=item.get("instance"))
        for item in _below(tree, *path)
    )


def _time(tree: Element, events: list[Element], name: str) -> datetime | None:
    """The Incident's own time, else the first that its EventData state."""
    path = tag(name)
    for element in (tree, *events):
        stated = _first(element, path)
        if stated is not None:
            return values.time(_text(stated))
    return None


def _texts(element: Element, lang: str | None) -> tuple[Text, ...]:
    return tuple(
        Text(text=_text(item), lang=item.get("lang", lang)) for item in element.iterchildren(_DESCRIPTION)
    )


def _impacts(tree: Element) -> tuple[Impact, ...]:
    return tuple(
        Impact(
            type=_coded(item, "type", "unknown"),
            severity=_member(Severity, item.get("severity")),
            completion=_member(Completion, item.get("completion")),
            text=_text(item),
            lang=item.get("lang"),
        )
        for item in _below(tree, *_IMPACTS)
    )


def _confidence(tree: Element) -> Confidence | None:
    element = next(iter(_below(tree, *_CONFIDENCE)), None)
    if element is None:
        return None
    rating = element.get("rating", "unknown")
    return Confidence(rating=rating, value=values.number(_text(element)) if rating == "numeric" else None)


def _contacts(tree: Element, events: list[Element]) -> tuple[Contact, ...]:
    found = [contact for holder in (tree, *events) for contact in holder.iterchildren(_CONTACT)]
    for contact in found:
        found.extend(contact.iterchildren(_CONTACT))  # nested ones, which the loop then visits
    return _unique(map(_contact, found))


def _contact(element: Element) -> Contact:
    return Contact(
        role=_coded(element, "role", "unspecified"),
        type=_coded(element, "type", "unspecified"),
        jids=tuple(_text(jid)[:_MAX_JID] for jid in _below(element, *_CONTACT_JID)),
        name=_text(name) if (name := _first(element, _CONTACT_NAME)) is not None else None,
        emails=tuple(_text(item) for item in element.iterchildren(_EMAIL)),
        phones=tuple(_text(item) for item in element.iterchildren(_TELEPHONE)),
        restriction=_member(Restriction, element.get("restriction")),
    )


def _systems(events: list[Element], lang: str | None) -> tuple[Source, ...]:
    return _unique(
        source for event in events for system in _below(event, *_SYSTEMS) for source in _sources(system, lang)
    )


def _sources(system: Element, lang: str | None) -> list[Source]:
    node = _first(system, _NODE)
    if node is None:
        return []
    services = system.iterchildren(_SERVICE)
    details: _Details = {
        "counters": tuple(
            _counter(item) for holder in (node, system) for item in holder.iterchildren(_COUNTER)
        ),
        "roles": tuple(_coded(item, "category", "unspecified") for item in node.iterchildren(_NODE_ROLE)),
        "ports": tuple(_text(item) for service in services for item in service.iterchildren(*_PORTS)),
        "descriptions": _texts(system, lang),
    }
    category = _coded(system, "category", "unspecified")
    spoofed = system.get("spoofed", "unknown")
    addresses = list(node.iterchildren(_ADDRESS, _NODE_NAME))
    found = []
    for number, item in enumerate(addresses):
        kind = "name" if item.tag == _NODE_NAME else _coded(item, "category", "ipv4-addr")
        address = _text(item)
        jid = _prepared(address) if kind == "xmpp" else None
        told: _Details = details if number == 0 or len(addresses) <= MAX_REPEATED else {}
        found.append(
            Source(address=address, category=kind, system=category, jid=jid, spoofed=spoofed, **told)
        )
    return found


def _prepared(address: str) -> str | None:
    try:
        return str(Jid.parse(address))
    except MalformedError:
        return None


def _counter(element: Element) -> Counter:
    return Counter(
        type=_coded(element, "type", "unspecified"),
        value=values.number(element.text or "") or 0.0,
        meaning=element.get("meaning"),
        duration=_coded(element, "duration", "") or None,
    )


def _expectation(element: Element, lang: str | None) -> Expectation:
    return Expectation(
        action=_coded(element, "action", "other"),
        severity=_member(Severity, element.get("severity")),
        started_at=_time(element, [], "StartTime"),
        ended_at=_time(element, [], "EndTime"),
        descriptions=_texts(element, lang),
    )


def _history_item(element: Element, lang: str | None) -> HistoryItem:
    return HistoryItem(
        action=_coded(element, "action", "other"),
        at=_time(element, [], "DateTime"),
        incident=_incident_id(_first(element, _INCIDENT_ID)),
        descriptions=_texts(element, lang),
    )


def _record_items(events: list[Element]) -> tuple[RecordItem, ...]:
    return _unique(
        RecordItem(
            dtype=_coded(item, "dtype", "string"),
            text="".join(item.itertext()).strip(),
            meaning=item.get("meaning"),
        )
        for event in events
        for item in _below(event, *_RECORD_ITEMS)
    )


def _first(element: Element, name: str) -> Element | None:
    return next(element.iterchildren(name), None)


def _below(element: Element, *path: str) -> list[Element]:
    """All grandchildren along the path (what `findall` does, at a third of its cost)."""
    found = [element]
    for name in path:
        found = [child for parent in found for child in parent.iterchildren(name)]
    return found


def _text(element: Element) -> str:
    return (element.text or "").strip()


def _coded(element: Element, name: str, default: str) -> str:
    """The meaning of an extensible attribute: the standard value or the extension."""
    value = element.get(name, default)
    return element.get(f"ext-{name}", "unspecified") if value == EXT_VALUE else value


def _member(kind: type[_E], value: str | None) -> _E | None:
    try:
        return None if value is None else kind(value)
    except ValueError:
        return None


def _unique(items: Iterable[_T]) -> tuple[_T, ...]:
    """Without repetitions: the pairs of one Flow each, in which we write, repeat their Systems."""
    return tuple(dict.fromkeys(items))


_INCIDENT_ID = tag("IncidentID")
_EVENT_DATA = tag("EventData")
_EXPECTATION = tag("Expectation")
_ADDITIONAL_DATA = tag("AdditionalData")
_DESCRIPTION = tag("Description")
_CONTACT = tag("Contact")
_COUNTER = tag("Counter")
_NODE_ROLE = tag("NodeRole")
_ADDRESS = tag("Address")
_NODE_NAME = tag("NodeName")
_NODE = tag("Node")
_CONTACT_NAME = tag("ContactName")
_EMAIL = tag("Email")
_TELEPHONE = tag("Telephone")
_CONTACT_JID = (_ADDITIONAL_DATA, _JID)
_HISTORY_ITEMS = (tag("History"), tag("HistoryItem"))
_RELATED = (tag("RelatedActivity"), _INCIDENT_ID)
_ALTERNATIVES = (tag("AlternativeID"), _INCIDENT_ID)
_IMPACTS = (tag("Assessment"), tag("Impact"))
_CONFIDENCE = (tag("Assessment"), tag("Confidence"))
_SYSTEMS = (tag("Flow"), tag("System"))
_SERVICE = tag("Service")
_PORTS = (tag("Port"), tag("Portlist"))
_RECORD_ITEMS = (tag("Record"), tag("RecordData"), tag("RecordItem"))
