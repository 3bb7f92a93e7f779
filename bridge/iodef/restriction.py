"""How strict the attribute `restriction` is (RFC 5070 §3.2).

House rules: an element without one has that of the nearest element around it that has one, an Incident without one
is private, and an unknown word counts as private.
"""

from bridge.iodef.model import Restriction
from bridge.iodef.table import CLASSES, tag
from bridge.xmpp.xml import Element

_STRICTNESS = {
    Restriction.PUBLIC: 0,
    Restriction.DEFAULT: 1,
    Restriction.NEED_TO_KNOW: 1,
    Restriction.PRIVATE: 2,
}
_INCIDENT = tag("Incident")


def read_restriction(word: str) -> Restriction:
    """The restriction that is meant by a word."""
    try:
        return Restriction(word.strip().lower())
    except ValueError:
        return Restriction.PRIVATE


def is_stricter(one: Restriction, other: Restriction) -> bool:
    """Whether fewer may know; `default` is as strict as `need-to-know`, nothing was arranged beforehand."""
    return _STRICTNESS[one] > _STRICTNESS[other]


def own(element: Element) -> Restriction | None:
    """The restriction that an element itself has; None where it has that of the element around it."""
    stated = element.get("restriction")
    if stated is not None:
        return read_restriction(stated)
    return Restriction.PRIVATE if element.tag == _INCIDENT else None


def tighten(element: Element, word: str) -> Element | None:
    """Make the nearest element around `element` that can have a restriction as strict as `word`.

    Returns the element that is stricter now; None where it was so already.
    """
    holder = _holder(element)
    wanted = read_restriction(word)
    if holder is None or not is_stricter(wanted, _effective(holder)):
        return None
    holder.set("restriction", wanted.value)
    return holder


def _holder(element: Element) -> Element | None:
    place = element.getparent()
    while place is not None:
        spec = CLASSES.get(place.tag)
        if spec is not None and "restriction" in spec.attributes:
            return place
        place = place.getparent()
    return None


def _effective(element: Element) -> Restriction:
    place: Element | None = element
    while place is not None:
        found = own(place)
        if found is not None:
            return found
        place = place.getparent()
    return Restriction.PRIVATE
