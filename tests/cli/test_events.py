"""`events` on a real store: the newest, from a number on, as they happen, and what is no longer kept."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.policy.change import Change, Event, Trim
from bridge.store.commit import commit
from bridge.store.connect import close, open_store
from bridge.store.embedded import EmbeddedServer
from tests.cli.conftest import HOST

ROOT = Path(__file__).resolve().parents[2]


def happen(url: str, *numbers: int, peer: str = "peer.example", keep_from: int = 0) -> None:
    events = tuple(
        Event(
            host=HOST,
            id=f"e{number}",
            type="incident.reported",
            timestamp=datetime.now(UTC),
            data={"host": HOST, "peer": {"domain": peer, "quarantined": True}, "incident": {"id": "i1"}},
        )
        for number in numbers
    )

    async def write() -> None:
        store = await open_store(url)
        await commit(store, Change(events=events))
        await commit(store, Change(trims=(Trim(host=HOST, sequence=keep_from),)))
        await close(store)

    asyncio.run(write())


def test_the_newest_are_shown_harmlessly(
    run: Any, configuration: str, world: Any, server: EmbeddedServer
) -> None:
    happen(server.url, *range(1, 31), peer="bad\u202e\x1b[2J.example")

    printed = run("events", config=configuration)
    plain = run("--json", "events", "--limit", "2", config=configuration).json()

    assert [line.split()[0] for line in printed.out.splitlines()] == [str(n) for n in range(11, 31)]
    assert "(quarantined)  i1" in printed.out
    assert "\x1b" not in printed.out
    assert "\u202e" not in printed.out
    assert [one["data"]["sequence"] for one in plain["events"]] == [29, 30]
    assert plain["next_after"] == 30


def test_a_page_says_where_the_next_begins(
    run: Any, configuration: str, world: Any, server: EmbeddedServer
) -> None:
    happen(server.url, *range(1, 6))

    first = run("--json", "events", "--after", "0", "--limit", "3", config=configuration)
    second = run("--json", "events", "--after", str(first.json()["next_after"]), config=configuration)
    third = run("--json", "events", "--after", "5", config=configuration)

    assert [one["id"] for one in first.json()["events"]] == ["e1", "e2", "e3"]
    assert "--after 3" in first.messages
    assert [one["id"] for one in second.json()["events"]] == ["e4", "e5"]
    assert (third.json()["events"], third.json()["next_after"], third.json()["dropped"]) == ([], 5, None)


def test_what_is_no_longer_kept_is_said(
    run: Any, configuration: str, world: Any, server: EmbeddedServer
) -> None:
    happen(server.url, *range(1, 6), keep_from=4)

    printed = run("events", "--after", "1", config=configuration)
    plain = run("--json", "events", "--after", "1", config=configuration).json()
    newest = run("events", config=configuration)

    assert "Events 2 to 3 are no longer kept" in printed.messages
    assert plain["dropped"] == [2, 3]
    assert [one["id"] for one in plain["events"]] == ["e4", "e5"]
    assert "no longer kept" not in newest.messages


def test_nothing_is_said_to_be_nothing(run: Any, configuration: str, world: Any) -> None:
    printed = run("events", config=configuration)

    assert (printed.code, printed.out) == (0, "")
    assert f"no event of {HOST}" in printed.messages


@pytest.mark.parametrize("words", [("--after", "-1"), ("--after", "x"), ("--host", "other.example")])
def test_a_wrong_number_or_host_is_wrong_usage(
    run: Any, configuration: str, world: Any, words: tuple[str, ...]
) -> None:
    assert run("events", *words, config=configuration).code == 2


def test_events_are_followed_one_object_a_line_until_interrupted(
    configuration: str, world: Any, server: EmbeddedServer, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    config.write_text(configuration)
    happen(server.url, 1)
    command = (sys.executable, "-m", "bridge.cli", "--config", str(config), "--json", "events", "--follow")
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    ) as following:
        assert following.stdout
        first = json.loads(following.stdout.readline())
        happen(server.url, 2, 3)
        more = [json.loads(following.stdout.readline()) for _ in range(2)]
        following.send_signal(signal.SIGINT)
        code = following.wait(10)

    assert [one["id"] for one in (first, *more)] == ["e1", "e2", "e3"]
    assert [one["data"]["sequence"] for one in (first, *more)] == [1, 2, 3]
    assert code == 130
