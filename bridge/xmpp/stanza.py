"""IQ stanzas (RFC 6120 §8.2.3): the envelope of every interaction; and messages to people whose server knows none.

House rules: what is read carries prepared JIDs; what is written carries no `from`, because Prosody puts it there.
"""

from copy import deepcopy
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from bridge.errors import MalformedError, StanzaError
from bridge.xmpp.jid import Jid
from bridge.xmpp.xml import Element, legal, tag_of

CLIENT_NAMESPACE = "jabber:client"
STANZAS_NAMESPACE = "urn:ietf:params:xml:ns:xmpp-stanzas"
MAX_ID_BYTES = 256
MAX_ERROR_TEXT = 1000


class IqType(StrEnum):
    """What an IQ does (RFC 6120 §8.2.3)."""

    GET = "get"
    SET = "set"
    RESULT = "result"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerError:
    """An error somebody else sent: any text may stand where our own errors have closed sets."""

    type: str
    condition: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Iq:
    """One IQ; `payload` is None in empty results and in errors that do not repeat the request."""

    type: IqType
    id: str
    sender: Jid
    to: Jid
    payload: Element | None = None
    error: PeerError | None = None


def read_iq(element: Element) -> Iq:
    """Read the envelope; the payload is only found, not read.

    Raises:
        MalformedError: not an IQ, no or too long an id, a bad address, no or several payloads.
    """
    if element.tag not in _TAGS:
        raise MalformedError("", "an iq element in jabber:client is expected here")
    iq_id = element.get("id")
    if not iq_id:
        raise MalformedError("iq", "the id is missing")
    if len(iq_id.encode()) > MAX_ID_BYTES:
        raise MalformedError("iq", f"the id is longer than {MAX_ID_BYTES} bytes")
    try:
        iq_type = IqType(element.get("type", ""))
    except ValueError:
        raise MalformedError("iq", "the type must be get, set, result or error") from None
    error, payload = _children(element, iq_type)
    return Iq(
        type=iq_type,
        id=iq_id,
        sender=_address(element, "from"),
        to=_address(element, "to"),
        payload=payload,
        error=error,
    )


def write_result(*, to: str, id: str) -> str:  # noqa: A002 — the attribute's name
    """An empty result."""
    return _text(_iq("result", to, id))


def write_error(error: StanzaError, *, to: str, id: str) -> str:  # noqa: A002 — the attribute's name
    """An error with its condition and English text."""
    iq = _iq("error", to, id)
    outer = etree.SubElement(iq, "error", type=error.type.value)
    tag = f"{{{STANZAS_NAMESPACE}}}"
    etree.SubElement(outer, tag + error.condition.value, nsmap={None: STANZAS_NAMESPACE})
    text = etree.SubElement(outer, tag + "text", nsmap={None: STANZAS_NAMESPACE})
    text.text = legal(error.text)[:MAX_ERROR_TEXT]
    return _text(iq)


def write_request(
    type: IqType,  # noqa: A002 — the attribute's name
    *,
    to: str,
    id: str,  # noqa: A002 — the attribute's name
    payload: Element,
) -> str:
    """A get or set that carries a copy of the payload."""
    iq = _iq(type.value, to, id)
    copy = deepcopy(payload)
    copy.tail = None
    iq.append(copy)
    return _text(iq)


def write_chat(text: str, *, to: str, id: str) -> str:  # noqa: A002 — the attribute's name
    """A chat message; its thread is its id, so that an answer names what it answers."""
    message = etree.Element("message", type="chat", to=legal(to), id=legal(id))
    etree.SubElement(message, "body").text = legal(text)
    etree.SubElement(message, "thread").text = legal(id)
    return _text(message)


def write_message(payload: Element, *, to: str, id: str) -> str:  # noqa: A002 — the attribute's name
    """A message for programs: a copy of the payload, and nothing that a person's client would show."""
    message = etree.Element("message", to=legal(to), id=legal(id))
    copy = deepcopy(payload)
    copy.tail = None
    message.append(copy)
    return _text(message)


def is_message(element: Element) -> bool:
    """Whether this is a message, as `read_message` reads it."""
    return element.tag in {"message", f"{{{CLIENT_NAMESPACE}}}message"}


def read_message(element: Element) -> tuple[str, Jid, str]:
    """Read which message of ours it answers (its thread; mod_incident_bridge sees to that), the sender and the text.

    Raises:
        MalformedError: there is no thread or text, or no address.
    """
    texts = {etree.QName(child).localname: child.text or "" for child in element}
    answered, body = texts.get("thread", ""), texts.get("body", "")
    if not body or not answered or len(answered.encode()) > MAX_ID_BYTES:
        raise MalformedError("message", "a thread and a body are needed")
    return answered, _address(element, "from"), body


_TAGS = {"iq", f"{{{CLIENT_NAMESPACE}}}iq"}


def _iq(iq_type: str, to: str, iq_id: str) -> Element:
    return etree.Element("iq", type=iq_type, to=legal(to), id=legal(iq_id))


def _text(element: Element) -> str:
    return etree.tostring(element, encoding="unicode", with_tail=False)


def _children(iq: Element, iq_type: IqType) -> tuple[PeerError | None, Element | None]:
    error_tag = tag_of(iq)[:-2] + "error"
    error = None
    payloads = []
    for child in iq:
        if child.tag == error_tag and iq_type is IqType.ERROR:
            error = _peer_error(child)
        else:
            payloads.append(child)
    if iq_type is IqType.ERROR:
        return error or PeerError(type="cancel", condition="undefined-condition", text=""), None
    if len(payloads) > 1:
        raise MalformedError("iq", f"exactly one payload is allowed, not {len(payloads)}")
    if iq_type is not IqType.RESULT and not payloads:
        raise MalformedError("iq", "the payload is missing")
    return None, payloads[0] if payloads else None


def _peer_error(element: Element) -> PeerError:
    condition, text = "undefined-condition", ""
    for child in element:
        name = etree.QName(child)
        if name.namespace != STANZAS_NAMESPACE:
            continue
        if name.localname == "text":
            text = (child.text or "").strip()[:MAX_ERROR_TEXT]
        else:
            condition = name.localname[:100]
    return PeerError(type=element.get("type", "cancel")[:100], condition=condition, text=text)


def _address(iq: Element, name: str) -> Jid:
    text = iq.get(name)
    if text is None:
        raise MalformedError("iq", f"the attribute {name} is missing")
    try:
        return Jid.parse(text)
    except MalformedError as error:
        raise MalformedError(f"iq/@{name}", error.rule) from None
