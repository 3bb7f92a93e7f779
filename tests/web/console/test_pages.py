"""What a browser gets from the console, over HTTP in this process, with everything that would block caught."""

import re
import shutil
import tempfile
import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bridge.config import HostSettings, PolicySettings, ServerSettings, Settings
from bridge.pipeline.abuse import waiting
from bridge.pipeline.actors import Actor
from bridge.pipeline.publish import published_by, take_back, withhold
from bridge.pipeline.sign_in import make_link
from bridge.policy.change import Change, Put
from bridge.policy.decisions import (
    Approval,
    ApprovalState,
    Mitigation,
    MitigationState,
    MitigationType,
    Target,
    TargetState,
)
from bridge.policy.record import Peer
from bridge.policy.sessions import Role
from bridge.policy.trust import Trust
from bridge.store.commit import commit
from bridge.store.connect import Durability, Store, close, open_store
from bridge.store.embedded import start_embedded
from bridge.web.console import render, sign_in, site
from bridge.web.console.guard import HEADERS
from bridge.web.state import SERVICE, Service
from bridge.webhooks.signature import decode_secret
from tests.pipeline.conftest import server, store
from tests.pipeline.test_abuse import hear, report
from tests.web.console.test_find import incident

__all__ = ["server", "store"]
SECRET = "whsec_" + "QUJD" * 10
Client = TestClient[web.Request, web.Application]
Open = Callable[..., Awaitable[Client]]


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail where a handler blocks the event loop."""
    with blockbuster_ctx(scanned_modules=["bridge.web", "bridge.pipeline"]) as buster:
        yield buster


@pytest.fixture
def browse(store: Store, aiohttp_client: Any) -> Open:
    """Opens a browser with cookies of its own; with `hosts`, signed in for them."""

    async def opened(
        *, public_url: str = "", answer_page_days: int = 0, on: Store | None = None, **hosts: Role
    ) -> Client:
        where = on or store
        host = HostSettings(secrets=(SecretStr(SECRET),))
        names = ("a.test", "b.test")
        service = Service(
            settings=Settings(
                server=ServerSettings(public_url=public_url),
                policy=PolicySettings(answer_page_days=answer_page_days),
                hosts=dict.fromkeys(names, host),
            ),
            store=where,
            durability=Durability(mode="disk", problems=(), fix=()),
            keys={name: [decode_secret(SECRET)] for name in names},
        )
        app = web.Application()
        app[SERVICE] = service
        site.add(app)
        client: Client = await aiohttp_client(app)
        if hosts:
            granted = {f"{name}.test": role for name, role in hosts.items()}
            _, word = await make_link(where, "cli:root", granted, now=datetime.now(UTC))
            await send(client, f"/sign-in/link/{word}")
        return client

    return opened


async def token(client: Client, path: str) -> str:
    page = await (await client.get(path)).text()
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def send(client: Client, path: str, *, page: str = "", **fields: str) -> web.Response | Any:
    """Send the form of a page."""
    data = {"csrf": await token(client, page or path), **fields}
    return await client.post(path, data=data, allow_redirects=False)


@pytest.mark.parametrize(
    "path", ["/", "/sign-in", "/nothing", "/sign-in/link/x", "/static/console.css", "/api2"]
)
async def test_every_answer_forbids_what_no_page_needs(browse: Open, path: str) -> None:
    answer = await (await browse()).get(path, allow_redirects=False)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert ("immutable" if "static" in path else "no-store") in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/nothing"),
        ("DELETE", "/"),
        ("PUT", "/static/console.css"),
        ("POST", "/docs"),
        ("GET", "/docs2"),
    ],
)
async def test_what_no_page_answers_has_the_same_headers(browse: Open, method: str, path: str) -> None:
    answer = await (await browse()).request(method, path)
    assert answer.status in {404, 405}
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


async def test_with_https_cookies_are_for_https_and_this_very_name_only(browse: Open) -> None:
    client = await browse(public_url="https://incidents.example.org")
    cookie = (await client.get("/sign-in")).headers["Set-Cookie"]
    assert cookie.startswith("__Host-ib_browser=")
    for word in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in cookie
    assert "Domain" not in cookie


async def test_a_proxy_on_this_machine_says_who_asks_and_only_its_own_word_counts(
    browse: Open, store: Store
) -> None:
    client = await browse()
    for number in range(11):  # a client that invents addresses; the proxy appends the real one
        headers = {"X-Forwarded-For": f"192.0.2.{number}, 198.51.100.7"}
        data = {"csrf": await token(client, "/sign-in"), "jid": f"u{number}@a.test"}
        answer = await client.post("/sign-in", data=data, headers=headers, allow_redirects=False)
        assert answer.status == (303 if number < 10 else 429)


@pytest.mark.parametrize("jid", ["", "a.test", "@a.test", "romeo@", "x" * 5000, "\u202e@a.test", "a@b@c d"])
async def test_what_is_no_jid_is_asked_for_again(browse: Open, jid: str) -> None:
    answer = await send(await browse(), "/sign-in", jid=jid)
    assert answer.status == 422
    assert "not a JID" in await answer.text()


async def test_a_session_sees_its_hosts_and_nothing_of_others(browse: Open, store: Store) -> None:
    peers = [Peer(host=host, domain=f"seen-by-{host}", trust=Trust.BLOCKED) for host in ("a.test", "b.test")]
    await commit(store, Change(puts=tuple(Put(None, one) for one in peers)))
    client = await browse(a=Role.APPROVER)

    page = await (await client.get("/peers")).text()
    assert "seen-by-a.test" in page
    assert "seen-by-b.test" not in page
    assert (await client.get("/peers/b.test/seen-by-b.test")).status == 404
    answer = await send(client, "/peers/b.test/x.test/trust", page="/peers", trust="trusted")
    assert answer.status == 404


async def test_who_may_look_at_one_host_and_act_for_another_may_not_mix_them_up(browse: Open) -> None:
    client = await browse(a=Role.APPROVER, b=Role.VIEWER)
    for host, status in (("a.test", 303), ("b.test", 403)):
        answer = await send(client, f"/peers/{host}/x.test/trust", page="/peers", trust="trusted")
        assert answer.status == status, host


@pytest.mark.parametrize("fields", [{"trust": "best"}, {}])
async def test_what_no_form_offers_is_refused(browse: Open, fields: dict[str, str]) -> None:
    client = await browse(a=Role.APPROVER)
    answer = await send(client, "/peers/a.test/x.test/trust", page="/peers", **fields)
    assert answer.status == 422


@pytest.mark.parametrize("domain", ["a.test", "a..b", "x@y", "%00", "a%2Fb"])
async def test_what_is_no_peer_gets_a_page_that_says_so(browse: Open, domain: str) -> None:
    answer = await (await browse(a=Role.APPROVER)).get(f"/peers/a.test/{domain}")
    assert answer.status in {404, 422}
    assert "text/html" in answer.headers["Content-Type"]


async def test_who_comes_from_elsewhere_is_sent_around_once(browse: Open) -> None:
    client = await browse()
    there = await client.get("/peers", headers={"Sec-Fetch-Site": "cross-site"}, allow_redirects=False)
    assert 'http-equiv="refresh"' in await there.text()
    back = await client.get("/peers?q=a", headers={"Sec-Fetch-Site": "same-origin"}, allow_redirects=False)
    assert back.headers["Location"] == "/sign-in?next=%2Fpeers%3Fq%3Da"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"csrf=\xff&jid=a@a.test"),
        ("application/x-www-form-urlencoded; charset=bogus", b"csrf=x"),
        ("application/x-www-form-urlencoded", b"csrf=%ED%A0%80"),
        ("multipart/form-data", b"csrf=x"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nabc"),
        ("text/plain", b"csrf=x"),
    ],
)
async def test_what_no_browser_sends_as_a_form_is_refused_and_no_fault_of_ours(
    browse: Open, kind: str, body: bytes
) -> None:
    answer = await (await browse()).post("/sign-in", data=body, headers={"Content-Type": kind})
    assert answer.status in {400, 403}
    assert "text/html" in answer.headers["Content-Type"]


@pytest.mark.parametrize(
    "path",
    [
        "/incidents?until=9999-12-31",
        "/audit?before=99999999999999999999-1",
        "/incidents?q=%ED%A0%80",
        "/approvals/%00",
    ],
)
async def test_an_address_that_somebody_made_up_is_no_fault_of_ours(browse: Open, path: str) -> None:
    assert (await (await browse(a=Role.APPROVER)).get(path)).status in {200, 404}


async def test_however_many_wait_those_are_shown_that_are_declined_by_themselves_first(
    browse: Open, store: Store
) -> None:
    at = datetime.now(UTC)
    many = [
        Approval(
            id=f"a{number}", host="a.test", incident_id="i", request=f"a{number}", requester="b.test", targets=(),
            created_at=at + timedelta(seconds=number), expires_at=at + timedelta(days=7, seconds=number),
        )
        for number in range(103)
    ]  # fmt: skip
    await commit(store, Change(puts=tuple(Put(None, one) for one in many)))
    client = await browse(a=Role.APPROVER)
    for path in ("/approvals", "/"):
        page = await (await client.get(path)).text()
        assert ">103</span>" in page
        assert 'href="/approvals/a0"' in page
        assert 'href="/approvals/a102"' not in page
        assert "and 3 more" in page


@pytest.mark.parametrize("protection", ["", "it is protected"])
async def test_trying_again_takes_no_second_yes_from_another_target(
    browse: Open, store: Store, protection: str
) -> None:
    at, end = datetime.now(UTC), datetime.now(UTC) + timedelta(days=9)
    about = incident(1)
    targets = tuple(
        Target(
            action="block-host", address=name, type=MitigationType.BLOCK, fields={"domain": name},
            state=TargetState.FAILED, mitigation_id=f"m-{name}", second_yes=why,
        )
        for name, why in (("old.test", "it is protected"), ("new.test", protection))
    )  # fmt: skip
    approval = Approval(
        id="a1", host="a.test", incident_id=about.id, request=None, requester="", targets=targets,
        state=ApprovalState.FAILED, had_second_yes=True, created_at=at, expires_at=end,
    )  # fmt: skip
    failed = Mitigation(
        id="m-new.test", host="a.test", type=MitigationType.BLOCK, target={"domain": "new.test"}, action="block-host",
        incident_id=about.id, approval_id="a1", created_at=at, asked_at=at, expires_at=end, by="cli:anna", reason="",
        state=MitigationState.FAILED,
    )  # fmt: skip
    trusted = Peer(host="a.test", domain="new.test", trust=Trust.TRUSTED)
    await commit(store, Change(puts=tuple(Put(None, one) for one in (about, approval, failed, trusted))))
    answer = await send(await browse(a=Role.APPROVER), "/mitigations/m-new.test/again", page="/peers")
    assert answer.status == (303 if protection else 422)


async def test_what_failed_is_tried_again_without_an_incident_for_the_same_reason(
    browse: Open, store: Store
) -> None:
    at, end = datetime.now(UTC), datetime.now(UTC) + timedelta(days=9)
    failed = Mitigation(
        id="m1", host="a.test", type=MitigationType.SUSPEND, target={"account": "eve@a.test"}, action="block-host",
        incident_id="", approval_id="a1", created_at=at, asked_at=at, expires_at=end, by="cli:anna", reason="",
        state=MitigationState.FAILED, draft_id="d1",
    )  # fmt: skip
    gone = replace(failed, id="m2", incident_id="gone", draft_id="")
    await commit(store, Change(puts=(Put(None, failed), Put(None, gone))))
    client = await browse(a=Role.APPROVER)
    assert (await send(client, "/mitigations/m2/again", page="/peers")).status == 409
    answer = await send(client, "/mitigations/m1/again", page="/peers")
    assert answer.status == 303
    page = await (await client.get(answer.headers["Location"].partition("?")[0])).text()
    assert "your users reported it; what they did is no longer in the store" in page


async def test_a_form_sent_by_another_site_is_refused_whatever_it_brings(browse: Open) -> None:
    client = await browse(a=Role.APPROVER)
    data = {"csrf": await token(client, "/peers"), "trust": "trusted"}
    for site_of_sender in ("cross-site", "same-site", "none"):
        headers = {"Sec-Fetch-Site": site_of_sender}
        answer = await client.post("/peers/a.test/x.test/trust", data=data, headers=headers)
        assert answer.status == 403


async def test_signing_in_takes_no_session_that_the_browser_brought(browse: Open, store: Store) -> None:
    client = await browse()
    _, word = await make_link(store, "cli:root", {"a.test": Role.APPROVER}, now=datetime.now(UTC))
    planted = {"ib_session": "chosen.byanattacker", "ib_browser": "chosen-too"}
    client.session.cookie_jar.update_cookies(planted, client.make_url("/"))

    answer = await send(client, f"/sign-in/link/{word}")

    given = answer.cookies["ib_session"].value
    assert answer.status == 303
    assert "chosen" not in given
    assert "byanattacker" not in given
    other = await browse()
    other.session.cookie_jar.update_cookies(planted, other.make_url("/"))
    assert "/sign-in" in (await other.get("/peers", allow_redirects=False)).headers["Location"]


async def test_when_the_store_is_away_the_page_says_that(browse: Open) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ib-console-"))
    try:
        own = start_embedded(folder, max_bytes=64 * 2**20)
        opened = await open_store(own.url, patience_seconds=0.5)
        client = await browse(on=opened, a=Role.APPROVER)
        own.stop()

        answer = await client.get("/peers")

        assert answer.status == 503
        assert "Not reachable" in await answer.text()
        await close(opened)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/peers?q=a", "/peers?q=a"), ("//evil.test", "/"), ("/\\evil.test", "/"), ("https://evil.test", "/"),
        ("", "/"), ("/sign-out", "/"), ("/a\r\nb", "/"), ("javascript:alert(1)", "/"),
    ],
)  # fmt: skip
def test_after_signing_in_one_is_sent_to_a_page_of_the_console(path: str, where: str) -> None:
    assert sign_in._next(path) == where


@given(st.text())
def test_no_text_brings_markup_or_a_character_that_deceives_the_eye(text: str) -> None:
    page = render.render("error.html", {
        "title": "t", "path": "/", "session": None, "said": None, "csrf": "", "status_code": 404, "text": text,
    })  # fmt: skip
    shown = page.partition("<h1>t</h1>")[2].partition("<p>")[2].rpartition("</p>\n  <p>")[0]
    assert "<" not in shown
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not {unicodedata.category(one) for one in shown if one not in "\n\t"} & hidden


async def test_one_button_sends_what_users_report_and_once(browse: Open, store: Store) -> None:
    await hear(
        store, report(text="<script>alert(1)</script>\u202e"), report("bob", "admin@a.test", is_own=True)
    )
    viewer = await (await (await browse(a=Role.VIEWER)).get("/")).text()
    assert "spam from b.test" in viewer
    assert "Send report" not in viewer
    client = await browse(a=Role.APPROVER)
    page = await (await client.get("/")).text()
    assert "<script>alert" not in page
    assert "\\u202e" in page
    assert "this server itself" in page
    assert page.count("Send report to") == 1
    assert "alice" not in page
    (path,) = re.findall(r'action="(/abuse/[a-z0-9]+/send)">(?:(?!</form>).)*Send report to', page, re.DOTALL)
    (word,) = set(re.findall(rf'action="{path}">.*?name="once" value="([^"]+)"', page, re.DOTALL))
    csrf = {"csrf": await token(client, "/"), "once": word}
    first = await client.post(path, data=csrf, allow_redirects=False)
    again = await client.post(path, data=csrf, allow_redirects=False)
    assert first.status == again.status == 303
    assert first.headers["Location"] == again.headers["Location"]
    assert first.headers["Location"].startswith("/incidents/")
    assert [one.domain for one in await waiting(store, "a.test", limit=5)] == ["a.test"]


async def test_who_was_reported_in_a_room_is_named_harmlessly_and_with_a_warning(
    browse: Open, store: Store
) -> None:
    await hear(store, report(jid="room@muc.b.test/<b>eve"), report(jid="x@c.test"))
    page = await (await (await browse(a=Role.APPROVER)).get("/")).text()
    assert "…/&lt;b&gt;eve" in page
    assert page.count("this may be a room, not a person") == 1


async def test_an_own_account_that_users_reported_is_looked_at_and_suspended_once(
    browse: Open, store: Store
) -> None:
    boss = report("bob", "admin@a.test", is_own=True, is_admin=True)
    await hear(store, report(jid="eve@a.test", is_own=True, text="<b>spam"), boss, report())
    client = await browse(a=Role.APPROVER)
    page = await (await client.get("/")).text()
    (path,) = re.findall(r'href="(/abuse/[a-z0-9]+/act)">Suspend an account', page)
    assert "may be passed on" in page.partition("spam from b.test")[2]
    page = await (await client.get(path)).text()
    assert "suspend account eve@a.test" in page
    assert "&lt;b&gt;spam" in page
    assert "suspend account admin@a.test" not in page
    assert "passed on" not in page
    for account in ("admin@a.test", "spam@b.test", ""):
        assert (await send(client, path, page=path, account=account, nonce="n0")).status == 422
    viewer = await browse(a=Role.VIEWER)
    assert '<button class="danger"' not in await (await viewer.get(path)).text()
    assert (await send(viewer, path, page="/", account="eve@a.test")).status == 403
    assert (await send(await browse(b=Role.APPROVER), path, page="/", account="eve@a.test")).status == 404
    answers = [
        await send(client, path, page=path, account="eve@a.test", nonce="n1", days="3") for _ in range(2)
    ]
    assert [one.status for one in answers] == [303, 303]
    page = await (await client.get(answers[1].headers["Location"].partition("?")[0])).text()
    assert f'href="{path}">your users reported it' in page
    (mitigation,) = set(re.findall(r'href="(/mitigations/[a-z0-9]+)"', page))
    assert f'href="{path}">your users reported it' in await (await client.get(mitigation)).text()
    assert "you suspended it" in await (await client.get("/")).text()


async def test_one_button_sends_nothing_of_what_users_report(browse: Open, store: Store) -> None:
    await hear(store, report(may_go_to_origin=False))
    client = await browse(a=Role.APPROVER)
    page = await (await client.get("/")).text()
    assert "It cannot be sent" in page
    (path,) = re.findall(r'formaction="(/abuse/[a-z0-9]+/dismiss)"', page)
    stranger = await browse(b=Role.APPROVER)
    assert (await send(stranger, path, page="/")).status == 404
    assert (await send(client, path, page="/")).headers["Location"] == "/?said=abuse-dismissed"
    assert (await send(client, path, page="/")).headers["Location"] == "/?said=abuse-late"
    assert await waiting(store, "a.test", limit=5) == []


def draft_form(page: str) -> tuple[str, dict[str, Any]]:
    """The form that sends what users report: where to, and what it holds before anybody ticks anything."""
    form = re.findall(
        r'<form class="row" method="post" action="(/abuse/[a-z0-9]+/send)">(.*?)</form>', page, re.DOTALL
    )
    ((path, inner),) = form
    hidden = re.findall(r'type="hidden" name="([a-z]+)" value="([^"]*)"', inner)
    return path, {name: [value for other, value in hidden if other == name] for name, _ in hidden}


async def test_one_yes_lists_the_accounts_that_were_shown_too(browse: Open, store: Store) -> None:
    await hear(store, report(may_go_to_others=True), report(jid="quiet@b.test"), webhook_id="w1")
    client = await browse(a=Role.APPROVER)
    page = await (await client.get("/")).text()
    assert "list these accounts, too: <bdi>spam@b.test</bdi></span></label>" in page
    path, fields = draft_form(page)
    await hear(store, report("bob", "new@b.test", may_go_to_others=True), webhook_id="w2")
    answer = await client.post(path, data={**fields, "list": "yes"}, allow_redirects=False)
    assert answer.headers["Location"].startswith("/incidents/")
    (entry,) = (await published_by(store, "a.test", now=datetime.now(UTC))).entries
    assert (entry.address, entry.is_reported) == ("spam@b.test", True)
    assert ">reported by users</a>" in await (await client.get("/lists")).text()


async def test_listing_is_offered_only_where_somebody_may_be_listed_and_not_to_viewers(
    browse: Open, store: Store
) -> None:
    await hear(store, report(), report(jid="x@c.test", may_go_to_others=True))
    await withhold(store, "a.test", "c.test", actor=Actor("x"), now=datetime.now(UTC))
    for role in (Role.APPROVER, Role.VIEWER):
        assert "list these accounts" not in await (await (await browse(a=role)).get("/")).text()
    await take_back(store, "a.test", "c.test", actor=Actor("x"), now=datetime.now(UTC))
    assert "list these accounts" in await (await (await browse(a=Role.APPROVER)).get("/")).text()
    assert "list these accounts" not in await (await (await browse(a=Role.VIEWER)).get("/")).text()


async def test_listing_protected_accounts_asks_for_a_second_yes_and_sends_nothing_before(
    browse: Open, store: Store
) -> None:
    await hear(store, report(may_go_to_others=True))
    peer = Peer(host="a.test", domain="b.test", trust=Trust.TRUSTED)
    await commit(store, Change(puts=(Put(None, peer),)))
    client = await browse(a=Role.APPROVER)
    page = await (await client.get("/")).text()
    assert 'name="protected"' not in page
    path, fields = draft_form(page)
    ticked = {**fields, "list": "yes", "words": "yes"}
    answer = await client.post(path, data=ticked, allow_redirects=False)
    assert answer.headers["Location"].startswith("/?said=abuse-protected&protected=")
    page = await (await client.get(answer.headers["Location"])).text()
    assert "needs a second yes" in page
    assert "checked" not in page  # a link that somebody made ticks nothing
    assert len(await waiting(store, "a.test", limit=5)) == 1
    _, fields = draft_form(page)
    answer = await client.post(
        path, data={**fields, "list": "yes", "protected": "yes"}, allow_redirects=False
    )
    assert answer.headers["Location"].startswith("/incidents/")
    found = (await published_by(store, "a.test", now=datetime.now(UTC))).entries
    assert [one.address for one in found] == ["spam@b.test"]
