"""The list of incidents, with what narrows it down."""

from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from bridge.iodef.model import Severity
from bridge.web.console import find
from bridge.web.console.guard import Visit, get
from bridge.xep0268.model import Status

_PER_PAGE: Final = 50
_FIELDS: Final = ("q", "peer", "status", "severity", "quarantine", "since", "until")


async def show(visit: Visit) -> web.Response:
    """Show a page of incidents."""
    typed = {name: visit.query(name) for name in _FIELDS}
    query = find.Query(
        words=typed["q"],
        peer=typed["peer"].casefold(),
        status=Status(typed["status"]) if typed["status"] in set(Status) else None,
        severity=typed["severity"] if typed["severity"] in set(Severity) else "",
        quarantine=typed["quarantine"] if typed["quarantine"] in {"yes", "no"} else "",
        since=find.day(typed["since"]),
        until=find.day(typed["until"]),
        before=find.cursor(visit.query("before")),
    )
    found = await find.search(visit.store, visit.hosts, query, limit=_PER_PAGE)
    kept = {name: value for name, value in typed.items() if value}
    return visit.page(
        "incidents.html",
        title="Incidents",
        incidents=found.incidents,
        triage=await find.triage(visit.store, found.incidents),
        is_filtered=not query.is_empty,
        is_partial=found.is_partial,
        is_first=query.before is None,
        first_page=f"/incidents?{urlencode(kept)}",
        next_page=found.after and f"/incidents?{urlencode({**kept, 'before': find.written(found.after)})}",
        typed=typed,
        statuses=tuple(Status),
        severities=tuple(Severity),
        has_several_hosts=len(visit.hosts) > 1,
    )


def routes() -> list[web.RouteDef]:
    """Return the route of the list."""
    return [get("/incidents", show)]
