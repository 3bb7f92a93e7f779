"""nginx.conf in front of a real bridge, and in front of a stand-in that sends events slowly."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bridge.webhooks.signature import MAX_BODY_BYTES
from deploy.servers import Authority, Process, accepts, until
from tests.system.servers import Lab

NAME = "incidents.example.org"
HTTP, HTTPS = 15680, 15643
MAIN = """\
daemon off; {user} pid {folder}/nginx.pid; error_log stderr warn;
events {{ }}
http {{
	access_log off;
	client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
	uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
	include {folder}/incident-bridge.conf;
}}
"""


@pytest.fixture
def client(authority: Authority, network: str) -> Callable[[], aiohttp.ClientSession]:
    """Makes clients that find the public name and trust its certificate.

    Read every response to its end: nobody waits for the TLS goodbye of a connection that is left before, and if nginx
    is slower with it than the test ends, the connection is found open in a later test.
    """

    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[aiohttp.abc.ResolveResult]:  # noqa: ARG002
            here = {"hostname": host, "host": f"{network}.180", "port": port}
            return [aiohttp.abc.ResolveResult(**here, family=socket.AF_INET, proto=0, flags=0)]

        async def close(self) -> None: ...

    def make() -> aiohttp.ClientSession:
        trusted = ssl.create_default_context(cafile=authority.file)
        return aiohttp.ClientSession(
            f"https://{NAME}:{HTTPS}", connector=aiohttp.TCPConnector(resolver=Resolver(), ssl=trusted)
        )

    return make


@pytest.fixture
def nginx(
    root: Path, lab: Lab, network: str, authority: Authority, commands: Callable[[str], Path]
) -> Callable[[str], None]:
    """Starts nginx with deploy/nginx.conf in front of an address; only names, ports and paths are changed."""

    def start(upstream: str) -> None:
        folder, address = lab.folder / "nginx", f"{network}.180"
        folder.mkdir()
        certificate, key = authority.issue(NAME)
        text = (root / "deploy/nginx.conf").read_text()
        changes = {
            "server 127.0.0.1:8268;": f"server {upstream};",
            "listen 80;": f"listen {address}:{HTTP};",
            "listen 443 ssl;": f"listen {address}:{HTTPS} ssl;",
            "listen [::]:80;": "",
            "listen [::]:443 ssl;": "",
            f"/etc/ssl/{NAME}.crt": str(certificate),
            f"/etc/ssl/{NAME}.key": str(key),
        }
        for written, real in changes.items():
            assert written in text, written
            text = text.replace(written, real)
        (folder / "incident-bridge.conf").write_text(text)
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(MAIN.format(user=user, folder=folder))
        process = Process(
            [commands("nginx") / "nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"],
            log=folder / "log",
        )
        lab.add("nginx", process)
        process.start()
        until(lambda: not process.is_running or accepts(address, HTTPS), 10, "nginx starts")
        assert process.is_running, process.log()
        assert process.log() == "", "nginx has something to say about the configuration"

    return start


async def test_the_world_reaches_the_api_and_neither_ingest_nor_health_nor_metrics(
    lab: Lab,
    nginx: Callable[[str], None],
    client: Callable[[], aiohttp.ClientSession],
    network: str,
    authority: Authority,
) -> None:
    bridge = lab.bridge()
    bridge.serve_host("a.test", f"http://{bridge.address}:15280")
    bridge.start_up()
    nginx(f"{bridge.address}:15268")

    async with client() as session:
        async with session.get("/api/v1/openapi.json") as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            assert "max-age" in answer.headers["Strict-Transport-Security"]
        async with session.get("/api/v1/incidents") as answer:
            assert (answer.status, answer.content_type) == (401, "application/problem+json")
        for path in ("/prosody/a.test", "/ready", "/live", "/metrics"):
            async with session.post(path, data=b"{}") as answer:
                assert answer.status == 404
                assert "nginx" in answer.headers["Server"]
    assert await status_of_post(network, authority, MAX_BODY_BYTES + 1) == 413


async def status_of_post(network: str, authority: Authority, body_bytes: int) -> int:
    """Announce a body of this size, see what is answered, and hang up."""
    trusted = ssl.create_default_context(cafile=authority.file)
    reader, writer = await asyncio.open_connection(f"{network}.180", HTTPS, ssl=trusted, server_hostname=NAME)
    head = f"POST /api/v1/interactions HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {body_bytes}\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(30):
        status = int((await reader.readline()).split()[1])
    writer.transport.abort()
    await writer.wait_closed()
    return status


async def test_plain_http_is_sent_to_https(
    nginx: Callable[[str], None], network: str, client: Callable[[], aiohttp.ClientSession]
) -> None:
    nginx(f"{network}.181:15268")

    async with aiohttp.ClientSession() as session:
        url = f"http://{network}.180:{HTTP}/api/v1/events?after=7"
        async with session.get(url, headers={"Host": NAME}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (
                301,
                f"https://{NAME}/api/v1/events?after=7",
            )


@pytest.fixture
async def slow(network: str) -> AsyncIterator[tuple[asyncio.Event, list[web.Request]]]:
    """A stand-in for the service that sends one event, and the next when it is told to."""
    go, requests = asyncio.Event(), []

    async def events(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: first\n\n")
        await go.wait()
        await answer.write(b"data: second\n\n")
        return answer

    app = web.Application()
    app.add_routes([web.get("/api/v1/events", events)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, f"{network}.181", 15268).start()
    yield go, requests
    go.set()
    await runner.cleanup()


async def test_an_event_arrives_while_the_stream_goes_on_and_addresses_are_not_made_up(
    nginx: Callable[[str], None],
    network: str,
    client: Callable[[], aiohttp.ClientSession],
    slow: tuple[asyncio.Event, list[web.Request]],
) -> None:
    go, requests = slow
    nginx(f"{network}.181:15268")

    headers = {"X-Forwarded-For": "192.0.2.1"}
    async with (
        asyncio.timeout(30),
        client() as session,
        session.get("/api/v1/events", headers=headers) as answer,
    ):
        first = await answer.content.readuntil(b"\n\n")
        go.set()
        second = await answer.content.readuntil(b"\n\n")
        assert await answer.read() == b""

    assert (first, second) == (b"data: first\n\n", b"data: second\n\n")
    assert requests[0].headers["X-Forwarded-For"].startswith("127.")
    assert requests[0].headers["X-Forwarded-Proto"] == "https"
    assert requests[0].host == NAME
