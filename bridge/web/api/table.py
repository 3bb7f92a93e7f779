"""Every route of the API, in one table, and the documents made of it."""

import json
from typing import Final

from aiohttp import web

from bridge.web import docs
from bridge.web.api import (
    approvals,
    deliveries,
    endpoints,
    events,
    incidents,
    interactions,
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
    *approvals.ROUTES,
    *mitigations.ROUTES,
    *published.ROUTES,
    *peers.ROUTES,
    *endpoints.ROUTES,
    *deliveries.ROUTES,
    *events.ROUTES,
    *schemas.ROUTES,
)


def routes() -> list[web.RouteDef]:
    """Return the routes of the API, its OpenAPI document and the page that shows it."""
    described = openapi.document(ROUTES)
    text = json.dumps(described, indent=1).encode()

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=text, headers={"Content-Type": JSON, "X-Content-Type-Options": "nosniff"})

    return [
        *(definition(route) for route in ROUTES),
        web.get(f"{PREFIX}/openapi.json", show),
        web.get("/docs", docs.page(described)),
    ]
