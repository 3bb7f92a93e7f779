"""All pages of the console."""

from typing import Final

from aiohttp import web

from bridge.web.console import (
    about,
    abuse,
    abuse_act,
    acting,
    answer,
    approvals,
    audit,
    endpoint_form,
    endpoints,
    feeds,
    figures,
    guard,
    inbox,
    incident,
    incidents,
    letters,
    mitigations,
    peers,
    published,
    send,
    sign_in,
    triage,
)

PAGES: Final = (
    sign_in,
    answer,
    inbox,
    abuse,
    abuse_act,
    approvals,
    incidents,
    incident,
    acting,
    triage,
    letters,
    mitigations,
    peers,
    send,
    published,
    feeds,
    endpoint_form,
    endpoints,
    figures,
    audit,
    about,
    guard,
)  # guard last: what nobody else knows


def routes() -> list[web.RouteDef]:
    """Return the routes of the console."""
    return [route for page in PAGES for route in page.routes()]


def add(app: web.Application) -> None:
    """Add the console to a listener, last; every answer of that which is not the API's has the console's headers."""
    app.add_routes(routes())
    app.on_response_prepare.append(guard.harden)
