"""How many stored reports one, two and four workers decide a second, of many peers, on this machine.

Each worker is a process; the store writes to disk before it answers. `tests/run --bench`.
"""

import os
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest

from bridge.config import PolicySettings
from bridge.pipeline.receive import Intake, Relayed, receive
from bridge.policy.change import Change, Put, Queue
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import load
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from deploy.servers import Authority, Process, free_network
from tests.policy.conftest import SECURE
from tests.system.reports import report
from tests.system.servers import Bridge, Lab, eventually

WORKERS = (1, 2, 4)
ROUNDS = 3
PEERS, REPORTS = 64, 20
LENIENT = PolicySettings(
    quota_per_minute=10**7,
    quota_burst=10**7,
    quota_strangers_per_minute=10**7,
    quota_strangers_burst=10**7,
    quarantine_max=10**7,
    quarantine_max_bytes=10**12,
    quarantine_max_per_peer=10**7,
)
pytestmark = pytest.mark.bench


@pytest.fixture
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    lab = Lab(free_network(os.getpid()), Authority(tmp_path_factory.mktemp("authority")))
    try:
        made = lab.bridge(store=lab.store())
        made.serve_host("a.test", f"http://{made.address}:9")  # nobody answers: only deciding is measured
        made.start("serve")
        yield made
    finally:
        lab.close()


async def trust(store: Store) -> None:
    """Trust all peers: the admins are told of each of their reports."""
    peers = (Peer(host="a.test", domain=f"peer{number}.test", trust=Trust.TRUSTED) for number in range(PEERS))
    await commit(store, Change(puts=tuple(Put(None, peer) for peer in peers)))


async def fill(store: Store, names: Iterator[int]) -> None:
    """Store so many reports of each peer."""
    intake = Intake(host="a.test", rules=LENIENT, fill=0.0)
    for _ in range(REPORTS):
        batch = [
            Relayed(stanza=report(next(names), sender=f"peer{number}.test"), stream=SECURE)
            for number in range(PEERS)
        ]
        await receive(
            store,
            intake,
            batch,
            webhook_id=f"w{next(names)}",
            now=datetime.now(UTC),
            new_id=lambda: f"i{next(names)}",
        )


async def rate(store: Store, workers: list[Process], names: Iterator[int]) -> float:
    """Reports decided a second by these workers, all of which wait for work when it begins."""
    for worker in workers:
        worker.freeze()
    await fill(store, names)
    started = time.monotonic()
    for worker in workers:
        worker.thaw()

    async def is_empty() -> bool:
        return (await load.health(store)).lanes[Queue.INCIDENTS].items == 0

    await eventually(is_empty, 120)
    return PEERS * REPORTS / (time.monotonic() - started)


async def test_reports_decided_by_one_two_and_four_workers(bridge: Bridge) -> None:
    assert bridge.store is not None
    store = await open_store(bridge.store.url)
    names, rates = count(), {number: list[float]() for number in WORKERS}
    for _ in range(ROUNDS):
        for number in WORKERS:
            bridge.store.cli("FLUSHALL")
            await trust(store)
            workers = [bridge.start("worker", "incidents", name=f"worker {one}") for one in range(number)]

            async def are_seen(wanted: int = number) -> bool:
                return await store.redis.zcard("ib:workers:incidents") == wanted

            await eventually(are_seen, 30)
            rates[number].append(await rate(store, workers, names))
            for worker in workers:
                worker.stop()
    await close(store)
    one = statistics.median(rates[1])
    for number, found in rates.items():
        middle = statistics.median(found)
        print(
            f"{number} workers: {middle:.0f} reports/s ({min(found):.0f}-{max(found):.0f}),"
            f" {middle / one:.2f} times one worker; {os.cpu_count()} cores"
        )
