"""The signed link between Prosody and the bridge, spoken to by somebody who is neither."""

import json
import time
from typing import Any
from unittest.mock import ANY

import aiohttp
import pytest

from bridge.webhooks import signature
from tests.system.reports import report
from tests.system.servers import Federation, eventually

STREAM = {
    "direction": "incoming",
    "encrypted": True,
    "tls": None,
    "authentication": "certificate",
    "certificate_sha256": None,
}


def secret_of(federation: Federation) -> bytes:
    return signature.decode_secret(federation.bridge.hosts["a.test"][1])


async def post(
    url: str, kind: str, data: Any, *, key: bytes, id: str = "m-1", offset: int = 0, host: str = "a.test"
) -> tuple[int, Any]:
    body = json.dumps({"type": kind, "timestamp": "2026-11-21T03:00:00Z", "data": data}).encode()
    headers = signature.headers_for([key], message_id=id, timestamp=int(time.time()) + offset, body=body)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers={**headers, "Host": host}) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else text


def relay(federation: Federation, stanza: str, **more: Any) -> Any:
    url = f"{federation.bridge.ingest_url}/prosody/a.test"
    data = {"items": [{"stanza": stanza, "stream": STREAM}]}
    return post(url, "stanza.received", data, **{"key": secret_of(federation), **more})


def command(federation: Federation, kind: str, data: Any, **more: Any) -> Any:
    url = f"{federation.a.url}/incident_bridge"
    return post(url, kind, {"host": "a.test", **data}, **{"key": secret_of(federation), **more})


@pytest.mark.parametrize("federation", ["0.12"], indirect=True)
async def test_the_bridge_refuses_what_prosody_did_not_sign(federation: Federation) -> None:
    status, body = await relay(federation, report(), key=bytes(32))
    assert (status, body) == (401, {"error": "signature does not match"})
    for offset in (-400, 400):
        status, body = await relay(federation, report(), offset=offset)
        assert status == 401
        assert abs(body["now"] - time.time()) < 5
    assert federation.bridge.json("incidents", "list")["incidents"] == []


@pytest.mark.parametrize("federation", ["0.12"], indirect=True)
async def test_a_repeated_webhook_id_gets_the_recorded_answer_and_nothing_is_done_twice(
    federation: Federation,
) -> None:
    first = await relay(federation, report("one"), id="same")
    again = await relay(federation, report("two"), id="same")
    assert first == again == (200, {"results": [{"interaction": ANY}], "refuse": {}})

    def stored() -> set[str]:
        listed = federation.bridge.json("incidents", "list")["incidents"]
        return {one["identity"]["text"] for one in listed}

    await eventually(lambda: "incident-one" in stored(), 10)
    await relay(federation, report("third"), id="another")  # worked after all that came before it
    await eventually(lambda: "incident-third" in stored(), 10)
    assert stored() == {"incident-one", "incident-third"}


async def test_prosody_refuses_commands_that_the_bridge_did_not_sign(federation: Federation) -> None:
    stanza = "<iq type='result' to='b.test' id='x'/>"
    for more in ({"key": bytes(32)}, {"offset": -400}, {"offset": 400}):
        status, _ = await command(federation, "stanza.send", {"stanzas": [stanza]}, **more)
        assert status == 401
    status, _ = await post(
        f"{federation.a.url}/incident_bridge", "host.describe", {"host": "b.test"}, key=secret_of(federation)
    )
    assert status == 400
    assert [one for one in await federation.b.received() if "x" in one] == []


async def test_prosody_sends_nothing_that_is_not_an_answer_or_an_incident(federation: Federation) -> None:
    forbidden = [
        "<message to='b.test'><body>hello</body></message>",
        "<iq type='result' to='b.test' id='1'><query xmlns='jabber:iq:version'/></iq>",
        "<iq type='set' to='b.test' id='2'><query xmlns='jabber:iq:roster'/></iq>",
        "<iq type='set' to='user@b.test' id='3'><report xmlns='urn:xmpp:incident:2'/></iq>",
        "<iq type='set' to='a.test' id='4'><report xmlns='urn:xmpp:incident:2'/></iq>",
        "no xml at all",
    ]
    status, body = await command(federation, "stanza.send", {"stanzas": forbidden})
    assert status == 200
    assert all("error" in result for result in body["results"]), body


async def test_prosody_describes_itself(federation: Federation) -> None:
    status, body = await command(federation, "host.describe", {})
    assert status == 200
    assert body["host"] == "a.test"
    assert "stanza.send" in body["capabilities"]
    assert body["admins"] == ["admin@a.test"]
