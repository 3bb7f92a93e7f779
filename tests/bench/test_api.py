"""The API's list of incidents, with many stored. `tests/run --bench`; for a million `GROWTH_INCIDENTS=1000000`."""

import os
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from bridge.iodef.model import IncidentId
from bridge.policy.change import Change, Put
from bridge.policy.record import Edition, Incident, incident_id
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from bridge.xep0268.model import Status
from deploy.servers import Authority, free_network
from tests.system.servers import Bridge, Lab

HOST = "a.test"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = "api_requests_per_minute = 1000000"
pytestmark = pytest.mark.bench


@pytest.fixture
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    lab = Lab(free_network(1), Authority(tmp_path_factory.mktemp("authority")))
    try:
        bridge = lab.bridge(server=SERVER)
        bridge.serve_host(HOST, "http://127.0.0.1:9")
        bridge.start_up()
        yield bridge
    finally:
        lab.close()


def made(number: int) -> Incident:
    identity = IncidentId(name=f"peer{number % 100}.test", text=f"n{number}")
    at = BEGAN + timedelta(seconds=number)
    return Incident(
        id=incident_id(HOST, identity.name, identity),
        host=HOST,
        reporter=identity.name,
        identity=identity,
        status=Status.NEW,
        quarantined=False,
        severity="medium",
        summary="One of our users sends spam to several of yours, and does not stop",
        created_at=at,
        updated_at=at,
        editions=(Edition(interaction_id=f"i{number}", received_at=at, status=Status.NEW),),
        sources=(f"spammer{number}@peer.test",),
    )


async def fill(store: Store, start: int, end: int) -> None:
    for first in range(start, end, 200):
        puts = (Put(None, made(number)) for number in range(first, min(end, first + 200)))
        await commit(store, Change(puts=tuple(puts)))


async def test_the_newest_50_of_many(bridge: Bridge) -> None:
    store = await open_store(f"unix://{bridge.folder}/data/store.sock")
    token = bridge.json("tokens", "create", "bench", "--scope", "read")["token"]
    url = f"http://{bridge.address}:15268/api/v1/incidents?limit=50"
    stored = 0
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        for count in (1_000, int(os.environ.get("GROWTH_INCIDENTS", "100000"))):
            await fill(store, stored, count)
            stored = count
            for name, query in (("newest", ""), ("one reporter's", "&reporter=peer7.test")):
                taken = []
                for _ in range(120):
                    began = time.perf_counter()
                    async with session.get(url + query) as answer:
                        assert answer.status == 200, await answer.text()
                        await answer.read()
                    taken.append(1000 * (time.perf_counter() - began))
                taken = sorted(taken[20:])
                print(f"{name} 50 of {count}: p50 {statistics.median(taken):.1f} ms, p99 {taken[98]:.1f} ms")
    await close(store)
