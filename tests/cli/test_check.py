"""`check` looks at everything and says what to type."""

import asyncio
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.check import clock_offset, servers, unread
from bridge.policy.change import Change
from bridge.policy.feed_record import Feed
from bridge.store.commit import commit
from bridge.store.connect import close, open_store
from bridge.store.embedded import EmbeddedServer
from bridge.store.sentinel import Replica, Servers

DESCRIPTION = {
    "host": "im.flosoft.biz",
    "module_version": "0.1.0",
    "prosody_version": "13.0.2",
    "admins": ["a@b.test"],
}


class Prosody(http.server.ThreadingHTTPServer):
    """Answers `host.describe` as the module does, or as a broken one does."""

    daemon_threads = True
    status = 200
    body: bytes = json.dumps(DESCRIPTION).encode()
    clock_ahead = timedelta()
    ready_reasons: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Prosody

    def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002 (http.server's signature)
        return format_datetime(datetime.now(UTC) + self.server.clock_ahead, usegmt=True)

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(self.server.status, self.server.body)

    def do_GET(self) -> None:
        reasons = self.server.ready_reasons
        self.answer(503 if reasons else 200, json.dumps({"reasons": reasons}).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def prosody() -> Iterator[Prosody]:
    with Prosody(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def check(
    run: Any, configuration: str, prosody: Prosody, add: Callable[..., object]
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Runs `check --json` with a fake Prosody that also plays the service; gives exit code and findings."""
    add()

    def run_check(extra: str = "") -> tuple[int, dict[str, Any]]:
        config = f'{configuration}api_url = "http://{prosody.address}"\n'
        config += f'[server]\ningest_listen = "{prosody.address}"\n{extra}'
        printed = run("--json", "check", config=config)
        return printed.code, {one["what"]: one for one in printed.json()["findings"]}

    return run_check


def test_what_is_right_is_told(check: Any) -> None:
    code, findings = check()

    assert findings["prosody im.flosoft.biz"]["text"] == (
        "Prosody 13.0.2, module 0.1.0, 1 admin; signatures agree"
    )
    assert findings["clock im.flosoft.biz"]["text"] == "the clocks agree"
    assert "everything acknowledged is on disk" in findings["store"]["text"]
    assert findings["service"]["code"] == 0
    assert code == 3  # no worker runs
    assert findings["worker incidents"]["fix"].startswith("incident-bridge worker incidents")


def test_a_list_of_others_that_could_not_be_read_for_a_day_is_to_be_mended() -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    feed = Feed(
        id="f1", host="a.test", url="https://x.test/", by="", added_at=noon, due_at=noon, problem="it is away"
    )
    assert unread(feed, now=noon + timedelta(hours=20)) is None
    found = unread(feed, now=noon + timedelta(hours=30))
    assert found is not None
    assert "it is away" in found.text
    assert found.fix.endswith("feeds remove f1")
    assert unread(replace(feed, read_at=noon + timedelta(hours=29)), now=noon + timedelta(hours=30)) is None


def test_indexes_are_rebuilt_where_asked_for(
    run: Any, configuration: str, add: Callable[..., list[Any]], server: EmbeddedServer
) -> None:
    from bridge.policy.trust import Trust
    from bridge.store import keys

    (stored,) = add(("report", "jabber.org", Trust.TRUSTED))

    async def lose() -> None:
        store = await open_store(server.url)
        await store.redis.delete(keys.incidents(stored.host))
        await close(store)

    asyncio.run(lose())
    lost = run("--json", "incidents", "list", config=configuration).out

    printed = run("--json", "check", "--rebuild-indexes", config=configuration)

    (finding,) = [one for one in printed.json()["findings"] if one["what"] == "indexes"]
    assert finding["text"].startswith("rebuilt from ")
    assert stored.incident_id not in lost
    assert stored.incident_id in run("--json", "incidents", "list", config=configuration).out


def test_every_bad_finding_says_what_to_type(check: Any, prosody: Prosody, server: EmbeddedServer) -> None:
    prosody.clock_ahead = timedelta(minutes=10)

    async def set_aside() -> None:
        store = await open_store(server.url)
        await commit(store, Change(counts=(("set_aside", "incidents"),)))
        await close(store)

    asyncio.run(set_aside())
    _, findings = check()

    assert "1 item set aside" in findings["set aside"]["text"]
    assert "600 s ahead of ours" in findings["clock im.flosoft.biz"]["text"]
    assert findings["clock im.flosoft.biz"]["code"] == 1
    assert all(one["fix"] for one in findings.values() if one["code"])


def test_a_prosody_that_does_not_answer_is_told_how_its_module_is_loaded(
    run: Any, configuration: str
) -> None:
    config = f'{configuration}api_url = "http://127.0.0.1:9"\n'

    findings = {one["what"]: one for one in run("--json", "check", config=config).json()["findings"]}

    fix = findings["prosody im.flosoft.biz"]["fix"]
    assert "prosodyctl restart" in fix
    assert "prosodyctl shell module load incident_bridge im.flosoft.biz" in fix
    assert "reload" not in fix


def test_a_refused_signature_is_told_with_its_cure(check: Any, prosody: Prosody) -> None:
    prosody.status, prosody.body = 401, b'{"error":"signature does not match"}'

    code, findings = check()

    assert code == 3
    assert "incident_bridge_secret" in findings["prosody im.flosoft.biz"]["text"]


def test_a_service_that_is_not_ready_says_why(check: Any, prosody: Prosody) -> None:
    prosody.ready_reasons = ("no worker was seen",)

    _, findings = check()

    assert findings["service"]["code"] == 3
    assert "no worker was seen" in findings["service"]["text"]


def test_a_store_that_may_forget_is_told_with_the_lines_that_cure_it(
    check: Any, server: EmbeddedServer
) -> None:
    async def set_fsync(value: str) -> None:
        store = await open_store(server.url)
        await store.redis.config_set("appendfsync", value)
        await close(store)

    asyncio.run(set_fsync("everysec"))
    try:
        _, findings = check()
    finally:
        asyncio.run(set_fsync("always"))

    assert findings["store"]["code"] == 2
    assert "CONFIG SET appendfsync always" in findings["store"]["fix"]


def test_nothing_running_is_not_reachable(run: Any, tmp_path: Path) -> None:
    config = f'[server]\ningest_listen = "127.0.0.1:9"\n[store]\ndata_dir = "{tmp_path}"\n'

    printed = run("check", config=config)

    assert printed.code == 3
    assert re.search(r"→ incident-bridge --config \S+ up", printed.out)
    assert "things to repair" in printed.messages


def test_secrets_that_everybody_may_read_are_told(run: Any, tmp_path: Path, configuration: str) -> None:
    path = tmp_path / "open.toml"
    path.write_text(configuration)
    path.chmod(0o644)

    printed = run("--config", str(path), "check")

    assert f"chmod o-r {path}" in printed.out
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("date", "offset"),
    [
        ("Sat, 21 Nov 2026 12:00:05 GMT", 5),
        ("Sat, 21 Nov 2026 11:59:00 GMT", -60),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_date_header_gives_the_offset(date: str, offset: float | None) -> None:
    assert clock_offset(date, datetime(2026, 11, 21, 12, tzinfo=UTC)) == offset


PRIMARY = ("192.0.2.1", 6379)


def test_check_shows_who_is_the_primary_and_who_follows() -> None:
    follows = [Replica(address=(f"192.0.2.{last}", 6379), is_up=True, is_following=True) for last in (2, 3)]
    found = servers(Servers(primary=PRIMARY, replicas=tuple(follows), answering=3, asked=3))

    assert found.text == (
        "primary 192.0.2.1:6379; replicas: 192.0.2.2:6379, 192.0.2.3:6379; 3 of 3 sentinels answer"
    )
    assert (found.code, found.fix) == (0, "")


def test_check_tells_what_to_mend_before_the_next_fault() -> None:
    away = Replica(address=("192.0.2.2", 6379), is_up=False, is_following=True)
    found = servers(Servers(primary=PRIMARY, replicas=(away,), answering=2, asked=3))

    assert "replicas: none; not following: 192.0.2.2:6379; 2 of 3 sentinels answer" in found.text
    assert found.code == 1
    assert [line.split()[0] for line in found.fix.splitlines()] == ["on", "systemctl", "add"]
