"""Three servers and their sentinels on loopback: what was acknowledged outlives the primary, whatever becomes of it."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis

from bridge.errors import ConfigError, UnavailableError
from bridge.policy.change import Append, Change, Queue
from bridge.store import lanes, load
from bridge.store.commit import Once, SeenError, commit
from bridge.store.connect import Store, check_durability, close, open_store
from bridge.store.place import EXAMPLE, Place, read, shown
from bridge.store.sentinel import ask_blocking
from deploy.servers import free_network
from tests.system.replicas import NAME, PORT, Machine, Trio
from tests.system.servers import eventually

RECOVERY_SECONDS = 5


@contextmanager
def running() -> Iterator[Trio]:
    folder = Path(tempfile.mkdtemp(prefix="ib-trio-"))
    network = free_network(os.getpid())
    made = Trio(folder, [f"{network}.{last}" for last in (201, 202, 203)])
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def trio() -> Iterator[Trio]:
    with running() as made:
        yield made


@pytest.fixture
def fresh() -> Iterator[Trio]:
    """One whose primary may be lost: until all is whole again would take longer than to start."""
    with running() as made:
        yield made


@pytest.fixture
async def store(trio: Trio) -> AsyncIterator[Store]:
    opened = await open_store(trio.url, patience_seconds=3)
    if primary := trio.primary():
        primary.cli("FLUSHALL")
    yield opened
    await close(opened)


def item(number: int | str, lane: str = "h|p") -> Change:
    return Change(appends=(Append(queue=Queue.INCIDENTS, lane=lane, item={"id": str(number)}),))


@dataclass
class Load:
    """Clients that commit one item after the other, and remember what was acknowledged and when."""

    url: str
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)
    is_over: bool = False

    async def run(self, lane: str) -> None:
        store = await open_store(self.url, patience_seconds=3)
        done = self.acknowledged.setdefault(lane, [])
        number = 0
        while not self.is_over:
            number += 1
            name = f"{lane}-{number}"
            try:
                await commit(store, item(name, lane), once=Once(name, b"ok"))
            except UnavailableError:
                continue  # stored or not: nobody was told
            except SeenError:
                pass  # the client repeated the call, because the connection broke before the answer came
            done.append(name)
            self.at.append(time.monotonic())
            await asyncio.sleep(0.005)
        await close(store)

    def longest_silence(self) -> float:
        return max(later - earlier for earlier, later in zip(self.at, self.at[1:], strict=False))

    def has_acknowledged(self, more: int) -> Callable[[], bool]:
        wanted = len(self.at) + more
        return lambda: len(self.at) >= wanted


FAULTS: dict[str, tuple[Callable[[Machine], None], Callable[[Machine], None]]] = {
    "killed": (Machine.kill, Machine.start),
    "frozen": (Machine.freeze, Machine.thaw),
    "cut off from all but its clients": (Machine.lock_out, Machine.let_in),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_nothing_acknowledged_is_lost_when_the_primary_is(fresh: Trio, fault: str) -> None:
    strike, undo = FAULTS[fault]
    load_now = Load(fresh.url)
    clients = [asyncio.create_task(load_now.run(f"h|{number}")) for number in range(6)]
    await eventually(load_now.has_acknowledged(300), 10)
    before = fresh.machines[0]

    await asyncio.to_thread(strike, before)
    await eventually(lambda: fresh.primary() not in {None, before}, 10)
    await eventually(load_now.has_acknowledged(300), 10)
    await asyncio.to_thread(undo, before)  # it comes back, and takes itself for the primary at first
    await eventually(load_now.has_acknowledged(600), 10)
    load_now.is_over = True
    await asyncio.gather(*clients)

    store = await open_store(fresh.url)
    for lane, acknowledged in load_now.acknowledged.items():
        found = await store.redis.lrange(f"ib:lane:incidents:{lane}", 0, -1)
        stored = [one.decode()[7:-2] for one in found]
        told = [name for name in stored if name in set(acknowledged)]
        assert told == acknowledged, "lost, doubled or reordered"
    await close(store)
    print(f"primary {fault}: {len(load_now.at)} acknowledged, silence {load_now.longest_silence():.1f} s")
    assert load_now.longest_silence() < RECOVERY_SECONDS


async def test_a_commit_that_no_replica_has_is_not_acknowledged(trio: Trio, store: Store) -> None:
    primary = trio.primary()
    replicas = [machine for machine in trio.machines if machine is not primary]
    await commit(store, item("before"))
    for machine in replicas:
        machine.freeze()

    with pytest.raises(UnavailableError, match="may or may not be stored"):
        await commit(store, item("alone"), once=Once("w1", b"ok"))
    with pytest.raises(UnavailableError):  # its answer is recorded, and might be lost with it
        await commit(store, item("alone"), once=Once("w1", b"ok"))
    assert (await load.fetch(store, once="w1")).once is None

    for machine in replicas:
        machine.thaw()
    await eventually(trio.is_whole, 20)
    with pytest.raises(SeenError) as seen:
        await commit(store, item("alone"), once=Once("w1", b"ok"))
    assert seen.value.answer == b"ok"


async def test_a_lane_taken_again_after_a_failover_has_another_token(store: Store) -> None:
    await commit(store, item(1))
    first = (await lanes.take(store, Queue.INCIDENTS, "d")).leases[0]
    await store.redis.delete("ib:fence")  # as on a replica that had not got it
    await store.redis.zadd("ib:lanes:incidents", {"h|p": 0})

    again = (await lanes.take(store, Queue.INCIDENTS, "d")).leases[0]

    assert again.token != first.token


async def test_scripts_are_brought_to_a_server_that_does_not_know_them(trio: Trio, store: Store) -> None:
    primary = trio.primary()
    assert primary is not None
    assert primary.cli("SCRIPT", "FLUSH") == "OK"
    assert (await commit(store, item(1))).left == ()


async def test_the_sentinels_tell_who_is_who(trio: Trio, store: Store) -> None:
    assert store.sentinels is not None
    primary = trio.primary()
    assert primary is not None
    found = await store.sentinels.servers()

    assert found.primary == (primary.address, PORT) == await asyncio.to_thread(ask_blocking, read(trio.url))
    others = sorted((one.address, PORT) for one in trio.machines if one is not primary)
    assert [one.address for one in found.replicas] == others
    assert all(one.is_up and one.is_following for one in found.replicas)
    assert (found.answering, found.asked) == (3, 3)
    assert (await load.health(store)).replicas == 2


async def test_every_server_must_be_durable_and_the_lines_that_make_it_so_are_told(
    trio: Trio, store: Store
) -> None:
    assert (await check_durability(store, durability="disk")).problems == ()
    primary = trio.primary()
    replica = next(one for one in trio.machines if one is not primary)
    replica.cli("CONFIG", "SET", "min-replicas-to-write", "0")

    with pytest.raises(ConfigError) as refused:
        await check_durability(store, durability="disk")

    line = f"redis-cli -u redis://incident-bridge:***@{replica.address}:{PORT}/ CONFIG SET min-replicas-to-write 1"
    assert line in str(refused.value)
    assert str(refused.value).count("min-replicas-to-write is 0") == 1
    replica.cli("CONFIG", "SET", "min-replicas-to-write", "1")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (lambda trio: trio.url.split("?")[0], "Authentication required"),
        (lambda trio: trio.url.replace(f"/{NAME}?", "/another?"), "No such master"),
        (lambda _: "sentinel://127.0.0.1:1,127.0.0.1:2/m", "no sentinel knows the primary of m"),
    ],
    ids=["no password for the sentinels", "another name", "nobody there"],
)
async def test_what_is_wrong_with_the_sentinels_is_told(
    trio: Trio, url: Callable[[Trio], str], reason: str
) -> None:
    with pytest.raises((UnavailableError, ConfigError), match=reason) as failed:
        await open_store(url(trio), patience_seconds=2)
    assert "word" not in str(failed.value).replace("password", "")


async def test_a_replica_taken_for_the_primary_is_left(trio: Trio, store: Store) -> None:
    primary = trio.primary()
    replica = next(one for one in trio.machines if one is not primary)
    async with Redis.from_url(read(trio.url).server_url((replica.address, PORT))) as direct:
        assert (await direct.role())[0] == b"slave"
    assert store.sentinels is not None
    asked = store.sentinels.primary
    wrong = iter([(replica.address, PORT)] * 2)

    async def primary_or_wrong() -> tuple[str, int]:
        return next(wrong, None) or await asked()

    store.sentinels.primary = primary_or_wrong  # type: ignore[method-assign]
    await store.redis.connection_pool.disconnect()

    await commit(store, item(1))

    assert next(wrong, None) is None


def test_a_url_with_sentinels_is_taken_apart() -> None:
    place = read("sentinel://me:a%40b@h1,h2:5,[::1]:7/main/3?sentinel_password=x%26y&ssl_ca_certs=/ca")

    assert place == Place(
        url="redis://me:a%40b@primary/3?ssl_ca_certs=%2Fca",
        sentinels=(("h1", 26379), ("h2", 5), ("::1", 7)),
        name="main",
        sentinel_password="x&y",
    )
    assert place.server_url(("::2", 6379)) == "redis://me:a%40b@[::2]:6379/3?ssl_ca_certs=%2Fca"
    assert place.sentinel_url(("h1", 5)) == "redis://:x%26y@h1:5?ssl_ca_certs=%2Fca"
    assert read("sentinels://h/m").url == "rediss://primary/"


@pytest.mark.parametrize(
    "url", ["sentinel://h1,h2", "sentinel://h1:0/m", "sentinel://h1,/m", "sentinel:///m", EXAMPLE + "/x"]
)
def test_a_url_without_what_sentinel_needs_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="write it like"):
        read(url)


def test_no_password_of_a_url_is_shown() -> None:
    assert shown("sentinel://:secret@h1,h2/m?sentinel_password=secret") == "sentinel://:***@h1,h2/m?***"
    assert shown("unix:///run/store.sock") == "unix:///run/store.sock"
    assert shown("redis://me@h/0") == "redis://me@h/0"
