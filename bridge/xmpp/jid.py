"""XMPP addresses, prepared the way Prosody prepares them (RFC 6122, stringprep).

House rules: identity is what the server says it is, so this follows Prosody's `util.jid` and not RFC 7622
where the two differ (`fußball@` is `fussball@`); no third-party dependency.
"""

import re
import stringprep
import unicodedata
from dataclasses import dataclass
from encodings import idna
from ipaddress import IPv6Address
from typing import Self

from bridge.errors import MalformedError

MAX_PART_BYTES = 1023

_ASCII_LOCAL = re.compile(r"[!#-%(-.0-9;=?A-~]+", re.ASCII)
_ASCII_DOMAIN = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
_BAD_IN_LABEL = re.compile(r"[\x00-,/:-^`{-\x7f]", re.ASCII)
_NOT_IN_LOCAL = frozenset("\"&'/:<>@ ")
_MAX_LABEL = 63
_MAX_SHOWN = 80
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)
_UNICODE_3_2 = unicodedata.ucd_3_2_0


@dataclass(frozen=True, slots=True)
class Jid:
    """A prepared address; compare these, never the text they came from."""

    local: str | None
    domain: str
    resource: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split and prepare.

        Raises:
            MalformedError: the text is no JID; the rule says which part breaks which limit.
        """
        address, slash, resource = text.partition("/")
        local, at, domain = address.rpartition("@")
        if at and not local:
            raise MalformedError("", f"'{shown(text)}' has an empty part before the @")
        if slash and not resource:
            raise MalformedError("", f"'{shown(text)}' has an empty resource")
        return cls(
            _prep_local(local) if at else None,
            prep_domain(domain),
            _prep_resource(resource) if slash else None,
        )

    @property
    def bare(self) -> str:
        """Without the resource."""
        return self.domain if self.local is None else f"{self.local}@{self.domain}"

    @property
    def is_domain(self) -> bool:
        """Neither a local part nor a resource: a server."""
        return self.local is None and self.resource is None

    def __str__(self) -> str:
        """The whole address, as XMPP writes it."""
        return self.bare if self.resource is None else f"{self.bare}/{self.resource}"


def prep_domain(text: str) -> str:
    """Prepare a domain as Prosody does: nameprep, without a final dot; labels are not converted to punycode.

    Raises:
        MalformedError: not a domain name or IP literal.
    """
    domain = text.lower() if text.isascii() else _nameprep(text)
    domain = domain.removesuffix(".")
    if not 0 < len(domain.encode()) <= MAX_PART_BYTES:
        raise MalformedError("", f"a domain has 1 to {MAX_PART_BYTES} bytes, not {len(domain.encode())}")
    if domain.isascii() and _ASCII_DOMAIN.fullmatch(domain):
        if len(domain) <= _MAX_LABEL or all(len(label) <= _MAX_LABEL for label in domain.split(".")):
            return domain
        raise MalformedError("", f"'{shown(text)}' has a label of more than {_MAX_LABEL} characters")
    if domain.startswith("["):
        return _ip_literal(domain)
    for label in domain.split("."):
        if not label or len(label) > _MAX_LABEL or _BAD_IN_LABEL.search(label):
            raise MalformedError("", f"'{shown(text)}' is not a domain name")
    return domain


def shown(text: str) -> str:
    """Foreign text for an error message: short, without control characters."""
    if len(text) <= _MAX_SHOWN and text.isprintable():
        return text
    clean = "".join(c if c.isprintable() else "\ufffd" for c in text[:_MAX_SHOWN])
    return clean if len(text) <= len(clean) else clean + "…"


def _prep_local(text: str) -> str:
    _check_length(text, "the part before the @")
    if _ASCII_LOCAL.fullmatch(text):
        return text.lower()
    mapped = "".join(stringprep.map_table_b2(c) for c in text if not stringprep.in_table_b1(c))
    local = _finish(mapped, "the part before the @")
    bad = _NOT_IN_LOCAL.intersection(local)
    if bad:
        raise MalformedError("", f"'{shown(local)}' has {min(bad)!r}, which no JID has before the @")
    return local


def _prep_resource(text: str) -> str:
    _check_length(text, "the resource")
    if text.isascii() and text.isprintable():
        return text
    return _finish("".join(c for c in text if not stringprep.in_table_b1(c)), "the resource")


def _nameprep(text: str) -> str:
    _check_length(text, "the domain")
    try:
        return idna.nameprep(text)
    except UnicodeError as error:
        raise MalformedError("", f"'{shown(text)}' is not a domain name: {error}") from None


def _finish(mapped: str, part: str) -> str:
    """Normalise, then refuse prohibited characters and mixed direction (RFC 3454 §4 to §6)."""
    text = _UNICODE_3_2.normalize("NFKC", mapped)
    for character in text:
        if _UNICODE_3_2.category(character)[0] in "LN":  # no table has letters or digits
            continue
        if any(is_prohibited(character) for is_prohibited in _PROHIBITED):
            raise MalformedError("", f"{part} has the prohibited character U+{ord(character):04X}")
    if any(map(stringprep.in_table_d1, text)) and not (
        stringprep.in_table_d1(text[0])
        and stringprep.in_table_d1(text[-1])
        and not any(map(stringprep.in_table_d2, text))
    ):
        raise MalformedError("", f"{part} mixes right-to-left and left-to-right characters")
    _check_length(text, part)
    return text


def _check_length(text: str, part: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise MalformedError("", f"{part} has a surrogate, which is no character") from None
    if not 0 < size <= MAX_PART_BYTES:
        raise MalformedError("", f"{part} has 1 to {MAX_PART_BYTES} bytes, not {size}")


def _ip_literal(domain: str) -> str:
    try:
        IPv6Address(domain[1:].removesuffix("]") if domain.endswith("]") else "")
    except ValueError:
        raise MalformedError("", f"'{shown(domain)}' is not an IPv6 address") from None
    return domain
