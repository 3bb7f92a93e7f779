"""`lists`: what is published, listed by hand, withheld."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

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
    assert "Withheld: bad.test, with its users, by" in shown.messages
    assert "\x1b" not in shown.messages

    assert run("lists", "remove", "bad.test", config=configuration).code == 0
    [one] = run("lists", "show", "--json", config=configuration).json()["lists"]
    assert [entry["address"] for entry in one["entries"]] == ["eve@bad.test"]
    run("lists", "withhold", "other.test", config=configuration)
    assert "Withheld: other.test, by" in run("lists", "show", config=configuration).messages
    run("lists", "remove", "other.test", config=configuration)
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


class Served(BaseHTTPRequestHandler):
    """Serves one list, and what is wrong with others."""

    def do_GET(self) -> None:
        status = {"/gone": 404, "/moved": 302}.get(self.path, 200)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/list")
        self.end_headers()
        if self.path == "/list":
            self.wfile.write(b"bad.test\nworse.test\n")
        if self.path == "/endless":
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x.test\n" * 1000)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_lists_of_others_are_held_against_each_other_and_nothing_is_done(
    run: Run, world: World, configuration: str, url: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("worse.test\nthird.test\nnot a domain\n")
    run("lists", "withhold", "worse.test", config=configuration)
    words = ("lists", "compare", f"{url}/list", str(mine))
    found = run(*words, "--json", config=configuration).json()
    assert [one["domain"] for one in found["named"]] == ["worse.test", "bad.test", "third.test"]
    assert found["lists"][1] == {"list": str(mine), "domains": 2, "bad_lines": 1, "left_out": 0}
    agreed = run(*words, "--quorum", "2", config=configuration)
    assert agreed.code == 0
    assert "worse.test" in agreed.out
    assert "withheld" in agreed.out
    assert "bad.test" not in agreed.out
    assert run("lists", "compare", str(mine), "--quorum", "2", config=configuration).code == 2
    [shown] = run("lists", "show", "--json", config=configuration).json()["lists"]
    assert shown["entries"] == []


@pytest.mark.parametrize("path", ["/gone", "/moved", "/endless"])
def test_a_list_that_cannot_be_read_whole_is_not_read(
    run: Run, world: World, configuration: str, url: str, path: str
) -> None:
    done = run("lists", "compare", f"{url}{path}", config=configuration)
    assert done.code == 3
    assert path in done.messages


def test_a_file_that_is_not_there_is_named(run: Run, world: World, configuration: str) -> None:
    done = run("lists", "compare", "/nowhere/list.txt", config=configuration)
    assert (done.code, "/nowhere/list.txt cannot be read" in done.messages) == (2, True)
