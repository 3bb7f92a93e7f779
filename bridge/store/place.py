"""Where the store is: its URL taken apart, and the URL as it may be shown.

    unix:///run/redis.sock   redis://:password@host:6379/0   rediss://…        one server; rediss is TLS
    sentinel://:password@host:26379,host:26379,host:26379/mymaster?sentinel_password=…   whichever is the primary now
    sentinels://…            the same with TLS, to the sentinels and to the servers

House rules: nothing but the standard library, because every command reads the configuration; no password in a message.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

_PLAIN: Final = {"sentinel": "redis", "sentinels": "rediss"}
_SCHEMES: Final = ("unix", "redis", "rediss", *_PLAIN)
_SENTINEL_PORT: Final = 26379
_MAX_PORT: Final = 65535
_HIDDEN: Final = "***"
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:,\s]+)(?::([0-9]{1,5}))?")
EXAMPLE: Final = "sentinel://host1:26379,host2:26379,host3:26379/mymaster"

Address = tuple[str, int]
"""A host and a port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A store's URL, taken apart.

    Attributes:
        url: as redis-py takes it; with sentinels its host stands for whichever server is the primary.
        sentinels: where they listen; empty for one server.
        name: what the sentinels call the store.
        sentinel_user: the name that the sentinels want.
        sentinel_password: the password that the sentinels want.
    """

    url: str
    sentinels: tuple[Address, ...] = ()
    name: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""

    def server_url(self, address: Address) -> str:
        """The URL of one of the servers behind the sentinels."""
        parts = urlsplit(self.url)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@{at(address)}" if user else at(address)))

    def sentinel_url(self, address: Address) -> str:
        """The URL of one of the sentinels."""
        parts = urlsplit(self.url)
        word = quote(self.sentinel_password, safe="")
        user = f"{quote(self.sentinel_user, safe='')}:{word}@" if self.sentinel_password else ""
        return urlunsplit(parts._replace(netloc=user + at(address), path=""))


def at(address: Address) -> str:
    """An address as it stands in a URL."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read(url: str) -> Place:
    """Take a store's URL apart.

    Raises:
        ValueError: it is not one; the text follows the key's name and shows no password.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(
            "must begin with unix://, redis://, rediss://, sentinel:// or sentinels://, "
            'or be "" for the embedded store'
        )
    if parts.scheme not in _PLAIN:
        return Place(url=url)
    name, _, database = parts.path.removeprefix("/").partition("/")
    if not name or (database and not database.isdigit()):
        raise ValueError(f'does not name the primary as its sentinels do; write it like "{EXAMPLE}"')
    user, _, hosts = parts.netloc.rpartition("@")
    query = dict(parse_qsl(parts.query))
    place = f"{user}@primary" if user else "primary"
    sentinel_user, sentinel_password = query.pop("sentinel_username", ""), query.pop("sentinel_password", "")
    plain = SplitResult(_PLAIN[parts.scheme], place, f"/{database}", urlencode(query), "")
    return Place(
        url=urlunsplit(plain),
        sentinels=tuple(_address(one) for one in hosts.split(",")),
        name=unquote(name),
        sentinel_user=sentinel_user,
        sentinel_password=sentinel_password,
    )


def _address(text: str) -> Address:
    match = _ADDRESS.fullmatch(text)
    port = int(match[2] or _SENTINEL_PORT) if match else 0
    if match is None or not 0 < port <= _MAX_PORT:
        raise ValueError(f'has a sentinel that is not host:port; write it like "{EXAMPLE}"')
    return match[1].strip("[]"), port


def shown(url: str, *, hidden: str = _HIDDEN) -> str:
    """The URL as it may be logged: without passwords, and without a query's values, which may hold one too."""
    parts = urlsplit(url)
    user, _, where = parts.netloc.rpartition("@")
    name, has_password, _ = user.partition(":")
    if not has_password and not parts.query:
        return url  # `urlunsplit` does not know unix://
    netloc = f"{name}:{hidden}@{where}" if has_password else parts.netloc
    return urlunsplit(parts._replace(netloc=netloc, query=hidden if parts.query else ""))
