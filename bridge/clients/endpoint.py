"""POSTs of webhook events to endpoints, and GETs of lists, which anybody may have named and nobody may be trusted.

House rules: no socket is made but for an address that was judged, whatever a name resolves to by then; bytes signed are
bytes sent; no redirect, no proxy, no cookie, nothing from the environment but the authorities that TLS trusts; what the
other side does is never an exception; of what it answers little is read and less is kept.
"""

import asyncio
import errno
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_address
from typing import Any, Self
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from bridge.webhooks.subscription import Network, is_allowed, is_forbidden
from bridge.xmpp.jid import shown

ANSWER_BYTES_KEPT = 1024
_ANSWER_BYTES_READ = 64 * 1024
_MAX_RETRY_AFTER_SECONDS = 1e9
# A common server closes an idle connection after 5 s; a POST must not meet that moment, since it cannot be repeated
# without being sent twice.
_IDLE_SECONDS = 4
# A name server that does not answer holds a thread until it is given up. Whose name took so long before is looked up
# among its like, so that many of them keep nobody else waiting.
_LOOKUPS_AT_ONCE = 64
_SLOW_SECONDS = 2
_SWITCHING_PROTOCOLS = 101
_OK, _NOT_MODIFIED = 200, 304
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_MARK = 200
_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "prosody-incident-bridge",
}
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=None)  # there is one around it all


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one POST.

    Attributes:
        status: the HTTP status; None: there was no answer, and `error` says why.
        answer: the first KiB of the body; hostile text. So is what `error` tells of the other side.
        retry_after_seconds: how long it asked us to wait, from now; None: it did not, or not in a way one understands.
    """

    status: int | None = None
    error: str = ""
    answer: str = ""
    duration_ms: int = 0
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What came of one GET.

    Attributes:
        text: the body, bytes that are not UTF-8 replaced; None: it is the same as before, or there was none.
        mark: what tells later whether it changed; "": nothing does.
        error: why there is nothing to read, hostile text; "": there is, or it is the same.
    """

    text: str | None = None
    mark: str = ""
    error: str = ""


class EndpointClient:
    """Delivers to endpoints; an async context manager, one for a process.

    Connections are kept for a few seconds. How many go to one server at once is for the caller to bound (a lane does):
    two endpoints behind one web server must not wait for each other.

    Args:
        allow_networks: networks that are good although they are not public; plain http goes to those only.
        timeout_seconds: for one POST, from the look-up of the name to the end of the answer.
        max_connections: how many POSTs are under way at once; the time one waits here is no part of its timeout.
            With more connections than that, idle ones included, they are no longer kept.
        allow_http: plain http to public addresses too.
    """

    def __init__(
        self,
        *,
        allow_networks: Sequence[Network] = (),
        timeout_seconds: float = 15,
        max_connections: int = 1024,
        allow_http: bool = False,
    ) -> None:
        self._allowed = tuple(allow_networks)
        self._timeout_seconds = timeout_seconds
        self._max_connections = max_connections
        self._allow_http = allow_http
        self._slots = asyncio.Semaphore(max_connections)
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Make ready to post."""
        context = await asyncio.to_thread(ssl.create_default_context)  # reads files
        context.set_alpn_protocols(["http/1.1"])
        resolver = _Resolver()
        self._open.push_async_callback(resolver.close)
        for scheme, judge in (("https", self._judge), ("http", self._judge_http)):
            connector = aiohttp.TCPConnector(
                ssl=context,
                resolver=resolver,
                socket_factory=partial(self._socket, judge),
                limit=0,
                keepalive_timeout=_IDLE_SECONDS,
            )
            session = aiohttp.ClientSession(
                connector=connector,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=_NO_TIMEOUT,
                auto_decompress=False,
                trust_env=False,
            )
            self._sessions[scheme] = await self._open.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._open.aclose()

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post `body` as it is to a URL that `check_url` has seen; raises nothing for what the other side does."""
        session = self._sessions.get(url.partition("://")[0])
        if session is None:
            return Reply(error=f"'{shown(url)}' begins with neither https:// nor http://")
        async with self._slots:
            if len(self._sockets) > self._max_connections:
                headers = {**headers, "Connection": "close"}
            started = time.monotonic()
            heard = _Heard()
            error = ""
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await heard.listen(session, url, body, headers)
            except (aiohttp.ClientError, OSError, ValueError) as caught:
                error = self._why(caught)
            return heard.reply(error, duration_ms=round((time.monotonic() - started) * 1000))

    async def get(self, url: str, *, mark: str, max_bytes: int) -> Page:
        """Fetch what is at a URL that `check_url` has seen, unless it is still what `mark` says (an ETag).

        Raises nothing for what the other side does.
        """
        session = self._sessions.get(url.partition("://")[0])
        if session is None:
            return Page(error=f"'{shown(url)}' begins with neither https:// nor http://")
        headers = {"Connection": "close", "Accept": "text/plain, */*;q=0.1"}
        if mark:
            headers["If-None-Match"] = mark
        async with self._slots:
            try:
                async with (
                    asyncio.timeout(self._timeout_seconds),
                    session.get(url, headers=headers, allow_redirects=False) as answer,
                ):
                    return await _page(answer, mark=mark, max_bytes=max_bytes)
            except (aiohttp.ClientError, OSError, ValueError) as caught:
                return Page(error=self._why(caught))

    def _socket(self, judge: Callable[[str], None], info: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket for one address, the very one that is connected to next; every connection passes here.

        A name's addresses are each judged when their turn comes, a literal address too, which no resolver sees.
        """
        judge(str(info[4][0]))
        return _Socket(info[0], info[1], info[2], among=self._sockets)

    def _judge(self, text: str) -> None:
        name = is_forbidden(ip_address(text), self._allowed)
        if name is not None:
            raise OSError(
                f"{text} is not a public address ({name}); webhooks.allow_networks does not name it"
            )

    def _judge_http(self, text: str) -> None:
        self._judge(text)
        if not self._allow_http and not is_allowed(ip_address(text), self._allowed):
            raise OSError(f"plain http is not sent to {text}, which webhooks.allow_networks does not name")

    def _why(self, error: Exception) -> str:  # noqa: C901 - one case for each way to fail
        """Say in one line what went wrong."""
        match error:
            case aiohttp.ClientConnectorCertificateError():
                text = f"its certificate is not good: {_reason(error.certificate_error)}"
            case aiohttp.ClientConnectorSSLError():
                text = f"no TLS connection: {_reason(error.os_error)}"
            case aiohttp.ClientConnectorDNSError():
                text = f"its name cannot be resolved: {_reason(error.os_error)}"
            case aiohttp.ClientConnectorError():
                text = f"no connection: {_reason(error.os_error)}"
            case aiohttp.InvalidURL():
                text = f"its URL is not a URL: {error}"
            case aiohttp.ServerDisconnectedError():
                text = "it closed the connection without an answer"
            case aiohttp.ClientPayloadError():
                text = "it broke off in the middle of its answer"
            case aiohttp.ClientResponseError():
                text = f"it answered something that is not HTTP, or too long a header: {error.message}"
            case TimeoutError():
                text = f"no answer within {self._timeout_seconds:g} s"
            case OSError():
                text = f"the connection broke: {_reason(error)}"
            case _:
                text = f"{type(error).__name__}: {error}"
        return "".join(one if one.isprintable() else "\ufffd" for one in " ".join(text.split()))[:300]


async def _page(answer: aiohttp.ClientResponse, *, mark: str, max_bytes: int) -> Page:
    """Read a page, if it is one."""
    if answer.status == _NOT_MODIFIED and mark:
        return Page(mark=mark)
    if answer.status in _REDIRECTS:
        to = shown(answer.headers.get("Location", "nowhere"))
        return Page(
            error=f"it answered {answer.status} and leads to {to}, which is not followed: name that instead"
        )
    if answer.status != _OK:
        return Page(error=f"it answered {answer.status}")
    if answer.content_type == "text/html":
        return Page(error="it is a web page, not a list")
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > max_bytes:
            return Page(error=f"it is longer than {max_bytes} bytes")
    etag = answer.headers.get("ETag", "")
    return Page(
        text=body.decode("utf-8", "replace").removeprefix("\ufeff"),
        mark=etag if len(etag) <= _MAX_MARK and etag.isascii() and etag.isprintable() else "",
    )


class _Socket(socket.socket):
    """A socket that counts `among` the open ones until it is closed."""

    def __init__(self, family: int, kind: int, protocol: int, *, among: "WeakSet[socket.socket]") -> None:
        super().__init__(family, kind, protocol)
        self._among = among
        among.add(self)

    def close(self) -> None:
        self._among.discard(self)
        super().close()


class _Heard:
    """What was heard of an answer so far; it counts also when the rest never came."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.kept = bytearray()
        self.retry_after_seconds: float | None = None

    async def listen(
        self, session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]
    ) -> None:
        response = await session.post(url, data=body, headers=headers, allow_redirects=False)
        try:
            self.status = response.status
            asked = response.headers.get("Retry-After")
            if asked is not None:
                self.retry_after_seconds = retry_after_seconds(asked, now=time.time())
            left = 0 if response.status == _SWITCHING_PROTOCOLS else _ANSWER_BYTES_READ
            while left > 0 and not response.content.at_eof():
                chunk = await response.content.readany()
                self.kept += chunk[: ANSWER_BYTES_KEPT - len(self.kept)]
                left -= len(chunk)
        finally:
            response.close()  # does nothing to a connection whose answer was read to its end

    def reply(self, error: str, *, duration_ms: int) -> Reply:
        return Reply(
            status=self.status,
            error=error if self.status is None else "",
            answer=self.kept.decode("utf-8", "replace"),
            duration_ms=duration_ms,
            retry_after_seconds=self.retry_after_seconds,
        )


class _Resolver(AbstractResolver):
    """The system's resolver in threads of its own, so that slow names keep nobody else's work waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="resolve")
        self._slow_threads = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="resolve-slow")
        self._slow_names: set[str] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        threads = self._slow_threads if host in self._slow_names else self._threads
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                threads, self._look_up, host, port, family
            )
        except UnicodeError:
            raise OSError(errno.EINVAL, "not a host name") from None
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for family, _, protocol, _, address in found
        ]

    def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[Any]:
        """Runs in a thread, which is where the time is taken: waiting for a thread says nothing of a name."""
        started = time.monotonic()
        try:
            return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        finally:
            if time.monotonic() - started > _SLOW_SECONDS:
                self._slow_names.add(host)
            else:
                self._slow_names.discard(host)

    async def close(self) -> None:
        for threads in (self._threads, self._slow_threads):
            threads.shutdown(wait=False, cancel_futures=True)


def retry_after_seconds(text: str, *, now: float) -> float | None:
    """Read `Retry-After` (RFC 9110 §10.2.3), seconds or a date; `now` in Unix seconds. None: it is neither, or past."""
    text = text.strip()
    if re.fullmatch(r"[0-9]+", text, re.ASCII):
        return float(text) if len(text) < len("1000000000") else _MAX_RETRY_AFTER_SECONDS
    if len(text) > len("Wednesday, 31-December-2026 23:59:59 +0000"):
        return None
    try:
        date = parsedate_to_datetime(text)
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def _reason(error: Exception) -> str:
    """The reason of an error without its number and without OpenSSL's source lines."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, socket.gaierror):
        return str(error.strerror or error)
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
