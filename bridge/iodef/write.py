"""Write an Incident in canonical form: valid against the schema of RFC 5070, readable by old software.

House rules: foreign elements survive; one Flow for each pair of source and target, because the one old
implementation reads only the first two Systems of a Flow; what is invented to be valid is an argument.
"""

from copy import deepcopy
from datetime import datetime

from lxml import etree

from bridge.errors import MalformedError
from bridge.iodef.build import build
from bridge.iodef.model import Incident, Restriction
from bridge.iodef.read import is_status
from bridge.iodef.repair import repair
from bridge.iodef.repairs import Context
from bridge.iodef.structure import arrange
from bridge.iodef.table import CLASSES, JID_NAMESPACE, XEP_NAMESPACE, Text, tag
from bridge.iodef.values import time_text
from bridge.xmpp.xml import Element, Limits, digest, legal, parse, serialize

MAX_ADDED_BYTES = 32768
"""Flows are left together where splitting them would make the document so much larger."""


def write(
    document: Element | Incident,
    *,
    reported_at: datetime,
    contact: str,
    restriction: Restriction | None = None,
    status: str | None = None,
) -> Element:
    """The Incident as a new element.

    Args:
        document: an Incident element, repaired or not, or a typed view.
        reported_at: ReportTime where the document has none.
        contact: the JID of the Contact where the document has none.
        restriction: what to set `Incident@restriction` to; None leaves it.
        status: what to state as status, in place of what the document states; None leaves it.

    Raises:
        MalformedError: foreign elements redeclare namespace prefixes so that they cannot be moved (a limit of lxml).
    """
    element = build(document) if isinstance(document, Incident) else document
    tree, _ = repair(element)
    _complete(tree, reported_at, contact)
    _split_flows(tree)
    if restriction is not None:
        tree.set("restriction", restriction.value)
    _compact(tree)
    if status is not None:
        _state(tree, status)
    return _through_text(tree)


def _through_text(tree: Element) -> Element:
    """The tree as it will be read; lxml may write an attribute under a prefix that is redeclared in between."""
    again = parse(serialize(tree), limits=_ANY_SIZE)
    if digest(again) != digest(tree):
        raise MalformedError(
            "Incident", "namespace prefixes are redeclared in a way that cannot be rewritten"
        )
    return again


def _complete(tree: Element, reported_at: datetime, contact: str) -> None:
    """Add what the schema demands and `repair` does not invent, in this Incident and in any inside it."""
    for incident in list(tree.iter(_INCIDENT)):
        if incident.find(_REPORT_TIME) is None:
            etree.SubElement(incident, _REPORT_TIME).text = time_text(reported_at)
        if incident.find(_ASSESSMENT) is None:
            etree.SubElement(etree.SubElement(incident, _ASSESSMENT), tag("Impact"), type="unknown")
        if incident.find(_CONTACT) is None:
            _add_contact(incident, contact)
        if incident.find(_INCIDENT_ID) is None:
            etree.SubElement(incident, _INCIDENT_ID)
        _arrange(incident)
    for identity in tree.iter(_INCIDENT_ID):
        if identity.get("name") is None:
            identity.set("name", "")
    for item in tree.iter(_HISTORY_ITEM):
        if item.find(_DATE_TIME) is None:
            etree.SubElement(item, _DATE_TIME).text = tree.findtext(_REPORT_TIME)
            _arrange(item)


def _add_contact(incident: Element, contact: str) -> None:
    element = etree.SubElement(incident, _CONTACT, role="creator", type="organization")
    data = etree.SubElement(element, _ADDITIONAL_DATA, dtype="xml")
    nsmap = {None: JID_NAMESPACE}
    etree.SubElement(data, f"{{{JID_NAMESPACE}}}jid", nsmap=nsmap).text = legal(contact)


def _arrange(element: Element) -> None:
    arrange(element, CLASSES[element.tag], "", Context(default_name=None, purpose=None))


def _split_flows(tree: Element) -> None:
    budget = MAX_ADDED_BYTES
    for flow in list(tree.iter(_FLOW)):
        sources = [system for system in flow if system.get("category") == "source"]
        targets = [system for system in flow if system.get("category") == "target"]
        if len(sources) + len(targets) != len(flow):
            continue
        added = _size(sources) * (len(targets) - 1) * bool(targets)
        added += _size(targets) * (len(sources) - 1) * bool(sources)
        if added > budget:
            flow.extend(sources + targets)
            continue
        budget -= added
        _split(flow, sources, targets)


def _size(systems: list[Element]) -> int:
    return sum(len(serialize(system)) for system in systems)


def _split(flow: Element, sources: list[Element], targets: list[Element]) -> None:
    pairs = [[source, target] for source in sources for target in targets] or [
        [one] for one in sources + targets
    ]
    for pair in reversed(pairs[1:]):
        own = etree.Element(_FLOW)
        own.extend([deepcopy(system) for system in pair])
        flow.addnext(own)
    for system in list(flow):
        if system not in pairs[0]:
            flow.remove(system)
    flow.extend(pairs[0])


def _state(tree: Element, status: str) -> None:
    for data in tree.findall(_ADDITIONAL_DATA):
        if is_status(data):
            tree.remove(data)
    attributes = {"dtype": "string", "meaning": "status", "formatid": XEP_NAMESPACE}
    etree.SubElement(tree, _ADDITIONAL_DATA, attributes).text = legal(status)


def _compact(tree: Element) -> None:
    """Leave out white space between the elements of RFC 5070; and directly in AdditionalData."""
    spec = CLASSES.get(tree.tag)
    if spec is None or spec.text not in (Text.ELEMENTS, Text.ANY) or not len(tree):
        return
    for child in tree:
        if child.tail and child.tail.isspace():
            child.tail = None
        if spec.text is Text.ELEMENTS:
            _compact(child)
    if tree.text and tree.text.isspace():
        tree.text = None


_ANY_SIZE = Limits(max_bytes=2**24, max_elements=2**20, max_depth=200, max_attributes=2**16)
_INCIDENT = tag("Incident")
_INCIDENT_ID = tag("IncidentID")
_REPORT_TIME = tag("ReportTime")
_ASSESSMENT = tag("Assessment")
_CONTACT = tag("Contact")
_ADDITIONAL_DATA = tag("AdditionalData")
_HISTORY_ITEM = tag("HistoryItem")
_DATE_TIME = tag("DateTime")
_FLOW = tag("Flow")
