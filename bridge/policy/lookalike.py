"""Addresses that only look like one that the operator knows.

House rules: nothing is decided by looks, they are only shown; what is not ASCII stands there in ASCII too.
"""

import unicodedata
from collections.abc import Iterable
from encodings import idna

from bridge.xmpp.jid import MAX_PART_BYTES

_ALIKE = {  # Cyrillic, Greek, Latin letters and digits, by what they are taken for
    "a": "\u0430\u03b1\u0251",
    "b": "\u0432",
    "c": "\u0441",
    "d": "\u0501",
    "e": "\u0435\u03b5",
    "g": "\u0261",
    "h": "\u04bb\u043d",
    "i": "\u0456\u03b9\u0269\u0131",
    "j": "\u0458",
    "k": "\u043a\u03ba",
    "l": "1|",
    "m": "\u043c",
    "n": "\u043f",
    "o": "\u043e\u03bf0",
    "p": "\u0440\u03c1",
    "q": "\u051b",
    "r": "\u0433",
    "s": "\u0455",
    "t": "\u0442\u03c4",
    "u": "\u03c5",
    "v": "\u03bd",
    "w": "\u051d\u03c9",
    "x": "\u0445\u03c7",
    "y": "\u0443",
}
_LOOKS_LIKE = str.maketrans({one: letter for letter, many in _ALIKE.items() for one in many})
_ALSO = (("rn", "m"), ("vv", "w"), ("cl", "d"))


def ascii_form(address: str) -> str:
    """The address in ASCII: its domain with A-labels (RFC 5890 §2.3.2.1), what is before the @ with escapes."""
    bare, slash, resource = address.partition("/")
    local, at, domain = bare.rpartition("@")
    is_domain = len(domain) <= MAX_PART_BYTES  # what is longer is none, and would take long
    labels = ".".join(_a_label(label) for label in domain.split(".")) if is_domain else _escaped(domain)
    return f"{_escaped(local)}{at}{labels}{slash}{_escaped(resource)}"


def _a_label(label: str) -> str:
    try:
        return label if label.isascii() else idna.ToASCII(label).decode("ascii")
    except UnicodeError:
        return _escaped(label)


def _escaped(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii") if not text.isascii() else text


def with_ascii(address: str) -> str:
    """The address, where it is not ASCII with its ASCII form beside it; hostile text still."""
    return address if address.isascii() else f"{address} ({ascii_form(address)})"


def alike(addresses: Iterable[str], known: Iterable[str]) -> list[tuple[str, str]]:
    """Each address whose domain looks like one of `known` and is another, with the one that it looks like."""
    looks = {skeleton(name): name for name in known}
    names = set(looks.values())
    found = []
    for address in dict.fromkeys(addresses):
        domain = _domain(address)
        like = looks.get(skeleton(domain))
        if like is not None and domain.casefold() not in names:
            found.append((address, like))
    return found


def _domain(address: str) -> str:
    return address.partition("/")[0].rpartition("@")[2]


def skeleton(name: str) -> str:
    """A text that is equal for names that look alike: small, and meant for letters that are mixed up in practice."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).translate(_LOOKS_LIKE)
    for pair, one in _ALSO:
        plain = plain.replace(pair, one)
    return plain
