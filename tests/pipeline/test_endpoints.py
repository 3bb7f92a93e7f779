"""Endpoints are managed on a real store, and what they missed is delivered again."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bridge.errors import ConfigError, ConflictError, MalformedError
from bridge.pipeline import endpoints
from bridge.pipeline import redeliver as redelivering
from bridge.pipeline.actors import Actor
from bridge.pipeline.endpoints import EndpointDraft, Permitted
from bridge.pipeline.redeliver import MOST_AT_ONCE, redeliver, redeliver_many
from bridge.policy import lanes
from bridge.policy.change import Change, Event, Put, Queue, Trim
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Endpoint, QuarantineFilter, delivery_id
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.store.lanes import release, take
from bridge.webhooks.signature import decode_secret

HOST = "im.example"
OTHER = "chat.example"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADMIN = Actor("cli:admin", "192.0.2.7")
PERMITTED = Permitted(hosts=(HOST, OTHER))
DRAFT = EndpointDraft(url="https://Consumer.example/in?key=k1", hosts=[HOST])


async def add(store: Store, draft: EndpointDraft = DRAFT) -> Endpoint:
    return await endpoints.add(store, draft, actor=ADMIN, now=NOON, permitted=PERMITTED)


async def stored(store: Store, endpoint: Endpoint) -> Endpoint:
    return await endpoints.loaded(store, endpoint.id)


async def happen(store: Store, *minutes: int, host: str = HOST, peer: str = "peer.example") -> None:
    """Let one event happen at each of these minutes after noon."""
    events = tuple(
        Event(
            host=host,
            id=f"{host}-{peer}-{minute}",
            type="incident.reported",
            timestamp=NOON + timedelta(minutes=minute),
            data={"host": host, "peer": {"domain": peer, "quarantined": False}},
        )
        for minute in minutes
    )
    await commit(store, Change(events=events))


async def tried(
    store: Store, endpoint: Endpoint, sequence: int, state: DeliveryState, *, minute: int = 0
) -> Delivery:
    """Store a delivery as a worker leaves it after ten tries."""
    at = NOON + timedelta(minutes=minute)
    delivery = Delivery(
        id=delivery_id(endpoint.id, HOST, sequence),
        endpoint_id=endpoint.id,
        host=HOST,
        event_id=f"e-{sequence}",
        event_type="incident.reported",
        sequence=sequence,
        created_at=at,
        state=state,
        tries=10,
        attempts=(Attempt(at=at, duration_ms=3, status=503),),
    )
    await commit(store, Change(puts=(Put(None, delivery),)))
    return replace(delivery, version=1)


async def waiting(store: Store, endpoint: Endpoint) -> list[int]:
    """The sequences that wait in the endpoint's lane."""
    taken = await take(store, Queue.DELIVERIES, "test")
    found = []
    for lease in taken.leases:
        if lease.lane == lanes.endpoint_lane(endpoint.id):
            found = [json.loads(item)["sequence"] for item in lease.items]
        await release(store, lease)
    return found


async def actions(store: Store, host: str = HOST) -> list[str]:
    return [entry["action"] for _, entry in await load.audits(store, host, limit=100)]


async def test_an_endpoint_gets_what_happens_after_it_was_added(store: Store) -> None:
    await happen(store, 0, 1)

    added = await add(store)

    assert added == await stored(store, added)
    assert added.url == "https://consumer.example/in?key=k1"
    assert added.id.startswith("ep_")
    assert len(added.id) == 19
    assert len(decode_secret(added.secret)) == 32
    assert added.since == {HOST: 2}


async def test_the_audit_log_says_who_did_what_without_what_may_be_secret(store: Store) -> None:
    added = await add(store)
    await endpoints.rotate(store, added, actor=ADMIN, now=NOON)

    entries = [entry for _, entry in await load.audits(store, HOST, limit=10)]

    assert [entry["action"] for entry in entries] == ["endpoint.rotate", "endpoint.add"]
    assert (entries[1]["actor"], entries[1]["origin"], entries[1]["target"]) == (
        "cli:admin",
        "192.0.2.7",
        added.id,
    )
    assert [entry["detail"] for entry in entries] == ["https://consumer.example"] * 2
    assert "whsec_" not in json.dumps(entries)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"url": "ftp://consumer.example/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "http://consumer.example/"}, "url"),
        ({"hosts": []}, "hosts"),
        ({"hosts": [HOST, "nobody.example"]}, "hosts[1]"),
        ({"types": ["incident.reported", "incident.exploded"]}, "types[1]"),
        ({"peers": ["not a domain"]}, "peers[0]"),
        ({"peers": ["a.example"] * 101}, "peers"),
        ({"severities": ["dreadful"]}, "severities[0]"),
        ({"description": "two\nlines"}, "description"),
        ({"description": "\u202egnirts"}, "description"),
        ({"headers": {"Webhook-Id": "1"}}, "headers"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field_and_nothing_is_written(
    store: Store, wrong: dict[str, object], path: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        await add(store, replace(DRAFT, **wrong))

    assert caught.value.path == path
    assert await store.redis.keys("ib:*") == []


async def test_a_consumer_may_bring_its_own_secret_if_it_is_one(store: Store) -> None:
    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="

    added = await endpoints.add(store, DRAFT, actor=ADMIN, now=NOON, permitted=PERMITTED, secret=secret)
    with pytest.raises(ConfigError):
        await endpoints.add(store, DRAFT, actor=ADMIN, now=NOON, permitted=PERMITTED, secret="")

    assert added.secret == secret


async def test_there_are_no_more_endpoints_than_the_configuration_permits(store: Store) -> None:
    few = replace(PERMITTED, max_endpoints=2)
    for _ in range(2):
        await endpoints.add(store, DRAFT, actor=ADMIN, now=NOON, permitted=few)

    with pytest.raises(ConfigError, match="max_endpoints"):
        await endpoints.add(store, DRAFT, actor=ADMIN, now=NOON, permitted=few)


async def test_filters_are_kept_in_one_form_and_once(store: Store) -> None:
    draft = replace(
        DRAFT, hosts=[HOST.upper(), HOST], peers=["Peer.Example", "peer.example"], severities=["high"]
    )

    added = await add(store, draft)

    assert (added.hosts, added.peers, added.severities) == ((HOST,), ("peer.example",), ("high",))


async def test_a_change_judges_only_what_it_changes(store: Store) -> None:
    plain = replace(DRAFT, url="http://consumer.example/in", hosts=[HOST, OTHER])
    more, less = replace(PERMITTED, allow_http=True), replace(PERMITTED, hosts=(HOST,))
    added = await endpoints.add(store, plain, actor=ADMIN, now=NOON, permitted=more)
    draft = replace(endpoints.draft_of(added), description="mine")

    changed = await endpoints.change(store, added, draft, actor=ADMIN, now=NOON, permitted=less)

    assert (changed.description, changed.hosts) == ("mine", (HOST, OTHER))
    again = replace(draft, hosts=[OTHER])
    with pytest.raises(MalformedError, match="hosts"):
        await endpoints.change(store, changed, again, actor=ADMIN, now=NOON, permitted=less)


async def test_a_changed_endpoint_keeps_its_secret_and_where_it_stands(store: Store) -> None:
    added = await add(store)
    await happen(store, 0, 1)
    await happen(store, 0, host=OTHER)
    draft = replace(endpoints.draft_of(added), hosts=(HOST, OTHER), quarantined=QuarantineFilter.ONLY)

    changed = await endpoints.change(store, added, draft, actor=ADMIN, now=NOON, permitted=PERMITTED)

    assert changed == await stored(store, added)
    assert (changed.secret, changed.id) == (added.secret, added.id)
    assert changed.since == {HOST: 0, OTHER: 1}
    assert changed.quarantined is QuarantineFilter.ONLY
    assert await actions(store, OTHER) == ["endpoint.change"]


async def test_two_who_change_different_things_at_once_both_have_their_way(store: Store) -> None:
    added = await add(store)
    first, second = (
        replace(endpoints.draft_of(added), **more)
        for more in ({"url": "https://new.example/", "hosts": (HOST, OTHER)}, {"description": "new"})
    )
    for draft in (first, second):  # both saw it as it was added
        changed = await endpoints.change(store, added, draft, actor=ADMIN, now=NOON, permitted=PERMITTED)

    assert changed == await stored(store, added)
    assert (changed.url, changed.description) == ("https://new.example/", "new")
    assert (changed.hosts, set(changed.since)) == ((HOST, OTHER), {HOST, OTHER})


async def test_a_change_that_changes_nothing_writes_nothing(store: Store) -> None:
    added = await add(store)

    same = await endpoints.change(
        store, added, endpoints.draft_of(added), actor=ADMIN, now=NOON, permitted=PERMITTED
    )

    assert same == added
    assert await actions(store) == ["endpoint.add"]


async def test_the_old_secret_signs_for_a_day_after_rotation(store: Store) -> None:
    added = await add(store)

    rotated = await endpoints.rotate(store, added, actor=ADMIN, now=NOON)

    assert rotated == await stored(store, added)
    assert rotated.secret != added.secret
    assert (rotated.old_secret, rotated.old_secret_until) == (added.secret, NOON + timedelta(hours=24))


async def test_a_failure_that_a_worker_notes_meanwhile_is_kept(store: Store) -> None:
    added = await add(store)
    await commit(store, Change(puts=(Put(added, replace(added, failing_since=NOON)),)))

    rotated = await endpoints.rotate(store, added, actor=ADMIN, now=NOON)

    assert rotated == await stored(store, added)
    assert (rotated.failing_since, rotated.old_secret) == (NOON, added.secret)


async def test_an_endpoint_is_disabled_with_a_reason_and_enabled_as_new(store: Store) -> None:
    added = await add(store)
    await commit(store, Change(puts=(Put(added, replace(added, failing_since=NOON, told_at=NOON)),)))

    off = await endpoints.disable(store, added, reason="moves house", actor=ADMIN, now=NOON)
    again = await endpoints.disable(store, off, reason="another", actor=ADMIN, now=NOON)
    on = await endpoints.enable(store, off, actor=ADMIN, now=NOON)

    assert (off.disabled_reason, off.disabled_at) == ("moves house", NOON)
    assert again == off
    assert on == await stored(store, added)
    assert (on.disabled_reason, on.disabled_at, on.failing_since, on.told_at) == (None, None, None, None)
    assert await actions(store) == ["endpoint.enable", "endpoint.disable", "endpoint.add"]


async def test_a_removed_endpoint_is_gone_and_cannot_be_changed(store: Store) -> None:
    added = await add(store)
    rotated = await endpoints.rotate(store, added, actor=ADMIN, now=NOON)

    await endpoints.remove(store, added, actor=ADMIN, now=NOON)

    assert await load.page(store, keys.ENDPOINTS, limit=10) == []
    with pytest.raises(ConflictError, match="was removed"):
        await endpoints.rotate(store, rotated, actor=ADMIN, now=NOON)
    with pytest.raises(ConflictError, match="was removed"):
        await endpoints.remove(store, rotated, actor=ADMIN, now=NOON)


async def test_a_test_is_an_event_for_this_endpoint(store: Store) -> None:
    added = await add(store)

    event_id = await endpoints.send_test(store, added, actor=ADMIN, now=NOON)

    [(sequence, event)] = await load.events(store, HOST, after=0, limit=10)
    assert (sequence, event["id"], event["type"]) == (1, event_id, "endpoint.test")
    assert event["data"]["endpoint_id"] == added.id
    assert "." not in event_id


async def test_a_disabled_endpoint_is_not_tested_and_gets_nothing_again(store: Store) -> None:
    added = await add(store)
    dead = await tried(store, added, 1, DeliveryState.DEAD)
    off = await endpoints.disable(store, added, reason="", actor=ADMIN, now=NOON)

    with pytest.raises(ConfigError, match="endpoints enable"):
        await endpoints.send_test(store, off, actor=ADMIN, now=NOON)
    with pytest.raises(ConfigError, match="endpoints enable"):
        await redeliver(store, dead, actor=ADMIN, now=NOON)
    with pytest.raises(ConfigError, match="endpoints enable"):
        await redeliver_many(store, off, since=None, until=None, only_failed=True, actor=ADMIN, now=NOON)


@pytest.mark.parametrize("state", DeliveryState)
async def test_any_delivery_can_be_made_again_from_its_first_try_on(
    store: Store, state: DeliveryState
) -> None:
    added = await add(store)
    await happen(store, 0)
    delivery = await tried(store, added, 1, state)

    queued = await redeliver(store, delivery, actor=ADMIN, now=NOON)

    assert (queued.state, queued.tries, queued.next_at) == (DeliveryState.PENDING, 0, NOON)
    assert queued.attempts == delivery.attempts
    assert await waiting(store, added) == [1]
    assert (await actions(store))[0] == "delivery.redeliver"


async def test_what_is_no_longer_kept_is_not_delivered_again(store: Store) -> None:
    added = await add(store)
    await happen(store, 0, 1)
    old, young = [await tried(store, added, number, DeliveryState.DEAD) for number in (1, 2)]
    await commit(store, Change(trims=(Trim(host=HOST, sequence=2),)))

    with pytest.raises(ConfigError, match="no longer kept"):
        await redeliver(store, old, actor=ADMIN, now=NOON)
    count = await redeliver_many(
        store, added, since=None, until=None, only_failed=True, actor=ADMIN, now=NOON
    )

    assert count == 1
    assert await waiting(store, added) == [young.sequence]


async def test_all_that_failed_since_a_time_is_delivered_again_oldest_first(store: Store) -> None:
    added = await add(store)
    await happen(store, *range(6))
    states = [DeliveryState.DEAD, DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.DEAD]
    await tried(store, added, 1, DeliveryState.DEAD, minute=0)
    for number, state in enumerate(states, start=2):
        await tried(store, added, number, state, minute=number)

    count = await redeliver_many(
        store,
        added,
        since=NOON + timedelta(minutes=1),
        until=None,
        only_failed=True,
        actor=ADMIN,
        now=NOON + timedelta(hours=1),
    )

    assert count == 3
    assert await waiting(store, added) == [2, 4, 5]
    again = await redeliver_many(
        store,
        added,
        since=NOON + timedelta(minutes=1),
        until=None,
        only_failed=True,
        actor=ADMIN,
        now=NOON + timedelta(hours=1),
    )
    assert again == 0  # they wait already


async def test_a_range_is_delivered_whether_or_not_it_was_tried_as_far_as_it_is_wanted(store: Store) -> None:
    await happen(store, 0, 10)
    await happen(store, 20, peer="other.example")
    added = await add(store, replace(DRAFT, peers=["peer.example"]))
    await happen(store, 30, 40, 50)
    await tried(store, added, 4, DeliveryState.DELIVERED, minute=30)

    count = await redeliver_many(
        store,
        added,
        since=NOON + timedelta(minutes=10),
        until=NOON + timedelta(minutes=40),
        only_failed=False,
        actor=ADMIN,
        now=NOON + timedelta(hours=1),
    )

    assert count == 3
    assert await waiting(store, added) == [2, 4, 5]  # the first is from before it was added
    entry = (await load.audits(store, HOST, limit=1))[0][1]
    assert (entry["action"], entry["detail"]) == ("endpoint.redeliver", "3 in a range")


async def test_a_long_range_is_found_without_reading_what_is_before_it(store: Store) -> None:
    for start in range(0, 2000, 500):
        await happen(store, *range(start, start + 500))
    added = await add(store)

    count = await redeliver_many(
        store,
        added,
        since=NOON + timedelta(minutes=1700),
        until=None,
        only_failed=False,
        actor=ADMIN,
        now=NOON + timedelta(days=2),
    )

    assert count == 300
    items = await store.redis.lrange(f"ib:lane:deliveries:{lanes.endpoint_lane(added.id)}", 0, -1)
    assert [json.loads(item)["sequence"] for item in items] == list(range(1701, 2001))


async def test_a_range_may_reach_from_the_first_to_the_last_of_days(store: Store) -> None:
    added = await add(store)
    await happen(store, 0)

    for only_failed, expected in ((False, 1), (True, 0)):
        count = await redeliver_many(
            store,
            added,
            since=datetime.min.replace(tzinfo=UTC),
            until=datetime.max.replace(tzinfo=UTC),
            only_failed=only_failed,
            actor=ADMIN,
            now=NOON,
        )
        assert count == expected


async def test_no_more_than_the_most_is_queued_at_once(store: Store) -> None:
    added = await add(store)
    for start in range(0, MOST_AT_ONCE + 50, 1005):
        await happen(store, *range(start, start + 1005))

    count = await redeliver_many(
        store, added, since=None, until=None, only_failed=False, actor=ADMIN, now=NOON + timedelta(days=30)
    )

    assert count == MOST_AT_ONCE


async def test_of_more_failures_than_the_most_the_oldest_come_first_and_the_others_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redelivering, "MOST_AT_ONCE", 5)
    monkeypatch.setattr(redelivering, "_PAGE", 2)
    added = await add(store)
    await happen(store, *range(1, 13))
    for number in range(1, 13):
        state = DeliveryState.PENDING if number % 3 == 0 else DeliveryState.DEAD
        await tried(store, added, number, state, minute=(number + 1) // 2)  # some in the same moment

    async def ask() -> int:
        until = NOON + timedelta(minutes=5, seconds=1)
        return await redeliver_many(
            store, added, since=NOON, until=until, only_failed=True, actor=ADMIN, now=until
        )

    assert (await ask(), await waiting(store, added)) == (5, [1, 2, 3, 4, 5])
    assert (await ask(), await waiting(store, added)) == (5, [*range(1, 11)])
    assert await ask() == 0


async def test_whoever_asks_again_and_again_does_not_fill_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redelivering, "_MOST_WAITING", 250)
    added = await add(store)
    await happen(store, *range(200))

    async def ask() -> int:
        return await redeliver_many(
            store, added, since=None, until=None, only_failed=False, actor=ADMIN, now=NOON + timedelta(days=1)
        )

    assert await ask() == 200
    with pytest.raises(ConfigError, match=r"300 deliveries wait for .* \(100 were queued now\)"):
        await ask()
    with pytest.raises(ConfigError, match=r"\(0 were queued now\)"):
        await ask()


async def test_a_host_taken_from_an_endpoint_is_not_delivered_again(store: Store) -> None:
    added = await add(store)
    await happen(store, 0)
    delivery = await tried(store, added, 1, DeliveryState.DEAD)
    await endpoints.change(
        store, added, replace(DRAFT, hosts=[OTHER]), actor=ADMIN, now=NOON, permitted=PERMITTED
    )

    with pytest.raises(ConfigError, match=f"does not get the events of {HOST}"):
        await redeliver(store, delivery, actor=ADMIN, now=NOON)
    assert await waiting(store, added) == []
