"""A bridge whose Prosody is away, for pages of the console that need none; with a consumer of its events."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest_asyncio

from bridge.config import load_settings
from bridge.pipeline.sign_in import make_link
from bridge.policy.change import Change, Put
from bridge.policy.record import (
    Delivery,
    Endpoint,
    Record,
)
from bridge.policy.sessions import Role
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from bridge.web.console import find
from deploy.servers import Authority
from tests.pipeline.consumer import Consumer, consuming
from tests.system.browser import Page
from tests.system.servers import Bridge, Lab, eventually

HOST = "a.test"
HOSTILE = "<b>bold</b><script>alert(1)</script> \u202egnp.exe\u202c"
SHOWN = "<b>bold</b><script>alert(1)</script> \\u202egnp.exe\\u202c"


@dataclass
class Desk:
    """A bridge whose Prosody is away, and a consumer of its events."""

    bridge: Bridge
    consumer: Consumer
    url: str

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The bridge's store."""
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            yield store
        finally:
            await close(store)

    async def enter(self, page: Page, role: Role = Role.APPROVER) -> Page:
        """Sign in by a link."""
        async with self.store() as store:
            _, word = await make_link(store, "cli:tests", {HOST: role}, now=datetime.now(UTC))
        await page.goto(f"{self.url}/sign-in/link/{word}")
        await page.click("Sign in")
        await eventually(lambda: page.tab.url == f"{self.url}/")
        return page

    async def put(self, *records: Record) -> None:
        """Store these."""
        async with self.store() as store:
            await commit(store, Change(puts=tuple(Put(None, one) for one in records)))

    async def endpoints(self) -> list[Endpoint]:
        """All endpoints, the newest first."""
        async with self.store() as store:
            members = await load.page(store, keys.ENDPOINTS, limit=1000)
            found = await find.records(store, (keys.endpoint(member) for member, _ in members))
        return [one for one in found if isinstance(one, Endpoint)]

    async def deliveries(self, endpoint_id: str) -> list[Delivery]:
        """All deliveries to an endpoint, the newest first."""
        async with self.store() as store:
            members = await load.page(store, keys.deliveries(endpoint_id), limit=1000)
            found = await find.records(store, (keys.delivery(member) for member, _ in members))
        return [one for one in found if isinstance(one, Delivery)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(network: str, authority: Authority) -> AsyncIterator[Desk]:
    """One desk for all tests here; each leaves it as others can use it."""
    lab = Lab(network, authority)
    try:
        bridge = lab.bridge(settings='\n[webhooks]\nallow_networks = ["127.0.0.0/8"]\n')
        bridge.serve_host(HOST, f"http://{bridge.address}:1")
        bridge.start_up()
        async with consuming() as consumer:
            yield Desk(bridge, consumer, f"http://{bridge.address}:15268")
    finally:
        lab.close()
