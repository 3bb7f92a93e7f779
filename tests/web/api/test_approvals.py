"""Approvals, mitigations and acting unasked over the API."""

from typing import Any

import pytest

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.decisions import Approval, ApprovalState, MitigationState, TargetState
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import load
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.test_approve import Desk
from tests.web.api.conftest import HOST, OTHER, Api, MakeApi, blamed

PEER = "b.test"
SUSPEND = "account juliet@a.test"


@pytest.fixture
async def desk(store: Store) -> Desk:
    """b.test is trusted, as is friend.example."""
    peers = [Peer(host=HOST, domain=one, trust=Trust.TRUSTED) for one in (PEER, "friend.example")]
    await commit(store, Change(puts=tuple(Put(None, one) for one in peers)))
    return Desk(store)


async def asked(desk: Desk, *addresses: str, text: str = "1") -> Approval:
    found = await desk.request(*(addresses or ("juliet@a.test",)), text=text)
    assert found is not None
    await desk.work()
    return await desk.approval(found.id)


async def test_what_waits_is_listed_with_what_it_touches(api: Api, desk: Desk) -> None:
    one = await asked(desk, "juliet@a.test", "a.test")
    two = await asked(desk, text="2")
    reply = await api("GET", "/approvals?state=open&limit=1")
    assert [each["id"] for each in reply.body["items"]] == [two.id]
    rest = await api("GET", f"/approvals?state=open&limit=1&cursor={reply.body['next']}")
    assert [each["id"] for each in rest.body["items"]] == [one.id]
    shown = (await api("GET", f"/approvals/{one.id}")).body
    assert (shown["requester"], shown["state"], shown["request"]) == (PEER, "open", one.id)
    offered, impossible = shown["targets"]
    assert (offered["would"], offered["effects"]) == (
        "suspend account juliet@a.test",
        ["2 sessions are closed"],
    )
    assert (impossible["state"], impossible["name"]) == ("shown", "")
    assert (await api("GET", "/approvals?state=declined")).body == {"items": [], "next": None}
    assert (await api("GET", f"/approvals?host={OTHER}")).body["items"] == []


async def test_a_yes_to_some_is_carried_out_and_taken_back(api: Api, desk: Desk) -> None:
    one = await asked(desk, "juliet@a.test", "nurse@a.test")
    approver = await api.with_token(Scope.APPROVE, Scope.READ, name="robot")
    reply = await approver("POST", f"/approvals/{one.id}/approve", {"targets": [SUSPEND]})
    assert (reply.status, reply.body["state"], reply.body["decided_by"]) == (200, "approved", "token:robot")
    assert [each["state"] for each in reply.body["targets"]] == ["approved", "left-out"]
    await desk.work()
    assert (await api("GET", f"/approvals/{one.id}")).body["state"] == "done"

    listed = (await api("GET", "/mitigations?active=true")).body["items"]
    assert [(each["target"], each["state"]) for each in listed] == [({"account": "juliet@a.test"}, "applied")]
    [mitigation] = listed
    lifted = await approver("POST", f"/mitigations/{mitigation['id']}/lift", {"reason": "she promised"})
    assert (lifted.status, lifted.body["state"], lifted.body["lifted_by"]) == (200, "lifting", "token:robot")
    assert (await approver("POST", f"/mitigations/{mitigation['id']}/lift")).status == 409
    await desk.work()
    shown = (await api("GET", f"/mitigations/{mitigation['id']}")).body
    assert (shown["state"], shown["is_active"], shown["note"]) == ("lifted", False, "she promised")
    assert (await api("GET", "/mitigations?active=true")).body["items"] == []
    for query in ("state=lifted", "active=false"):
        assert len((await api("GET", f"/mitigations?{query}")).body["items"]) == 1
    entries = [entry["actor"] for _, entry in await load.audits(desk.store, HOST, limit=10)]
    assert entries.count("token:robot") == 2


async def test_the_second_to_decide_is_told_who_was_faster(api: Api, desk: Desk) -> None:
    one = await asked(desk)
    anna = await api.with_token(Scope.APPROVE, name="anna")
    reply = await anna("POST", f"/approvals/{one.id}/decline", {"reason": "she is our admin"})
    assert (reply.status, reply.body["state"], reply.body["reason"]) == (200, "declined", "she is our admin")
    late = await api("POST", f"/approvals/{one.id}/approve", {})
    assert late.status == 409
    assert "token:anna was faster" in late.body["detail"]
    assert await desk.mitigations() == []


async def test_the_same_idempotency_key_acts_once(api: Api, desk: Desk) -> None:
    one = await asked(desk)
    key = {"Idempotency-Key": "k1"}
    body = {"targets": [{"type": "account.suspend", "address": "nurse@a.test"}], "reason": "spam"}
    replies = [await api("POST", f"/incidents/{one.incident_id}/act", body, headers=key) for _ in range(2)]
    assert [each.status for each in replies] == [201, 201]
    assert replies[0].body == replies[1].body
    assert replies[0].headers["Location"] == f"/api/v1/approvals/{replies[0].body['id']}"
    assert (replies[0].body["requester"], replies[0].body["request"]) == ("", None)
    await desk.work()
    [mitigation] = await desk.mitigations()
    assert (mitigation.state, dict(mitigation.target)) == (
        MitigationState.APPLIED,
        {"account": "nurse@a.test"},
    )


async def test_a_trusted_peer_needs_the_second_yes(api: Api, desk: Desk) -> None:
    one = await asked(desk, "friend.example")
    shown = (await api("GET", f"/approvals/{one.id}")).body
    assert shown["targets"][0]["second_yes"] == "friend.example is a trusted peer"
    refused = await api("POST", f"/approvals/{one.id}/approve", {})
    assert (refused.status, blamed(refused)) == (422, ["second_yes"])
    assert (await desk.approval(one.id)).state is ApprovalState.OPEN
    act = {"targets": [{"type": "domain.block", "address": "friend.example"}]}
    refused = await api("POST", f"/incidents/{one.incident_id}/act", act)
    assert (refused.status, blamed(refused)) == (422, ["second_yes"])
    done = await api("POST", f"/approvals/{one.id}/approve", {"second_yes": True})
    assert (done.status, done.body["had_second_yes"]) == (200, True)
    assert done.body["targets"][0]["state"] == TargetState.APPROVED


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("approvals/{one}/approve", {"targets": ["romeo@a.test"]}, ["targets"]),
        ("approvals/{one}/approve", {"targets": []}, ["targets"]),
        ("approvals/{one}/approve", {"expires_at": "2020-01-01T00:00:00Z"}, ["expires_at"]),
        ("approvals/{one}/approve", {"expires_at": "2099-01-01T00:00:00Z"}, ["expires_at"]),
        ("approvals/{one}/approve", {"expires_at": "2026-01-01T00:00:00"}, ["expires_at"]),
        ("approvals/{one}/approve", {"second_yes": "yes"}, ["second_yes"]),
        ("approvals/{one}/decline", {}, ["reason"]),
        ("approvals/{one}/decline", {"reason": ""}, ["reason"]),
        ("approvals/{one}/decline", {"reason": "\u0000"}, ["reason"]),
        ("incidents/{incident}/act", {}, ["targets"]),
        ("incidents/{incident}/act", {"targets": [{"type": "x", "address": "a"}]}, ["targets/0/type"]),
        (
            "incidents/{incident}/act",
            {"targets": [{"type": "account.suspend", "address": "a@b.test"}]},
            ["targets/0"],
        ),
        (
            "incidents/{incident}/act",
            {"targets": [{"type": "room.ban", "address": "a@b.test"}]},
            ["targets/0"],
        ),
        ("incidents/{incident}/act", {"targets": [{"type": "domain.block", "address": HOST}]}, ["targets/0"]),
    ],
)
async def test_what_cannot_be_done_blames_its_field_and_does_nothing(
    api: Api, desk: Desk, path: str, body: Any, fields: list[str]
) -> None:
    one = await asked(desk)
    reply = await api("POST", "/" + path.format(one=one.id, incident=one.incident_id), body)
    assert (reply.status, blamed(reply)[:1]) == (422, fields)
    assert await desk.approval(one.id) == one
    assert await desk.mitigations() == []


async def test_deciding_takes_its_scope_and_its_host(make_api: MakeApi, desk: Desk) -> None:
    api = await make_api()
    one = await asked(desk)
    await desk.yes(await asked(desk, text="2"))
    await desk.work()
    [mitigation] = await desk.mitigations()
    act = {"targets": [{"type": "account.suspend", "address": "nurse@a.test"}]}
    calls = [
        (f"/approvals/{one.id}/approve", {}),
        (f"/approvals/{one.id}/decline", {"reason": "x"}),
        (f"/mitigations/{mitigation.id}/lift", {}),
        (f"/incidents/{one.incident_id}/act", act),
    ]
    writer = await api.with_token(Scope.READ, Scope.WRITE)
    stranger = await api.with_token(Scope.READ, Scope.APPROVE, hosts=(OTHER,))
    for path, body in calls:
        assert (await writer("POST", path, body)).status == 403, path
        assert (await stranger("POST", path, body)).status == 404, path
    for path in (f"/approvals/{one.id}", f"/mitigations/{mitigation.id}", "/approvals/nothing"):
        assert (await stranger("GET", path)).status == 404, path
    for path in ("/approvals", "/mitigations"):
        assert (await stranger("GET", path)).body["items"] == []
    assert (await desk.approval(one.id)).state is ApprovalState.OPEN
    assert (await desk.mitigations())[0].state is MitigationState.APPLIED
