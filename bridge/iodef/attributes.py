"""Repairs of attributes: foreign spellings of `ext-value`, missing and unknown attributes, languages.

House rules: each function repairs one element in place and tells the log; a second pass finds nothing.
"""

from bridge.iodef.repairs import Context
from bridge.iodef.restriction import tighten
from bridge.iodef.table import CLASSES, EXT_VALUE, Attribute, Class
from bridge.iodef.values import integer, language
from bridge.xmpp.jid import shown
from bridge.xmpp.xml import Element

_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_UNSPECIFIED = "unspecified"
_STRICTEST = {"restriction": "private", "rating": "unknown"}
_DEFAULTS = {
    ("HistoryItem", "action"): "other",
    ("Service", "ip_protocol"): "255",  # reserved by IANA: the document does not say which
    ("IODEF-Document", "lang"): "en",
}


def repair_attributes(element: Element, spec: Class, path: str, context: Context) -> None:
    """Make the attributes of one element valid."""
    for name, value in element.items():
        attribute = spec.attributes.get(name)
        if attribute is None:
            _unknown(element, spec, name, path, context)
        elif attribute.values is not None:
            if value not in attribute.values or value == EXT_VALUE:
                _coded(element, name, attribute, path, context)
        elif attribute.kind != "string":
            _typed(element, name, attribute, path, context)
    for name in spec.required:
        if element.get(name) is None:
            _missing(element, spec, name, path, context)


def _unknown(element: Element, spec: Class, name: str, path: str, context: Context) -> None:
    value = element.attrib.pop(name)
    if name == _XML_LANG and "lang" in spec.attributes:
        valid = language(value)
        if valid and element.get("lang") is None:
            element.set("lang", valid)
            context.log(path, "the language is in xml:lang", "moved to lang, where RFC 5070 has it")
            return
    stricter = tighten(element, value) if name == "restriction" else None
    if stricter is not None:
        done = f"{CLASSES[stricter.tag].name} is '{stricter.get('restriction')}' instead"
        context.log(path, "RFC 5070 has no attribute 'restriction' here", done)
        return
    context.log(
        path, f"RFC 5070 has no attribute '{shown(name)}' here", f"left out its value '{shown(value)}'"
    )


def _coded(element: Element, name: str, attribute: Attribute, path: str, context: Context) -> None:
    """Make a value one of the enumeration, or `ext-value` with the meaning in the extension attribute."""
    values = attribute.values or frozenset()
    value = element.get(name, "")
    clean = value.strip().lower()
    if clean in values and clean != EXT_VALUE:
        element.set(name, clean)
        context.log(path, f"{name} is '{shown(value)}'", f"read as '{clean}'")
    elif attribute.extension is None:
        _closed(element, name, attribute, path, context)
    else:
        _extended(element, name, attribute, path, context)


def _closed(element: Element, name: str, attribute: Attribute, path: str, context: Context) -> None:
    value = element.attrib.pop(name)
    fallback = _STRICTEST.get(attribute.kind)
    if fallback:
        element.set(name, fallback)
    done = f"taken as '{fallback}'" if fallback else "left out"
    context.log(path, f"{name}='{shown(value)}' is not one of RFC 5070's values", done)


def _extended(element: Element, name: str, attribute: Attribute, path: str, context: Context) -> None:
    """`category='ext-category' ext-category='xmpp'` and the like; the ext attribute named by the value counts."""
    value = element.get(name, "")
    values, extension = attribute.values or frozenset(), attribute.extension or ""
    clean = value.strip().lower()
    source = clean if clean.startswith("ext-") and element.get(clean) is not None else extension
    meaning = element.get(source) if clean.startswith("ext-") else value
    standard = (meaning or "").strip().lower()
    if standard in values and standard != EXT_VALUE:
        element.set(name, standard)
        if element.get(extension) == meaning:
            del element.attrib[extension]
        context.log(
            path, f"{name}='{shown(value)}' with the standard value '{standard}'", f"{name}='{standard}'"
        )
    elif value != EXT_VALUE:
        element.set(name, EXT_VALUE)
        if meaning is not None:
            element.set(extension, meaning)
        told = f"{name}='{EXT_VALUE}' {extension}='{shown(meaning or '')}'"
        context.log(path, f"{name}='{shown(value)}' is not one of RFC 5070's values", told)


def _typed(element: Element, name: str, attribute: Attribute, path: str, context: Context) -> None:
    value = element.get(name, "")
    valid = language(value) if attribute.kind == "lang" else integer(value)
    if valid == value:
        return
    if valid is None:
        del element.attrib[name]
        context.log(path, f"{name}='{shown(value)}' is not valid", "left out")
    else:
        element.set(name, valid)
        context.log(path, f"{name}='{shown(value)}' is not valid", f"read as '{valid}'")


def _missing(element: Element, spec: Class, name: str, path: str, context: Context) -> None:
    attribute = spec.attributes[name]
    if attribute.extension is not None and element.get(attribute.extension) is not None:
        element.set(name, EXT_VALUE)
        context.log(path, f"{name} is missing beside {attribute.extension}", f"{name}='{EXT_VALUE}'")
        _extended(element, name, attribute, path, context)
        return
    value = _default(element, spec.name, name, context)
    if value is None:
        return
    element.set(name, value)
    if value == EXT_VALUE and attribute.extension is not None:
        element.set(attribute.extension, _UNSPECIFIED)
    context.log(path, f"the mandatory attribute {name} is missing", f"{name}='{shown(value)}'")


def _default(element: Element, class_name: str, name: str, context: Context) -> str | None:
    """What a missing mandatory attribute is taken for; None for an unknown `IncidentID@name`."""
    match class_name, name:
        case _, "dtype":
            value: str | None = "xml" if len(element) else "string"
        case "Incident", "purpose":
            value = context.purpose or "other"
        case "IncidentID", "name":
            value = context.default_name
        case "Confidence", "rating":
            value = "numeric" if (element.text or "").strip() else "unknown"
        case _:
            value = _DEFAULTS.get((class_name, name), EXT_VALUE)
    return value
