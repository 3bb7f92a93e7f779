"""One table of routes, and what happens before and after each handler.

In this order: who calls (401), how often (429), with which scope (403), the query (400), the body (413, 415, 422),
the Idempotency-Key (409, 422), then the handler, which decides and commits once. What comes out of any of these as
an error is made a problem document by `problems.problems`.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel, RootModel, ValidationError

from bridge import log
from bridge.errors import BridgeError, StoreConfigError, UnavailableError
from bridge.pipeline.actors import Actor
from bridge.policy.consumers import Scope, Token
from bridge.store.connect import Store
from bridge.web import problems
from bridge.web.api import idempotency
from bridge.web.auth import Caller, authenticate, require
from bridge.web.bodies import read_body
from bridge.web.problems import FieldError, ProblemError, invalid, not_found
from bridge.web.state import SERVICE, Service

_log = log.get(__name__)

PREFIX: Final = "/api/v1"
JSON: Final = "application/json"
XML: Final = "application/xml"
TEXT: Final = "text/plain"
_HANDLER_SECONDS: Final = 30.0  # less than idempotency.IN_FLIGHT_SECONDS
_SAFE: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, checked as its route says.

    Attributes:
        caller: who calls; None only where the route's scope is None.
        query: an instance of the route's query model; so with `body`.
        new_id: makes ids; where the request has an Idempotency-Key, the same in each repetition.
    """

    service: Service
    request: web.Request
    caller: Caller | None
    path: Mapping[str, str]
    query: Any
    body: Any
    now: datetime
    new_id: Callable[[], str]

    @property
    def store(self) -> Store:
        """Where everything is."""
        return self.service.store

    @property
    def known(self) -> Caller:
        """Who calls."""
        if self.caller is None:
            raise RuntimeError("a public route asks who calls")
        return self.caller

    @property
    def token(self) -> Token:
        """With which token."""
        return self.known.token

    @property
    def actor(self) -> Actor:
        """Who has it done, for the audit log."""
        return self.known.actor

    @property
    def hosts(self) -> tuple[str, ...]:
        """The configured hosts that the caller may see."""
        return self.known.hosts

    def sees(self, host: str) -> bool:
        """Whether the caller may see what belongs to this host."""
        return host in self.hosts

    def hosts_for(self, host: str | None) -> tuple[str, ...]:
        """The hosts a list is about: the one asked for (400 naming `host` where the caller sees none such), or all."""
        if host is None:
            return self.hosts
        if not self.sees(host):
            raise invalid("host", "is not a host that this token may see", kind="invalid-query")
        return (host,)

    def one_host(self, host: str | None, *, kind: str = "invalid-body") -> str:
        """The host that something is done for: the one named, or the only one there is."""
        if host is not None:
            if not self.sees(host):
                raise invalid("host", "is not a host that this token may see", kind=kind)
            return host
        if len(self.hosts) != 1:
            raise invalid("host", f"say which: {', '.join(self.hosts) or 'this token sees none'}", kind=kind)
        return self.hosts[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a handler answers: a model, or bytes of the route's media type; both None: no body.

    Attributes:
        status: None: the route's.
    """

    body: BaseModel | None = None
    raw: bytes | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Answer | web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One line of the table.

    Attributes:
        path: under /api/v1, as aiohttp writes it: `/incidents/{id}`.
        scope: what the token needs; None: public, no token is looked at.
        query, body: what is accepted; None: no parameter, no body. An empty body counts as `{}`.
        answer: what is answered with `status`; None: no body, or not JSON.
        produces: the media type of the answer.
        or_text: it may be plain text instead, as the query says.
        is_refusable: a GET that the state of what it is about may not allow (409), as anything else.
        secret: finds the `secret` of an answer that was kept under an Idempotency-Key; None: it has none. It is not
            kept with the answer.
        is_stream: the handler answers with a response that it has begun itself; no time limit.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    scope: Scope | None
    handler: Handler
    summary: str
    tag: str
    description: str = ""
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    produces: str = JSON
    or_text: bool = False
    is_refusable: bool = False
    secret: Callable[[Call, Mapping[str, Any]], Awaitable[str]] | None = None
    is_stream: bool = False


def definition(route: Route) -> web.RouteDef:
    """The route as aiohttp knows it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if route.is_stream:
            return await _handle(route, request)
        async with asyncio.timeout(_HANDLER_SECONDS):
            return await _handle(route, request)

    path = PREFIX + route.path
    return web.get(path, handle) if route.method == "GET" else web.route(route.method, path, handle)


async def _handle(route: Route, request: web.Request) -> web.StreamResponse:
    service, now = request.app[SERVICE], datetime.now(UTC)
    caller = None
    if route.scope is not None:
        caller = await authenticate(request, service, now=now)
        await _spend(service, caller, now)
        require(caller.token, route.scope)
    query = _query(route, request)
    data = await _data(route, request)
    body = _body(route, data)
    key = None
    if route.method == "POST" and caller is not None:
        key = idempotency.read(
            request.headers.get(idempotency.HEADER),
            token_id=caller.token.id,
            method=route.method,
            path=request.rel_url.raw_path_qs,
            body=data,
        )
    call = Call(
        service=service,
        request=request,
        caller=caller,
        path=request.match_info,
        query=query,
        body=body,
        now=now,
        new_id=idempotency.ids(key),
    )
    return await (_run(route, call) if key is None else _run_once(route, call, key))


async def _spend(service: Service, caller: Caller, now: datetime) -> None:
    per_minute = service.settings.server.api_requests_per_minute
    seconds = await service.rates.spend(service.store, caller.token.id, per_minute=per_minute, now=now)
    if seconds is None:
        return
    raise ProblemError(
        "too-many-requests",
        f"a token may make {per_minute} requests a minute (server.api_requests_per_minute)",
        headers={"Retry-After": str(max(1, math.ceil(seconds)))},
    )


def _query(route: Route, request: web.Request) -> BaseModel | None:
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise invalid(name[:100], "is given twice", kind="invalid-query")
        given[name] = value
    if route.query is None:
        if given:
            raise invalid(next(iter(given))[:100], "is not known here", kind="invalid-query")
        return None
    try:
        return route.query.model_validate(given)
    except ValidationError as error:
        raise problems.of_validation(error, kind="invalid-query") from None


async def _data(route: Route, request: web.Request) -> bytes:
    if route.method in {"GET", "DELETE"} or not request.body_exists:
        return b""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.casefold() != "identity":
        detail = "bodies are read as they are, without encoding"
        raise ProblemError("unsupported-media-type", detail, errors=(FieldError("Content-Encoding", detail),))
    data = await read_body(request)
    if data and route.body is None:
        raise ProblemError("bad-request", "this takes no body")
    if data and (request.content_type != JSON or (request.charset or "utf-8").casefold() != "utf-8"):
        detail = f"must be {JSON}, in UTF-8"
        raise ProblemError(
            "unsupported-media-type",
            f"Content-Type {detail}",
            errors=(FieldError("Content-Type", detail),),
            headers={"Accept": JSON},
        )
    return data


def _body(route: Route, data: bytes) -> BaseModel | None:
    if route.body is None:
        return None
    try:
        return route.body.model_validate_json(data or b"{}")
    except ValidationError as error:
        leave_out = 1 if issubclass(route.body, RootModel) else 0  # which of several bodies it was taken for
        raise problems.of_validation(error, kind="invalid-body", leave_out=leave_out) from None


async def _run(route: Route, call: Call) -> web.StreamResponse:
    answer = await route.handler(call)
    return _response(route, answer) if isinstance(answer, Answer) else answer


async def _run_once(route: Route, call: Call, key: idempotency.Key) -> web.StreamResponse:
    """Run the handler unless the same request was answered before."""
    kept = await idempotency.begin(call.store, key)
    if kept is not None:
        headers = {**kept["headers"], "Idempotency-Replayed": "true"}
        whole = await _whole(route, call, kept)
        return web.Response(status=kept["status"], body=whole.encode(), headers=headers)
    try:
        response = await _run(route, call)
    except (UnavailableError, StoreConfigError):
        raise  # it may be stored; the repeat has the same ids
    except BridgeError:
        await idempotency.release(call.store, key)
        raise
    if isinstance(response, web.Response):
        body = _without_secret(route, response.text or "")
        answer = {"status": response.status, "headers": dict(response.headers), "body": body}
        try:
            await idempotency.keep(call.store, key, answer)
        except (UnavailableError, StoreConfigError) as error:
            _log.warning("the answer under an Idempotency-Key is not kept", reason=str(error))
    return response


def _without_secret(route: Route, text: str) -> str:
    if route.secret is None:
        return text
    return json.dumps({name: value for name, value in json.loads(text).items() if name != "secret"})


async def _whole(route: Route, call: Call, kept: Mapping[str, Any]) -> str:
    text: str = kept["body"]
    if route.secret is None:
        return text
    body = json.loads(text)
    return json.dumps({**body, "secret": await route.secret(call, body)})


def _response(route: Route, answer: Answer) -> web.Response:
    status = answer.status or route.status
    if answer.raw is None and answer.body is None:
        return web.Response(status=status, headers={**_SAFE, **answer.headers})
    raw = answer.raw if answer.raw is not None else _dumped(answer.body)
    headers = {**_SAFE, "Content-Type": route.produces, **answer.headers}
    return web.Response(status=status, body=raw, headers=headers)


def _dumped(body: BaseModel | None) -> bytes:
    return b"" if body is None else body.model_dump_json().encode()


__all__ = [
    "JSON",
    "PREFIX",
    "TEXT",
    "XML",
    "Answer",
    "Call",
    "Handler",
    "Route",
    "definition",
    "invalid",
    "not_found",
]
