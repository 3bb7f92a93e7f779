"""Pages of approvals and mitigations, newest first, of all hosts that somebody may see.

House rule: a page costs a bounded number of records, however much is stored.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from bridge.policy.decisions import Approval, Mitigation
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.web.console.find import Cursor, records

_MOST: Final = 100
_LATER: Final = timedelta(days=1)


async def approvals(
    store: Store, indexes: Iterable[str], *, limit: int = _MOST, before: Cursor | None = None
) -> tuple[list[Approval], Cursor | None]:
    """A page of approvals, and where the next begins; None: there is none."""
    members, after = await _page(store, tuple(indexes), limit=limit, before=before)
    found = await records(store, map(keys.approval, members))
    return [one for one in found if isinstance(one, Approval)], after


async def waiting(
    store: Store, hosts: Sequence[str], *, now: datetime, limit: int = _MOST
) -> tuple[list[Approval], int]:
    """What waits for a yes or no, the oldest first, for that is declined by itself first; and how many more do."""
    indexes = every(keys.approvals_open, hosts)
    than = now + _LATER  # another machine's clock
    members = await asyncio.gather(*(load.older(store, one, than=than, limit=limit) for one in indexes))
    found = await records(store, (keys.approval(one) for part in members for one in part))
    ordered = sorted((one for one in found if isinstance(one, Approval)), key=lambda one: one.created_at)
    total = sum(await load.sizes(store, indexes)) if indexes else 0
    return ordered[:limit], max(0, total - len(ordered[:limit]))


async def mitigations(
    store: Store, indexes: Iterable[str], *, limit: int = _MOST, before: Cursor | None = None
) -> tuple[list[Mitigation], Cursor | None]:
    """A page of mitigations, and where the next begins; None: there is none."""
    members, after = await _page(store, tuple(indexes), limit=limit, before=before)
    found = await records(store, map(keys.mitigation, members))
    return [one for one in found if isinstance(one, Mitigation)], after


async def _page(
    store: Store, indexes: Sequence[str], *, limit: int, before: Cursor | None
) -> tuple[list[str], Cursor | None]:
    pages = await asyncio.gather(
        *(load.page(store, index, limit=limit + 1, before=before) for index in indexes)
    )
    entries = sorted({(score, member) for page in pages for member, score in page}, reverse=True)
    after = entries[limit - 1] if len(entries) > limit else None
    return [member for _, member in entries[:limit]], after


def every(index: Callable[[str], str], hosts: Iterable[str]) -> list[str]:
    """The index of each host."""
    return [index(host) for host in hosts]
