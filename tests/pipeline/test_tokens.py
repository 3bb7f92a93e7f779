"""API tokens on a real store: found while they are good, by nothing but themselves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.errors import ConfigError, MalformedError
from bridge.pipeline import tokens
from bridge.pipeline.actors import Actor
from bridge.policy.record import Scope, Token
from bridge.store import load
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
