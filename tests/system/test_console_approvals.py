"""Deciding in the console: approvals, mitigations, acting unasked, triage and the quarantine, in a real browser.

These show pages of a store whose worker they are themselves; test_console.py goes the whole way with a real Prosody.
"""

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urljoin

import pytest

from bridge.config import Settings
from bridge.pipeline.actors import Actor
from bridge.pipeline.publish import list_address, withhold
from bridge.policy.change import Change, Put
from bridge.policy.decisions import ApprovalState, MitigationState, TriageState
from bridge.policy.record import Incident
from bridge.policy.sessions import Role
from bridge.store import keys, load
from bridge.store.commit import commit
from tests.policy.conftest import stanza
from tests.system.browser import PHONE, Browser
from tests.system.office import HOST, PEER, STRANGER, Office, office, redis

pytestmark = pytest.mark.asyncio(loop_scope="session")
__all__ = ["office", "redis"]

EVIL = "\u202eevil\u2066<b>x</b>"


async def test_a_request_is_seen_with_what_it_touches_and_approved_in_part(
    office: Office, browser: Browser
) -> None:
    office.desk.module.preview_answer = {"exists": True, "sessions": 2, "contacts": 14}
    one = await office.asked("juliet@a.test", "nurse@a.test", "a.test", text="one")
    page = await browser.page(has_javascript=False)
    await office.enter(page)
    await page.goto(f"{office.url}/")
    assert "b.test asks for block-host" in await page.text("main")
    await page.tab.get_by_role("link", name="b.test asks for block-host").click()
    assert page.tab.url.endswith(f"/approvals/{one.id}")
    text = await page.text("main")
    for expected in ("suspend account juliet@a.test", "2 sessions are closed", "14 contacts lose it",
                     "What you cannot do here", "it is this host itself", "waits for a yes or no"):  # fmt: skip
        assert expected in text, expected
    assert "I mean what is protected too" not in text
    await page.picture("approval-open")

    await page.tab.get_by_label("suspend account nurse@a.test").uncheck()
    await page.choose("For how long", "7 days")
    await page.click("Do what is ticked")
    assert "You said yes" in await page.text("main")
    await office.desk.work()
    await page.goto(f"{office.url}/approvals/{one.id}")
    text = await page.text("main")
    for expected in (
        "cli:anna said yes at",
        "from 127.0.0.1",
        "done",
        "left out",
        "What could not be done here",
    ):
        assert expected in text, expected
    await page.picture("approval-done")
    [mitigation] = await office.desk.mitigations()
    assert dict(mitigation.target) == {"account": "juliet@a.test"}
    assert timedelta(days=6) < mitigation.expires_at - datetime.now(UTC) <= timedelta(days=7)


async def test_what_is_protected_needs_the_second_yes(office: Office, browser: Browser) -> None:
    one = await office.asked("boss@a.test", "juliet@a.test", text="protected")
    page = await browser.page(size=PHONE, has_javascript=False)
    await office.enter(page)
    await page.goto(f"{office.url}/approvals/{one.id}")
    boss = page.tab.get_by_label("suspend account boss@a.test")
    assert not await boss.is_checked()
    assert await page.tab.get_by_label("suspend account juliet@a.test").is_checked()
    await page.picture("approval-protected-phone")

    await boss.check()
    await page.click("Do what is ticked")
    assert "needs a second yes" in await page.text("[role=alert]")
    assert await boss.is_checked()
    assert (await office.desk.approval(one.id)).state is ApprovalState.OPEN

    await page.tab.get_by_label("I mean what is protected too").check()
    await page.click("Do what is ticked")
    after = await office.desk.approval(one.id)
    assert (after.state, after.had_second_yes) == (ApprovalState.APPROVED, True)


async def test_of_two_operators_the_second_is_told_who_was_faster(office: Office, browser: Browser) -> None:
    one = await office.asked("juliet@a.test", text="two")
    anna, bert = await browser.page(), await browser.page()
    await office.enter(anna)
    await office.enter(bert, who="cli:bert")
    for page in (anna, bert):
        await page.goto(f"{office.url}/approvals/{one.id}")
    await anna.tab.get_by_label("Why not?").fill("she is our <admin>")
    await anna.click("Decline")
    assert "You said no" in await anna.text("main")
    assert "she is our <admin>" in await anna.text("main")
    await bert.click("Do what is ticked")
    text = await bert.text("[role=alert]")
    assert "cli:anna was faster and said no" in text
    await bert.picture("approval-late")
    assert await office.desk.mitigations() == []


async def test_a_form_that_is_sent_twice_acts_once(office: Office, browser: Browser) -> None:
    one = await office.asked("juliet@a.test", text="twice")
    page = await browser.page()
    await office.enter(page)
    await page.goto(f"{office.url}/approvals/{one.id}")
    sent = [page.post(f"/approvals/{one.id}/approve", target="account juliet@a.test") for _ in range(2)]
    assert await asyncio.gather(*sent) == [303, 303]
    [mitigation] = await office.desk.mitigations()
    await office.desk.work()
    sent = [page.post(f"/mitigations/{mitigation.id}/lift", reason="oops") for _ in range(2)]
    assert await asyncio.gather(*sent) == [303, 303]
    await office.desk.work()
    assert [one.split()[0] for one in office.desk.module.calls if "preview" not in one] == [
        "account.suspend",
        "lift",
    ]
    act = {"what": "account.suspend nurse@a.test", "nonce": "abc", "reason": "x"}
    sent = [page.post(f"/incidents/{one.incident_id}/act", **act) for _ in range(2)]
    assert await asyncio.gather(*sent) == [303, 303]
    assert len(await office.desk.mitigations()) == 2
    for _ in range(2):
        await page.post(f"/incidents/{one.incident_id}/triage", note="look at this")
    assert [note.text for note in (await office.triage(one.incident_id)).notes] == ["look at this"]


async def test_what_only_looks_known_and_what_is_hostile_is_shown_for_what_it_is(
    office: Office, browser: Browser
) -> None:
    one = await office.asked("fr\u0456end.example", "juliet@a.test", text="evil")
    hostile = replace(one.targets[0], preview={"exists": True, "sessions": 1, "refused": EVIL})
    await commit(office.store, Change(puts=(Put(one, replace(one, targets=(hostile, *one.targets[1:]))),)))
    page = await browser.page()
    await office.enter(page)
    await page.goto(f"{office.url}/approvals/{one.id}")
    text = await page.text("main")
    for expected in (
        "xn--frend-o2e.example",
        "is not friend.example",
        "Prosody would refuse it: \\u202eevil",
    ):
        assert expected in text, expected
    assert "\u202e" not in text
    assert not await page.tab.get_by_label("block domain").is_checked()
    await page.picture("approval-evil")


async def test_a_preview_is_asked_for_again_and_an_absent_prosody_is_said(
    office: Office, browser: Browser
) -> None:
    one = await office.asked("juliet@a.test", text="absent", is_previewed=False)
    page = await browser.page()
    await office.enter(page)
    await page.goto(f"{office.url}/approvals/{one.id}")
    assert "Prosody has not said yet" in await page.text("main")
    await page.click("Ask again")
    assert "What it would touch now is not known" in await page.text("[role=alert]")
    await page.click("Do what is ticked")
    assert (await office.desk.approval(one.id)).state is ApprovalState.APPROVED


async def test_a_mitigation_that_failed_says_why_and_is_tried_again(office: Office, browser: Browser) -> None:
    one = await office.asked("juliet@a.test", text="failing")
    office.desk.module.refusal = f"juliet@a.test is an admin {EVIL}"
    await office.desk.yes(one)
    await office.desk.work()
    page = await browser.page(has_javascript=False)
    await office.enter(page)
    await page.goto(f"{office.url}/mitigations")
    assert "is an admin" in await page.text("main")
    await page.picture("mitigations-failed")
    await page.tab.get_by_role("link", name="suspend account juliet@a.test").click()
    text = await page.text("main")
    assert "It could not be carried out" in text
    assert "Make sure that it is not in force" in text
    await page.picture("mitigation-failed")

    office.desk.module.refusal = ""
    await page.click("Try again")
    await office.desk.work()
    states = [each.state for each in await office.desk.mitigations()]
    assert sorted(states) == [MitigationState.APPLIED, MitigationState.FAILED]


async def test_a_mitigation_is_taken_back_with_a_reason(office: Office, browser: Browser) -> None:
    one = await office.asked("juliet@a.test", text="lifting")
    await office.desk.yes(one)
    await office.desk.work()
    page = await browser.page(has_javascript=False)
    await office.enter(page)
    await page.goto(f"{office.url}/mitigations")
    assert "in force" in await page.text("main")
    await page.picture("mitigations")
    await page.tab.get_by_role("link", name="suspend account juliet@a.test").click()
    assert "2 sessions are closed" in await page.text("main")
    await page.picture("mitigation")
    await page.tab.get_by_label("Why?").fill("she promised")
    await page.click("Take it back")
    await office.desk.work()
    await page.goto(page.tab.url)
    text = await page.text("main")
    assert "Taken back by cli:anna" in text
    assert "she promised" in text
    assert "Take it back" not in text


async def test_an_operator_acts_unasked(office: Office, browser: Browser) -> None:
    await office.desk.receive(stanza(kind="report", sender=PEER, text="unasked"))
    [incident] = [each for each in await _incidents(office) if each.identity.text == "unasked"]
    page = await browser.page(size=PHONE, has_javascript=False)
    await office.enter(page)
    await page.goto(f"{office.url}/incidents/{incident.id}")
    await page.click("Act on this")
    await page.picture("act-phone")
    await page.tab.get_by_label("block domain").first.check()
    await page.fill("Address", "juliet@a.test")
    await page.click("See what it would touch")
    text = await page.text("main")
    assert "suspend account juliet@a.test" in text
    assert "is not known" in text
    await page.picture("act-preview-phone")
    assert await office.desk.mitigations() == []

    await page.click("Do it")
    assert "cli:anna said yes" in await page.text("main")
    await office.desk.work()
    assert {each.state for each in await office.desk.mitigations()} == {MitigationState.APPLIED}
    await page.goto(f"{office.url}/incidents/{incident.id}")
    assert "in force" in await page.text(".acts")
    await page.picture("incident-acted-phone")

    for address, problem in (("romeo@elsewhere.example", "is not an account on"), ("a b@@", "is not a JID")):
        await page.goto(f"{office.url}/incidents/{incident.id}/act")
        await page.fill("Address", address)
        await page.click("See what it would touch")
        assert problem in await page.text("[role=alert]")


async def _incidents(office: Office) -> list[Incident]:
    ids = (await load.newest(office.store, [keys.incidents(HOST)], limit=99)).popitem()[1]
    return [await office.desk.record(keys.incident(one)) for one in ids]


async def test_operators_write_down_what_they_think_and_overwrite_nobody(
    office: Office, browser: Browser
) -> None:
    one = await office.asked("juliet@a.test", text="triage")
    where = f"{office.url}/incidents/{one.incident_id}"
    anna, bert = await browser.page(), await browser.page(has_javascript=False)
    await office.enter(anna)
    await office.enter(bert, who="cli:bert")
    await anna.goto(where)
    await bert.goto(where)
    await anna.choose("State", "closed")
    await anna.fill("What came of it", "talked to her\nshe stops")
    await anna.click("Write down")
    await bert.fill("Add a note", f"seen before {EVIL}")
    await bert.click("Write down")
    await bert.picture("incident-triage")
    known = await office.triage(one.incident_id)
    assert (known.state, known.resolution) == (TriageState.CLOSED, "talked to her\nshe stops")
    assert [note.by for note in known.notes] == ["cli:bert"]
    assert "\u202e" not in await bert.text("main")
    await bert.click("I take it")
    known = await office.triage(one.incident_id)
    assert (known.state, known.assignee) == (TriageState.IN_PROGRESS, "cli:bert")


async def test_many_of_the_quarantine_are_closed_or_forgotten_at_once(
    office: Office, browser: Browser
) -> None:
    for number in range(5):
        await office.desk.receive(stanza(kind="report", sender=STRANGER, text=f"q{number}"))
    page = await browser.page(has_javascript=False)
    await office.enter(page)
    await page.goto(f"{office.url}/")
    await page.click("Go through it")
    await page.click("Tick all 5")
    assert await page.tab.locator("[name=incident]:checked").count() == 5
    await page.picture("quarantine")
    for box in await page.tab.locator("[name=incident]").all():
        await box.uncheck()
    for box in (await page.tab.locator("[name=incident]").all())[:2]:
        await box.check()
    await page.fill("What came of it", "spam")
    await page.click("Close")
    assert "They are closed" in await page.text("main")
    assert await page.tab.locator("[name=incident]").count() == 3
    held = await office.quarantined()
    judged = [one for one in held if await office.desk.record(keys.triage(one.id))]
    assert [(await office.triage(one.id)).resolution for one in judged] == ["spam", "spam"]

    await page.click("Tick all 3")
    await page.click("Forget")
    assert "tick that you mean it" in await page.text("[role=alert]")
    await page.click("Tick all 3")
    await page.tab.get_by_label("Delete it from the store").check()
    await page.click("Forget")
    assert "They are forgotten" in await page.text("main")
    assert {one.id for one in await office.quarantined()} == {one.id for one in judged}
    peer = await office.desk.record(keys.peer(HOST, STRANGER))
    assert peer.quarantined == 2
    await page.goto(f"{office.url}/")
    assert "Servers to decide about" not in await page.text("main")


async def test_a_viewer_sees_everything_and_can_do_nothing(office: Office, browser: Browser) -> None:
    one = await office.asked("juliet@a.test", text="viewed")
    other = await office.asked("nurse@a.test", text="done")
    await office.desk.yes(other)
    await office.desk.work()
    await office.desk.receive(stanza(kind="report", sender=STRANGER, text="held"))
    [mitigation], [held] = await office.desk.mitigations(), await office.quarantined()
    page = await browser.page()
    await office.enter(page, Role.VIEWER)
    for path, expected in (
        (f"/approvals/{one.id}", "suspend account juliet@a.test"),
        ("/approvals", "b.test asks for"),
        (f"/mitigations/{mitigation.id}", "In force since"),
        ("/quarantine", STRANGER),
        (f"/incidents/{one.incident_id}", "Looked after by"),
    ):
        assert await page.goto(office.url + path) == 200
        assert expected in await page.text("main")
        assert (
            await page.tab.locator("main button, main input:not([type=hidden]), main textarea").count() == 0
        ), path
    await page.picture("incident-viewer")
    assert await page.goto(f"{office.url}/incidents/{one.incident_id}/act") == 403
    for path, form in (
        (f"/approvals/{one.id}/approve", {"target": "account juliet@a.test"}),
        (f"/approvals/{one.id}/decline", {"reason": "x"}),
        (f"/approvals/{one.id}/refresh", {}),
        (f"/mitigations/{mitigation.id}/lift", {}),
        (f"/mitigations/{mitigation.id}/again", {}),
        (f"/incidents/{one.incident_id}/act", {"what": "account.suspend juliet@a.test"}),
        (f"/incidents/{one.incident_id}/triage", {"state": "closed"}),
        ("/quarantine", {"incident": held.id, "do": "close"}),
    ):
        assert await page.post(path, **form) == 403, path
    assert (await office.desk.approval(one.id)).state is ApprovalState.OPEN
    assert [each.state for each in await office.desk.mitigations()] == [MitigationState.APPLIED]


async def test_no_form_acts_without_its_token_and_no_page_of_another_host_is_there(
    office: Office, browser: Browser
) -> None:
    one = await office.asked("juliet@a.test", text="csrf")
    page = await browser.page()
    await office.enter(page)
    await page.goto(f"{office.url}/approvals/{one.id}")
    for path in (
        f"/approvals/{one.id}/approve",
        f"/approvals/{one.id}/decline",
        f"/incidents/{one.incident_id}/act",
    ):
        form = {"target": "account juliet@a.test", "reason": "x", "what": "account.suspend juliet@a.test"}
        assert await page.post(path, token="x", **form) == 403
        assert await page.goto(office.url + path + "?target=account+juliet%40a.test") in {200, 404, 422}
        await page.goto(f"{office.url}/approvals/{one.id}")
    assert await office.desk.approval(one.id) == one

    foreign = replace(one, id="foreign", host="z.test", version=0)
    await commit(office.store, Change(puts=(Put(None, foreign),)))
    assert await page.goto(f"{office.url}/approvals/foreign") == 404
    await page.goto(f"{office.url}/approvals/{one.id}")
    assert await page.post("/approvals/foreign/approve", target="account juliet@a.test") == 404


async def test_whoever_follows_every_link_changes_nothing(office: Office, browser: Browser) -> None:
    one = await office.asked("juliet@a.test", text="linked")
    other = await office.asked("nurse@a.test", text="linked-2")
    await office.desk.yes(other)
    await office.desk.work()
    await office.desk.receive(stanza(kind="report", sender=STRANGER, text="held"))
    page = await office.enter(await browser.page())
    before = await _everything(office)
    waiting, seen = [f"{office.url}/"], set()
    while waiting:
        url = waiting.pop()
        answer = await page.tab.request.get(url, max_redirects=0)
        assert answer.status < 500, url
        text = await answer.text() if "html" in answer.headers.get("content-type", "") else ""
        for found in re.findall(r'(?:href|action)="([^"#]+)', text):
            link = urljoin(url, unescape(found))
            if link.startswith(f"{office.url}/") and link not in seen:
                seen.add(link)
                waiting.append(link)
    for path in (f"/approvals/{one.id}/approve", f"/incidents/{one.incident_id}/triage", "/sign-out"):
        assert office.url + path in seen
    assert await _everything(office) == before


async def _everything(office: Office) -> dict[bytes, bytes]:
    """All that is in the store."""
    redis = office.store.redis
    return {key: await redis.dump(key) async for key in redis.scan_iter("*")}


async def test_no_page_is_wider_than_its_window(office: Office, browser: Browser) -> None:
    office.desk.module.preview_answer = {
        "exists": True, "sessions": 2, "contacts": 214, "rooms": [{"room": f"{'long' * 12}@conference.a.test"}],
    }  # fmt: skip
    one = await office.asked("boss@a.test", f"{'x' * 200}@a.test", "d.test", "192.0.2.1", text="wide")
    other = await office.asked("juliet@a.test", text="wide2")
    await office.desk.yes(other)
    await office.desk.work()
    await office.desk.receive(stanza(kind="report", sender=STRANGER, text="held"))
    [mitigation] = await office.desk.mitigations()
    actor, now = Actor("cli:root"), datetime.now(UTC)
    for address in (f"{'x' * 200}@c.test", f"{'long' * 12}.test"):
        await list_address(
            office.store, HOST, address, actor=actor, rules=Settings().policy, now=now, reason="w" * 200
        )
    await withhold(office.store, HOST, "friend.test", actor=actor, now=now, reason="wide " * 50)
    page = await browser.page()
    await office.enter(page)
    for name, path in {
        "approvals": "/approvals",
        "approval": f"/approvals/{one.id}",
        "decided": f"/approvals/{other.id}",
        "mitigations": "/mitigations",
        "mitigation": f"/mitigations/{mitigation.id}",
        "lists": "/lists",
        "acting": f"/incidents/{one.incident_id}/act",
        "act-preview": f"/incidents/{one.incident_id}/act?what=account.suspend+boss%40a.test&what=domain.block+d.test",
        "held": "/quarantine",
        "acted": f"/incidents/{other.incident_id}",
        "inbox-approvals": "/",
    }.items():
        assert await page.goto(office.url + path) == 200, name
        await page.fits(name)
