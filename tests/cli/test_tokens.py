"""`tokens` on a real store."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.pipeline import tokens
from bridge.policy.consumers import Token
from bridge.store.connect import close, open_store
from bridge.store.embedded import EmbeddedServer
from tests.cli.conftest import HOST


def found(url: str, text: str) -> Token | None:
    async def find() -> Token | None:
        store = await open_store(url)
        try:
            return await tokens.find(store, text, now=datetime.now(UTC))
        finally:
            await close(store)

    return asyncio.run(find())


def test_a_token_is_printed_once_and_works_until_it_is_revoked(
    run: Any, configuration: str, world: Any, server: EmbeddedServer
) -> None:
    created = run(
        *("--json", "tokens", "create", "mail", "--scope", "read", "--scope", "write", "--host", HOST),
        *("--expires-days", "30"),
        config=configuration,
    )
    made = created.json()
    before = found(server.url, made["token"])
    listed = run("tokens", "list", config=configuration)
    plain = run("--json", "tokens", "list", config=configuration)
    revoked = run("tokens", "revoke", "mail", config=configuration)

    assert created.code == 0
    assert before is not None
    assert (before.scopes, before.hosts) == (("read", "write"), (HOST,))
    assert "good until" in listed.out
    for printed in (listed, plain, revoked):
        assert made["token"].split("_", 2)[2] not in printed.out + printed.messages
        assert "digest" not in printed.out
    assert found(server.url, made["token"]) is None
    assert "revoked" in run("tokens", "list", config=configuration).out


def test_for_people_the_token_stands_on_a_line_of_its_own(
    run: Any, configuration: str, world: Any, server: EmbeddedServer
) -> None:
    printed = run("tokens", "create", "mail", "--scope", "admin", config=configuration)

    words = dict(line.split() for line in printed.out.splitlines())
    token = found(server.url, words["token"])
    assert token is not None
    assert (token.id, token.hosts, token.expires_at) == (words["id"], (), None)
    assert "Authorization: Bearer" in printed.messages


@pytest.mark.parametrize(
    "words",
    [
        ("create", "mail"),
        ("create", "mail", "--scope", "root"),
        ("create", "mail", "--scope", "read", "--host", "other.example"),
        ("create", "mail", "--scope", "read", "--expires-days", "0"),
        ("create", " ", "--scope", "read"),
        ("revoke", "ib_abc_def"),
    ],
)
def test_what_cannot_be_is_wrong_usage(
    run: Any, configuration: str, world: Any, words: tuple[str, ...]
) -> None:
    assert run("tokens", *words, config=configuration).code == 2


def test_a_name_is_taken_once_and_one_that_is_not_there_is_a_no(
    run: Any, configuration: str, world: Any
) -> None:
    words = ("tokens", "create", "mail", "--scope", "read")
    first, second = (run(*words, config=configuration) for _ in range(2))

    assert (first.code, second.code) == (0, 2)
    assert "exists" in second.messages
    assert run("tokens", "revoke", "nobody", config=configuration).code == 1
