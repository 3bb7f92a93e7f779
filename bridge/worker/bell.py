"""Waiting for work: one blocking call, kept in flight and never cancelled, beside whatever else may happen."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from bridge.policy.change import Queue
from bridge.store import lanes
from bridge.store.connect import Store


class Bell:
    """Listens to a queue's bell while it is entered; leaving rings it, so that the call in flight ends at once."""

    def __init__(self, store: Store, queue: Queue) -> None:
        self._store = store
        self._queue = queue
        self._call: asyncio.Task[bool] | None = None

    async def __aenter__(self) -> Self:
        """Nothing is asked before `wait`."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the call in flight."""
        if self._call is None:
            return
        if error is None and not self._call.done():
            await lanes.ring_bell(self._store, self._queue)
        elif error is not None:
            self._call.cancel()  # its connection is dropped with it
        await asyncio.gather(self._call, return_exceptions=True)

    async def wait(self, others: Iterable[asyncio.Future[Any]]) -> bool:
        """Wait until the bell rings, was silent for `LINGER_SECONDS`, or one of the others is done.

        Returns:
            False only if the bell was silent all the time.
        """
        if self._call is None:
            self._call = asyncio.create_task(lanes.wait_bell(self._store, self._queue))
        await asyncio.wait({self._call, *others}, return_when=asyncio.FIRST_COMPLETED)
        if not self._call.done():
            return True
        call, self._call = self._call, None
        return call.result()
