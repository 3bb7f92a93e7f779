"""Endpoints and deliveries over the API."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.policy import lanes as lane_names
from bridge.policy.change import Change, Event, Put, Queue
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Scope, delivery_id
from bridge.store import lanes, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.webhooks.signature import decode_secret
from tests.web.api.conftest import HOST, NOW, OTHER, Api, Reply, blamed

URL = "https://consumer.example/in"


async def added(api: Api, **more: Any) -> dict[str, Any]:
    reply = await api("POST", "/endpoints", {"url": URL, **more})
    assert reply.status == 201, reply
    body: dict[str, Any] = reply.body
    return body


async def tried(store: Store, endpoint_id: str, sequence: int, state: DeliveryState, host: str = HOST) -> str:
    at = NOW + timedelta(seconds=sequence)
    delivery = Delivery(
        id=delivery_id(endpoint_id, host, sequence),
        endpoint_id=endpoint_id,
        host=host,
        event_id=f"e{sequence}",
        event_type="incident.reported",
        sequence=sequence,
        created_at=at,
        state=state,
        tries=2,
        attempts=(
            Attempt(at=at, duration_ms=9, error="refused"),
            Attempt(at=at, duration_ms=3, status=503, answer="<b>busy</b>"),
        ),
    )
    await commit(store, Change(puts=(Put(None, delivery),)))
    return delivery.id


async def happen(store: Store, count: int, host: str = HOST) -> None:
    events = tuple(
        Event(
            host=host,
            id=f"{host}-{number}",
            type="incident.reported",
            timestamp=datetime.now(UTC),
            data={"host": host, "peer": {"domain": "peer.test", "quarantined": False}},
        )
        for number in range(count)
    )
    await commit(store, Change(events=events))


async def queued(store: Store, endpoint_id: str) -> int:
    taken = await lanes.take(store, Queue.DELIVERIES, "test")
    wanted = lane_names.endpoint_lane(endpoint_id)
    return sum(len(lease.items) for lease in taken.leases if lease.lane == wanted)


async def test_the_secret_is_shown_once_and_header_values_never(api: Api) -> None:
    made = await added(api, headers={"Authorization": "Bearer hush"}, hosts=[HOST])
    assert len(decode_secret(made["secret"])) == 32
    assert made["headers"] == ["Authorization"]
    path = f"/endpoints/{made['id']}"
    rotated = await api("POST", f"{path}/rotate-secret")
    assert rotated.body["secret"] != made["secret"]
    assert rotated.body["old_secret_until"] is not None
    others = [
        await api("GET", path),
        await api("GET", "/endpoints"),
        await api("PATCH", path, {"description": "mine"}),
        await api("POST", f"{path}/disable", {"reason": "repairs"}),
        await api("POST", f"{path}/enable"),
    ]
    for reply in others:
        assert reply.status == 200
        assert "whsec_" not in str(reply.body)
        assert "hush" not in str(reply.body)


async def test_an_endpoint_that_is_added_twice_with_one_key_is_one(api: Api) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await api("POST", "/endpoints", {"url": URL}, headers=headers)
    again = await api("POST", "/endpoints", {"url": URL}, headers=headers)
    assert first.body == again.body
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert first.body["secret"].startswith("whsec_")
    assert first.headers["Location"] == f"/api/v1/endpoints/{first.body['id']}"
    assert len((await api("GET", "/endpoints")).body["items"]) == 1


async def test_the_answer_that_is_kept_under_a_key_holds_no_secret(api: Api, store: Store) -> None:
    headers = {"Idempotency-Key": "k1"}
    made = await api("POST", "/endpoints", {"url": URL}, headers=headers)
    path = f"/endpoints/{made.body['id']}"
    rotated = await api("POST", f"{path}/rotate-secret", headers=headers)
    assert rotated.status == 422
    rotated = await api("POST", f"{path}/rotate-secret", headers={"Idempotency-Key": "k2"})
    names = [name async for name in store.redis.scan_iter("ib:*idempotency*")]
    kept = [await store.redis.get(name) for name in names]
    assert len(kept) == 2
    assert all(b"ep_" in one and b"whsec_" not in one for one in kept)
    again = await api("POST", f"{path}/rotate-secret", headers={"Idempotency-Key": "k2"})
    assert again.body == rotated.body
    await api("DELETE", path)
    assert (await api("POST", "/endpoints", {"url": URL}, headers=headers)).status == 409


async def test_what_was_done_before_the_service_died_is_found_by_its_repeat(api: Api, store: Store) -> None:
    settings = api.service.settings
    webhooks = settings.webhooks.model_copy(update={"max_endpoints": 1})
    api.service.settings = replace(settings, webhooks=webhooks)

    async def twice(path: str, body: Any = None) -> tuple[Reply, Reply]:
        headers = {"Idempotency-Key": path}
        first = await api("POST", path, body, headers=headers)
        async for name in store.redis.scan_iter("ib:*idempotency*"):
            await store.redis.delete(name)
        return first, await api("POST", path, body, headers=headers)

    first, again = await twice("/endpoints", {"url": URL})
    assert (again.status, again.body) == (201, first.body)
    assert len((await api("GET", "/endpoints")).body["items"]) == 1
    sent, resent = await twice(f"/endpoints/{first.body['id']}/test")
    assert sent.body == resent.body


async def test_a_change_leaves_what_is_not_named_as_it_is(api: Api) -> None:
    made = await added(api, types=["incident.reported"], peers=["Peer.test"], headers={"X-Key": "1"})
    path = f"/endpoints/{made['id']}"
    changed = await api("PATCH", path, {"url": "https://other.example/", "severities": ["high"]})
    assert changed.status == 200
    expected = {**made, "url": "https://other.example/", "severities": ["high"]}
    del expected["secret"]
    assert changed.body == expected
    assert (await api("GET", path)).body == expected
    assert changed.body["hosts"] == [HOST, OTHER]
    assert changed.body["peers"] == ["peer.test"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": 5}, "url"),
        ({"url": None}, "url"),
        ({"url": "ftp://consumer.example/"}, "url"),
        ({"url": "http://consumer.example/"}, "url"),
        ({"url": "https://user@consumer.example/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://2130706433/"}, "url"),
        ({"url": "https://consumer.example:22/"}, "url"),
        ({"url": "https://consumer.example/a b"}, "url"),
        ({"url": URL, "hosts": []}, "hosts"),
        ({"url": URL, "hosts": [HOST, "else.test"]}, "hosts/1"),
        ({"url": URL, "types": ["incident.reported", "incident.eaten"]}, "types/1"),
        ({"url": URL, "severities": ["huge"]}, "severities/0"),
        ({"url": URL, "peers": ["a b"]}, "peers/0"),
        ({"url": URL, "quarantined": "maybe"}, "quarantined"),
        ({"url": URL, "headers": {"Host": "x"}}, "headers"),
        ({"url": URL, "headers": {"X-Bad": "a\r\nb"}}, "headers"),
        ({"url": URL, "headers": {"X-Bad": 1}}, "headers/X-Bad"),
        ({"url": URL, "headers": {f"X-{number}": "1" for number in range(11)}}, "headers"),
        ({"url": URL, "description": "two\nlines"}, "description"),
        ({"url": URL, "description": "\u202ebidi"}, "description"),
        ({"url": URL, "secret": "whsec_short"}, "secret"),
        ({"url": URL, "secrets": "x"}, "secrets"),
    ],
)
async def test_what_is_wrong_is_refused_by_its_name_and_nothing_is_stored(
    api: Api, body: dict[str, Any], field: str
) -> None:
    reply = await api("POST", "/endpoints", body)
    assert reply.status == 422, reply
    assert blamed(reply) == [field]
    assert (await api("GET", "/endpoints")).body == {"items": [], "next": None}


async def test_a_change_is_checked_as_strictly(api: Api) -> None:
    path = f"/endpoints/{(await added(api))['id']}"
    assert blamed(await api("PATCH", path, {"url": "https://10.0.0.1/"})) == ["url"]
    assert blamed(await api("PATCH", path, {"hosts": ["else.test"]})) == ["hosts/0"]
    assert blamed(await api("PATCH", path, {"secret": "whsec_x"})) == ["secret"]
    assert (await api("PATCH", path, {})).status == 422
    assert (await api("GET", path)).body["url"] == URL


async def test_a_consumers_own_secret_is_taken(api: Api) -> None:
    secret = "whsec_" + "QUJD" * 10
    assert (await added(api, secret=secret))["secret"] == secret


async def test_no_more_endpoints_than_the_operator_permits(api: Api) -> None:
    settings = api.service.settings
    webhooks = settings.webhooks.model_copy(update={"max_endpoints": 1})
    api.service.settings = replace(settings, webhooks=webhooks)
    await added(api)
    reply = await api("POST", "/endpoints", {"url": URL})
    assert reply.status == 409
    assert "webhooks.max_endpoints" in reply.body["detail"]


async def test_whoever_may_only_read_changes_nothing(api: Api) -> None:
    made = await added(api)
    reader = await api.with_token(Scope.READ, Scope.APPROVE)
    path = f"/endpoints/{made['id']}"
    for method, end in [("PATCH", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate-secret")]:
        assert (await reader(method, path + end)).status == 403
    assert (await reader("POST", "/endpoints", {"url": URL})).status == 403
    assert (await reader("GET", path)).body["url"] == URL


async def test_whoever_may_only_read_does_not_see_the_query_of_a_url(api: Api) -> None:
    made = await added(api, url=f"{URL}?key=hush")
    assert made["url"] == f"{URL}?key=hush"
    path = f"/endpoints/{made['id']}"
    writer, reader = await api.with_token(Scope.WRITE), await api.with_token(Scope.READ, Scope.APPROVE)
    assert (await writer("GET", path)).body["url"] == made["url"]
    assert (await reader("GET", path)).body["url"] == f"{URL}?…"
    assert "hush" not in str((await reader("GET", "/endpoints")).body)


async def test_an_endpoint_of_a_host_that_the_token_may_not_see_does_not_exist(
    api: Api, store: Store
) -> None:
    made = await added(api, hosts=[OTHER])
    known = await tried(store, made["id"], 1, DeliveryState.DEAD, host=OTHER)
    bound = await api.with_token(Scope.WRITE, hosts=(HOST,))
    unknown = await bound("GET", "/endpoints/ep_nothing")
    for method, path in [
        ("GET", f"/endpoints/{made['id']}"),
        ("DELETE", f"/endpoints/{made['id']}"),
        ("POST", f"/endpoints/{made['id']}/rotate-secret"),
        ("GET", f"/endpoints/{made['id']}/deliveries"),
    ]:
        reply = await bound(method, path)
        assert {**reply.body, "instance": ""} == {**unknown.body, "instance": ""}
    assert (await bound("GET", f"/deliveries/{known}")).status == 404
    assert (await bound("POST", f"/deliveries/{known}/redeliver")).status == 404
    assert (await bound("GET", "/endpoints")).body["items"] == []
    assert blamed(await bound("POST", "/endpoints", {"url": URL, "hosts": [OTHER]})) == ["hosts/0"]


async def test_an_endpoint_of_several_hosts_is_changed_only_by_whom_all_of_them_are(
    api: Api, store: Store
) -> None:
    made = await added(api, hosts=[HOST, OTHER])
    await tried(store, made["id"], 1, DeliveryState.DEAD)
    await tried(store, made["id"], 2, DeliveryState.DEAD, host=OTHER)
    bound = await api.with_token(Scope.WRITE, hosts=(HOST,))
    path = f"/endpoints/{made['id']}"
    shown = (await bound("GET", path)).body
    assert (shown["hosts"], shown["may_change"]) == ([HOST], False)
    for method, end, body in [
        ("PATCH", "", {"description": "mine"}),
        ("DELETE", "", None),
        ("POST", "/test", None),
        ("POST", "/rotate-secret", None),
        ("POST", "/enable", None),
        ("POST", "/disable", {}),
        ("POST", "/redeliver", {}),
    ]:
        assert (await bound(method, path + end, body)).status == 403
    deliveries = (await bound("GET", f"{path}/deliveries")).body["items"]
    assert [one["host"] for one in deliveries] == [HOST]


async def test_a_removed_endpoint_is_gone(api: Api) -> None:
    path = f"/endpoints/{(await added(api))['id']}"
    reply = await api("DELETE", path)
    assert (reply.status, reply.body) == (204, "")
    assert (await api("GET", path)).status == 404
    assert (await api("DELETE", path)).status == 404


async def test_a_disabled_endpoint_says_why_and_takes_no_test(api: Api) -> None:
    path = f"/endpoints/{(await added(api))['id']}"
    disabled = await api("POST", f"{path}/disable", {"reason": "repairs"})
    assert (disabled.body["is_enabled"], disabled.body["disabled_reason"]) == (False, "repairs")
    refused = await api("POST", f"{path}/test")
    assert refused.status == 409
    assert "disabled (repairs)" in refused.body["detail"]
    assert (await api("POST", f"{path}/redeliver", {})).status == 409
    assert (await api("POST", f"{path}/enable")).body["is_enabled"]
    assert (await api("POST", f"{path}/test")).status == 202


async def test_a_test_is_an_event_under_the_id_that_is_answered(api: Api, store: Store) -> None:
    made = await added(api)
    reply = await api("POST", f"/endpoints/{made['id']}/test")
    ((_, event),) = await load.events(store, HOST, after=0, limit=9)
    assert event["id"] == reply.body["event_id"]
    assert event["data"]["endpoint_id"] == made["id"]


async def walk(api: Api, path: str) -> list[dict[str, Any]]:
    found, cursor = [], ""
    while True:
        reply = await api("GET", f"{path}limit=2{cursor}")
        assert reply.status == 200, reply
        found += reply.body["items"]
        if reply.body["next"] is None:
            return found
        cursor = f"&cursor={reply.body['next']}"


async def test_deliveries_are_listed_by_state_a_page_at_a_time(api: Api, store: Store) -> None:
    made = await added(api)
    states = [DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.PENDING]
    for number in range(1, 10):
        await tried(store, made["id"], number, states[number % 3])
    path = f"/endpoints/{made['id']}/deliveries?"
    assert [one["sequence"] for one in await walk(api, path)] == list(range(9, 0, -1))
    for remainder, state in enumerate(states):
        found = await walk(api, f"{path}state={state}&")
        assert [one["sequence"] for one in found] == [
            number for number in range(9, 0, -1) if number % 3 == remainder
        ]
        assert {one["state"] for one in found} == {state}
        assert found[0]["last"]["status"] == 503
    assert blamed(await api("GET", f"{path}state=eaten")) == ["state"]


async def test_endpoints_are_listed_a_page_at_a_time_newest_first(api: Api) -> None:
    made = [(await added(api))["id"] for _ in range(5)]
    assert {one["id"] for one in await walk(api, "/endpoints?")} == set(made)
    first = (await api("GET", "/endpoints?limit=2")).body["next"]
    bound = await api.with_token(Scope.READ, hosts=(HOST,))
    assert blamed(await bound("GET", f"/endpoints?cursor={first}")) == ["cursor"]


async def test_a_delivery_is_shown_with_every_attempt(api: Api, store: Store) -> None:
    made = await added(api)
    shown: Reply = await api("GET", f"/deliveries/{await tried(store, made['id'], 1, DeliveryState.DEAD)}")
    assert shown.body["attempts"] == [
        {"at": "2026-11-21T03:00:01Z", "duration_ms": 9, "status": None, "error": "refused", "answer": ""},
        {"at": "2026-11-21T03:00:01Z", "duration_ms": 3, "status": 503, "error": "", "answer": "<b>busy</b>"},
    ]
    assert (await api("GET", "/deliveries/nothing")).status == 404


async def test_a_dead_delivery_is_delivered_once_more(api: Api, store: Store) -> None:
    made = await added(api)
    await happen(store, 1)
    known = await tried(store, made["id"], 1, DeliveryState.DEAD)
    reply = await api("POST", f"/deliveries/{known}/redeliver")
    assert (reply.status, reply.body["state"], reply.body["tries"]) == (202, "pending", 0)
    assert await queued(store, made["id"]) == 1


async def test_what_is_no_longer_kept_is_not_delivered_again(api: Api, store: Store) -> None:
    made = await added(api)
    known = await tried(store, made["id"], 0, DeliveryState.DEAD)
    reply = await api("POST", f"/deliveries/{known}/redeliver")
    assert reply.status == 409
    assert "no longer kept" in reply.body["detail"]


async def test_a_range_is_delivered_again(api: Api, store: Store) -> None:
    made = await added(api, hosts=[HOST])
    await happen(store, 3)
    await tried(store, made["id"], 2, DeliveryState.DEAD)
    path = f"/endpoints/{made['id']}/redeliver"
    body: dict[str, Any] = {"since": NOW.isoformat(), "until": None}
    assert (await api("POST", path, body)).body == {"queued": 1}
    late = datetime.now(UTC) + timedelta(hours=1)
    assert (await api("POST", path, {"only_failed": False, "until": late.isoformat()})).body == {"queued": 3}
    assert await queued(store, made["id"]) == 4


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"since": "2026-11-21"}, "since"),
        ({"since": "2026-11-21T00:00:00"}, "since"),
        ({"until": "9999-12-31T23:59:59Z"}, "until"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
        ({"since": "2026-11-21T00:00:00Z", "until": "2026-11-20T00:00:00Z"}, "until"),
        ({"only_failed": "yes"}, "only_failed"),
    ],
)
async def test_a_bad_range_is_refused_by_its_name(api: Api, body: dict[str, Any], field: str) -> None:
    path = f"/endpoints/{(await added(api))['id']}/redeliver"
    reply = await api("POST", path, body)
    assert reply.status == 422
    assert blamed(reply) == [field]
