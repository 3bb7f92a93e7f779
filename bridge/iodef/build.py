"""From a typed view to an Incident element: for documents that begin with us.

House rules: the result is in order but not complete; `write.py` completes it. Reading it gives the view again.
"""

from copy import deepcopy

from lxml import etree

from bridge.iodef.model import (
    Contact,
    Counter,
    Expectation,
    HistoryItem,
    Impact,
    Incident,
    IncidentId,
    Source,
    Text,
)
from bridge.iodef.read import is_status
from bridge.iodef.table import CLASSES, EXT_VALUE, JID_NAMESPACE, NAMESPACE, XEP_NAMESPACE, tag
from bridge.iodef.values import time_text
from bridge.xmpp.xml import Element, legal

_NO_PROTOCOL = "255"  # the view does not say which
_EXACT = 2**53


def build(incident: Incident) -> Element:
    """The element that reads as this view; what the view does not hold is absent."""
    root = etree.Element(tag("Incident"), nsmap={None: NAMESPACE})
    _code(root, "purpose", incident.purpose)
    _set(root, lang=incident.lang, restriction=incident.restriction.value)
    _incident_id(root, incident.identity)
    for holder, ids in (("AlternativeID", incident.alternatives), ("RelatedActivity", incident.related)):
        if ids:
            element = _add(root, holder)
            for identity in ids:
                _incident_id(element, identity)
    for name, moment in (
        ("DetectTime", incident.detected_at),
        ("StartTime", incident.started_at),
        ("EndTime", incident.ended_at),
        ("ReportTime", incident.reported_at),
    ):
        if moment is not None:
            _add(root, name, time_text(moment))
    _texts(root, incident.descriptions, incident.lang)
    _assessment(root, incident)
    for contact in incident.contacts:
        _contact(root, contact)
    _event_data(root, incident)
    if incident.history:
        history = _add(root, "History")
        for item in incident.history:
            _history_item(history, item, incident.lang)
    if incident.status:
        data = _add(root, "AdditionalData", incident.status)
        _set(data, dtype="string", meaning="status", formatid=XEP_NAMESPACE)
    return root


def add_history(tree: Element, items: tuple[HistoryItem, ...], *, purpose: str | None = None) -> Element:
    """A copy of an Incident with more History and without a status; everything else stays as it is.

    Args:
        tree: a repaired Incident.
        items: what goes to the end of its History; not restricted, also where the History before is.
        purpose: the copy's `Incident@purpose`; None leaves it.
    """
    copy = deepcopy(tree)
    if purpose is not None:
        copy.attrib.pop("ext-purpose", None)
        _code(copy, "purpose", purpose)
    for data in copy.findall(tag("AdditionalData")):
        if is_status(data):
            copy.remove(data)
    history = copy.find(tag("History"))
    if history is None and items:
        history = _add(copy, "History")
    for item in items:
        if history is not None:
            _history_item(history, item, copy.get("lang"))
    return copy


def _assessment(root: Element, incident: Incident) -> None:
    if not incident.impacts and incident.confidence is None:
        return
    element = _add(root, "Assessment")
    for impact in incident.impacts or (Impact(),):
        item = _add(element, "Impact", impact.text)
        _set(item, lang=impact.lang, severity=impact.severity, completion=impact.completion)
        _code(item, "type", impact.type)
    confidence = incident.confidence
    if confidence is not None:
        text = "" if confidence.value is None else _number(confidence.value)
        _set(_add(element, "Confidence", text), rating=confidence.rating)


def _contact(parent: Element, contact: Contact) -> None:
    element = _add(parent, "Contact")
    _code(element, "role", contact.role)
    _code(element, "type", contact.type)
    _set(element, restriction=contact.restriction)
    if contact.name is not None:
        _add(element, "ContactName", contact.name)
    for email in contact.emails:
        _add(element, "Email", email)
    for phone in contact.phones:
        _add(element, "Telephone", phone)
    for jid in contact.jids:
        data = _add(element, "AdditionalData")
        _set(data, dtype="xml")
        etree.SubElement(data, f"{{{JID_NAMESPACE}}}jid", nsmap={None: JID_NAMESPACE}).text = legal(jid)


def _event_data(root: Element, incident: Incident) -> None:
    systems = incident.sources + incident.targets
    if not (systems or incident.others or incident.expectations or incident.record_items):
        return
    event = _add(root, "EventData")
    for group in (systems, incident.others):
        if group:
            flow = _add(event, "Flow")
            for source in group:
                _system(flow, source, incident.lang)
    for expectation in incident.expectations:
        _expectation(event, expectation, incident.lang)
    if incident.record_items:
        data = _add(_add(event, "Record"), "RecordData")
        for item in incident.record_items:
            element = _add(data, "RecordItem", item.text)
            _code(element, "dtype", item.dtype)
            _set(element, meaning=item.meaning)


def _system(flow: Element, source: Source, lang: str | None) -> None:
    system = _add(flow, "System")
    _code(system, "category", source.system)
    if source.spoofed != "unknown":
        _set(system, spoofed=source.spoofed)
    node = _add(system, "Node")
    if source.category == "name":
        _add(node, "NodeName", source.address)
    else:
        _code(_add(node, "Address", source.address), "category", source.category)
    for role in source.roles:
        _code(_add(node, "NodeRole"), "category", role)
    for counter in source.counters:
        _counter(node, counter)
    for port in source.ports:
        service = _add(system, "Service")
        _set(service, ip_protocol=_NO_PROTOCOL)
        _add(service, "Port" if port.isdecimal() else "Portlist", port)
    _texts(system, source.descriptions, lang)


def _counter(node: Element, counter: Counter) -> None:
    element = _add(node, "Counter", _number(counter.value))
    _code(element, "type", counter.type)
    _set(element, meaning=counter.meaning)
    if counter.duration is not None:
        _code(element, "duration", counter.duration)


def _expectation(event: Element, expectation: Expectation, lang: str | None) -> None:
    element = _add(event, "Expectation")
    _set(element, severity=expectation.severity)
    _code(element, "action", expectation.action)
    _texts(element, expectation.descriptions, lang)
    for name, moment in (("StartTime", expectation.started_at), ("EndTime", expectation.ended_at)):
        if moment is not None:
            _add(element, name, time_text(moment))


def _history_item(history: Element, item: HistoryItem, lang: str | None) -> None:
    element = _add(history, "HistoryItem")
    _code(element, "action", item.action)
    if item.at is not None:
        _add(element, "DateTime", time_text(item.at))
    if item.incident is not None:
        _incident_id(element, item.incident)
    _texts(element, item.descriptions, lang)


def _incident_id(parent: Element, identity: IncidentId) -> None:
    _set(_add(parent, "IncidentID", identity.text), name=identity.name, instance=identity.instance)


def _texts(parent: Element, texts: tuple[Text, ...], lang: str | None) -> None:
    for text in texts:
        _set(_add(parent, "Description", text.text), lang=None if text.lang == lang else text.lang)


def _add(parent: Element, name: str, text: str = "") -> Element:
    element = etree.SubElement(parent, tag(name))
    if text:
        element.text = legal(text)
    return element


def _set(element: Element, **attributes: str | None) -> None:
    for name, value in attributes.items():
        if value is not None:
            element.set(name, legal(str(value)))


def _code(element: Element, name: str, value: str) -> None:
    """Write a coded value as the standard one, or as `ext-value` with its extension."""
    values = CLASSES[element.tag].attributes[name].values or frozenset()
    if value in values and value != EXT_VALUE:
        element.set(name, value)
    else:
        element.set(name, EXT_VALUE)
        element.set(f"ext-{name}", legal(value))


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < _EXACT else repr(value)
