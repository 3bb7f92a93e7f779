"""Events on their way to endpoints: a real consumer, a real store, the worker's own drain."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from bridge.pipeline import deliver_events
from bridge.pipeline.retain import forget_deliveries, trim_events
from bridge.policy.change import Change, Put
from bridge.policy.consumers import Delivery, DeliveryState, QuarantineFilter, delivery_id
from bridge.store import keys, lanes, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.consumer import (
    HOST,
    SECRET,
    add,
    always,
    consuming,
    delivering,
    endpoint,
    happen,
    until,
)

OLD = "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oDC2FVsBQIhrs="


async def delivery(store: Store, sequence: int, id: str = "ep_a") -> Delivery | None:
    name = keys.delivery(delivery_id(id, HOST, sequence))
    found = (await load.fetch(store, names=[name])).records[name]
    assert found is None or isinstance(found, Delivery)
    return found


async def in_state(store: Store, sequence: int, state: DeliveryState) -> Delivery | None:
    found = await delivery(store, sequence)
    return found if found is not None and found.state is state else None


async def test_an_event_arrives_signed_under_its_own_id_with_links_that_lead_somewhere(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        await add(store, consumer.url("/x"), headers={"X-Key": "k"})
        await happen(store, "e1", links={"self": "/api/v1/incidents/i"})
        await until(lambda: consumer.came)

        came = consumer.came[0]
        event = Webhook(SECRET).verify(came.body, came.headers)
        assert event["data"]["sequence"] == 1
        assert event["data"]["links"]["self"] == "https://bridge.example/api/v1/incidents/i"
        assert (came.event_id, came.headers["x-key"]) == ("e1", "k")
        found = await until(lambda: in_state(store, 1, DeliveryState.DELIVERED))
        assert [attempt.status for attempt in found.attempts] == [204]


async def test_many_events_arrive_once_each_and_leave_nothing_behind(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        await add(store, consumer.url("/x"))
        ids = [f"e{n}" for n in range(300)]
        for start in range(0, 300, 50):
            await happen(store, *ids[start : start + 50])
        await until(lambda: len(consumer.came) >= 300)

        async def is_empty() -> bool:
            return not await store.redis.exists("ib:lanes:outgoing", "ib:lanes:deliveries")

        await until(is_empty)
        assert sorted(one.event_id for one in consumer.came) == sorted(ids)
        assert await store.redis.zcard(keys.deliveries("ep_a")) == 300


async def test_eight_attempts_are_in_flight_at_once_and_one_while_the_endpoint_fails(store: Store) -> None:
    flying, most, gate = 0, 0, asyncio.Event()

    async def hold(_: web.Request) -> web.Response:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await gate.wait()
        flying -= 1
        return web.Response(status=500)

    async with consuming() as consumer, delivering(store):
        consumer.answers["/x"] = hold
        await add(store, consumer.url("/x"))
        await happen(store, *(f"e{n}" for n in range(60)))
        await until(lambda: flying == 8)
        gate.set()
        await until(lambda: len(consumer.came) >= 40)
        most = 0
        await until(lambda: len(consumer.came) == 60)
        assert most == 1


async def test_one_attempt_is_in_flight_while_an_endpoint_that_takes_everything_is_slow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver_events, "_SLOW_MS", 30)
    flying, most, slow = 0, 0, 0.2

    async def take(_: web.Request) -> web.Response:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(slow)
        flying -= 1
        return web.Response()

    async with consuming() as consumer, delivering(store):
        consumer.answers["/x"] = take
        await add(store, consumer.url("/x"))
        await happen(store, *(f"e{n}" for n in range(60)))
        await until(lambda: len(consumer.came) >= 10)
        assert most == 8
        await until(lambda: flying <= 1)
        most = 0
        await until(lambda: len(consumer.came) >= 14)
        assert most == 1
        slow = 0
        await until(lambda: len(consumer.came) == 60)
        assert most > 1


async def test_an_endpoint_that_hangs_delays_no_other(store: Store) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with consuming() as consumer, delivering(store, timeout_seconds=3):
        consumer.answers["/hangs"] = hang
        await add(store, consumer.url("/hangs"), id="ep_hangs")
        await add(store, consumer.url("/x"))
        await happen(store, *(f"e{n}" for n in range(20)))
        began = asyncio.get_running_loop().time()
        await until(lambda: len(consumer.at("/x")) == 20)
        assert asyncio.get_running_loop().time() - began < 1


async def test_a_failed_delivery_waits_for_its_time_and_comes_again_under_the_same_id(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        consumer.answers["/x"] = always(503, text="busy", headers={"Retry-After": "2"})
        await add(store, consumer.url("/x"))
        await happen(store, "e1")
        failed = await until(lambda: in_state(store, 1, DeliveryState.PENDING))
        assert (failed.attempts[0].status, failed.attempts[0].answer) == (503, "busy")
        assert (await endpoint(store)).failing_since is not None

        del consumer.answers["/x"]
        await store.redis.zadd(keys.TIMERS, {f"delivery:{failed.id}": 1})
        await lanes.sweep_timers(store)
        found = await until(lambda: in_state(store, 1, DeliveryState.DELIVERED))
        assert [one.event_id for one in consumer.came] == ["e1", "e1"]
        assert [one.status for one in found.attempts] == [503, 204]
        assert (await endpoint(store)).failing_since is None


async def test_410_disables_and_what_waits_for_it_can_be_delivered_anew(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        consumer.answers["/x"] = always(410)
        await add(store, consumer.url("/x"))
        await add(store, consumer.url("/other"), id="ep_other")
        await happen(store, "e1")
        await until(lambda: in_state(store, 1, DeliveryState.DEAD))
        assert (await endpoint(store)).disabled_reason == "it answered 410 Gone"
        await until(
            lambda: [one for one in consumer.at("/other") if one.event["type"] == "endpoint.disabled"]
        )
        told = [json.loads(name) for name in await store.redis.hkeys(keys.COUNTERS)]
        assert [text for kind, text, *_ in told if kind == "told" and "ep_a is disabled" in text]
        await happen(store, "e2")
        await until(lambda: [one for one in consumer.at("/other") if one.event_id == "e2"])
        assert len(consumer.at("/x")) == 1


async def test_a_redirect_is_a_failure_and_is_not_followed(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        consumer.answers["/x"] = always(307, headers={"Location": consumer.url("/elsewhere")})
        await add(store, consumer.url("/x"))
        await happen(store, "e1")
        await until(lambda: in_state(store, 1, DeliveryState.PENDING))
        assert not consumer.at("/elsewhere")


async def test_what_lies_in_quarantine_goes_to_those_who_asked_for_it(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        await add(store, consumer.url("/x"))
        await add(store, consumer.url("/all"), id="ep_b", quarantined=QuarantineFilter.INCLUDE)
        await happen(store, "q1", peer={"domain": "s.test", "quarantined": True})
        await happen(store, "e2")
        await until(lambda: len(consumer.at("/all")) == 2 and consumer.at("/x"))
        assert [one.event_id for one in consumer.at("/x")] == ["e2"]


async def test_two_signatures_while_a_secret_is_new(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        until_when = datetime.now(UTC) + timedelta(hours=24)
        await add(store, consumer.url("/x"), old_secret=OLD, old_secret_until=until_when)
        await happen(store, "e1")
        await until(lambda: consumer.came)
        came = consumer.came[0]
        for secret in (SECRET, OLD):
            Webhook(secret).verify(came.body, came.headers)
        assert len(came.headers["webhook-signature"].split()) == 2


async def test_after_a_crash_before_the_commit_the_same_event_comes_again_under_its_id(store: Store) -> None:
    gate = asyncio.Event()

    async def hold(_: web.Request) -> web.Response:
        await gate.wait()
        return web.Response()

    async with consuming() as consumer:
        consumer.answers["/x"] = hold
        await add(store, consumer.url("/x"))
        await happen(store, "e1")
        async with delivering(store, timeout_seconds=30):
            await until(lambda: consumer.came)
        assert await delivery(store, 1) is None  # given up with the drain; nothing of it is known
        gate.set()
        async with delivering(store):
            await until(lambda: in_state(store, 1, DeliveryState.DELIVERED))
        assert [one.event_id for one in consumer.came] == ["e1", "e1"]


async def test_the_deliveries_of_a_removed_endpoint_are_dropped(store: Store) -> None:
    async with consuming() as consumer:
        found = await add(store, consumer.url("/x"))
        await happen(store, "e1")
        stored = await endpoint(store)
        async with delivering(store):
            await commit(store, Change(drops=(stored,)))

            async def is_empty() -> bool:
                return not await store.redis.exists("ib:lanes:outgoing", "ib:lanes:deliveries")

            await until(is_empty)
        assert not [one for one in consumer.came if one.path != "/x"]
        assert found.id == stored.id


async def test_somebody_elses_change_of_the_endpoint_costs_no_attempt(store: Store) -> None:
    gate = asyncio.Event()

    async def hold(_: web.Request) -> web.Response:
        await gate.wait()
        return web.Response(status=500)

    async with consuming() as consumer, delivering(store):
        consumer.answers["/x"] = hold
        before = await endpoint(store) if await add(store, consumer.url("/x")) else None
        assert before is not None
        await happen(store, "e1")
        await until(lambda: consumer.came)
        from dataclasses import replace

        await commit(store, Change(puts=(Put(before, replace(before, description="new")),)))
        gate.set()
        await until(lambda: in_state(store, 1, DeliveryState.PENDING))
        after = await endpoint(store)
        assert (after.description, after.failing_since is not None) == ("new", True)
        assert len(consumer.came) == 1


async def test_retention_deletes_old_deliveries_and_events_and_a_reader_is_told(store: Store) -> None:
    async with consuming() as consumer, delivering(store):
        await add(store, consumer.url("/x"))
        await happen(store, "e1", "e2")
        await until(lambda: in_state(store, 2, DeliveryState.DELIVERED))
    later = datetime.now(UTC) + timedelta(days=31)

    assert await forget_deliveries(store, days=30, now=later - timedelta(days=2)) == 0
    assert await forget_deliveries(store, days=30, now=later) == 2
    assert await trim_events(store, HOST, days=30, now=later) == 2
    assert await load.event_bounds(store, HOST) == (3, 2)
    assert await store.redis.zcard(keys.DELIVERIES) == 0
