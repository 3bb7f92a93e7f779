"""The console as an operator sees it: a real browser, a real Prosody that sends the code, real peers that report."""

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from bridge.config import load_settings
from bridge.pipeline.sign_in import make_link
from bridge.policy.record import Peer
from bridge.policy.sessions import Role
from bridge.policy.trust import Rule, Trust
from bridge.store.connect import Store, close, open_store
from bridge.web.console.find import Query, search
from bridge.web.console.find import peer as find_peer
from bridge.xep0268.model import Kind
from deploy.servers import Authority, Prosody, iq
from tests.system.browser import DESK, PHONE, Browser, Page
from tests.system.reports import payload
from tests.system.servers import Bridge, Lab, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADMIN = "admin@a.test"
EVIL = "<script>alert(1)</script> \u202egnp.exe\u202c \u2066x\u2069 \u200bthe end <b>bold</b>"
SHOWN = "<script>alert(1)</script> \\u202egnp.exe\\u202c \\u2066x\\u2069 \\u200bthe end <b>bold</b>"
EXAMPLE = "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF"
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

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The bridge's store."""
        store = await open_store(load_settings(self.bridge.config_path).store_url())
        try:
            yield store
        finally:
            await close(store)

    async def forget_limits(self) -> None:
        """Let codes be asked for as if nobody had before."""
        async with self.store() as store:
            async for key in store.redis.scan_iter("ib:r:bucket:sign-in*"):
                await store.redis.delete(key)

    async def enter(self, page: Page, role: Role = Role.APPROVER) -> None:
        """Sign in by a link."""
        async with self.store() as store:
            _, word = await make_link(store, "cli:tests", {"a.test": role}, now=datetime.now(UTC))
        await page.goto(f"{self.url}/sign-in/link/{word}")
        await page.click("Sign in")
        await eventually(lambda: page.tab.url == f"{self.url}/")

    async def incidents(self) -> dict[str, str]:
        """The ids of all incidents, by their IncidentIDs."""
        async with self.store() as store:
            found = await search(store, ["a.test"], Query(), limit=100)
        return {one.identity.text: one.id for one in found.incidents}

    async def peer(self, domain: str) -> Peer | None:
        """What a.test knows of a peer."""
        async with self.store() as store:
            return await find_peer(store, "a.test", domain)


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
    escaped = EVIL.replace("<", "&lt;")
    words = f"<Description>{escaped}</Description>"
    impact = f"<Assessment><Impact severity='high' type='dos'>{escaped}</Impact></Assessment>"
    long = "spam " * 20_000
    sent = [
        (house.b, "b.test", payload(), "set"),
        (house.b, "b.test", payload("another-1"), "set"),
        (house.b, "b.test", made("request", text="please", more=REQUEST.format(source="spammer@a.test")), "get"),
        (house.b, "b.test", made("report", text="many", more=sources(500)), "set"),
        (house.b, "b.test", made("report", text="long", more=f"<Description>{long}</Description>"), "set"),
        (house.c, "c.test", made("report", text="evil", name="c.test", more=words + impact), "set"),
    ]  # fmt: skip
    for number, (server, name, body, kind) in enumerate(sent):
        reply = await server.send_iq(
            iq(body, to="a.test", sender=name, id=f"q{number}", type=kind), seconds=20
        )
        assert reply.type == "result", reply

    async def is_there() -> bool:
        return len(await house.incidents()) == len(sent)

    await eventually(is_there, 20)


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


async def test_nobody_learns_who_is_an_admin(house: House, browser: Browser) -> None:
    shown = []
    for jid in (ADMIN, "nobody@a.test", "romeo@elsewhere.example"):
        page = await browser.page()
        await page.goto(f"{house.url}/sign-in")
        await page.fill("Your JID", jid)
        await page.click("Send me a code")
        text = await page.text("main")
        shown.append((page.tab.url.partition("?")[0], text.replace(jid, "JID")))

    assert len(set(shown)) == 1, shown


async def test_a_code_is_good_once_and_in_no_other_browser(house: House, browser: Browser) -> None:
    page, other = await browser.page(), await browser.page()
    known = len(house.codes())
    await page.goto(f"{house.url}/sign-in")
    await page.fill("Your JID", ADMIN)
    await page.click("Send me a code")
    await eventually(lambda: len(house.codes()) > known, 15)
    code = house.codes()[-1]

    await other.goto(page.tab.url)
    await other.fill("Code", code)
    await other.click("Sign in")
    assert "not right" in await other.text("main")

    where = page.tab.url
    await page.fill("Code", f"{code[:3]} {code[3:]}")
    await page.click("Sign in")
    assert "What needs you" in await page.text("h1")
    await page.click("Sign out")
    await page.goto(where)
    await page.fill("Code", code)
    await page.click("Sign in")
    assert "not right" in await page.text("main")


async def test_after_five_wrong_codes_the_right_one_is_wrong_too(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.forget_limits()
    known = len(house.codes())
    await page.goto(f"{house.url}/sign-in")
    await page.fill("Your JID", ADMIN)
    await page.click("Send me a code")
    await eventually(lambda: len(house.codes()) > known, 15)
    right = house.codes()[-1]
    wrong = "000000" if right != "000000" else "111111"
    for code in (*[wrong] * 5, right):
        await page.fill("Code", code)
        await page.click("Sign in")
        assert "not right" in await page.text("main")


async def test_who_asks_for_too_many_codes_is_told_to_wait(house: House, browser: Browser) -> None:
    await house.forget_limits()
    page = await browser.page()
    for _ in range(4):
        await page.goto(f"{house.url}/sign-in")
        await page.fill("Your JID", "juliet@a.test")
        await page.click("Send me a code")
    assert "Too many codes" in await page.text("main")
    assert "login-link" in await page.text("main")
    await house.forget_limits()


async def test_a_link_signs_in_once_and_who_only_looks_at_it_uses_nothing_up(
    house: House, browser: Browser
) -> None:
    url = house.bridge.json("login-link")["url"]
    async with aiohttp.ClientSession() as session:
        for _ in range(2):  # a chat's preview of links
            async with session.get(url) as answer:
                assert answer.status == 200

    page, second = await browser.page(), await browser.page()
    await page.goto(url)
    await page.click("Sign in")
    assert "What needs you" in await page.text("h1")
    await second.goto(url)
    await second.click("Sign in")
    assert "used up" in await second.text("h1")


async def test_the_inbox_says_what_needs_me_and_why(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.enter(page)
    await page.picture("inbox")

    text = await page.text("main")
    for expected in ("Waits for your yes or no", "b.test asks for block-host", "spammer@a.test",
                     "Servers to decide about", "c.test", "1 in quarantine"):  # fmt: skip
        assert expected in text
    assert "lots of MUC spammers" in text.partition("New from peers you trust")[2]


async def test_incidents_are_found_by_whatever_one_knows_of_them(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.enter(page)
    for words, count in (
        (EXAMPLE, 1), (EXAMPLE.lower(), 1), ("abuser@clueless.lit", 2), ("clueless", 2), ("c.test", 1),
        ((await house.incidents())["please"][:8], 1), ("nothing like it", 0),
    ):  # fmt: skip
        await page.goto(f"{house.url}/incidents")
        await page.fill("Search", words)
        await page.click("Search")
        assert await page.tab.locator(".card").count() == count, words
    for query, count in (
        ("severity=high", 2), ("quarantine=yes", 1), ("peer=b.test", 5), ("status=resolved", 0),
        ("since=2026-01-01&status=new", 6), ("until=2020-01-01", 0), ("since=nonsense", 6), ("before=x", 6),
    ):  # fmt: skip
        await page.goto(f"{house.url}/incidents?{query}")
        assert await page.tab.locator(".card").count() == count, query


async def test_an_incident_is_told_whole(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.enter(page)
    await page.goto(f"{house.url}/incidents/{(await house.incidents())[EXAMPLE]}")
    await page.picture("incident")

    text = await page.text("main")
    for expected in ("abuser@clueless.lit", "123 xmpp-presence", "jdev@conference.jabber.org", "stpeter@jabber.org",
                     EXAMPLE, "b.test reported it as new", "by a valid certificate", "17 repairs",
                     "the same source abuser@clueless.lit", "medium severity"):  # fmt: skip
        assert expected in text

    await page.click("The document")
    assert "<Incident" in await page.text("pre")
    await page.click("As it came")
    assert "abuser@clueless.lit" in await page.text("pre")
    async with page.tab.expect_download() as download:
        await page.tab.get_by_role("link", name="Download").click()
    assert (await download.value).suggested_filename.endswith(".xml")


async def test_what_is_meant_to_deceive_is_shown_as_it_is(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.enter(page)
    for path in (
        "/incidents",
        f"/incidents/{(await house.incidents())['evil']}",
        "/incidents?q=" + quote(EVIL),
    ):
        await page.goto(house.url + path)
        assert SHOWN in await page.text("main")
        assert EVIL[25:] not in await page.tab.content()
        assert await page.tab.locator("main script, main b").count() == 0
    await page.goto(f"{house.url}/incidents/{(await house.incidents())['evil']}/document")
    assert "\\u202egnp" in await page.text("pre")
    assert await page.tab.title() == f"{SHOWN[:82]} · Incidents" or "\u202e" not in await page.tab.title()


async def test_long_texts_and_many_sources_are_folded_and_all_there(house: House, browser: Browser) -> None:
    page = await browser.page(size=PHONE)
    await house.enter(page)
    await page.goto(f"{house.url}/incidents/{(await house.incidents())['many']}")
    assert "s499@x.test" not in await page.text("main")
    await page.tab.get_by_text("485 more").click()
    assert "s499@x.test" in await page.text("main")
    assert await page.overflow() == 0

    await page.goto(f"{house.url}/incidents/{(await house.incidents())['long']}")
    assert len(await page.text("main")) < 5000
    await page.tab.get_by_text("All of it").click()
    assert (await page.text("main")).count("spam") > 20_000
    assert await page.overflow() == 0


async def test_a_peer_is_trusted_ruled_forwarded_to_and_forgotten_without_javascript(
    house: House, browser: Browser
) -> None:
    page = await browser.page(has_javascript=False)
    await house.enter(page)
    await page.goto(f"{house.url}/peers")
    await page.fill("Its domain", "D.test")
    await page.click("Open")
    assert "never seen" in await page.text("main")

    await page.click("Trust")
    assert "trusted from now on" in await page.text("main")
    await page.choose("Requests", "refused")
    await page.click("Save the rules")
    await page.click("Pass them on")
    known = await house.peer("d.test")
    assert known is not None
    assert (known.trust, known.rules) == (Trust.TRUSTED, {Kind.REQUEST: Rule.REFUSE})
    assert known.is_forwarded_to
    await page.picture("peer")

    await page.click("Block")
    await page.click("Take back what was decided")
    known = await house.peer("d.test")
    assert known is not None
    assert (known.trust, known.rules, known.is_forwarded_to) == (Trust.STRANGER, {}, False)


async def test_a_viewer_sees_everything_and_changes_nothing(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.enter(page, Role.VIEWER)
    await page.goto(f"{house.url}/peers/a.test/b.test")
    assert await page.tab.get_by_role("button", name="Block").count() == 0

    status = await page.post("/peers/a.test/b.test/trust", trust="blocked")
    assert status == 403
    peer = await house.peer("b.test")
    assert peer is not None
    assert peer.trust is Trust.TRUSTED


async def test_a_form_without_the_token_of_its_session_changes_nothing(
    house: House, browser: Browser
) -> None:
    page, other = await browser.page(), await browser.page()
    await house.enter(page)
    await house.enter(other)
    await page.goto(f"{house.url}/peers")
    await other.goto(f"{house.url}/peers")
    foreign = await other.tab.locator("[name=csrf]").first.input_value()

    for token in ("", "x", foreign):
        assert await page.post("/peers/a.test/b.test/trust", token=token, trust="blocked") == 403
    peer = await house.peer("b.test")
    assert peer is not None
    assert peer.trust is Trust.TRUSTED


async def test_a_get_changes_nothing_and_everything_needs_a_session(house: House) -> None:
    before = await house.peer("b.test")
    async with aiohttp.ClientSession() as session:
        evil = (await house.incidents())["evil"]
        for path in ("/", "/incidents", f"/incidents/{evil}", "/peers", "/peers/a.test/b.test",
                     "/about", "/peers/a.test/b.test/trust?trust=blocked", "/nothing"):  # fmt: skip
            async with session.get(house.url + path, allow_redirects=False) as answer:
                assert answer.status == 303, path
                assert answer.headers["Location"].startswith("/sign-in"), path
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        for path in ("/peers/a.test/b.test/trust", "/sign-out", "/sessions/x/end"):
            async with session.post(
                house.url + path, data={"trust": "blocked"}, allow_redirects=False
            ) as answer:
                assert answer.status in {303, 403}, path
    assert await house.peer("b.test") == before


async def test_a_session_ends_for_both_sides_when_it_is_revoked(house: House, browser: Browser) -> None:
    page, other = await browser.page(), await browser.page()
    await house.enter(page)
    await house.enter(other, Role.VIEWER)
    await page.goto(f"{house.url}/about")
    await page.picture("about")
    row = page.tab.get_by_role("row").filter(has_text="viewer").last
    await row.get_by_role("button", name="End").click()
    await page.tab.wait_for_load_state()
    while await (rows := page.tab.get_by_role("row").filter(has_text="as viewer")).count():
        await rows.first.get_by_role("button", name="End").click()
        await page.tab.wait_for_load_state()

    await other.goto(f"{house.url}/peers")
    assert "Sign in" in await other.text("h1")
    await page.goto(f"{house.url}/peers")
    assert "Peers" in await page.text("h1")


async def test_a_link_from_elsewhere_finds_the_session_that_the_browser_left_at_home(
    house: House, browser: Browser
) -> None:
    page = await browser.page()
    await house.enter(page)
    await page.tab.set_content(f'<a href="{house.url}/peers">from a chat</a>')
    await page.tab.goto(f"data:text/html,<a href='{house.url}/peers'>from a chat</a>")
    await page.tab.get_by_role("link").click()
    await eventually(lambda: page.tab.url == f"{house.url}/peers")
    await page.tab.get_by_role("heading", name="Peers").wait_for()


async def test_the_inbox_shows_what_comes_while_somebody_looks(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.enter(page)
    late = made("report", text="late", more="<Description>it came late</Description>")
    assert (await house.b.send_iq(iq(late, to="a.test", sender="b.test", id="late"))).type == "result"

    async def is_there() -> bool:
        return "late" in await house.incidents()

    await eventually(is_there)
    await page.tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.tab.get_by_text("it came late").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_no_page_is_wider_than_its_window(
    house: House, browser: Browser, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    page = await browser.page(size=size, scheme=scheme)
    await house.enter(page)
    paths = {
        "inbox": "/",
        "incidents": "/incidents",
        "found": "/incidents?q=b.test&status=new",
        "peers": "/peers",
        "peer": "/peers/a.test/b.test",
        "about": "/about",
        "nothing": "/nothing",
        "document": f"/incidents/{(await house.incidents())['please']}/document",
    }
    paths |= {
        text: f"/incidents/{(await house.incidents())[text]}" for text in ("please", "many", "evil", EXAMPLE)
    }
    for name, path in paths.items():
        await page.goto(house.url + path)
        await page.picture(f"{name}-{'phone' if size == PHONE else 'desk'}-{scheme}")
        assert await page.overflow() == 0, name


async def test_the_keyboard_reaches_everything(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.enter(page)
    await page.goto(f"{house.url}/peers")
    reached = []
    for _ in range(20):
        await page.tab.keyboard.press("Tab")
        reached.append(
            await page.tab.evaluate("document.activeElement.innerText || document.activeElement.id")
        )
    assert reached[:3] == ["Skip to the page", "Incident bridge", "Inbox"]
    for name in ("Approvals", "Incidents", "Mitigations", "Peers", "Status", "Sign out"):
        assert name in reached
    assert "q" in reached
