"""Redis Sentinel: connections that ask, each time they are made, which server is the primary now.

How it works: before every connect the sentinels are asked, and the word of the one that knows of the latest
failover counts. A server that says that it is no primary, or no longer one, is left at once, and the command is tried
again where the primary is (redis-py's own classes go back to the old address). Four times a second `Sentinels` asks
anyway: connections to a primary that is frozen or cut off would otherwise wait for as long as it is.

House rule: `abandon` and `_connect` are the only places that look inside redis-py.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis as BlockingRedis
from redis import connection as blocking
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,  # noqa: A004 redis-py's name
    MasterDownError,
    ReadOnlyError,
    RedisError,
)
from redis.retry import Retry as PlainRetry

from bridge.store.place import Address, Place, at

ASK_SECONDS: Final = 0.5  # how long a sentinel may take
GRACE_SECONDS: Final = 0.05  # how long all may take where most have answered
WATCH_SECONDS: Final = 0.25
# The address is the new one as soon as it is decided, what MASTER tells a second later; but only MASTER has the epoch.
_WHERE: Final = ("GET-MASTER-ADDR-BY-NAME", "MASTER")
_LEFT: Final = ("NOREPLICAS", "UNBLOCKED")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one sentinel says; `epoch` counts failovers."""

    primary: Address
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A replica as the sentinels saw it when they last looked; up to 10 s ago."""

    address: Address
    is_up: bool
    is_following: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Who is who; `answering` of the `asked` sentinels said so."""

    primary: Address
    replicas: tuple[Replica, ...]
    answering: int
    asked: int


class Sentinels:
    """Asks the sentinels of one store, and drops connections to what is no longer its primary.

    Make and close it in a running event loop.

    Attributes:
        problem: why nobody knew where the primary is when they were last asked; "" if somebody did.
    """

    def __init__(self, place: Place) -> None:
        self.problem = ""
        self._place = place
        self._clients = [_client(place, address) for address in place.sentinels]
        self._connections: weakref.WeakSet[Primary] = weakref.WeakSet()
        self._asking: asyncio.Task[View] | None = None
        self._watching = asyncio.create_task(self._watch())

    async def primary(self) -> Address:
        """Where the primary is now; who asks while others wait for the answer gets the same.

        Raises:
            ConnectionError: no sentinel knows.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_heed)
        view = await asyncio.shield(self._asking)
        return view.primary

    async def servers(self) -> Servers:
        """Who is who now."""
        primary = await self.primary()
        answers = await self._call(("REPLICAS",))
        known = [one[0] for one in answers if isinstance(one, list)]
        rows: list[Any] = max(known, key=len, default=[])
        return Servers(
            primary=primary,
            replicas=tuple(sorted((_replica(row) for row in rows), key=lambda one: one.address)),
            answering=len(known),
            asked=len(answers),
        )

    def joined(self, connection: "Primary") -> None:
        """Note a connection, to drop it when the primary is another."""
        self._connections.add(connection)

    async def aclose(self) -> None:
        """End; the sentinels' connections are closed."""
        tasks = [self._watching, *([self._asking] if self._asking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients:
            await client.aclose()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with contextlib.suppress(RedisError):
                await self.primary()

    async def _ask(self) -> View:
        answers = await self._call(_WHERE)
        try:
            view = _latest(self._place, answers)
        except RedisError as error:
            self.problem = str(error)
            raise
        self.problem = ""
        for connection in list(self._connections):
            if (connection.host, connection.port) != view.primary:
                connection.abandon()
        return view

    async def _call(self, words: Sequence[str]) -> list[Any]:
        """For each sentinel what it says to each of these, or why it says nothing."""

        async def call(client: Redis) -> Any:
            async with asyncio.timeout(ASK_SECONDS), client.pipeline(transaction=False) as pipe:
                for word in words:
                    pipe.execute_command("SENTINEL", word, self._place.name)
                return await pipe.execute()

        calls = [asyncio.create_task(call(client)) for client in self._clients]
        try:
            while not (self._is_most(calls) or all(one.done() for one in calls)):
                await asyncio.wait(calls, timeout=GRACE_SECONDS)
        finally:
            for one in calls:
                one.cancel()
        return await asyncio.gather(*calls, return_exceptions=True)

    def _is_most(self, calls: Sequence[asyncio.Task[Any]]) -> bool:
        """Whether most sentinels have answered; one that is away must not hold up everybody."""
        return sum(one.done() and one.exception() is None for one in calls) > len(calls) // 2


def _heed(asking: asyncio.Task[View]) -> None:
    """Look at what became of it, should everybody who waited be gone."""
    if not asking.cancelled():
        asking.exception()


def _client(place: Place, address: Address) -> Redis:
    return Redis.from_url(
        place.sentinel_url(address),
        protocol=2,
        socket_timeout=None,
        socket_connect_timeout=ASK_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _latest(place: Place, answers: Sequence[Any]) -> View:
    """The view of whoever knows of the latest failover.

    Raises:
        AuthenticationError: every sentinel refuses us.
        ConnectionError: none of them knows.
    """
    views = [_view(answer) for answer in answers if isinstance(answer, list)]
    if views:
        return max(views, key=lambda view: view.epoch)
    told = zip(place.sentinels, answers, strict=True)
    reasons = "; ".join(f"{at(address)}: {_reason(answer)}" for address, answer in told)
    text = f"no sentinel knows the primary of {place.name} ({reasons})"
    refused = all(isinstance(answer, AuthenticationError) for answer in answers)
    raise AuthenticationError(text) if refused else ConnectionError(text)


def _reason(answer: object) -> str:
    is_silent = isinstance(answer, TimeoutError | asyncio.CancelledError)
    return "no answer" if is_silent else str(answer)


def _fields(row: list[Any]) -> dict[str, str]:
    words = [word.decode() if isinstance(word, bytes) else str(word) for word in row]
    return dict(zip(words[::2], words[1::2], strict=True))


def _view(answers: list[Any]) -> View:
    host, port = answers[0]
    return View(primary=(host.decode(), int(port)), epoch=int(_fields(answers[1])["config-epoch"]))


def _replica(row: list[Any]) -> Replica:
    found = _fields(row)
    return Replica(
        address=(found["ip"], int(found["port"])),
        is_up=not {"s_down", "o_down", "disconnected"} & set(found["flags"].split(",")),
        is_following=found.get("master-link-status") == "ok",
    )


def _is_no_primary(error: RedisError) -> bool:
    """Whether this is what a server says that is no longer the primary, or is cut off from its replicas."""
    return isinstance(error, ReadOnlyError | MasterDownError) or str(error).startswith(_LEFT)


async def check_role(connection: Any) -> None:
    """Greet the server (redis-py's `redis_connect_func`), and leave it if it is not a primary."""
    await connection.on_connect()
    await connection.send_command("ROLE")
    _require_primary(await connection.read_response())


def check_role_blocking(connection: Any) -> None:
    """Greet the server like `check_role`, for the blocking client."""
    connection.on_connect()
    connection.send_command("ROLE")
    _require_primary(connection.read_response())


def _require_primary(role: list[Any]) -> None:
    if role[0] not in {b"master", "master"}:
        raise ConnectionError("the server is not the primary any longer")


class Primary(Connection):
    """A connection to whichever server is the primary when it connects."""

    def __init__(self, *, sentinels: Sentinels, **more: Any) -> None:
        super().__init__(**more)
        self._sentinels = sentinels

    async def _connect(self) -> None:
        self.host, self.port = await self._sentinels.primary()
        self._sentinels.joined(self)
        await super()._connect()  # type: ignore[no-untyped-call]  # redis-py has no types here

    async def read_response(self, *words: Any, **more: Any) -> Any:
        """Read a reply; one that says that this is not the primary ends the connection."""
        try:
            return await super().read_response(*words, **more)
        except RedisError as error:
            if not _is_no_primary(error):
                raise
            await self.disconnect(nowait=True)
            raise ConnectionError(str(error)) from error

    def abandon(self) -> None:
        """Cut the connection from under whoever waits for a reply; it is then tried again elsewhere."""
        if self._writer is not None:
            self._writer.transport.abort()


class TlsPrimary(Primary, SSLConnection):
    """The same over TLS."""


class BlockingPrimary(blocking.Connection):
    """The same for RQ, which speaks the blocking client only; asks the sentinels one after the other."""

    def __init__(self, *, place: Place, **more: Any) -> None:
        super().__init__(**more)  # type: ignore[no-untyped-call]  # redis-py has no types here
        self._place = place

    def _connect(self) -> Any:
        self.host, self.port = ask_blocking(self._place)
        return super()._connect()  # type: ignore[no-untyped-call]  # redis-py left it untyped

    def read_response(self, *words: Any, **more: Any) -> Any:
        """Read a reply; one that says that this is not the primary ends the connection."""
        try:
            return super().read_response(*words, **more)
        except RedisError as error:
            if not _is_no_primary(error):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]  # redis-py has no types here
            raise ConnectionError(str(error)) from error


class TlsBlockingPrimary(BlockingPrimary, blocking.SSLConnection):
    """The same over TLS."""


def ask_blocking(place: Place) -> Address:
    """Where the primary is now; asks until most sentinels have answered.

    Raises:
        ConnectionError: no sentinel knows.
    """
    answers: list[Any] = []
    for address in place.sentinels:
        client = BlockingRedis.from_url(
            place.sentinel_url(address),
            protocol=2,
            socket_timeout=ASK_SECONDS,
            socket_connect_timeout=ASK_SECONDS,
            retry=PlainRetry(NoBackoff(), 0),
        )
        try:
            answers.append([client.execute_command("SENTINEL", word, place.name) for word in _WHERE])  # type: ignore[no-untyped-call]  # redis-py has no types here
        except RedisError as error:
            answers.append(error)
        finally:
            client.close()
        if sum(isinstance(answer, list) for answer in answers) > len(place.sentinels) // 2:
            break
    answers += [ConnectionError("not asked")] * (len(place.sentinels) - len(answers))
    return _latest(place, answers).primary
