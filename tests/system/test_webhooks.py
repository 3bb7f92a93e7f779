"""What happens between two servers reaches other people's programs: by webhook, by poll, by stream."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from bridge.policy.change import Queue
from tests.pipeline.consumer import Came, Consumer, consuming
from tests.system.reports import ID, report
from tests.system.servers import Bridge, Federation, Lab, eventually

SETTINGS = '[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'


@pytest.fixture
async def consumer() -> AsyncIterator[Consumer]:
    async with consuming() as made:
        yield made


@pytest.fixture
def apart(lab: Lab) -> Federation:
    """Service, workers and store as processes of their own, each of which can be killed."""
    return Federation.start(lab, store=lab.store(), settings=SETTINGS, modules=["http_openmetrics"])


def add(federation: Federation, url: str, *options: str) -> Any:
    return federation.bridge.json("endpoints", "add", url, *options)


async def fetched(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200, url
        return await answer.text()


EXPECTED = (
    'interactions_total{kind="report",trust="trusted"} 1.0',
    'interactions_total{kind="report",trust="stranger"} 1.0',
    'stanzas_total{outcome="sent"} 2.0',
    'deliveries_total{outcome="delivered"} 3.0',
    'stage_seconds_count{stage="stored"} 2.0',
    'stage_seconds_count{stage="decided"} 2.0',
    'stage_seconds_count{stage="answered"} 2.0',
    'stage_seconds_count{stage="delivered"} 3.0',
    "store_durable 1.0",
    "store_replicas 0.0",
    *(f'lane_items{{queue="{queue}"}} 0.0' for queue in Queue),
    *(f'lane_oldest_seconds{{queue="{queue}"}} 0.0' for queue in Queue),
)


async def metrics_of(federation: Federation) -> str:
    """What Prometheus gets of the bridge, once all is counted."""
    text = await fetched(f"http://{federation.bridge.address}:15269/metrics")
    for expected in EXPECTED:
        assert f"incident_bridge_{expected}\n" in text, expected
    return text


async def check_one_id_leads_through_every_log(federation: Federation, came: Came) -> None:
    """From Prosody's log, by those of service and workers, to what the consumer got: `grep ID` is enough."""
    interaction = came.event["data"]["interaction_id"]
    assert came.headers["webhook-id"].startswith(interaction)
    processes = federation.bridge.processes
    logs = {"prosody": federation.a.log(), **{name: one.log() for name, one in processes.items()}}
    assert set(logs) == {"prosody", "serve", *(f"worker {queue}" for queue in Queue)}
    for name, text in logs.items():
        lines = [line for line in text.splitlines() if interaction in line]
        assert lines, name
        if name != "prosody":
            assert all(interaction in json.dumps(json.loads(line)) for line in lines)
    assert f"report r from b.test is stored, interaction={interaction}" in logs["prosody"]


def arguments_of(bridge: Bridge) -> str:
    """The command lines of all its processes; none of them may leave a core file."""
    found = ""
    for pid in {pid for one in bridge.processes.values() for pid in (one.pid, *one.children())}:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a drain that is over
            found += Path(f"/proc/{pid}/cmdline").read_text()
            assert re.search(r"Max core file size +0 ", Path(f"/proc/{pid}/limits").read_text())
    assert found.count("worker\0") >= len(Queue)
    return found


async def check_no_secret_is_told(federation: Federation, *secrets: str) -> None:
    """Not in a log, not in an argument that other users see, not in a core file that a crash would leave."""
    token = federation.bridge.json("tokens", "create", "reader", "--scope", "read")["token"]
    api = f"http://{federation.bridge.address}:15268/api/v1/incidents"
    async with aiohttp.ClientSession() as session:
        for given in (f"Bearer {token}", f"Bearer {token}x"):
            async with session.get(api, headers={"Authorization": given}) as answer:
                assert token not in await answer.text()
    reader, writer = await asyncio.open_connection(federation.bridge.address, 15268)
    writer.write(f"GET / HTTP/1.1\r\nAuthorization: Bearer {token}\x01\r\n\r\n".encode())
    assert b" 400 " in await reader.read(100)
    writer.close()
    host_secret = federation.bridge.hosts["a.test"][1]
    told = federation.a.log() + federation.bridge.log() + arguments_of(federation.bridge)
    for secret in (token, host_secret, "incident-bridge:bridge@", *secrets):
        assert secret not in told


async def check_the_metrics_say_what_happened_and_name_nobody(federation: Federation) -> None:
    text = await eventually(lambda: metrics_of(federation), 30)
    assert not re.search(r"b\.test|c\.test|incident-2|4BF5D2CE", text)
    prosody = await fetched(f"{federation.a.url}/metrics")
    named = 'prosody_mod_incident_bridge__relayed_total{host="a.test",kind="report",outcome="stored"} 2'
    assert named in prosody, [line for line in prosody.splitlines() if "incident" in line]
    assert not re.search(r"incident_bridge__.*(b\.test|c\.test)", prosody)


async def test_a_report_of_a_trusted_peer_arrives_signed_and_the_strangers_only_where_it_is_wanted(
    apart: Federation, consumer: Consumer
) -> None:
    """And one id leads through all logs, the metrics tell of it and name nobody, and no secret is told anywhere."""
    c = apart.lab.prosody("c.test", peer=True)
    apart.bridge.cli("peers", "trust", "b.test")
    added = add(apart, consumer.url("/all"), "--quarantined", "include", "--xml")
    plain = add(apart, consumer.url("/plain"))

    assert (await apart.b.send_iq(report())).type == "result"
    assert (await c.send_iq(report("2", sender="c.test"))).type == "result"
    await eventually(lambda: len(consumer.at("/all")) == 2 and len(consumer.at("/plain")) == 1, 20)

    for path, secret in (("/all", added["secret"]), ("/plain", plain["secret"])):
        for came in consumer.at(path):
            Webhook(secret).verify(came.body, came.headers)
    [event] = [one.event for one in consumer.at("/plain")]
    assert (event["type"], event["data"]["peer"]["domain"]) == ("incident.reported", "b.test")
    assert event["data"]["incident"]["identity"]["text"] == ID
    assert "xml" not in event["data"]
    by_peer = {one.event["data"]["peer"]["domain"]: one.event for one in consumer.at("/all")}
    assert by_peer["c.test"]["data"]["peer"]["quarantined"] is True
    assert "<IncidentID" in by_peer["b.test"]["data"]["xml"]
    await check_one_id_leads_through_every_log(apart, consumer.at("/plain")[0])
    await check_the_metrics_say_what_happened_and_name_nobody(apart)
    await check_no_secret_is_told(apart, added["secret"], plain["secret"])


async def test_workers_killed_while_they_deliver_lose_no_event(apart: Federation, consumer: Consumer) -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        return web.Response(status=204)

    consumer.answers["/x"] = slow
    apart.bridge.cli("peers", "trust", "b.test")
    add(apart, consumer.url("/x"))

    async def send(number: int) -> None:
        assert (await apart.b.send_iq(report(f"n{number}"))).type == "result"

    sending = asyncio.gather(*(send(number) for number in range(30)))
    for _ in range(3):
        reached = len(consumer.came) + 4
        await eventually(lambda reached=reached: len(consumer.came) >= min(reached, 28), 30)
        apart.bridge.kill("worker deliveries")
        apart.bridge.start("worker", "deliveries")
    await sending

    def texts() -> dict[str, str]:
        return {one.event_id: one.event["data"]["incident"]["identity"]["text"] for one in consumer.came}

    await eventually(lambda: len(set(texts().values())) == 30, 40)
    assert len(texts()) == 30, "an event has one id, however often it comes"
    events = apart.bridge.cli("events", "--after", "0", "--json").splitlines()
    assert len([line for line in events if "incident.reported" in line]) == 30


async def test_a_program_behind_a_nat_polls_and_streams_what_happens(apart: Federation) -> None:
    apart.bridge.cli("peers", "trust", "b.test")
    token = apart.bridge.json("tokens", "create", "puller", "--scope", "read")["token"]
    base = f"http://{apart.bridge.address}:15268/api/v1/events"
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        assert (await apart.b.send_iq(report("1"))).type == "result"

        async def polled() -> list[Any]:
            async with session.get(base, params={"after": "0"}) as answer:
                assert answer.status == 200, await answer.text()
                return list((await answer.json())["events"])

        [first] = await eventually(polled, 10)
        stream = {"Accept": "text/event-stream", "Last-Event-ID": str(first["data"]["sequence"])}
        async with session.get(base, headers=stream) as answer:
            assert answer.status == 200, await answer.text()
            assert (await apart.b.send_iq(report("2"))).type == "result"
            async with asyncio.timeout(10):
                while not (line := (await answer.content.readline()).decode()).startswith("data:"):
                    pass
            event = json.loads(line.removeprefix("data:"))
            assert event["data"]["incident"]["identity"]["text"] == "incident-2"
