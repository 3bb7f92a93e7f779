"""What a host's Prosody answers, and what that means for whoever asked."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from bridge.clients.prosody import ProsodyClient
from bridge.errors import UnavailableError, UnsupportedError


@dataclass(frozen=True)
class Secret:
    def get_secret_value(self) -> str:
        return "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass(frozen=True)
class Host:
    api_url: str
    secrets: tuple[Secret, ...] = (Secret(),)


@dataclass
class Prosody:
    """Answers every command alike."""

    status: int = 200
    answer: dict[str, object] = field(default_factory=dict)
    client: ProsodyClient | None = None

    async def handle(self, _: web.Request) -> web.Response:
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def prosody() -> AsyncIterator[Prosody]:
    made = Prosody()
    app = web.Application()
    app.router.add_post("/incident_bridge", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        made.client = ProsodyClient({"a.test": Host(f"http://{address}:{port}")}, session)
        yield made
    await runner.cleanup()


async def test_an_older_module_that_cannot_tell_the_admins_is_not_asked_for_ever(prosody: Prosody) -> None:
    assert prosody.client
    prosody.status, prosody.answer = 400, {"error": "unknown type"}

    with pytest.raises(UnsupportedError, match="install the module that came with this bridge"):
        await prosody.client.notify("a.test", "x", webhook_id="n-1")
    with pytest.raises(UnavailableError, match="unknown type"):
        await prosody.client.send("a.test", ["<iq/>"], webhook_id="s-1")


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_whatever_may_pass_is_tried_again(prosody: Prosody, status: int) -> None:
    assert prosody.client
    prosody.status = status

    with pytest.raises(UnavailableError):
        await prosody.client.notify("a.test", "x", webhook_id="n-1")


async def test_it_is_told_who_was_told(prosody: Prosody) -> None:
    assert prosody.client
    prosody.answer = {"sent": ["admin@a.test"], "not_sent": []}

    assert await prosody.client.notify("a.test", "x", webhook_id="n-1") == ["admin@a.test"]
