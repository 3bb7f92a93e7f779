"""How soon the service is ready with an empty store, and how soon a worker with nothing to do takes up work.

The ratio of the first is to a Python that imports the libraries it stands on and nothing of ours. `tests/run --bench`.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from bridge.config import PolicySettings
from bridge.pipeline.receive import Intake, Relayed, receive
from bridge.store.connect import Store, close, open_store
from deploy.servers import Authority, free_network
from tests.policy.conftest import SECURE
from tests.system.reports import report
from tests.system.servers import Bridge, Lab, eventually

ROUNDS = 5
LIBRARIES = "import aiohttp, jinja2, lxml.etree, pydantic_settings, redis.asyncio, rq"
pytestmark = pytest.mark.bench


@pytest.fixture
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    lab = Lab(free_network(os.getpid()), Authority(tmp_path_factory.mktemp("authority")))
    try:
        made = lab.bridge(store=lab.store())
        made.serve_host("a.test", f"http://{made.address}:9")  # nobody answers: only deciding is measured
        made.start_apart()
        yield made
    finally:
        lab.close()


def bare() -> float:
    """Seconds that the libraries alone take."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
    return time.monotonic() - began


def ready(bridge: Bridge) -> float:
    """Seconds from the start of the service until `/ready` says yes; workers and store are there."""
    bridge.processes["serve"].stop()
    began = time.monotonic()
    bridge.start("serve")
    bridge.wait_ready()
    return time.monotonic() - began


def test_the_service_is_ready(bridge: Bridge) -> None:
    pairs = [(ready(bridge), bare()) for _ in range(ROUNDS + 1)][1:]
    ratios = sorted(ours / libraries for ours, libraries in pairs)
    print(
        f"start to ready: {statistics.median(ours for ours, _ in pairs):.2f} s, libraries alone"
        f" {statistics.median(libraries for _, libraries in pairs):.2f} s, ratio {statistics.median(ratios):.2f}"
        f" ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    )


async def first_job(bridge: Bridge, store: Store, number: int) -> float:
    """Milliseconds from the commit of a report until it is decided by a worker that had nothing to do."""

    async def is_idle() -> bool:
        return not await store.redis.exists("ib:drains:incidents", "ib:lanes:incidents")

    await eventually(is_idle, seconds=60)
    intake = Intake(host="a.test", rules=PolicySettings(), fill=0.0)
    batch = [Relayed(stanza=report(number, sender="b.test"), stream=SECURE)]
    await receive(
        store, intake, batch, webhook_id=f"w{number}", now=datetime.now(UTC), new_id=lambda: f"i{number}"
    )
    began = time.monotonic()
    while await store.redis.exists("ib:lanes:incidents"):
        pass
    return 1000 * (time.monotonic() - began)


async def test_an_idle_worker_takes_up_its_first_job(bridge: Bridge) -> None:
    assert bridge.store is not None
    store = await open_store(bridge.store.url)
    await first_job(bridge, store, 0)
    found = sorted([await first_job(bridge, store, number) for number in range(1, 10)])
    print(f"idle worker to first job: {statistics.median(found):.0f} ms ({found[0]:.0f}-{found[-1]:.0f})")
    await close(store)
