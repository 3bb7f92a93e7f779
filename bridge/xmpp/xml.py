"""The only XML parser of the project: restricted XML as XMPP allows it (RFC 6120 §11.1).

House rules: nobody else calls lxml's parser; whatever the bytes, the outcome is an element or `MalformedError`,
in time linear in their number.
"""

import re
from dataclasses import dataclass
from hashlib import sha256

from lxml import etree
from lxml.etree import _Element

from bridge.errors import Condition, MalformedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large a document may be; depth counts the root as 1."""

    max_bytes: int = 131072
    max_elements: int = 5000
    max_depth: int = 64
    max_attributes: int = 64


STANZA_LIMITS = Limits()
Element = _Element
"""An element of a tree that `parse` made or that we built: its tag is always a string."""

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DECLARATION = re.compile(rb"\A\s*<\?xml\s[^<>]{0,200}\?>")
_BROKEN_NAMESPACE = re.compile(rb"""xmlns(:[^\s=]{1,100})?="[^"<>]{0,1000}\"""")  # RFCs break their lines
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_COUNT = etree.XPath("count(//*)")
_WIDEST = etree.XPath("boolean(//*[count(@*) > $limit])")


_PARSER: etree.XMLParser[Element] = etree.XMLParser(
    encoding="utf-8",
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    dtd_validation=False,
    attribute_defaults=False,
    huge_tree=False,
    recover=False,
    collect_ids=False,
    strip_cdata=True,
)


def parse(data: bytes, *, limits: Limits = STANZA_LIMITS) -> Element:
    """Parse what came over XMPP.

    Raises:
        MalformedError: `policy-violation` when a limit is exceeded, else `bad-request`.
    """
    _check_bytes(data, limits)
    if b"<!" in data or b"<?" in data:  # in well-formed XML these occur in markup only
        raise MalformedError("", _forbidden_markup(data))
    root = _parse(data)
    _check_shape(root, data, limits)
    return root


def parse_file(data: bytes, *, limits: Limits = STANZA_LIMITS) -> tuple[Element, tuple[str, ...]]:
    """Parse a file that an operator hands over.

    A byte order mark, an XML declaration, comments, processing instructions and CDATA sections are usual there.

    Returns:
        The root without comments and processing instructions, and a sentence on each kind that was dropped.

    Raises:
        MalformedError: as `parse`.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    _check_bytes(data, limits)
    data = _DECLARATION.sub(b"", data, count=1).lstrip()
    data = _BROKEN_NAMESPACE.sub(lambda match: match[0].translate(None, b"\r\n"), data)
    if b"<!DOCTYPE" in data:
        raise MalformedError("", _forbidden_markup(b"<!DOCTYPE"))
    root = _parse(data)
    if root.getroottree().docinfo.internalDTD is not None:
        raise MalformedError("", _forbidden_markup(b"<!DOCTYPE"))
    dropped = _drop_markup(root)
    _check_shape(root, data, limits)
    return root, dropped


def serialize(element: Element) -> bytes:
    """UTF-8 without a declaration and without the text that follows the element."""
    return etree.tostring(element, encoding="utf-8", with_tail=False)


def digest(element: Element) -> str:
    """Hex SHA-256 of what the element says.

    Equal for documents that differ only in attribute order, quotes, namespace prefixes, the spelling of
    characters, and white space between elements: all that changes when a server serialises the same stanza again.
    """
    parts: list[str] = []
    _spell(element, parts)
    return sha256("".join(parts).encode()).hexdigest()


def tag_of(element: Element) -> str:
    """The tag; in our trees there are no comments, whose tag is a function."""
    return element.tag  # type: ignore[return-value] # see above


def legal(text: str) -> str:
    """The text with every character that XML cannot carry replaced by U+FFFD."""
    return _ILLEGAL.sub("\ufffd", text)


def _spell(element: Element, parts: list[str]) -> None:
    # \x00 to \x04 cannot occur in XML, so the spelling is unambiguous.
    parts += ("\x01", tag_of(element))
    attributes = element.items()
    if len(attributes) > 1:
        attributes.sort()
    for name, value in attributes:
        parts += ("\x02", name, "\x03", value)
    text = element.text
    has_children = len(element) > 0
    if text and not (has_children and text.isspace()):
        parts += ("\x00", text)
    if has_children:
        for child in element:
            _spell(child, parts)
            tail = child.tail
            if tail and not tail.isspace():
                parts += ("\x00", tail)
    parts.append("\x04")


def _check_bytes(data: bytes, limits: Limits) -> None:
    if len(data) > limits.max_bytes:
        rule = f"{len(data)} bytes are more than the {limits.max_bytes} allowed"
        raise MalformedError("", rule, condition=Condition.POLICY_VIOLATION)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("", f"byte {error.start} is not UTF-8, the only encoding allowed") from None


def _parse(data: bytes) -> Element:
    try:
        return etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        reason = legal(str(error.msg)).partition(", line")[0][:200]
        raise MalformedError("", f"not well-formed XML with namespaces: {reason}") from None


def _check_shape(root: Element, data: bytes, limits: Limits) -> None:
    tags = data.count(b"<")  # cheap upper bounds first: most documents are small
    if tags > limits.max_elements and _COUNT(root) > limits.max_elements:
        rule = f"more than {limits.max_elements} elements"
    elif data.count(b"xmlns") > limits.max_elements:
        rule = f"more than {limits.max_elements} namespace declarations"
    elif data.count(b"=") > limits.max_attributes and _WIDEST(root, limit=limits.max_attributes):
        rule = f"an element has more than {limits.max_attributes} attributes"
    elif tags > limits.max_depth and _is_deeper(root, limits.max_depth):
        rule = f"elements are nested more than {limits.max_depth} deep"
    else:
        return
    raise MalformedError("", rule, condition=Condition.POLICY_VIOLATION)


def _is_deeper(root: Element, depth: int) -> bool:
    if depth == _DEEP_FOR:
        return bool(_DEEP(root))
    return bool(etree.XPath(f"boolean({'/*' * (depth + 1)})")(root))


_DEEP_FOR = STANZA_LIMITS.max_depth
_DEEP = etree.XPath(f"boolean({'/*' * (_DEEP_FOR + 1)})")


def _forbidden_markup(data: bytes) -> str:
    for mark, what in (
        (b"<!DOCTYPE", "a document type declaration"),
        (b"<!--", "a comment"),
        (b"<![CDATA[", "a CDATA section"),
        (b"<?", "an XML declaration or processing instruction"),
    ):
        if mark in data:
            return f"{what} is not allowed in XMPP (RFC 6120 §11.1)"
    return "markup declarations are not allowed in XMPP (RFC 6120 §11.1)"


def _drop_markup(root: Element) -> tuple[str, ...]:
    """Remove comments and processing instructions, keeping the text around them."""
    counts = {"comment": 0, "processing instruction": 0}
    for kind, name in ((etree.Comment, "comment"), (etree.ProcessingInstruction, "processing instruction")):
        for node in list(root.iter(kind)):
            parent = node.getparent()
            if parent is not None:
                counts[name] += 1
                _remove_keeping_tail(parent, node)
    return tuple(f"{count} {name}(s) dropped" for name, count in counts.items() if count)


def _remove_keeping_tail(parent: Element, node: Element) -> None:
    tail = node.tail
    if tail:
        before = node.getprevious()
        if before is None:
            parent.text = (parent.text or "") + tail
        else:
            before.tail = (before.tail or "") + tail
        node.tail = None
    parent.remove(node)
