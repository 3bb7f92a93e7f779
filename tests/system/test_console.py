"""The console as an operator sees it: a real browser, a real Prosody that sends the code, real peers that report."""

import contextlib
import getpass
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from bridge.config import load_settings
from bridge.pipeline import sign_in, tokens
from bridge.pipeline.actors import BRIDGE
from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.record import Peer
from bridge.policy.sessions import Role
from bridge.policy.trust import Rule, Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from bridge.web.console import lists
from bridge.web.console.find import Query, search
from bridge.web.console.find import peer as find_peer
from bridge.xep0268.model import Kind
from deploy.servers import Authority, Prosody, iq
from tests.system.browser import PHONE, Browser, Page
from tests.system.console_desk import let_in
from tests.system.reports import payload
from tests.system.servers import Bridge, Lab, eventually
from tests.system.test_adhoc import Console
from tests.system.user import Clients, RefusedError

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADMIN = "admin@a.test"
EVIL = "<script>alert(1)</script> \u202egnp.exe\u202c \u2066x\u2069 \u200bthe end <b>bold</b>"
SHOWN = "<script>alert(1)</script> \\u202egnp.exe\\u202c \\u2066x\\u2069 \\u200bthe end <b>bold</b>"
EXAMPLE = "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF"
_REGISTER = (
    '> for name in ("admin bot juliet nurse"):gmatch("%a+") do '
    'require "core.usermanager".create_user(name, "secret", "a.test"); end'
)
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
    """a.test with its bridge, and two peers: b.test, which is trusted, and c.test, which is not.

    With c.test are also w.test, which a.test trusts so far that a rule says yes to it once a day, and vv.test, which
    looks like it. None of them takes incidents.
    """

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

    async def enter(self, page: Page, role: Role = Role.APPROVER, who: str = "cli:tests") -> Page:
        """Let somebody in."""
        async with self.store() as store:
            return await let_in(page, store, self.url, role, who=who)

    async def ask(self, address: str, text: str, peer: str = "b.test") -> None:
        """Let a peer ask for block-host of an address."""
        body = made("request", text=text, more=REQUEST.format(source=address), name=peer)
        server = self.b if peer == "b.test" else self.c
        reply = await server.send_iq(iq(body, to="a.test", sender=peer, id=text, type="get"), seconds=20)
        assert reply.type == "result", reply

    async def asked(self, address: str, text: str, peer: str = "b.test") -> str:
        """The id of the approval that such a request waits for, once Prosody said what it would touch."""
        await self.ask(address, text, peer)

        async def is_previewed() -> str:
            async with self.store() as store:
                found, _ = await lists.approvals(store, [keys.approvals_open("a.test")])
            one = next(each for each in found if each.targets[0].address == address)
            return one.id if one.previewed_at else ""

        return await eventually(is_previewed, 30)

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
        rule = '{ peer = "w.test", action = "block-host", per_day = 1 }'
        bridge = lab.bridge(settings=f"\n[policy]\napprove_automatically = [{rule}]\n")
        a = lab.prosody("a.test", version="13", bridge=bridge, start=False)
        b, c = (lab.prosody(name, peer=True, start=False) for name in ("b.test", "c.test"))
        for name in ("vv.test", "w.test"):
            certificate, key = authority.issue(name)
            ssl = f'certificate = "{certificate}"; key = "{key}"'
            c.extra_host += f'VirtualHost "{name}"\n ssl = {{ {ssl} }}\n'
            a.hosts[name] = c.address
        bridge.start("up")
        for server in (a, b, c):
            server.start()
        bridge.wait_ready()
        a.shell(_REGISTER)
        living = House(bridge, a, b, c)
        async with living.store() as store:
            puts = [
                Put(None, Peer(host="a.test", domain=one, trust=Trust.TRUSTED))
                for one in ("b.test", "w.test")
            ]
            await commit(store, Change(puts=tuple(puts)))
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
    await page.goto(f"{house.url}/")

    text = await page.text("main")
    for expected in ("Waits for your yes or no", "b.test asks for block-host", "spammer@a.test",
                     "Servers to decide about", "c.test", "1 in quarantine"):  # fmt: skip
        assert expected in text
    assert "lots of MUC spammers" in text.partition("New from peers you trust")[2]


async def test_incidents_are_found_by_whatever_one_knows_of_them(house: House, browser: Browser) -> None:
    page = await browser.page()
    await house.enter(page)
    await page.goto(f"{house.url}/incidents")
    await page.fill("Search", EXAMPLE)
    await page.click("Search")
    assert await page.tab.locator(".card").count() == 1
    own = (await house.incidents())["please"][:8]
    for query, count in (
        (f"q={EXAMPLE.lower()}", 1), ("q=abuser@clueless.lit", 2), ("q=clueless", 2), ("q=c.test", 1),
        (f"q={own}", 1), ("q=nothing+like+it", 0),
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
    await page.goto(f"{house.url}/")
    late = made("report", text="late", more="<Description>it came late</Description>")
    assert (await house.b.send_iq(iq(late, to="a.test", sender="b.test", id="late"))).type == "result"

    async def is_there() -> bool:
        return "late" in await house.incidents()

    await eventually(is_there)
    await page.tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.tab.get_by_text("it came late").wait_for()


async def test_no_page_is_wider_than_its_window(house: House, browser: Browser) -> None:
    page = await browser.page()
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
        await page.fits(name)


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


async def says(page: Page, url: str, *words: str, seconds: float = 30) -> str:
    """What the page says, once it says all of this."""

    async def found() -> str:
        await page.goto(url)
        text = await page.text("main")
        assert all(one in text for one in words), text
        return text

    return await eventually(found, seconds)


async def test_the_inbox_tells_what_did_not_arrive_and_whose_name_only_looks_known(
    house: House, browser: Browser
) -> None:
    page = await house.enter(await browser.page(has_javascript=False))
    await page.goto(f"{house.url}/send")
    await page.tab.get_by_label("b.test").check()
    await page.fill("What happened", "they flood our rooms")
    await page.fill("Who did it", "x@d.test 5")
    await page.click("Show what will be sent")
    await page.click("Send it")
    refused = "Our report to b.test was refused"
    text = await says(page, f"{house.url}/", "Did not arrive", refused)
    assert "service-unavailable" in text.partition(refused)[2]
    assert "look alike" not in text

    body = made("report", text="vv", name="vv.test", more="<Description>trust me</Description>")
    reply = await house.c.send_iq(iq(body, to="a.test", sender="vv.test", id="vv"), seconds=20)
    assert reply.type == "result", reply
    for path in ("/", "/peers", "/peers/a.test/vv.test"):
        await says(page, house.url + path, "Beware of names that look alike", "vv.test is not w.test")
    await page.goto(f"{house.url}/")
    await page.fits("inbox-trouble")
    await page.tab.get_by_role("link", name=refused).click()
    assert "they flood our rooms" in await page.text("main")
    await page.picture("incident-refused")
    await page.choose("State", "closed")
    await page.click("Write down")
    await page.goto(f"{house.url}/")
    assert "Did not arrive" not in await page.text("main")


async def test_a_request_is_approved_in_the_browser_carried_out_by_prosody_and_taken_back(
    house: House, browser: Browser
) -> None:
    async with Clients() as clients:
        juliet = await clients.sign_in(house.a, "juliet")
        one = await house.asked("juliet@a.test", "real")
        page = await house.enter(await browser.page(has_javascript=False))
        await page.goto(f"{house.url}/approvals/{one}")
        assert "1 session is closed" in await page.text("main")
        await page.click("Ask again")
        assert "Prosody was asked again" in await page.text("main")
        await page.picture("real-approval")
        await page.click("Do what is ticked")
        assert (await juliet.ended())[0] == "policy-violation"
        with pytest.raises(RefusedError):
            await clients.sign_in(house.a, "juliet")

        await page.goto(f"{house.url}/mitigations")
        await page.tab.get_by_role("link", name="suspend account juliet@a.test").click()
        where = page.tab.url
        await says(page, where, "In force since")
        await page.click("Take it back")
        await says(page, where, "Taken back by")
        await page.picture("real-lifted")
        await clients.sign_in(house.a, "juliet")


async def test_a_rule_says_yes_once_a_day_and_the_next_request_waits(house: House, browser: Browser) -> None:
    page = await house.enter(await browser.page())
    async with Clients() as clients:
        bot = await clients.sign_in(house.a, "bot")
        await house.ask("bot@a.test", "rule-1", "w.test")
        assert (await bot.ended())[0] == "policy-violation"
    await says(page, f"{house.url}/approvals", "w.test asks for block-host of bot@a.test", "by a rule")
    await page.tab.get_by_role("link", name="block-host of bot@a.test").click()
    await says(page, page.tab.url, "A rule of yours said yes", "done")
    waiting = await house.asked("bot2@a.test", "rule-2", "w.test")
    await says(page, f"{house.url}/approvals/{waiting}", "waits for a yes or no")


async def test_what_an_operator_does_unasked_is_previewed_and_carried_out_by_prosody(
    house: House, browser: Browser
) -> None:
    where = f"{house.url}/incidents/{(await house.incidents())[EXAMPLE]}"
    async with Clients() as clients:
        nurse = await clients.sign_in(house.a, "nurse")
        page = await house.enter(await browser.page())
        await page.goto(where)
        await page.click("Act on this")
        await page.tab.get_by_label("block domain clueless.lit").check()
        await page.fill("Address", "nurse@a.test")
        await page.click("See what it would touch")
        text = await page.text("main")
        assert "is not known" not in text
        assert "1 session is closed" in text.partition("suspend account nurse@a.test")[2]
        assert "block domain clueless.lit" in text
        await page.fits("real-act-preview")
        await page.click("Do it")
        assert (await nurse.ended())[0] == "policy-violation"
    await says(
        page,
        where,
        "suspend account nurse@a.test\n\nin force",
        "block domain clueless.lit\n\nin force",
    )


async def test_the_audit_log_tells_alike_of_a_decision_by_console_api_command_line_and_chat(
    house: House, browser: Browser
) -> None:
    approvals = [await house.asked(f"front{number}@a.test", f"front-{number}") for number in range(4)]
    by_console, by_api, by_cli, by_chat = approvals
    page = await house.enter(await browser.page(has_javascript=False))
    await page.goto(f"{house.url}/approvals/{by_console}")
    await page.tab.get_by_label("Why not?").fill("no such user")
    await page.click("Decline")
    async with house.store() as store:
        _, token = await tokens.create(
            store, name="front", scopes=[Scope.APPROVE], hosts=["a.test"], expires_at=None, actor=BRIDGE,
            now=datetime.now(UTC),
        )  # fmt: skip
    headers, reason = {"Authorization": f"Bearer {token}"}, {"reason": "no such user"}
    async with (
        aiohttp.ClientSession(headers=headers) as api,
        api.post(f"{house.url}/api/v1/approvals/{by_api}/decline", json=reason) as answer,
    ):
        assert answer.status == 200, await answer.text()
    house.bridge.cli("approvals", "decline", by_cli, "--reason", "no such user")
    async with Clients() as clients:
        admin = Console(await clients.sign_in(house.a, "admin"))
        form = await admin.run("approvals", await admin.run("approvals"), "next", approval=by_chat)
        await admin.run("approvals", form, "complete", approval=by_chat, decision="decline", **reason)

    async with house.store() as store:
        entries = [entry for _, entry in await load.audits(store, "a.test", limit=99)]
    declined = {one["target"]: one for one in entries if one["action"] == "approval.decline"}
    assert {one["detail"] for one in declined.values()} == {"no such user"}
    actors = [(declined[one]["actor"], declined[one]["origin"][:4]) for one in approvals]
    user = getpass.getuser()
    assert actors == [
        ("cli:tests", "127."),
        ("token:front", "127."),
        (f"cli:{user}", ""),
        ("admin@a.test", "127."),
    ]
    await page.goto(f"{house.url}/audit?what=approval.decline")
    rows = [await one.inner_text() for one in await page.tab.locator("tbody tr").all()]
    for own_id, (actor, _) in zip(approvals, actors, strict=True):
        (row,) = [one for one in rows if own_id in one]
        assert actor in row
        assert "no such user" in row
    await page.picture("audit-fronts")


async def test_who_is_no_longer_an_admin_of_prosody_is_signed_out(house: House, browser: Browser) -> None:
    page = await house.enter(await browser.page(), who=ADMIN)
    await page.goto(f"{house.url}/about")
    assert ADMIN in await page.text("header")
    configuration = house.a.configuration()
    house.a.config_path.write_text(configuration.replace('admins = { "admin@a.test" }', "admins = { }"))
    house.a.shell("config:reload()")
    try:
        async with house.store() as store:
            session_id = (await page.tab.context.cookies())[0]["value"].partition(".")[0]
            session = await sign_in.session_of(store, session_id)
            assert session is not None
            earlier = replace(session, seen_at=session.seen_at - timedelta(minutes=6))
            await commit(store, Change(puts=(Put(session, earlier),)))
        await eventually(lambda: signed_out(page, f"{house.url}/about"), 30)
    finally:
        house.a.config_path.write_text(configuration)
        house.a.shell("config:reload()")


async def signed_out(page: Page, url: str) -> bool:
    """Whether the page is only shown to who signs in."""
    await page.goto(url)
    return "Sign in" in await page.text("h1")
