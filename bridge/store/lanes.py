"""Lanes: what is to be done for one key, in order; and the leases under which workers do it.

House rules: only the store's clock counts; nothing is popped, so a worker's death needs no repair: its leases
run out. A lease is renewed only for a task that lives, and known by its token, never by its lane.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.policy.change import Queue
from bridge.store import rq
from bridge.store.commit import LEASE_SECONDS, RESERVE_SECONDS, Lease
from bridge.store.connect import Script, Store, reaching, run

DRAIN_SECONDS: float = 10  # a drain that has not shown itself for so long does not count
RENEW_SECONDS: float = 3
LINGER_SECONDS: float = 2
MAX_PAUSE_SECONDS: float = 30  # nobody gives a lane back for longer; no lease is longer either
TIMERS_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a queue's lanes are taken.

    Attributes:
        items_per_lane: how many items of one lane go into one lease.
        items_per_take: no further lane once so many items are taken.
        alone_from: from this try on a lane is taken with no other beside it.
    """

    items_per_lane: int
    items_per_take: int
    alone_from: int


RULES: Final = {
    Queue.INCIDENTS: Rules(items_per_lane=16, items_per_take=64, alone_from=2),
    # A second try in company, with one item: waiting for each other's calls would let one dead host delay all.
    Queue.OUTGOING: Rules(items_per_lane=64, items_per_take=4096, alone_from=3),
    Queue.DELIVERIES: Rules(items_per_lane=64, items_per_take=4096, alone_from=3),
}


@dataclass(frozen=True, slots=True)
class Taken:
    """What `take` got.

    Attributes:
        more: lanes are left that may be taken (perhaps only once this drain holds nothing).
        alone: the one lane taken must be worked with no other beside it.
    """

    leases: tuple[Lease, ...]
    more: bool
    alone: bool


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


async def take(store: Store, queue: Queue, drain: str, *, max_lanes: int = 64, is_idle: bool = True) -> Taken:
    """Lease the lanes that have been waiting longest; shows at the same time that this drain lives.

    Args:
        store: where from.
        queue: which lanes.
        drain: who takes.
        max_lanes: no more than so many.
        is_idle: whether this drain holds no lane now; only then a lane that is to be tried alone is taken.
    """
    rules = RULES[queue]
    more, alone, taken = await run(
        store,
        Script.TAKE,
        queue,
        drain,
        _ms(LEASE_SECONDS),
        _ms(DRAIN_SECONDS),
        max_lanes,
        rules.items_per_take,
        rules.items_per_lane,
        rules.alone_from,
        int(is_idle),
    )
    leases = tuple(
        Lease(
            queue=queue,
            lane=lane.decode(),
            token=token.decode(),
            items=tuple(items),
            tries=tries,
            deaths_alone=max(0, tries - rules.alone_from),
        )
        for lane, token, tries, items in taken
    )
    return Taken(leases=leases, more=bool(more), alone=bool(alone))


async def renew(store: Store, queue: Queue, drain: str, leases: Sequence[Lease]) -> frozenset[str]:
    """Prolong the drain's life and these leases; returns the tokens of those that were lost."""
    pairs = [word for lease in leases for word in (lease.lane, lease.token)]
    lost = await run(store, Script.RENEW, queue, drain, _ms(LEASE_SECONDS), _ms(DRAIN_SECONDS), *pairs)
    return frozenset(token.decode() for token in lost)


async def release(store: Store, lease: Lease, *, delay_seconds: float = 0) -> bool:
    """Give a lane back unfinished, to be taken again after the delay; its tries are forgotten.

    Returns:
        Whether it was still ours.
    """
    return await _release(store, lease, delay_seconds=delay_seconds, forget="1")


async def release_failed(store: Store, lease: Lease, *, delay_seconds: float = 0) -> bool:
    """Give a lane back after a failure that is our own fault: it counts like the death of a worker."""
    return await _release(store, lease, delay_seconds=delay_seconds, forget="0")


async def _release(store: Store, lease: Lease, *, delay_seconds: float, forget: str) -> bool:
    delay_ms = _ms(min(delay_seconds, MAX_PAUSE_SECONDS))
    words = (lease.queue, lease.lane, lease.token, delay_ms, forget)
    return bool(await run(store, Script.RELEASE, *words))


async def waiting(store: Store, queue: Queue, lane: str) -> int:
    """How many items a lane has."""
    async with reaching(store):
        length: Any = await store.redis.llen(f"ib:lane:{queue}:{lane}")
    return int(length)


async def finish(store: Store, queue: Queue, drain: str) -> bool:
    """End this drain unless a lane may be taken; False: go on."""
    return await _finish(store, queue, drain, successor="") == 1


async def hand_over(store: Store, queue: Queue, drain: str) -> None:
    """End this drain now; if work is left and nobody else is at it, a successor is enqueued."""
    successor = rq.new_drain()
    if await _finish(store, queue, drain, successor=successor) == 2:  # noqa: PLR2004 the script's third answer
        await rq.wake(store, {queue: successor})


async def _finish(store: Store, queue: Queue, drain: str, *, successor: str) -> int:
    list_key = rq.list_key(store, queue)
    answer: int = await run(store, Script.FINISH, queue, drain, list_key, successor, RESERVE_SECONDS * 1000)
    return answer


async def wait_bell(store: Store, queue: Queue) -> bool:
    """Wait `LINGER_SECONDS` for something to take; False: nothing rang. Never cancel this, ring instead."""
    async with reaching(store):
        return await store.redis.bzpopmin(f"ib:bell:{queue}", timeout=LINGER_SECONDS) is not None


async def ring_bell(store: Store, queue: Queue) -> None:
    """Wake one drain that waits, whether or not there is work."""
    async with reaching(store):
        await store.redis.zadd(f"ib:bell:{queue}", {"*": 0}, nx=True)


async def recover(store: Store) -> None:
    """Where lanes wait and fewer drains live than workers, enqueue one more; run once a second by each service."""
    seconds = (RESERVE_SECONDS, rq.WORKER_SEEN_SECONDS, MAX_PAUSE_SECONDS + LEASE_SECONDS, LEASE_SECONDS)
    for queue in Queue:
        drain = rq.new_drain()
        if await run(store, Script.RECOVER, queue, rq.list_key(store, queue), drain, *map(_ms, seconds)):
            await rq.wake(store, {queue: drain})


async def sweep_timers(store: Store) -> int:
    """Append the items of timers that are due; run once a second by each service.

    Returns:
        How many were due; if that is `TIMERS_AT_ONCE`, there may be more.
    """
    spares = {queue: rq.new_drain() for queue in Queue}
    words = [word for queue, drain in spares.items() for word in (queue, rq.list_key(store, queue), drain)]
    due, woken = await run(store, Script.SWEEP, TIMERS_AT_ONCE, RESERVE_SECONDS * 1000, *words)
    await rq.wake(store, {Queue(name.decode()): spares[Queue(name.decode())] for name in woken})
    return int(due)
