"""The operator's settings: TOML, then the environment, checked whole before anything starts.

House rules: every problem is told at once, with its file and line and what to write instead; no secret is ever
part of a message or a repr; what is not a key here is an error. `default.toml` beside this file is the reference.
"""

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from bridge.config_file import (
    ENVIRONMENT_PREFIX,
    Source,
    is_file,
    problems_of,
    read_toml,
    unknown_variables,
)
from bridge.errors import ConfigError, MalformedError
from bridge.policy.disclosure import Inquiries
from bridge.policy.trust import Authentication
from bridge.webhooks.signature import decode_secret
from bridge.xmpp.jid import Jid, prep_domain

SYSTEM_PATH = Path("/etc/incident-bridge/config.toml")
SYSTEM_DATA_DIR = Path("/var/lib/incident-bridge")
MAKE_A_SECRET = 'make one with: echo "whsec_$(openssl rand -base64 32)"'  # noqa: S105 (says how, is none)
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


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+)):([0-9]{1,5})", value)
    if not match or not 0 < int(match[3]) <= _MAX_PORT:
        raise ValueError('is not an address and port such as "127.0.0.1:8267" or "[::1]:8267"')
    return Address(match[1] or match[2], int(match[3]))


def _data_dir() -> Path:
    if os.geteuid() == 0 or os.access(SYSTEM_DATA_DIR, os.W_OK | os.X_OK):
        return SYSTEM_DATA_DIR
    state = os.environ.get("XDG_STATE_HOME") or ""
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "incident-bridge"


def _half_of_memory() -> int:
    """Half of what this machine, or the container around us, may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        limit = "max"
    return min(total, int(limit)) // 2 if limit.isdigit() else total // 2


def _store_url(value: str) -> str:
    if value and urlsplit(value).scheme not in {"unix", "redis", "rediss"}:
        raise ValueError('must begin with unix://, redis:// or rediss://, or be "" for the embedded store')
    return value


def _user(value: str) -> str:
    try:
        jid = Jid.parse(value)
    except MalformedError as error:
        raise ValueError(f"is not a JID: {error.rule}") from None
    if not jid.local:
        raise ValueError("has no local part; servers need no leave, only users (user@domain) do")
    return jid.bare


def _secret(value: SecretStr) -> SecretStr:
    try:
        decode_secret(value.get_secret_value())
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return value


def _listed(value: object) -> object:
    """A list; from the environment also as JSON or as words separated by commas or spaces."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return re.split(r"[\s,]+", value.strip()) if value.strip() else []
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise ValueError("begins with [ but is not a JSON list") from None


def _one_or_two(value: object) -> object:
    value = _listed(value)
    if isinstance(value, list | tuple) and not 1 <= len(value) <= _SECRETS_WHILE_ROTATING:
        raise ValueError("must be one secret, or a list of two while you change it")
    return value


def _read_secret_file(value: object) -> object:
    if not isinstance(value, str | Path):
        raise ValueError("must be the path of a file")  # noqa: TRY004 (pydantic collects ValueError only)
    try:
        text = Path(value).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain ASCII"
        raise ValueError(f"{value} cannot be read: {reason}") from None
    return _one_or_two([line.strip() for line in text.splitlines() if line.strip()])


Secrets = tuple[Annotated[SecretStr, AfterValidator(_secret)], ...]
Users = frozenset[Annotated[str, AfterValidator(_user)]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ServerSettings(_Section):
    """`[server]`: where we listen."""

    ingest_listen: Annotated[Address, BeforeValidator(_address)] = Address("127.0.0.1", 8267)
    listen: Annotated[Address, BeforeValidator(_address)] = Address("127.0.0.1", 8268)
    metrics_listen: Annotated[Address, BeforeValidator(_address)] = Address("127.0.0.1", 9268)
    api_requests_per_minute: PositiveInt = 1200

    @model_validator(mode="after")
    def _differ(self) -> Self:
        listeners = (self.ingest_listen, self.listen, self.metrics_listen)
        if len(set(listeners)) < len(listeners):
            raise ValueError("ingest_listen, listen and metrics_listen must be three different addresses")
        return self


class StoreSettings(_Section):
    """`[store]`: where records are kept. `url` may hold a password, so it stays out of repr."""

    url: Annotated[str, AfterValidator(_store_url), Field(repr=False)] = ""
    data_dir: Path = Field(default_factory=_data_dir)
    durability: Literal["disk", "memory", "assumed"] = "disk"
    max_bytes: PositiveInt = Field(default_factory=_half_of_memory)


class RetentionSettings(_Section):
    """`[retention]`: how long things are kept."""

    quarantine_days: PositiveInt = 30


class PolicySettings(_Section):
    """`[policy]`: plain values for the pure rules; `allow_users` holds prepared bare JIDs."""

    strangers: Literal["quarantine", "refuse"] = "quarantine"
    unencrypted: Literal["refuse", "accept"] = "refuse"
    require_authentication: Authentication = Authentication.CERTIFICATE
    allow_users: Annotated[Users, NoDecode, BeforeValidator(_listed)] = frozenset()
    inquiries: Inquiries = Inquiries.PARTIES
    answer_seconds: PositiveInt = 300
    give_up_seconds: PositiveInt = 86_400
    quarantine_max: PositiveInt = 10_000
    quarantine_max_bytes: PositiveInt = 268_435_456
    quarantine_max_per_peer: PositiveInt = 100
    quota_per_minute: PositiveInt = 60
    quota_burst: PositiveInt = 120
    quota_strangers_per_minute: PositiveInt = 600
    quota_strangers_burst: PositiveInt = 1200

    @field_validator("require_authentication")
    @classmethod
    def _is_a_proof(cls, value: Authentication) -> Authentication:
        if value in {Authentication.LOCAL, Authentication.NONE}:
            raise ValueError('must be "certificate", "dialback+certificate" or "dialback"')
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """One `[hosts."…"]`: `secrets[0]` signs what we send, any of them is accepted."""

    api_url: str = "http://127.0.0.1:5280"
    secrets: tuple[SecretStr, ...]
    insecure: bool = False


class HostInput(_Section):
    """One `[hosts."…"]` as the operator writes it; `secret_file` becomes what the file holds."""

    insecure: bool = False
    api_url: str = "http://127.0.0.1:5280"
    secret: Annotated[Secrets, NoDecode, BeforeValidator(_one_or_two)] = ()
    secret_file: Annotated[Secrets, NoDecode, BeforeValidator(_read_secret_file)] = ()

    @field_validator("api_url")
    @classmethod
    def _is_safe(cls, value: str, info: ValidationInfo) -> str:
        try:
            url = urlsplit(value)
            is_usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or url.query or url.fragment or url.username is not None:
            raise ValueError(
                'is not a URL such as "http://127.0.0.1:5280" or "https://xmpp.example.org:5281"'
            )
        if url.scheme == "http" and not _is_loopback(url.hostname or "") and not info.data.get("insecure"):
            raise ValueError(
                "is plain http over a network; use https, or add insecure = true if you accept that"
            )
        return value.rstrip("/")

    @model_validator(mode="after")
    def _has_a_secret(self) -> Self:
        if self.secret and self.secret_file:
            raise ValueError("has both secret and secret_file; keep one")
        if not self.secret and not self.secret_file:
            raise ValueError(f"has no secret: add secret or secret_file; {MAKE_A_SECRET}")
        return self


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _prepare_hosts(value: object) -> object:
    """Prepare the names as Prosody does, and find the secrets that systemd passed for them."""
    if not isinstance(value, Mapping):
        return value
    prepared: dict[str, Any] = {}
    for written, table in value.items():
        try:
            name = prep_domain(written)
        except MalformedError as error:
            raise ValueError(f'"{written}" is not a host name: {error.rule}') from None
        if name in prepared:
            raise ValueError(f'"{written}" is the same host as another table here')
        prepared[name] = _with_credential(name, table)
    return prepared


def _with_credential(name: str, table: object) -> object:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder or not isinstance(table, Mapping) or "secret" in table or "secret_file" in table:
        return table
    path = Path(folder) / f"secret.{name}"
    return {**table, "secret_file": path} if is_file(path) else table


class Input(BaseSettings):
    """Everything as the operator writes it, from the file (as arguments) and the environment, which wins."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )
    server: ServerSettings = ServerSettings()
    store: StoreSettings = Field(default_factory=StoreSettings)
    hosts: Annotated[dict[str, HostInput], BeforeValidator(_prepare_hosts)] = {}
    policy: PolicySettings = PolicySettings()
    retention: RetentionSettings = RetentionSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic-settings' signature)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file; nothing else."""
        return env_settings, init_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the whole program runs with; `path` is the file it came from, None if there was none."""

    server: ServerSettings = field(default_factory=ServerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    policy: PolicySettings = field(default_factory=PolicySettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    path: Path | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the store is the one that `up` starts."""
        return not self.store.url

    def store_url(self) -> str:
        """The store's URL: the configured one, or that of the embedded server in `store.data_dir`."""
        if self.store.url:
            return self.store.url
        from bridge.store.embedded import embedded_url

        return embedded_url(self.store.data_dir)


def find_path(path: Path | None = None) -> Path | None:
    """The file that `load_settings` reads: `path`, $INCIDENT_BRIDGE_CONFIG, the system's, or None."""
    named = path or os.environ.get("INCIDENT_BRIDGE_CONFIG")
    if named:
        return Path(named)
    return SYSTEM_PATH if is_file(SYSTEM_PATH) else None


def load_settings(path: Path | None = None) -> Settings:
    """Read and check the configuration; ConfigError names every problem with its file and line."""
    found = find_path(path)
    source = read_toml(found) if found else Source()
    unknown = unknown_variables(Input)
    try:
        data = Input(**source.data)
    except ValidationError as error:
        raise ConfigError("\n".join(problems_of(error, source, Input) + unknown)) from None
    except SettingsError as error:
        raise ConfigError("\n".join([f"the environment: {error}", *unknown])) from None
    if unknown:
        raise ConfigError("\n".join(unknown))
    hosts = {
        name: HostSettings(
            api_url=host.api_url, secrets=host.secret or host.secret_file, insecure=host.insecure
        )
        for name, host in data.hosts.items()
    }
    return Settings(
        server=data.server,
        store=data.store,
        hosts=hosts,
        policy=data.policy,
        retention=data.retention,
        path=found,
    )


def default_toml() -> str:
    """The commented default configuration, which is the reference of every key."""
    return resources.files("bridge").joinpath("default.toml").read_text(encoding="utf-8")
