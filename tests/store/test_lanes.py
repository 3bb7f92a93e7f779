"""Lanes keep order, leases keep others out, and nothing in them is ever lost or done twice."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bridge.policy.change import Append, Change, Queue, Timer
from bridge.store import lanes, load, rq
from bridge.store.commit import LEASE_SECONDS, FencedError, Lease, commit, finished
from bridge.store.connect import Store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MakeAppend = Callable[..., Change]


async def _lapse(store: Store, lane: str, queue: Queue = Queue.INCIDENTS) -> None:
    """Let a lease run out, as after the death of its worker."""
    await store.redis.zadd(f"ib:lanes:{queue}", {lane: 0}, xx=True)


async def _take_one(store: Store, drain: str = "d") -> Lease:
    [lease] = (await lanes.take(store, Queue.INCIDENTS, drain)).leases
    return lease


async def test_a_leased_lane_is_not_taken_twice_and_a_given_back_one_is(
    store: Store, append: MakeAppend
) -> None:
    await commit(store, append("a", "1", "2") + append("b", "3"))

    first = await lanes.take(store, Queue.INCIDENTS, "d1")
    second = await lanes.take(store, Queue.INCIDENTS, "d2")

    assert [lease.items for lease in first.leases] == [(b'{"id":"1"}', b'{"id":"2"}'), (b'{"id":"3"}',)]
    assert (second.leases, second.more) == ((), False)
    assert await lanes.release(store, first.leases[0])
    assert (await _take_one(store, "d2")).lane == "a"


async def test_a_lane_whose_lease_ran_out_belongs_to_the_next_taker_alone(
    store: Store, append: MakeAppend
) -> None:
    await commit(store, append("a", "1"))
    old = await _take_one(store, "frozen")
    await _lapse(store, "a")
    new = await _take_one(store, "other")

    with pytest.raises(FencedError):
        await commit(store, Change(), leases=[old])
    assert not await lanes.release(store, old)
    assert await lanes.renew(store, Queue.INCIDENTS, "frozen", [old, new]) == {old.token}
    await commit(store, Change(), leases=[new])


async def test_a_lapsed_lease_that_nobody_took_over_is_still_good(store: Store, append: MakeAppend) -> None:
    await commit(store, append("a", "1"))
    lease = await _take_one(store)
    await _lapse(store, "a")

    assert (await commit(store, Change(), leases=[lease])).left == (0,)


async def test_a_kept_lease_gets_the_next_items_and_ends_with_the_last(
    store: Store, append: MakeAppend
) -> None:
    await commit(store, append("a", "1", "2", "3"))
    lease = await _take_one(store)

    first = await commit(store, Change(), leases=[finished(lease, lease.items[:1])], keep=1)
    assert (first.left, first.next_items) == ((2,), ((b'{"id":"2"}',),))
    rest = await commit(store, append("a", "4"), leases=[finished(lease, lease.items[1:])], keep=9)
    assert (rest.left, rest.next_items) == ((1,), ((b'{"id":"4"}',),))
    last = await commit(store, Change(), leases=[finished(lease, rest.next_items[0])], keep=9)

    assert last.left == (0,)
    assert await store.redis.exists("ib:lanes:incidents", "ib:held:incidents", "ib:tries:incidents") == 0


async def test_a_released_lane_waits_for_its_delay(store: Store, append: MakeAppend) -> None:
    await commit(store, append("a", "1"))
    await lanes.release(store, await _take_one(store), delay_seconds=60)

    await commit(store, append("a", "2"))

    assert (await lanes.take(store, Queue.INCIDENTS, "d")).leases == ()
    await _lapse(store, "a")
    assert (await _take_one(store)).items == (b'{"id":"1"}', b'{"id":"2"}')


async def test_a_lane_whose_worker_died_is_tried_alone_with_one_item(
    store: Store, append: MakeAppend
) -> None:
    await commit(store, append("a", "1", "2") + append("b", "3"))
    await lanes.take(store, Queue.INCIDENTS, "dies")
    await _lapse(store, "a")
    await _lapse(store, "b")

    busy = await lanes.take(store, Queue.INCIDENTS, "d", is_idle=False)
    alone = await lanes.take(store, Queue.INCIDENTS, "d")

    assert (busy.leases, busy.more) == ((), True)
    assert [(lease.lane, lease.items, lease.tries) for lease in alone.leases] == [("a", (b'{"id":"1"}',), 2)]
    assert (alone.alone, alone.more) == (True, True)
    await commit(store, Change(), leases=alone.leases)
    again = await lanes.take(store, Queue.INCIDENTS, "d")
    assert [lease.lane for lease in again.leases] == ["b"], "the oldest first"
    await commit(store, Change(), leases=again.leases)
    assert (await _take_one(store)).tries == 1, "a commit forgets the tries"


async def test_deaths_alone_are_counted_and_a_release_forgets_them(store: Store, append: MakeAppend) -> None:
    await commit(store, append("a", "1"))
    deaths = []
    for _ in range(7):
        lease = await _take_one(store)
        deaths.append(lease.deaths_alone)
        await lanes.release_failed(store, lease)

    assert deaths == [0, 0, 1, 2, 3, 4, 5]
    await lanes.release(store, await _take_one(store))
    assert (await _take_one(store)).tries == 1


async def test_a_second_try_to_send_is_made_in_company(store: Store, append: MakeAppend) -> None:
    queue = Queue.OUTGOING
    await commit(store, append("host:a", "1", "2", queue=queue) + append("host:b", "3", queue=queue))
    await lanes.take(store, queue, "dies")
    for lane in ("host:a", "host:b"):
        await _lapse(store, lane, queue)

    taken = await lanes.take(store, queue, "d", is_idle=False)

    assert [(lease.lane, len(lease.items)) for lease in taken.leases] == [("host:a", 1), ("host:b", 1)]


async def test_finish_refuses_while_a_lane_may_be_taken(store: Store, append: MakeAppend) -> None:
    await lanes.take(store, Queue.INCIDENTS, "d")
    await commit(store, append("a", "1"))
    assert not await lanes.finish(store, Queue.INCIDENTS, "d")

    await commit(store, Change(), leases=[await _take_one(store)])

    assert await lanes.finish(store, Queue.INCIDENTS, "d")
    assert await store.redis.exists("ib:drains:incidents") == 0


async def test_one_job_is_enqueued_for_a_burst_and_none_while_a_drain_lives(
    store: Store, append: MakeAppend
) -> None:
    waiting = rq.list_key(store, Queue.INCIDENTS)
    for number in range(5):
        await commit(store, append("a", str(number)))
    assert await store.redis.llen(waiting) == 1

    await store.redis.delete(waiting)
    await lanes.take(store, Queue.INCIDENTS, "alive")
    await commit(store, append("b", "x"))

    assert await store.redis.llen(waiting) == 0
    assert await store.redis.exists("ib:bell:incidents") == 1, "the living drain is rung instead"


async def test_recover_enqueues_what_a_dead_committer_did_not(store: Store, append: MakeAppend) -> None:
    waiting = rq.list_key(store, Queue.INCIDENTS)
    await commit(store, append("a", "1"))
    await store.redis.delete(waiting, "ib:drains:incidents")

    await lanes.recover(store)
    await lanes.recover(store)

    assert await store.redis.llen(waiting) == 1
    assert await store.redis.llen(rq.list_key(store, Queue.OUTGOING)) == 0


async def test_a_lease_from_before_the_stores_clock_was_set_back_ends_as_soon_as_any_other(
    store: Store, append: MakeAppend
) -> None:
    await commit(store, append("a", "1"))
    lease = await _take_one(store, "dead")
    later = (time.time() + 7200) * 1000
    for name, member in (("lanes", "a"), ("drains", "dead"), ("workers", "w")):
        await store.redis.zadd(f"ib:{name}:incidents", {member: later})

    await lanes.recover(store)

    soon = (time.time() + LEASE_SECONDS + 1) * 1000
    for name in ("lanes", "drains", "workers"):
        [(_, last)] = await store.redis.zrange(f"ib:{name}:incidents", -1, -1, withscores=True)
        assert last < soon, name
    await commit(store, Change(), leases=[lease])  # was its holder alive after all, it still is


async def test_what_is_leased_and_paused_as_usual_is_left_as_it_is(store: Store, append: MakeAppend) -> None:
    await commit(store, append("a", "1") + append("b", "2"))
    paused, _ = (await lanes.take(store, Queue.INCIDENTS, "d")).leases
    await lanes.release(store, paused, delay_seconds=3600)
    before = await store.redis.zrange("ib:lanes:incidents", 0, -1, withscores=True)

    await lanes.recover(store)

    assert await store.redis.zrange("ib:lanes:incidents", 0, -1, withscores=True) == before
    assert max(score for _, score in before) < (time.time() + lanes.MAX_PAUSE_SECONDS + 1) * 1000


async def test_a_drain_that_must_go_names_a_successor(store: Store, append: MakeAppend) -> None:
    await lanes.take(store, Queue.INCIDENTS, "old")
    await commit(store, append("a", "1"))

    await lanes.hand_over(store, Queue.INCIDENTS, "old")

    assert await store.redis.llen(rq.list_key(store, Queue.INCIDENTS)) == 1
    assert await store.redis.zscore("ib:drains:incidents", "old") is None


async def test_a_timer_appends_when_it_is_due_and_only_then(store: Store) -> None:
    def timer(name: str, due_at: datetime, item: str) -> Timer:
        append = Append(queue=Queue.OUTGOING, lane="host:h", item={"id": item})
        return Timer(name=name, due_at=due_at, append=append)

    soon = datetime.now(UTC) + timedelta(hours=1)
    timers = (timer("later", soon, "later"), timer("due", NOON, "first"), timer("due", NOON, "second"))
    await commit(store, Change(timers=timers))

    assert await lanes.sweep_timers(store) == 1
    assert await lanes.sweep_timers(store) == 0

    [lease] = (await lanes.take(store, Queue.OUTGOING, "d")).leases
    assert lease.items == (b'{"id":"second"}',)
    assert await store.redis.llen(rq.list_key(store, Queue.OUTGOING)) == 1
    assert await store.redis.zcard("ib:timers") == 1


@pytest.mark.parametrize("seed", range(6))
async def test_any_interleaving_of_drains_works_everything_once_and_in_order(store: Store, seed: int) -> None:
    """A random walk over append, take, commit, release, death and renewal, held against a plain model."""
    chance = random.Random(seed)  # noqa: S311 seeded on purpose
    model: dict[str, list[str]] = {f"lane{number}": [] for number in range(4)}
    done: dict[str, list[str]] = {lane: [] for lane in model}
    held: list[Lease] = []
    for step in range(250):
        match chance.choice(("append", "append", "take", "take", "commit", "commit", "release", "die")):
            case "append":
                lane = chance.choice(list(model))
                model[lane].append(f"i{step}")
                item = {"id": f"i{step}"}
                await commit(store, Change(appends=(Append(queue=Queue.INCIDENTS, lane=lane, item=item),)))
            case "take":
                held += (await lanes.take(store, Queue.INCIDENTS, f"d{chance.randrange(3)}")).leases
            case "commit" if held:
                await _commit_one(store, held.pop(chance.randrange(len(held))), done, chance)
            case "release" if held:
                await lanes.release(store, held.pop(chance.randrange(len(held))))
            case "die" if held:
                await _lapse(store, chance.choice(held).lane)  # its holder may come back, and is fenced then
        await _check_lanes(store)
    for lane in model:
        await store.redis.hdel("ib:held:incidents", lane)
        await _lapse(store, lane)
    while taken := (await lanes.take(store, Queue.INCIDENTS, "last")).leases:
        for lease in taken:
            await _commit_one(store, lease, done, chance)
    assert done == model
    assert await store.redis.exists("ib:lanes:incidents", "ib:held:incidents", "ib:tries:incidents") == 0


async def _commit_one(store: Store, lease: Lease, done: dict[str, list[str]], chance: random.Random) -> None:
    part = replace(lease, items=lease.items[: chance.randint(1, len(lease.items))])
    try:
        await commit(store, Change(), leases=[part])
    except FencedError:
        return
    done[lease.lane] += [item.decode()[7:-2] for item in part.items]


async def _check_lanes(store: Store) -> None:
    """A lane is a member exactly if it has items; only members are held."""
    members = {
        lane.decode() for lane, _ in await store.redis.zrange("ib:lanes:incidents", 0, -1, withscores=True)
    }
    filled = {key.decode().rpartition(":")[2] for key in await store.redis.keys("ib:lane:incidents:*")}
    held = {lane.decode() for lane in await store.redis.hkeys("ib:held:incidents")}
    assert members == filled
    assert held <= members


async def test_health_tells_what_waits_for_whom(store: Store, append: MakeAppend) -> None:
    await commit(store, append("a", "1", "2") + append("b", "3") + Change(counts=(("set_aside", "report"),)))

    found = await load.health(store)

    waiting = found.lanes[Queue.INCIDENTS]
    assert (waiting.lanes, waiting.items) == (2, 3)
    assert waiting.oldest_ready_age_seconds is not None
    assert found.lanes[Queue.OUTGOING].oldest_ready_age_seconds is None
    assert found.workers_seen == dict.fromkeys(Queue)
    assert found.set_aside == 1
    assert found.max_bytes == 512 * 2**20
    assert 0 < found.used_bytes < found.max_bytes
