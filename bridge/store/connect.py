"""Reach the store: one connection pool, the scripts, and what an unreachable store looks like to everybody else.

House rules: whatever Redis says when it is away, busy, full or a replica leaves this folder as `UnavailableError`;
a URL is never shown with its password.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

import hiredis
import redis
from redis import Redis as BlockingRedis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry as PlainRetry

from bridge.errors import ConfigError, StoreConfigError, UnavailableError

_RETRIES: Final = 20  # with the backoff below: carries a worker over a store restart of about 15 s
_BACKOFF: Final = ExponentialWithJitterBackoff(base=0.05, cap=1)
PATIENCE_SECONDS: Final = 25  # above every blocking call; time for the retries
_AWAY: Final = (
    redis.exceptions.ConnectionError,  # refused, reset, loading, and no free connection in time
    redis.exceptions.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
)
_AWAY_CODES: Final = ("OOM", "MISCONF", "READONLY", "NOREPLICAS", "LOADING", "BUSY", "MASTERDOWN")


_WANTED: Final = {
    "appendonly": ("yes", "it does not write what it stores to disk (appendonly is {value})"),
    "appendfsync": (
        "always",
        "it tells us that something is stored before the disk has it (appendfsync is {value})",
    ),
    "maxmemory-policy": (
        "noeviction",
        "it throws records away when memory is short (maxmemory-policy is {value})",
    ),
}
Mode = Literal["disk", "memory", "assumed"]


class Script(StrEnum):
    """The scripts beside this module, each a file of its own."""

    COMMIT = "commit"
    TAKE = "take"
    RENEW = "renew"
    RELEASE = "release"
    FINISH = "finish"
    RECOVER = "recover"
    SWEEP = "sweep"
    HEALTH = "health"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """An open store; made by `open_store`, closed by `close`.

    Attributes:
        jobs: RQ's own connection, the only one that blocks; used in threads.
        patience_seconds: after this long a call gives up with `UnavailableError`.
    """

    redis: Redis
    jobs: BlockingRedis
    scripts: dict[Script, Any]
    url: str
    patience_seconds: float


def shown(url: str) -> str:
    """The URL as it may be logged: without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{place}"))


@cache
def script_text(name: str) -> str:
    """A script as it is sent: what all begin with, then its own; read once, before a worker forks."""
    folder = files("bridge.store") / "scripts"
    return (folder / "library.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8")


def job_connection(url: str, *, retries: int = _RETRIES) -> BlockingRedis:
    """A connection for RQ, which speaks the blocking client only."""
    return BlockingRedis.from_url(
        url,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=5,
        retry=PlainRetry(_BACKOFF, retries),
    )


class _Packing:
    """Commands written in C; redis-py does that for its blocking client only, and a commit has hundreds of words."""

    def pack_command(self, *args: Any) -> list[bytes]:
        first, *rest = args
        words = (*first.split(), *rest) if isinstance(first, str) and " " in first else args
        return [hiredis.pack_command(words)]


class _Tcp(_Packing, Connection): ...


class _Tls(_Packing, SSLConnection): ...


class _Unix(_Packing, UnixDomainSocketConnection): ...


_CONNECTIONS: Final[dict[str, type[Connection]]] = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}  # type: ignore[dict-item]  # the last shares a base only


async def open_store(url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Store:
    """Open the store and see that it answers.

    Args:
        url: `unix://…`, `redis://…` or `rediss://…`.
        patience_seconds: see `Store`; a service that must answer soon gives a few seconds.

    Raises:
        ConfigError: the URL is not one, or the store refuses its credentials.
        UnavailableError: nothing answers there.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=100,
            connection_class=_CONNECTIONS.get(urlsplit(url).scheme, _Tcp),
            timeout=patience_seconds,
            protocol=3,
            socket_timeout=None,  # with one, redis-py calls `asyncio.wait_for`, which loses cancellations before 3.12
            socket_connect_timeout=5,
            retry=Retry(_BACKOFF, _RETRIES),
        )
        jobs = job_connection(url, retries=1)  # `recover` does what fails here
    except ValueError as error:
        raise ConfigError(f"store.url {shown(url)!r} is not usable: {error}") from error
    client: Redis = Redis.from_pool(pool)
    scripts = {name: client.register_script(script_text(name)) for name in Script}
    store = Store(redis=client, jobs=jobs, scripts=scripts, url=url, patience_seconds=patience_seconds)
    try:
        async with reaching(store):
            await client.ping()
    except BaseException:
        await close(store)
        raise
    return store


async def close(store: Store) -> None:
    """Close every connection; the store object is of no use afterwards."""
    await store.redis.aclose()
    store.jobs.close()


@asynccontextmanager
async def reaching(store: Store) -> AsyncIterator[None]:
    """Whatever happens to the store inside is an `UnavailableError` outside, and in time.

    Raises:
        StoreConfigError: the store refuses us.
    """
    try:
        async with asyncio.timeout(store.patience_seconds):
            yield
    except _AWAY as error:
        # What a new connection is told becomes the cause of another error in redis-py.
        if any(isinstance(each, redis.exceptions.AuthenticationError) for each in (error, error.__cause__)):
            raise StoreConfigError(
                f"the store at {shown(store.url)} refuses the name or password in store.url"
            ) from error
        raise UnavailableError(f"the store at {shown(store.url)} does not answer: {error}") from error
    except TimeoutError as error:
        raise UnavailableError(f"the store at {shown(store.url)} does not answer in time") from error
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(_AWAY_CODES):
            raise UnavailableError(
                f"the store at {shown(store.url)} cannot take this now: {error}"
            ) from error
        raise


async def run(store: Store, script: Script, *arguments: str | bytes | float) -> Any:
    """Run one script; its reply is as Redis sends it: lists, integers and bytes."""
    async with reaching(store):
        return await store.scripts[script](args=arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Durability:
    """What is known of the store; `problems` are sentences, `fix` the commands to type, both in the same order.

    Attributes:
        mode: what the operator asked for; "memory" and "assumed" are to be shown wherever the store is.
    """

    mode: Mode
    problems: tuple[str, ...]
    fix: tuple[str, ...]


async def check_durability(store: Store, *, durability: Mode) -> Durability:
    """Compare the store's configuration with what "nothing acknowledged is ever lost" needs.

    Args:
        store: an open store.
        durability: "disk": refuse a store that may lose something; "memory": look, but do not refuse;
            "assumed": do not even look, where CONFIG is forbidden.

    Raises:
        ConfigError: "disk" and the store is not durable; the message holds the lines that make it so.
    """
    if durability == "assumed":
        return Durability(mode=durability, problems=(), fix=())
    found = _judge(await _configuration(store), client=_client(store.url), mode=durability)
    if durability == "disk" and found.problems:
        lines = "\n".join(f"  {line}" for line in found.fix)
        reasons = "; ".join(found.problems)
        raise ConfigError(
            f"the store at {shown(store.url)} may lose what it acknowledged: {reasons}. Type:\n{lines}\n"
            'or set store.durability = "memory" if losing incidents is acceptable'
        )
    return found


async def _configuration(store: Store) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        async with reaching(store):
            for name in (*_WANTED, "maxmemory"):
                reply = await store.redis.config_get(name)
                found |= {_text(key): _text(value) for key, value in reply.items()}
    except redis.exceptions.ResponseError as error:
        raise ConfigError(
            f"the store at {shown(store.url)} does not let us read its configuration ({error}): make sure that it has "
            "appendonly yes, appendfsync always, maxmemory-policy noeviction and a maxmemory, then set "
            'store.durability = "assumed"'
        ) from error
    return found


def _text(word: str | bytes | None) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


def _judge(configuration: dict[str, str], *, client: str, mode: Mode) -> Durability:
    problems, fix = [], []
    for name, (wanted, problem) in _WANTED.items():
        value = configuration.get(name, "unknown")
        if value != wanted:
            problems.append(problem.format(value=value))
            fix.append(f"{client} CONFIG SET {name} {wanted}")
    if configuration.get("maxmemory", "0") == "0":
        problems.append("its size is not limited, so we cannot stop in time (maxmemory is 0)")
        fix.append(f"{client} CONFIG SET maxmemory 1gb")
    if fix:
        fix.append(f"{client} CONFIG REWRITE")
    return Durability(mode=mode, problems=tuple(problems), fix=tuple(fix))


def _client(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"redis-cli -s {parts.path}"
    return f"redis-cli -u {shown(url)}"
