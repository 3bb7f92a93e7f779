"""OpenAPI 3.1, made from the table of routes and the models that validate."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bridge.policy.consumers import Scope
from bridge.web.api.idempotency import HEADER
from bridge.web.api.router import JSON, PREFIX, TEXT, Route
from bridge.web.problems import KINDS, MEDIA_TYPE
from bridge.web.problems import PREFIX as PROBLEM
from bridge.webhooks.event import EventType
from bridge.webhooks.schema import EVENTS, components

VERSION: Final = "1"  # of the API; the release is no business of its callers
Mode = Literal["validation", "serialization"]
Names = Mapping[tuple[type[BaseModel], Mode], str]
_REF: Final = "#/components/schemas/{model}"
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "enum": [PROBLEM + kind for kind in KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "errors": {
            "type": "array",
            "description": "The fields to blame.",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_INTRODUCTION: Final = (
    "Everything an operator can do, by bearer token (`incident-bridge tokens create`). What a token's hosts do not "
    "include does not exist for it. Lists are paged: follow `next` until it is null; a page may be shorter than "
    "`limit`. Bodies are JSON of at most 1 MiB; unknown fields and parameters are errors. Errors are problem "
    "documents (RFC 9457) that name the field to blame. A POST with an `Idempotency-Key` is done once within 24 hours."
)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of these routes."""
    schemas, names = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, names)
    for model in {route.query for route in routes if route.query is not None}:
        schemas.pop(names[model, "validation"], None)
    bodies, parts = components()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Prosody incident bridge",
            "version": VERSION,
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": PREFIX}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "webhooks": {str(one): {"post": _event(one, body)} for one, body in bodies.items()},
        "components": {
            "schemas": {**schemas, "Problem": _PROBLEM, **parts},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "ib_<id>_<secret>"}
            },
        },
    }


def _schemas(routes: Sequence[Route]) -> tuple[dict[str, Any], Names]:
    wanted: dict[tuple[type[BaseModel], Mode], None] = {}
    for route in routes:
        for model in (route.query, route.body):
            if model is not None:
                wanted[model, "validation"] = None
        if route.answer is not None:
            wanted[route.answer, "serialization"] = None
    refs, found = models_json_schema(list(wanted), ref_template=_REF)
    names = {key: refs[key]["$ref"].rsplit("/", 1)[1] for key in wanted}
    return dict(found.get("$defs", {})), names


def _operation(route: Route, schemas: dict[str, Any], names: Names) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route, schemas, names),
        "responses": _responses(route, names),
        "security": [] if route.scope is None else [{"token": []}],
    }
    if route.scope is not None:
        found["x-scope"] = str(route.scope)
    if route.description:
        found["description"] = route.description
    if route.body is not None:
        is_needed = any(field.is_required() for field in route.body.model_fields.values())
        found["requestBody"] = {"required": is_needed, "content": _content(names[route.body, "validation"])}
    return found


def _event(event_type: EventType, body: dict[str, Any]) -> dict[str, Any]:
    """What an endpoint gets."""
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "operationId": f"event-{event_type}",
        "summary": EVENTS[event_type].meaning,
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in names
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
        "responses": {"2XX": {"description": "Taken; anything else counts as failure and is tried again."}},
        "security": [],
    }


def operation_id(route: Route) -> str:
    """A name for the operation, such as `get-incidents-id-iodef`."""
    return "-".join([route.method.lower(), *re.findall(r"[a-z0-9_.]+", route.path)])


def _content(name: str, media: str = JSON) -> dict[str, Any]:
    return {media: {"schema": {"$ref": _REF.format(model=name)}}}


def _parameters(route: Route, schemas: dict[str, Any], names: Names) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)", route.path)
    ]
    if route.query is not None:
        schema = schemas[names[route.query, "validation"]]
        for name, property_ in schema.get("properties", {}).items():
            one = {"name": name, "in": "query", "required": name in schema.get("required", ())}
            found.append({**one, "schema": _without_null(property_)})
    if route.method == "POST" and route.scope is not None:
        schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
        found.append({"name": HEADER, "in": "header", "required": False, "schema": schema})
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is not given is not null, it is not there."""
    kinds = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "title"}}
    if rest.get("default", ...) is None:
        del rest["default"]
    if len(kinds) == 1:
        return {**kinds[0], **rest}
    return {**rest, "anyOf": kinds} if kinds else rest


def _responses(route: Route, names: Names) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done." if route.method != "GET" else "Here it is."}
    if route.answer is not None:
        good["content"] = _content(names[route.answer, "serialization"], route.produces)
    elif route.produces != JSON:
        good["content"] = {route.produces: {"schema": {"type": "string"}}}
    if route.or_text:
        good["content"][TEXT] = {"schema": {"type": "string"}}
    problem = {"content": _content("Problem", MEDIA_TYPE)}
    statuses = [400, 503]
    if route.scope is not None:
        statuses += [401, 429]
    if route.scope not in {None, Scope.READ}:
        statuses.append(403)
    if "{" in route.path:
        statuses.append(404)
    if route.method != "GET" or route.is_refusable:
        statuses.append(409)
    if route.body is not None:
        statuses += [413, 415, 422]
    titles = dict(reversed(list(KINDS.values())))
    bad = {str(status): {"description": titles[status], **problem} for status in sorted(statuses)}
    return {str(route.status): good, **bad, "default": {"description": "A problem.", **problem}}
