"""One script writes a whole change or nothing of it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bridge.errors import UnavailableError
from bridge.policy.change import (
    Change,
    Event,
    Forget,
    Mark,
    Put,
    Queue,
    Remember,
    Tally,
    Telling,
)
from bridge.policy.consumers import Delivery, DeliveryState
from bridge.policy.decisions import Triage, TriageState
from bridge.policy.record import Bucket, Incident, Interaction, InteractionState, Peer
from bridge.store import keys, lanes, load
from bridge.store.commit import FencedError, Once, SeenError, StaleError, commit
from bridge.store.connect import Script, Store, run
from bridge.xep0268.model import Kind, Status

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOST = "host.example"
MakeIncident = Callable[..., Incident]
MakeInteraction = Callable[..., Interaction]
MakeAppend = Callable[..., Change]


async def _only(store: Store, name: keys.RecordName, *, originals: bool = False) -> object:
    return (await load.fetch(store, names=[name], originals=originals)).records[name]


async def test_what_was_put_is_fetched_with_its_version_raised(
    store: Store, make_incident: MakeIncident
) -> None:
    new = make_incident()

    await commit(store, Change(puts=(Put(None, new),)))

    assert await _only(store, keys.name_of(new)) == replace(new, version=1)


async def test_original_bytes_come_only_when_asked_for_and_survive_a_put_without_them(
    store: Store, make_interaction: MakeInteraction
) -> None:
    new = make_interaction(original=b"<iq \xff/>")
    await commit(store, Change(puts=(Put(None, new),)))
    first = replace(new, version=1, original=None)
    assert await _only(store, keys.name_of(new)) == first

    await commit(store, Change(puts=(Put(first, replace(first, quarantined=True)),)))

    second = await _only(store, keys.name_of(new), originals=True)
    assert second == replace(new, version=2, quarantined=True)


async def test_the_state_of_a_record_is_kept_whatever_record_it_is(store: Store) -> None:
    dead = Delivery(
        id="d1",
        endpoint_id="ep_1",
        host=HOST,
        event_id="e-1",
        event_type="incident.reported",
        sequence=1,
        created_at=NOON,
        state=DeliveryState.DEAD,
    )
    closed = Triage(incident_id="i1", host=HOST, state=TriageState.CLOSED)

    await commit(store, Change(puts=(Put(None, dead), Put(None, closed))))

    assert await _only(store, keys.name_of(dead)) == replace(dead, version=1)
    assert await _only(store, keys.name_of(closed)) == replace(closed, version=1)


async def test_a_put_over_something_else_than_was_loaded_is_stale_and_writes_nothing(
    store: Store, make_incident: MakeIncident, append: MakeAppend
) -> None:
    new, other = make_incident(), make_incident("other")
    await commit(store, Change(puts=(Put(None, new),)))
    old = replace(new, version=1)
    await commit(store, Change(puts=(Put(old, replace(old, summary="second")),)))

    for before in (None, old):
        with pytest.raises(StaleError):
            await commit(store, Change(puts=(Put(None, other), Put(before, new))) + append("lane", "x"))

    assert await _only(store, keys.name_of(other)) is None
    assert (await lanes.take(store, Queue.INCIDENTS, "d")).leases == ()


async def test_tallies_add_up_whoever_counts_and_are_gone_when_all_is_told(store: Store) -> None:
    one = Tally(host="a.test", telling=Telling.DIGEST, peer="bücher.test", kind=Kind.REPORT)
    for _ in range(2):
        await commit(store, Change(tallies=(one, one)))

    assert await load.tallies(store, "a.test", Telling.DIGEST) == (replace(one, count=4),)
    assert await load.tallies(store, "a.test", Telling.NOTICE) == ()

    await commit(store, Change(tallies=(replace(one, count=-3),)))
    assert await load.tallies(store, "a.test", Telling.DIGEST) == (one,)
    await commit(store, Change(tallies=(replace(one, count=-1),)))
    assert not await store.redis.exists(keys.tallies("a.test", Telling.DIGEST))


async def test_what_a_newer_release_tallies_stops_nobody_from_telling_the_rest(store: Store) -> None:
    one = Tally(host="a.test", telling=Telling.NOTICE, peer="b.test", kind=Kind.REPORT)
    await store.redis.hset(keys.tallies("a.test", Telling.NOTICE), "novelty b.test", "1")

    await commit(store, Change(tallies=(one,)))

    assert await load.tallies(store, "a.test", Telling.NOTICE) == (one,)


async def test_a_mark_moves_an_interaction_on_without_its_version_and_passes_over_a_missing_one(
    store: Store, make_interaction: MakeInteraction
) -> None:
    new = make_interaction()
    await commit(store, Change(puts=(Put(None, new),)))
    marks = [Mark(interaction_id=each, state=InteractionState.ANSWERED, at=NOON) for each in ("i1", "gone")]

    await commit(store, Change(marks=tuple(marks)))

    moved = replace(new, version=1, state=InteractionState.ANSWERED, state_at=NOON)
    assert await _only(store, keys.name_of(new)) == moved
    assert await _only(store, keys.interaction("gone")) is None


async def test_an_incident_leaves_the_indexes_it_no_longer_belongs_to(
    store: Store, make_incident: MakeIncident
) -> None:
    new = make_incident()
    await commit(store, Change(puts=(Put(None, new),)))
    before = replace(new, version=1)
    later = NOON + timedelta(seconds=1)

    await commit(
        store, Change(puts=(Put(before, replace(before, status=Status.RESOLVED, updated_at=later)),))
    )

    assert await load.page(store, keys.incidents_with_status(HOST, Status.NEW), limit=9) == []
    entry = [(new.id, keys.milliseconds(later))]
    assert await load.page(store, keys.incidents_with_status(HOST, Status.RESOLVED), limit=9) == entry
    assert await load.page(store, keys.incidents(HOST), limit=9) == entry


async def test_a_payload_is_remembered_once_and_can_be_forgotten(store: Store) -> None:
    remember = Remember(host=HOST, name="p:d", value="i1", ttl_seconds=60)
    await commit(store, Change(remembers=(remember,)))
    assert (await load.fetch(store, remembered=[(HOST, "p:d")])).remembered == {(HOST, "p:d"): "i1"}

    with pytest.raises(StaleError):
        await commit(store, Change(remembers=(remember,)))
    await commit(store, Change(forgets=(Forget(host=HOST, name="p:d"),)))

    assert (await load.fetch(store, remembered=[(HOST, "p:d")])).remembered == {(HOST, "p:d"): None}
    await commit(store, Change(remembers=(remember,)))


async def test_a_second_commit_under_one_webhook_id_gets_the_recorded_answer(
    store: Store, append: MakeAppend
) -> None:
    await commit(store, append("lane", "a"), once=Once("w1", b'{"results":[{}]}'))

    with pytest.raises(SeenError) as seen:
        await commit(store, append("lane", "b"), once=Once("w1", b"other"))

    assert seen.value.answer == b'{"results":[{}]}'
    assert (await load.fetch(store, once="w1")).once == b'{"results":[{}]}'
    [lease] = (await lanes.take(store, Queue.INCIDENTS, "d")).leases
    assert lease.items == (b'{"id":"a"}',)


async def test_the_same_commit_under_a_lease_is_refused_the_second_time(
    store: Store, append: MakeAppend
) -> None:
    await commit(store, append("lane", "a", "b"))
    [lease] = (await lanes.take(store, Queue.INCIDENTS, "d")).leases
    change = Change(counts=(("decided", "report"),))
    done = await commit(store, change, leases=[lease], keep=4)
    assert done.left == (0,)

    for keep in (None, 4):
        with pytest.raises(FencedError):
            await commit(store, change, leases=[lease], keep=keep)

    assert (await load.health(store)).counters == {("decided", "report"): 1}


async def test_events_are_numbered_per_host_without_gaps(store: Store) -> None:
    def event(host: str, name: str) -> Event:
        return Event(host=host, id=name, type="incident.reported", timestamp=NOON, data={"ü": name})

    await commit(store, Change(events=(event(HOST, "e1"), event("b.example", "f1"), event(HOST, "e2"))))
    await commit(store, Change(events=(event(HOST, "e3"),)))

    found = await load.events(store, HOST, after=1, limit=10)
    assert [(number, each["id"]) for number, each in found] == [(2, "e2"), (3, "e3")]
    assert found[0][1]["data"] == {"ü": "e2", "sequence": 2}
    assert [number for number, _ in await load.events(store, HOST, after=0, limit=2)] == [1, 2]
    assert len(await load.events(store, "b.example", after=0, limit=2)) == 1


async def test_a_bucket_vanishes_after_its_time(store: Store) -> None:
    bucket = Bucket(host=HOST, name="*", tokens=3.5, updated_at=NOON, ttl_seconds=7)

    await commit(store, Change(puts=(Put(None, bucket),)))

    assert await _only(store, keys.name_of(bucket)) == replace(bucket, version=1)
    assert 0 < await store.redis.ttl(keys.record_key(keys.name_of(bucket))) <= 7


async def test_a_change_that_puts_a_record_twice_is_a_mistake_of_ours(store: Store) -> None:
    peer = Peer(host=HOST, domain="peer.example")

    with pytest.raises(ValueError, match="twice"):
        await commit(store, Change(puts=(Put(None, peer), Put(None, replace(peer, received=1)))))


async def test_a_store_that_forgets_a_script_as_soon_as_it_has_it_is_away_and_no_bug(store: Store) -> None:
    """As one that dies again and again, because its disk is full."""
    met = asyncio.Event()

    async def forget() -> None:
        while not met.is_set():
            await store.redis.script_flush()

    async def need() -> None:
        async with asyncio.timeout(30):
            while not met.is_set():
                try:
                    await run(store, Script.HEALTH)
                except UnavailableError:
                    met.set()

    await asyncio.gather(*(forget() for _ in range(4)), need())
