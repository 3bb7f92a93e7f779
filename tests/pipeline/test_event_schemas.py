"""What the code makes of every type of event is what its JSON Schema says, no more and no less."""

import itertools
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import jsonschema_rs
import pytest

from bridge.config import PolicySettings
from bridge.iodef.model import Incident as Document
from bridge.pipeline import approve, endpoints, originate
from bridge.pipeline.actors import Actor
from bridge.pipeline.endpoints import EndpointDraft, Permitted
from bridge.pipeline.process import process
from bridge.pipeline.receive import Intake, Relayed, receive
from bridge.policy import deliver, events
from bridge.policy.change import Change, Put, Queue
from bridge.policy.outreach import Channel, Outreach, PersonsAnswer, Verdict
from bridge.policy.record import Interaction, InteractionState, Outcome, Peer
from bridge.policy.trust import Authentication, Trust
from bridge.store import keys, lanes, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.webhooks.event import EventType
from bridge.webhooks.schema import EVENTS, IncidentSummary, components, schema
from bridge.xmpp.stanza import PeerError
from tests.pipeline.test_approve import ANNA, Desk
from tests.pipeline.test_originate import MINE
from tests.policy.conftest import NOW, SECURE, stanza

LENIENT = PolicySettings(quota_per_minute=10**6, quota_burst=10**6, quota_strangers_burst=10**6)
_numbers = itertools.count()


def origin(*to: str) -> originate.Origin:
    return originate.Origin(host="a.test", to=to, now=NOW, new_id=lambda: f"o{next(_numbers)}")


def strict(part: Any) -> Any:
    """The same schema, but nothing that it does not list may be there."""
    if isinstance(part, list):
        return [strict(one) for one in part]
    if not isinstance(part, dict):
        return part
    found = {name: strict(one) for name, one in part.items()}
    return {**found, "additionalProperties": False} if "properties" in part else found


async def arrive(store: Store, *stanzas: str, **stream: Any) -> None:
    intake = Intake(host="a.test", rules=LENIENT, fill=0.0)
    batch = [Relayed(stanza=one, stream=replace(SECURE, **stream)) for one in stanzas]
    now = NOW + timedelta(seconds=next(_numbers))
    await receive(
        store,
        intake,
        batch,
        webhook_id=f"w{next(_numbers)}",
        now=now,
        new_id=lambda: f"n{next(_numbers)}",
    )
    while (taken := await lanes.take(store, Queue.INCIDENTS, "d")).leases:
        await process(store, taken.leases, rules=LENIENT, now=now)


async def reports(store: Store) -> None:
    """Reports from a trusted peer, and from a stranger whose document needs repairs."""
    trusted = Peer(host="a.test", domain="b.test", trust=Trust.TRUSTED)
    await commit(store, Change(puts=(Put(None, trusted),)))
    report = stanza(iq_id="r1")
    await arrive(store, report)
    for number, status in enumerate(("updated", "resolved")):
        marked = report.replace("purpose='reporting'", f"purpose='reporting' status='{status}'")
        await arrive(store, marked.replace("19:27:22Z", f"19:27:2{number}Z"))
    stranger = stanza(sender="evil.test").replace("category='source'", "category='sauce'")
    await arrive(store, stranger, authentication=Authentication.DIALBACK)
    await arrive(store, stanza(kind="response", sender="evil.test", iq_id="r2"))


async def inquiries(store: Store) -> None:
    known = stanza(kind="inquiry", iq_id="q1")
    await arrive(store, known)
    await arrive(store, stanza(kind="inquiry", iq_id="q2", text="nothing"))


async def answer(store: Store, text: str, outcome: Outcome) -> None:
    """Let b.test ask for something, and answer that."""
    await arrive(store, stanza(kind="request", iq_id=text, text=text))
    found = await load.events(store, "a.test", after=0, limit=1000)
    asked = keys.interaction(found[-1][1]["data"]["interaction_id"])
    interaction = (await load.fetch(store, names=[asked], originals=True)).records[asked]
    assert isinstance(interaction, Interaction)
    await originate.respond(store, origin("b.test"), interaction, outcome=outcome, text="because")


async def sendings(store: Store) -> None:
    sent = [await originate.report(store, origin("b.test"), MINE)]
    sent.append(await originate.inquire(store, origin("b.test"), MINE.identity))
    refusal = PeerError(type="cancel", condition="forbidden", text="no")
    states = (
        InteractionState.ACKNOWLEDGED,
        InteractionState.REFUSED,
        InteractionState.UNREACHABLE,
        InteractionState.UNANSWERED,
    )
    for one, state in itertools.product((each.interactions[0] for each in sent), states):
        failure = None if state is InteractionState.ACKNOWLEDGED else refusal
        settled = events.settled(replace(one, state=state, failure=failure), now=NOW)
        await commit(store, Change(events=(settled,)))
    told = Outreach(channel=Channel.CHAT, address="abuse@b.test")
    answered = replace(told, answers=(PersonsAnswer(at=NOW, text="closed", verdict=Verdict.DONE),))
    first = replace(sent[0].interactions[0], outreach=told)
    by_person = (
        events.contacted(first, now=NOW),
        events.answered_by_person(replace(first, outreach=answered), number=1, now=NOW),
    )
    await commit(store, Change(events=by_person))


async def trouble(store: Store) -> None:
    draft = EndpointDraft(url="https://consumer.example/", hosts=["a.test"])
    permitted = Permitted(hosts=["a.test"])
    endpoint = await endpoints.add(store, draft, actor=Actor("cli:me"), now=NOW, permitted=permitted)
    await endpoints.send_test(store, endpoint, actor=Actor("cli:me"), now=NOW)
    _, change = deliver.disable(endpoint, "it answered 410 Gone", host="a.test", now=NOW)
    await commit(store, Change(events=change.events))


async def mitigations(store: Store) -> None:
    """Say yes, and let what follows happen: in force, taken back, over, failed; and let one request expire."""
    desk = Desk(store, now=NOW + timedelta(hours=1), numbers=_numbers)
    ends = ("lift", "expire", "fail")
    for number, how in enumerate(ends):
        one = await desk.request(f"user{number}@a.test", text=f"m{number}")
        assert one is not None
        desk.module.refusal = "no such account" if how == "fail" else ""
        await desk.yes(one)
        await desk.work()
        made = next(each for each in await desk.mitigations() if each.approval_id == one.id)
        if how == "lift":
            await approve.lift(store, made, actor=ANNA, reason="a mistake", now=desk.now)
            await desk.work()
        else:
            await desk.fire(f"mitigation-{made.id}")
    late = await desk.request("late@a.test", text="m9")
    assert late is not None
    await desk.fire(f"approval-{late.id}")


@pytest.fixture
async def happened(store: Store) -> list[dict[str, Any]]:
    """Events of every type, made by the stories that make them."""
    await reports(store)
    await inquiries(store)
    await answer(store, "1", Outcome.DONE)
    await answer(store, "2", Outcome.DECLINED)
    await sendings(store)
    await trouble(store)
    await mitigations(store)
    return [event for _, event in await load.events(store, "a.test", after=0, limit=1000)]


async def test_every_event_is_what_its_schema_says_and_holds_nothing_else(
    happened: list[dict[str, Any]],
) -> None:
    assert {event["type"] for event in happened} == set(EventType)
    for event in happened:
        described = strict(schema(EventType(event["type"])))
        validator = jsonschema_rs.Draft202012Validator(described, validate_formats=True)
        wrong = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(event)]
        assert wrong == [], event["type"]
    repaired = [event for event in happened if event["data"].get("repairs")]
    assert repaired


async def test_a_delivery_with_the_document_and_without_the_id_is_as_described(
    happened: list[dict[str, Any]],
) -> None:
    event = next(one for one in happened if one["type"] == EventType.INCIDENT_REPORTED)
    validator = jsonschema_rs.Draft202012Validator(strict(schema(EventType.INCIDENT_REPORTED)))
    del event["id"]
    for xml in ("<Incident/>", None):
        assert validator.is_valid({**event, "data": {**event["data"], "xml": xml}})
    assert not validator.is_valid({**event, "data": {**event["data"], "xml": 1}})
    del event["data"]["host"]
    assert not validator.is_valid(event)


def test_every_type_of_event_has_a_schema() -> None:
    assert set(EVENTS) == set(EventType)
    for event_type in EventType:
        jsonschema_rs.meta.validate(schema(event_type))


def test_the_incident_of_an_event_has_every_member_that_documents_have() -> None:
    made_here = {"id", "reporter", "severity"}
    assert set(IncidentSummary.model_fields) == {one.name for one in fields(Document)} | made_here


def test_the_parts_for_openapi_refer_only_to_each_other() -> None:
    bodies, parts = components()
    text = str((bodies, parts))
    assert set(bodies) == set(EventType)
    assert "$defs" not in text
    refs = {word.split("'")[0] for word in text.split("'$ref': '#/components/schemas/")[1:]}
    assert refs <= set(parts)
