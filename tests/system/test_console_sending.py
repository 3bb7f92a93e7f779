"""Sending all four kinds from the console, in a real browser: shown first, sent once, mistakes beside the field."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bridge.policy.change import Change, Put
from bridge.policy.record import Edition, Incident, Interaction, InteractionState, Peer, Way, incident_id
from bridge.policy.sessions import Role
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.web.console import find
from bridge.xep0268.model import Kind, Status
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.stanza import read_iq
from tests.system.browser import Browser, Page
from tests.system.console_desk import HOST, HOSTILE, SHOWN
from tests.system.office import Office, office, redis

pytestmark = pytest.mark.asyncio(loop_scope="session")
__all__ = ["office", "redis"]


async def sent_by(office: Office, page: Page) -> list[Interaction]:
    """What the page after sending tells of, as it is stored."""
    assert "/sent?ids=" in page.tab.url
    ids = page.tab.url.partition("ids=")[2].split(".")
    names = [keys.interaction(one) for one in ids]
    found = (await load.fetch(office.store, names=names, originals=True)).records
    return [one for one in found.values() if isinstance(one, Interaction)]


async def one_peer(office: Office, domain: str, trust: Trust = Trust.TRUSTED) -> None:
    """Let a peer be known, whatever was there before."""
    before = await find.peer(office.store, HOST, domain)
    after = replace(before or Peer(host=HOST, domain=domain), trust=trust)
    await commit(office.store, Change(puts=(Put(before, after),)))


async def one_incident(office: Office, text: str) -> Incident:
    """The incident of that identifier."""
    found = await find.search(office.store, [HOST], find.Query(words=text), limit=10)
    return found.incidents[0]


async def test_a_report_is_shown_before_it_is_sent_and_sent_once(office: Office, browser: Browser) -> None:
    await one_peer(office, "trusted.test")
    page = await office.enter(await browser.page(has_javascript=False))
    await page.goto(f"{office.url}/send")
    await page.tab.get_by_label("trusted.test").check()
    await page.fill("Others", "other.test, Third.test")
    await page.fill("What happened", f"  they flood\nour rooms {HOSTILE}")
    await page.fill("Who did it", "spammer@bad.test 120\n2001:db8::1")
    await page.choose("Kind of abuse", "dos")
    await page.choose("Severity", "high")
    await page.picture("send-report")
    await page.click("Show what will be sent")
    shown = await page.text("main")
    for expected in ("This will be sent", "trusted.test", "other.test, third.test", SHOWN, "2001:db8::1", "high",
                     "other.test was never met by a.test", "need-to-know"):  # fmt: skip
        assert expected in shown, expected
    await page.tab.locator("summary").first.click()
    assert "<Incident" in await page.text("pre")
    identifier = await page.text("dd code")
    await page.picture("send-preview")
    await page.click("Change it")
    assert await page.tab.get_by_label("Who did it").input_value() == "spammer@bad.test 120\n2001:db8::1"
    assert await page.tab.get_by_label("trusted.test").is_checked()
    await page.click("Show what will be sent")
    hidden = await page.tab.locator("form.row input, form.row textarea").all()
    fields = {str(await one.get_attribute("name")): await one.input_value() for one in hidden}
    await page.click("Send it")
    sent = await sent_by(office, page)
    assert await page.post("/send/report", **fields, step="send") == 303
    assert {one.peer for one in sent} == {"trusted.test", "other.test", "third.test"}
    document = sent[0].document
    assert document.identity.text == identifier
    assert document.descriptions[0].text.strip() == f"they flood\nour rooms {HOSTILE}"
    assert document.sources[0].counters[0].value == 120
    assert len(await stored_sendings(office, sent[0].incident_id)) == 3
    await page.picture("sent")
    await page.click("To the incident")
    assert "reported by this host" in await page.text("main")


async def stored_sendings(office: Office, incident: str) -> list[Interaction]:
    """Everything that was sent about an incident."""
    found = await find.interactions(office.store, incident, (), limit=100)
    return [one for one in found if one.way is Way.SENT]


async def test_what_is_wrong_with_a_report_is_said_beside_its_field(office: Office, browser: Browser) -> None:
    page = await office.enter(await browser.page())
    await page.goto(f"{office.url}/send/report")
    await page.click("Show what will be sent")
    assert "at least one server" in await page.text("#wrong-to")
    assert "what happened" in await page.text("#wrong-description")
    await page.tab.locator("#to").fill("a.test bad..test")
    await page.fill("Who did it", "good@x.test\n@@ 5")
    await page.tab.locator("summary").click()
    await page.fill("Has to do with", "nothing")
    await page.click("Show what will be sent")
    assert "is this host itself" in await page.text("#wrong-to")
    assert "Line 2" in await page.text("#wrong-sources")
    assert "NAME/TEXT" in await page.text("#wrong-related")
    await page.picture("send-wrong")
    await page.fill("Instead of all this: an IODEF document", "<Incident><nonsense")
    await page.tab.locator("#to").fill("b.test")
    await page.fill("Who did it", "")
    await page.fill("Has to do with", "")
    await page.click("Show what will be sent")
    assert await page.tab.locator("#wrong-document").count() == 1


async def test_incidents_of_others_are_passed_on_asked_about_and_told_in_requests(
    office: Office, browser: Browser
) -> None:
    await one_peer(office, "trusted.test")
    await one_peer(office, "stranger.test", Trust.STRANGER)
    await brought(office, "passed-on")
    incident = await one_incident(office, "passed-on")
    page = await office.enter(await browser.page())
    await page.goto(f"{office.url}/send/report?incident={incident.id}")
    assert await page.tab.get_by_label("What happened").count() == 0
    await page.tab.locator("#to").fill("stranger.test")
    await page.click("Show what will be sent")
    assert "stranger.test is not trusted" in await page.text("#wrong-to")
    await page.tab.locator("#to").fill("")
    await page.tab.get_by_label("trusted.test").check()
    await page.click("Show what will be sent")
    await page.click("Send it")
    [sent] = await sent_by(office, page)
    assert (sent.kind, sent.incident_id, sent.peer) == (Kind.REPORT, incident.id, "trusted.test")

    await page.goto(f"{office.url}/send/request?incident={incident.id}")
    await page.click("Show what will be sent")
    assert "what they are to do" in await page.text("#wrong-actions")
    await page.tab.get_by_label("block-host").check()
    await page.fill("More about that", "please")
    await page.tab.locator("#to").fill("b.test")
    await page.click("Show what will be sent")
    assert "block-host" in await page.text("dl")
    await page.picture("send-request-preview")
    await page.click("Send it")
    [sent] = await sent_by(office, page)
    assert [one.action for one in sent.document.expectations] == ["block-host"]

    await page.goto(f"{office.url}/send/inquiry")
    await page.fill("Whose incident", "b.test")
    await page.click("Show what will be sent")
    assert await page.tab.locator("#wrong-identifier").count() == 1
    await page.fill("Its identifier there", "4711")
    await page.tab.locator("#to").fill("b.test c.test")
    await page.click("Show what will be sent")
    await page.click("Send it")
    sent_all = await sent_by(office, page)
    assert [(one.kind, one.document.identity.text) for one in sent_all] == [(Kind.INQUIRY, "4711")] * 2


async def brought(office: Office, text: str, kind: Kind = Kind.REPORT) -> str:
    """Let b.test have told of an incident, with its document; returns the interaction's id."""
    now, peer = datetime.now(UTC), "b.test"
    body = (
        f"<iq xmlns='jabber:client' type='{kind.iq_type}' id='q' from='b.test' to='a.test'><{kind} "
        f"xmlns='urn:xmpp:incident:2'><Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='{kind.purpose}' "
        f"restriction='need-to-know'><IncidentID name='b.test'>{text}</IncidentID><ReportTime>2026-11-21T10:00:00Z"
        "</ReportTime><EventData><Flow><System category='source'><Node><Address category='ext-category' "
        "ext-category='xmpp'>x@bad.test</Address></Node></System></Flow><Expectation action='block-host'/>"
        f"<Expectation action='investigate'/></EventData></Incident></{kind}></iq>"
    ).encode()
    reading = read(read_iq(xml.parse(body)))
    own = incident_id(HOST, peer, reading.incident.identity)
    interaction = Interaction(
        id=f"i-{text}", host=HOST, peer=peer, kind=kind, way=Way.RECEIVED, sender=peer, iq_id="q", received_at=now,
        trust=Trust.TRUSTED, quarantined=False, digest=text, status=None, document=reading.incident, repairs=(),
        stream=Stream(direction=Direction.INCOMING, encrypted=True, authentication=Authentication.CERTIFICATE),
        incident_id=own, state=InteractionState.ANSWERED, original=body,
    )  # fmt: skip
    edition = Edition(interaction_id=interaction.id, received_at=now, status=Status.NEW)
    incident = Incident(
        id=own, host=HOST, reporter=peer, identity=reading.incident.identity, status=Status.NEW, quarantined=False,
        severity=None, summary=f"incident {text}", created_at=now, updated_at=now, editions=(edition,),
        restriction=reading.incident.restriction,
    )  # fmt: skip
    await office.put(interaction, incident)
    return interaction.id


async def test_a_request_is_answered_from_its_page(office: Office, browser: Browser) -> None:
    request = await brought(office, "asked", Kind.REQUEST)
    page = await office.enter(await browser.page(has_javascript=False))
    await page.goto(f"{office.url}/send/response?request={request}")
    await page.click("Show what will be sent")
    assert await page.tab.locator("#wrong-outcome").count() == 1
    await page.tab.get_by_label("only what is ticked is done").check()
    await page.click("Show what will be sent")
    assert "what was done" in await page.text("#wrong-actions")
    await page.tab.get_by_label("investigate").check()
    await page.fill("More about it", "it is a bot of ours")
    await page.click("Show what will be sent")
    await page.picture("send-answer-preview")
    await page.click("Send it")
    [sent] = await sent_by(office, page)
    assert (sent.kind, sent.answers, sent.peer) == (Kind.RESPONSE, request, "b.test")
    assert [one.action for one in sent.document.history] == ["investigate"]

    await page.goto(f"{office.url}/send/response?request={request}")
    await page.tab.get_by_label("nothing is done").check()
    await page.click("Show what will be sent")
    assert "answered before" in await page.text("#wrong-again")
    assert "say why" in (await page.text("#wrong-text")).lower()


async def test_a_viewer_sends_nothing(office: Office, browser: Browser) -> None:
    page = await office.enter(await browser.page(), Role.VIEWER)
    for kind in Kind:
        assert await page.goto(f"{office.url}/send/{kind}") == 403
    await page.goto(f"{office.url}/incidents")
    assert await page.post("/send/report", step="send", to="b.test", description="x") == 403
    assert await page.goto(f"{office.url}/send/nothing") == 404
    assert await page.goto(f"{office.url}/sent?ids=x.y") == 404
