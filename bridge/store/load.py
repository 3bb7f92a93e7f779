"""Read what is stored; every call is one round trip (a page of an index needs a second for its records)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bridge.policy.abuse_record import AbuseKind, Shortage
from bridge.policy.change import Queue, Tally, Telling
from bridge.policy.record import Record
from bridge.store import codec, keys
from bridge.store.connect import Script, Store, reaching, run
from bridge.store.keys import RecordName
from bridge.xep0268.model import Kind

_FIELDS: Final = ("v", "d", "s", "t")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What was asked for; None where nothing is stored.

    Attributes:
        remembered: the interaction that brought the payload, under (host, name).
        once: the answer recorded for the webhook id.
    """

    records: Mapping[RecordName, Record | None]
    remembered: Mapping[tuple[str, str], str | None]
    once: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneHealth:
    """One queue's lanes; `oldest_ready_age_seconds` is None while no lane waits for a worker."""

    lanes: int
    items: int
    oldest_ready_age_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealth:
    """What /ready and /metrics tell.

    Attributes:
        max_bytes: the store's own limit; None: there is none.
        workers_seen: seconds since any worker of the queue showed itself; None: never.
        set_aside: how often the counter ("set_aside", …) was raised.
        replicas: how many servers have what the store has, but for the last moment.
    """

    used_bytes: int
    max_bytes: int | None
    workers_seen: Mapping[Queue, float | None]
    lanes: Mapping[Queue, LaneHealth]
    counters: Mapping[tuple[str, ...], int]
    set_aside: int
    replicas: int = 0


async def fetch(
    store: Store,
    *,
    names: Sequence[RecordName] = (),
    remembered: Sequence[tuple[str, str]] = (),
    once: str | None = None,
    originals: bool = False,
) -> Fetched:
    """Load records, remembered payloads and a recorded answer.

    Args:
        store: where from.
        names: the records wanted.
        remembered: (host, name) of payloads.
        once: a webhook id. With sentinels the answer is always None: only `commit` can tell whether it will last.
        originals: also load the interactions' original bytes.
    """
    names = list(dict.fromkeys(names))
    remembered = list(dict.fromkeys(remembered))
    async with reaching(store), store.redis.pipeline(transaction=False) as pipe:
        wanted = [_fields(name, originals=originals) for name in names]
        for name, fields in zip(names, wanted, strict=True):
            pipe.hmget(keys.record_key(name), fields)
        for host, payload in remembered:
            pipe.get(keys.remembered(host, payload))
        if once is not None and store.sentinels is None:
            pipe.get(keys.once(once))
        replies: list[Any] = await pipe.execute()
    rows, texts = replies[: len(names)], replies[len(names) : len(names) + len(remembered)]
    return Fetched(
        records={
            name: codec.decode(name.type, dict(zip(fields, row, strict=True)))
            for name, fields, row in zip(names, wanted, rows, strict=True)
        },
        remembered={pair: text and text.decode() for pair, text in zip(remembered, texts, strict=True)},
        once=replies[-1] if once is not None and store.sentinels is None else None,
    )


def _fields(name: RecordName, *, originals: bool) -> Sequence[str]:
    """The fields of a record; only interactions have more than two."""
    if name.type != "interaction":
        return _FIELDS[:2]
    return (*_FIELDS, "o") if originals else _FIELDS


async def page(
    store: Store, index: str, *, limit: int, before: tuple[int, str] | None = None
) -> list[tuple[str, int]]:
    """A page of an index (its key comes from `keys`), newest first, as (member, score).

    Args:
        store: where from.
        index: the index's key.
        limit: at most so many.
        before: the (score, member) that ended the page before; entries that came or went meanwhile move nothing.
    """
    found: list[tuple[str, int]] = []
    top: str | int = "+inf" if before is None else before[0]
    offset = 0
    while len(found) < limit:
        async with reaching(store):
            rows: Any = await store.redis.zrange(
                index, top, "-inf", desc=True, byscore=True, withscores=True, offset=offset, num=limit
            )
        entries = [(bytes(member).decode(), int(score)) for member, score in rows]
        found += [each for each in entries if before is None or (each[1], each[0]) < before]
        offset += len(entries)
        if len(entries) < limit:
            break
    return found[:limit]


async def page_of_oldest(
    store: Store, index: str, *, limit: int, after: tuple[int, str]
) -> list[tuple[str, int]]:
    """A page of an index, oldest first, as (member, score): what follows on this (score, member); see `page`."""
    found: list[tuple[str, int]] = []
    offset = 0
    while len(found) < limit:
        async with reaching(store):
            rows: Any = await store.redis.zrange(
                index, after[0], "+inf", byscore=True, withscores=True, offset=offset, num=limit
            )
        entries = [(bytes(member).decode(), int(score)) for member, score in rows]
        found += [each for each in entries if (each[1], each[0]) > after]
        offset += len(entries)
        if len(entries) < limit:
            break
    return found[:limit]


async def sizes(store: Store, indexes: Sequence[str]) -> tuple[int, ...]:
    """How many members each index has; one that is not there has none."""
    async with reaching(store), store.redis.pipeline(transaction=False) as pipe:
        for index in indexes:
            pipe.zcard(index)
        replies: list[Any] = await pipe.execute()
    return tuple(int(reply) for reply in replies)


async def between(store: Store, spans: Sequence[tuple[str, datetime, datetime]]) -> tuple[int, ...]:
    """How many members an index has from a moment up to, but not including, another; for each (index, from, to)."""
    async with reaching(store), store.redis.pipeline(transaction=False) as pipe:
        for index, start, end in spans:
            pipe.zcount(index, keys.milliseconds(start), f"({keys.milliseconds(end)}")
        replies: list[Any] = await pipe.execute()
    return tuple(int(reply) for reply in replies)


async def those_in(store: Store, index: str, members: Sequence[str]) -> set[str]:
    """Which of these are members of an index."""
    if not members:
        return set()
    async with reaching(store):
        scores: Any = await store.redis.zmscore(index, list(members))
    return {member for member, score in zip(members, scores, strict=True) if score is not None}


async def common(store: Store, ranked: str, others: Sequence[str]) -> list[tuple[str, int]]:
    """The members that all these indexes have, by their score in `ranked`, newest first.

    The store looks at every member of the smallest of them: ask for `sizes` first.
    """
    weights = {ranked: 1} | dict.fromkeys(others, 0)
    async with reaching(store):
        rows: Any = await store.redis.zinter(weights, withscores=True)
    entries = [(bytes(member).decode(), int(score)) for member, score in rows]
    return sorted(entries, key=lambda entry: (entry[1], entry[0]), reverse=True)


async def newest(store: Store, indexes: Sequence[str], *, limit: int) -> dict[str, tuple[str, ...]]:
    """The newest members of several indexes, in one round trip; an index that is not there is empty."""
    async with reaching(store), store.redis.pipeline(transaction=False) as pipe:
        for index in indexes:
            pipe.zrange(index, 0, limit - 1, desc=True)
        replies: list[Any] = await pipe.execute()
    return {
        index: tuple(member.decode() for member in members)
        for index, members in zip(indexes, replies, strict=True)
    }


async def count(store: Store, index: str) -> int:
    """How many members an index has."""
    async with reaching(store):
        return int(await store.redis.zcard(index))


async def names(store: Store, index: str, *, after: str, limit: int) -> tuple[str, ...]:
    """The members of an index whose scores are all the same, in the order of their bytes; "" is before all."""
    async with reaching(store):
        start = f"({after}".encode() if after else b"-"
        rows: Any = await store.redis.zrange(index, start, b"+", bylex=True, offset=0, num=limit)
    return tuple(member.decode() for member in rows)


async def older(store: Store, index: str, *, than: datetime, limit: int, offset: int = 0) -> tuple[str, ...]:
    """The members of an index from before a moment, oldest first, without the first `offset`."""
    async with reaching(store):
        rows: Any = await store.redis.zrange(
            index, "-inf", keys.milliseconds(than), byscore=True, offset=offset, num=limit
        )
    return tuple(member.decode() for member in rows)


async def tallies(store: Store, host: str, telling: Telling) -> tuple[Tally, ...]:
    """What the admins of a host are still to be told; what a newer release counts waits for its workers."""
    async with reaching(store):
        counts: Any = await store.redis.hgetall(keys.tallies(host, telling))
    kinds: dict[str, Kind | AbuseKind | Shortage] = {
        str(kind): kind for kind in (*Kind, *AbuseKind, *Shortage)
    }
    found = []
    for member, count in counts.items():
        word, _, peer = member.decode().partition(" ")
        if word in kinds:
            found.append(Tally(host=host, telling=telling, peer=peer, kind=kinds[word], count=int(count)))
    return tuple(found)


async def memory(store: Store) -> tuple[int, int | None]:
    """How many bytes the store uses, and how many it may; for the watermarks."""
    async with reaching(store):
        info: Any = await store.redis.info("memory")
    return int(info["used_memory"]), int(info.get("maxmemory", 0)) or None


async def health(store: Store) -> StoreHealth:
    """Look at everything that tells whether work gets done."""
    used_bytes, max_bytes = await memory(store)
    rows = await run(store, Script.HEALTH, *Queue)
    async with reaching(store):
        raw: Any = await store.redis.hgetall(keys.COUNTERS)
        replication: Any = await store.redis.info("replication")
    counters = {tuple(json.loads(name)): int(value) for name, value in raw.items()}
    states = dict(zip(Queue, rows, strict=True))
    return StoreHealth(
        used_bytes=used_bytes,
        max_bytes=max_bytes,
        workers_seen={queue: _seconds(state[0]) for queue, state in states.items()},
        lanes={
            queue: LaneHealth(lanes=state[1], items=state[2], oldest_ready_age_seconds=_seconds(state[3]))
            for queue, state in states.items()
        },
        counters=counters,
        set_aside=sum(value for name, value in counters.items() if name[0] == "set_aside"),
        replicas=sum(isinstance(one, dict) and one.get("state") == "online" for one in replication.values()),
    )


def _seconds(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000


async def events(store: Store, host: str, *, after: int, limit: int) -> list[tuple[int, dict[str, Any]]]:
    """A host's events after the one numbered `after`, oldest first; `data.sequence` is filled in here."""
    async with reaching(store):
        rows: Any = await store.redis.xrange(keys.events(host), min=f"{after + 1}-0", count=limit)
    return [_event(int(name.partition(b"-")[0]), fields[b"e"]) for name, fields in rows]


async def events_numbered(store: Store, host: str, sequences: Sequence[int]) -> dict[int, dict[str, Any]]:
    """A host's events with these numbers; what is no longer kept is left out."""
    if not sequences:
        return {}
    numbers = sorted(set(sequences))
    if numbers[-1] - numbers[0] < 2 * len(numbers):  # neighbours: one call
        spans = [(numbers[0], numbers[-1])]
    else:
        spans = [(number, number) for number in numbers]
    async with reaching(store), store.redis.pipeline(transaction=False) as pipe:
        for low, high in spans:
            pipe.xrange(keys.events(host), min=f"{low}-0", max=f"{high}-0")
        replies: list[Any] = await pipe.execute()
    rows = (row for reply in replies for row in reply)
    found = dict(_event(int(name.partition(b"-")[0]), fields[b"e"]) for name, fields in rows)
    return {number: found[number] for number in numbers if number in found}


async def event_bounds(store: Store, host: str) -> tuple[int, int]:
    """The sequence of a host's oldest event still kept, and of its newest ever; (1, 0) if there was none.

    Where all were dropped meanwhile, the first is one above the second.
    """
    async with reaching(store), store.redis.pipeline(transaction=True) as pipe:
        pipe.xrange(keys.events(host), count=1)
        pipe.get(keys.sequence(host))
        oldest, newest = await pipe.execute()
    last = int(newest or 0)
    return (int(oldest[0][0].partition(b"-")[0]) if oldest else last + 1), last


async def audits(
    store: Store, host: str, *, limit: int, before: str = "+"
) -> list[tuple[str, dict[str, str]]]:
    """A host's audit log, newest first, as (entry id, the fields of `Audit`); `before` is the last id of a page."""
    async with reaching(store):
        newest = before if before == "+" else f"({before}"
        rows: Any = await store.redis.xrevrange(keys.audit(host), max=newest, count=limit)
    return [(name.decode(), json.loads(codec.unpack(fields[b"e"]))) for name, fields in rows]


def _event(sequence: int, body: bytes) -> tuple[int, dict[str, Any]]:
    event: dict[str, Any] = json.loads(codec.unpack(body))
    event["data"]["sequence"] = sequence
    return sequence, event
