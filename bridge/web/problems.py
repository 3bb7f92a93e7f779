"""Everything that goes wrong under `/api`, as an RFC 9457 problem document.

House rules: a problem says which field is to blame where one is; a 5xx says nothing of our inside, the log does,
under the id that the problem shows; what the caller sent comes back at most in a field's name, cut.
"""

import asyncio
import json
import math
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import ValidationError

from bridge import log
from bridge.errors import (
    BridgeError,
    ConfigError,
    ConflictError,
    MalformedError,
    RefusedError,
    StoreConfigError,
    UnavailableError,
)

_log = log.get(__name__)

PREFIX: Final = "urn:incident-bridge:problem:"
MEDIA_TYPE: Final = "application/problem+json"
_MOST_ERRORS = 20
_MOST_NAME = 100
KINDS: Final[Mapping[str, tuple[int, str]]] = {
    "bad-request": (400, "The request cannot be read"),
    "invalid-query": (400, "A query parameter is not what it may be"),
    "unauthorized": (401, "A bearer token is needed"),
    "forbidden": (403, "The token may not do this"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "This cannot be done with it"),
    "conflict": (409, "The state it is in does not allow this"),
    "busy": (409, "The same is being done right now"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body is of another type than is read here"),
    "invalid-body": (422, "The body is not what it may be"),
    "key-reused": (422, "The Idempotency-Key was used for something else"),
    "too-many-requests": (429, "The token made too many requests"),
    "internal": (500, "Something went wrong here"),
    "unavailable": (503, "Something needed does not answer"),
}
"""Every kind of problem: the end of its `type`, its status and its title."""
_KIND_OF: Final = {status: kind for kind, (status, _) in KINDS.items()} | {
    400: "bad-request",
    409: "conflict",
    422: "invalid-body",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field; `field` is its path (`sources/0/address`), or a parameter's or header's name."""

    field: str
    detail: str


class ProblemError(BridgeError):
    """A problem whose kind is known where it is found; one of `KINDS`."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


def not_found(what: str = "it") -> ProblemError:
    """Say the same of what is not there and of what the token may not see."""
    return ProblemError("not-found", f"there is no such {what}, or this token may not see it")


def invalid(field: str, detail: str, *, kind: str = "invalid-body") -> ProblemError:
    """Blame one field."""
    return ProblemError(kind, f"{field}: {detail}", errors=(FieldError(field, detail),))


def of_validation(error: ValidationError, *, kind: str, leave_out: int = 0) -> ProblemError:
    """Name each field that pydantic found wrong, without what it held.

    Args:
        error: what pydantic says.
        kind: of problem.
        leave_out: so many parts at the start of each path are pydantic's and not the caller's.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    errors = [
        FieldError(
            "/".join(str(part)[:_MOST_NAME] for part in one["loc"][leave_out:]),
            one["msg"].removeprefix("Value error, "),
        )
        for one in found[:_MOST_ERRORS]
    ]
    if found[0]["type"] == "json_invalid":
        return ProblemError("bad-request", f"the body is not JSON: {errors[0].detail}")
    first = f"{errors[0].field}: {errors[0].detail}" if errors[0].field else errors[0].detail
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return ProblemError(kind, first + more, errors=errors)


def problem_of(error: Exception) -> ProblemError:  # noqa: PLR0911 - a line for each kind of error
    """Make a problem of any error; one that is nobody's is logged, and only its id is told."""
    match error:
        case ProblemError():
            return error
        case web.HTTPException():
            return _of_http(error)
        case MalformedError():
            return invalid(re.sub(r"\[(\d+)\]", r"/\1", error.path) or "body", error.rule)
        case RefusedError():
            return ProblemError("invalid-body", error.stanza_error.text)
        case StoreConfigError():
            return _of_store(error)
        case ConfigError() | ConflictError():
            return ProblemError("conflict", str(error))
        case UnavailableError():
            return _unavailable(error.retry_after_seconds, error)
        case TimeoutError() | asyncio.TimeoutError():
            return _unavailable(5, error)
        case web.PayloadAccessError():
            return ProblemError("bad-request", "the body ended early or is encoded wrongly")
    own_id = secrets.token_hex(6)
    _log.exception("a request failed; report this as a bug", problem=own_id)
    return ProblemError("internal", f"it is in the log of the service under {own_id}")


def _unavailable(seconds: float, error: Exception) -> ProblemError:
    _log.warning("a request was put off: something needed does not answer", reason=str(error))
    headers = {"Retry-After": str(max(1, math.ceil(seconds)))}
    return ProblemError("unavailable", "the store does not answer now; try again", headers=headers)


def _of_store(error: StoreConfigError) -> ProblemError:
    _log.error("a request failed: the store cannot be used as it is configured", reason=str(error))
    detail = "the store cannot be used as it is configured; the log of the service says why"
    return ProblemError("unavailable", detail, headers={"Retry-After": "60"})


def _of_http(error: web.HTTPException) -> ProblemError:
    kind = _KIND_OF.get(error.status, "bad-request" if error.status < 500 else "internal")  # noqa: PLR2004
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    detail = {
        404: "there is no such resource; /api/v1/openapi.json lists them",
        405: f"it can be used with {headers.get('Allow', 'other methods')}",
        413: "a body may have at most 1 MiB",
    }.get(error.status, error.reason)
    return ProblemError(kind, detail, headers=headers)


def document(problem: ProblemError, *, instance: str) -> dict[str, Any]:
    """The problem as JSON says it."""
    status, title = KINDS[problem.kind]
    body: dict[str, Any] = {
        "type": PREFIX + problem.kind,
        "title": title,
        "status": status,
        "detail": problem.detail,
        "instance": instance,
    }
    if problem.errors:
        body["errors"] = [{"field": one.field, "detail": one.detail} for one in problem.errors]
    return body


def respond(problem: ProblemError, request: web.Request) -> web.Response:
    """Answer with a problem."""
    body = document(problem, instance=request.rel_url.raw_path)
    return web.Response(
        status=body["status"],
        body=json.dumps(body).encode(),
        headers={**problem.headers, "Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"},
    )


@web.middleware
async def problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn whatever is raised under `/api` into a problem document."""
    if not request.path.startswith("/api"):
        return await handler(request)
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - an edge: nothing of our inside may go out
        return respond(problem_of(error), request)
