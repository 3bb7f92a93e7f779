"""Repair an Incident until it is what RFC 5070 describes, and list what was done.

House rules: driven by `table.py`; nothing is dropped silently (what has no place goes to the nearest
AdditionalData, and every change is listed); repairing twice is repairing once; work is linear in the input.
What only the sender knows (ReportTime, Assessment, Contact) is not invented here: `write.py` completes it.
"""

from copy import deepcopy

from lxml import etree

from bridge.iodef.attributes import repair_attributes
from bridge.iodef.repairs import Context, Repair
from bridge.iodef.structure import arrange, holder_of, set_aside, set_tail_aside, set_text_aside, split_nodes
from bridge.iodef.table import CLASSES, JID_NAMESPACE, NAMESPACE, XEP_NAMESPACE, Class, Text, tag
from bridge.iodef.values import EXPECTED, NORMAL
from bridge.xmpp.jid import shown
from bridge.xmpp.xml import Element, tag_of

__all__ = ["Repair", "repair"]

_JIDS = {f"{{{NAMESPACE}}}jid", f"{{{XEP_NAMESPACE}}}jid", "jid"}
_JID = f"{{{JID_NAMESPACE}}}jid"
_SYSTEM = tag("System")
_VALID_EMPTY = frozenset({"Impact", "NodeRole", "Confidence", "RecordItem", "HistoryItem"})
_KEPT_EMPTY = {
    (tag("Method"), tag("Description")),
    (tag("Reference"), tag("ReferenceName")),
}
_WRAPPERS = {
    (tag("System"), tag("Address")): tag("Node"),
    (tag("System"), tag("NodeName")): tag("Node"),
    (tag("System"), tag("NodeRole")): tag("Node"),
    (tag("EventData"), tag("System")): tag("Flow"),
    (tag("EventData"), tag("Impact")): tag("Assessment"),
    (tag("Incident"), tag("Impact")): tag("Assessment"),
    (tag("Incident"), tag("Flow")): tag("EventData"),
    (tag("Incident"), tag("Expectation")): tag("EventData"),
}
_MOVES_UP = frozenset(
    tag(name) for name in ("Expectation", "Contact", "Record", "History", "Assessment", "Method")
)
_STATUS_ATTRIBUTES = ("status", "ext-status")


def repair(
    element: Element, *, default_name: str | None = None, purpose: str | None = None, path: str = "Incident"
) -> tuple[Element, tuple[Repair, ...]]:
    """Repair a copy.

    Args:
        element: an Incident; its own tag is not looked at.
        default_name: what a missing `IncidentID@name` is taken for; None leaves it missing.
        purpose: what a missing `Incident@purpose` is taken for; None is `other`.
        path: what the paths in the repairs begin with.
    """
    tree = deepcopy(element)
    tree.tail = None
    context = Context(default_name=default_name, purpose=purpose)
    _move_status(tree, path, context)
    _element(tree, CLASSES[tag("Incident")], path, context)
    return tree, context.listed()


def _move_status(incident: Element, path: str, context: Context) -> None:
    """`Incident/@status`, as in RFC 7970, to where this project keeps the status (facts: RFC 5070 has none)."""
    values = [incident.attrib.pop(name) for name in _STATUS_ATTRIBUTES if incident.get(name) is not None]
    values = [value for value in values if value != "ext-value"]
    if values:
        attributes = {"dtype": "string", "meaning": "status", "formatid": XEP_NAMESPACE}
        etree.SubElement(incident, tag("AdditionalData"), attributes).text = values[-1]
        context.log(
            path, "RFC 5070 has no attribute status", f"status '{shown(values[-1])}' in AdditionalData"
        )


def _element(element: Element, spec: Class, path: str, context: Context) -> None:
    """Repair an element of RFC 5070 and everything below it."""
    repair_attributes(element, spec, path, context)
    if spec.text is Text.ANY:
        _additional_data(element, path, context)
        return
    if len(element):
        _children(element, spec, path, context)
    if spec.text is Text.ELEMENTS:
        _stray_text(element, path, context)
        arrange(element, spec, path, context)
    elif spec.name == "IncidentID":
        _strip(element, path, context)


def _children(element: Element, spec: Class, path: str, context: Context) -> None:
    """Repair each child, then put it where it belongs."""
    counts: dict[str, int] = {}
    wrappers: dict[Element, None] = {}
    for child in list(element):
        name = tag_of(child)
        known = CLASSES.get(name)
        if known is None:
            _foreign(element, child, path, context)
            continue
        position = spec.positions.get(name)
        counts[name] = count = counts.get(name, 0) + 1
        where = f"{path}/{known.name}"
        if count > 1 or position is None or not spec.groups[position].is_single:
            where = f"{where}[{count}]"
        _element(child, known, where, context)
        _settle(element, child, known, where, context)
        if position is None and child.getparent() is not None:
            wrapper = _misplaced(element, child, where, context)
            if wrapper is not None:
                wrappers[wrapper] = None
    for wrapper in wrappers:
        inner = CLASSES[wrapper.tag]
        arrange(wrapper, inner, f"{path}/{inner.name}", context)


def _foreign(element: Element, child: Element, path: str, context: Context) -> None:
    """Something RFC 5070 does not have, outside of AdditionalData."""
    where = f"{path}/{shown(etree.QName(child).localname)}"
    _inside(child, where, context)
    kept = _right_jid(element, child, where, context)
    if kept is not None:
        set_aside(kept, element)
        context.log(where, "RFC 5070 has no such element here", "kept in AdditionalData")


def _misplaced(element: Element, child: Element, path: str, context: Context) -> Element | None:
    """An element of RFC 5070 in the wrong parent: wrapped, moved up to where it belongs, or set aside.

    Returns the wrapper, whose children must be put in order again.
    """
    wrapper = _WRAPPERS.get((tag_of(element), tag_of(child)))
    if wrapper is not None:
        set_tail_aside(child, element)
        inner = element.find(wrapper)
        if inner is None:
            inner = etree.SubElement(element, wrapper)
        inner.append(child)
        context.log(path, "this does not belong directly here", f"moved into {CLASSES[wrapper].name}")
        return inner
    if child.tag in _MOVES_UP:
        parent = holder_of(element, child.tag)
        if parent is not None:
            set_tail_aside(child, element)
            parent.append(child)
            context.log(path, "this does not belong here", f"moved up to {CLASSES[parent.tag].name}")
            return None
    set_aside(child, element)
    if child.tag == _SYSTEM:
        split_nodes(child, path, context)
    context.log(path, "RFC 5070 does not have this element here", "kept in AdditionalData")
    return None


def _settle(element: Element, child: Element, spec: Class, path: str, context: Context) -> None:
    """Look at a child whose own children are repaired: is there anything left, and is it of its type?"""
    if not len(child) and (not child.text or child.text.isspace()):
        _empty(element, child, spec, path, context)
    elif spec.text in NORMAL:
        _value(element, child, spec, path, context)


def _empty(element: Element, child: Element, spec: Class, path: str, context: Context) -> None:
    """Drop what says nothing; some elements may be empty, and some say everything in attributes."""
    if spec.name in _VALID_EMPTY:
        return
    if spec.text is Text.ELEMENTS and not any(group.is_required for group in spec.groups):
        return
    if spec.text is Text.ANY and child.get("meaning"):
        return
    if (tag_of(element), tag_of(child)) in _KEPT_EMPTY:
        return
    _remove(child)
    context.log(path, "the element is empty", "left out")


def _value(element: Element, child: Element, spec: Class, path: str, context: Context) -> None:
    """Make the text of a simple type valid, or keep it as a string in AdditionalData."""
    text = child.text or ""
    valid = NORMAL[spec.text](text)
    if valid == text:
        return
    if valid is None:
        _remove(child)
        set_text_aside(element, text, meaning=spec.name)
        context.log(path, f"'{shown(text)}' is not {EXPECTED[spec.text]}", "kept as text in AdditionalData")
        return
    child.text = valid
    if valid != text.strip():
        context.log(path, f"'{shown(text)}' is not {EXPECTED[spec.text]}", f"read as '{valid}'")
    else:
        context.log(path, "white space around the value", "left out")


def _additional_data(element: Element, path: str, context: Context) -> None:
    for child in list(element):
        _inside(child, path, context)
        if child.getparent() is element:
            _right_jid(element, child, f"{path}/jid", context)


def _inside(child: Element, path: str, context: Context) -> None:
    """Foreign XML is left alone, but elements of RFC 5070 in it must be valid (lax validation)."""
    known = CLASSES.get(child.tag)
    if known is not None and known.is_global:
        _element(child, known, f"{path}/{known.name}", context)
        if child.tag == _SYSTEM:
            split_nodes(child, f"{path}/{known.name}", context)
        parent = child.getparent()
        if parent is not None:
            _settle(parent, child, known, f"{path}/{known.name}", context)
        return
    for grandchild in list(child):
        _inside(grandchild, path, context)


def _right_jid(parent: Element, child: Element, path: str, context: Context) -> Element | None:
    """A jid element in one of the namespaces it was seen in becomes one in `urn:xmpp:jid:0`; None if empty."""
    if len(child) or (child.tag not in _JIDS and child.tag != _JID):
        return child
    text = (child.text or "").strip()
    if not text:
        _remove(child)
        context.log(path, "the element is empty", "left out")
        return None
    if child.tag == _JID:
        if child.text != text:
            child.text = text
            context.log(path, "white space around the value", "left out")
        return child
    right = etree.Element(_JID, nsmap={None: JID_NAMESPACE})
    right.text, right.tail = text, child.tail
    parent.replace(child, right)
    context.log(path, f"the namespace is not {JID_NAMESPACE}", "moved to it")
    return right


def _stray_text(element: Element, path: str, context: Context) -> None:
    found = []
    if element.text and not element.text.isspace():
        found.append(element.text)
        element.text = None
    for child in element:
        if child.tail and not child.tail.isspace():
            found.append(child.tail)
            child.tail = None
    if found:
        set_text_aside(element, " ".join(text.strip() for text in found), meaning=CLASSES[element.tag].name)
        context.log(path, "text stands between elements", "kept as text in AdditionalData")


def _strip(element: Element, path: str, context: Context) -> None:
    text = element.text or ""
    if text != text.strip():
        element.text = text.strip()
        context.log(path, "white space around the value", "left out")


def _remove(element: Element) -> None:
    """Take out an element, leaving the text behind it."""
    parent = element.getparent()
    if parent is None:
        return
    if element.tail and not element.tail.isspace():
        before = element.getprevious()
        if before is None:
            parent.text = (parent.text or "") + element.tail
        else:
            before.tail = (before.tail or "") + element.tail
    element.tail = None
    parent.remove(element)
