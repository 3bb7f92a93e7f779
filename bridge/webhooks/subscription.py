"""What an endpoint may be: which events it wants, which URL and headers it may have, which addresses are reached.

House rules: a URL is read by one strict grammar, so that no other program reads another host in it; a name is only
known to be good when it was resolved, so whoever connects asks `is_forbidden` about the very address it connects to.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any
from urllib.parse import quote

import idna

from bridge.errors import MalformedError
from bridge.xmpp.jid import shown

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_CHARACTERS = 2048
MAX_HEADERS = 10
MAX_HEADER_CHARACTERS = 1024
_MAX_HEADER_NAME = 64
_MAX_NAME = 253
_FIRST_FREE_PORT = 1024
_LAST_PORT = 65535

# The first that matches names the range.
_RANGES_4 = tuple(
    (IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/32", "unspecified"),
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "IETF protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_RANGES_6 = tuple(
    (IPv6Network(network), name)
    for network, name in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discard-only"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "IETF protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "SRv6"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")

# Where an address of these networks carries the IPv4 address that is meant: how far to shift it down.
_CARRIERS = (
    (IPv6Network("::/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("64:ff9b:1::/48"), 0),
    (IPv6Network("2002::/16"), 80),
)
_LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

# Ports above 1023 behind which something listens that is no web server: what browsers refuse (Fetch §2.9), then
# data stores, then XMPP. Below 1024 only 80 and 443 are good.
_REFUSED_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679}
    | {6697, 10080}
    | {1433, 1521, 3306, 5432, 6379, 6380, 11211, 27017}
    | {5222, 5223, 5269, 5270}
)
_DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE = "/%:@!$&'()*+,;=~-._"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
_RESERVED = frozenset(
    {"accept-encoding", "connection", "cookie", "date", "expect", "forwarded", "host", "http2-settings"}
    | {"keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via"}
    | {"x-http-method", "x-http-method-override", "x-method-override"}
)
_RESERVED_PREFIXES = ("content-", "proxy-", "webhook-", "x-forwarded-")


def wants(
    types: Sequence[str],
    peers: Sequence[str],
    severities: Sequence[str],
    quarantined: str,
    event: Mapping[str, Any],
) -> bool:
    """Whether an endpoint with these filters is told of an event.

    Args:
        types: event types; an empty filter lets everything through, here and below.
        peers: domains; an event that concerns no peer is not for an endpoint that names some.
        severities: as the document has them; an event without one is not for an endpoint that names some.
        quarantined: "exclude", "include" or "only" what lies in quarantine.
        event: the body as it is sent: `type` and `data`.
    """
    if types and event.get("type") not in types:
        return False
    data = event.get("data") or {}
    peer = data.get("peer") or {}
    if peers and peer.get("domain") not in peers:
        return False
    if severities and (data.get("incident") or {}).get("severity") not in severities:
        return False
    return quarantined == "include" or bool(peer.get("quarantined")) == (quarantined == "only")


def is_forbidden(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Name the range for which an address is not connected to; None: it may be.

    An IPv4-mapped address is judged as the IPv4 address it stands for. One that carries an IPv4 address in another way
    (6to4, NAT64) is forbidden, and where `allowed` covers it, what it carries is judged too.
    """
    if isinstance(address, IPv4Address):
        return None if _is_in(address, allowed) else _range_of(address)
    if address.ipv4_mapped is not None:
        return is_forbidden(address.ipv4_mapped, allowed)
    if not _is_in(address, allowed):
        return _range_of(address)
    carried = None if address in _LOOPBACKS else _carried(address)
    return None if carried is None else is_forbidden(carried, allowed)


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether an address is in a network the operator named; an IPv4-mapped one as the IPv4 address it stands for."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return _is_in(address.ipv4_mapped, allowed)
    return _is_in(address, allowed) and is_forbidden(address, allowed) is None


def check_url(url: str, *, allow_http: bool, allowed: Sequence[Network] = ()) -> str:
    """Check where an endpoint is and write it in one way: ASCII, lower case, no default port; idempotent.

    Args:
        url: as somebody typed it.
        allow_http: whether plain http may leave the machine.
        allowed: networks the operator named as good. Plain http is good to those; whether a *name* is in one is
            judged when it is connected to.

    Raises:
        MalformedError: at `url`; the rule says what is wrong, and what helps where something does.
    """
    scheme, host_text, port_text, path, query = _parts(url)
    host = _host(host_text, allowed)
    if scheme == "http":
        _check_http(host, allow_http=allow_http, allowed=allowed)
    port = _port(port_text, _DEFAULT_PORTS[scheme])
    rest = quote(path, safe=_SAFE) or "/"
    written = f"{scheme}://{_written(host)}{port}{rest}{quote(query, safe=_SAFE + '?')}"
    if len(written) > MAX_URL_CHARACTERS:
        raise _bad(f"has {len(written)} characters when written in ASCII; {MAX_URL_CHARACTERS} is the most")
    return written


def check_headers(headers: Mapping[str, object]) -> dict[str, str]:
    """Check what is to be sent along with every delivery (RFC 9110 §5.1, §5.5).

    Raises:
        MalformedError: at `headers`; the rule never shows a value, which may be a secret.
    """
    if len(headers) > MAX_HEADERS:
        raise MalformedError("headers", f"has {len(headers)} headers; {MAX_HEADERS} is the most")
    checked: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or len(name) > _MAX_HEADER_NAME:
            raise MalformedError(
                "headers", f"'{shown(name)}' is not the name of a header: 1 to 64 letters, digits and hyphens"
            )
        lower = name.lower()
        if lower in _RESERVED or lower.startswith(_RESERVED_PREFIXES):
            raise MalformedError("headers", f"{name} is set by the bridge and cannot be yours")
        if lower in seen:
            raise MalformedError("headers", f"{name} stands there twice")
        if not isinstance(value, str) or len(value) > MAX_HEADER_CHARACTERS or not _VALUE.fullmatch(value):
            raise MalformedError(
                "headers",
                f"the value of {name} must be 1 to {MAX_HEADER_CHARACTERS} printable ASCII characters, "
                "with no space at either end",
            )
        seen.add(lower)
        checked[name] = value
    return checked


def _bad(rule: str) -> MalformedError:
    return MalformedError("url", rule)


def _parts(url: str) -> tuple[str, str, str | None, str, str]:
    """Scheme, host, port if there is one, path and query of what can be a URL of ours by its grammar."""
    if len(url) > MAX_URL_CHARACTERS:
        raise _bad(f"has {len(url)} characters; {MAX_URL_CHARACTERS} is the most")
    if not url.isprintable() or " " in url or "\\" in url:
        raise _bad("contains a space, a backslash or a character that cannot be printed")
    match = _URL.fullmatch(url)
    if match is None:
        raise _bad(f"'{shown(url)}' is not a URL such as https://example.org/incidents")
    scheme, authority, path, query, fragment = match.groups(default="")
    scheme = scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        raise _bad(f"begins with {scheme}://; events go to https:// only")
    if "@" in authority:
        raise _bad("contains a user name or password; send them in a header, as Authorization")
    if fragment:
        raise _bad("has a part after #, which is never sent")
    if _BAD_PERCENT.search(path + query):
        raise _bad("has a % that two hexadecimal digits do not follow")
    split = _AUTHORITY.fullmatch(authority)
    if split is None:
        raise _bad(f"'{shown(authority)}' is not a host, or a host and a port")
    return scheme, split[1], split[2], path, query


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _range_of(address: Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((name for network, name in _RANGES_4 if address in network), None)
    name = next((name for network, name in _RANGES_6 if address in network), None)
    return name or (None if address in _GLOBAL_UNICAST else "reserved")


def _carried(address: IPv6Address) -> IPv4Address | None:
    for network, shift in _CARRIERS:
        if address in network:
            return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return None


def _host(text: str, allowed: Sequence[Network]) -> str | Address:
    """Read a host; a literal address is judged here, so is the one name that everybody knows the address of."""
    if not text:
        raise _bad("has no host")
    if text.startswith("["):
        return _judged(_ipv6(text[1:-1]), allowed)
    name = _ascii(text)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _judged(_ipv4(name), allowed)
    if len(name) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise _bad(f"'{shown(text)}' is not a host name")
    if labels[-1] == "localhost" and all(is_forbidden(one, allowed) for one in _LOOPBACKS):
        _judged(_LOOPBACKS[0], allowed)
    return name


def _ascii(text: str) -> str:
    if text.isascii():
        return text.lower().removesuffix(".")
    try:
        return idna.encode(text, uts46=True).decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise _bad(f"'{shown(text)}' is not a host name (IDNA 2008)") from None


def _ipv4(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise _bad(
            f"'{shown(text)}' is not an IPv4 address; write four decimal numbers such as 192.0.2.1"
        ) from None


def _ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise _bad(f"'{shown(text)}' is not an IPv6 address") from None
    if address.scope_id is not None:
        raise _bad(f"'{shown(text)}' names a network interface, which only this machine knows")
    return address


def _judged(address: Address, allowed: Sequence[Network]) -> Address:
    name = is_forbidden(address, allowed)
    if name is None:
        return address
    raise _bad(
        f"leads to {address}, which is not a public address ({name}); "
        "the operator can allow its network by webhooks.allow_networks"
    )


def _check_http(host: str | Address, *, allow_http: bool, allowed: Sequence[Network]) -> None:
    if allow_http or (allowed and isinstance(host, str)):
        return
    if not isinstance(host, str) and is_allowed(host, allowed):
        return
    raise _bad(
        "is plain http, which everybody on the way can read; use https. The operator can allow http to "
        "networks of their own by webhooks.allow_networks, and everywhere by webhooks.allow_http"
    )


def _port(text: str | None, default: int) -> str:
    """The port as it stands in the URL: "" for the scheme's own, else with its colon."""
    port = default if text is None else int(text)
    is_known = port in _DEFAULT_PORTS.values()
    is_free = _FIRST_FREE_PORT <= port <= _LAST_PORT and port not in _REFUSED_PORTS
    if not is_known and not is_free:
        raise _bad(
            f"names port {text}; good are 80, 443 and those from 1024 on, but for ports where something else "
            "than a web server usually listens"
        )
    return "" if port == default else f":{port}"


def _written(host: str | Address) -> str:
    return f"[{host}]" if isinstance(host, IPv6Address) else str(host)
