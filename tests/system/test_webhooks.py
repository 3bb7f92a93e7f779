"""What happens between two servers reaches other people's programs: by webhook, by poll, by stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.pipeline.consumer import Consumer, consuming
from tests.system.reports import ID, report
from tests.system.servers import Federation, Lab, eventually

SETTINGS = '[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'


@pytest.fixture
async def consumer() -> AsyncIterator[Consumer]:
    async with consuming() as made:
        yield made


@pytest.fixture
def apart(lab: Lab) -> Federation:
    """Service, workers and store as processes of their own, each of which can be killed."""
    return Federation.start(lab, store=lab.store(), settings=SETTINGS)


def add(federation: Federation, url: str, *options: str) -> Any:
    return federation.bridge.json("endpoints", "add", url, *options)


async def test_a_report_of_a_trusted_peer_arrives_signed_and_the_strangers_only_where_it_is_wanted(
    apart: Federation, consumer: Consumer
) -> None:
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
