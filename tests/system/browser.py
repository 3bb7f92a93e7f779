"""A real Chromium without a window, as an operator's browser: `page = await browser.page()`, `await page.goto(url)`.

What must never happen fails the test that made it happen, when the browser's windows close: an error in the console
(a violation of the Content-Security-Policy is one), an exception in a script, a request to anybody but the server that
the page came from. Pictures of pages go to the folder that `INCIDENT_BRIDGE_PICTURES` names, if any.
"""

import contextlib
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urljoin, urlsplit

from playwright import async_api as playwright

from deploy.servers import fetch

PHONE = (390, 844)
DESK = (1280, 900)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# Loopback only and pages of our own, so no sandbox, which root in a container could not have.
_OPTIONS = ["--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage"]
_HARMLESS = re.compile(
    r"the server responded with a status of (4\d\d|503)"
)  # a refusal that a test asked for


@dataclass
class Browser:
    """One browser; each page has cookies of its own unless it is opened from another."""

    chromium: playwright.Browser
    complaints: list[str] = field(default_factory=list)
    contexts: list[playwright.BrowserContext] = field(default_factory=list)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls) -> AsyncIterator[Self]:
        """Start Debian's chromium."""
        async with playwright.async_playwright() as driver:
            path = fetch("chromium") / "chromium"
            chromium = await driver.chromium.launch(executable_path=path, args=_OPTIONS)
            try:
                yield cls(chromium)
            finally:
                await chromium.close()

    async def page(
        self,
        *,
        size: tuple[int, int] = DESK,
        has_javascript: bool = True,
    ) -> "Page":
        """Open a window with cookies of its own."""
        context = await self.chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            java_script_enabled=has_javascript,
        )
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        return await self.tab(context)

    async def tab(self, context: playwright.BrowserContext) -> "Page":
        """Open one more tab of a window."""
        page = await context.new_page()
        page.on("console", lambda message: self._console(page, message))
        page.on(
            "pageerror", lambda error: self.complaints.append(f"{page.url}: exception in a script: {error}")
        )
        page.on("request", lambda request: self._request(page, request))
        return Page(page)

    def _console(self, page: playwright.Page, message: playwright.ConsoleMessage) -> None:
        if message.type == "error" and not _HARMLESS.search(message.text):
            self.complaints.append(f"{page.url}: {message.text}")

    def _request(self, page: playwright.Page, request: playwright.Request) -> None:
        asked = urlsplit(request.url)
        ours = request.url if request.is_navigation_request() else page.url
        if asked.scheme not in {"data", "about"} and asked.netloc != urlsplit(ours).netloc:
            self.complaints.append(f"{page.url}: asks somebody else: {request.url}")

    async def close_windows(self) -> None:
        """Close all windows; AssertionError if something happened that must not."""
        for context in self.contexts:
            await context.close()
        self.contexts.clear()
        complaints, self.complaints = self.complaints, []
        assert not complaints, "\n".join(complaints)


@dataclass
class Page:
    """One tab: what a person does with it, in words; `tab` has everything else."""

    tab: playwright.Page

    async def goto(self, url: str) -> int:
        """Open an address; returns the HTTP status."""
        answer = await self.tab.goto(url)
        assert answer is not None, f"{url} was not asked for"
        return answer.status

    async def click(self, name: str) -> None:
        """Press the button, or follow the link, of this name."""
        await (
            self.tab.get_by_role("button", name=name, exact=True)
            .or_(self.tab.get_by_role("link", name=name, exact=True))
            .first.click()
        )
        await self.tab.wait_for_load_state()

    async def fill(self, label: str, text: str) -> None:
        """Type into the field of this label."""
        await self.tab.get_by_label(label, exact=True).fill(text)

    async def choose(self, label: str, option: str) -> None:
        """Choose from the list of this label."""
        await self.tab.get_by_label(label, exact=True).select_option(label=option)

    async def post(self, path: str, *, token: str | None = None, **fields: str) -> int:
        """Send a form that no page offers, with the token of this page's forms unless told otherwise; its status."""
        own = await self.tab.locator("[name=csrf]").first.input_value()
        form = {"csrf": own if token is None else token, **fields}
        answer = await self.tab.request.post(
            str(urljoin(self.tab.url, path)),
            form={**form},
            max_redirects=0,
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        return answer.status

    async def text(self, selector: str = "body") -> str:
        """What a person reads there."""
        return await self.tab.inner_text(selector)

    async def picture(self, name: str) -> None:
        """Save the whole page as a picture, if somebody wants pictures."""
        if folder := os.environ.get("INCIDENT_BRIDGE_PICTURES"):
            await self.tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    async def fits(self, name: str) -> None:
        """See that the page is no wider than a desk's window and a phone's; with pictures of both, light and dark."""
        for size, where in ((DESK, "desk"), (PHONE, "phone")):
            await self.tab.set_viewport_size({"width": size[0], "height": size[1]})
            assert await self.overflow() == 0, (name, where)
            if "INCIDENT_BRIDGE_PICTURES" in os.environ:
                for scheme in SCHEMES:
                    await self.tab.emulate_media(color_scheme=scheme)
                    await self.picture(f"{name}-{where}-{scheme}")

    async def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        wide = await self.tab.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return int(wide)
