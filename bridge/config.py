"""The operator's settings: TOML, then the environment, checked whole before anything starts.

House rules: every problem is told at once, with its file and line and what to write instead; no secret is ever
part of a message or a repr; what is not a key here is an error. `default.toml` beside this file is the reference.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from ipaddress import IPv4Network, IPv6Network
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
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from bridge import config_values as values
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
from bridge.webhooks.subscription import Network
from bridge.xmpp.jid import prep_domain

SYSTEM_PATH = Path("/etc/incident-bridge/config.toml")
MAKE_A_SECRET = 'make one with: echo "whsec_$(openssl rand -base64 32)"'  # noqa: S105 (says how, is none)
_LISTENERS = 3

Address = values.Address
Secrets = tuple[Annotated[SecretStr, AfterValidator(values.secret)], ...]
Networks = tuple[Annotated[Network, BeforeValidator(values.network)], ...]
Users = frozenset[Annotated[str, AfterValidator(values.user)]]
Names = frozenset[Annotated[str, AfterValidator(values.protected)]]
_MOST_DAYS = 3650
Days = Annotated[int, Field(ge=1, le=_MOST_DAYS)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ServerSettings(_Section):
    """`[server]`: where we listen."""

    ingest_listen: Annotated[Address, BeforeValidator(values.address)] = Address("127.0.0.1", 8267)
    listen: Annotated[Address, BeforeValidator(values.address)] = Address("127.0.0.1", 8268)
    metrics_listen: Annotated[Address, BeforeValidator(values.address)] = Address("127.0.0.1", 9268)
    api_requests_per_minute: PositiveInt = 1200
    event_connections: PositiveInt = 64
    event_connections_per_token: PositiveInt = 8
    public_url: Annotated[str, AfterValidator(values.public_url)] = ""
    trusted_proxies: Annotated[Networks, NoDecode, BeforeValidator(values.listed)] = (
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1"),
    )

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len({self.ingest_listen, self.listen, self.metrics_listen}) < _LISTENERS:
            raise ValueError("ingest_listen, listen and metrics_listen must be three different addresses")
        return self


class StoreSettings(_Section):
    """`[store]`: where records are kept. `url` may hold a password, so it stays out of repr."""

    url: Annotated[str, AfterValidator(values.store_url), Field(repr=False)] = ""
    data_dir: Path = Field(default_factory=values.data_dir)
    durability: Literal["disk", "memory", "assumed"] = "disk"
    max_bytes: PositiveInt = Field(default_factory=values.half_of_memory)

    @model_validator(mode="before")
    @classmethod
    def _with_credential(cls, table: object) -> object:
        path = _credential("store.url")
        if path is None or not isinstance(table, Mapping) or table.get("url"):
            return table
        return {**table, "url": values.read_store_url(path)}


class RetentionSettings(_Section):
    """`[retention]`: how long things are kept."""

    quarantine_days: PositiveInt = 30
    events_days: PositiveInt = 30
    deliveries_days: PositiveInt = 30
    abuse_days: PositiveInt = 30


class WebhookSettings(_Section):
    """`[webhooks]`: where events may be delivered to, and how long an endpoint may take."""

    allow_networks: Annotated[Networks, NoDecode, BeforeValidator(values.listed)] = ()
    allow_http: bool = False
    timeout_seconds: Annotated[int, Field(ge=1, le=60)] = 15
    max_endpoints: Annotated[int, Field(ge=1, le=10_000)] = 1000


class AutomaticRule(_Section):
    """One of `policy.approve_automatically`: what `peer` may have done without a yes, at most so often in 24 hours."""

    peer: Annotated[str, AfterValidator(values.peer)]
    action: Literal["block-host"]
    per_day: Annotated[int, Field(ge=1, le=1000)]


class PolicySettings(_Section):
    """`[policy]`: plain values for the pure rules; `allow_users` and `protected` hold prepared bare JIDs."""

    strangers: Literal["quarantine", "refuse"] = "quarantine"
    unencrypted: Literal["refuse", "accept"] = "refuse"
    require_authentication: Authentication = Authentication.CERTIFICATE
    allow_users: Annotated[Users, NoDecode, BeforeValidator(values.listed)] = frozenset()
    inquiries: Inquiries = Inquiries.PARTIES
    answer_seconds: PositiveInt = 300
    give_up_seconds: PositiveInt = 86_400
    answer_page_days: Annotated[int, Field(ge=0, le=365)] = 0
    remind_days: Days = 7
    list_days: Days = 14
    approval_days: Days = 7
    mitigation_days: Days = 30
    protected: Annotated[Names, NoDecode, BeforeValidator(values.listed)] = frozenset()
    approve_automatically: tuple[AutomaticRule, ...] = ()
    quarantine_max: PositiveInt = 10_000
    quarantine_max_bytes: PositiveInt = 268_435_456
    quarantine_max_per_peer: PositiveInt = 100
    quota_per_minute: PositiveInt = 60
    quota_burst: PositiveInt = 120
    quota_strangers_per_minute: PositiveInt = 600
    quota_strangers_burst: PositiveInt = 1200
    quota_reports_of_user_per_hour: PositiveInt = 20
    tell_reporters: bool = False
    feed_quorum: Annotated[int, Field(ge=1, le=20)] = 2

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
    admins: frozenset[str] = frozenset()
    viewers: frozenset[str] = frozenset()
    publish_lists: bool = False


class HostInput(_Section):
    """One `[hosts."…"]` as the operator writes it; `secret_file` becomes what the file holds."""

    insecure: bool = False
    api_url: str = "http://127.0.0.1:5280"
    secret: Annotated[Secrets, NoDecode, BeforeValidator(values.one_or_two)] = ()
    secret_file: Annotated[Secrets, NoDecode, BeforeValidator(values.read_secret_file)] = ()
    admins: Annotated[Users, NoDecode, BeforeValidator(values.listed)] = frozenset()
    viewers: Annotated[Users, NoDecode, BeforeValidator(values.listed)] = frozenset()
    publish_lists: bool = False

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
        if (
            url.scheme == "http"
            and not values.is_loopback(url.hostname or "")
            and not info.data.get("insecure")
        ):
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
    if not isinstance(table, Mapping) or "secret" in table or "secret_file" in table:
        return table
    path = _credential(f"secret.{name}")
    return {**table, "secret_file": path} if path else table


def _credential(name: str) -> Path | None:
    """The file with this secret, if systemd passed one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / name if folder else None
    return path if path and is_file(path) else None


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
    webhooks: WebhookSettings = WebhookSettings()

    @model_validator(mode="after")
    def _has_a_page(self) -> Self:
        if self.policy.answer_page_days and not self.server.public_url:
            raise PydanticCustomError(
                "needs",
                "needs server.public_url: links lead there",
                {"place": ("policy", "answer_page_days")},
            )
        return self

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
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    path: Path | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the store is the one that `up` starts."""
        return not self.store.url

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names under which others know us: our hosts, and where `server.public_url` is."""
        public = urlsplit(self.server.public_url).hostname
        return (*self.hosts, public) if public else tuple(self.hosts)

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
            api_url=host.api_url,
            secrets=host.secret or host.secret_file,
            insecure=host.insecure,
            admins=host.admins,
            viewers=host.viewers,
            publish_lists=host.publish_lists,
        )
        for name, host in data.hosts.items()
    }
    return Settings(
        server=data.server,
        store=data.store,
        hosts=hosts,
        policy=data.policy,
        retention=data.retention,
        webhooks=data.webhooks,
        path=found,
    )


def default_toml() -> str:
    """The commented default configuration, which is the reference of every key."""
    return resources.files("bridge").joinpath("default.toml").read_text(encoding="utf-8")
