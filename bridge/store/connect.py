"""Reach the store: one connection pool, the scripts, and what an unreachable store looks like to everybody else.

House rules: whatever Redis says when it is away, busy, full or a replica leaves this folder as `UnavailableError`;
a URL is never shown with its password. Where Sentinel looks after several servers, nothing counts as stored before a
replica has it (`run_stored`).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import hiredis
import redis
from redis import Redis as BlockingRedis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import ConnectionPool as BlockingPool
from redis.retry import Retry as PlainRetry

from bridge.errors import ConfigError, StoreConfigError, UnavailableError
from bridge.store.place import Place, read, shown
from bridge.store.sentinel import (
    BlockingPrimary,
    Primary,
    Sentinels,
    TlsBlockingPrimary,
    TlsPrimary,
    check_role,
    check_role_blocking,
)

_RETRIES: Final = 20  # with the backoff below: carries a worker over a store restart of about 15 s
_BACKOFF: Final = ExponentialWithJitterBackoff(base=0.05, cap=1)
# With sentinels: soon at the new primary; patience ends it.
_OFTEN: Final = 100
_SOON: Final = ExponentialWithJitterBackoff(base=0.05, cap=0.3)
PATIENCE_SECONDS: Final = 25  # above every blocking call; time for the retries
ENQUEUE_SECONDS: Final = 2  # for RQ's connection where it never blocks
CONNECT_SECONDS: Final = 5
REPLICA_SECONDS: Final = 1  # how long a replica may take to have what the primary has
_AWAY: Final = (
    redis.exceptions.ConnectionError,  # refused, reset, loading, and no free connection in time
    redis.exceptions.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.NoScriptError,  # it was sent just now: the store began anew in between
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
        sentinels: who says where the primary is; None: there is one server.
    """

    redis: Redis
    jobs: BlockingRedis
    scripts: dict[Script, Any]
    url: str
    patience_seconds: float
    sentinels: Sentinels | None = None


@cache
def script_text(name: str) -> str:
    """A script as it is sent: what all begin with, then its own; read once, before a worker forks."""
    folder = files("bridge.store") / "scripts"
    return (folder / "library.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8")


def job_connection(url: str, *, retries: int = _RETRIES, seconds: float = PATIENCE_SECONDS) -> BlockingRedis:
    """A connection for RQ, which speaks the blocking client only; `seconds` must exceed what it blocks for."""
    place = read(url)
    usual: dict[str, Any] = {"socket_timeout": seconds, "retry": PlainRetry(_BACKOFF, retries)}
    if not place.sentinels:
        return BlockingRedis.from_url(place.url, socket_connect_timeout=CONNECT_SECONDS, **usual)
    pool = BlockingPool.from_url(
        place.url,
        place=place,
        socket_connect_timeout=REPLICA_SECONDS,
        redis_connect_func=check_role_blocking,
        **usual,
    )
    pool.connection_class = TlsBlockingPrimary if url.startswith("sentinels:") else BlockingPrimary
    return BlockingRedis.from_pool(pool)


class _Packing:
    """Commands written in C; redis-py does that for its blocking client only, and a commit has hundreds of words."""

    def pack_command(self, *args: Any) -> list[bytes]:
        first, *rest = args
        words = (*first.split(), *rest) if isinstance(first, str) and " " in first else args
        return [hiredis.pack_command(words)]


class _Tcp(_Packing, Connection): ...


class _Tls(_Packing, SSLConnection): ...


class _Unix(_Packing, UnixDomainSocketConnection): ...


class _Primary(_Packing, Primary): ...


class _TlsPrimary(_Packing, TlsPrimary): ...


_CONNECTIONS: Final[dict[str, type[Connection]]] = {
    "redis": _Tcp,
    "rediss": _Tls,
    "unix": _Unix,  # type: ignore[dict-item]  # shares a base only
    "sentinel": _Primary,
    "sentinels": _TlsPrimary,
}


async def open_store(url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> Store:
    """Open the store and see that it answers.

    Args:
        url: see `place`.
        patience_seconds: see `Store`; a service that must answer soon gives a few seconds.

    Raises:
        ConfigError: the URL is not one, or the store refuses its credentials.
        UnavailableError: nothing answers there.
    """
    try:
        place = read(url)
        jobs = job_connection(url, retries=1, seconds=ENQUEUE_SECONDS)  # `recover` does what fails here
        sentinels = Sentinels(place) if place.sentinels else None
        pool = _pool(url, place, sentinels, patience_seconds=patience_seconds)
    except ValueError as error:
        raise ConfigError(f"store.url {shown(url)!r} is not usable: {error}") from error
    client: Redis = Redis.from_pool(pool)
    scripts = {name: client.register_script(script_text(name)) for name in Script}
    store = Store(
        redis=client,
        jobs=jobs,
        scripts=scripts,
        url=url,
        patience_seconds=patience_seconds,
        sentinels=sentinels,
    )
    try:
        async with reaching(store):
            if sentinels is not None:
                await sentinels.primary()  # says what is wrong at once, where `ping` would try again
            await client.ping()
    except BaseException:
        await close(store)
        raise
    return store


def _pool(
    url: str, place: Place, sentinels: Sentinels | None, *, patience_seconds: float
) -> BlockingConnectionPool:
    options: dict[str, Any] = {
        **parse_url(place.url),
        "connection_class": _CONNECTIONS[urlsplit(url).scheme],
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(_BACKOFF, _RETRIES),
    }
    if sentinels is not None:
        options |= {
            "sentinels": sentinels,
            "redis_connect_func": check_role,
            "socket_connect_timeout": REPLICA_SECONDS,
            "retry": Retry(_SOON, _OFTEN),
        }
    return BlockingConnectionPool(
        max_connections=100,
        timeout=patience_seconds,
        protocol=3,
        socket_timeout=None,  # with one, redis-py calls `asyncio.wait_for`, which loses cancellations before 3.12
        **options,
    )


async def close(store: Store) -> None:
    """Close every connection; the store object is of no use afterwards."""
    await store.redis.aclose()
    store.jobs.close()
    if store.sentinels is not None:
        await store.sentinels.aclose()


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
                f"the store at {shown(store.url)} refuses the name or password in store.url: {error}"
            ) from error
        raise UnavailableError(f"the store at {shown(store.url)} does not answer: {error}") from error
    except TimeoutError as error:
        problem = store.sentinels.problem if store.sentinels else ""
        why = f": {problem}" if problem else ""
        raise UnavailableError(f"the store at {shown(store.url)} does not answer in time{why}") from error
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


async def run_stored(store: Store, script: Script, *arguments: str | bytes | float) -> Any:
    """Run one script whose answer is told to somebody: with sentinels, a replica has what it wrote before this returns.

    Raises:
        UnavailableError: no replica has it in time; it may or may not be stored.
    """
    if store.sentinels is None:
        return await run(store, script, *arguments)
    async with reaching(store):
        reply, replicas = await _run_and_wait(store, script, arguments)
    if replicas < 1:
        raise UnavailableError(
            f"no replica of the store at {shown(store.url)} has this within {REPLICA_SECONDS} s: "
            "it may or may not be stored"
        )
    return reply


async def _run_and_wait(
    store: Store, script: Script, arguments: tuple[str | bytes | float, ...]
) -> tuple[Any, int]:
    """Run the script and WAIT, in one round trip on one connection: WAIT speaks of its own connection only."""
    known = store.scripts[script]
    while True:
        async with store.redis.pipeline(transaction=False) as pipe:
            pipe.evalsha(known.sha, 0, *arguments)
            pipe.execute_command("WAIT", 1, round(REPLICA_SECONDS * 1000))
            reply, replicas = await pipe.execute(
                raise_on_error=False
            )  # its own errors quote the whole command
        if isinstance(reply, redis.exceptions.NoScriptError):
            await store.redis.script_load(known.script)
            continue
        for answer in (reply, replicas):
            if isinstance(answer, Exception):
                raise answer
        return reply, replicas


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
    found = Durability(mode=durability, problems=(), fix=())
    async for server, configuration in _configurations(store):
        problems, fix = _judge(configuration, server=server, has_replicas=store.sentinels is not None)
        found = replace(found, problems=found.problems + problems, fix=found.fix + fix)
    if durability == "disk" and found.problems:
        lines = "\n".join(f"  {line}" for line in found.fix)
        reasons = "; ".join(found.problems)
        raise ConfigError(
            f"the store at {shown(store.url)} may lose what it acknowledged: {reasons}. Type:\n{lines}\n"
            'or set store.durability = "memory" if losing incidents is acceptable'
        )
    return found


async def _configurations(store: Store) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """The URL and the configuration of the one server, or of the primary and each replica that can be asked."""
    if store.sentinels is None:
        yield store.url, await _configuration(store, store.redis)
        return
    async with reaching(store):
        servers = await store.sentinels.servers()
    for address in (servers.primary, *(one.address for one in servers.replicas if one.is_up)):
        url = read(store.url).server_url(address)
        async with Redis.from_url(url, socket_connect_timeout=REPLICA_SECONDS) as client:
            yield url, await _configuration(store, client)


async def _configuration(store: Store, client: Redis) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        async with reaching(store):
            for name in (*_WANTED, "maxmemory", "min-replicas-to-write"):
                reply = await client.config_get(name)
                found |= {_text(key): _text(value) for key, value in reply.items()}
    except redis.exceptions.ResponseError as error:
        raise ConfigError(
            f"the store at {shown(store.url)} does not let us read its configuration ({error}): make sure that it has "
            "appendonly yes, appendfsync always, maxmemory-policy noeviction and a maxmemory (and, with Sentinel, "
            'min-replicas-to-write 1), then set store.durability = "assumed"'
        ) from error
    return found


def _text(word: str | bytes | None) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


def _judge(
    configuration: dict[str, str], *, server: str, has_replicas: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is wrong with one server, and what to type."""
    client, problems, fix = _client(server), [], []
    for name, (wanted, problem) in _WANTED.items():
        value = configuration.get(name, "unknown")
        if value != wanted:
            problems.append(problem.format(value=value))
            fix.append(f"{client} CONFIG SET {name} {wanted}")
    if configuration.get("maxmemory", "0") == "0":
        problems.append("its size is not limited, so we cannot stop in time (maxmemory is 0)")
        fix.append(f"{client} CONFIG SET maxmemory 1gb")
    if has_replicas and configuration.get("min-replicas-to-write", "0") == "0":
        problems.append("it goes on as a second primary when it is cut off (min-replicas-to-write is 0)")
        fix.append(f"{client} CONFIG SET min-replicas-to-write 1")
    if fix:
        fix.append(f"{client} CONFIG REWRITE")
    where = f"at {urlsplit(server).netloc.rpartition('@')[2]} " if has_replicas else ""
    return tuple(where + problem for problem in problems), tuple(fix)


def _client(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"redis-cli -s {parts.path}"
    return f"redis-cli -u {shown(url)}"
