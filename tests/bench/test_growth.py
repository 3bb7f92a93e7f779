"""Whether a report costs more the more is stored: incidents, peers, endpoints; and what a slow disk does to it.

Each measurement compares a store with much in it to one with little, in turns on the same machine. Python's and the
store's CPU time are counted, which other programs on the machine change little. `tests/run --bench`; for a million
incidents `GROWTH_INCIDENTS=1000000`.
"""

import asyncio
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from bridge.pipeline.deliver_events import fan_out
from bridge.pipeline.process import process
from bridge.pipeline.receive import Intake, Relayed, receive
from bridge.policy.change import Change, Put, Queue
from bridge.policy.record import Incident, Interaction, Peer
from bridge.policy.trust import Trust
from bridge.store import keys, lanes, load
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from bridge.store.embedded import EmbeddedServer, server_binary, start_embedded
from tests.bench.conftest import add
from tests.bench.test_workers import LENIENT
from tests.policy.conftest import SECURE
from tests.system.reports import report

HOST = "a.test"
BATCH, BATCHES, ROUNDS = 16, 8, 3
SLOW_DISK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int fdatasync(int file) { usleep(4000); return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(file); }
int fsync(int file) { usleep(4000); return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(file); }
"""
# Copies one incident with its interaction under other ids, into every index that they are in.
COPY = """
for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do
    for at = 3, #ARGV, 3 do
        local what, name, member = ARGV[at], ARGV[at + 1], ARGV[at + 2]
        if what == 'record' then redis.call('COPY', name, name .. n)
        elseif what == 'own' then redis.call('ZADD', name .. n, n, member .. n)
        else redis.call('ZADD', name, n, member .. n) end
    end
end
"""
pytestmark = pytest.mark.bench


@dataclass
class Site:
    """A store with one host and some peers that send it reports."""

    store: Store
    names: Iterator[int]
    peers: int = 1

    async def trust(self) -> None:
        made = [Peer(host=HOST, domain=f"peer{n}.test", trust=Trust.TRUSTED) for n in range(self.peers)]
        for start in range(0, len(made), 500):
            await commit(self.store, Change(puts=tuple(Put(None, one) for one in made[start : start + 500])))

    async def send(self, *, batch: int = BATCH) -> None:
        """Receive and decide a batch of reports, each of another peer where there are so many."""
        numbers = [next(self.names) for _ in range(batch)]
        items = [
            Relayed(stanza=report(n, sender=f"peer{n % self.peers}.test"), stream=SECURE) for n in numbers
        ]
        ids = iter(f"i{n}" for n in numbers)
        intake = Intake(host=HOST, rules=LENIENT, fill=0.0)
        now = datetime.now(UTC)
        await receive(
            self.store, intake, items, webhook_id=f"w{numbers[0]}", now=now, new_id=lambda: next(ids)
        )
        while (taken := await lanes.take(self.store, Queue.INCIDENTS, "drain")).leases:
            await process(self.store, taken.leases, rules=LENIENT, now=now)

    async def store_cpu_seconds(self) -> float:
        info = await self.store.redis.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    async def cost(self) -> tuple[float, float]:
        """CPU milliseconds of Python, and of the store, for each report of some batches."""
        store, own = await self.store_cpu_seconds(), time.process_time()
        for _ in range(BATCHES):
            await self.send()
        reports = BATCH * BATCHES / 1000
        return (time.process_time() - own) / reports, (await self.store_cpu_seconds() - store) / reports

    async def grow(self, incidents: int) -> None:
        """Store so many incidents: copies of one, since deciding each would take hours."""
        await self.send(batch=1)
        [found] = (await load.newest(self.store, [keys.incidents(HOST)], limit=1)).values()
        [incident] = (await load.fetch(self.store, names=[keys.incident(found[0])])).records.values()
        assert isinstance(incident, Incident)
        name = keys.interaction(incident.current.interaction_id)
        interaction = (await load.fetch(self.store, names=[name])).records[name]
        assert isinstance(interaction, Interaction)
        words: list[str] = []
        for record in (incident, interaction):
            words += ("record", keys.record_key(keys.name_of(record)), "")
            for index, (member, _) in keys.index_entries(record).items():
                is_own = index in {
                    keys.interactions(incident.id),
                    keys.texts(HOST, incident.identity.text),
                    keys.accounts(HOST, incident.identity.name, incident.identity.text),
                }
                words += ("own" if is_own else "shared", index, member)
        for start in range(1, incidents, 1000):
            await self.store.redis.eval(COPY, 0, str(start), str(start + 999), *words)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    started: list[EmbeddedServer] = []

    def start(binary: Path | None = None) -> EmbeddedServer:
        folder = tmp_path / str(len(started))
        started.append(start_embedded(folder, max_bytes=12 * 2**30, binary=binary))
        return started[-1]

    yield start
    for each in started:
        each.stop()


async def compare(little: Site, much: Site, *, name: str) -> None:
    """Print what a report costs in both, measured in turns."""
    costs: dict[str, list[tuple[float, float]]] = {"little": [], "much": []}
    for _ in range(ROUNDS):
        costs["little"].append(await little.cost())
        costs["much"].append(await much.cost())
    for at, part in enumerate(("Python", "store")):
        few, many = (statistics.median(one[at] for one in costs[which]) for which in ("little", "much"))
        print(f"{name}: {part} {few:.2f} -> {many:.2f} ms CPU a report, {many / few:.2f} times")


async def test_a_report_at_many_stored_incidents(servers: Callable[..., EmbeddedServer]) -> None:
    wanted = int(os.environ.get("GROWTH_INCIDENTS", "100000"))
    sites = []
    for incidents in (1000, wanted):
        sites.append(Site(await open_store(servers().url), count()))
        await sites[-1].trust()
        await sites[-1].grow(incidents)
    await compare(*sites, name=f"1000 -> {wanted} incidents")
    for each in sites:
        await close(each.store)


@pytest.mark.parametrize("peers", [100, 10_000])
async def test_a_report_of_one_among_many_peers(servers: Callable[..., EmbeddedServer], peers: int) -> None:
    sites = []
    for number in (1, peers):
        sites.append(Site(await open_store(servers().url), count(), peers=number))
        await sites[-1].trust()
    await compare(*sites, name=f"1 -> {peers} peers")
    for each in sites:
        await close(each.store)


async def test_a_report_with_many_endpoints(servers: Callable[..., EmbeddedServer]) -> None:
    """Beside what a report costs: handing its event on, which has as many parts as there are endpoints."""
    site = Site(await open_store(servers().url), count())
    await site.trust()
    for endpoints in (0, 10, 100):
        for number in range(await site.store.redis.zcard(keys.ENDPOINTS), endpoints):
            await add(site.store, f"http://127.0.0.1:9/{number}", id=f"ep{number}")
        own, store = await site.cost()
        before, start = await site.store_cpu_seconds(), time.process_time()
        while (sent := await fan_out(site.store, HOST, (b"",), now=datetime.now(UTC))).change != Change():
            await commit(site.store, sent.change)
        reports = BATCH * BATCHES / 1000
        handing = (time.process_time() - start) / reports
        theirs = (await site.store_cpu_seconds() - before) / reports
        print(
            f"{endpoints} endpoints: Python {own:.2f}, store {store:.2f} ms CPU a report;"
            f" handing it on: Python {handing:.2f}, store {theirs:.2f}"
        )
    await close(site.store)


async def test_a_report_with_a_disk_that_takes_4_ms(
    servers: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    """Received and decided, by batches of one and of many."""
    library, source, binary = tmp_path / "slow.so", tmp_path / "slow.c", tmp_path / "server"
    source.write_text(SLOW_DISK)
    await asyncio.to_thread(
        subprocess.run, ["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True
    )
    binary.write_text(f'#!/bin/sh\nLD_PRELOAD={library} exec {server_binary()} "$@"\n')
    binary.chmod(0o700)
    sites = [Site(await open_store(servers(each).url), count()) for each in (None, binary)]
    for site in sites:
        await site.trust()
    for batch in (1, 16, 64):
        taken: list[list[float]] = [[], []]
        for _ in range(7):
            for site, seconds in zip(sites, taken, strict=True):
                started = time.monotonic()
                await site.send(batch=batch)
                seconds.append(time.monotonic() - started)
        fast, slow = (1000 * statistics.median(each) for each in taken)
        assert slow > 8, "the slow disk is not slow"
        print(
            f"batches of {batch}: {fast:.1f} ms, with a fsync of 4 ms {slow:.1f} ms, {slow / fast:.2f} times"
        )
    for site in sites:
        await close(site.store)
