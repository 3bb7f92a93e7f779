"""`endpoints` and `deliveries` on a real store, with a real consumer and the worker's own drain."""

import asyncio
import contextlib
import json
import shlex
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Endpoint, delivery_id
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from bridge.store.embedded import EmbeddedServer
from tests.cli.conftest import HOST
from tests.cli.test_listen import Listening, command
from tests.pipeline.consumer import Consumer, always, consuming, delivering

URL = "https://consumer.example/in"
NOW = datetime.now(UTC)


@pytest.fixture
def local(configuration: str, world: Any) -> str:
    """An empty store, and a configuration that lets events go to loopback."""
    return configuration + '\n[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'


@pytest.fixture
def outside(server: EmbeddedServer, local: str) -> Iterator[Consumer]:
    """A consumer, and a worker that delivers to it, on another thread; `local` emptied the store before."""
    ready, loop, stop, found = threading.Event(), asyncio.new_event_loop(), asyncio.Event(), []

    async def work() -> None:
        store = await open_store(server.url)
        async with consuming() as consumer, delivering(store):
            found.append(consumer)
            ready.set()
            await stop.wait()
        await close(store)

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def in_store(url: str, change: Change) -> None:
    async def write() -> None:
        store = await open_store(url)
        await commit(store, change)
        await close(store)

    asyncio.run(write())


def stored(url: str, endpoint_id: str) -> Endpoint:
    async def read(store: Store) -> Any:
        name = keys.endpoint(endpoint_id)
        return (await load.fetch(store, names=[name])).records[name]

    async def run() -> Any:
        store = await open_store(url)
        try:
            return await read(store)
        finally:
            await close(store)

    found = asyncio.run(run())
    assert isinstance(found, Endpoint)
    return found


def dead(endpoint_id: str, sequence: int, *, answer: str = "", error: str = "") -> Delivery:
    status = None if error else 500
    return Delivery(
        id=delivery_id(endpoint_id, HOST, sequence),
        endpoint_id=endpoint_id,
        host=HOST,
        event_id=f"e{sequence}",
        event_type="incident.reported",
        sequence=sequence,
        created_at=NOW - timedelta(hours=sequence),
        state=DeliveryState.DEAD,
        tries=10,
        attempts=(Attempt(at=NOW, duration_ms=42, status=status, error=error, answer=answer),),
    )


def test_adding_prints_the_secret_once_and_nothing_else_prints_it(run: Any, local: str) -> None:
    added = run("--json", "endpoints", "add", URL, "--header", "Authorization: Bearer k1", config=local)
    endpoint = added.json()

    assert added.code == 0
    assert endpoint["secret"].startswith("whsec_")
    assert f"endpoints test {endpoint['id']}" in added.messages
    assert "not shown again" in added.messages
    others = [
        run(*words, config=local)
        for words in (
            ("endpoints", "list"),
            ("--json", "endpoints", "list"),
            ("endpoints", "show", endpoint["id"]),
            ("--json", "endpoints", "show", endpoint["id"]),
            ("endpoints", "disable", endpoint["id"]),
            ("--json", "endpoints", "remove", endpoint["id"]),
        )
    ]
    for printed in others:
        assert printed.code == 0
        assert "whsec_" not in printed.out + printed.messages
        assert "k1" not in printed.out + printed.messages


def test_changing_changes_what_is_named_and_nothing_else(
    run: Any, local: str, server: EmbeddedServer
) -> None:
    endpoint = run(
        *("--json", "endpoints", "add", URL, "--type", "incident.reported", "--peer", "peer.example"),
        *("--header", "X-Key: k1", "--xml"),
        config=local,
    ).json()["id"]

    changed = run(
        *("endpoints", "change", endpoint[:8], "--type", "all", "--severity", "high", "--no-xml"),
        *("--description", "tickets"),
        config=local,
    )
    assert changed.code == 0
    assert "k1" not in changed.out + changed.messages
    known = stored(server.url, endpoint)
    assert (known.types, known.severities, known.peers) == ((), ("high",), ("peer.example",))
    assert (known.includes_xml, known.description, known.headers) == (False, "tickets", {"X-Key": "k1"})

    run("endpoints", "change", endpoint, "--header", "none", "--url", f"{URL}2", config=local)
    known = stored(server.url, endpoint)
    assert (known.headers, known.url, known.description) == ({}, f"{URL}2", "tickets")


@pytest.mark.parametrize(
    "words", [(), ("--type", "nonsense"), ("--url", "ftp://x"), ("--type", "all", "--type", "x")]
)
def test_what_cannot_be_changed_is_wrong_usage(run: Any, local: str, words: tuple[str, ...]) -> None:
    endpoint = run("--json", "endpoints", "add", URL, config=local).json()["id"]
    assert run("endpoints", "change", endpoint, *words, config=local).code == 2


def test_headers_are_read_from_a_file(run: Any, local: str, server: EmbeddedServer, tmp_path: Path) -> None:
    path = tmp_path / "headers"
    path.write_text("Authorization: Bearer k1\n\nX-Key:k2\n")

    added = run(
        *("--json", "endpoints", "add", URL, "--header", "X-Other: 3", "--header-file", str(path)),
        config=local,
    )

    expected = {"X-Other": "3", "Authorization": "Bearer k1", "X-Key": "k2"}
    assert stored(server.url, added.json()["id"]).headers == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X-Key: 1\nsecret\n", "line 2: write NAME: VALUE, each name once"),
        ("X-Key: 1\nX-Key: 2\n", "line 2: write NAME: VALUE, each name once"),
        ("X-Key: \xe9\n", "it is not plain ASCII"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_headers_that_is_none_is_refused_and_not_shown(
    run: Any, local: str, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "headers"
    if text is not None:
        path.write_text(text)

    refused = run("endpoints", "add", URL, "--header-file", str(path), config=local)

    assert (refused.code, refused.out) == (2, "")
    assert message in refused.messages
    assert "secret" not in refused.messages


def test_adding_for_people_prints_id_and_secret_as_data(run: Any, local: str) -> None:
    printed = run("endpoints", "add", URL, config=local)

    words = dict(line.split() for line in printed.out.splitlines())
    assert words["endpoint"].startswith("ep_")
    assert words["secret"].startswith("whsec_")


def test_filters_are_stored_as_typed(run: Any, local: str) -> None:
    endpoint = run(
        *("--json", "endpoints", "add", URL, "--host", HOST, "--type", "incident.reported"),
        *("--type", "incident.updated", "--peer", "Peer.Example", "--severity", "high", "--quarantined"),
        *("include", "--xml", "--header", "X-Key: a:b", "--description", "tickets"),
        config=local,
    ).json()

    assert endpoint["types"] == ["incident.reported", "incident.updated"]
    assert (endpoint["peers"], endpoint["severities"]) == (["peer.example"], ["high"])
    assert (endpoint["quarantined"], endpoint["includes_xml"]) == ("include", True)
    assert (endpoint["headers"], endpoint["description"]) == (["X-Key"], "tickets")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ftp://consumer.example/",), "url: "),
        (("http://consumer.example:6379/",), "url: "),
        (("https://10.0.0.1/",), "webhooks.allow_networks"),
        ((URL, "--type", "incident.exploded"), "types[0]: "),
        ((URL, "--host", "other.example"), "hosts[0]: "),
        ((URL, "--header", "Host: x"), "headers: "),
        ((URL, "--header", "no colon"), "--header: "),
        ((URL, "--severity", "x"), "severities[0]: "),
        ((URL, "--secret-file", "nowhere"), "nowhere cannot be read"),
    ],
)
def test_what_cannot_be_added_is_wrong_usage_and_says_what(
    run: Any, local: str, words: tuple[str, ...], said: str
) -> None:
    printed = run("endpoints", "add", *words, config=local)

    assert printed.code == 2
    assert said in printed.messages
    assert run("--json", "endpoints", "list", config=local).json() == {"endpoints": []}


def test_a_secret_that_the_consumer_has_is_taken_from_a_file(run: Any, local: str, tmp_path: Path) -> None:
    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="
    (tmp_path / "secret").write_text(secret + "\n")

    endpoint = run("--json", "endpoints", "add", URL, "--secret-file", str(tmp_path / "secret"), config=local)

    assert endpoint.json()["secret"] == secret


def test_a_test_event_arrives_and_is_said_to(run: Any, local: str, outside: Consumer) -> None:
    endpoint = run("--json", "endpoints", "add", outside.url("/x"), config=local).json()

    printed = run("--json", "endpoints", "test", endpoint["id"][:6], config=local)

    [came] = outside.came
    event = Webhook(endpoint["secret"]).verify(came.body, came.headers)
    assert (event["type"], came.event_id) == ("endpoint.test", printed.json()["event_id"])
    assert printed.code == 0
    assert printed.json()["delivery"]["attempts"][0]["status"] == 204


def test_a_test_that_fails_says_where_to_look(run: Any, local: str, outside: Consumer) -> None:
    outside.answers["/x"] = always(500, text="\x1b[2Jbroken\u202e")
    endpoint = run("--json", "endpoints", "add", outside.url("/x"), config=local).json()

    printed = run("endpoints", "test", endpoint["id"], config=local)
    delivery = printed.messages.split("deliveries show ")[1].split()[0]
    shown = run("deliveries", "show", delivery, config=local)

    assert printed.code == 1
    assert "500" in printed.out
    assert "\\x1b[2Jbroken\\u202e" in shown.out
    assert "\x1b" not in shown.out
    assert "\u202e" not in shown.out


def test_a_test_without_a_worker_says_so(run: Any, local: str) -> None:
    endpoint = run("--json", "endpoints", "add", URL, config=local).json()

    printed = run("endpoints", "test", endpoint["id"], "--wait", "0", config=local)

    assert printed.code == 1
    assert "is there a worker?" in printed.messages


def test_after_rotation_both_secrets_verify(run: Any, local: str, outside: Consumer) -> None:
    before = run("--json", "endpoints", "add", outside.url("/x"), config=local).json()
    after = run("--json", "endpoints", "rotate", before["id"], config=local)

    run("endpoints", "test", before["id"], config=local)

    [came] = outside.came
    for secret in (before["secret"], after.json()["secret"]):
        assert Webhook(secret).verify(came.body, came.headers)["type"] == "endpoint.test"
    assert before["secret"] != after.json()["secret"]


def test_a_disabled_endpoint_says_why_and_how_to_get_what_it_missed(
    run: Any, local: str, server: EmbeddedServer
) -> None:
    endpoint = run("--json", "endpoints", "add", URL, config=local).json()["id"]

    run("endpoints", "disable", endpoint, "--reason", "moves house", config=local)
    listed = run("endpoints", "list", config=local)
    tested = run("endpoints", "test", endpoint, config=local)
    enabled = run("endpoints", "enable", endpoint, config=local)

    assert "moves house" in listed.out
    assert tested.code == 2
    assert f"endpoints enable {endpoint}" in tested.messages
    assert f"deliveries redeliver --endpoint {endpoint} --since" in enabled.messages
    assert stored(server.url, endpoint).disabled_reason is None


@pytest.mark.parametrize(
    "words",
    [("endpoints", "show", "ep_nobody"), ("deliveries", "show", "nobody"), ("deliveries", "list", "x")],
)
def test_what_there_is_not_is_a_no_that_says_how_to_see_what_there_is(
    run: Any, local: str, words: tuple[str, ...]
) -> None:
    printed = run(*words, config=local)

    assert printed.code == 1
    assert "incident-bridge --config" in printed.messages
    assert "list" in printed.messages


def test_a_removed_endpoint_is_gone(run: Any, local: str) -> None:
    endpoint = run("--json", "endpoints", "add", URL, config=local).json()["id"]

    removed = run("endpoints", "remove", endpoint, config=local)

    assert removed.code == 0
    assert run("endpoints", "remove", endpoint, config=local).code == 1


def test_what_failed_is_listed_apart(run: Any, local: str, server: EmbeddedServer) -> None:
    endpoint = run("--json", "endpoints", "add", URL, config=local).json()["id"]
    good = replace(dead(endpoint, 1), state=DeliveryState.DELIVERED)
    bad = dead(endpoint, 2, error="connection refused")
    in_store(server.url, Change(puts=(Put(None, good), Put(None, bad))))

    every = run("--json", "deliveries", "list", endpoint, config=local).json()
    failed = run("--json", "deliveries", "list", "--failed", config=local).json()
    shown = run("deliveries", "list", "--failed", config=local)
    first = run("--json", "deliveries", "list", "--limit", "1", config=local).json()

    assert [one["id"] for one in every["deliveries"]] == [good.id, bad.id]
    assert [one["id"] for one in failed["deliveries"]] == [bad.id]
    assert "connection refused" in shown.out
    assert "given up" in shown.out
    assert (len(first["deliveries"]), first["has_more"]) == (1, True)


def test_every_attempt_is_shown(run: Any, local: str, server: EmbeddedServer) -> None:
    endpoint = run("--json", "endpoints", "add", URL, config=local).json()["id"]
    delivery = dead(endpoint, 1, answer="try\nlater")
    in_store(server.url, Change(puts=(Put(None, delivery),)))

    printed = run("deliveries", "show", delivery.id[:8], config=local)
    plain = run("--json", "deliveries", "show", delivery.id, config=local).json()

    assert "42 ms" in printed.out
    assert "    try\n    later\n" in printed.out
    assert f"deliveries redeliver {delivery.id}" in printed.messages
    assert plain["attempts"][0]["answer"] == "try\nlater"


def test_one_delivery_is_made_again_under_the_same_id(run: Any, local: str, outside: Consumer) -> None:
    outside.answers["/x"] = always(500)
    endpoint = run("--json", "endpoints", "add", outside.url("/x"), config=local).json()["id"]
    delivery = run("--json", "endpoints", "test", endpoint, config=local).json()["delivery"]["id"]
    outside.answers["/x"] = always(200)

    printed = run("--json", "deliveries", "redeliver", delivery, config=local)

    assert printed.code == 0
    with deadline() as is_early:
        while is_early():
            shown = run("--json", "deliveries", "show", delivery, config=local).json()
            if shown["state"] == "delivered":
                break
    assert shown["state"] == "delivered"
    assert len({one.event_id for one in outside.came}) == 1
    assert [one["status"] for one in shown["attempts"]][-1] == 200


def test_all_that_failed_since_a_time_is_queued(run: Any, local: str, server: EmbeddedServer) -> None:
    endpoint = run("--json", "endpoints", "add", URL, config=local).json()["id"]
    run("endpoints", "test", endpoint, "--wait", "0", config=local)
    run("endpoints", "test", endpoint, "--wait", "0", config=local)
    in_store(server.url, Change(puts=(Put(None, dead(endpoint, 1)), Put(None, dead(endpoint, 2)))))

    words = ("--json", "deliveries", "redeliver", "--endpoint", endpoint)
    some = run(*words, "--failed-since", "90m", config=local)
    none = run(*words, "--failed-since", "90m", config=local)
    every = run(*words, "--since", "2h", "--until", "2099-01-01", config=local)

    assert (some.json()["queued"], some.code) == (1, 0)
    assert (none.json()["queued"], none.code) == (0, 1)
    assert every.json()["queued"] == 2


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("some", "--endpoint", "ep"),
        ("some", "--since", "2h"),
        ("--endpoint", "ep"),
        ("--endpoint", "ep", "--since", "2h", "--failed-since", "2h"),
        ("--endpoint", "ep", "--since", "yesterday"),
        ("--endpoint", "ep", "--since", "999999d"),
    ],
)
def test_a_range_that_is_none_is_wrong_usage(run: Any, local: str, words: tuple[str, ...]) -> None:
    run("endpoints", "add", URL, config=local)

    printed = run("deliveries", "redeliver", *words, config=local)

    assert printed.code == 2
    assert json.dumps(printed.out) == '""'


def test_what_listen_says_to_type_makes_deliveries_arrive_there(
    run: Any, local: str, outside: Consumer, tmp_path: Path
) -> None:
    secret_file = tmp_path / "listen.secret"
    with subprocess.Popen(
        **command("--json", "listen", "--port", "0", "--secret-file", str(secret_file))
    ) as process:
        listening = Listening(process, secret_file)
        line = next(one for one in listening.said.splitlines() if "endpoints add" in one)
        endpoint = run("--json", *shlex.split(line)[1:], config=local).json()["id"]
        tested = run("endpoints", "test", endpoint, config=local)
        came = json.loads(listening.out.readline())
        process.terminate()

    assert tested.code == 0
    assert (came["verified"], came["event"]["type"]) == (True, "endpoint.test")
    assert came["event"]["data"]["endpoint_id"] == endpoint


@contextlib.contextmanager
def deadline(seconds: float = 10) -> Iterator[Any]:
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    yield lambda: datetime.now(UTC) < end
