"""The way of a sending to a server that does not speak XEP-0268: its operators' own addresses (XEP-0157).

House rules: what a server announces of its contacts is its claim: bounded, prepared, never trusted; abuse comes before
admin, chat before mail; an answer counts only from the address that was written to, and none repeats an earlier one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from urllib.parse import unquote

from bridge.errors import MalformedError
from bridge.xmpp.jid import Jid
from bridge.xmpp.xml import Element

FIELDS = ("abuse-addresses", "admin-addresses")
"""Who may be written to about an incident, best first (XEP-0157 §3)."""
MAX_CONTACTS = 8
MAX_ANSWERS = 20
MAX_ANSWER_CHARACTERS = 2000
_FORM = "http://jabber.org/network/serverinfo"
_X = "{jabber:x:data}"
_MAX_ADDRESS_BYTES = 254
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


class Channel(StrEnum):
    """How a person is written to."""

    CHAT = "chat"  # a chat message from the host
    MAIL = "mail"  # a text that the operator sends


class Verdict(StrEnum):
    """What a person answered, where that was said in so many words."""

    DONE = "done"
    DECLINED = "declined"
    NEED_MORE = "need-more"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonsAnswer:
    """What came back from a person.

    Attributes:
        text: hostile, to be escaped where shown.
        verdict: None: only a text.
        is_by_page: on the answer page, by whoever had its link; else by chat from the address written to.
    """

    at: datetime
    text: str
    verdict: Verdict | None = None
    is_by_page: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outreach:
    """Whom a sending went to instead of the server.

    Attributes:
        address: a bare JID or a mail address.
        answers: oldest first, at most `MAX_ANSWERS`.
    """

    channel: Channel
    address: str
    answers: tuple[PersonsAnswer, ...] = ()


def contacts_in(query: Element | None) -> tuple[str, ...]:
    """Find the contacts in a disco#info result: `xmpp:` and `mailto:` URIs, prepared, the best one first."""
    found: dict[str, None] = {}
    for form in () if query is None else query.iterfind(f"{_X}x"):
        values = {
            field.get("var", ""): [value.text or "" for value in field.iterfind(f"{_X}value")]
            for field in form.iterfind(f"{_X}field")
        }
        if values.get("FORM_TYPE") != [_FORM]:
            continue
        for name in FIELDS:
            uris = [uri for text in values.get(name, ()) if (uri := _uri(text.strip())) is not None]
            found |= dict.fromkeys(sorted(uris, key=lambda uri: not uri.startswith("xmpp:")))
    return tuple(found)[:MAX_CONTACTS]


def _uri(text: str) -> str | None:
    """Prepare one address; None for what cannot be written to: a web page, a room, nonsense."""
    scheme, _, rest = text.partition(":")
    address, _, query = rest.partition("?")
    address = unquote(address)
    if len(address.encode()) > _MAX_ADDRESS_BYTES:
        return None
    match scheme.casefold():
        case "xmpp" if not query.startswith("join"):
            try:
                jid = Jid.parse(address)
            except MalformedError:
                return None
            return None if jid.local is None or jid.resource is not None else f"xmpp:{jid.bare}"
        case "mailto":
            return f"mailto:{address}" if _MAIL.fullmatch(address) else None
    return None


def choose(contacts: Iterable[str]) -> Outreach | None:
    """Take the best way there is."""
    for uri in contacts:
        scheme, _, address = uri.partition(":")
        return Outreach(channel=Channel.CHAT if scheme == "xmpp" else Channel.MAIL, address=address)
    return None


def with_answer(outreach: Outreach, answer: PersonsAnswer) -> Outreach | None:
    """Add what a person answered; None where it is known already, empty or one too many."""
    text = answer.text.strip()[:MAX_ANSWER_CHARACTERS]
    is_known = any((one.text, one.verdict) == (text, answer.verdict) for one in outreach.answers)
    if is_known or not (text or answer.verdict) or len(outreach.answers) >= MAX_ANSWERS:
        return None
    return replace(outreach, answers=(*outreach.answers, replace(answer, text=text)))


def instead(contacts: Sequence[str] | None) -> str:
    """Say what becomes of a report or request to a server that does not announce XEP-0268."""
    known = choose(contacts or ())
    if known is None:
        return "it is tried anyway"
    if known.channel is Channel.CHAT:
        return f"it is tried anyway, and else {known.address} is written to by chat"
    return f"it is tried anyway; its operators can be reached at {known.address}"


def uris(contacts: Sequence[str] | None) -> str:
    """Say them in one line, for people."""
    if contacts is None:
        return "not asked, or no answer"
    return ", ".join(contacts) or "none"
