"""A bridge whose Prosody is away, for pages of the console that need none; with a consumer of its events."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest_asyncio

from bridge.config import load_settings
from bridge.pipeline.sign_in import follow_link, make_link
from bridge.policy.change import Change, Put
from bridge.policy.consumers import Delivery, Endpoint
from bridge.policy.record import Record
from bridge.policy.sessions import Role
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from bridge.web.console import find
from deploy.servers import Authority
from tests.pipeline.consumer import Consumer, consuming
from tests.system.browser import Page
from tests.system.servers import Bridge, Lab

HOST = "a.test"
HOSTILE = "<b>bold</b><script>alert(1)</script> \u202egnp.exe\u202c"
SHOWN = "<b>bold</b><script>alert(1)</script> \\u202egnp.exe\\u202c"


async def let_in(page: Page, store: Store, url: str, role: Role, *, who: str = "cli:tests") -> Page:
    """Give a window the cookie of a session of this host, as signing in by a link does; it is at no page yet."""
    now = datetime.now(UTC)
    _, word = await make_link(store, who, {HOST: role}, now=now)
    begun = await follow_link(store, word, origin="127.0.0.1", now=now)
    assert begun is not None
    value = f"{begun[0].id}.{begun[1]}"
    await page.tab.context.add_cookies(
        [{"name": "ib_session", "value": value, "url": url, "httpOnly": True, "sameSite": "Strict"}]
    )
    return page


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
        """Let somebody in."""
        async with self.store() as store:
            return await let_in(page, store, self.url, role)

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
