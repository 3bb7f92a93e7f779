"""The only way to write: one change, one script, all or nothing.

House rules: everything is checked before the first write; the script never asks what a record means; a commit
that was done already (a repeated call after a lost connection) is refused, not doubled.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from bridge.errors import ConflictError
from bridge.policy import stages
from bridge.policy.change import Audit, Change, Event, Mark, Put, Queue, Remember, Tally, Timer
from bridge.policy.lanes import events_lane
from bridge.policy.record import Bucket, Record
from bridge.policy.sessions import SignIn
from bridge.store import codec, keys, rq
from bridge.store.connect import Script, Store, run_stored

LEASE_SECONDS: float = 10
RESERVE_SECONDS: Final = 1  # how long a drain counts as alive while its job is being enqueued
_ONCE_SECONDS: Final = 600
_AUDITS_KEPT: Final = 100_000
Command = tuple[str | bytes | int, ...]


class StaleError(ConflictError):
    """A record is no longer the one that the change was decided on, or a payload is remembered already."""


class FencedError(ConflictError):
    """A lease is no longer ours, or its items were finished before; nothing is left to do."""


class SeenError(ConflictError):
    """This webhook id was answered before; `answer` is what was recorded then."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("this webhook id was answered before")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Lease:
    """Some items at the head of a lane, and the right to finish them.

    Attributes:
        token: compared as a whole; good until somebody else takes the lane.
        tries: how often this lane was taken since it last got on, this time included.
        deaths_alone: how many of those tries ended in the death of the worker with no other lane to blame.
    """

    queue: Queue
    lane: str
    token: str
    items: tuple[bytes, ...]
    tries: int = 1
    deaths_alone: int = 0


@dataclass(frozen=True, slots=True)
class Once:
    """The answer to record under a webhook id; a second commit under that id is a `SeenError`."""

    id: str
    answer: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """For each lease, in order: how many items its lane still has, and the next of them if `keep` was given.

    A lane with nothing left was given back, whatever `keep` said.
    """

    left: tuple[int, ...]
    next_items: tuple[tuple[bytes, ...], ...]


async def commit(
    store: Store,
    change: Change,
    *,
    leases: Sequence[Lease] = (),
    keep: int | None = None,
    once: Once | None = None,
) -> Committed:
    """Carry out the change and finish the items of the leases, then wake a worker where none drains.

    Args:
        store: where to.
        change: what is to be written.
        leases: leases whose items are finished by this.
        keep: None: give the lanes back; n: go on holding them, and return the next n items.
        once: the answer to record.

    Raises:
        StaleError: load again, decide again.
        FencedError: drop the work, take again.
        SeenError: give the recorded answer.
        UnavailableError: it may or may not be stored; the same call again is safe if it has leases or `once`.
    """
    arguments = _arguments(store, change, leases=leases, keep=keep, once=once)
    spares: dict[str, list[str]] = arguments[0]["spares"]
    reply = await run_stored(store, Script.COMMIT, json.dumps(arguments[0]), *arguments[1])
    match reply[0]:
        case b"SEEN":
            raise SeenError(reply[1])
        case b"FENCED":
            raise FencedError(f"lane {reply[1].decode()} is no longer ours")
        case b"STALE":
            raise StaleError(f"{reply[1].decode()} was changed meanwhile")
    _, left, following, woken = reply
    await rq.wake(store, {Queue(name.decode()): spares[name.decode()][1] for name in woken})
    return Committed(left=tuple(left), next_items=tuple(tuple(items) for items in following))


def _arguments(
    store: Store, change: Change, *, leases: Sequence[Lease], keep: int | None, once: Once | None
) -> tuple[dict[str, Any], list[str | bytes | int]]:
    commands = list(_commands(change, once=once))
    queues = {each.queue for each in change.appends} | ({Queue.DELIVERIES} if change.events else set())
    header: dict[str, Any] = {
        "leases": [(lease.queue, lease.lane, lease.token, len(lease.items)) for lease in leases],
        "versions": _versions(change.puts) + [_version(each) for each in change.drops],
        "absent": [keys.remembered(each.host, each.name) for each in change.remembers if each.is_new],
        "appends": [(each.queue, each.lane) for each in change.appends],
        "events": [
            (
                keys.events(each.host),
                keys.sequence(each.host),
                keys.endpoints(each.host),
                events_lane(each.host),
            )
            for each in change.events
        ],
        "commands": len(commands),
        "marks": [_mark(each) for each in change.marks],
        "tallies": _tallies(change.tallies),
        "lease_ms": round(LEASE_SECONDS * 1000),
        "reserve_ms": RESERVE_SECONDS * 1000,
        "spares": {str(queue): [rq.list_key(store, queue), rq.new_drain()] for queue in sorted(queues)},
    }
    if keep is not None:
        header["keep"] = keep
    if once is not None:
        header["once"] = keys.once(once.id)
        header["has_replicas"] = store.sentinels is not None
    blobs: list[str | bytes | int] = [item for lease in leases for item in lease.items]
    blobs += [codec.item_bytes(each.item) for each in change.appends]
    blobs += [_event_bytes(each) for each in change.events]
    for command in commands:
        blobs += (len(command), *command)
    return header, blobs


def _versions(puts: Sequence[Put]) -> list[tuple[str, str]]:
    names = [keys.name_of(put.after) for put in puts]
    if len(set(names)) < len(names):
        raise ValueError("a change puts the same record twice")
    for put, name in zip(puts, names, strict=True):
        if put.before is not None and keys.name_of(put.before) != name:
            raise ValueError(f"a change puts {name} over another record")
    return [
        (keys.record_key(name), "" if put.before is None else str(put.before.version))
        for put, name in zip(puts, names, strict=True)
    ]


def _version(record: Record) -> tuple[str, str]:
    return keys.record_key(keys.name_of(record)), str(record.version)


def _commands(change: Change, *, once: Once | None) -> Iterator[Command]:  # noqa: C901 - one loop for each field
    for put in change.puts:
        yield from _put(put)
    for record in change.drops:
        yield ("DEL", keys.record_key(keys.name_of(record)))
        for index, (member, _) in keys.index_entries(record).items():
            yield ("ZREM", index, member)
    for remember in change.remembers:
        yield _remember(remember)
    for forget in change.forgets:
        yield ("DEL", keys.remembered(forget.host, forget.name))
    for timer in {each.name: each for each in change.timers}.values():
        yield from _timer(timer)
    for audit in change.audits:
        yield _audit(audit)
    for trim in change.trims:
        yield ("XTRIM", keys.events(trim.host), "MINID", f"{trim.sequence}-0")
    for count, by in {**Counter(change.counts), **stages.counts(change.times)}.items():
        yield ("HINCRBY", keys.COUNTERS, json.dumps(count), by)
    if once is not None:
        yield ("SET", keys.once(once.id), once.answer, "EX", _ONCE_SECONDS)


def _put(put: Put) -> Iterator[Command]:
    name = keys.name_of(put.after)
    key = keys.record_key(name)
    version = 1 if put.before is None else put.before.version + 1
    yield ("HSET", key, *_flat(codec.fields(put.after, kind=name.type, version=version)))
    if isinstance(put.after, Bucket | SignIn):
        yield ("EXPIRE", key, max(1, put.after.ttl_seconds))
    before: Mapping[str, tuple[str, int]] = {} if put.before is None else keys.index_entries(put.before)
    after = keys.index_entries(put.after)
    for index, (member, score) in after.items():
        if before.get(index) != (member, score):
            yield ("ZADD", index, score, member)
    for index, (member, _) in before.items():
        if index not in after or after[index][0] != member:
            yield ("ZREM", index, member)


def _flat(fields: Mapping[str, bytes | str | int]) -> Command:
    return tuple(word for field in fields.items() for word in field)


def _mark(mark: Mark) -> tuple[str | bytes | int, ...]:
    key = keys.record_key(keys.interaction(mark.interaction_id))
    return (key, *_flat(codec.state_fields(mark.state, mark.at)))


def _tallies(tallies: Sequence[Tally]) -> list[tuple[str, str, int]]:
    sums: Counter[tuple[str, str]] = Counter()
    for each in tallies:
        sums[keys.tallies(each.host, each.telling), f"{each.kind} {each.peer}"] += each.count
    return [(*name, count) for name, count in sums.items()]


def _remember(remember: Remember) -> Command:
    key = keys.remembered(remember.host, remember.name)
    return ("SET", key, remember.value, "EX", max(1, remember.ttl_seconds))


def _timer(timer: Timer) -> Iterator[Command]:
    append = timer.append
    item = codec.item_bytes(append.item)
    yield ("ZADD", keys.TIMERS, keys.milliseconds(timer.due_at), timer.name)
    yield ("HSET", keys.timer(timer.name), "queue", append.queue, "lane", append.lane, "item", item)


def _audit(audit: Audit) -> Command:
    body = {**asdict(audit), "at": audit.at.isoformat()}
    packed = codec.pack(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
    return ("XADD", keys.audit(audit.host), "MAXLEN", "~", _AUDITS_KEPT, "*", "e", packed)


def _event_bytes(event: Event) -> bytes:
    body = {"id": event.id, "type": event.type, "timestamp": event.timestamp.isoformat(), "data": event.data}
    return codec.pack(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())


def finished(lease: Lease, items: Sequence[bytes]) -> Lease:
    """The same lease, to finish these items only."""
    return replace(lease, items=tuple(items))
