"""Webhook deliveries a second from one worker process, and what one endpoint that hangs does to another.

The ratio is to a bare loop of eight connections that posts the same bytes to the same consumer with aiohttp alone,
unsigned, unstored. `tests/run --bench`.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from bridge.policy.change import Change, Event
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from deploy.servers import Authority, free_network
from tests.bench.conftest import add
from tests.bench.test_reports import used
from tests.system.servers import Bridge, Lab, eventually

HOST = "a.test"
SETTINGS = '[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'
ROUNDS = 5
pytestmark = pytest.mark.bench


@pytest.fixture
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    lab = Lab(free_network(1), Authority(tmp_path_factory.mktemp("authority")))
    try:
        bridge = lab.bridge(settings=SETTINGS)
        bridge.serve_host(HOST, "http://127.0.0.1:9")
        bridge.start_up()
        yield bridge
    finally:
        lab.close()


async def seen(receiver: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(receiver) as answer:
        return await answer.json(content_type=None)


def data(number: int) -> dict[str, Any]:
    """About as much as a report of the specification's size brings."""
    return {
        "schema": "incident-bridge/1",
        "peer": {"domain": "b.test", "quarantined": False},
        "number": number,
        "incident": {"description": "x" * 1800},
        "put_at": time.time(),
    }


async def happen(store: Store, name: str, count: int) -> None:
    for start in range(0, count, 100):
        now = datetime.now(UTC)
        events = (
            Event(host=HOST, id=f"{name}{n}", type="incident.reported", timestamp=now, data=data(n))
            for n in range(start, min(count, start + 100))
        )
        await commit(store, Change(events=tuple(events)))


async def arrived(receiver: str, path: str, count: int) -> float:
    """Seconds until so many came."""
    began = time.monotonic()
    total = 0
    while total < count:
        await asyncio.sleep(0.1)
        total += (await seen(receiver))["counts"].get(path, 0)
    return time.monotonic() - began


async def bare(receiver: str, count: int) -> float:
    """Deliveries a second of aiohttp alone."""
    body = json.dumps({"type": "incident.reported", "data": data(0)}).encode()
    left = iter(range(count))

    async def post(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(f"{receiver}/bare", data=body) as answer:
                await answer.read()

    began = time.monotonic()
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(post(session) for _ in range(8)))
    return count / (time.monotonic() - began)


def worker_pids(bridge: Bridge) -> list[int]:
    children = bridge.processes["up"].children().items()
    return [pid for pid, line in children if line.endswith("worker deliveries")]


@pytest.mark.parametrize("endpoints", [1, 20])
async def test_deliveries_a_second(bridge: Bridge, receiver: str, endpoints: int) -> None:
    store = await open_store(f"unix://{bridge.folder}/data/store.sock")
    for n in range(endpoints):
        await add(store, f"{receiver}/x", id=f"ep_{n}")
    count = 4000 // endpoints
    await happen(store, "warm", 200 // endpoints)
    await arrived(receiver, "/x", 200 // endpoints * endpoints)
    rates, bares, cpu = [], [], []
    for run in range(ROUNDS):
        bares.append(await bare(receiver, 2000))
        before = sum(used(pid) for pid in worker_pids(bridge))
        began = time.monotonic()
        await asyncio.gather(happen(store, f"r{run}-", count), arrived(receiver, "/x", count * endpoints))
        rates.append(count * endpoints / (time.monotonic() - began))
        cpu.append(1000 * (sum(used(pid) for pid in worker_pids(bridge)) - before) / (count * endpoints))
    ratios = sorted(rate / bare for rate, bare in zip(rates, bares, strict=True))
    print(
        f"{endpoints} endpoints: {statistics.median(rates):.0f} deliveries/s, aiohttp alone"
        f" {statistics.median(bares):.0f}/s, ratio {statistics.median(ratios):.2f}"
        f" ({ratios[0]:.2f}-{ratios[-1]:.2f}), worker CPU {statistics.median(cpu):.2f} ms a delivery"
    )
    await close(store)


async def test_one_that_hangs_beside_another(bridge: Bridge, receiver: str) -> None:
    store = await open_store(f"unix://{bridge.folder}/data/store.sock")
    await add(store, f"{receiver}/x", id="ep_x")
    slowest = {}
    for name in ("alone", "beside"):
        if name == "beside":
            await add(store, f"{receiver}/hangs", id="ep_hangs")
        await seen(receiver)
        worst = 0.0
        for n in range(100):
            await happen(store, f"{name}{n}", 1)
            await asyncio.sleep(0.02)

        async def all_came() -> bool:
            nonlocal worst, total
            found = await seen(receiver)
            total += found["counts"].get("/x", 0)
            worst = max(worst, found["slowest"].get("/x", 0))
            return total >= 100

        total = 0
        await eventually(all_came, seconds=20)
        slowest[name] = worst
    print(f"slowest of 100: alone {1000 * slowest['alone']:.0f} ms, beside one that hangs", end=" ")
    print(f"{1000 * slowest['beside']:.0f} ms")
    await close(store)
