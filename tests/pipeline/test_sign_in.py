"""Signing in on a real store; Prosody is one that says who its admins are and keeps what it was given to tell."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from bridge.config import HostSettings
from bridge.errors import UnavailableError
from bridge.pipeline import sign_in
from bridge.pipeline.actors import Actor
from bridge.policy.change import Queue
from bridge.policy.sessions import Role, Session, SignIn
from bridge.store import keys, load
from bridge.store.commit import commit, finished
from bridge.store.connect import Store
from bridge.store.lanes import take
from bridge.webhooks.signature import decode_secret

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECRETS = {"a.test": "whsec_" + "QUJD" * 10, "b.test": "whsec_" + "REVG" * 10}
KEYS = {host: [decode_secret(secret)] for host, secret in SECRETS.items()}
HOSTS = {host: HostSettings(secrets=(SecretStr(secret),)) for host, secret in SECRETS.items()}


@dataclass
class Prosody:
    """Names its admins, and takes what they are to be told."""

    admins: dict[str, list[str]]
    away: tuple[str, ...] = ()
    told: list[tuple[str, tuple[str, ...], str, str]] = field(default_factory=list)

    async def describe(self, host: str) -> dict[str, Any]:
        if host in self.away:
            raise UnavailableError("away")
        return {"admins": self.admins.get(host, [])}

    async def notify(self, host: str, text: str, *, webhook_id: str, to: tuple[str, ...] = ()) -> list[str]:
        self.told.append((host, to, text[:6], webhook_id))
        return list(to)


async def work(store: Store, prosody: Prosody, *, now: datetime = NOON) -> None:
    """Do what a worker does with the lanes that wait."""
    for lease in (await take(store, Queue.OUTGOING, "test")).leases:
        assert lease.lane.startswith("sign-in:")
        sent = await sign_in.send_code(store, prosody, lease.items, hosts=HOSTS, now=now)  # type: ignore[arg-type]
        await commit(store, sent.change, leases=[finished(lease, lease.items[: sent.count])])


async def ask(store: Store, who: str = "romeo@a.test") -> SignIn:
    return await sign_in.ask(store, who, browser="cookie", origin="192.0.2.1", now=NOON)


async def enter(store: Store, asked: SignIn, code: str, **more: Any) -> tuple[Session, str] | None:
    arguments = {"browser": "cookie", "now": NOON, "keys_by_host": KEYS} | more
    return await sign_in.enter(store, asked.id, typed=code, **arguments)


async def test_an_admin_of_two_hosts_gets_one_code_and_a_session_for_both(store: Store) -> None:
    prosody = Prosody({"a.test": ["romeo@b.test"], "b.test": ["romeo@b.test", "nurse@b.test"]})
    asked = await ask(store, "romeo@b.test")
    await work(store, prosody)

    [(host, to, code, webhook_id)] = prosody.told
    assert (host, to, webhook_id) == ("b.test", ("romeo@b.test",), f"c-{asked.id}")
    begun = await enter(store, asked, code)
    assert begun is not None
    session, secret = begun
    assert session.hosts == {"a.test": Role.APPROVER, "b.test": Role.APPROVER}
    assert await sign_in.find(store, session.id, secret, now=NOON) == (await found(store, session.id))
    assert await sign_in.find(store, session.id, secret + "x", now=NOON) is None
    assert await enter(store, asked, code) is None


@pytest.mark.parametrize("who", ["romeo@b.test", "romeo@elsewhere.test"])
async def test_who_holds_the_secret_of_one_host_makes_no_code_for_two(store: Store, who: str) -> None:
    prosody = Prosody({"a.test": [who], "b.test": [who]})
    asked = await ask(store, who)
    await work(store, prosody)

    for hosts in (["a.test"], ["b.test"]):
        (alone,) = sign_in.rules.mixed(KEYS, hosts)
        for key in (alone, *KEYS[hosts[0]]):
            assert await enter(store, asked, sign_in.rules.code(key, asked)) is None
    assert await enter(store, asked, prosody.told[0][2]) is not None


async def test_a_code_is_right_although_secrets_were_changed_since(store: Store) -> None:
    prosody = Prosody({"a.test": ["romeo@b.test"], "b.test": ["romeo@b.test"]})
    asked = await ask(store, "romeo@b.test")
    await work(store, prosody)
    newer = KEYS | {"b.test": [b"n" * 32, *KEYS["b.test"]]}
    assert await enter(store, asked, prosody.told[0][2], keys_by_host=newer) is not None


async def found(store: Store, session_id: str) -> Session:
    name = keys.session(session_id)
    one = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(one, Session)
    return one


async def test_nobody_else_is_sent_anything_and_no_code_is_right_for_them(store: Store) -> None:
    prosody = Prosody({"a.test": ["juliet@a.test"]})
    asked = await ask(store)
    await work(store, prosody)

    assert prosody.told == []
    for key in [key for each in KEYS.values() for key in each]:
        assert await enter(store, asked, sign_in.rules.code(key, asked)) is None


async def test_a_code_is_right_in_the_browser_that_asked_and_in_time(store: Store) -> None:
    prosody = Prosody({"a.test": ["romeo@a.test"]})
    asked = await ask(store)
    await work(store, prosody)
    code = prosody.told[0][2]

    assert await enter(store, asked, code, browser="another") is None
    assert await enter(store, asked, code, now=NOON + timedelta(minutes=5)) is None
    assert await enter(store, asked, code) is not None


async def test_tries_at_the_same_time_are_counted_each(store: Store) -> None:
    prosody = Prosody({"a.test": ["romeo@a.test"]})
    asked = await ask(store)
    await work(store, prosody)
    code = prosody.told[0][2]
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"

    await asyncio.gather(*(enter(store, asked, wrong) for _ in range(8)))

    assert await enter(store, asked, code) is None


async def test_while_one_prosody_is_away_the_others_admins_get_in_for_theirs(store: Store) -> None:
    prosody = Prosody({"a.test": ["romeo@a.test"]}, away=("b.test",))
    asked = await ask(store)
    await work(store, prosody)

    begun = await enter(store, asked, prosody.told[0][2])
    assert begun is not None
    assert begun[0].hosts == {"a.test": Role.APPROVER}


async def test_while_every_prosody_is_away_it_is_tried_again_as_long_as_the_code_would_be_good(
    store: Store,
) -> None:
    asked = await ask(store)
    away = Prosody({}, away=("a.test", "b.test"))
    items = [json.dumps({"id": asked.id}).encode()]
    with pytest.raises(UnavailableError):
        await sign_in.send_code(store, away, items, hosts=HOSTS, now=NOON)  # type: ignore[arg-type]

    late = NOON + timedelta(minutes=5)
    sent = await sign_in.send_code(store, away, items, hosts=HOSTS, now=late)  # type: ignore[arg-type]
    assert sent.count == 1


async def test_a_worker_that_dies_after_sending_sends_the_same_code_under_the_same_id(store: Store) -> None:
    prosody = Prosody({"a.test": ["romeo@a.test"]})
    asked = await ask(store)
    items = [json.dumps({"id": asked.id}).encode()]
    for _ in range(2):
        await sign_in.send_code(store, prosody, items, hosts=HOSTS, now=NOON)  # type: ignore[arg-type]

    assert prosody.told[0] == prosody.told[1]


async def test_too_many_codes_are_refused_before_anything_is_queued(store: Store) -> None:
    for _ in range(3):
        await ask(store)
    with pytest.raises(sign_in.TooOftenError) as refused:
        await ask(store)
    assert refused.value.seconds == 600
    assert len((await take(store, Queue.OUTGOING, "test")).leases) == 3


async def test_of_two_who_follow_a_link_at_once_one_gets_in(store: Store) -> None:
    _, word = await sign_in.make_link(store, "cli:root", {"a.test": Role.VIEWER}, now=NOON)
    both = await asyncio.gather(
        *(sign_in.follow_link(store, word, origin="192.0.2.1", now=NOON) for _ in range(2))
    )
    assert sorted(one is not None for one in both) == [False, True]


async def test_a_link_is_good_for_five_minutes_and_only_whole(store: Store) -> None:
    _, word = await sign_in.make_link(store, "cli:root", {"a.test": Role.VIEWER}, now=NOON)
    late = NOON + timedelta(minutes=5)
    for other in (word[:-1], word.partition(".")[0], "", ".", "x.y"):
        assert await sign_in.follow_link(store, other, origin="", now=NOON) is None
    assert await sign_in.follow_link(store, word, origin="", now=late) is None
    assert await sign_in.follow_link(store, word, origin="", now=NOON) is not None


async def test_a_link_is_no_code_and_a_code_no_link(store: Store) -> None:
    link, word = await sign_in.make_link(store, "cli:root", {"a.test": Role.APPROVER}, now=NOON)
    assert await enter(store, link, "123456", browser=word.partition(".")[2]) is None
    asked = await ask(store)
    assert await sign_in.follow_link(store, f"{asked.id}.cookie", origin="", now=NOON) is None


async def begin(store: Store, *, now: datetime = NOON) -> tuple[Session, str]:
    _, word = await sign_in.make_link(store, "cli:root", {"a.test": Role.APPROVER}, now=now)
    begun = await sign_in.follow_link(store, word, origin="192.0.2.1", now=now)
    assert begun is not None
    return begun


async def test_what_is_stored_signs_nobody_in(store: Store) -> None:
    session, secret = await begin(store)
    dump = [await store.redis.hgetall(key) async for key in store.redis.scan_iter("ib:r:*")]
    assert secret.encode() not in b"".join(value for each in dump for value in each.values())
    assert await sign_in.find(store, session.id, session.digest, now=NOON) is None


async def test_a_session_ends_when_it_is_ended_and_both_stand_in_the_audit_log(store: Store) -> None:
    session, secret = await begin(store)
    await sign_in.end(store, session, by=Actor("romeo@a.test", "192.0.2.9"), now=NOON)

    assert await sign_in.find(store, session.id, secret, now=NOON) is None
    entries = [entry for _, entry in await load.audits(store, "a.test", limit=10)]
    assert [(one["action"], one["actor"], one["origin"]) for one in entries] == [
        ("session.end", "romeo@a.test", "192.0.2.9"),
        ("session.begin", "cli:root", "192.0.2.1"),
    ]


async def test_sessions_that_ended_by_themselves_are_deleted_by_the_next_that_begins(store: Store) -> None:
    old, _ = await begin(store)
    later = NOON + timedelta(days=8)
    new, secret = await begin(store, now=later)

    name = keys.session(old.id)
    assert (await load.fetch(store, names=[name])).records[name] is None
    assert [one.id for one in (await sign_in.sessions(store, now=later))[0]] == [new.id]
    await sign_in.touch(store, await found(store, new.id), now=later + timedelta(hours=1))
    assert (await found(store, new.id)).seen_at == later + timedelta(hours=1)
    assert await sign_in.find(store, new.id, secret, now=later + timedelta(hours=12)) is not None


async def test_sessions_are_listed_a_page_at_a_time(store: Store) -> None:
    begun = [(await begin(store, now=NOON + timedelta(minutes=n)))[0].id for n in range(5)]
    seen: list[str] = []
    before = None
    while before is not None or not seen:
        some, before = await sign_in.sessions(store, now=NOON, limit=2, before=before)
        seen += [one.id for one in some]
    assert seen == begun[::-1]


async def test_who_is_no_longer_an_admin_loses_the_session_that_is_in_use(store: Store) -> None:
    who = "romeo@b.test"
    prosody = Prosody({"a.test": [who], "b.test": [who]})
    asked = await ask(store, who)
    await work(store, prosody)
    begun = await enter(store, asked, prosody.told[0][2])
    assert begun is not None
    session, now = begun[0], NOON

    async def use() -> None:
        nonlocal now
        now += timedelta(minutes=6)
        await sign_in.touch(store, await found(store, session.id), now=now)
        await work(store, prosody, now=now)

    await use()
    assert (await found(store, session.id)).hosts == session.hosts
    prosody.admins["a.test"] = []
    prosody.away = ("a.test", "b.test")
    await use()
    assert (await found(store, session.id)).hosts == session.hosts
    prosody.away = ()
    await use()
    assert (await found(store, session.id)).hosts == {"b.test": Role.APPROVER}
    prosody.admins["b.test"] = ["nurse@b.test"]
    await use()
    assert await sign_in.session_of(store, session.id) is None
    for host in ("a.test", "b.test"):
        (_, ended), *_ = await load.audits(store, host, limit=10)
        assert (ended["action"], ended["actor"]) == ("session.end", "bridge")
        assert ended["detail"] == "romeo@b.test: no longer an admin"


async def test_a_session_by_a_link_is_no_prosodys_business(store: Store) -> None:
    session, _ = await begin(store)
    await sign_in.touch(store, session, now=NOON + timedelta(minutes=6))
    assert (await take(store, Queue.OUTGOING, "test")).leases == ()
