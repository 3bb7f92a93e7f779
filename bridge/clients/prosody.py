"""Prosody's HTTP API, as `mod_incident_bridge` offers it (DESIGN §4).

House rules: bytes signed are bytes sent; no redirect is followed; an answer is read up to 1 MiB.
"""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp

from bridge.errors import UnavailableError, UnsupportedError
from bridge.webhooks import signature

_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
_MAX_ANSWER_BYTES = 1024 * 1024


class Secret(Protocol):
    """A secret that does not show itself."""

    def get_secret_value(self) -> str: ...  # noqa: D102


class Host(Protocol):
    """How one of our hosts is reached; see `[hosts]` in the configuration."""

    @property
    def api_url(self) -> str: ...  # noqa: D102
    @property
    def secrets(self) -> Sequence[Secret]: ...  # noqa: D102


def keys_of(host: Host) -> list[bytes]:
    """Decode every secret that a host accepts now; the first is the newest."""
    return [signature.decode_secret(secret.get_secret_value()) for secret in host.secrets]


class _BadRequestError(UnavailableError):
    """Prosody answered 400; `stanza.send` and `host.describe` wait until the operator has updated the module."""


class ProsodyClient:
    """Sends signed commands to the Prosody of each host."""

    def __init__(self, hosts: Mapping[str, Host], session: aiohttp.ClientSession) -> None:
        self._hosts = hosts
        self._session = session

    async def send(self, host: str, stanzas: Sequence[str], *, webhook_id: str) -> list[dict[str, Any]]:
        """Send up to 64 stanzas in order; returns {}, {"dropped": why} or {"error": why} for each.

        Raises:
            UnavailableError: Prosody is not reachable or refused the whole command; nothing is known to be sent.
        """
        answer = await self._command(host, "stanza.send", {"stanzas": list(stanzas)}, webhook_id)
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != len(stanzas):
            raise UnavailableError(
                f"Prosody of {host} did not answer for every stanza; is its module up to date?"
            )
        # Lua knows no difference between an empty object and an empty array.
        return [dict(one) if isinstance(one, dict) else {} for one in results]

    async def notify(self, host: str, text: str, *, webhook_id: str, to: Sequence[str] = ()) -> list[str]:
        """Send a message to the host's admins, or to those of them named in `to`; returns whom it was sent to.

        Raises:
            UnsupportedError: the host's module cannot do that, or not with this text; nobody was told.
            UnavailableError: Prosody is not reachable or refused the command; nobody is known to be told.
        """
        try:
            data = {"text": text, "to": list(to)} if to else {"text": text}
            answer = await self._command(host, "operator.notify", data, webhook_id)
        except _BadRequestError as error:
            raise UnsupportedError(str(error)) from error
        sent = answer.get("sent")
        return [str(one) for one in sent] if isinstance(sent, list) else []

    async def describe(self, host: str) -> dict[str, Any]:
        """Ask for versions, admins and capabilities of the host's Prosody."""
        return await self._command(host, "host.describe", {}, f"d-{secrets.token_hex(16)}")

    async def _command(
        self, host: str, kind: str, data: Mapping[str, Any], webhook_id: str
    ) -> dict[str, Any]:
        configured = self._hosts.get(host)
        if configured is None:
            raise UnavailableError(
                f'no [hosts."{host}"] in the configuration: add it, or remove what waits for it',
                retry_after_seconds=30,
            )
        timestamp = int(time.time())
        body = json.dumps(
            {
                "type": kind,
                "timestamp": datetime.fromtimestamp(timestamp, UTC).isoformat().replace("+00:00", "Z"),
                "data": {"host": host, **data},
            }
        ).encode()
        headers = signature.headers_for(
            keys_of(configured), message_id=webhook_id, timestamp=timestamp, body=body
        )
        headers |= {"Host": host, "Content-Type": "application/json"}
        url = configured.api_url.rstrip("/") + "/incident_bridge"
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False
            ) as response:
                return _read(host, response.status, await _body(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"Prosody of {host} is not reachable at {url}: {why}") from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer whole, or as much of it as nobody honest exceeds."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            break
    return bytes(body)


_ADVICE = {
    400: "its module does not understand us; install the module that came with this bridge",
    401: "it refuses our signature: set the same incident_bridge_secret there as hosts.secret here, and compare clocks",
    403: "it refuses our address: add this machine to incident_bridge_allow",
    404: "it does not know the host or the module: add incident_bridge to the host's modules_enabled and check api_url",
}


def _read(host: str, status: int, body: bytes) -> dict[str, Any]:
    """Read an answer; everything but 200 with JSON is a reason to try again and to tell the operator."""
    if status != 200:  # noqa: PLR2004 - HTTP
        text = body[:200].decode("utf-8", "replace")
        advice = _ADVICE.get(status, "see Prosody's log")
        kind = _BadRequestError if status == 400 else UnavailableError  # noqa: PLR2004 - HTTP
        raise kind(f"Prosody of {host} answered {status} ({text!r}): {advice}", retry_after_seconds=5)
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise UnavailableError(
            f"Prosody of {host} answered no JSON; is api_url right?", retry_after_seconds=5
        ) from error
    if not isinstance(answer, dict):
        raise UnavailableError(
            f"Prosody of {host} answered no JSON object; is api_url right?", retry_after_seconds=5
        )
    return answer
