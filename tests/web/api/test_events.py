"""Events for consumers that fetch them: pages, long polls, and streams over a real connection."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from bridge.pipeline import tokens
from bridge.policy.change import Change, Event, Trim
from bridge.policy.consumers import Scope
from bridge.store import keys
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.web.app import serving
from bridge.web.streams import Pace
from tests.pipeline.consumer import until
from tests.web.api.conftest import ADMIN, HOST, OTHER, Api, blamed, make_token
from tests.web.api.test_schemathesis import settings

FAST = Pace(poll_seconds=0.02, check_seconds=0.1, keep_alive_seconds=0.2, write_seconds=0.5)


async def happen(store: Store, count: int = 1, *, host: str = HOST, size: int = 0, **more: Any) -> None:
    """Let events happen; `size` makes their data larger."""
    peer = {"domain": more.get("peer", "peer.test"), "quarantined": more.get("quarantined", False)}
    at = datetime.now(UTC)
    data = {"host": host, "peer": peer, "links": {"self": "/api/v1/incidents/x"}, "more": "x" * size}
    events = tuple(
        Event(host=host, id=f"e{n}", type=more.get("type", "incident.reported"), timestamp=at, data=data)
        for n in range(count)
    )
    await commit(store, Change(events=events))


async def forget(store: Store, before: int, host: str = HOST) -> None:
    await commit(store, Change(trims=(Trim(host=host, sequence=before),)))


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["data"]["sequence"] for event in events]


@pytest.fixture
async def one(api: Api) -> Api:
    """A client whose token sees one host, so that it need not say which."""
    api.service.streams.pace = FAST
    return await api.with_token(Scope.READ, hosts=(HOST,))


async def test_the_cursor_walks_all_events_oldest_first(one: Api, store: Store) -> None:
    await happen(store, 7)
    found, after = [], "0"
    while True:
        page = (await one("GET", f"/events?limit=3&after={after}")).body
        found += numbers(page["events"])
        assert page["missed"] is None
        after = page["next"]
        if not page["more"]:
            break
    assert found == [1, 2, 3, 4, 5, 6, 7]
    assert (await one("GET", f"/events?after={after}")).body == {
        "events": [],
        "next": 7,
        "more": False,
        "missed": None,
    }


async def test_an_event_is_what_a_webhook_says_with_its_id(one: Api, store: Store) -> None:
    settings = one.service.settings
    server = settings.server.model_copy(update={"public_url": "https://bridge.test"})
    one.service.settings = replace(settings, server=server)
    await happen(store)
    (event,) = (await one("GET", "/events")).body["events"]
    assert set(event) == {"id", "type", "timestamp", "data"}
    assert (event["id"], event["type"]) == ("e0", "incident.reported")
    assert event["data"]["links"]["self"] == "https://bridge.test/api/v1/incidents/x"


async def test_a_consumer_that_was_away_too_long_is_told_what_it_missed(one: Api, store: Store) -> None:
    await happen(store, 10)
    await forget(store, 6)
    page = (await one("GET", "/events?after=2&limit=2")).body
    assert (page["missed"], numbers(page["events"])) == ({"from": 3, "to": 5}, [6, 7])
    page = (await one("GET", "/events?after=7")).body
    assert (page["missed"], numbers(page["events"])) == (None, [8, 9, 10])
    assert numbers((await one("GET", "/events")).body["events"])[0] == 6
    assert (await one("GET", "/events")).body["missed"] is None


async def test_nothing_left_is_missed_too(one: Api, store: Store) -> None:
    await happen(store, 3)
    await forget(store, 4)
    assert (await one("GET", "/events?after=1")).body == {
        "events": [],
        "next": 3,
        "more": False,
        "missed": {"from": 2, "to": 3},
    }


async def test_now_is_after_all_that_happened(one: Api, store: Store) -> None:
    await happen(store, 3)
    page = (await one("GET", "/events?after=now")).body
    assert (page["events"], page["next"]) == ([], 3)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("type=incident.resolved", [2]),
        ("peer=Other.test", [3]),
        ("quarantined=only", [4]),
        ("quarantined=include", [1, 2, 3, 4]),
        ("", [1, 2, 3]),
    ],
)
async def test_filters_leave_out_and_the_cursor_passes_by(
    one: Api, store: Store, query: str, expected: list[int]
) -> None:
    await happen(store)
    await happen(store, type="incident.resolved")
    await happen(store, peer="other.test")
    await happen(store, quarantined=True)
    page = (await one("GET", f"/events?{query}")).body
    assert (numbers(page["events"]), page["next"]) == (expected, 4)


async def test_a_filter_that_finds_nothing_gives_up_for_now_and_says_where(one: Api, store: Store) -> None:
    for _ in range(11):
        await happen(store, 100)
    page = (await one("GET", "/events?peer=other.test")).body
    assert (page["events"], page["next"], page["more"]) == ([], 1000, True)


async def test_large_events_come_in_smaller_pages(one: Api, store: Store) -> None:
    await happen(store, 10, size=1024 * 1024)
    page = (await one("GET", "/events?limit=200")).body
    assert 4 <= len(page["events"]) < 10
    assert page["more"]


async def test_a_token_of_several_hosts_says_which(api: Api, store: Store) -> None:
    await happen(store, host=OTHER)
    assert blamed(await api("GET", "/events")) == ["host"]
    assert len((await api("GET", f"/events?host={OTHER}")).body["events"]) == 1
    assert (await api("GET", f"/events?host={HOST}")).body["events"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=-1", "after"),
        ("after=1.5", "after"),
        ("after=yesterday", "after"),
        ("after=٣", "after"),
        ("after=99999999999999999999", "after"),
        ("after=5", "after"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("wait_seconds=61", "wait_seconds"),
        ("type=incident.eaten", "type"),
        ("peer=a%20b", "peer"),
        ("quarantined=maybe", "quarantined"),
        (f"host={OTHER}", "host"),
        ("since=3", "since"),
        ("after=1&after=2", "after"),
    ],
)
async def test_a_bad_query_is_refused_by_its_name_and_so_is_its_stream(
    one: Api, store: Store, query: str, field: str
) -> None:
    await happen(store, 4)
    for accept in ("application/json", "text/event-stream"):
        reply = await one("GET", f"/events?{query}", headers={"Accept": accept})
        assert reply.status == 400
        assert blamed(reply) == [field]


async def test_a_long_poll_is_answered_when_something_happens(one: Api, store: Store) -> None:
    asked = asyncio.create_task(one("GET", "/events?after=0&wait_seconds=60&peer=other.test"))
    await until(lambda: HOST in one.service.streams.feeds)
    await happen(store)
    await happen(store, peer="other.test")
    async with asyncio.timeout(10):
        page = (await asked).body
    assert numbers(page["events"]) == [2]
    assert one.service.streams.taken == {}
    assert one.service.streams.feeds == {}


async def test_a_long_poll_ends_with_nothing_when_its_time_is_over(one: Api) -> None:
    assert (await one("GET", "/events?wait_seconds=1")).body["events"] == []


async def revoke(one: Api) -> None:
    token = await tokens.find(one.store, one.token, now=datetime.now(UTC))
    assert token is not None
    await tokens.revoke(one.store, token, actor=ADMIN, now=datetime.now(UTC))


async def test_a_long_poll_of_a_token_that_is_revoked_meanwhile_is_refused(one: Api) -> None:
    asked = asyncio.create_task(one("GET", "/events?wait_seconds=60"))
    await until(lambda: HOST in one.service.streams.feeds)
    await revoke(one)
    async with asyncio.timeout(10):
        assert (await asked).status == 401


@dataclass
class Sse:
    """A stream of server-sent events, read as EventSource does."""

    response: ClientResponse
    last_id: str = ""
    comments: int = 0
    fields: dict[str, str] = field(default_factory=dict)

    async def next(self) -> dict[str, str] | None:
        """The next event with data; None: the stream ended."""
        async with asyncio.timeout(10):
            while line := await self.response.content.readline():
                text = line.decode().rstrip("\n")
                if text:
                    name, _, value = text.partition(": ")
                    self.comments += name == ""
                    self.fields[name] = value
                    continue
                found, self.fields = self.fields, {}
                self.last_id = found.get("id", self.last_id)
                if "data" in found:
                    return found
        return None

    async def events(self, count: int) -> list[int]:
        found = [await self.next() for _ in range(count)]
        return [json.loads(one["data"])["data"]["sequence"] for one in found if one]


Open = Callable[..., Any]


@pytest.fixture
def stream(one: Api) -> Open:
    @contextlib.asynccontextmanager
    async def begin(query: str = "", token: str = "", **headers: str) -> AsyncIterator[Sse]:
        sent = {"Accept": "text/event-stream", "Authorization": f"Bearer {token or one.token}", **headers}
        async with one.client.get(f"/api/v1/events?{query}", headers=sent) as response:
            yield Sse(response)

    return begin


async def test_a_stream_tells_what_there_is_and_then_what_happens(stream: Open, store: Store) -> None:
    await happen(store, 2)
    async with stream("after=0") as sse:
        assert sse.response.headers["Content-Type"] == "text/event-stream"
        first = await sse.next()
        assert (first["id"], first["event"]) == ("1", "incident.reported")
        assert json.loads(first["data"])["id"] == "e0"
        assert await sse.events(1) == [2]
        for number in (3, 4):
            await happen(store)
            assert await sse.events(1) == [number]


async def test_a_stream_goes_on_where_the_last_one_ended(stream: Open, store: Store) -> None:
    await happen(store, 5)
    async with stream("after=0", **{"Last-Event-ID": "3"}) as sse:
        assert await sse.events(2) == [4, 5]
    async with stream(**{"Last-Event-ID": ""}) as sse:
        assert await sse.events(1) == [1]


async def test_a_stream_says_what_was_missed(stream: Open, store: Store) -> None:
    await happen(store, 5)
    await forget(store, 4)
    async with stream(**{"Last-Event-ID": "1"}) as sse:
        missed = await sse.next()
        assert (missed["event"], missed["id"], json.loads(missed["data"])) == (
            "missed",
            "3",
            {"from": 2, "to": 3},
        )
        assert await sse.events(2) == [4, 5]


@pytest.mark.parametrize("last_id", ["x", "-1", "99", "1e3", "9" * 20])
async def test_a_last_event_id_that_was_not_given_here_is_refused(stream: Open, last_id: str) -> None:
    async with stream(**{"Last-Event-ID": last_id}) as sse:
        assert sse.response.status == 400
        assert (await sse.response.json())["errors"][0]["field"] == "Last-Event-ID"


async def test_a_silent_stream_is_kept_alive_and_its_place_moves_on(stream: Open, store: Store) -> None:
    async with stream("peer=other.test") as sse:
        await happen(store, 3)
        waiting = asyncio.create_task(sse.next())
        await until(lambda: sse.comments > 0 and sse.last_id == "3")
        await happen(store, peer="other.test")
        assert (await waiting)["id"] == "4"


async def test_a_stream_ends_when_its_token_is_revoked(one: Api, stream: Open) -> None:
    async with stream() as sse:
        await revoke(one)
        assert await sse.next() is None
    async with stream() as sse:
        assert sse.response.status == 401
    await until(lambda: one.service.streams.taken == {})


async def test_a_stream_ends_when_the_store_is_another(stream: Open, store: Store) -> None:
    await happen(store, 3)
    async with stream("after=now") as sse:
        await store.redis.set(keys.sequence(HOST), 1)
        assert await sse.next() is None


async def test_streams_and_polls_end_when_the_service_does(one: Api, stream: Open) -> None:
    asked = asyncio.create_task(one("GET", "/events?wait_seconds=60"))
    async with stream() as sse:
        await until(lambda: one.service.streams.taken.total() == 2)
        one.service.streams.close()
        assert await sse.next() is None
        assert (await asked).status == 200
    async with stream() as sse:
        assert sse.response.status == 503


async def test_a_service_that_ends_does_not_wait_for_its_streams(store: Store) -> None:
    configured = settings(store)
    _, token = await make_token(store, (Scope.READ,))
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    async with contextlib.AsyncExitStack() as client:
        session = await client.enter_async_context(ClientSession())
        async with contextlib.AsyncExitStack() as service:
            await service.enter_async_context(serving(configured))
            url = f"http://{configured.server.listen}/api/v1/events"
            response = await client.enter_async_context(session.get(url, headers=headers))
            assert (await response.content.readline()) == b"retry: 5000\n"
            async with asyncio.timeout(4):  # it gives the others five
                await service.aclose()
        assert await Sse(response).next() is None


def bound(one: Api, **limits: int) -> None:
    settings = one.service.settings
    one.service.settings = replace(settings, server=settings.server.model_copy(update=limits))


async def test_a_token_has_only_so_many_streams(one: Api, stream: Open, store: Store) -> None:
    bound(one, event_connections_per_token=2)
    _, other = await make_token(store, (Scope.READ,), (HOST,))
    async with stream(), stream(), stream() as third, stream(token=other) as fourth:
        assert (third.response.status, fourth.response.status) == (429, 200)
        assert third.response.headers["Retry-After"] == "5"
        assert "server.event_connections_per_token" in (await third.response.json())["detail"]
        assert (await one("GET", "/events?wait_seconds=1")).status == 429
        assert (await one("GET", "/events")).status == 200
    await until(lambda: one.service.streams.taken == {})
    async with stream() as again:
        assert again.response.status == 200


async def test_all_tokens_together_have_only_so_many_streams(one: Api, stream: Open, store: Store) -> None:
    bound(one, event_connections=1)
    _, other = await make_token(store, (Scope.READ,), (HOST,))
    async with stream(), stream(token=other) as second:
        assert second.response.status == 503
        assert "server.event_connections" in (await second.response.json())["detail"]


async def test_a_consumer_that_goes_gives_its_place_back(one: Api, stream: Open) -> None:
    async with stream() as sse:
        await until(lambda: one.service.streams.taken.total() == 1)
        sse.response.close()
        await until(lambda: one.service.streams.taken == {} and one.service.streams.feeds == {})


async def test_a_reader_that_takes_nothing_is_dropped(one: Api, store: Store) -> None:
    for _ in range(8):
        await happen(store, 4, size=2 * 1024 * 1024)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)  # noqa: FBT003 - the socket's own signature
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", one.client.port))
        request = (
            f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {one.token}\r\n"
            "Accept: text/event-stream\r\n\r\n"
        )
        await loop.sock_sendall(slow, request.encode())
        await until(lambda: one.service.streams.taken.total() == 1)
        await until(lambda: one.service.streams.taken == {}, seconds=20)


async def test_a_head_request_gets_no_stream(one: Api) -> None:
    headers = {"Accept": "text/event-stream"}
    async with asyncio.timeout(10):
        assert (await one("HEAD", "/events?wait_seconds=60", headers=headers)).status == 200


async def test_one_look_at_the_store_serves_all_who_wait(one: Api, stream: Open, store: Store) -> None:
    async with stream() as first, stream() as second:
        await until(
            lambda: HOST in one.service.streams.feeds and one.service.streams.feeds[HOST].listeners == 2
        )
        await happen(store)
        found: list[Awaitable[list[int]]] = [first.events(1), second.events(1)]
        assert await asyncio.gather(*found) == [[1], [1]]
        assert len(one.service.streams.feeds) == 1
