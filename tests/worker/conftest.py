"""Real workers as processes of their own, with a supervisor that starts what was killed, on a store of their own."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import UnavailableError
from bridge.policy.change import Append, Change, Queue
from bridge.store import lanes, load
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from bridge.store.embedded import EmbeddedServer, start_embedded

STAND_IN = Path(__file__).parent / "stand_in.py"
ROOT = Path(__file__).parents[2]


def children(pid: int) -> list[int]:
    """The processes that this one started and that live."""
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@dataclass
class Site:
    """A store and its workers."""

    folder: Path
    lease_seconds: float = 1.0
    server: EmbeddedServer | None = None
    workers: list[tuple[Queue, "subprocess.Popen[bytes]"]] = field(default_factory=list)

    @property
    def url(self) -> str:
        assert self.server
        return self.server.url

    def start_store(self) -> None:
        self.server = start_embedded(self.folder, max_bytes=256 * 2**20)

    def kill_store(self) -> None:
        assert self.server
        self.server.process.kill()
        self.server.process.wait()
        os.close(self.server.lock)

    def start_worker(self, queue: Queue) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(STAND_IN), self.url, queue, str(self.lease_seconds)]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.workers.append((queue, process))
        return process

    def replace_dead_workers(self) -> None:
        for queue, process in list(self.workers):
            if process.poll() is not None:
                self.workers.remove((queue, process))
                self.start_worker(queue)

    def kill_some_worker(self, chance: random.Random) -> None:
        """Kill -9: the one that drains, or the worker too."""
        _, process = chance.choice(self.workers)
        victims = children(process.pid)
        if chance.random() < 0.5:
            victims.append(process.pid)
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        for _, process in self.workers:
            for pid in (*children(process.pid), process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for _, process in self.workers:
            process.wait()
        if self.server:
            self.server.stop()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site(Path(tempfile.mkdtemp(prefix="ib-worker-")))
    made.start_store()
    yield made
    made.stop()
    shutil.rmtree(made.folder)


@pytest.fixture
async def store(site: Site) -> AsyncIterator[Store]:
    opened = await open_store(site.url)
    yield opened
    await close(opened)


@pytest.fixture
async def watch(site: Site) -> AsyncIterator[None]:
    """What every service does once a second, ten times as fast; and a supervisor for the workers."""
    opened = await open_store(site.url, patience_seconds=1)

    async def rounds() -> None:
        while True:
            site.replace_dead_workers()
            with suppress(UnavailableError):
                await lanes.sweep_timers(opened)
                await lanes.recover(opened)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(rounds())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await close(opened)


@dataclass(frozen=True)
class Eyes:
    """Put work into the store and see what becomes of it."""

    store: Store

    async def put(self, lane: str, *items: dict[str, Any], queue: Queue = Queue.INCIDENTS) -> None:
        """Append items to a lane."""
        appends = tuple(Append(queue=queue, lane=lane, item=item) for item in items)
        await commit(self.store, Change(appends=appends))

    async def until(self, condition: Callable[[], Awaitable[Any]], *, seconds: float = 60) -> None:
        """Wait for a condition, with a deadline."""
        deadline = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
            await asyncio.sleep(0.01)

    async def counted(self, what: str) -> dict[str, int]:
        """How often each item was worked, sent or set aside."""
        counters = (await load.health(self.store)).counters
        return {name[1]: value for name, value in counters.items() if name[0] == what}

    async def nothing_left(self) -> bool:
        """Whether no lane, no lease and no try is left."""
        names = [f"ib:{kind}:{queue}" for kind in ("lanes", "held", "tries") for queue in Queue]
        return await self.store.redis.exists(*names) == 0

    async def everybody_seen(self) -> bool:
        """Whether each queue has a worker."""
        return None not in (await load.health(self.store)).workers_seen.values()


@pytest.fixture
def eyes(store: Store) -> Eyes:
    return Eyes(store)
