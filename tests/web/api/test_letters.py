"""Letters over the API: whole for who may see them, with the link only for who may send, noted once."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from bridge.iodef.model import Expectation, Impact, IncidentId, Source
from bridge.iodef.model import Incident as Document
from bridge.policy import outgoing
from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.editions import add_edition
from bridge.policy.outreach import Channel, Outreach
from bridge.policy.record import Interaction, InteractionState
from bridge.store import load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.xep0268.model import Kind, Status
from tests.web.api.conftest import HOST, NOW, OTHER, Api, MakeApi

MAIL = Outreach(channel=Channel.MAIL, address="abuse@c.test")


async def mailed_to(store: Store, name: str, **more: Any) -> Interaction:
    """A request about an own incident, which the server refused, so that abuse@c.test is to be written to."""
    document = Document(
        identity=IncidentId(name=HOST, text=name),
        sources=(Source(address="bad@c.test", category="xmpp"),),
        impacts=(Impact(type="spam"),),
        expectations=(Expectation(action="block-host"),),
    )
    made = outgoing.draft(
        interaction_id=name,
        host=HOST,
        to="c.test",
        kind=Kind.REQUEST,
        payload=b"<request/>",
        document=document,
        status=None,
        incident_id=f"n{name}",
        now=NOW - timedelta(days=8),
    )
    sent = replace(made, **({"state": InteractionState.REFUSED, "attempts": 1, "outreach": MAIL} | more))
    own = replace(add_edition(None, replace(sent, status=Status.NEW)), id=sent.incident_id)
    await commit(store, Change(puts=(Put(None, sent), Put(None, own))))
    return sent


async def test_a_letter_is_shown_whole_and_noted_once_by_who_may_send(api: Api, store: Store) -> None:
    await mailed_to(store, "i1")
    path = "/interactions/i1/letter"
    letter = await api("GET", path)
    assert (letter.status, letter.body["to"]) == (200, "abuse@c.test")
    assert letter.body["subject"] == "Request from a.test about c.test: i1"
    assert "> bad@c.test" in letter.body["text"]
    assert (letter.body["incident_id"], letter.body["is_to_be_mailed"]) == ("ni1", True)

    reader = await api.with_token(Scope.READ, Scope.APPROVE)
    assert (await reader("POST", f"{path}/sent")).status == 403
    for _ in range(2):
        noted = await api("POST", f"{path}/sent")
        assert (noted.status, noted.body["is_to_be_mailed"]) == (200, False)
        assert "abuse@c.test was written to by mail" in noted.body["standing"]
    events = await load.events(store, HOST, after=0, limit=10)
    assert [event["type"] for _, event in events] == ["contact.told"]
    audits = [entry["action"] for _, entry in await load.audits(store, HOST, limit=10)]
    assert audits == ["send.mail"]


async def test_only_who_may_send_is_told_the_link_with_which_to_answer(
    make_api: MakeApi, store: Store
) -> None:
    await mailed_to(store, "i1")
    api = await make_api(public_url="http://127.0.0.1", answer_page_days=7)
    writer = await api.with_token(Scope.WRITE)
    for caller, is_shown in ((api, True), (writer, True), (await api.with_token(Scope.READ), False)):
        text = (await caller("GET", "/interactions/i1/letter")).body["text"]
        assert "We ask for your help" in text
        assert ("http://127.0.0.1/answer/i1." in text) is is_shown
    approver = await api.with_token(Scope.APPROVE)
    assert "/answer/" not in (await approver("GET", "/interactions/i1/letter")).body["text"]


async def test_what_is_no_letter_or_not_to_be_mailed_is_said(api: Api, store: Store) -> None:
    await mailed_to(store, "i1", outreach=None)
    chat = replace(MAIL, channel=Channel.CHAT)
    await mailed_to(store, "i2", outreach=chat, state=InteractionState.SENT)
    assert (await api("GET", "/interactions/i1/letter")).status == 404
    assert (await api("GET", "/interactions/i2/letter")).body["is_to_be_mailed"] is False
    for name in ("i1", "i2"):
        refused = await api("POST", f"/interactions/{name}/letter/sent")
        assert (refused.status, "nothing is to be mailed" in refused.body["detail"]) == (409, True)
    other = await api.with_token(Scope.ADMIN, hosts=(OTHER,))
    for method, path in (("GET", "i2/letter"), ("POST", "i2/letter/sent"), ("GET", "none/letter")):
        assert (await other(method, f"/interactions/{path}")).status == 404
