"""`lists`: what is published, listed by hand, withheld."""

from tests.cli.conftest import HOST, Run, World


def test_an_address_is_listed_shown_withheld_and_taken_back(
    run: Run, world: World, configuration: str
) -> None:
    words = ("lists", "add", "Eve@bad.test", "--days", "3", "--reason", "sold\x1b[31m pills")
    done = run(*words, config=configuration)
    assert done.code == 0, done.messages
    assert f"eve@bad.test is on the list of {HOST}" in done.out
    assert "publish_lists = true" in done.messages

    shown = run("lists", "show", config=configuration)
    assert "eve@bad.test" in shown.out
    assert "listed by hand" in shown.out
    run("lists", "withhold", "bad.test", "--reason", "sold\x1b[31m pills", config=configuration)
    shown = run("lists", "show", config=configuration)
    assert "eve@bad.test" not in shown.out
    assert "Withheld: bad.test" in shown.messages
    assert "\x1b" not in shown.messages

    assert run("lists", "remove", "bad.test", config=configuration).code == 0
    [one] = run("lists", "show", "--json", config=configuration).json()["lists"]
    assert [entry["address"] for entry in one["entries"]] == ["eve@bad.test"]
    assert (one["host"], one["is_published"], one["withheld"]) == (HOST, False, [])
    assert run("lists", "remove", "bad.test", config=configuration).code == 2


def test_a_host_that_publishes_says_where(run: Run, world: World, configuration: str) -> None:
    shown = run("lists", "show", config=configuration + "publish_lists = true\n")
    assert shown.messages.endswith(f"Published: http://127.0.0.1:8268/lists/{HOST}/domains.txt\n")


def test_own_names_are_never_listed_and_protected_ones_on_a_second_yes(
    run: Run, world: World, configuration: str
) -> None:
    configuration += '[policy]\nprotected = ["friend.test"]\n'
    assert run("lists", "add", HOST, config=configuration).code == 2
    refused = run("lists", "add", "friend.test", config=configuration)
    assert refused.code == 2
    assert "--yes-protected" in refused.messages
    assert run("lists", "add", "friend.test", "--yes-protected", config=configuration).code == 0
    assert run("lists", "add", "x.test", "--incident", "none", config=configuration).code == 1
