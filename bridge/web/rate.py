"""How many requests a token may make, however many processes serve it.

The bucket lies in the store. A process takes a share of it ahead (a twentieth of a minute's worth) in one commit and
spends that by itself, so a read costs no write; together the processes never spend more than the bucket held. What
a process does not spend within a minute is lost to the token, at most one share for each process.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from bridge.errors import ConflictError
from bridge.policy import quota
from bridge.policy.change import Change, Put
from bridge.policy.record import Bucket
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

_SHARES: Final = 20
_KEPT: Final = timedelta(minutes=1)
_TRIES: Final = 20
_MOST_TOKENS: Final = 10_000


@dataclass(slots=True)
class _Share:
    left: int = 0
    until: datetime | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Rates:
    """What this process may still spend for each token, the most recently used last."""

    shares: OrderedDict[str, _Share] = field(default_factory=OrderedDict)

    async def spend(self, store: Store, token_id: str, *, per_minute: int, now: datetime) -> float | None:
        """Spend one request; None if there was one, else in how many seconds there is."""
        share = self.shares.setdefault(token_id, _Share())
        self.shares.move_to_end(token_id)
        if len(self.shares) > _MOST_TOKENS:
            self.shares.popitem(last=False)
        async with share.lock:
            if share.until is None or share.until <= now:
                share.left = 0
            if not share.left:
                taken, seconds = await _take(store, token_id, per_minute=per_minute, now=now)
                if not taken:
                    return seconds
                share.left, share.until = taken, now + _KEPT
            share.left -= 1
        return None


async def _take(store: Store, token_id: str, *, per_minute: int, now: datetime) -> tuple[int, float]:
    """Take a share out of the bucket in the store; (0, seconds) if there is less than one request in it."""
    name = keys.bucket("", f"token {token_id}")
    for _ in range(_TRIES):
        found = (await load.fetch(store, names=[name])).records[name]
        before = found if isinstance(found, Bucket) else None
        bucket = quota.refill(
            before, "", f"token {token_id}", per_minute=per_minute, burst=per_minute, now=now
        )
        taken = min(int(bucket.tokens), max(1, per_minute // _SHARES))
        if not taken:
            return 0, (1 - bucket.tokens) * 60 / per_minute
        after = replace(bucket, tokens=bucket.tokens - taken)
        try:
            await commit(store, Change(puts=(Put(before, after),)))
        except ConflictError:
            continue  # another process was faster
        return taken, 0
    return 0, 1
