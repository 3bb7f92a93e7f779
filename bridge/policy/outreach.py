"""The way of a sending to a server that does not speak XEP-0268: its operators' own addresses (XEP-0157).

House rules: what a server announces of its contacts is its claim: bounded, prepared, never trusted; chat comes before
mail, and abuse before admin; each address is tried once for a sending; an answer counts only from an address that was
written to, and none repeats an earlier one.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from urllib.parse import unquote

from bridge.errors import MalformedError
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import PeerError
from bridge.xmpp.xml import Element

FIELDS = ("abuse-addresses", "admin-addresses")
"""Who may be written to about an incident, best first (XEP-0157 §3)."""
MAX_CONTACTS = 8
"""So many of a server's contacts are known, and so many are tried for one sending."""
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
        is_by_page: on the answer page, by whoever had its link; else by chat.
        address: from which it came by chat; "": from that which the sending went to last, or by page.
    """

    at: datetime
    text: str
    verdict: Verdict | None = None
    is_by_page: bool = False
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An address that a sending went to before the present one.

    Attributes:
        at: when it failed; where it did not, when it was written to.
        failure: why it was not delivered, in words that are not ours; None: it was, as far as is known.
    """

    channel: Channel
    address: str
    at: datetime
    failure: PeerError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outreach:
    """Whom a sending went to instead of the server.

    Attributes:
        address: a bare JID or a mail address; "": one that only the operator knows, who mailed it there.
        answers: oldest first, at most `MAX_ANSWERS`.
        tried: what was tried before, oldest first; the last of it is `address` itself where nobody else was left.
        is_server_away: the server could not be reached or did not answer; else it does not speak XEP-0268.
    """

    channel: Channel
    address: str
    answers: tuple[PersonsAnswer, ...] = ()
    tried: tuple[Tried, ...] = ()
    is_server_away: bool = False

    def hears(self, address: str) -> bool:
        """Whether a chat message from there counts as an answer."""
        written = ((one.channel, one.address) for one in self.tried if one.failure is None)
        return (Channel.CHAT, address) in {(self.channel, self.address), *written}


Contact = tuple[Channel, str]


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


def choose(
    contacts: Iterable[str],
    *,
    without: Collection[Contact] = (),
    rather_not: Sequence[Collection[Contact]] = (),
) -> Outreach | None:
    """Take the best way there is: chat in the server's order, then mail.

    Args:
        contacts: as `contacts_in` found them.
        without: what is not taken at all.
        rather_not: what is taken only where nothing else is left, the worst last.
    """

    def reluctance(contact: Contact) -> tuple[int, bool]:
        grades = (grade for grade, those in enumerate(rather_not, start=1) if contact in those)
        return max(grades, default=0), contact[0] is Channel.MAIL

    known = [one for one in map(_contact, contacts) if one not in without]
    if not known:
        return None
    channel, address = min(known, key=reluctance)
    return Outreach(channel=channel, address=address)


def _contact(uri: str) -> Contact:
    scheme, _, address = uri.partition(":")
    return Channel.CHAT if scheme == "xmpp" else Channel.MAIL, address


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
