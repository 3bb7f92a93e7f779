"""What becomes of a POST to an endpoint that is slow, broken, hostile, or not where it may be."""

import asyncio
import contextlib
import gzip
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from bridge.clients import endpoint as client_module
from bridge.clients.endpoint import ANSWER_BYTES_KEPT, EndpointClient, Page, Reply, retry_after_seconds

LOOPBACK = (ip_network("127.0.0.0/8"),)
BODY = b'{"type":"endpoint.test","data":{"text":"\xc3\xbc"}}'
NOW = 1_795_000_000.0


@dataclass
class Server:
    """A TCP server on 127.0.0.1 that reads a request and then does `answer`; it notes what it read."""

    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                _, _, length_and_rest = head.lower().partition(b"content-length:")
                length = int(length_and_rest.split(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                await self.answer(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def url(self, host: str = "127.0.0.1", scheme: str = "http", path: str = "/in") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def serving(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | bytes,
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Server]:
    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(answer, bytes)
        writer.write(answer)

    made = Server(write if isinstance(answer, bytes) else answer)
    server = await asyncio.start_server(made.handle, host, 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@pytest.fixture
async def client() -> AsyncIterator[EndpointClient]:
    async with EndpointClient(allow_networks=LOOPBACK, timeout_seconds=0.5) as made:
        yield made


async def post(client: EndpointClient, url: str, body: bytes = BODY, **headers: str) -> Reply:
    return await client.post(url, body=body, headers={"webhook-id": "e-1", **headers})


def ok(body: bytes = b"", head: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


# --- what is sent and what comes back


async def test_an_event_arrives_as_it_was_given_with_its_headers_and_no_others(
    client: EndpointClient,
) -> None:
    async with serving(ok(b"thanks")) as server:
        reply = await post(client, server.url(path="/in?a=b"), Authorization="Bearer x")

    assert (reply.status, reply.error, reply.answer, reply.retry_after_seconds) == (200, "", "thanks", None)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert body == BODY
    assert lines[0] == "POST /in?a=b HTTP/1.1"
    assert dict(line.split(": ") for line in lines[1:]) == {
        "Host": f"127.0.0.1:{server.port}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "prosody-incident-bridge",
        "webhook-id": "e-1",
        "Authorization": "Bearer x",
        "Content-Length": str(len(BODY)),
    }


async def test_a_connection_is_used_again_and_no_cookie_comes_back(client: EndpointClient) -> None:
    async with serving(ok(b"x", "Set-Cookie: a=b\r\n")) as server:
        for _ in range(5):
            assert (await post(client, server.url())).status == 200

    assert server.connections == 1
    assert len(server.requests) == 5
    assert not any(b"cookie" in request.lower() for request in server.requests)


async def test_with_more_connections_than_are_wanted_they_are_not_kept() -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(ok())) for _ in range(4)]
        client = EndpointClient(allow_networks=LOOPBACK, max_connections=2)
        async with client:
            for server in servers:
                assert (await post(client, server.url())).status == 200

    said = [b"Connection: close" in server.requests[0] for server in servers]
    assert said == [False, False, False, True]


async def test_connections_that_were_closed_do_not_count() -> None:
    client = EndpointClient(allow_networks=LOOPBACK, max_connections=1)
    async with client, serving(ok(head="Connection: close\r\n")) as server:
        for _ in range(5):
            assert (await post(client, server.url())).status == 200

    assert not any(b"Connection: close" in request for request in server.requests)


async def test_a_redirect_is_an_answer_and_not_followed(client: EndpointClient) -> None:
    async with serving(ok()) as other:
        head = f"HTTP/1.1 307 Moved\r\nLocation: {other.url()}\r\nContent-Length: 0\r\n\r\n"
        async with serving(head.encode()) as server:
            reply = await post(client, server.url())

    assert reply.status == 307
    assert other.connections == 0


async def test_a_proxy_in_the_environment_is_not_used(
    client: EndpointClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(ok()) as proxy, serving(ok()) as server:
        monkeypatch.setenv("http_proxy", proxy.url())
        assert (await post(client, server.url())).status == 200
        assert (proxy.connections, server.connections) == (0, 1)


# --- answers that are slow, large, or none


async def test_an_endpoint_that_does_not_answer_fails_when_its_time_is_up(client: EndpointClient) -> None:
    forever = asyncio.Event()

    async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await forever.wait()

    async with serving(hang) as server:
        reply = await post(client, server.url())
        forever.set()

    assert (reply.status, reply.error) == (None, "no answer within 0.5 s")
    assert 400 <= reply.duration_ms < 5000


async def test_time_spent_waiting_for_another_endpoint_is_not_its_own() -> None:
    forever = asyncio.Event()

    async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await forever.wait()

    client = EndpointClient(allow_networks=LOOPBACK, timeout_seconds=0.5, max_connections=1)
    async with client, serving(hang) as slow, serving(ok()) as fast:
        hung, reply = await asyncio.gather(post(client, slow.url()), post(client, fast.url()))
        forever.set()

    assert hung.status is None
    assert reply.status == 200
    assert reply.duration_ms < 400


async def test_a_status_counts_also_when_the_body_never_ends(client: EndpointClient) -> None:
    forever = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        await forever.wait()

    async with serving(drip) as server:
        reply = await post(client, server.url())
        forever.set()

    assert (reply.status, reply.error, reply.answer) == (200, "", "first")


async def test_an_endless_body_is_read_a_little_and_kept_less() -> None:
    sent = 0
    is_over = asyncio.Event()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()
        finally:
            is_over.set()

    async with (
        EndpointClient(allow_networks=LOOPBACK, timeout_seconds=30) as client,
        serving(flood) as server,
    ):
        reply = await post(client, server.url())
        await asyncio.wait_for(is_over.wait(), 10)  # we hang up on it

    assert (reply.status, reply.answer) == (200, "x" * ANSWER_BYTES_KEPT)
    assert sent < 50_000_000


async def test_a_gzip_bomb_stays_packed(client: EndpointClient) -> None:
    bomb = gzip.compress(b"\0" * 30_000_000)
    async with serving(ok(bomb, "Content-Encoding: gzip\r\n")) as server:
        reply = await post(client, server.url())

    assert reply.status == 200
    assert len(reply.answer) <= ANSWER_BYTES_KEPT


async def test_an_answer_that_is_no_text_is_shown_as_far_as_it_is(client: EndpointClient) -> None:
    async with serving(ok(b"\xff\x00ok")) as server:
        assert (await post(client, server.url())).answer == "\ufffd\0ok"


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"x" * 100_000 + b"\r\n",
        b"".join(b"X-%d: %s\r\n" % (number, b"x" * 8000) for number in range(5000)),
    ],
    ids=["one long", "many"],
)
async def test_huge_headers_are_no_answer(client: EndpointClient, head: bytes) -> None:
    async with serving(b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 0\r\n\r\n") as server:
        reply = await post(client, server.url())

    assert reply.status is None
    assert len(reply.error) <= 300


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"\x15\x03\x01\0\x02", b"HTTP/1.1 999999 x\r\n\r\n"])
async def test_what_does_not_speak_http_is_no_answer(client: EndpointClient, answer: bytes) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with serving(speak) as server:
        reply = await post(client, server.url())

    assert reply.status is None
    assert reply.error
    assert reply.error.isprintable()


async def test_a_change_of_protocol_is_an_answer_of_its_own(client: EndpointClient) -> None:
    async with serving(b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n") as server:
        assert (await post(client, server.url())).status == 101


async def test_a_connection_that_is_closed_or_reset_is_no_answer(client: EndpointClient) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(close) as closing, serving(reset) as resetting:
        closed, was_reset = await post(client, closing.url()), await post(client, resetting.url())

    assert (closed.status, closed.error) == (None, "it closed the connection without an answer")
    assert was_reset.status is None
    assert was_reset.error
    assert len(closing.requests) == 1


async def test_nobody_listening_and_no_such_name_are_no_answers(client: EndpointClient) -> None:
    async with serving(ok()) as gone:
        pass
    assert (await post(client, gone.url())).error == "no connection: Connection refused"
    unknown = await post(client, "https://no-such-name.invalid/")
    assert unknown.status is None
    assert unknown.error.startswith("its name cannot be resolved: ")
    assert "resolved" in (await post(client, f"https://{'a' * 64}.invalid/")).error


async def test_a_url_or_header_that_nobody_checked_raises_nothing(client: EndpointClient) -> None:
    for url in ("ftp://example.org/", "https://", "https:///x", "https://a:b:c/", "https://[::1", "\r\n", ""):
        reply = await post(client, url)
        assert reply.status is None
        assert reply.error
    async with serving(ok()) as server:
        reply = await post(client, server.url(), **{"X-A": "b\r\nX-Evil: 1"})
        assert reply.status is None
    assert server.requests == []


async def test_cancelling_a_post_cancels_it(client: EndpointClient) -> None:
    forever = asyncio.Event()
    arrived = asyncio.Event()

    async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        arrived.set()
        await forever.wait()

    async with serving(hang) as server:
        task = asyncio.create_task(post(client, server.url()))
        await asyncio.wait_for(arrived.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        forever.set()


# --- where it may go


OURSELVES = """
127.0.0.1 127.0.0.1. localhost localhost. 127.1 2130706433 0x7f.1 0x7f000001 0177.0.0.1 0 0.0.0.0
%31%32%37.0.0.1 ①②⑦.0.0.1 [::] [::1] [::ffff:7f00:1] [::ffff:0.0.0.0] [::127.0.0.1]
"""


@pytest.mark.parametrize("host", OURSELVES.split())
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_no_way_of_naming_this_machine_leads_to_it(host: str, scheme: str) -> None:
    async with EndpointClient(allow_http=True, timeout_seconds=5) as client, serving(ok()) as server:
        reply = await post(client, server.url(host, scheme))

    assert reply.status is None
    assert server.connections == 0
    assert re.search("is not a public address|cannot be resolved|is not a URL", reply.error)


async def test_of_a_names_addresses_only_the_good_ones_are_connected_to(client: EndpointClient) -> None:
    async with serving(ok(), host="::1") as server:
        reply = await post(client, server.url("localhost"))
        literal = await post(client, server.url("[::1]"))

    assert reply.status is None
    assert "::1 is not a public address (loopback)" in literal.error
    assert server.connections == 0


async def test_a_name_that_leads_to_an_allowed_network_is_good(client: EndpointClient) -> None:
    async with serving(ok()) as server:
        assert (await post(client, server.url("localhost"))).status == 200
        assert (await post(client, server.url("[::ffff:127.0.0.1]"))).status == 200


async def test_plain_http_goes_to_allowed_networks_only() -> None:
    async with EndpointClient(allow_networks=LOOPBACK, timeout_seconds=5) as client:
        reply = await post(client, "http://192.88.98.1:9/")

    assert (
        reply.error
        == "no connection: plain http is not sent to 192.88.98.1, which webhooks.allow_networks does not name"
    )


# --- TLS


def context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(made)
    return made


async def test_a_certificate_of_an_unknown_authority_is_not_good(client: EndpointClient) -> None:
    async with serving(ok(), tls=context(trustme.CA(), "127.0.0.1")) as server:
        reply = await post(client, server.url(scheme="https"))

    assert reply.status is None
    assert reply.error.startswith("its certificate is not good: unable to get local issuer certificate")
    assert server.requests == []


async def test_a_good_certificate_is_good_for_its_own_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    client = EndpointClient(allow_networks=LOOPBACK, timeout_seconds=5)
    async with client, serving(ok(), tls=context(authority, "localhost")) as server:
        good = await post(client, server.url("localhost", "https"))
        wrong = await post(client, server.url("127.0.0.1", "https"))

    assert good.status == 200
    assert wrong.error.startswith("its certificate is not good: IP address mismatch")


async def test_https_to_what_speaks_no_tls_is_no_answer(client: EndpointClient) -> None:
    async with serving(ok()) as server:
        reply = await post(client, server.url(scheme="https"))

    assert reply.status is None
    assert reply.error


# --- Retry-After


async def test_what_an_endpoint_asks_for_is_told(client: EndpointClient) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    answer = "HTTP/1.1 503 Busy\r\nRetry-After: {}\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer.format(7).encode()) as seconds, serving(answer.format(later).encode()) as date:
        assert (await post(client, seconds.url())).retry_after_seconds == 7
        assert 100 < ((await post(client, date.url())).retry_after_seconds or 0) <= 120


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("9" * 400, 1e9),
        ("Wed, 18 Nov 2026 18:27:40 GMT", 60),
        ("Wednesday, 18-Nov-26 18:27:40 GMT", 60),
        ("Wed Nov 18 18:27:40 2026", 60),
        ("Wed, 18 Nov 2020 18:27:40 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Wed, 99 Nov 99999 18:27:40 GMT", None),
        ("x" * 8000, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after_seconds(text, now=1_795_026_400) == seconds


# --- many at once


async def test_many_posts_at_once_are_all_answered() -> None:
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append((await request.read()).decode())
        return web.Response()

    app = web.Application()
    app.router.add_post("/in", note)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    async with EndpointClient(allow_networks=LOOPBACK, max_connections=8) as client:
        replies = await asyncio.gather(*(post(client, url, str(number).encode()) for number in range(200)))
    await runner.cleanup()

    assert {reply.status for reply in replies} == {200}
    assert sorted(seen, key=int) == [str(number) for number in range(200)]


async def test_names_that_are_never_resolved_keep_no_other_endpoint_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve, gate = socket.getaddrinfo, threading.Event()

    def hang(host: str, *arguments: Any, **more: Any) -> Any:
        if str(host).startswith("hang"):
            gate.wait(0.3)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return resolve(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(client_module, "_LOOKUPS_AT_ONCE", 4)
    monkeypatch.setattr(client_module, "_SLOW_SECONDS", 0.1)
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with (
        serving(answer) as server,
        EndpointClient(allow_networks=LOOPBACK, timeout_seconds=0.5) as client,
    ):
        names = [f"http://hang{number}.test/" for number in range(4)]
        await asyncio.gather(*(post(client, name) for name in names))
        slow = [asyncio.create_task(post(client, name)) for name in names * 2]
        await asyncio.sleep(0)
        reply = await post(client, server.url("localhost"))
        assert (reply.status, any(one.done() for one in slow)) == (204, False)
        gate.set()
        assert all("cannot be resolved" in reply.error for reply in await asyncio.gather(*slow))


# --- lists that are fetched


async def fetch(client: EndpointClient, url: str, mark: str = "", max_bytes: int = 1000) -> Page:
    return await client.get(url, mark=mark, max_bytes=max_bytes)


async def test_a_list_is_fetched_with_what_tells_later_whether_it_changed(client: EndpointClient) -> None:
    async with serving(ok(b"\xef\xbb\xbfbad.test\n\xff", 'ETag: "v1"\r\n')) as server:
        page = await fetch(client, server.url(path="/list"))
        await fetch(client, server.url(path="/list"), mark='"v0"')
    assert page == Page(text="bad.test\n\ufffd", mark='"v1"')
    assert server.requests[0].startswith(b"GET /list HTTP/1.1")
    assert b"If-None-Match" not in server.requests[0]
    assert b'If-None-Match: "v0"' in server.requests[1]


async def test_a_list_that_did_not_change_is_not_sent_again(client: EndpointClient) -> None:
    async with serving(b"HTTP/1.1 304 Not Modified\r\n\r\n") as server:
        assert await fetch(client, server.url(), mark='"v1"') == Page(mark='"v1"')
        assert (await fetch(client, server.url())).error == "it answered 304"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "it answered 404"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://else.test/\r\nContent-Length: 0\r\n\r\n",
            "it answered 302 and leads to http://else.test/, which is not followed: name that instead",
        ),
        (ok(b"x" * 1001), "it is longer than 1000 bytes"),
        (ok(b"<p>", "Content-Type: text/html; charset=utf-8\r\n"), "it is a web page, not a list"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "it broke off in the middle"),
        (b"SSH-2.0-x\r\n\r\n", "it answered something that is not HTTP"),
    ],
)
async def test_a_list_that_cannot_be_fetched_says_why(
    client: EndpointClient, answer: bytes, error: str
) -> None:
    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with serving(write) as server:
        page = await fetch(client, server.url())
    assert (page.text, page.mark) == (None, "")
    assert page.error.startswith(error), page.error


async def test_a_list_without_end_and_one_that_never_comes_are_given_up(client: EndpointClient) -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 10000)
                await writer.drain()

    async with serving(endless) as server:
        assert (await fetch(client, server.url())).error == "it is longer than 1000 bytes"
    forever = asyncio.Event()

    async def never(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await forever.wait()

    async with serving(never) as server:
        assert (await fetch(client, server.url())).error == "no answer within 0.5 s"
        forever.set()


async def test_a_list_is_fetched_from_no_address_that_an_endpoint_may_not_have() -> None:
    async with serving(ok(b"bad.test")) as server, EndpointClient() as client:
        page = await fetch(client, server.url())
        assert "is not a public address" in page.error
        assert "neither https" in (await fetch(client, "ftp://x.test/")).error
    assert server.connections == 0
