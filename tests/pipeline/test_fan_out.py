"""Events handed on while endpoints come and change, and attempts that meet what others do to their delivery."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from bridge.pipeline import deliver_events
from bridge.pipeline.deliver_events import Deliveries, fan_out
from bridge.pipeline.retain import forget_deliveries
from bridge.policy import lanes
from bridge.policy.change import Change, Put
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Fanout, delivery_id
from bridge.policy.deliver import Tried, first
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.consumer import HOST, add, consuming, delivering, endpoint, happen, until

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BELL = [b'{"id":"bell"}']


def handed_on(change: Change) -> list[tuple[str, int]]:
    return [(one.lane, one.item["sequence"]) for one in change.appends]


async def test_an_endpoint_added_while_events_are_handed_on_gets_what_happened_after_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store, "https://first.test/")
    await happen(store, "e1")
    original = load.events

    async def meanwhile(*arguments: Any, **more: Any) -> Any:
        monkeypatch.undo()
        await add(store, "https://second.test/", id="ep_b", since={HOST: 1})
        await happen(store, "e2")
        return await original(*arguments, **more)

    monkeypatch.setattr(deliver_events.load, "events", meanwhile)
    sent = await fan_out(store, HOST, BELL, now=NOW)
    assert ("endpoint:ep_b", 2) in handed_on(sent.change)


async def test_events_from_before_every_endpoint_are_passed_over_at_once(store: Store) -> None:
    await happen(store, *(f"e{n}" for n in range(1, 301)))
    await add(store, "https://a.test/", since={HOST: 299})
    sent = await fan_out(store, HOST, BELL, now=NOW)
    assert (sent.count, handed_on(sent.change)) == (0, [])
    await commit(store, sent.change)
    assert handed_on((await fan_out(store, HOST, BELL, now=NOW)).change) == [("endpoint:ep_a", 300)]


async def test_one_commit_hands_on_no_more_than_the_store_can_bear(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_events, "_APPENDS_AT_ONCE", 5)
    for letter in "abc":
        await add(store, f"https://{letter}.test/", id=f"ep_{letter}")
    await happen(store, *(f"e{n}" for n in range(1, 5)))
    found: list[tuple[str, int]] = []
    for _ in range(4):
        sent = await fan_out(store, HOST, BELL, now=NOW)
        found += handed_on(sent.change)
        await commit(store, sent.change)
        assert len(sent.change.appends) <= 5
    assert sent.count == 1
    assert sorted(found) == sorted((f"endpoint:ep_{e}", n) for e in "abc" for n in range(1, 5))
    assert await fan_out(store, HOST, BELL, now=NOW) == deliver_events.Sent(1, Change())
    name = keys.fanout(HOST)
    assert (await load.fetch(store, names=[name])).records[name] == Fanout(host=HOST, sequence=4, version=4)


async def test_what_waits_for_an_endpoint_that_fails_for_long_is_bounded_and_the_rest_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deliver_events, "_MOST_WAITING", 3)
    await add(store, "https://a.test/", failing_since=NOW - timedelta(minutes=61))
    await add(store, "https://b.test/", id="ep_b", failing_since=NOW - timedelta(minutes=59))
    await happen(store, "e1", "e2")
    await commit(store, (await fan_out(store, HOST, BELL, now=NOW)).change)
    await happen(store, "e3", "e4", "e5")
    await happen(store, "t", type="endpoint.test", endpoint_id="ep_a")

    change = (await fan_out(store, HOST, BELL, now=NOW)).change

    assert [number for lane, number in handed_on(change) if lane == "endpoint:ep_a"] == [3, 6]
    assert [number for lane, number in handed_on(change) if lane == "endpoint:ep_b"] == [3, 4, 5]
    assert change.counts == (("deliveries", "left"),) * 2
    (told,) = [one for one in caplog.records if "too much waits" in one.getMessage()]
    fourth = (await load.events(store, HOST, after=3, limit=1))[0][1]["timestamp"]
    assert vars(told)["fields"] | {"endpoint": "ep_a", "count": 2} == vars(told)["fields"]
    assert f"--endpoint ep_a --since {fourth}" in vars(told)["fields"]["command"]
    await commit(store, change)
    assert await store.redis.hget(keys.COUNTERS, json.dumps(("deliveries", "left"))) == b"2"
    assert (await fan_out(store, HOST, BELL, now=NOW)).change == Change()


def course_of(store: Store) -> Deliveries:
    return Deliveries(
        store=store,
        client=None,  # type: ignore[arg-type] # nothing is posted
        endpoint_id="ep_a",
        public_url="",
        clock=lambda: datetime.now(UTC),
        chance=lambda: 0.5,
    )


async def test_an_attempt_counts_although_its_delivery_was_queued_again_meanwhile(store: Store) -> None:
    await add(store, "https://a.test/")
    await happen(store, "e1")
    event = (await load.events(store, HOST, after=0, limit=1))[0][1]
    failed = first("ep_a", event, host=HOST, now=datetime.now(UTC))
    await commit(store, Change(puts=(Put(None, failed),)))
    early, late = (
        json.dumps(lanes.deliver("ep_a", HOST, 1, nonce=nonce).item).encode() for nonce in ("", "-r")
    )
    course = course_of(store)
    await course.load([early])  # its attempt is in flight, when somebody queues the delivery again
    await commit(store, Change(puts=(Put(replace(failed, version=1), replace(failed, tries=0)),)))
    nothing = await (await course.prepare([late]))[late]()
    took = Tried(attempt=Attempt(at=datetime.now(UTC), duration_ms=1, status=204))
    done = {late: nothing, early: took}
    await course.load(list(done))  # because the commit of both found the delivery changed
    await commit(store, course.settle(done))
    name = keys.delivery(delivery_id("ep_a", HOST, 1))
    found = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(found, Delivery)
    assert (found.state, [one.status for one in found.attempts]) == (DeliveryState.DELIVERED, [204])


def slowly(status: int) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Answer so late that a lane of 60 takes a second and a half."""

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response(status=status)

    return answer


async def dead(store: Store) -> int:
    return int(await store.redis.zcard(keys.deliveries_with_state("ep_a", DeliveryState.DEAD)))


async def test_after_a_410_only_what_was_in_flight_is_sent(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        consumer.answers["/x"] = slowly(410)
        await add(store, consumer.url("/x"))
        await happen(store, *(f"e{n}" for n in range(60)))
        await until(lambda: _is(dead(store), 60))
        assert len(consumer.came) < 40


async def _is(number: Any, expected: int) -> bool:
    return bool(await number == expected)


@pytest.mark.parametrize("change", [{"disabled_reason": "enough"}, {"hosts": ("other.test",)}])
async def test_what_an_operator_takes_from_an_endpoint_stops_although_its_lane_is_at_work(
    store: Store, change: dict[str, Any]
) -> None:
    async with consuming() as consumer, delivering(store, timeout_seconds=10):
        consumer.answers["/x"] = slowly(200)
        await add(store, consumer.url("/x"))
        await happen(store, *(f"e{n}" for n in range(60)))
        await until(lambda: len(consumer.came) >= deliver_events.AT_ONCE)
        before = await endpoint(store)
        await commit(store, Change(puts=(Put(before, replace(before, **change)),)))

        async def is_empty() -> bool:
            return not await store.redis.exists("ib:lanes:outgoing", "ib:lanes:deliveries")

        await until(is_empty)
        assert len(consumer.came) < 40
        assert await dead(store) == 60 - len(consumer.came)


async def test_a_delivery_that_is_still_tried_outlives_its_time(store: Store) -> None:
    now = datetime.now(UTC)
    old = first("ep_a", {"id": "e", "type": "t", "data": {"sequence": 1}}, host=HOST, now=now - 9 * DAY)
    waits = replace(old, id="waits", next_at=now + DAY / 2)
    nobodys = replace(old, id="nobodys", next_at=now - 2 * DAY)
    await commit(store, Change(puts=(Put(None, waits), Put(None, nobodys))))
    assert await forget_deliveries(store, days=1, now=now) == 1
    assert await store.redis.zrange(keys.DELIVERIES, 0, -1) == [b"waits"]
