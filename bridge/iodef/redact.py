"""Cut out what an audience may not know (RFC 5070 §3.2, attribute `restriction`).

House rules: a restriction holds for everything below its element, so an element is cut out whole and nothing in it
is looked at again; what is left is repaired and completed by `write.py`.
"""

from copy import deepcopy

from lxml import etree

from bridge.iodef.model import Restriction
from bridge.iodef.restriction import is_stricter, own
from bridge.iodef.table import CLASSES, tag
from bridge.xmpp.jid import shown
from bridge.xmpp.xml import Element, tag_of

_INCIDENT_ID = tag("IncidentID")


def redact(tree: Element, *, at_most: Restriction) -> tuple[Element, tuple[str, ...]]:
    """Copy an Incident without what is more strictly restricted than `at_most`.

    Args:
        tree: an Incident; its own restriction is not looked at, nor that of its IncidentID.
        at_most: the strictest restriction that the audience may see; `default` counts as `need-to-know`.

    Returns:
        the copy, and the path of each element that was cut out; the copy may lack what RFC 5070 demands.
    """
    copy = deepcopy(tree)
    copy.tail = None
    cut: list[str] = []
    pending = [(copy, "Incident")]
    while pending:
        element, path = pending.pop()
        kept = []
        for child, where in _children(element, path):
            if child.getparent() is copy and child.tag == _INCIDENT_ID:
                continue
            restriction = own(child)
            if restriction is not None and is_stricter(restriction, at_most):
                cut.append(where)
                _take_out(child)
            else:
                kept.append((child, where))
        pending.extend(reversed(kept))
    return copy, tuple(cut)


def _children(element: Element, path: str) -> list[tuple[Element, str]]:
    """The children with their paths; numbered like those of repairs, where RFC 5070 allows several."""
    spec = CLASSES.get(tag_of(element))
    counts: dict[str, int] = {}
    found = []
    for child in element:
        name = tag_of(child)
        counts[name] = counts.get(name, 0) + 1
        position = None if spec is None else spec.positions.get(name)
        is_single = position is not None and spec is not None and spec.groups[position].is_single
        number = "" if is_single and counts[name] == 1 else f"[{counts[name]}]"
        found.append((child, f"{path}/{shown(etree.QName(child).localname)}{number}"))
    return found


def _take_out(element: Element) -> None:
    """Take out an element, leaving the text behind it, which is its parent's."""
    parent, before = element.getparent(), element.getprevious()
    if parent is None:
        return
    tail = element.tail or ""
    element.tail = None
    if before is None:
        parent.text = (parent.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail
    parent.remove(element)
