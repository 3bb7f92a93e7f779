"""Prosody's HTTP API, as `mod_incident_bridge` offers it (DESIGN §4).

House rules: bytes signed are bytes sent; no redirect is followed; an answer is read up to 1 MiB.
"""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp

from bridge.errors import UnavailableError, UnsupportedError
from bridge.webhooks import signature

_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
_MAX_ANSWER_BYTES = 1024 * 1024
_MAX_PAGES = 100


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


class _RefusedError(UnavailableError):
    """The module itself answered 404 or 409: a reason to give up, not to try again."""

    def __init__(self, what: str, *, status: int, detail: Mapping[str, Any]) -> None:
        super().__init__(what, retry_after_seconds=5)
        self.status = status
        self.error = str(detail["error"])
        self.detail = detail


class _BadRequestError(UnavailableError):
    """Prosody answered 400; `stanza.send` and `host.describe` wait until the operator has updated the module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigated:
    """What Prosody answered about a mitigation, or about a list.

    Attributes:
        ok: whether it is in force, or lifted, or done, as asked.
        status: 200, or 404 (no such account, room or mitigation), or 409 (refused, or a newer revision is known).
        error: Prosody's reason in English where it is not `ok`, else "".
        detail: all that it answered. After `mitigate`: `is_new`, `is_done` (false: Prosody goes on trying by itself),
            `together_with` (other mitigations of that target). After `lift`: `was` (`active`, or how it had ended
            before: `lifted`, `expired`, `undone`), `is_done`, `still_mitigated_by`, and where something was restored
            `is_gone` (account or room does not exist any more) and `changed_by_hand` (the affiliation that somebody
            else set).
    """

    ok: bool
    status: int
    error: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What Prosody has: rows with `mitigation` (its id); those that ended also have `how`."""

    active: tuple[Mapping[str, Any], ...]
    ended: tuple[Mapping[str, Any], ...]


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

    async def thank(self, host: str, text: str, to: Sequence[str], *, webhook_id: str) -> list[str]:
        """Send a message to users of the host, up to 64, who reported somebody; returns whom it was sent to.

        Raises:
            UnsupportedError: the host's module cannot do that; nobody was told.
            UnavailableError: Prosody is not reachable or refused the command; nobody is known to be told.
        """
        try:
            answer = await self._command(host, "reporters.notify", {"text": text, "to": list(to)}, webhook_id)
        except _BadRequestError as error:
            raise UnsupportedError(str(error)) from error
        sent = answer.get("sent")
        return [str(one) for one in sent] if isinstance(sent, list) else []

    async def describe(self, host: str) -> dict[str, Any]:
        """Ask for versions, admins and capabilities of the host's Prosody."""
        return await self._command(host, "host.describe", {}, _new_id())

    async def preview(
        self,
        host: str,
        *,
        account: str | None = None,
        domain: str | None = None,
        room: str | None = None,
        jid: str | None = None,
    ) -> Mapping[str, Any]:
        """Ask what mitigating an account, a domain, or a jid in a room would touch.

        The answer has `exists`, `is_admin`, `refused` (why Prosody would refuse it, or None), `mitigated_by` (ids),
        `rooms` (each `room` and the `occupants` concerned), and where it applies `sessions`, `contacts` with
        `contacts_complete`, `streams`, `affiliation`, `occupants` of that room who would be removed and
        `occupants_in_all`.

        Raises:
            UnsupportedError: the host's module cannot do that, or the target is not one.
            UnavailableError: Prosody is not reachable or refused the command.
        """
        named = {"account": account, "domain": domain, "room": room, "jid": jid}
        target = {name: value for name, value in named.items() if value is not None}
        answer = (await self._mitigation(host, "impact.preview", target, _new_id())).detail
        # Lua knows no difference between an empty object and an empty array.
        lists = {name: list(answer.get(name) or ()) for name in ("rooms", "mitigated_by")}
        return {**answer, **lists}

    async def mitigate(
        self,
        host: str,
        action: str,
        *,
        mitigation: str,
        revision: int,
        expires_at: datetime,
        target: Mapping[str, str],
        reason: str,
        webhook_id: str,
    ) -> Mitigated:
        """Carry out `account.suspend`, `domain.block` or `room.ban`; the same id and revision again changes nothing.

        Args:
            host: whose Prosody does it.
            action: the command.
            mitigation: its id, of at most 128 letters, digits and `_.-`.
            revision: from 1 on; a lower one than Prosody knows is refused.
            expires_at: aware; Prosody ends it then by itself.
            target: `account`, or `domain`, or `room` and `jid`.
            reason: at most 500 bytes of text for the operators; neither users nor rooms are told.
            webhook_id: the same for every try.

        Raises:
            UnsupportedError: the host's module cannot do that; nothing was done.
            UnavailableError: Prosody is not reachable or refused the command; whether it was done is not known.
        """
        data = {
            "mitigation": mitigation,
            "revision": revision,
            "expires_at": expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": reason,
            **target,
        }
        return await self._mitigation(host, action, data, webhook_id)

    async def lift(self, host: str, *, mitigation: str, revision: int, webhook_id: str) -> Mitigated:
        """End a mitigation; `revision` is higher than that of the mitigation as it was carried out.

        What is lifted, expired or undone already is `ok` too; `detail["was"]` says which.

        Raises:
            UnsupportedError, UnavailableError: see `mitigate`.
        """
        data = {"mitigation": mitigation, "revision": revision}
        return await self._mitigation(host, "mitigation.lift", data, webhook_id)

    async def mitigations(self, host: str) -> list[Mapping[str, Any]]:
        """List the mitigations that are in force, by id: `mitigation`, `revision`, `type`, target, times, `reason`.

        Raises:
            UnsupportedError, UnavailableError: see `mitigate`.
        """
        return list((await self.standing(host)).active)

    async def standing(self, host: str) -> Standing:
        """Say which mitigations are in force, and how those ended that ended lately.

        Raises:
            UnsupportedError, UnavailableError: see `mitigate`.
        """
        rows: list[Mapping[str, Any]] = []
        ended: list[Mapping[str, Any]] = []
        data: dict[str, Any] = {}
        for _ in range(_MAX_PAGES):
            answer = await self._mitigation(host, "mitigations.list", data, _new_id())
            if not answer.ok:
                raise UnavailableError(f"Prosody of {host} cannot list its mitigations: {answer.error}")
            rows += [one for one in answer.detail.get("mitigations") or () if isinstance(one, dict)]
            ended += [one for one in answer.detail.get("ended") or () if isinstance(one, dict)]
            after = answer.detail.get("next")
            if not after:
                return Standing(active=tuple(rows), ended=tuple(ended))
            data = {"after": after}
        raise UnavailableError(f"Prosody of {host} lists mitigations without end; is its module up to date?")

    async def publish(self, host: str, nodes: Mapping[str, Sequence[str]]) -> Mitigated:
        """Make the host's pubsub nodes hold items with just these ids, a bounded number of changes at a time.

        The answer's `detail` has `changed` and `left_out` (both numbers) and `more`: ask again.

        Raises:
            UnsupportedError: the host's module cannot do that.
            UnavailableError: Prosody is not reachable or refused the command.
        """
        data = {"nodes": {node: list(ids) for node, ids in nodes.items()}}
        return await self._mitigation(host, "list.publish", data, _new_id())

    async def read_list(self, host: str, service: str, node: str, known: str = "") -> Mitigated:
        """Ask for the ids of the items on a pubsub node of another server, which the host's Prosody then follows.

        Args:
            host: whose Prosody reads it.
            service: a bare JID of another server.
            node: of 1 to 1023 bytes, without control characters.
            known: the `revision` that is known already; "" if none is.

        The answer's `detail` has `state`. "loading": the service was asked; ask again soon. "ready": `revision`
        (another one whenever the ids changed, and after a restart of Prosody), `left_out` (how many further items
        there are, beyond the limit or with ids that cannot be names), and either `unchanged` (true: `known` is the
        revision) or `names` (sorted, each of at most 1023 bytes without spaces). Where it is not `ok`, the service
        refused or did not answer, and `error` says so in words that may be the service's own; asked again, Prosody
        asks it again, at most once a minute.

        Raises:
            UnsupportedError: the host's module cannot do that, or the place is none at another server.
            UnavailableError: Prosody is not reachable or refused the command.
        """
        data = {"service": service, "node": node, "known": known}
        read = await self._mitigation(host, "list.read", data, _new_id())
        if not read.ok or "names" not in read.detail:
            return read
        # Lua knows no difference between an empty object and an empty array.
        return replace(read, detail={**read.detail, "names": list(read.detail["names"] or ())})

    async def forget_list(self, host: str, service: str, node: str) -> Mitigated:
        """Have the host's Prosody unsubscribe from a node and forget it, whether it follows it or not.

        Raises:
            UnsupportedError, UnavailableError: see `read_list`.
        """
        return await self._mitigation(host, "list.forget", {"service": service, "node": node}, _new_id())

    async def _mitigation(self, host: str, kind: str, data: Mapping[str, Any], webhook_id: str) -> Mitigated:
        try:
            return Mitigated(ok=True, status=200, detail=await self._command(host, kind, data, webhook_id))
        except _BadRequestError as error:
            raise UnsupportedError(str(error)) from error
        except _RefusedError as error:
            return Mitigated(ok=False, status=error.status, error=error.error, detail=error.detail)

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
    if status in {404, 409} and (detail := _own_error(body)):
        raise _RefusedError(f"Prosody of {host} refused it: {detail['error']}", status=status, detail=detail)
    if status != 200:  # noqa: PLR2004 - HTTP
        text = body[:200].decode("utf-8", "replace")
        advice = _ADVICE.get(status, "see Prosody's log")
        kind = _BadRequestError if status == 400 else UnavailableError  # noqa: PLR2004 - HTTP
        raise kind(f"Prosody of {host} answered {status} ({text!r}): {advice}", retry_after_seconds=5)
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnavailableError(
            f"Prosody of {host} answered no JSON; is api_url right?", retry_after_seconds=5
        ) from error
    if not isinstance(answer, dict):
        raise UnavailableError(
            f"Prosody of {host} answered no JSON object; is api_url right?", retry_after_seconds=5
        )
    return answer


def _own_error(body: bytes) -> dict[str, Any] | None:
    """Return the module's own error; Prosody's HTTP server knows 404 too, and answers it as a page."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("error"), str) else None


def _new_id() -> str:
    return f"d-{secrets.token_hex(16)}"
