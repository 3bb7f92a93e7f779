"""Cut out what an audience may not know (RFC 5070 §3.2, attribute `restriction`)."""

from copy import deepcopy

from bridge.iodef.model import Restriction
from bridge.xmpp.xml import Element, tag_of

_STRICTNESS = {
    Restriction.PUBLIC: 0,
    Restriction.DEFAULT: 1,
    Restriction.NEED_TO_KNOW: 1,
    Restriction.PRIVATE: 2,
}


def redact(tree: Element, *, at_most: Restriction) -> tuple[Element, tuple[str, ...]]:
    """Copy an Incident without the children that are more strictly restricted than `at_most`.

    Args:
        tree: an Incident; its own restriction is not looked at, nor that of its IncidentID.
        at_most: the strictest restriction that the audience may see; `default` counts as `need-to-know`.

    Returns:
        the copy, and the path of each element that was cut out.
    """
    copy = deepcopy(tree)
    cut: list[str] = []
    for element in list(copy.iter()):
        parent = element.getparent()
        stated = element.get("restriction")
        if parent is None or stated is None or tag_of(element).endswith("}IncidentID"):
            continue
        strictness = _STRICTNESS.get(Restriction(stated), 2) if stated in set(Restriction) else 2
        if strictness > _STRICTNESS[at_most]:
            cut.append(tag_of(element).rpartition("}")[2])
            parent.remove(element)
    return copy, tuple(cut)
