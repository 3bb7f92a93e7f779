"""The drain of the queue `incidents`: many peers' lanes in one batch, no network but the store.

House rules: one take, one load and one commit for a batch; where that finds something stale, again, then each lane
alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from bridge import log
from bridge.errors import ConflictError, FormatError, UnavailableError
from bridge.policy.change import Queue
from bridge.store import lanes
from bridge.store.commit import FencedError, Lease, StaleError
from bridge.store.connect import Store
from bridge.worker.bell import Bell

_log = log.get(__name__)

DEATHS_ALONE: Final = 5  # then the item is set aside
SHIFT_SECONDS: Final = 20  # then a successor takes over, so that no process grows old
_RETRY_SECONDS: Final = 1
_STALE_TRIES: Final = 4


class Process(Protocol):
    """Decide about the items of these leases and commit; `ConflictError` if the state moved meanwhile."""

    def __call__(self, store: Store, leases: Sequence[Lease], *, now: datetime) -> Awaitable[None]: ...  # noqa: D102


class SetAside(Protocol):
    """Commit that the one item of this lease is given up, visibly."""

    def __call__(self, store: Store, lease: Lease, *, now: datetime) -> Awaitable[None]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class IncidentStories:
    """What is done with items; handed in by `jobs`."""

    process: Process
    set_aside: SetAside


async def drain_incidents(store: Store, drain: str, stop: asyncio.Event, stories: IncidentStories) -> None:
    """Take and work lanes until there is nothing to do for a while, or `stop`, or the shift is over."""
    loop = asyncio.get_running_loop()
    shift_ends_at = loop.time() + SHIFT_SECONDS
    stopping = asyncio.create_task(stop.wait())
    try:
        async with Bell(store, Queue.INCIDENTS) as bell:
            while not stop.is_set() and loop.time() < shift_ends_at:
                taken = await lanes.take(store, Queue.INCIDENTS, drain)
                if taken.leases:
                    await work_batch(store, taken.leases, stories)
                elif (
                    not taken.more
                    and not await bell.wait((stopping,))
                    and await lanes.finish(store, Queue.INCIDENTS, drain)
                ):
                    return
    finally:
        stopping.cancel()
    await lanes.hand_over(store, Queue.INCIDENTS, drain)


async def work_batch(store: Store, leases: Sequence[Lease], stories: IncidentStories) -> None:
    """Work these lanes together; whatever is wrong with one of them must not hold up the others."""
    if len(leases) == 1 and leases[0].deaths_alone >= DEATHS_ALONE:
        await _attempt(store, leases, lambda: stories.set_aside(store, leases[0], now=datetime.now(UTC)))
        return
    try:
        await _process(store, leases, stories)
    except (ConflictError, FormatError):
        for lease in leases:
            await _work_alone(store, lease, stories)
    except UnavailableError as error:
        await _put_off(store, leases, error)
    except Exception:  # noqa: BLE001 a worker is an edge: the lane is tried again, and in the end set aside
        _log.exception("a batch failed, its lanes are tried one by one", lanes=len(leases))
        await _fail(store, leases)


async def _work_alone(store: Store, lease: Lease, stories: IncidentStories) -> None:
    await _attempt(store, (lease,), lambda: _process(store, (lease,), stories))


async def _process(store: Store, leases: Sequence[Lease], stories: IncidentStories) -> None:
    """Decide, and decide anew where another worker changed meanwhile what was decided on."""
    for left in reversed(range(_STALE_TRIES)):
        try:
            await stories.process(store, leases, now=datetime.now(UTC))
        except StaleError:
            if not left:
                raise
        else:
            return


async def _attempt(store: Store, leases: Sequence[Lease], story: Callable[[], Awaitable[None]]) -> None:
    try:
        await story()
    except FencedError:
        return  # somebody else has it, or it is done
    except ConflictError:
        for lease in leases:
            await lanes.release(store, lease, delay_seconds=_RETRY_SECONDS)
    except UnavailableError as error:
        await _put_off(store, leases, error)
    except Exception:  # noqa: BLE001 a worker is an edge: the lane is tried again, and in the end set aside
        _log.exception("a lane failed", lane=leases[0].lane, tries=leases[0].tries)
        await _fail(store, leases)


async def _put_off(store: Store, leases: Sequence[Lease], error: UnavailableError) -> None:
    """The store took nothing (it is full, or away): nobody's fault, so nobody's try."""
    _log.warning("work is put off", lanes=len(leases), reason=str(error))
    for lease in leases:
        await lanes.release(store, lease, delay_seconds=error.retry_after_seconds)


async def _fail(store: Store, leases: Sequence[Lease]) -> None:
    for lease in leases:
        await lanes.release_failed(store, lease, delay_seconds=_RETRY_SECONDS)
