"""API tokens on a real store: found while they are good, by nothing but themselves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.errors import ConfigError, MalformedError
from bridge.pipeline import tokens
from bridge.pipeline.actors import Actor
from bridge.pipeline.endpoints import EndpointDraft, Permitted, add
from bridge.pipeline.sign_in import follow_link, make_link
from bridge.policy.consumers import Scope, Token
from bridge.policy.sessions import Role
from bridge.store import load
from bridge.store.codec import FORMAT, unpack
from bridge.store.connect import Store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADMIN = Actor("cli:admin")


async def create(store: Store, name: str = "mail", **more: Any) -> tuple[Token, str]:
    arguments = {"scopes": [Scope.READ], "hosts": [], "expires_at": None, **more}
    return await tokens.create(store, name=name, actor=ADMIN, now=NOON, **arguments)


async def test_a_token_is_found_by_its_text_and_its_text_is_not_stored(store: Store) -> None:
    token, text = await create(store, scopes=[Scope.WRITE, Scope.READ], hosts=["im.example"])

    assert await tokens.find(store, text, now=NOON) == token
    assert (token.scopes, token.hosts) == ((Scope.READ, Scope.WRITE), ("im.example",))
    assert text.startswith(f"ib_{token.id}_")
    secret = text.split("_", 2)[2]
    for key in await store.redis.keys("*"):
        if await store.redis.type(key) == b"hash":
            assert all(secret.encode() not in value for value in (await store.redis.hgetall(key)).values())
    assert secret not in repr(token)


async def dump(store: Store) -> bytes:
    """All that is in the store, unpacked."""
    found: list[bytes] = []
    for key in await store.redis.keys("*"):
        match await store.redis.type(key):
            case b"hash":
                found += (await store.redis.hgetall(key)).values()
            case b"string":
                found.append(await store.redis.get(key))
            case b"list":
                found += await store.redis.lrange(key, 0, -1)
            case b"stream":
                found += [value for _, fields in await store.redis.xrange(key) for value in fields.values()]
            case b"zset":
                found += await store.redis.zrange(key, 0, -1)
        found.append(key)
    return b"\n".join(unpack(one) if one[:1] == bytes((FORMAT,)) else one for one in found)


async def test_who_steals_the_store_finds_endpoints_secrets_and_no_way_in(store: Store) -> None:
    _, text = await create(store)
    _, word = await make_link(store, "cli:root", {"a.test": Role.APPROVER}, now=NOON)
    begun = await follow_link(store, word, origin="192.0.2.1", now=NOON)
    _, unused = await make_link(store, "cli:root", {"a.test": Role.APPROVER}, now=NOON)
    draft = EndpointDraft(
        url="https://consumer.example/in", hosts=("a.test",), headers={"X-Key": "header-value"}
    )
    endpoint = await add(store, draft, actor=ADMIN, now=NOON, permitted=Permitted(hosts=["a.test"]))

    found = await dump(store)

    assert begun is not None
    for secret in (text.split("_", 2)[2], word, unused, begun[1]):
        assert secret.rpartition(".")[2].encode() not in found
    assert endpoint.secret.encode() in found, "deliveries are signed with it: README says so"
    assert b"header-value" in found, "it is sent along: README says so"


async def test_every_other_text_finds_nothing(store: Store) -> None:
    token, text = await create(store)
    others = [
        "",
        "ib",
        "ib_",
        f"ib_{token.id}",
        f"ib_{token.id}_",
        text[:-1],
        text + "x",
        text.upper(),
        text.replace("ib_", "xx_"),
        f"ib_{'a' * 16}_{text.split('_', 2)[2]}",
        "ib_é_\udcff",
        "ib_" + "x" * 100_000,
        "ib_a:b_c",
    ]

    assert [await tokens.find(store, other, now=NOON) for other in others] == [None] * len(others)


async def test_a_revoked_token_is_good_for_nothing(store: Store) -> None:
    token, text = await create(store)

    revoked = await tokens.revoke(store, token, actor=ADMIN, now=NOON)
    again = await tokens.revoke(store, token, actor=ADMIN, now=NOON + timedelta(days=1))

    assert (revoked.revoked_at, again) == (NOON, revoked)
    assert await tokens.find(store, text, now=NOON) is None
    entries = [entry["action"] for _, entry in await load.audits(store, "", limit=9)]
    assert entries == ["token.revoke", "token.create"]


async def test_an_expired_token_is_good_for_nothing(store: Store) -> None:
    token, text = await create(store, expires_at=NOON + timedelta(days=1))

    assert await tokens.find(store, text, now=NOON + timedelta(hours=23)) == token
    assert await tokens.find(store, text, now=NOON + timedelta(days=1)) is None


async def test_names_of_working_tokens_are_taken_once(store: Store) -> None:
    token, _ = await create(store)

    with pytest.raises(ConfigError, match="exists"):
        await create(store)
    await tokens.revoke(store, token, actor=ADMIN, now=NOON)
    second, _ = await create(store)

    assert [one.id for one in await tokens.all_tokens(store)].count(second.id) == 1
    assert len(await tokens.all_tokens(store)) == 2


async def test_what_ended_a_month_ago_is_forgotten_with_the_next_token(store: Store) -> None:
    await create(store, "a", expires_at=NOON + timedelta(days=1))
    revoked, _ = await create(store, "b")
    await tokens.revoke(store, revoked, actor=ADMIN, now=NOON + timedelta(days=2))

    later = NOON + timedelta(days=31, hours=1)
    await tokens.create(
        store, name="c", scopes=[Scope.READ], hosts=[], expires_at=None, actor=ADMIN, now=later
    )

    assert {one.name for one in await tokens.all_tokens(store)} == {"b", "c"}


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\x1b[2J"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"expires_at": NOON}, "expires_at"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(store: Store, wrong: Any, path: str) -> None:
    with pytest.raises(MalformedError) as caught:
        await create(store, **wrong)

    assert caught.value.path == path
    assert await tokens.all_tokens(store) == []
