"""Deliver again what failed, or what an endpoint never got.

House rules: an event goes out under its own id however often it is delivered; nothing is sent here, it waits in the
endpoint's lane; at most `MOST_AT_ONCE` in one call, the oldest first.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.endpoints import loaded, must_be_enabled
from bridge.pipeline.ids import new_id
from bridge.policy import deliver, lanes
from bridge.policy.change import Append, Change, Put, Queue
from bridge.policy.consumers import Delivery, DeliveryState, Endpoint, delivery_id
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.store.lanes import waiting as waiting_in

MOST_AT_ONCE: Final = 10_000
_MOST_WAITING = 2 * MOST_AT_ONCE
_AT_ONCE: Final = 100
_PAGE = 256
_TRIES = 10
_APART = timedelta(minutes=5)  # how far events may be out of the order of their times


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be delivered: a host's event, whether or not it was tried before."""

    host: str
    sequence: int


async def redeliver(store: Store, delivery: Delivery, *, actor: Actor, now: datetime) -> Delivery:
    """Deliver once more, from the first of all tries on, whatever came of it before.

    Raises:
        ConfigError: the endpoint is disabled or does not get this host's events, or the event is no longer kept.
        ConflictError: the endpoint was removed, or the delivery changes faster than it can be written.
    """
    endpoint = await loaded(store, delivery.endpoint_id)
    must_be_enabled(endpoint)
    if delivery.host not in endpoint.hosts:
        raise ConfigError(f"endpoint {endpoint.id} does not get the events of {delivery.host} any more")
    oldest, _ = await load.event_bounds(store, delivery.host)
    if delivery.sequence < oldest:
        raise ConfigError(f"the event of delivery {delivery.id} is no longer kept")
    wanted = _Wanted(delivery.host, delivery.sequence)
    log = Change(audits=audits((delivery.host,), actor, "delivery.redeliver", delivery.id, now=now))
    await _queue(store, endpoint, [wanted], log, now=now, only_failed=False)
    name = keys.delivery(delivery.id)
    found = (await load.fetch(store, names=[name])).records[name]
    return found if isinstance(found, Delivery) else delivery


async def redeliver_many(
    store: Store,
    endpoint: Endpoint,
    *,
    since: datetime | None,
    until: datetime | None,
    only_failed: bool,
    actor: Actor,
    now: datetime,
) -> int:
    """Deliver a range to an endpoint once more, the oldest first.

    Args:
        store: where from.
        endpoint: to which.
        since: None: from the oldest that is kept.
        until: None: up to now.
        only_failed: True: what was given up and what waits for another try, by when it was first tried. False: every
            event that the endpoint wants, by when it happened, whether or not it ever got it; those from before it
            was added too.
        actor: who wants it.
        now: the time.

    Returns:
        How many were queued. If that is `MOST_AT_ONCE` there may be more.

    Raises:
        ConfigError: the endpoint is disabled, or too much waits for it; some are queued.
        ConflictError: deliveries change faster than they can be written; some are queued.
    """
    must_be_enabled(endpoint)
    start = since or datetime.min.replace(tzinfo=now.tzinfo)
    end = min(until or now, now + timedelta(days=1))  # nothing is later, but by clocks that are wrong
    if only_failed:
        wanted = await _failed(store, endpoint, start, end)
    else:
        wanted = [one async for one in _wanted(store, endpoint, start, end)]
    detail = f"{len(wanted)} {'failed' if only_failed else 'in a range'}"
    entries = audits(endpoint.hosts, actor, "endpoint.redeliver", endpoint.id, now=now, detail=detail)
    log, total = Change(audits=entries), 0
    for at in range(0, len(wanted), _AT_ONCE):
        await _must_have_room(store, endpoint, queued=total)
        batch = wanted[at : at + _AT_ONCE]
        queued = await _queue(store, endpoint, batch, log, now=now, only_failed=only_failed)
        log, total = (Change() if queued else log), total + queued
    return total


async def _must_have_room(store: Store, endpoint: Endpoint, *, queued: int) -> None:
    """Refuse to let a lane grow without end: whoever asks again and again would fill the store."""
    waiting = await waiting_in(store, Queue.DELIVERIES, lanes.endpoint_lane(endpoint.id))
    if waiting >= _MOST_WAITING:
        raise ConfigError(
            f"{waiting} deliveries wait for endpoint {endpoint.id}, which is the most ({queued} were queued now); "
            "ask again when they are made"
        )


async def _queue(
    store: Store,
    endpoint: Endpoint,
    batch: Sequence[_Wanted],
    log: Change,
    *,
    now: datetime,
    only_failed: bool,
) -> int:
    """Queue a batch in one commit, together with `log`; what a worker settles meanwhile is looked at again.

    Returns:
        How many; where none, nothing was written.
    """
    names = {
        one: keys.delivery(delivery_id(endpoint.id, one.host, one.sequence)) for one in dict.fromkeys(batch)
    }
    for _ in range(_TRIES):
        records = (await load.fetch(store, names=list(names.values()))).records
        change, count = log, 0
        for one, name in names.items():
            known = records[name]
            if only_failed and not (isinstance(known, Delivery) and _is_failed(known)):
                continue
            change += _again(endpoint, one, known if isinstance(known, Delivery) else None, now=now)
            count += 1
        if not count:
            return 0
        try:
            await commit(store, change)
        except ConflictError:
            continue
        return count
    raise ConflictError(f"the deliveries of {endpoint.id} change faster than they can be queued; try again")


def _is_failed(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.DEAD or (
        delivery.state is DeliveryState.PENDING and delivery.tries > 0
    )


def _again(endpoint: Endpoint, one: _Wanted, known: Delivery | None, *, now: datetime) -> Change:
    append: Append = lanes.deliver(endpoint.id, one.host, one.sequence, nonce=f"-r{new_id()}")
    if known is None:  # its record is written when it is tried
        return Change(appends=(append,))
    after = replace(known, state=DeliveryState.PENDING, tries=0, next_at=now)
    return Change(puts=(Put(known, after),), appends=(append,))


async def _failed(store: Store, endpoint: Endpoint, start: datetime, end: datetime) -> list[_Wanted]:
    """Find what failed and was first tried in this time, the oldest first."""
    bounds = {host: (await load.event_bounds(store, host))[0] for host in endpoint.hosts}
    found: list[Delivery] = []
    for state in (DeliveryState.DEAD, DeliveryState.PENDING):
        count = 0
        async for one in _deliveries(store, keys.deliveries_with_state(endpoint.id, state), start, end):
            if one.host in bounds and one.sequence >= bounds[one.host] and _is_failed(one):
                found.append(one)
                count += 1
            if count == MOST_AT_ONCE:
                break
    found.sort(key=lambda one: (one.created_at, one.host, one.sequence))
    return [_Wanted(one.host, one.sequence) for one in found[:MOST_AT_ONCE]]


async def _deliveries(store: Store, index: str, start: datetime, end: datetime) -> AsyncIterator[Delivery]:
    """Walk an index of deliveries from a moment to another, a page at a time."""
    after = (keys.milliseconds(start), "")
    while entries := await load.page_of_oldest(store, index, limit=_PAGE, after=after):
        records = (await load.fetch(store, names=[keys.delivery(member) for member, _ in entries])).records
        for one in records.values():
            if isinstance(one, Delivery) and start <= one.created_at <= end:
                yield one
        member, score = entries[-1]
        if score > keys.milliseconds(end):
            return
        after = (score, member)


async def _wanted(store: Store, endpoint: Endpoint, start: datetime, end: datetime) -> AsyncIterator[_Wanted]:
    """Walk the events of the endpoint's hosts in this time that it wants, the oldest of each first."""
    anything = replace(endpoint, since={})
    count = 0
    for host in endpoint.hosts:
        async for event in _events(store, host, start, end):
            happened_at = datetime.fromisoformat(event["timestamp"])
            if start <= happened_at <= end and deliver.is_wanted(anything, event, host=host):
                yield _Wanted(host, event["data"]["sequence"])
                count += 1
                if count == MOST_AT_ONCE:
                    return


async def _events(
    store: Store, host: str, start: datetime, end: datetime
) -> AsyncIterator[Mapping[str, Any]]:
    """Walk a host's events from a moment to another, and a few more on either side."""
    after = await _before(store, host, start - _APART if start.year > 1 else start)
    while events := await load.events(store, host, after=after, limit=_PAGE):
        for _, event in events:
            yield event
        after = events[-1][0]
        if datetime.fromisoformat(events[-1][1]["timestamp"]) > end + _APART:
            return


async def _before(store: Store, host: str, moment: datetime) -> int:
    """Find the sequence after which a host's events are not older than a moment, without reading all of them."""
    low, high = await load.event_bounds(store, host)
    while low <= high:
        middle = (low + high) // 2
        found = await load.events(store, host, after=middle - 1, limit=1)
        if found and datetime.fromisoformat(found[0][1]["timestamp"]) < moment:
            low = found[0][0] + 1
        else:
            high = middle - 1
    return low - 1
