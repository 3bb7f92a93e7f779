"""All pages of the console."""

from typing import Final

from aiohttp import web

from bridge.web.console import about, guard, inbox, incident, incidents, peers, sign_in

PAGES: Final = (
    sign_in,
    inbox,
    incidents,
    incident,
    peers,
    about,
    guard,
)  # guard last: what nobody else knows


def routes() -> list[web.RouteDef]:
    """Return the routes of the console."""
    return [route for page in PAGES for route in page.routes()]
