"""A console in this process on a store of its own; the worker's part is done by the tests, and so is Prosody's."""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from bridge.config import HostSettings, PolicySettings, Settings
from bridge.policy.change import Change, Put
from bridge.policy.decisions import Approval, Triage
from bridge.policy.record import Incident, Peer, Record
from bridge.policy.sessions import Role
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Durability, Store, close, open_store
from bridge.store.embedded import EmbeddedServer, start_embedded
from bridge.web import health
from bridge.web.console import site
from bridge.web.problems import problems
from bridge.web.state import SERVICE, Service
from tests.pipeline.test_approve import Desk
from tests.system.browser import Page
from tests.system.console_desk import let_in

HOST, PEER, STRANGER = "a.test", "b.test", "c.test"
RULES = PolicySettings(protected=frozenset({"boss@a.test", "bank.example"}))


@dataclass
class Office:
    """A console on a store; the worker's part is done by the tests, with a Prosody that says what they want."""

    url: str
    store: Store
    desk: Desk

    async def enter(self, page: Page, role: Role = Role.APPROVER, who: str = "cli:anna") -> Page:
        """Let somebody in."""
        return await let_in(page, self.store, self.url, role, who=who)

    async def put(self, *records: Record) -> None:
        """Store these."""
        await commit(self.store, Change(puts=tuple(Put(None, one) for one in records)))

    async def asked(self, *addresses: str, text: str, is_previewed: bool = True) -> Approval:
        """Let b.test ask for block-host of these."""
        found = await self.desk.request(*addresses, text=text)
        assert found is not None
        if is_previewed:
            await self.desk.work()
        return await self.desk.approval(found.id)

    async def triage(self, incident: str) -> Triage:
        """What is written down about an incident."""
        found = await self.desk.record(keys.triage(incident))
        assert isinstance(found, Triage)
        return found

    async def quarantined(self) -> list[Incident]:
        """What lies in quarantine."""
        index = keys.incidents_quarantined(HOST, quarantined=True)
        ids = (await load.newest(self.store, [index], limit=99))[index]
        return [await self.desk.record(keys.incident(one)) for one in ids]


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedServer]:
    """One store for all; each test begins with an empty one."""
    folder = Path(tempfile.mkdtemp(prefix="ib-desk-"))
    running = start_embedded(folder, max_bytes=256 * 2**20)
    yield running
    running.stop()
    shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def console(store: Store) -> AsyncIterator[str]:
    """The listener of the console."""
    host = HostSettings(secrets=(SecretStr("whsec_" + "QUJD" * 10),), api_url="http://127.0.0.1:9")
    service = Service(
        settings=Settings(hosts={HOST: host}, policy=RULES),
        store=store,
        durability=Durability(mode="disk", problems=(), fix=()),
        keys={},
    )
    service.health = await load.health(store)
    app = web.Application(middlewares=[problems])
    app[SERVICE] = service
    app.add_routes(health.routes())
    site.add(app)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


@pytest_asyncio.fixture(loop_scope="session")
async def office(redis: EmbeddedServer) -> AsyncIterator[Office]:
    """An empty store, a trusted peer, and a Prosody that says two sessions are open."""
    store = await open_store(redis.url)
    await store.redis.flushall()
    peers = [Peer(host=HOST, domain=one, trust=Trust.TRUSTED, received=3) for one in (PEER, "friend.example")]
    await commit(store, Change(puts=tuple(Put(None, one) for one in peers)))
    desk = Desk(store, now=datetime.now(UTC), rules=RULES)
    async with console(store) as url:
        yield Office(url, store, desk)
    await close(store)
