"""Bytes on the wire: whatever comes to a listener of ours, or answers a call of ours, nothing breaks and nothing hangs.

Raw sockets on both sides, real service, real store, real clients.
"""

import asyncio
import logging
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import aiohttp
import pytest
from hypothesis import given, note

from bridge.clients.endpoint import ANSWER_BYTES_KEPT, EndpointClient
from bridge.clients.prosody import ProsodyClient
from bridge.config import load_settings
from bridge.errors import UnavailableError, UnsupportedError
from bridge.pipeline import tokens
from bridge.pipeline.actors import Actor
from bridge.policy.consumers import Scope
from bridge.store.embedded import start_embedded
from bridge.web import app
from tests.fuzz.mutate import NUMBERS, bounded, mutation, seeds
from tests.system.servers import new_secret

SECONDS = 30.0
LOOPBACK = "127.0.0.1"
Ports = dict[str, int]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def in_a_thread(serve: Callable[[Event, asyncio.Event], Awaitable[None]]) -> Iterator[None]:
    """Run `serve` in a loop of its own until the block ends."""
    ready, failed = Event(), []
    held: dict[str, Any] = {}

    async def run() -> None:
        held["loop"], held["stop"] = asyncio.get_running_loop(), asyncio.Event()
        try:
            await serve(ready, held["stop"])
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)
            ready.set()

    thread = Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(SECONDS)
        assert not failed, failed
        yield
    finally:
        held["loop"].call_soon_threadsafe(held["stop"].set)
        thread.join(SECONDS)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Ports, str]]:
    """A whole service; the ports of its listeners, and a token for everything."""
    folder = Path(tempfile.mkdtemp(prefix="ib-fuzz-"))
    store = start_embedded(folder / "s", max_bytes=256 * 2**20)
    ports = dict(zip(("ingest_listen", "listen", "metrics_listen"), free_ports(3), strict=True))
    listeners = "\n".join(f'{name} = "{LOOPBACK}:{port}"' for name, port in ports.items())
    (folder / "config.toml").write_text(
        f'[server]\n{listeners}\napi_requests_per_minute = 1000000\n[store]\nurl = "{store.url}"\n'
        f'[hosts."host.example"]\nsecret = "{new_secret()}"\n'
    )
    (folder / "config.toml").chmod(0o600)
    made: list[str] = []

    async def serve(ready: Event, stop: asyncio.Event) -> None:
        async with app.serving(load_settings(folder / "config.toml")) as service:
            _, text = await tokens.create(
                service.store, name="fuzz", scopes=(Scope.ADMIN,), hosts=(), expires_at=None,
                actor=Actor("cli:test"), now=datetime.now(UTC),
            )  # fmt: skip
            made.append(text)
            ready.set()
            await stop.wait()

    with in_a_thread(serve):
        yield ports, made[0]
    store.stop()
    shutil.rmtree(folder)


def ask(port: int, data: bytes) -> bytes:
    """Send the bytes, then the end; return all that comes until the other side ends."""
    with socket.create_connection((LOOPBACK, port), timeout=SECONDS) as one:
        with suppress(OSError):
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while chunk := one.recv(65536):
                answer += chunk
        return answer


def test_no_bytes_make_a_listener_fail_or_hang(
    served: tuple[Ports, str], caplog: pytest.LogCaptureFixture
) -> None:
    ports, token = served
    kept = [seed.replace(b"@TOKEN@", token.encode()) for seed in seeds("request")]

    @bounded(400)
    @given(NUMBERS)
    def try_all(number: int) -> None:
        data = mutation(kept, number)
        note(f"keep this in tests/fuzz/corpus/request: {data!r}")
        port = list(ports.values())[number % len(ports)]
        caplog.clear()
        answer = ask(port, data)
        statuses = {line.split()[1] for line in answer.splitlines() if line.startswith(b"HTTP/1.")}
        assert not statuses & {b"500", b"502"}, answer
        assert b"Traceback" not in answer
        assert token not in caplog.text
        assert not [
            one.getMessage() for one in caplog.records if one.exc_info or one.levelno >= logging.CRITICAL
        ]

    for seed in kept:
        for port in ports.values():
            assert b" 500 " not in ask(port, seed)[:20], seed
    try_all()


class Wire:
    """A server that answers every request with the bytes it was given, and then ends."""

    def __init__(self) -> None:
        self.answer = b""
        self.port = 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(self.answer)
            await writer.drain()
        writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


def test_no_answer_of_an_endpoint_makes_a_delivery_fail_but_in_its_own_way() -> None:
    kept = seeds("endpoint_answer")
    client = EndpointClient(allow_networks=(ip_network("127.0.0.0/8"),), timeout_seconds=SECONDS)
    wire = Wire()

    async def post(answers: list[bytes]) -> None:
        for answer in answers:
            wire.answer = answer
            reply = await client.post(f"http://{LOOPBACK}:{wire.port}/", body=b"{}", headers={})
            assert (reply.status is None) == bool(reply.error)
            assert reply.error.isprintable()
            assert len(reply.answer) <= ANSWER_BYTES_KEPT
            assert reply.retry_after_seconds is None or reply.retry_after_seconds >= 0

    with asyncio.Runner() as runner:

        @bounded(30)
        @given(NUMBERS)
        def try_all(number: int) -> None:
            runner.run(post([mutation(kept, number + one) for one in range(10)]))

        for opened in (wire, client):
            runner.run(opened.__aenter__())
        runner.run(post(kept))
        try_all()
        for opened in (client, wire):
            runner.run(opened.__aexit__())


class Host:
    """Where Prosody is said to be."""

    def __init__(self, port: int) -> None:
        self.api_url = f"http://{LOOPBACK}:{port}"
        self.secrets = (Secret(),)


class Secret:
    """As the settings have it."""

    def get_secret_value(self) -> str:
        return "whsec_" + "QUJD" * 10


def test_whatever_stands_in_for_prosody_is_unavailable_at_worst() -> None:
    kept = seeds("prosody_answer")
    target = {"account": "bad@host.example"}

    async def call_all(answers: list[bytes]) -> None:
        async with Wire() as wire, aiohttp.ClientSession() as session:
            client = ProsodyClient({"host.example": Host(wire.port)}, session)
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: client.send("host.example", ["<iq/>"], webhook_id="x"),
                lambda: client.notify("host.example", "x", webhook_id="x"),
                lambda: client.describe("host.example"),
                lambda: client.preview("host.example", **target),
                lambda: client.lift("host.example", mitigation="m", revision=2, webhook_id="x"),
                lambda: client.standing("host.example"),
            ]
            for number, answer in enumerate(answers):
                status = (b"200 OK", b"404 Not", b"409 No")[number % 3 if number % 2 else 0]
                wire.answer = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer)
                for call in calls:
                    with suppress(UnavailableError, UnsupportedError):
                        await call()

    with asyncio.Runner() as runner:

        @bounded(15)
        @given(NUMBERS)
        def try_all(number: int) -> None:
            answers = [mutation(kept, number + one) for one in range(6)]
            note(f"keep one of these in tests/fuzz/corpus/prosody_answer: {answers!r}")
            runner.run(call_all(answers))

        runner.run(call_all(kept))
        try_all()
