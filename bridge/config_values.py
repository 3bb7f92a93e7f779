"""How single values of the configuration are read: each function takes what the operator wrote and returns it checked.

House rule: what is wrong is a ValueError whose text follows the key's name and never shows a secret.
"""

import ipaddress
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from bridge.errors import ConfigError, MalformedError
from bridge.store import place
from bridge.webhooks.signature import decode_secret
from bridge.webhooks.subscription import Network
from bridge.xmpp.jid import Jid, prep_domain

SYSTEM_DATA_DIR = Path("/var/lib/incident-bridge")
_MAX_PORT = 65535
_SECRETS_WHILE_ROTATING = 2


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener listens; an IPv6 `host` without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        """As configured: `127.0.0.1:8267`, `[::1]:8267`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(value: object) -> object:
    """Where to listen: a host or an address and a port."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+)):([0-9]{1,5})", value)
    if not match or not 0 < int(match[3]) <= _MAX_PORT:
        raise ValueError('is not an address and port such as "127.0.0.1:8267" or "[::1]:8267"')
    return Address(match[1] or match[2], int(match[3]))


def data_dir() -> Path:
    """Where the embedded store keeps its data, if the configuration does not say."""
    if os.geteuid() == 0 or os.access(SYSTEM_DATA_DIR, os.W_OK | os.X_OK):
        return SYSTEM_DATA_DIR
    state = os.environ.get("XDG_STATE_HOME") or ""
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "incident-bridge"


def half_of_memory() -> int:
    """Half of what this machine, or the container around us, may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        limit = "max"
    return min(total, int(limit)) // 2 if limit.isdigit() else total // 2


def store_url(value: str) -> str:
    """A store's URL, or "" for the embedded one."""
    if value:
        place.read(value)
    return value


def read_store_url(path: Path) -> str:
    """The URL in this file; what is wrong with it is told with the file's name."""
    url = read_line(path)
    try:
        return store_url(url)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def user(value: str) -> str:
    """A user's JID, prepared and bare."""
    try:
        jid = Jid.parse(value)
    except MalformedError as error:
        raise ValueError(f"is not a JID: {error.rule}") from None
    if not jid.local:
        raise ValueError("has no local part; servers need no leave, only users (user@domain) do")
    return jid.bare


def protected(value: str) -> str:
    """A domain or a JID that needs a second yes."""
    try:
        return Jid.parse(value).bare
    except MalformedError as error:
        raise ValueError(f"is neither a domain nor a JID: {error.rule}") from None


def peer(value: str) -> str:
    """A server's domain."""
    try:
        return prep_domain(value)
    except MalformedError as error:
        raise ValueError(f"is not a server's domain: {error.rule}") from None


def secret(value: SecretStr) -> SecretStr:
    """A `whsec_…` that can be decoded."""
    try:
        decode_secret(value.get_secret_value())
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


def listed(value: object) -> object:
    """A list; from the environment also as JSON or as words separated by commas or spaces."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return re.split(r"[\s,]+", value.strip()) if value.strip() else []
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise ValueError("begins with [ but is not a JSON list") from None


def one_or_two(value: object) -> object:
    """A list of one secret, or of two."""
    value = listed(value)
    if isinstance(value, list | tuple) and not 1 <= len(value) <= _SECRETS_WHILE_ROTATING:
        raise ValueError("must be one secret, or a list of two while you change it")
    return value


def read_secret_file(value: object) -> object:
    """The secrets in the file of this path."""
    if not isinstance(value, str | Path):
        raise ValueError("must be the path of a file")  # noqa: TRY004 (pydantic collects ValueError only)
    text = read_line(value)
    return one_or_two([line.strip() for line in text.splitlines() if line.strip()])


def read_line(path: str | Path) -> str:
    """What a file of plain ASCII holds, without the end of its last line."""
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain ASCII"
        raise ValueError(f"{path} cannot be read: {reason}") from None


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this machine by its very form."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def public_url(value: str) -> str:
    """Where people and programs reach us, without a slash at the end; "" for nowhere that we know of."""
    if not value:
        return ""
    try:
        url = urlsplit(value)
        is_usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or url.query or url.fragment or url.username is not None or not value.isprintable():
        raise ValueError('is not a URL such as "https://incidents.example.org", and not "" either')
    if url.path.strip("/"):
        raise ValueError("has a path; the console needs a name of its own, such as incidents.example.org")
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise ValueError("is plain http over a network; put a web server with https in front")
    return value.rstrip("/")


def network(value: object) -> Network:
    """One network in CIDR notation, or one address."""
    if not isinstance(value, str):
        raise ValueError('holds something other than a network such as "10.1.0.0/16"')  # noqa: TRY004 (pydantic)
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        right = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            f'holds "{value}", which is not a network such as "10.1.0.0/16" or "fd00::/8"'
        ) from None
    raise ValueError(f'holds "{value}", which is an address within a network; did you mean "{right}"?')
