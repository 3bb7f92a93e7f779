"""What consumers send over the API: own incidents and all four kinds."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from bridge.errors import UnavailableError
from bridge.pipeline.ids import new_id
from bridge.policy.change import Change, Put, Queue
from bridge.policy.consumers import Scope
from bridge.policy.disclosure import reread
from bridge.policy.record import Edition, Interaction, InteractionState, Outcome, Way
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.xep0268.model import Kind, Status
from tests.web.api.conftest import HOST, NOW, OTHER, Api, blamed, make_incident, put, reported

XML = (
    "<?xml version='1.0'?><Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='reporting'>"
    "<IncidentID name='a.test'>doc1</IncidentID><!-- ours --><ReportTime>2026-11-21T03:00:00Z</ReportTime>"
    "<Assessment><Impact severity='high'/></Assessment>"
    "<Contact role='creator' type='organization'><ContactName>a.test</ContactName></Contact></Incident>"
)
DETAILS = {
    "id": "api1",
    "description": "spam run",
    "sources": [{"address": "Eve@Bad.test", "count": 7}, {"address": "192.0.2.7"}],
    "impact": "dos",
    "severity": "high",
    "contacts": ["admin@a.test"],
    "evidence": [{"text": "a line", "meaning": "log"}],
}


async def items(store: Store) -> int:
    """How many attempts wait to be made."""
    return (await load.health(store)).lanes[Queue.OUTGOING].items


async def interaction(store: Store, own_id: str) -> Interaction:
    found = (await load.fetch(store, names=[keys.interaction(own_id)], originals=True)).records
    record = found[keys.interaction(own_id)]
    assert isinstance(record, Interaction)
    return record


async def request_of(store: Store, *actions: str, host: str = HOST) -> Interaction:
    """A request that a peer sent us."""
    own = await reported(store, text="asked", host=host)
    sent = await interaction(store, own.editions[0].interaction_id)
    payload = (
        f"<iq xmlns='jabber:client' type='get' id='r1' from='peer.test' to='{host}'>"
        "<request xmlns='urn:xmpp:incident:2'>"
        "<Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='mitigation'>"
        "<IncidentID name='peer.test'>r1</IncidentID><ReportTime>2026-11-21T03:00:00Z</ReportTime>"
        "<Assessment><Impact/></Assessment><Contact role='creator' type='organization'/>"
        + "".join(f"<EventData><Expectation action='{one}'/></EventData>" for one in actions)
        + "</Incident></request></iq>"
    )
    asked = replace(
        sent, id=new_id(), kind=Kind.REQUEST, way=Way.RECEIVED, state=InteractionState.ANSWERED,
        original=payload.encode(), version=0, peer="peer.test", sender="peer.test",
    )  # fmt: skip
    asked = replace(asked, document=reread(asked).incident)
    await commit(store, Change(puts=(Put(None, asked),)))
    return asked


async def test_an_own_incident_is_stored_and_queued_to_each_peer(api: Api, store: Store) -> None:
    before = await items(store)
    reply = await api(
        "POST", "/incidents", {"host": HOST, "to": ["peer.test", "B.example"], "details": DETAILS}
    )
    assert reply.status == 201
    incident = reply.body["incident"]
    assert reply.headers["Location"] == f"/api/v1/incidents/{incident['id']}"
    assert incident["sources"] == ["eve@bad.test", "192.0.2.7"]
    assert [one["peer"] for one in reply.body["interactions"]] == ["peer.test", "b.example"]
    assert {one["state"] for one in reply.body["interactions"]} == {"queued"}
    assert await items(store) > before
    shown = (await api("GET", f"/incidents/{incident['id']}")).body
    assert shown["document"]["sources"][0]["counters"][0]["value"] == 7
    assert shown["document"]["record_items"][0]["text"] == "a line"


async def test_a_document_goes_out_whole_and_what_was_repaired_is_told(api: Api, store: Store) -> None:
    reply = await api(
        "POST", "/interactions", {"kind": "report", "host": HOST, "to": ["p.test"], "document": XML}
    )
    assert reply.status == 202
    assert reply.body["incident"]["severity"] == "high"
    assert any("comment" in note for note in reply.body["notes"])
    sent = await api("GET", f"/interactions/{reply.body['interactions'][0]['id']}")
    assert (sent.status, sent.body["document"]["identity"]["text"]) == (200, "doc1")


async def test_a_stored_incident_is_told_again_and_resolved(api: Api, store: Store) -> None:
    own = await reported(store, "p.test", "q.test")
    more = await api(
        "POST", "/interactions", {"kind": "report", "incident": own.id, "details": {"severity": "low"}}
    )
    assert (more.status, more.body["incident"]["status"]) == (202, "updated")
    assert [one["peer"] for one in more.body["interactions"]] == ["p.test", "q.test"]
    over = await api(
        "POST",
        "/interactions",
        {"kind": "report", "incident": own.id, "status": "resolved", "text": "closed"},
    )
    assert (over.status, over.body["incident"]["status"]) == (202, "resolved")


async def test_an_inquiry_goes_out_about_an_identity_or_an_incident(api: Api, store: Store) -> None:
    body = {"kind": "inquiry", "host": HOST, "to": ["p.test"], "identity": {"name": "p.test", "text": "x"}}
    reply = await api("POST", "/interactions", body)
    assert (reply.status, reply.body["incident"]) == (202, None)
    own = await reported(store)
    about = await api("POST", "/interactions", {"kind": "inquiry", "to": ["p.test"], "incident": own.id})
    assert about.body["interactions"][0]["kind"] == "inquiry"


async def test_a_request_asks_for_something(api: Api, store: Store) -> None:
    own = await reported(store)
    body = {"kind": "request", "to": ["p.test"], "incident": own.id, "expectations": ["block-host"]}
    reply = await api("POST", "/interactions", body)
    assert reply.status == 202
    sent = await interaction(store, reply.body["interactions"][0]["id"])
    assert [one.action for one in sent.document.expectations] == ["block-host"]


async def test_a_request_is_answered_once(api: Api, store: Store) -> None:
    asked = await request_of(store, "block-host", "investigate")
    body = {"kind": "response", "answers": asked.id, "outcome": "partly", "actions": ["investigate"]}
    reply = await api("POST", "/interactions", body)
    assert (reply.status, reply.body["interactions"][0]["answers"]) == (202, asked.id)
    assert (await interaction(store, asked.id)).outcome is Outcome.PARTLY
    twice = await api("POST", "/interactions", body)
    assert (twice.status, "again" in twice.body["detail"]) == (409, True)
    anew = await api("POST", "/interactions", body | {"again": True})
    assert anew.status == 202


REPORT = {"kind": "report", "host": HOST, "to": ["p.test"], "details": DETAILS}
REQUEST = {**REPORT, "kind": "request", "expectations": ["block-host"]}


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ({}, 422, [""]),
        ({"kind": "message"}, 422, [""]),
        ([REPORT], 422, [""]),
        (REPORT | {"to": []}, 422, ["to"]),
        (REPORT | {"to": [HOST]}, 422, ["to/0"]),
        (REPORT | {"to": ["p.test", "a b"]}, 422, ["to/1"]),
        (REPORT | {"to": "p.test"}, 422, ["to"]),
        (REPORT | {"to": [f"p{number}.test" for number in range(101)]}, 422, ["to"]),
        (REPORT | {"host": "c.test"}, 422, ["host"]),
        (REPORT | {"host": None}, 422, ["host"]),
        (REPORT | {"extra": 1}, 422, ["extra"]),
        (REPORT | {"document": XML}, 422, [""]),
        (REPORT | {"details": {}}, 422, ["details"]),
        (REPORT | {"details": {"description": "a\x01b"}}, 422, ["details/description"]),
        (REPORT | {"details": {"sources": [{"address": "a@b@c"}]}}, 422, ["details/sources/0/address"]),
        (
            REPORT | {"details": {"sources": [{"address": "x.y", "count": -1}]}},
            422,
            ["details/sources/0/count"],
        ),
        (REPORT | {"details": DETAILS | {"started_at": "today"}}, 422, ["details/started_at"]),
        (REPORT | {"details": DETAILS | {"impact": "bad"}}, 422, ["details/impact"]),
        (REPORT | {"details": DETAILS | {"contacts": ["@"]}}, 422, ["details/contacts"]),
        (REPORT | {"status": "resolved"}, 422, ["status"]),
        ({"kind": "report", "incident": "x" * 16}, 422, ["incident"]),
        ({"kind": "report", "incident": "../x"}, 422, ["incident"]),
        ({"kind": "report", "host": HOST, "to": ["p.test"], "document": "<a>"}, 422, ["document"]),
        ({"kind": "report", "host": HOST, "to": ["p.test"], "document": "<a/>"}, 422, ["document"]),
        (
            {"kind": "report", "host": HOST, "to": ["p.test"], "document": "<!DOCTYPE a><a/>"},
            422,
            ["document"],
        ),
        ({"kind": "report", "host": HOST, "to": ["p.test"], "document": "<a>" * 40_000}, 422, ["document"]),
        ({"kind": "report", "host": HOST, "to": ["p.test"], "document": "x" * 131_073}, 422, ["document"]),
        ({"kind": "inquiry", "host": HOST, "to": ["p.test"]}, 422, [""]),
        ({"kind": "inquiry", "to": ["p.test"], "incident": "x" * 16}, 422, ["incident"]),
        (REQUEST | {"expectations": []}, 422, ["expectations"]),
        (REQUEST | {"details": None, "document": XML, "expectations": []}, 422, ["expectations"]),
        ({"kind": "response", "answers": "x" * 16, "outcome": "done"}, 422, ["answers"]),
        ({"kind": "response", "answers": "x" * 16, "outcome": "maybe"}, 422, ["outcome"]),
    ],
)
async def test_what_cannot_be_sent_is_refused_by_field_and_nothing_is_written(
    api: Api, store: Store, body: Any, status: int, fields: list[str]
) -> None:
    reply = await api("POST", "/interactions", body)
    assert (reply.status, blamed(reply)) == (status, fields), reply.body
    assert await items(store) == 0
    assert await load.names(store, keys.peer_names(HOST), after="", limit=9) == ()


async def test_a_response_says_what_was_asked_for(api: Api, store: Store) -> None:
    asked = await request_of(store, "block-host")
    for more, field in (
        ({"outcome": "partly"}, "actions"),
        ({"outcome": "done", "actions": ["block-host"]}, "actions"),
        ({"outcome": "partly", "actions": ["other"]}, "actions/0"),
    ):
        reply = await api("POST", "/interactions", {"kind": "response", "answers": asked.id, **more})
        assert (reply.status, blamed(reply)) == (422, [field])
    own = await reported(store)
    body = {"kind": "response", "answers": own.editions[0].interaction_id, "outcome": "done"}
    assert blamed(await api("POST", "/interactions", body)) == ["answers"]


async def test_another_servers_private_incident_goes_on_only_by_an_explicit_word(
    api: Api, store: Store
) -> None:
    asked = await request_of(store, "block-host")
    edition = Edition(interaction_id=asked.id, received_at=NOW, status=Status.NEW)
    incident = make_incident(3)
    await put(store, replace(incident, editions=(edition,)))
    body = {"kind": "request", "to": ["c.test"], "incident": incident.id, "expectations": ["block-host"]}
    refused = await api("POST", "/interactions", body)
    assert (refused.status, blamed(refused)) == (422, ["even_private"])
    assert (await api("POST", "/interactions", body | {"even_private": True})).status == 202


async def test_a_token_sends_only_for_its_hosts_and_about_what_it_sees(api: Api, store: Store) -> None:
    bound = await api.with_token(Scope.WRITE, hosts=(HOST,))
    hidden = await reported(store, host=OTHER)
    before = await items(store)
    assert blamed(await bound("POST", "/interactions", REPORT | {"host": OTHER})) == ["host"]
    for body in (
        {"kind": "report", "incident": hidden.id, "to": ["p.test"]},
        {"kind": "inquiry", "incident": hidden.id, "to": ["p.test"]},
    ):
        assert blamed(await bound("POST", "/interactions", body)) == ["incident"]
    assert (await bound("GET", f"/interactions/{hidden.editions[0].interaction_id}")).status == 404
    assert await items(store) == before
    assert (await bound("POST", "/interactions", {**REPORT, "host": None})).status == 202


async def test_the_same_key_sends_once_and_answers_twice(api: Api, store: Store) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await api("POST", "/incidents", {k: v for k, v in REPORT.items() if k != "kind"}, headers=key)
    count = await items(store)
    second = await api("POST", "/incidents", {k: v for k, v in REPORT.items() if k != "kind"}, headers=key)
    assert (first.status, second.status, second.body) == (201, 201, first.body)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert await items(store) == count
    other = await api("POST", "/incidents", {"host": HOST, "to": ["q.test"], "details": DETAILS}, headers=key)
    assert (other.status, blamed(other)) == (422, ["Idempotency-Key"])
    elsewhere = await api("POST", "/interactions", REPORT, headers=key)
    assert elsewhere.status == 422
    another = await api.with_token(Scope.WRITE)
    assert (await another("POST", "/interactions", REPORT, headers=key)).status == 202


async def test_of_many_repeats_at_once_one_is_done_and_the_others_wait_or_get_its_answer(
    api: Api, store: Store
) -> None:
    key = {"Idempotency-Key": "k2"}
    replies = await asyncio.gather(*(api("POST", "/interactions", REPORT, headers=key) for _ in range(8)))
    done = [reply.body for reply in replies if reply.status == 202]
    assert {reply.status for reply in replies} <= {202, 409}
    assert done
    assert all(body == done[0] for body in done)
    own = done[0]["incident"]["id"]
    listed = await api("GET", f"/incidents/{own}/interactions")
    assert len(listed.body["items"]) == 1


async def test_a_refused_request_gives_its_key_back(api: Api, store: Store) -> None:
    key = {"Idempotency-Key": "k3"}
    body = {"kind": "report", "incident": "x" * 16}
    assert (await api("POST", "/interactions", body, headers=key)).status == 422
    assert (await api("POST", "/interactions", REPORT, headers=key)).status == 202


async def test_a_service_that_dies_before_it_keeps_the_answer_does_not_send_twice(
    api: Api, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Idempotency-Key": "k4"}

    async def die(*_: Any) -> None:
        raise UnavailableError("the store went away")

    with monkeypatch.context() as patched:
        patched.setattr("bridge.web.api.idempotency.keep", die)
        first = await api("POST", "/interactions", REPORT, headers=key)
    assert first.status == 202
    busy = await api("POST", "/interactions", REPORT, headers=key)
    assert (busy.status, busy.headers["Retry-After"]) == (409, "1")
    for name in await store.redis.keys("ib:seen:*idempotency*"):
        await store.redis.delete(name)  # the reservation's minute is over
    count = await items(store)
    again = await api("POST", "/interactions", REPORT, headers=key)
    assert again.status == 202
    assert again.body["interactions"][0]["id"] == first.body["interactions"][0]["id"]
    assert await items(store) == count


@pytest.mark.parametrize("key", ["", "x" * 256, "ä"])
async def test_a_key_is_printable_ascii(api: Api, key: str) -> None:
    reply = await api("POST", "/interactions", REPORT, headers={"Idempotency-Key": key})
    assert (reply.status, blamed(reply)) == (400, ["Idempotency-Key"])


async def test_what_cannot_be_forwarded_is_a_conflict(api: Api, store: Store) -> None:
    asked = await request_of(store, "block-host")
    incident = make_incident(4, quarantined=True)
    edition = replace(incident.editions[0], interaction_id=asked.id)
    await put(store, replace(incident, editions=(edition,)))
    before = await items(store)
    reply = await api("POST", "/interactions", {"kind": "report", "incident": incident.id, "to": ["c.test"]})
    assert (reply.status, await items(store)) == (409, before)


async def test_nothing_is_sent_once_the_store_is_nearly_full(api: Api, store: Store) -> None:
    api.service.health = replace(await load.health(store), used_bytes=api.service.max_bytes)
    body = {"host": HOST, "to": ["peer.test"], "details": DETAILS}
    key = {"Idempotency-Key": "k1"}

    full = await api("POST", "/incidents", body, headers=key)

    assert (full.status, full.headers["Retry-After"]) == (503, "60")
    assert await items(store) == 0
    api.service.health = replace(api.service.health, used_bytes=0)
    assert (await api("POST", "/incidents", body, headers=key)).status == 201
