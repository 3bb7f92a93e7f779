"""The drain of `outgoing` in this process, with calls that a test controls."""

import asyncio
import json
from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

from bridge.policy.change import Append, Change, Queue, Sent
from bridge.store import lanes
from bridge.store.commit import Lease, commit
from bridge.store.connect import Store
from bridge.worker import jobs
from bridge.worker.outgoing import LaneKind, OutgoingStories, drain_outgoing


async def _set_aside(lease: Lease) -> None:
    raise AssertionError(lease)


async def test_a_lane_to_be_tried_alone_gets_its_turn_beside_one_that_is_never_empty(
    store: Store, eyes: Any
) -> None:
    numbers = count()
    stop = asyncio.Event()
    sent: list[str] = []
    in_flight: set[str] = set()

    async def call(lane: str, items: Sequence[bytes]) -> Sent:
        in_flight.add(lane)
        assert lane != "host:suspect" or in_flight == {lane}
        await asyncio.sleep(0.01)
        in_flight.remove(lane)
        sent.extend(json.loads(item)["id"] for item in items)
        if lane == "host:suspect":
            stop.set()
            return Sent(len(items), Change())
        again = Append(queue=Queue.OUTGOING, lane=lane, item={"id": f"busy{next(numbers)}"})
        return Sent(len(items), Change(appends=(again,)))

    await eyes.put("host:busy", {"id": "busy"}, queue=Queue.OUTGOING)
    await eyes.put("host:suspect", {"id": "suspect"}, {"id": "next"}, queue=Queue.OUTGOING)
    await store.redis.hset("ib:tries:outgoing", "host:suspect", 4)
    stories = OutgoingStories(kinds={"host": LaneKind(call=call, items_per_call=64)}, set_aside=_set_aside)

    await asyncio.wait_for(drain_outgoing(store, Queue.OUTGOING, "d", stop, stories), 10)

    assert "suspect" in sent
    assert len(sent) > 1
    assert not await store.redis.exists("ib:held:outgoing")
    assert await store.redis.zscore("ib:drains:outgoing", "d") is None


async def test_calls_to_one_host_never_overlap_and_carry_what_queued_meanwhile(
    store: Store, eyes: Any
) -> None:
    stop = asyncio.Event()
    calls: list[int] = []
    is_busy = False

    async def call(lane: str, items: Sequence[bytes]) -> Sent:
        nonlocal is_busy
        assert not is_busy
        is_busy = True
        if not calls:
            appends = (Append(queue=Queue.OUTGOING, lane=lane, item={"id": f"i{n}"}) for n in range(100))
            await commit(store, Change(appends=tuple(appends)))
        calls.append(len(items))
        await asyncio.sleep(0.01)
        is_busy = False
        if sum(calls) == 101:
            stop.set()
        return Sent(len(items), Change())

    await eyes.put("host:h", {"id": "first"}, queue=Queue.OUTGOING)
    stories = OutgoingStories(kinds={"host": LaneKind(call=call, items_per_call=64)}, set_aside=_set_aside)

    await asyncio.wait_for(drain_outgoing(store, Queue.OUTGOING, "d", stop, stories), 10)

    assert calls == [1, 64, 36]
    assert await eyes.nothing_left()


async def test_what_the_release_before_queued_for_endpoints_moves_to_the_queue_it_has_now(
    store: Store, eyes: Any
) -> None:
    items = {"endpoint:e": {"id": "e-h-1", "host": "h", "sequence": 1}, "events:h": {"id": "events:h-1"}}
    for lane, item in items.items():
        await eyes.put(lane, item, queue=Queue.OUTGOING)
    settings: Any = SimpleNamespace(
        hosts={}, policy=SimpleNamespace(answer_page_days=1), server=SimpleNamespace(public_url="")
    )
    prosody: Any = None
    stop = asyncio.Event()
    stories = jobs._outgoing(store, prosody, settings)

    async def all_moved() -> bool:
        return [await lanes.waiting(store, Queue.DELIVERIES, lane) for lane in items] == [1, 1]

    draining = asyncio.create_task(drain_outgoing(store, Queue.OUTGOING, "d", stop, stories))
    await eyes.until(all_moved)
    stop.set()
    await draining

    taken = await lanes.take(store, Queue.DELIVERIES, "d", max_lanes=2, is_idle=True)
    assert {lease.lane: json.loads(lease.items[0]) for lease in taken.leases} == items
    assert not await store.redis.exists("ib:lanes:outgoing")


async def test_work_of_a_newer_release_waits_for_its_workers_and_keeps_nothing_from_being_done(
    store: Store, eyes: Any
) -> None:
    stop, begun = asyncio.Event(), asyncio.Event()
    sent: list[str] = []

    async def call(lane: str, items: Sequence[bytes]) -> Sent:
        sent.extend(json.loads(item)["id"] for item in items)
        (stop if begun.is_set() else begun).set()
        return Sent(len(items), Change())

    await eyes.put("newer:x", {"id": "unknown"}, queue=Queue.OUTGOING)
    await eyes.put("host:a", {"id": "first"}, queue=Queue.OUTGOING)
    stories = OutgoingStories(kinds={"host": LaneKind(call=call, items_per_call=64)}, set_aside=_set_aside)
    draining = asyncio.create_task(drain_outgoing(store, Queue.OUTGOING, "d", stop, stories))
    async with asyncio.timeout(10):
        await begun.wait()
        await eyes.put("host:b", {"id": "second"}, queue=Queue.OUTGOING)
        await draining

    assert sent == ["first", "second"]
    assert await store.redis.lrange("ib:lane:outgoing:newer:x", 0, -1) == [b'{"id":"unknown"}']  # type: ignore[misc]
    assert not await store.redis.hexists("ib:tries:outgoing", "newer:x")
