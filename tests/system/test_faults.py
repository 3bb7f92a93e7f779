"""Everything that may die or hang between a peer and its answer."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from deploy.servers import Process, Prosody, Reply
from tests.system.reports import report
from tests.system.servers import Federation, Lab, eventually

TIMEOUT_SECONDS = 5  # of the module
LENIENT = """[policy]
quota_per_minute = 100000
quota_burst = 100000
quota_strangers_per_minute = 100000
quota_strangers_burst = 100000
quarantine_max_per_peer = 10000
"""


@pytest.fixture
def apart(lab: Lab) -> Federation:
    """Service, workers and store as processes of their own, each of which can be killed."""
    return Federation.start(lab, store=lab.store(), settings=LENIENT)


def is_wait(reply: Reply) -> bool:
    return (reply.error_type, reply.condition) == ("wait", "resource-constraint")


def stored(federation: Federation) -> dict[str, int]:
    """How many editions each stored incident has, by its IncidentID's text."""
    listed = federation.bridge.json("incidents", "list", "--limit", "5000")["incidents"]
    return {one["identity"]["text"]: len(one["editions"]) for one in listed}


def kill_tree(process: Process) -> None:
    """SIGKILL to a process and to everything it started."""
    for pid in process.children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()


def memory_kib(pid: int) -> int:
    return int(
        next(
            line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
        ).split()[1]
    )


def connections_to(port: int) -> int:
    """Established TCP connections to a local port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


async def test_a_stopped_bridge_is_answered_wait_at_once(apart: Federation) -> None:
    apart.bridge.processes["serve"].stop()
    reply = await apart.b.send_iq(report())
    assert is_wait(reply)
    assert reply.seconds < TIMEOUT_SECONDS + 1


async def test_a_hung_bridge_delays_500_iqs_by_its_timeout_and_no_more(apart: Federation) -> None:
    await apart.b.send_iq(report("warm"))
    before = memory_kib(apart.a.process.pid)
    apart.bridge.processes["serve"].freeze()
    waiting = asyncio.create_task(apart.b.send_iqs([report(number) for number in range(500)]))
    most = 0
    while not waiting.done():
        most = max(most, connections_to(15267))
        await asyncio.wait([waiting], timeout=0.2)
    replies = await waiting
    assert all(is_wait(reply) for reply in replies)
    slowest = max(reply.seconds for reply in replies)
    assert slowest < TIMEOUT_SECONDS + 2, slowest  # up to 1.4 s of it: 500 IQs leave b.test and come back
    assert most <= 3
    assert memory_kib(apart.a.process.pid) - before < 64 * 1024
    apart.bridge.processes["serve"].thaw()
    apart.bridge.wait_ready()
    assert (await apart.b.send_iq(report("after"))).type == "result"


async def test_a_report_repeated_because_the_answer_came_too_late_is_one_incident(apart: Federation) -> None:
    apart.bridge.processes["serve"].freeze()
    assert is_wait(await apart.b.send_iq(report("late")))
    apart.bridge.processes["serve"].thaw()
    apart.bridge.wait_ready()
    again = report("late").replace("id='rlate'", "id='again'")
    assert (await apart.b.send_iq(again)).type == "result"
    assert await eventually(lambda: stored(apart) == {"incident-late": 1}, 10)
    answers = [one for one in await apart.b.received() if "rlate" in one]
    assert len(answers) == 1, "the first IQ got its wait and nothing after it"


async def test_a_worker_killed_before_it_answered_is_replaced_and_the_answer_comes(apart: Federation) -> None:
    apart.bridge.kill("worker incidents")
    apart.bridge.kill("worker outgoing")
    sending = asyncio.create_task(apart.b.send_iq(report("killed"), seconds=40))
    await eventually(lambda: "stored" in apart.bridge.processes["serve"].log(), 10)
    apart.bridge.start("worker", "incidents")
    apart.bridge.start("worker", "outgoing")
    assert (await sending).type == "result"
    assert stored(apart) == {"incident-killed": 1}


async def test_workers_killed_again_and_again_lose_and_double_nothing(apart: Federation) -> None:
    sending = asyncio.create_task(apart.b.send_iqs([report(number) for number in range(200)], seconds=60))
    for name in ("worker incidents", "worker outgoing", "worker incidents", "worker outgoing"):
        await asyncio.wait([sending], timeout=0.3)
        process = apart.bridge.processes[name]
        kill_tree(process)
        apart.bridge.start(*name.split())
    replies = await sending
    answered = [f"incident-{number}" for number, reply in enumerate(replies) if reply.type == "result"]
    found = stored(apart)
    assert set(answered) <= set(found)
    assert set(found.values()) == {1}


async def test_prosody_restarted_before_the_answer_still_sends_it(apart: Federation) -> None:
    apart.bridge.kill("worker outgoing")
    sending = asyncio.create_task(apart.b.send_iq(report("restart"), seconds=40))
    await eventually(lambda: "stored" in apart.bridge.processes["serve"].log(), 10)
    apart.a.restart()
    apart.bridge.start("worker", "outgoing")
    assert (await sending).type == "result"


async def test_a_killed_store_loses_nothing_acknowledged_and_the_bridge_goes_on(apart: Federation) -> None:
    store = apart.bridge.store
    assert store is not None
    sending = asyncio.create_task(apart.b.send_iqs([report(number) for number in range(300)], seconds=60))
    await eventually(lambda: "stored" in apart.bridge.processes["serve"].log(), 10)
    store.kill()
    store.start()
    replies = await sending
    assert {reply.type for reply in replies} <= {"result", "error"}
    answered = {f"incident-{number}" for number, reply in enumerate(replies) if reply.type == "result"}
    apart.bridge.wait_ready()
    left = list(range(300))
    for again in range(10):  # a busy machine may tell some to wait, who then repeat
        ids = [report(number).replace("id='r", f"id='again{again}-") for number in left]
        repeats = await apart.b.send_iqs(ids, seconds=60)
        left = [number for number, reply in zip(left, repeats, strict=True) if reply.type == "error"]
        assert {reply.error_type for reply in repeats} <= {None, "wait"}
        if not left:
            break
    assert left == []
    found = stored(apart)
    assert answered <= set(found)
    assert len(found) == 300
    assert set(found.values()) == {1}


async def send_many(peer: Prosody, count: int) -> list[Reply]:
    """Send reports, 400 at a time: more at once is more than the peer's HTTP server takes."""
    replies: list[Reply] = []
    for first in range(0, count, 400):
        replies += await peer.send_iqs([report(number) for number in range(first, first + 400)], seconds=120)
    return replies


async def test_a_peer_that_floods_does_not_starve_another(lab: Lab) -> None:
    federation = Federation.start(lab, settings=LENIENT)
    c = lab.prosody("c.test", peer=True)
    await c.send_iq(report("warm", sender="c.test"))
    flood = asyncio.create_task(
        federation.b.send_iqs([report(number) for number in range(3000)], seconds=120)
    )
    started = time.monotonic()
    for number in range(5):
        assert (await c.send_iq(report(f"c{number}", sender="c.test"))).type == "result"
    assert time.monotonic() - started < 10
    replies = await flood
    assert {reply.type for reply in replies} <= {"result", "error"}
    assert all(is_wait(reply) for reply in replies if reply.type == "error")


@pytest.mark.parametrize("federation", ["0.12"], indirect=True)
async def test_everything_killed_at_once_is_back_with_everything_it_acknowledged(
    federation: Federation,
) -> None:
    replies = await federation.b.send_iqs([report(number) for number in range(50)])
    assert {reply.type for reply in replies} == {"result"}
    federation.bridge.kill("up")
    await eventually(lambda: not federation.bridge.processes["up"].is_running, 10)
    federation.bridge.start_up()
    assert len(stored(federation)) == 50
    assert (await federation.b.send_iq(report("after"))).type == "result"
