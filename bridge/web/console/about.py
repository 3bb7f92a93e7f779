"""Whether everything works, and who is signed in."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from aiohttp import web

from bridge.pipeline import sign_in
from bridge.policy.change import Queue
from bridge.web.console import find
from bridge.web.console.guard import NOT_HERE, Visit, get, post

_SESSIONS: Final = 100


async def show(visit: Visit) -> web.Response:
    """Show the state of the service, the store and the workers."""
    service = visit.service
    before = find.cursor(visit.query("before"))
    found, after = await sign_in.sessions(visit.store, now=visit.now, limit=_SESSIONS, before=before)
    return visit.page(
        "about.html",
        title="Status",
        reasons=service.reasons(),
        durability=service.durability,
        health=service.health,
        fill=service.fill,
        max_bytes=service.max_bytes,
        queues=tuple(Queue),
        settings=service.settings,
        sessions=[one for one in found if one.hosts.keys() & visit.hosts.keys()],
        next_page=after and f"/about?before={find.written(after)}#sessions",
        is_first=before is None,
        version=_version(),
    )


@cache
def _version() -> str:
    try:
        return version("prosody-incident-bridge")
    except PackageNotFoundError:
        return ""


async def end_session(visit: Visit) -> web.Response:
    """End somebody's session, of a host that one may act for; or one's own."""
    session = await sign_in.session_of(visit.store, visit.request.match_info["id"])
    if session is None or visit.session is None or not session.hosts.keys() & visit.hosts.keys():
        raise NOT_HERE
    if session.id != visit.session.id:
        for host in session.hosts:
            visit.acting(host)
    await sign_in.end(visit.store, session, by=visit.actor, now=visit.now)
    return visit.back("/about", "session-ended")


def routes() -> list[web.RouteDef]:
    """Return the routes of the status page."""
    return [get("/about", show), post("/sessions/{id}/end", end_session)]
