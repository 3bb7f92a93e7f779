"""The order and number of children: sort, merge, split, complete, set aside.

House rules: as in `repair.py`; an AdditionalData that takes something over also takes over its restriction.
"""

from lxml import etree

from bridge.iodef.repairs import Context
from bridge.iodef.table import CLASSES, ENUMERATIONS, NAMESPACE, Class, Text, tag
from bridge.xmpp.xml import Element, digest, tag_of

_ADDITIONAL_DATA = tag("AdditionalData")
_NODE = tag("Node")
_SYSTEM = tag("System")
_CONTACT = tag("Contact")
_PAIR = 2
_INCIDENT_ID = tag("IncidentID")
_ALTERNATIVE_ID = tag("AlternativeID")
_RESTRICTIONS = ENUMERATIONS["restriction"]
_CONTAINERS = frozenset(tag(name) for name in ("AlternativeID", "RelatedActivity", "History", "Record"))
_SPECIAL = frozenset(
    (
        "Flow",
        "RelatedActivity",
        "Incident",
        "EventData",
        "System",
        "Assessment",
        "Reference",
        "Method",
        "RecordData",
    )
)
_FILLERS = {
    "System": ("Node", {}),
    "Assessment": ("Impact", {"type": "unknown"}),
    "Reference": ("ReferenceName", {}),
    "Method": ("Description", {}),
    "RecordData": ("RecordItem", {"dtype": "string"}),
}


def arrange(element: Element, spec: Class, path: str, context: Context) -> None:
    """Make the children of one element as many as allowed, and bring them into order."""
    if not len(element):
        return
    if spec.name in _SPECIAL:
        _prepare(element, spec, path, context)
    if not _is_arranged(element, spec):
        _limit(element, spec, path, context)
        _sort(element, spec, path, context)


def _prepare(element: Element, spec: Class, path: str, context: Context) -> None:
    match spec.name:
        case "Flow":
            for number, system in enumerate(element.findall(_SYSTEM), start=1):
                split_nodes(system, f"{path}/System[{number}]", context)
        case "RelatedActivity":
            _one_kind(element, path, context)
        case "Incident" | "EventData":
            _unique_contacts(element, path, context)
        case "System" | "Assessment" | "Reference" | "Method" | "RecordData":
            _fill(element, spec, path, context)
        case _:
            raise AssertionError(spec.name)


def holder_of(element: Element, child_tag: str) -> Element | None:
    """The nearest element, from this one up, that RFC 5070 allows such a child in; not beyond AdditionalData."""
    holder: Element | None = element
    while holder is not None:
        spec = CLASSES.get(holder.tag)
        if spec is None or spec.text is Text.ANY:
            return None
        if child_tag in spec.positions:
            return holder
        holder = holder.getparent()
    return None


def set_aside(child: Element, element: Element) -> None:
    """Move an element that has no place into AdditionalData of the nearest class that has one."""
    holder = holder_of(element, _ADDITIONAL_DATA)
    set_tail_aside(child, element)
    if holder is None:
        _outside(element).append(child)
        return
    attributes = {"dtype": "xml"}
    restriction = child.get("restriction")
    if restriction and tag_of(child).startswith(f"{{{NAMESPACE}}}"):
        attributes["restriction"] = restriction if restriction in _RESTRICTIONS else "private"
    etree.SubElement(holder, _ADDITIONAL_DATA, attributes).append(child)


def set_tail_aside(child: Element, element: Element) -> None:
    """Part an element that is to be moved from the text behind it."""
    if child.tail and not child.tail.isspace():
        set_text_aside(element, child.tail.strip(), meaning=CLASSES[element.tag].name)
    child.tail = None


def set_text_aside(element: Element, text: str, *, meaning: str) -> None:
    """Keep text that has no place as a string in AdditionalData; `meaning` tells where it stood."""
    holder = holder_of(element, _ADDITIONAL_DATA)
    target = _outside(element) if holder is None else holder
    attributes = {"dtype": "string", "meaning": meaning}
    etree.SubElement(target, _ADDITIONAL_DATA, attributes).text = text


def _outside(element: Element) -> Element:
    """The AdditionalData or RecordItem around a piece of RFC 5070 that has no AdditionalData of its own."""
    place = element
    while (spec := CLASSES.get(place.tag)) is not None and spec.text is not Text.ANY:
        above = place.getparent()
        if above is None:
            break
        place = above
    return place


def _is_arranged(element: Element, spec: Class) -> bool:
    """Whether the children stand in order, so that equal ones are neighbours, and none is too many."""
    positions, groups = spec.positions, spec.groups
    last = -1
    for child in element:
        position = positions[child.tag]
        if position <= last and (position < last or groups[position].is_single):
            return False
        last = position
    return True


def _sort(element: Element, spec: Class, path: str, context: Context) -> None:
    before = list(element)
    after = sorted(before, key=lambda child: spec.positions[child.tag])
    if before != after:
        element.extend(after)
        context.log(path, "the children are not in RFC 5070's order", "sorted")


def _one_kind(related: Element, path: str, context: Context) -> None:
    if related.find(_INCIDENT_ID) is not None:
        for url in related.findall(tag("URL")):
            set_aside(url, related)
            context.log(path, "URL stands beside IncidentID", "URL kept in AdditionalData")


def _limit(element: Element, spec: Class, path: str, context: Context) -> None:
    """Reduce what may occur once to one."""
    seen: dict[int, Element] = {}
    for child in list(element):
        position = spec.positions[child.tag]
        if child.tag == _NODE or not spec.groups[position].is_single:
            continue
        first = seen.setdefault(position, child)
        if first is not child:
            _surplus(element, first, child, path, context)


def _surplus(element: Element, first: Element, child: Element, path: str, context: Context) -> None:
    name = CLASSES[child.tag].name
    if child.tag in _CONTAINERS and child.items() == first.items() and child[0].tag == first[0].tag:
        first.extend(list(child))
        element.remove(child)
        done = "merged into the first"
    elif child.tag == _INCIDENT_ID and _ALTERNATIVE_ID in CLASSES[element.tag].positions:
        alternatives = element.find(_ALTERNATIVE_ID)
        if alternatives is None:
            alternatives = etree.SubElement(element, _ALTERNATIVE_ID)
        alternatives.append(child)
        done = "moved to AlternativeID"
    else:
        set_aside(child, element)
        done = "kept in AdditionalData"
    context.log(path, f"more than one {name}", done)


def split_nodes(system: Element, path: str, context: Context) -> None:
    """Give every further Node of a System a System of its own, with the same attributes."""
    nodes = system.findall(_NODE)[1:]
    for node in reversed(nodes):
        node.tail = None
        own = etree.Element(_SYSTEM, dict(system.items()))
        own.append(node)
        system.addnext(own)
    if nodes:
        context.log(path, f"a System with {len(nodes) + 1} Nodes", "split into one System for each Node")


def _unique_contacts(element: Element, path: str, context: Context) -> None:
    contacts = element.findall(_CONTACT)
    if len(contacts) < _PAIR:
        return
    seen = set()
    for contact in contacts:
        key = digest(contact)
        if key in seen:
            element.remove(contact)
            context.log(path, "the same Contact stands here twice", "kept once")
        seen.add(key)


def _fill(element: Element, spec: Class, path: str, context: Context) -> None:
    """Add an empty element where RFC 5070 demands one; an absent one and an empty one say the same."""
    name, attributes = _FILLERS[spec.name]
    position = spec.positions[tag(name)]
    if all(spec.positions[child.tag] != position for child in element):
        etree.SubElement(element, tag(name), attributes)
        context.log(path, f"{name} is missing", "an empty one added")
