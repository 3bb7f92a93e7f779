"""Build the indexes anew from the records, after a release changed them or a restored backup lacks them.

House rule: run it while nothing else writes; it first adds what is missing and then removes what is wrong.
"""

from typing import Any, Final

from bridge.store import keys
from bridge.store.connect import Store, reaching
from bridge.store.load import fetch

_BATCH: Final = 500


async def rebuild_indexes(store: Store) -> int:
    """Make every index what the records say; returns the number of records read."""
    wanted: dict[str, dict[str, int]] = {}
    found = [keys.record_name(key) for key in await _keys(store, f"{keys.PREFIX}r:*")]
    for start in range(0, len(found), _BATCH):
        fetched = await fetch(store, names=found[start : start + _BATCH])
        for record in fetched.records.values():
            for index, (member, score) in ({} if record is None else keys.index_entries(record)).items():
                wanted.setdefault(index, {})[member] = score
    for index in await _keys(store, f"{keys.PREFIX}i:*"):
        wanted.setdefault(index, {})
    for index, members in wanted.items():
        await _correct(store, index, members)
    return len(found)


async def _keys(store: Store, pattern: str) -> list[str]:
    async with reaching(store):
        return sorted({key.decode() async for key in store.redis.scan_iter(pattern, count=1000)})


async def _correct(store: Store, index: str, members: dict[str, int]) -> None:
    async with reaching(store):
        present: Any = await store.redis.zrange(index, 0, -1)
        wrong = [member for member in present if member.decode() not in members]
        async with store.redis.pipeline(transaction=True) as pipe:
            if members:
                pipe.zadd(index, members)
            if wrong:
                pipe.zrem(index, *wrong)
            await pipe.execute()
