"""The pages of the console about endpoints, numbers and who did what, in a real browser, without a Prosody."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from bridge.iodef.model import Impact, IncidentId
from bridge.iodef.model import Incident as Document
from bridge.pipeline import tokens
from bridge.pipeline.actors import Actor
from bridge.pipeline.peers import change_peer
from bridge.policy.consumers import DeliveryState, Endpoint, Scope
from bridge.policy.record import Edition, Incident, Interaction, InteractionState, Peer, Way, incident_id
from bridge.policy.sessions import Role
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.xep0268.model import Kind, Status
from tests.pipeline.consumer import always
from tests.system.browser import Browser, Page
from tests.system.console_desk import HOST, HOSTILE, SHOWN, Desk, desk
from tests.system.servers import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")
__all__ = ["desk"]
ANNA = Actor("cli:anna", "192.0.2.7")


async def new_endpoint(desk: Desk, page: Page, path: str) -> tuple[Endpoint, str]:
    """Add an endpoint by its form; it, and the secret that the answer shows."""
    await page.goto(f"{desk.url}/endpoints")
    await page.click("Add an endpoint")
    await page.fill("Where to", desk.consumer.url(path))
    await page.fill("Description", f"consumer {path.partition('?')[0]}")
    await page.click("Add it")
    secret = await page.text(".whole")
    return (await desk.endpoints())[0], secret


async def try_out(desk: Desk, page: Page, one: Endpoint, *, state: DeliveryState, text: str) -> None:
    """Have a test delivered, and wait until the page says what came of it."""
    known = len(await desk.deliveries(one.id))
    await page.goto(f"{desk.url}/endpoints/{one.id}")
    await page.click("Deliver a test")

    async def is_told() -> bool:
        found = await desk.deliveries(one.id)
        return len(found) > known and found[0].state is state and bool(found[0].attempts)

    await eventually(is_told, 15)
    await page.goto(f"{desk.url}/endpoints/{one.id}")
    assert text in await page.text(".log")


@pytest.mark.parametrize("script", ["with", "without"])
async def test_an_endpoint_is_added_tried_changed_and_removed(
    desk: Desk, browser: Browser, script: str
) -> None:
    page = await desk.enter(await browser.page(has_javascript=script == "with"))
    path = f"/{script}-script"
    one, secret = await new_endpoint(desk, page, path)
    assert secret == one.secret
    await page.picture("endpoint-added")
    await try_out(desk, page, one, state=DeliveryState.DELIVERED, text="204 in")
    assert len(desk.consumer.at(path)) == 1
    assert secret not in await page.tab.content()

    await page.click("Change")
    await page.tab.get_by_label("incident.reported").check()
    await page.fill("Only what concerns these servers", "B.test\nc.test")
    await page.tab.locator("summary").click()
    await page.fill("Sent along with every delivery", "Authorization: Bearer s3cret")
    await page.click("Save")
    changed = (await desk.endpoints())[0]
    assert (changed.types, changed.peers) == (("incident.reported",), ("b.test", "c.test"))
    assert changed.headers == {"Authorization": "Bearer s3cret"}
    text = await page.text("main")
    assert "b.test, c.test" in text
    assert "Authorization" in text
    await page.click("Change")
    assert "s3cret" not in await page.tab.content()
    await page.click("Save")
    assert (await desk.endpoints())[0].headers == {"Authorization": "Bearer s3cret"}

    await page.fill("Why", "moving")
    await page.click("Disable")
    assert "moving" in await page.text(".alarm")
    await page.click("Enable")
    await page.click("Remove")
    await page.picture("endpoint-remove")
    await page.click("Keep it")
    assert one.id in [each.id for each in await desk.endpoints()]
    await page.click("Remove")
    await page.click("Remove it")
    assert one.id not in [each.id for each in await desk.endpoints()]


async def test_what_is_wrong_with_an_endpoint_is_said_beside_the_field(desk: Desk, browser: Browser) -> None:
    page = await desk.enter(await browser.page())
    await page.goto(f"{desk.url}/endpoints/new")
    await page.fill("Where to", "https://10.0.0.1/x")
    await page.fill("Only what concerns these servers", "good.test bad..test")
    await page.tab.locator("summary").click()
    await page.fill("Sent along with every delivery", "no colon")
    await page.click("Add it")
    assert "NAME: VALUE" in await page.text("#wrong-headers")
    await page.fill("Sent along with every delivery", "")
    await page.click("Add it")
    assert "private" in await page.text("#wrong-url")
    assert await page.tab.locator("#url[aria-invalid]").count() == 1
    await page.fill("Where to", desk.consumer.url("/x"))
    await page.click("Add it")
    assert await page.tab.locator("#wrong-peers").count() == 1
    assert (
        await page.tab.get_by_label("Only what concerns these servers").input_value() == "good.test bad..test"
    )
    await page.picture("endpoint-wrong")
    assert not await desk.endpoints()


async def test_a_form_sent_twice_adds_one_endpoint_and_makes_one_secret(desk: Desk, browser: Browser) -> None:
    page = await desk.enter(await browser.page())
    await page.goto(f"{desk.url}/endpoints/new")
    word = await page.tab.locator("[name=once]").first.input_value()
    fields = {"once": word, "url": desk.consumer.url("/twice"), "hosts": HOST, "quarantined": "exclude"}
    assert [await page.post("/endpoints", **fields) for _ in range(2)] == [200, 200]
    [one] = await desk.endpoints()

    await page.goto(f"{desk.url}/endpoints/{one.id}")
    word = await page.tab.locator("[name=once]").first.input_value()
    for _ in range(2):
        assert await page.post(f"/endpoints/{one.id}/rotate", once=word) == 200
    assert (await desk.endpoints())[0].old_secret == one.secret

    await page.click("Make a new secret")
    assert await page.text(".whole") == (await desk.endpoints())[0].secret
    await page.picture("endpoint-rotated")
    assert await page.post(f"/endpoints/{one.id}/remove") == 303


async def test_the_log_shows_every_attempt_and_what_failed_is_delivered_again(
    desk: Desk, browser: Browser
) -> None:
    page = await desk.enter(await browser.page())
    one, _ = await new_endpoint(desk, page, "/flaky")
    answer = f"{HOSTILE} {'x' * 5000}"
    desk.consumer.answers["/flaky"] = always(500, text=answer)
    await try_out(desk, page, one, state=DeliveryState.PENDING, text="500 in")
    await page.tab.locator("summary").first.click()
    assert SHOWN in await page.text(".answer")
    assert len(await page.text(".answer")) < 1100
    assert await page.tab.locator(".log b, .log script").count() == 0
    assert "has failed since" in await page.text("main")
    await page.picture("endpoint-failing")
    await page.goto(f"{desk.url}/endpoints")
    assert "failing" in await page.text(".card")
    await page.picture("endpoints")

    del desk.consumer.answers["/flaky"]
    await page.goto(f"{desk.url}/endpoints/{one.id}?state=pending")
    await page.click("Deliver again")

    async def is_delivered() -> bool:
        return (await desk.deliveries(one.id))[0].state is DeliveryState.DELIVERED

    await eventually(is_delivered, 15)
    count = len(desk.consumer.at("/flaky"))
    await page.goto(f"{desk.url}/endpoints/{one.id}")
    await page.tab.get_by_label("every event it wants, delivered or not").check()
    await page.fill("Since (UTC)", (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M"))
    await page.click("Deliver these again")
    assert "delivered once more" in await page.text(".said")
    await eventually(lambda: len(desk.consumer.at("/flaky")) > count, 15)
    await page.tab.get_by_label("what failed").check()
    await page.click("Deliver these again")
    assert "nothing to deliver" in await page.text(".said")
    assert await page.post(f"/endpoints/{one.id}/remove") == 303


async def test_a_viewer_sees_endpoints_without_what_may_be_secret_and_changes_none(
    desk: Desk, browser: Browser
) -> None:
    page = await desk.enter(await browser.page())
    one, _ = await new_endpoint(desk, page, "/hook?key=s3cret")
    viewer = await desk.enter(await browser.page(), Role.VIEWER)
    for path in ("/endpoints", f"/endpoints/{one.id}"):
        await viewer.goto(desk.url + path)
        assert "/hook" in await viewer.text("main")
        assert "s3cret" not in await viewer.tab.content()
    assert await viewer.tab.locator("main form").count() == 0
    for action in ("rotate", "test", "enable", "disable", "redeliver", "remove", "change"):
        assert await viewer.post(f"/endpoints/{one.id}/{action}", which="failed") == 403, action
    assert await viewer.goto(f"{desk.url}/endpoints/new") == 403
    assert await viewer.goto(f"{desk.url}/endpoints/{one.id}/remove") == 403
    assert await page.post(f"/endpoints/{one.id}/remove") == 303


async def test_the_audit_log_says_who_did_what_from_where(desk: Desk, browser: Browser) -> None:
    page = await desk.enter(await browser.page())
    async with desk.store() as store:
        for number in range(59):
            await change_peer(
                store, HOST, f"p{number}.test", partial(replace, trust=Trust.BLOCKED), actor=ANNA,
                now=datetime.now(UTC),
            )  # fmt: skip
    await page.goto(f"{desk.url}/peers")
    await page.post(f"/peers/{HOST}/p59.test/trust", trust="trusted")
    desk.bridge.cli("tokens", "create", "for everything", "--scope", "read")
    await page.goto(f"{desk.url}/audit")
    text = await page.text("main")
    for expected in (
        "token.create",
        "for everything",
        "cli:",
        "the bridge",
        "p59.test",
        "peer.trust",
        "127.",
    ):
        assert expected in text, expected
    assert "p5.test" not in text
    await page.picture("audit")
    await page.click("Older")
    assert "p5.test" in await page.text("main")

    await page.fill("To what", "p7.test")
    await page.fill("Did what", "peer")
    await page.click("Search")
    assert await page.tab.locator("tbody tr").count() == 1
    await page.click("p7.test")
    assert page.tab.url.endswith("/peers/a.test/p7.test")
    await page.goto(f"{desk.url}/audit?before=nonsense&who=nobody")
    assert "No such entry" in await page.text("main")


async def test_what_concerns_the_bridge_as_a_whole_is_not_for_viewers(desk: Desk, browser: Browser) -> None:
    async with desk.store() as store:
        await tokens.create(
            store, name="whole-bridge", scopes=[Scope.READ], hosts=(), expires_at=None, actor=ANNA,
            now=datetime.now(UTC),
        )  # fmt: skip
    for role, is_shown in ((Role.VIEWER, False), (Role.APPROVER, True)):
        page = await desk.enter(await browser.page(), role)
        await page.goto(f"{desk.url}/audit")
        assert ("whole-bridge" in await page.text("main")) is is_shown


async def reported(
    desk: Desk, text: str, *, impact: str = "", days_ago: int = 0, peer: str = "b.test"
) -> None:
    """Let a peer have reported an incident, some days ago."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    identity = IncidentId(name=peer, text=text)
    document = Document(identity=identity, impacts=(Impact(type=impact),) if impact else ())
    own = incident_id(HOST, peer, identity)
    interaction = Interaction(
        id=f"i-{text}", host=HOST, peer=peer, kind=Kind.REPORT, way=Way.RECEIVED, sender=peer, iq_id="q",
        received_at=at, trust=Trust.TRUSTED, quarantined=False, digest=text, status=None, document=document,
        stream=Stream(direction=Direction.INCOMING, encrypted=True, authentication=Authentication.CERTIFICATE),
        repairs=(), incident_id=own, state=InteractionState.ANSWERED,
    )  # fmt: skip
    edition = Edition(interaction_id=interaction.id, received_at=at, status=Status.NEW)
    incident = Incident(
        id=own, host=HOST, reporter=peer, identity=identity, status=Status.NEW, quarantined=False, severity=None,
        summary=f"incident {text}", created_at=at, updated_at=at, editions=(edition,),
    )  # fmt: skip
    await desk.put(interaction, incident)


async def test_charts_say_the_same_as_their_tables(desk: Desk, browser: Browser) -> None:
    await desk.put(Peer(host=HOST, domain="b.test", last_seen_at=datetime.now(UTC)))
    await desk.put(Peer(host=HOST, domain="xn--mller-kva.test", last_seen_at=datetime.now(UTC)))
    for number in range(8):
        await reported(desk, f"c{number}", impact="dos" if number < 5 else HOSTILE, days_ago=number)
    await reported(desk, "old", impact="dos", days_ago=200, peer="xn--mller-kva.test")
    page = await desk.enter(await browser.page())
    await page.goto(f"{desk.url}/charts")
    assert await page.tab.locator("svg.chart").count() == 3
    assert "8 incidents" in await page.text("h2")
    for one in await page.tab.locator("summary").all():
        await one.click()
    tables = [await one.inner_text() for one in await page.tab.locator("tbody").all()]
    assert tables[0].count("\t1") == 8
    assert "b.test\t8" in tables[1]
    assert "dos\t5" in tables[2]
    assert f"{SHOWN}\t3" in tables[2]
    assert await page.tab.locator("svg.chart desc").nth(1).text_content() == "b.test: 8"
    assert await page.tab.locator("main b, main script").count() == 0

    await page.click("52 weeks")
    assert "9 incidents" in await page.text("h2")


async def test_every_page_fits_the_window(desk: Desk, browser: Browser) -> None:
    page = await desk.enter(await browser.page())
    one, _ = await new_endpoint(desk, page, "/fits")
    await try_out(desk, page, one, state=DeliveryState.DELIVERED, text="204 in")
    for name, path in {
        "endpoints": "/endpoints", "endpoint": f"/endpoints/{one.id}", "endpoint-new": "/endpoints/new",
        "remove": f"/endpoints/{one.id}/remove", "charts": "/charts", "audit": "/audit?target=p7",
        "send": "/send", "send-request": "/send/request", "send-inquiry": "/send/inquiry",
        "send-response": "/send/response",
    }.items():  # fmt: skip
        await page.goto(desk.url + path)
        await page.fits(f"more-{name}")
    assert await page.post(f"/endpoints/{one.id}/remove") == 303
