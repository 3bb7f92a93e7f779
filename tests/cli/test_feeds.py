"""`feeds`: lists of others at the terminal."""

import asyncio
from typing import Any

import pytest

from bridge.pipeline.abuse import Hearing, hear
from bridge.store.connect import close, open_store
from bridge.store.embedded import EmbeddedServer
from tests.cli.conftest import HOST, NOON, Run, World
from tests.pipeline.test_abuse import Rules, report
from tests.pipeline.test_feeds import Web, feeds, read

ONE, TWO = "https://one.example/list.txt", "https://two.example/list.txt"


@pytest.fixture
def served(server: EmbeddedServer) -> Any:
    """Has what is subscribed to read, as a worker does: `served({url: text})`, or with an error for all."""

    def serve(pages: dict[str, str], error: str = "") -> None:
        async def story() -> None:
            store = await open_store(server.url)
            try:
                for one in await feeds.listed(store, HOST):
                    await read(store, Web(pages, error), one, at=NOON)
            finally:
                await close(store)

        asyncio.run(story())

    return serve


def test_lists_are_subscribed_to_shown_with_their_trouble_and_removed(
    run: Run, world: World, configuration: str, served: Any
) -> None:
    done = run("feeds", "list", config=configuration)
    assert "feeds add" in done.messages
    done = run("feeds", "add", ONE, config=configuration)
    assert done.code == 0, done.messages
    assert "not read yet" in done.out
    assert run("feeds", "add", ONE, "--wait", "1", config=configuration).code == 1  # no worker runs here
    assert run("feeds", "add", TWO, config=configuration).code == 0
    served({ONE: "bad.test\nx y\n"})
    done = run("feeds", "list", config=configuration)
    assert "1 name, 1 line that are none" in done.out
    assert "cannot be read: it answered 404" in done.out
    found = run("feeds", "list", "--json", config=configuration).json()["feeds"]
    assert [(one["url"], one["names"]) for one in found] == [(ONE, 1), (TWO, 0)]

    done = run("feeds", "add", ONE, "--publisher", "Alice", "--json", config=configuration)
    assert done.json()["publisher"] == "alice"
    assert "alice" in run("feeds", "list", config=configuration).out
    assert run("feeds", "remove", "none", config=configuration).code == 1
    assert run("feeds", "remove", TWO, config=configuration).code == 0
    assert run("feeds", "remove", found[0]["id"][:5], config=configuration).code == 0
    assert run("feeds", "list", "--json", config=configuration).json() == {"feeds": []}


@pytest.mark.parametrize(
    "url", ["one.example", "http://one.example/", f"xmpp:muc.{HOST}?;node=x", "xmpp:x.test"]
)
def test_what_is_no_list_of_others_is_wrong_usage(
    run: Run, world: World, configuration: str, url: str
) -> None:
    done = run("feeds", "add", url, config=configuration)
    assert (done.code, run("feeds", "list", "--json", config=configuration).json()) == (2, {"feeds": []})


def test_what_enough_lists_name_is_proposed_and_a_yes_blocks_it(
    run: Run, world: World, configuration: str, served: Any
) -> None:
    for url in (ONE, TWO):
        run("feeds", "add", url, config=configuration)
    served({ONE: "bad.test\nworse.test\neve\u202e@x.test", TWO: "bad.test"})
    done = run("feeds", "proposals", config=configuration)
    assert done.code == 0
    assert "2 of 2" in done.out
    assert "worse.test" not in done.out
    assert "1 domain more by fewer publishers" in done.messages
    what = run("feeds", "proposals", "--quorum", "1", "--json", config=configuration).json()
    assert [(one["domain"], len(one["by"])) for one in what["proposals"]] == [
        ("bad.test", 2),
        ("worse.test", 1),
    ]
    assert run("feeds", "find", "eve@bad.test", config=configuration).out.count("since") == 2
    assert run("feeds", "find", "good.test", config=configuration).code == 1

    done = run("feeds", "block", "bad.test", "--days", "3", config=configuration)
    assert done.code == 0, done.messages
    [made] = run("mitigations", "list", "--json", config=configuration).json()["mitigations"]
    assert made["feeds"] == [ONE, TWO]
    assert TWO in run("mitigations", "show", made["id"], config=configuration).out
    assert TWO in run("approvals", "show", made["approval_id"], config=configuration).out
    assert run("feeds", "proposals", config=configuration).code == 1
    assert "blocked" in run("feeds", "proposals", "--all", config=configuration).out
    assert run("feeds", "block", "bad.test", config=configuration).code == 2
    assert run("feeds", "block", "unnamed.test", config=configuration).code == 2

    served({ONE: "worse.test", TWO: "worse.test"})
    done = run("feeds", "proposals", config=configuration)
    assert "bad.test is blocked because lists named it, and only 0 still do" in done.messages
    assert "mitigations lift" in done.messages


def test_what_is_withheld_is_proposed_no_more(
    run: Run, world: World, configuration: str, served: Any
) -> None:
    run("feeds", "add", ONE, config=configuration)
    served({ONE: "friend.test"})
    run("lists", "withhold", "friend.test", config=configuration)
    assert run("feeds", "proposals", "--quorum", "1", config=configuration).code == 1
    assert "withheld" in run("feeds", "proposals", "--quorum", "1", "--all", config=configuration).out
    assert run("feeds", "block", "friend.test", config=configuration).code == 2


def test_a_protected_name_needs_a_second_yes(run: Run, world: World, configuration: str, served: Any) -> None:
    configuration += '[policy]\nprotected = ["friend.test"]\n'
    run("feeds", "add", ONE, config=configuration)
    served({ONE: "friend.test"})
    refused = run("feeds", "block", "friend.test", config=configuration)
    assert (refused.code, "protected" in refused.messages) == (2, True)
    assert run("feeds", "block", "friend.test", "--yes-protected", config=configuration).code == 0


def test_what_users_report_is_shown_with_the_lists_that_name_it(
    run: Run, world: World, configuration: str, served: Any, server: EmbeddedServer
) -> None:
    async def users() -> None:
        store = await open_store(server.url)
        hearing = Hearing(host=HOST, rules=Rules(), key=b"k" * 32)
        await hear(store, hearing, [report(jid="eve@bad.test")], webhook_id="w", now=NOON)
        await close(store)

    asyncio.run(users())
    run("feeds", "add", ONE, config=configuration)
    served({ONE: "bad.test"})
    shown = run("abuse", "show", "bad.test", config=configuration)
    assert "eve@bad.test: 1 report, 1 may be passed on, named by 1 list" in shown.out
    assert ONE in shown.out
    named = run("--json", "abuse", "show", "bad.test", config=configuration).json()["named_by"]
    assert [one["url"] for one in named["bad.test"]] == [ONE]
    [one] = run("feeds", "proposals", "--quorum", "1", "--json", config=configuration).json()["proposals"]
    assert one["reports"] == 1
