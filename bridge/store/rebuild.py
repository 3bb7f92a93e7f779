"""Build the indexes anew from the records, after a release changed them or a restored backup lacks them.

House rules: others may write meanwhile, so nothing is written on the word of a record that changed since it was
read; an index of a kind that is not known here is added to, and nothing is removed from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.exceptions import WatchError

from bridge.errors import ConflictError
from bridge.store import keys
from bridge.store.connect import Store, reaching
from bridge.store.keys import RecordName
from bridge.store.load import fetch

_BATCH: Final = 100
_ATTEMPTS: Final = 100
_INTERACTIONS: Final = frozenset({"interactions", "held"})
_INCIDENTS: Final = frozenset(
    {"incidents", "made", "quarantined", "reporter", "status", "account", "text", "source"}
)
_PEERS: Final = frozenset({"peers", "peername", "trusted", "undecided", "forward"})
_OTHERS: Final = {
    "endpoint": keys.endpoint,
    "delivery": keys.delivery,
    "token": keys.token,
    "triage": keys.triage,
    "approval": keys.approval,
    "mitigation": keys.mitigation,
    "session": keys.session,
    "abuse": keys.abuse_draft,
    "feed": keys.feed,
}
Entry = tuple[str, str]
"""An index's key, and a member."""


async def rebuild_indexes(store: Store) -> int:
    """Make every index what the records say; returns the number of records read."""
    names = [keys.record_name(key) for key in await _keys(store, f"{keys.PREFIX}r:*")]
    right: set[Entry] = set()
    for start in range(0, len(names), _BATCH):
        right |= await _correct(store, names[start : start + _BATCH], {})
    for index in await _keys(store, f"{keys.PREFIX}i:*"):
        async with reaching(store):
            members: Any = await store.redis.zrange(index, 0, -1)
        doubtful = [entry for raw in members if (entry := (index, raw.decode())) not in right]
        named = {entry: name for entry in doubtful if (name := named_by(*entry)) is not None}
        for start in range(0, len(named), _BATCH):
            some = dict(list(named.items())[start : start + _BATCH])
            await _correct(store, list(some.values()), some)
    return len(names)


def named_by(index: str, member: str) -> RecordName | None:
    """The record that a member of an index stands for; None for an index of another kind."""
    kind, _, rest = index.removeprefix(f"{keys.PREFIX}i:").partition(":")
    if kind in _INTERACTIONS:
        return keys.interaction(member)
    if kind in _INCIDENTS:
        return keys.incident(member)
    if kind in _PEERS or kind == "listing":
        named = keys.peer if kind in _PEERS else keys.listing
        return named(rest.replace("%3A", ":").replace("%25", "%"), member)
    return _OTHERS[kind](member) if kind in _OTHERS else None


async def _keys(store: Store, pattern: str) -> list[str]:
    async with reaching(store):
        return sorted({key.decode() async for key in store.redis.scan_iter(pattern, count=1000)})


async def _correct(
    store: Store, names: Sequence[RecordName], doubtful: Mapping[Entry, RecordName]
) -> set[Entry]:
    """Write the entries of these records, remove those that they do not have; returns the former."""
    for _ in range(_ATTEMPTS):
        try:
            return await _try(store, names, doubtful)
        except WatchError:  # one of them changed meanwhile
            continue
    raise ConflictError("the records change faster than their indexes can be rebuilt; try again")


async def _try(store: Store, names: Sequence[RecordName], doubtful: Mapping[Entry, RecordName]) -> set[Entry]:
    async with reaching(store), store.redis.pipeline(transaction=True) as pipe:
        await pipe.watch(*{keys.record_key(name) for name in names})
        records = (await fetch(store, names=names)).records
        right: set[Entry] = set()
        pipe.multi()  # type: ignore[no-untyped-call]  # redis-py left it untyped
        for record in records.values():
            for index, (member, score) in ({} if record is None else keys.index_entries(record)).items():
                pipe.zadd(index, {member: score})
                right.add((index, member))
        for index, member in doubtful.keys() - right:
            pipe.zrem(index, member)
        await pipe.execute()
        return right
