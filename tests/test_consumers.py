"""The consumers in README work: run as they stand there, with real deliveries and with everything that is not one."""

import asyncio
import contextlib
import functools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from bridge.errors import SignatureError
from bridge.pipeline import endpoints
from bridge.pipeline.actors import Actor
from bridge.policy.change import Change, Event
from bridge.policy.consumers import Delivery, DeliveryState, Scope
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.webhooks.signature import decode_secret, headers_for, verify
from tests.pipeline.conftest import server, store
from tests.pipeline.consumer import delivering, until
from tests.web.api.conftest import HOST, make_app, make_service, make_token, reported

__all__ = ["server", "store"]

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
VECTORS = json.loads((ROOT / "tests" / "vectors" / "deliveries.json").read_text(encoding="utf-8"))
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="
OTHER = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
ADMIN = Actor("cli:test")
BODY = b'{"type":"endpoint.test","timestamp":"2026-11-21T01:00:00Z","data":{"sequence":1}}'


def consumer(language: str) -> str:
    """The one consumer in README that is written in this language."""
    [found] = re.findall(rf"<!-- consumer: .*? -->\n```{language}\n(.*?)```", README, re.DOTALL)
    return str(found)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def signed(secret: str = SECRET, *, age: int = 0, body: bytes = BODY) -> dict[str, str]:
    at = int(time.time()) - age
    return headers_for([decode_secret(secret)], message_id="e-1", timestamp=at, body=body)


async def post(url: str, headers: dict[str, str], body: bytes = BODY) -> int:
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status


async def add(store: Store, url: str) -> None:
    """Add an endpoint on loopback, as the operator does."""
    permitted = endpoints.Permitted(hosts=[HOST], allow_networks=[ip_network("127.0.0.0/8")])
    draft = endpoints.EndpointDraft(url=url, hosts=[HOST])
    await endpoints.add(store, draft, actor=ADMIN, now=datetime.now(UTC), permitted=permitted, secret=SECRET)


async def happen(store: Store, event_type: str, **data: Any) -> None:
    event = Event(host=HOST, id="e-1", type=event_type, timestamp=datetime.now(UTC), data=data)
    await commit(store, Change(events=(event,)))


@contextlib.asynccontextmanager
async def python_consumer() -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Run README's Python consumer on a port that is free."""
    port = free_port()
    assert '("127.0.0.1", 8270)' in consumer("python")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        consumer("python").replace("8270", str(port)),
        env={**os.environ, "WEBHOOK_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def answers() -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return True
        return False

    try:
        await until(answers, seconds=20)
        yield f"http://127.0.0.1:{port}/in", process
    finally:
        process.terminate()
        await process.wait()


async def test_the_python_consumer_takes_real_deliveries(store: Store) -> None:
    async with python_consumer() as (url, process), delivering(store):
        await add(store, url)
        await happen(store, "incident.reported", peer={"domain": "ä.example", "quarantined": False})
        assert process.stdout
        line = await asyncio.wait_for(process.stdout.readline(), 20)

    assert line.decode().split() == ["incident.reported", "1", "e-1"]


async def test_the_python_consumer_refuses_what_is_not_genuine_and_lives_on() -> None:
    async with python_consumer() as (url, _):
        for headers, body in forged():
            assert await post(url, headers, body) == 401
        assert await post(url, signed(), BODY) == 204


def forged() -> list[tuple[dict[str, str], bytes]]:
    """Everything that is no delivery."""
    good = signed()
    return [
        ({}, BODY),
        (signed(OTHER), BODY),
        (signed(age=600), BODY),
        (signed(age=-600), BODY),
        (good, BODY + b" "),
        (good, b"\xff\x00"),
        *(({**good, "webhook-signature": text}, BODY) for text in ("v1,", "nonsense", "v1,*", "v1", " ")),
        ({**good, "webhook-id": "e-2"}, BODY),
        ({**good, "webhook-timestamp": "a[$(touch forged)]"}, BODY),
        ({**good, "webhook-signature": "v1,$(touch forged)`touch forged`"}, BODY),
    ]


@functools.cache
def search_path() -> str:
    """A PATH on which curl and openssl are, fetched where this machine has none."""
    command = [sys.executable, str(ROOT / "deploy" / "packages"), "curl"]
    folder = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return f"{os.environ['PATH']}:{folder}"


@contextlib.asynccontextmanager
async def shell_consumer(folder: Path, **environment: str) -> AsyncIterator[str]:
    """Run README's shell consumer as a web server runs a CGI program (RFC 3875)."""
    script = folder / "consumer.cgi"
    script.write_text(consumer("sh"))
    script.chmod(0o700)

    async def run(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()}
        process = await asyncio.create_subprocess_exec(
            script,
            cwd=folder,
            env={"PATH": search_path(), "CONTENT_LENGTH": str(len(body)), **environment, **headers},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(body)
        status = re.fullmatch(rb"Status: ([0-9]{3}) [^\n]*\n\n", out)
        return web.Response(status=int(status[1]) if status else 502)

    app = web.Application()
    app.router.add_post("/in", run)
    async with TestServer(app, host="127.0.0.1") as running:
        yield str(running.make_url("/in"))


async def test_the_shell_consumer_verifies_real_deliveries_and_fetches_their_documents(
    store: Store, tmp_path: Path
) -> None:
    incident = await reported(store, text="flood-1")
    _, token = await make_token(store, (Scope.READ,))
    documents = tmp_path / "documents.xml"
    secrets = {"WEBHOOK_SECRET": SECRET, "API_TOKEN": token, "DOCUMENTS": str(documents)}
    async with (
        TestServer(make_app(make_service(store)), host="127.0.0.1") as api,
        shell_consumer(tmp_path, **secrets) as url,
        delivering(store, public_url=str(api.make_url("")).rstrip("/")),
    ):
        await add(store, url)
        path = f"/api/v1/incidents/{incident.id}"
        await happen(
            store,
            "incident.updated",
            incident={"description": 'a "links":{"iodef":"https://evil.example/"}'},
            links={"self": path, "iodef": f"{path}/iodef"},
        )
        found = await until(lambda: delivered(store), seconds=30)

    assert [attempt.status for attempt in found.attempts] == [204]
    assert "flood-1</IncidentID>" in documents.read_text()


async def delivered(store: Store) -> Delivery | None:
    """The one delivery, once it is delivered."""
    ids = (await load.newest(store, [keys.DELIVERIES], limit=1))[keys.DELIVERIES]
    for one in (await load.fetch(store, names=[keys.delivery(each) for each in ids])).records.values():
        if isinstance(one, Delivery) and one.state is DeliveryState.DELIVERED:
            return one
    return None


async def test_the_shell_consumer_refuses_what_is_not_genuine(tmp_path: Path) -> None:
    async with shell_consumer(tmp_path, WEBHOOK_SECRET=SECRET, API_TOKEN="", DOCUMENTS="/dev/null") as url:
        for headers, body in forged():
            assert await post(url, headers, body) == 401, (headers, body)
        assert await post(url, signed(), BODY) == 204
        two = {
            **signed(),
            "webhook-signature": f"{signed(OTHER)['webhook-signature']} {signed()['webhook-signature']}",
        }
        assert await post(url, two, BODY) == 204

    assert not (tmp_path / "forged").exists()


async def test_the_shell_consumer_without_its_secret_or_openssl_refuses_everything(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "openssl").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "bin" / "openssl").chmod(0o700)
    empty = {**signed(), "webhook-signature": "v1, v1,"}
    unset = {"API_TOKEN": "", "DOCUMENTS": "/dev/null"}
    async with shell_consumer(tmp_path, **unset) as url:
        assert [await post(url, one, BODY) for one in (signed(), empty)] == [401, 401]
    path = f"{tmp_path / 'bin'}:{search_path()}"
    async with shell_consumer(tmp_path, WEBHOOK_SECRET=SECRET, PATH=path, **unset) as url:
        assert [await post(url, one, BODY) for one in (signed(), empty)] == [401, 401]


async def test_a_document_that_cannot_be_fetched_is_asked_for_again(tmp_path: Path) -> None:
    port = free_port()
    body = json.dumps(
        {"type": "t", "data": {"links": {"self": "x", "iodef": f"http://127.0.0.1:{port}/gone"}}},
        separators=(",", ":"),
    ).encode()
    secrets = {"WEBHOOK_SECRET": SECRET, "API_TOKEN": "ib_x", "DOCUMENTS": "/dev/null"}
    async with shell_consumer(tmp_path, **secrets) as url:
        assert await post(url, signed(body=body), body) == 500


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_vectors_for_consumers_are_judged_alike_by_us_and_the_standard_s_library(vector: Any) -> None:
    keys_, headers, body = (
        [decode_secret(one) for one in vector["secrets"]],
        vector["headers"],
        vector["body"],
    )

    def is_genuine() -> bool:
        try:
            verify(keys_, headers, body.encode(), now=vector["now"])
        except SignatureError:
            return False
        return True

    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    made = [Webhook(one).sign(headers["webhook-id"], at, body) for one in vector["secrets"]]
    is_signed = any(one in headers["webhook-signature"].split() for one in made)
    is_fresh = abs(vector["now"] - int(headers["webhook-timestamp"])) <= 300

    assert is_genuine() is vector["genuine"]
    assert (is_signed and is_fresh) is vector["genuine"]
