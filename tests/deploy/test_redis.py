"""redis.conf and users.acl: loaded by a real Redis, good enough for the bridge, and no more than it needs."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from bridge.policy.change import Change, Event
from bridge.store import load
from bridge.store.commit import commit
from bridge.store.connect import check_durability, close, open_store
from bridge.store.embedded import server_binary
from deploy.servers import iq, report_payload
from tests.system.servers import Federation, Lab, eventually

FORBIDDEN = (
    ("CONFIG", "SET", "appendfsync", "no"),
    ("FLUSHALL",),
    ("KEYS", "*"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("ACL", "LIST"),
    ("MODULE", "LIST"),
    ("SHUTDOWN",),
    ("MONITOR",),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("GET", "others"),
    ("PUBLISH", "others", "x"),
)


async def test_the_store_as_configured_loses_nothing(lab: Lab) -> None:
    store = await open_store(lab.store().url)

    found = await check_durability(store, durability="disk")
    await close(store)

    assert found.problems == ()


async def test_what_was_committed_is_there_after_the_store_was_killed(lab: Lab) -> None:
    running = lab.store()
    store = await open_store(running.url)
    event = Event(host="a.test", id="e1", type="t", timestamp=datetime.now(UTC), data={})
    await commit(store, Change(events=(event, event), counts=(("refused", "x"),)))
    running.kill()
    running.start()

    assert await load.event_bounds(store, "a.test") == (1, 2)
    await close(store)


def test_the_bridge_may_do_nothing_else_and_strangers_nothing_at_all(lab: Lab) -> None:
    store = lab.store()

    answers = {words: store.cli(*words, user="incident-bridge") for words in FORBIDDEN}

    assert [words for words, answer in answers.items() if not answer.startswith("NOPERM")] == []
    plain = [store.commands / "redis-cli", "-s", store.socket, "PING"]
    assert "NOAUTH" in subprocess.run(plain, capture_output=True, text=True, check=False).stdout


async def test_the_bridge_needs_no_more_rights_than_it_has(lab: Lab) -> None:
    store = lab.store()
    federation = Federation.start(lab, version="13", store=store)
    bridge = federation.bridge

    reply = await federation.b.send_iq(iq(report_payload(), to="a.test", sender="b.test", id="r1"))
    bridge.cli("peers", "trust", "b.test")
    bridge.cli("report", "--to", "b.test", "--description", "flood", "--source", "bad@b.test=1")
    await eventually(lambda: len(bridge.json("incidents", "list")["incidents"]) == 2)
    bridge.cli("check", "--rebuild-indexes")

    assert reply.type == "result"
    assert store.cli("ACL", "LOG") == ""
    assert "user=default" not in store.cli("CLIENT", "LIST")


def test_every_command_that_the_store_is_sent_is_allowed(root: Path) -> None:
    sent = set()
    for script in (root / "bridge/store/scripts").glob("*.lua"):
        sent |= set(re.findall(r"redis\.p?call\('([A-Z]+)'", script.read_text()))
    for module in (root / "bridge/store").glob("*.py"):
        sent |= set(re.findall(r"""(?:yield|return) \(\s*"([A-Z]+)",""", module.read_text()))
        sent |= set(re.findall(r'execute_command\(\s*"([A-Z]+)"', module.read_text()))
        called = re.findall(r"\b(?:redis|pipe)\.([a-z_]+)\(", module.read_text())
        sent |= {word.upper() for word in called if word not in NO_COMMANDS}
    sent = {COMMANDS_OF.get(word, word) for word in sent} - {
        "SENTINEL"
    }  # that one is for Sentinel's own servers
    allowed = set(re.findall(r" \+([a-z]+)\b", (root / "deploy/users.acl").read_text()))

    assert len(sent) > 20
    assert {word.lower() for word in sent} - allowed == set()


NO_COMMANDS = {
    "aclose",
    "pipeline",
    "execute",
    "register_script",
    "from_pool",
    "from_url",
    "pack_command",
    "execute_command",
}
COMMANDS_OF = {
    "CONFIG_GET": "CONFIG",
    "SCAN_ITER": "SCAN",
    "SCRIPT_LOAD": "SCRIPT",
}


def test_valkey_takes_the_same_files(lab: Lab) -> None:
    store = lab.store(start=False)
    program = server_binary()
    store.process.argv[0] = str(program)

    store.start()

    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert "Valkey" in told or "Redis" in told
    assert store.cli("PING", user="incident-bridge") == "PONG"
