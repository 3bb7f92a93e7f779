"""A consumer of webhook events that records what came and answers as a test says, and the worker that delivers."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

from aiohttp import web

from bridge.clients.endpoint import EndpointClient
from bridge.pipeline.deliver_events import Deliveries, fan_out
from bridge.policy.change import Change, Event, Put, Queue, Sent
from bridge.policy.consumers import Endpoint
from bridge.store import keys, load
from bridge.store.commit import Lease, commit
from bridge.store.connect import Store
from bridge.worker.outgoing import CourseKind, LaneKind, OutgoingStories, drain_outgoing

HOST = "a.test"
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="


@dataclass(frozen=True)
class Came:
    """One POST as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)


@dataclass
class Consumer:
    """`answers` says by path what to answer: a status, or what to wait for first."""

    port: int = 0
    came: list[Came] = field(default_factory=list)
    answers: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = field(default_factory=dict)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.came.append(Came(request.path, headers, await request.read()))
        answer = self.answers.get(request.path)
        return await answer(request) if answer else web.Response(status=204)

    def at(self, path: str) -> list[Came]:
        return [one for one in self.came if one.path == path]


def always(status: int, **more: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, **more)

    return answer


@contextlib.asynccontextmanager
async def consuming() -> AsyncIterator[Consumer]:
    consumer = Consumer()
    app = web.Application()
    app.router.add_post("/{path:.*}", consumer.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    consumer.port = runner.addresses[0][1]
    yield consumer
    await runner.cleanup()


async def add(store: Store, url: str, *, id: str = "ep_a", **more: Any) -> Endpoint:
    endpoint = Endpoint(id=id, url=url, hosts=(HOST,), secret=SECRET, created_at=datetime.now(UTC), **more)
    await commit(store, Change(puts=(Put(None, endpoint),)))
    return endpoint


async def happen(store: Store, *ids: str, type: str = "incident.reported", **data: Any) -> None:
    now = datetime.now(UTC)
    body = {"schema": "incident-bridge/1", "peer": {"domain": "b.test", "quarantined": False}, **data}
    events = (
        Event(host=HOST, id=one, type=type, timestamp=now, data={**body, "event_id": one}) for one in ids
    )
    await commit(store, Change(events=tuple(events)))


async def endpoint(store: Store, id: str = "ep_a") -> Endpoint:
    name = keys.endpoint(id)
    found = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(found, Endpoint)
    return found


@contextlib.asynccontextmanager
async def delivering(
    store: Store,
    *,
    timeout_seconds: float = 15,
    clock: Callable[[], datetime] | None = None,
    public_url: str = "https://bridge.example",
) -> AsyncIterator[None]:
    """Run the drain of `outgoing` in this process, as the worker does."""
    async with EndpointClient(
        allow_networks=[ip_network("127.0.0.0/8")], timeout_seconds=timeout_seconds, max_connections=1000
    ) as client:

        async def fan(lane: str, items: Sequence[bytes]) -> Sent:
            return await fan_out(store, lane.partition(":")[2], items, now=datetime.now(UTC))

        def course(lane: str) -> Deliveries:
            return Deliveries(
                store=store,
                client=client,
                endpoint_id=lane.partition(":")[2],
                public_url=public_url,
                clock=clock or (lambda: datetime.now(UTC)),
                chance=random.random,
            )

        async def set_aside(lease: Lease) -> None:
            raise AssertionError(lease)

        async def note(_: str, items: Sequence[bytes]) -> Sent:
            notes = tuple(("told", json.loads(item)["text"]) for item in items)
            return Sent(len(items), Change(counts=notes))

        stories = OutgoingStories(
            kinds={
                "host": LaneKind(call=note, items_per_call=64),
                "events": LaneKind(call=fan, items_per_call=64),
                "endpoint": CourseKind(open=course),
            },
            set_aside=set_aside,
        )
        stop = asyncio.Event()

        async def drain(queue: Queue) -> None:
            while not stop.is_set():
                await drain_outgoing(store, queue, "d", stop, stories)

        draining = [asyncio.create_task(drain(queue)) for queue in (Queue.OUTGOING, Queue.DELIVERIES)]
        yield
        stop.set()
        await asyncio.gather(*draining)


async def until(condition: Callable[[], Any], *, seconds: float = 10) -> Any:
    """Wait until the condition holds; it may be a coroutine function."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
