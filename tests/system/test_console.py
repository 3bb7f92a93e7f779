"""The console as an operator sees it: a real browser, a real Prosody that sends the code, real peers that report."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from deploy.servers import Authority, Prosody, iq
from tests.system.browser import PHONE, Browser, Page
from tests.system.reports import payload
from tests.system.servers import Bridge, Lab, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADMIN = "admin@a.test"
_LUA_STRING = re.compile(r'"((?:[^"\\]|\\.|\\\n)*)"')
_INCIDENT = (
    "<Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='{purpose}'><IncidentID name='{name}'>{text}"
    "</IncidentID><ReportTime>2026-11-21T10:00:00Z</ReportTime>{more}</Incident>"
)
REQUEST = (
    "<Assessment><Impact severity='high' type='dos'/></Assessment>"
    "<EventData><Flow><System category='source'><Node><Address category='ext-category' ext-category='xmpp'>{source}"
    "</Address></Node></System></Flow><Expectation action='block-host'><Description>it floods our rooms</Description>"
    "</Expectation></EventData>"
)


def sources(count: int) -> str:
    """That many sources, each with a counter."""
    one = (
        "<System category='source'><Node><Address category='ext-category' ext-category='xmpp'>s{0}@x.test</Address>"
        "<Counter type='ext-type' ext-type='xmpp-message'>{0}</Counter></Node></System>"
    )
    return f"<EventData><Flow>{''.join(one.format(n) for n in range(count))}</Flow></EventData>"


def made(kind: str, *, text: str, more: str, name: str = "b.test") -> str:
    """The payload of an interaction."""
    purpose = {"report": "reporting", "request": "mitigation"}[kind]
    body = _INCIDENT.format(purpose=purpose, name=name, text=text, more=more)
    return f"<{kind} xmlns='urn:xmpp:incident:2'>{body}</{kind}>"


@dataclass
class House:
    """a.test with its bridge, and two peers: b.test, which is trusted, and c.test, which is not."""

    bridge: Bridge
    a: Prosody
    b: Prosody
    c: Prosody

    @property
    def url(self) -> str:
        """Where the console is."""
        return f"http://{self.bridge.address}:15268"

    def codes(self) -> list[str]:
        """The codes that Prosody keeps for the admin, who is offline; the oldest first."""
        path = self.a.folder / "data/a%2etest/offline/admin.list"
        found = _LUA_STRING.findall(path.read_text()) if path.exists() else []
        return [text[:6] for text in found if "is your code" in text]

    async def enter(self, page: Page, *options: str) -> None:
        """Sign in by a link."""
        await page.goto(self.bridge.json("login-link", *options)["url"])
        await page.click("Sign in")
        await eventually(lambda: page.tab.url == f"{self.url}/")

    def incident(self, text: str) -> str:
        """The id of the incident of this IncidentID."""
        found = self.bridge.json("incidents", "list")["incidents"]
        return next(one["id"] for one in found if one["identity"]["text"] == text)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(network: str, authority: Authority) -> AsyncIterator[House]:
    """One house for all tests here; each leaves it as others can use it."""
    lab = Lab(network, authority)
    try:
        bridge = lab.bridge()
        a = lab.prosody("a.test", version="13", bridge=bridge, start=False)
        b, c = (lab.prosody(name, peer=True, start=False) for name in ("b.test", "c.test"))
        bridge.start_up()
        for server in (a, b, c):
            server.start()
        a.control("register", "admin", "a.test", "secret")
        bridge.cli("peers", "trust", "b.test")
        living = House(bridge, a, b, c)
        await settle(living)
        yield living
    finally:
        lab.close()


async def settle(house: House) -> None:
    """Let the peers report what operators see: XEP-0268's own example, a request, and what is meant to deceive."""
    evil = "<script>alert(1)</script> \u202egnp.exe\u202c \u2066x\u2069 \u200bthe end \x85 <b>bold</b>"
    escaped = evil.replace("<", "&lt;")
    impact = f"<Assessment><Impact severity='high' type='dos'>{escaped}</Impact></Assessment>"
    long = "spam " * 20_000
    sent = [
        (house.b, "b.test", payload(), "set"),
        (house.b, "b.test", payload("another-1"), "set"),
        (house.b, "b.test", made("request", text="please", more=REQUEST.format(source="spammer@a.test")), "get"),
        (house.b, "b.test", made("report", text="many", more=sources(500)), "set"),
        (house.b, "b.test", made("report", text="long", more=f"<Description>{long}</Description>"), "set"),
        (house.c, "c.test", made("report", text="evil", name="c.test", more=f"<Description>{escaped}</Description>{impact}"), "set"),
    ]  # fmt: skip
    for number, (server, name, body, kind) in enumerate(sent):
        reply = await server.send_iq(
            iq(body, to="a.test", sender=name, id=f"q{number}", type=kind), seconds=20
        )
        assert reply.type == "result", reply
    await eventually(lambda: len(house.bridge.json("incidents", "list")["incidents"]) == 6, 20)


async def test_an_admin_signs_in_by_the_code_that_prosody_sends(house: House, browser: Browser) -> None:
    page = await browser.page()
    await page.goto(f"{house.url}/peers")
    await page.picture("sign-in-light")
    assert "Sign in" in await page.text("h1")

    known = len(house.codes())
    await page.fill("Your JID", "Admin@A.test")
    await page.click("Send me a code")
    await eventually(lambda: len(house.codes()) > known, 15)
    await page.picture("code-light")
    await page.fill("Code", house.codes()[-1])
    await page.click("Sign in")

    await eventually(lambda: page.tab.url == f"{house.url}/peers")
    assert ADMIN in await page.text("header")
    [cookie] = await page.tab.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["name"]) == (True, "Strict", "ib_session")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pictures(house: House, browser: Browser, scheme: str) -> None:
    for size, word in (((1280, 900), "desk"), (PHONE, "phone")):
        page = await browser.page(size=size, scheme=scheme)
        await house.enter(page)
        paths = {
            "inbox": "/",
            "incidents": "/incidents",
            "found": "/incidents?q=b.test&status=new",
            "example": f"/incidents/{house.incident('4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF')}",
            "request": f"/incidents/{house.incident('please')}",
            "many": f"/incidents/{house.incident('many')}",
            "long": f"/incidents/{house.incident('long')}",
            "evil": f"/incidents/{house.incident('evil')}",
            "document": f"/incidents/{house.incident('please')}/document",
            "peers": "/peers",
            "peer": "/peers/a.test/b.test",
            "about": "/about",
            "nothing": "/nothing",
        }
        for name, path in paths.items():
            await page.goto(house.url + path)
            await page.picture(f"{name}-{word}-{scheme}")
            assert await page.overflow() == 0, (name, word)
