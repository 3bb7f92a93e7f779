"""The embedded server keeps everything, belongs to one owner, and ends with it."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from bridge.errors import ConfigError, UnavailableError
from bridge.policy.change import Change
from bridge.store import lanes, load
from bridge.store.commit import commit
from bridge.store.connect import Store, check_durability, close, open_store
from bridge.store.embedded import EmbeddedServer, embedded_url, start_embedded

ROOT = Path(__file__).parents[2]
MakeAppend = Callable[..., Change]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ib emb "))  # with a blank, on purpose
    yield made
    shutil.rmtree(made)


@asynccontextmanager
async def _opened(url: str, *, patience_seconds: float = 25) -> AsyncIterator[Store]:
    store = await open_store(url, patience_seconds=patience_seconds)
    try:
        yield store
    finally:
        await close(store)


async def test_what_was_committed_survives_the_server_being_killed(folder: Path, append: MakeAppend) -> None:
    server = start_embedded(folder)
    async with _opened(server.url) as store:
        await commit(store, append("a", "1"))
        server.process.kill()
        server.process.wait()
        os.close(server.lock)

        server = start_embedded(folder)

        assert (await load.health(store)).lanes["incidents"].items == 1, "the same connection goes on"
    server.stop()


async def test_it_is_durable_as_it_starts(folder: Path) -> None:
    server = start_embedded(folder)
    async with _opened(embedded_url(folder)) as store:
        found = await check_durability(store, durability="disk")
        assert found.problems == ()
    server.stop()


def test_a_second_start_says_which_process_has_the_folder(folder: Path) -> None:
    server = start_embedded(folder)

    with pytest.raises(ConfigError, match=f"already running, pid {server.pid}"):
        start_embedded(folder)

    server.stop()


def test_only_the_owner_may_enter(folder: Path) -> None:
    server = start_embedded(folder / "data")

    socket = Path(server.url.removeprefix("unix://"))

    assert socket.stat().st_mode & 0o077 == 0
    assert (folder / "data").stat().st_mode & 0o077 == 0
    server.stop()


def test_a_folder_too_deep_for_a_socket_gets_it_elsewhere(folder: Path) -> None:
    deep = folder / ("d" * 120)

    server = start_embedded(deep)

    assert server.url == embedded_url(deep)
    socket = Path(server.url.removeprefix("unix://"))
    assert redis.Redis(unix_socket_path=str(socket)).ping()
    server.stop()
    shutil.rmtree(socket.parent)


def test_it_ends_with_the_process_that_started_it_and_lets_the_next_one_in(folder: Path) -> None:
    script = "import sys,time; from pathlib import Path; from bridge.store.embedded import start_embedded\n"
    script += "print(start_embedded(Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()

    server = start_embedded(folder)

    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    server.stop()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    (folder / "appendonlydir").write_text("not a directory")

    with pytest.raises(ConfigError, match="does not start: "):
        start_embedded(folder)


async def test_a_service_learns_within_its_patience_that_the_store_is_away(
    folder: Path, append: MakeAppend
) -> None:
    server = start_embedded(folder)
    async with _opened(server.url, patience_seconds=1) as store:
        for number, (away, back) in enumerate(((signal.SIGSTOP, signal.SIGCONT), (signal.SIGKILL, None))):
            os.kill(server.pid, away)
            started = time.monotonic()
            with pytest.raises(UnavailableError):
                await commit(store, append("a", str(number)))
            assert time.monotonic() - started < 2
            if back:
                os.kill(server.pid, back)
                await asyncio.sleep(0)
    server.process.wait()
    os.close(server.lock)


async def test_a_call_can_be_cancelled_at_any_moment(folder: Path) -> None:
    server = start_embedded(folder)
    chance = random.Random(1)  # noqa: S311 seeded on purpose

    async def rounds(store: Store) -> None:
        while True:
            await lanes.sweep_timers(store)
            await lanes.recover(store)

    for _ in range(60):
        async with _opened(server.url, patience_seconds=1) as store:
            task = asyncio.create_task(rounds(store))
            await asyncio.sleep(chance.uniform(0, 0.005))
            task.cancel()
            _, running = await asyncio.wait({task}, timeout=5)
            assert not running
    server.stop()


async def test_a_full_store_is_unavailable_and_nothing_is_half_written(
    folder: Path, append: MakeAppend
) -> None:
    server = start_embedded(folder)
    async with _opened(server.url) as store:
        await store.redis.config_set("maxmemory", 1)

        with pytest.raises(UnavailableError, match="memory"):
            await commit(store, append("a", "1"))

        assert await store.redis.dbsize() == 0
    server.stop()


async def test_a_store_that_may_forget_is_refused_with_the_lines_that_cure_it(folder: Path) -> None:
    server = start_embedded(folder)
    async with _opened(server.url) as store:
        await store.redis.config_set("appendfsync", "everysec")
        await store.redis.config_set("maxmemory", 0)

        with pytest.raises(ConfigError) as refused:
            await check_durability(store, durability="disk")
        tolerated = await check_durability(store, durability="memory")
        assumed = await check_durability(store, durability="assumed")

        path = server.url.removeprefix("unix://")
        assert f"redis-cli -s {path} CONFIG SET appendfsync always" in str(refused.value)
        assert len(tolerated.problems) == 2
        assert tolerated.fix[-1].endswith("CONFIG REWRITE")
        assert assumed.problems == ()
    server.stop()


async def test_nobody_there_is_told_without_the_password() -> None:
    with pytest.raises(UnavailableError) as away:
        await open_store("redis://:geheim@127.0.0.1:1/0", patience_seconds=0.5)
    assert "geheim" not in str(away.value)

    with pytest.raises(ConfigError, match="not usable"):
        await open_store("http://127.0.0.1")


def test_stopping_waits_for_the_end(folder: Path) -> None:
    server: EmbeddedServer = start_embedded(folder)

    server.stop()

    assert server.process.returncode == 0
    start_embedded(folder).stop()
