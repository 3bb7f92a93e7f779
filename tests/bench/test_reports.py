"""Reports answered end to end, as a share of what the same Prosody answers in-process.

Everything runs on this machine: both Prosodys, the store, the service and both workers. `tests/run --bench`.
"""

import json
import os
import secrets
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from bridge.pipeline.deliver_events import endpoints_of
from bridge.policy.change import Change
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from deploy.servers import Authority, free_network, iq
from tests.bench.conftest import add
from tests.system.reports import ID, payload
from tests.system.servers import Federation, Lab, eventually

MODULES = Path(__file__).parent / "modules"
PAIRS = 5
SETTINGS = """[policy]
quota_per_minute = 10000000
quota_burst = 10000000
[webhooks]
allow_networks = ["127.0.0.0/8"]
"""
pytestmark = pytest.mark.bench


@dataclass(frozen=True)
class Run:
    """One measurement: answers a second, and latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


@pytest.fixture
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    lab = Lab(free_network(1), Authority(tmp_path_factory.mktemp("authority")))
    try:
        bridge = lab.bridge(settings=SETTINGS)
        more = {"plugin_paths": [MODULES]}
        a = lab.prosody("a.test", bridge=bridge, start=False, modules=["bench_answer"], **more)
        b = lab.prosody("b.test", peer=True, start=False, modules=["bench_load"], **more)
        bridge.start_up()
        a.start()
        b.start()
        bridge.cli("peers", "trust", "b.test")
        yield Federation(lab, bridge, a, b)
    finally:
        lab.close()


def cpu_seconds(federation: Federation) -> dict[str, float]:
    """CPU time that each part has used so far."""
    up = federation.bridge.processes["up"]
    found = {
        "Prosody (a)": used(federation.a.process.pid),
        "Prosody (b, the sender)": used(federation.b.process.pid),
        "service": 0.0,
        "worker incidents": 0.0,
        "worker outgoing": 0.0,
        "worker deliveries": 0.0,
        "store": 0.0,
    }
    for pid, line in up.children().items():
        name = next((name for name in found if line.endswith(name.replace("service", "serve"))), "store")
        if name != "store" or "appendonly" in line or "-server" in line:
            found[name] += used(pid)
    return found


def used(pid: int) -> float:
    """CPU seconds of a process and of those it started and waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(one) for one in fields[11:15]) / os.sysconf("SC_CLK_TCK")


async def load(federation: Federation, *, body: str, count: int, concurrency: int) -> Run:
    """Send `count` reports, `concurrency` at a time; every one must be answered by a result."""
    wanted = {
        "to": "a.test",
        "payload": body,
        "run": secrets.token_hex(4),
        "count": count,
        "concurrency": concurrency,
    }
    timeout = aiohttp.ClientTimeout(total=120)
    async with (
        aiohttp.ClientSession(federation.b.url, headers={"Host": "b.test"}, timeout=timeout) as session,
        session.post("/bench/load", data=json.dumps(wanted)) as answer,
    ):
        found = json.loads(await answer.text())
    assert (found["results"], found["errors"]) == (count, 0)
    latencies = sorted(1000 * one for one in found["latencies"])
    return Run(
        count / found["seconds"], latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    )


async def test_reports_end_to_end_against_in_process(federation: Federation) -> None:
    body = payload("@ID@")
    assert ID not in body
    simple = body.replace("urn:xmpp:incident:2", "urn:bench", 1)
    await federation.b.send_iq(iq(payload("first"), to="a.test", sender="b.test", id="first"))
    for concurrency, simple_count, count in ((1, 400, 150), (16, 3000, 800), (128, 4000, 1500)):
        await load(federation, body=body, count=count // 3, concurrency=concurrency)
        pairs = []
        for _ in range(PAIRS):
            inside = await load(federation, body=simple, count=simple_count, concurrency=concurrency)
            across = await load(federation, body=body, count=count, concurrency=concurrency)
            pairs.append((inside, across))
        before = cpu_seconds(federation)
        await load(federation, body=body, count=count, concurrency=concurrency)
        spent = {
            name: 1000 * (value - before[name]) / count for name, value in cpu_seconds(federation).items()
        }
        ratios = sorted(across.rate / inside.rate for inside, across in pairs)
        print(
            f"c={concurrency}: ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f}),"
            f" in-process {statistics.median(one.rate for one, _ in pairs):.0f}/s,"
            f" bridge {statistics.median(one.rate for _, one in pairs):.0f}/s,"
            f" p50 {statistics.median(one.p50 for _, one in pairs):.1f} ms,"
            f" p99 {statistics.median(one.p99 for _, one in pairs):.1f} ms\n"
            "     CPU ms a report: " + ", ".join(f"{name} {one:.2f}" for name, one in spent.items())
        )


async def test_ten_endpoints_beside_ingest(federation: Federation, receiver: str) -> None:
    """Pairs of runs in turn, with no endpoint enabled and with ten."""
    store = await open_store(f"unix://{federation.bridge.folder}/data/store.sock")
    body = payload("@ID@")
    await federation.b.send_iq(iq(payload("first"), to="a.test", sender="b.test", id="first"))
    await load(federation, body=body, count=300, concurrency=16)
    ratios = []
    for _ in range(PAIRS):
        without = await load(federation, body=body, count=800, concurrency=16)
        for number in range(10):
            await add(store, f"{receiver}/x", id=f"ep_{number}")
        beside = await load(federation, body=body, count=800, concurrency=16)
        for one in await endpoints_of(store, "a.test"):
            await commit(store, Change(drops=(one,)))
        await idle(store)
        ratios.append(beside.rate / without.rate)
    ratios.sort()
    print(
        f"ten endpoints: {statistics.median(ratios):.2f} of the rate without ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    )
    await close(store)


async def idle(store: Store) -> None:
    """Wait until nothing is left in any lane."""

    async def is_idle() -> bool:
        return not await store.redis.exists("ib:lanes:outgoing", "ib:lanes:incidents", "ib:lanes:deliveries")

    await eventually(is_idle, seconds=60)
