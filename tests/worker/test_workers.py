"""Real workers do everything once, in order, whatever happens to them."""

import asyncio
import os
import random
import signal
import time
from typing import Any

from bridge.errors import UnavailableError
from bridge.policy.change import Append, Change, Queue
from bridge.store import load
from bridge.store.commit import Once, SeenError, commit
from bridge.store.connect import Store, close, open_store


async def test_items_of_many_lanes_are_worked_and_sent_once_and_in_order(
    site: Any, store: Store, eyes: Any
) -> None:
    for queue in (*Queue, *Queue):
        site.start_worker(queue)
    ids = {f"h|{lane}": [f"{lane}-{number}" for number in range(10)] for lane in range(20)}

    async def fill(lane: str) -> None:
        for each in ids[lane]:
            await eyes.put(lane, {"id": each})

    await asyncio.gather(*(fill(lane) for lane in ids))

    await eyes.until(eyes.nothing_left)
    everything = [each for lane in ids.values() for each in lane]
    assert await eyes.counted("worked") == dict.fromkeys(everything, 1)
    assert await eyes.counted("sent") == {f"out-{each}": 1 for each in everything}
    for lane, expected in ids.items():
        worked = [event["id"] for _, event in await load.events(store, lane, after=0, limit=99)]
        assert worked == expected


async def test_what_was_acknowledged_is_done_once_whoever_is_killed(
    site: Any, store: Store, eyes: Any, watch: None
) -> None:
    chance = random.Random(268)  # noqa: S311 seeded on purpose
    for queue in (*Queue, Queue.INCIDENTS):
        site.start_worker(queue)
    await eyes.until(eyes.everybody_seen)
    acknowledged: dict[str, list[str]] = {f"h|peer{number}": [] for number in range(6)}
    ends_at = time.monotonic() + 8
    producers = [
        asyncio.create_task(_produce(site, lane, ids, ends_at)) for lane, ids in acknowledged.items()
    ]

    while time.monotonic() < ends_at:
        await asyncio.sleep(chance.uniform(0.1, 0.6))
        if chance.random() < 0.2:
            site.kill_store()
            await asyncio.sleep(chance.uniform(0, 0.5))
            site.start_store()
        else:
            site.kill_some_worker(chance)

    await asyncio.gather(*producers)
    await eyes.until(eyes.nothing_left, seconds=30)
    worked, sent = await eyes.counted("worked"), await eyes.counted("sent")
    assert {each for ids in acknowledged.values() for each in ids} <= worked.keys()
    assert set(worked.values()) == {1}
    assert sent == {f"out-{each}": 1 for each in worked}
    for lane, ids in acknowledged.items():
        assert len(ids) > 20
        order = [event["id"] for _, event in await load.events(store, lane, after=0, limit=99999)]
        assert [each for each in order if each in set(ids)] == ids


async def _produce(site: Any, lane: str, acknowledged: list[str], ends_at: float) -> None:
    store = await open_store(site.url, patience_seconds=1)
    number = 0
    while time.monotonic() < ends_at:
        number += 1
        item = {"id": f"{lane}-{number}"}
        change = Change(appends=(Append(queue=Queue.INCIDENTS, lane=lane, item=item),))
        try:
            await commit(store, change, once=Once(item["id"], b"ok"))
        except UnavailableError:
            continue  # stored or not: nobody was told
        except SeenError:
            pass  # the client repeated the call, because the connection broke before the answer came
        acknowledged.append(item["id"])
        await asyncio.sleep(0.01)
    await close(store)


async def test_a_worker_frozen_longer_than_its_lease_doubles_nothing_and_leaves_nothing_stuck(
    site: Any, store: Store, eyes: Any, watch: None
) -> None:
    site.lease_seconds = 0.6
    for queue in (*Queue, *Queue):
        site.start_worker(queue)
    await eyes.until(eyes.everybody_seen)
    ids = [f"{lane}-{number}" for lane in range(5) for number in range(10)]

    for each in ids:
        await eyes.put(f"h|{each[0]}", {"id": each, "do": "freeze once" if each == "2-3" else ""})

    async def has_worked_all() -> bool:
        return len(await eyes.counted("worked")) == len(ids)

    await eyes.until(has_worked_all)
    os.kill(int(await store.redis.get("froze:2-3")), signal.SIGCONT)
    await eyes.until(eyes.nothing_left)
    assert await eyes.counted("worked") == dict.fromkeys(ids, 1)
    await eyes.put("h|2", {"id": "after"})
    await eyes.until(eyes.nothing_left)
    assert (await eyes.counted("worked"))["after"] == 1


async def test_a_sender_frozen_longer_than_its_lease_settles_nothing_that_another_settled(
    site: Any, store: Store, eyes: Any, watch: None
) -> None:
    site.lease_seconds = 0.6
    for _ in range(2):
        site.start_worker(Queue.OUTGOING)
    ids = [f"{lane}-{number}" for lane in range(4) for number in range(5)]

    for each in ids:
        item = {"id": each, "do": "freeze once" if each == "2-3" else ""}
        await eyes.put(f"host:{each[0]}.example", item, queue=Queue.OUTGOING)

    async def has_sent_all() -> bool:
        return len(await eyes.counted("sent")) == len(ids)

    await eyes.until(has_sent_all)
    os.kill(int(await store.redis.get("froze:2-3")), signal.SIGCONT)
    await eyes.put("host:2.example", {"id": "after"}, queue=Queue.OUTGOING)
    await eyes.until(eyes.nothing_left)
    assert await eyes.counted("sent") == dict.fromkeys([*ids, "after"], 1)


async def test_an_item_that_kills_its_worker_is_set_aside_and_its_lane_goes_on(
    site: Any, store: Store, eyes: Any, watch: None
) -> None:
    site.lease_seconds = 0.4
    for queue in Queue:
        site.start_worker(queue)

    await eyes.put("h|bad", {"id": "before"}, {"id": "poison", "do": "die"}, {"id": "behind"})
    await eyes.put("h|once", {"id": "unlucky", "do": "die once"})
    for number in range(10):
        await eyes.put(f"h|good{number}", {"id": f"good{number}"})

    await eyes.until(eyes.nothing_left, seconds=30)
    assert await eyes.counted("set_aside") == {"poison": 1}
    done = ["before", "behind", "unlucky", *(f"good{number}" for number in range(10))]
    assert await eyes.counted("worked") == dict.fromkeys(done, 1)


async def test_what_a_newer_release_wrote_is_left_to_its_workers_and_never_set_aside(
    site: Any, store: Store, eyes: Any, watch: None
) -> None:
    site.start_worker(Queue.INCIDENTS)
    await eyes.put("h|newer", {"id": "n", "do": "newer"})
    await eyes.put("h|older", {"id": "o", "colour": "blue"})

    async def is_put_off() -> bool:
        paused_until = await store.redis.zscore("ib:lanes:incidents", "h|newer")
        return bool(
            await eyes.counted("worked") == {"o": 1}
            and paused_until > 1000 * time.time() + 1000
            and not await store.redis.hexists("ib:tries:incidents", "h|newer")
        )

    await eyes.until(is_put_off)
    assert await eyes.counted("set_aside") == {}
    assert await store.redis.lrange("ib:lane:incidents:h|newer", 0, -1) == [b'{"do":"newer","id":"n"}']


async def test_a_host_that_is_away_is_tried_again_and_delays_no_other(
    site: Any, store: Store, eyes: Any, watch: None
) -> None:
    site.start_worker(Queue.OUTGOING)
    await eyes.put("host:away.example", {"id": "a", "do": "away"}, queue=Queue.OUTGOING)
    await eyes.put("host:hangs.example", {"id": "h", "do": "hang"}, queue=Queue.OUTGOING)

    await eyes.put("host:well.example", {"id": "w"}, queue=Queue.OUTGOING)

    async def is_sent() -> bool:
        return await eyes.counted("sent") == {"w": 1}

    await eyes.until(is_sent)
    items = await store.redis.lrange("ib:lane:outgoing:host:away.example", 0, -1)
    assert items == [b'{"do":"away","id":"a"}']


async def test_a_worker_told_to_stop_gives_its_lanes_back(site: Any, store: Store, eyes: Any) -> None:
    worker = site.start_worker(Queue.OUTGOING)
    await eyes.put("host:hangs.example", {"id": "h", "do": "hang"}, queue=Queue.OUTGOING)

    async def is_held() -> bool:
        return bool(await store.redis.exists("ib:held:outgoing"))

    await eyes.until(is_held)
    worker.send_signal(signal.SIGTERM)

    assert await asyncio.to_thread(worker.wait, 10) == 0
    assert not await is_held()
    assert await store.redis.zcard("ib:lanes:outgoing") == 1
    site.workers.clear()
