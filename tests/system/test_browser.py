"""The browser of the tests tells what must never happen on a page of ours."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.system.browser import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[TestServer]:
    """Serves at /strict a page that allows nothing, and loads a picture from elsewhere at /other."""

    async def strict(_: web.Request) -> web.Response:
        policy = {"Content-Security-Policy": "default-src 'none'"}
        return web.Response(
            text="<p>seen<script>1</script>", content_type="text/html", charset="utf-8", headers=policy
        )

    async def other(_: web.Request) -> web.Response:
        page = '<p>seen<img src="http://127.255.255.254:9/x.png" alt="">'
        return web.Response(text=page, content_type="text/html", charset="utf-8")

    app = web.Application()
    app.add_routes([web.get("/strict", strict), web.get("/other", other)])
    async with TestServer(app) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "complaint"), [("/strict", "Content Security Policy"), ("/other", "asks somebody else")]
)
async def test_a_page_that_does_what_it_must_not_is_found_out(
    browser: Browser, server: TestServer, path: str, complaint: str
) -> None:
    page = await browser.page()
    await page.goto(str(server.make_url(path)))

    assert "seen" in await page.text()
    with pytest.raises(AssertionError, match=complaint):
        await browser.close_windows()
