"""What is found, in which order, and what a reader of another release makes of it."""

import hashlib
import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.policy.change import Change, Put
from bridge.policy.record import Bucket, Incident, Interaction, Peer, Quarantine
from bridge.policy.trust import Trust
from bridge.store import codec, keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.store.rebuild import named_by, rebuild_indexes
from bridge.xep0268.model import Status

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOST = "host.example"
ROOT = Path(__file__).parents[2]
MakeIncident = Callable[..., Incident]
MakeInteraction = Callable[..., Interaction]


async def test_pages_are_newest_first_and_steady_while_things_come_and_go(
    store: Store, make_incident: MakeIncident
) -> None:
    made = [make_incident(str(n), updated_at=NOON + timedelta(seconds=n // 5)) for n in range(23)]
    await commit(store, Change(puts=tuple(Put(None, each) for each in made[:22])))
    index = keys.incidents(HOST)
    found = await load.page(store, index, limit=4)

    await commit(store, Change(puts=(Put(None, made[22]),)))
    while more := await load.page(store, index, limit=4, before=(found[-1][1], found[-1][0])):
        found += more

    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert sorted(member for member, _ in found) == sorted(each.id for each in made[:22])


async def test_indexes_can_be_built_anew_from_the_records(
    store: Store, make_incident: MakeIncident, make_interaction: MakeInteraction
) -> None:
    puts = [make_incident(), make_incident("2", quarantined=True), make_interaction()]
    puts += [Peer(host=HOST, domain="peer.example", trust=Trust.TRUSTED), Quarantine(host=HOST)]
    await commit(store, Change(puts=tuple(Put(None, each) for each in puts)))

    async def indexes() -> dict[bytes, list[tuple[bytes, float]]]:
        names = sorted(await store.redis.keys("ib:i:*"))
        return {name: await store.redis.zrange(name, 0, -1, withscores=True) for name in names}

    before = await indexes()
    await store.redis.delete(keys.incidents(HOST))
    await store.redis.zadd(keys.peers(HOST), {"nobody.example": 5})
    await store.redis.zadd(keys.incidents("elsewhere.example"), {"x": 1})

    assert await rebuild_indexes(store) == 5

    assert await indexes() == before


def test_the_record_behind_every_index_is_known(
    make_incident: MakeIncident, make_interaction: MakeInteraction
) -> None:
    peer = Peer(host="a:b%.example", domain="peer.example", trust=Trust.TRUSTED, is_forwarded_to=True)
    incidents = [make_incident(sources=("x@y.example",)), make_incident(quarantined=True)]
    for record in (*incidents, make_interaction(quarantined=True), peer):
        for index, (member, _) in keys.index_entries(record).items():
            assert named_by(index, member) == keys.name_of(record)


class Meddler:
    """A connection pool with somebody who does something just before a transaction is carried out, each time."""

    def __init__(self, redis: Any, meddle: Callable[[], Awaitable[None]]) -> None:
        self.redis = redis
        self.meddle = meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self.redis, name)

    def pipeline(self, *, transaction: bool) -> Any:
        pipe = self.redis.pipeline(transaction=transaction)
        execute = pipe.execute

        async def execute_late() -> Any:
            await self.meddle()
            return await execute()

        if transaction:
            pipe.execute = execute_late
        return pipe


async def test_indexes_can_be_built_anew_while_others_write(
    store: Store, make_incident: MakeIncident
) -> None:
    made, gone = make_incident(), make_incident("2")
    await commit(store, Change(puts=(Put(None, made), Put(None, gone))))
    new, resolved = (keys.incidents_with_status(HOST, one) for one in (Status.NEW, Status.RESOLVED))
    await store.redis.zadd(new, {"wrong": 1})
    statuses = [Status.RESOLVED, Status.NEW, Status.RESOLVED]

    async def meddle() -> None:
        if not statuses:
            return
        records = (await load.fetch(store, names=[keys.name_of(made), keys.name_of(gone)])).records
        known, other = records.values()
        assert isinstance(known, Incident)
        puts = (Put(known, replace(known, status=statuses.pop(0))),)
        await commit(store, Change(puts=puts, drops=(other,) if other else ()))

    await rebuild_indexes(replace(store, redis=Meddler(store.redis, meddle)))  # type: ignore[arg-type]

    assert statuses == []
    assert await load.page(store, new, limit=9) == []
    assert [member for member, _ in await load.page(store, resolved, limit=9)] == [made.id]


async def test_everybodys_account_of_an_incident_is_found_under_its_text(
    store: Store, make_incident: MakeIncident
) -> None:
    accounts = [make_incident(reporter=each) for each in ("peer.example", "other.example")]
    await commit(store, Change(puts=tuple(Put(None, each) for each in accounts)))

    found = await load.page(store, keys.texts(HOST, accounts[0].identity.text), limit=9)
    assert {member for member, _ in found} == {each.id for each in accounts}


def _stored(record: Bucket, **changes: bytes | str | int) -> dict[str, bytes]:
    fields = codec.fields(record, kind="bucket", version=3) | changes
    return {
        name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()
    }


BUCKET = Bucket(host=HOST, name="*", tokens=1.5, updated_at=NOON, ttl_seconds=60)


def test_a_field_of_a_newer_release_is_passed_over() -> None:
    body = json.loads(codec.unpack(_stored(BUCKET)["d"])) | {"colour": "blue"}

    newer = _stored(BUCKET, d=codec.pack(json.dumps(body).encode()))

    assert codec.decode("bucket", newer) == replace(BUCKET, version=3)


def test_a_newer_format_is_refused_with_what_to_do() -> None:
    newer = _stored(BUCKET, d=b"\x02" + zlib.compress(b"{}"))

    with pytest.raises(ConfigError, match="format 2, this release reads up to 1: install the release"):
        codec.decode("bucket", newer)


def test_the_words_of_a_format_never_change() -> None:
    words = (ROOT / "bridge/store/dictionary.txt").read_bytes()
    assert hashlib.sha256(words).hexdigest()[:16] == "e4244fce984d9e6c"


@given(st.binary(max_size=3000))
def test_what_is_packed_comes_out_again(text: bytes) -> None:
    assert codec.unpack(codec.pack(text)) == text


names = st.text(max_size=30)


@given(names, names, names, names)
@settings(max_examples=200)
def test_no_names_share_a_key_unless_they_are_equal(a: str, b: str, c: str, d: str) -> None:
    assert (keys.record_key(keys.peer(a, b)) == keys.record_key(keys.peer(c, d))) == ((a, b) == (c, d))
    assert (keys.remembered(a, b) == keys.remembered(c, d)) == ((a, b) == (c, d))
    assert keys.record_name(keys.record_key(keys.bucket(a, b))) == keys.bucket(a, b)


async def test_what_is_not_there_is_none(store: Store) -> None:
    found = await load.fetch(store, names=[keys.quarantine(HOST)], remembered=[(HOST, "x")], once="w")

    assert found == load.Fetched(
        records={keys.quarantine(HOST): None}, remembered={(HOST, "x"): None}, once=None
    )
