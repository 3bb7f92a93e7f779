"""Every route of the API, in one table, and the documents made of it."""

import asyncio
import json
from functools import cache
from typing import Final

from aiohttp import web

from bridge.web import docs
from bridge.web.api import (
    abuse,
    approvals,
    deliveries,
    due,
    endpoints,
    events,
    feeds,
    incidents,
    interactions,
    letters,
    mitigations,
    openapi,
    peers,
    published,
    schemas,
)
from bridge.web.api.router import JSON, PREFIX, Route, definition

ROUTES: Final[tuple[Route, ...]] = (
    *incidents.ROUTES,
    *interactions.ROUTES,
    *letters.ROUTES,
    *due.ROUTES,
    *abuse.ROUTES,
    *approvals.ROUTES,
    *mitigations.ROUTES,
    *published.ROUTES,
    *feeds.ROUTES,
    *peers.ROUTES,
    *endpoints.ROUTES,
    *deliveries.ROUTES,
    *events.ROUTES,
    *schemas.ROUTES,
)


def routes() -> list[web.RouteDef]:
    """Return the routes of the API, its OpenAPI document and the page that shows it."""
    return [
        *(definition(route) for route in ROUTES),
        web.get(f"{PREFIX}/openapi.json", _show_json),
        web.get("/docs", _show_page),
    ]


async def _show_json(_request: web.Request) -> web.Response:
    body = await asyncio.to_thread(_json)
    return web.Response(body=body, headers={"Content-Type": JSON, "X-Content-Type-Options": "nosniff"})


async def _show_page(_request: web.Request) -> web.Response:
    return web.Response(body=await asyncio.to_thread(_page), headers=docs.HEADERS)


@cache
def _json() -> bytes:
    """The OpenAPI document; made when first asked for, because it takes as long as half a start."""
    return json.dumps(openapi.document(ROUTES), indent=1).encode()


@cache
def _page() -> bytes:
    return docs.html(openapi.document(ROUTES)).encode()
