"""What this host publishes for other software to load: what is listed, what is kept off, and saying so."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.errors import ConfigError
from bridge.pipeline import publish as stories
from bridge.policy.mitigation import ProtectedError
from bridge.web.console.guard import Refusal, Visit, get, post
from bridge.web.console.typed import span, spans, words

_MOST_ADDRESS: Final = 3071
_MOST_REASON: Final = 1000


async def show(visit: Visit) -> web.Response:
    """Show the lists of all hosts."""
    return await _page(visit)


async def _page(
    visit: Visit, *, problem: str = "", is_protected: bool = False, address: str = ""
) -> web.Response:
    settings = visit.service.settings
    return visit.page(
        "published.html",
        title="Lists",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        lists={host: await stories.published_by(visit.store, host, now=visit.now) for host in visit.hosts},
        is_published={host: settings.hosts[host].publish_lists for host in visit.hosts},
        base=settings.server.public_url or f"http://{settings.server.listen}",
        spans=spans(settings.policy.mitigation_days),
        usual=settings.policy.mitigation_days,
        problem=problem,
        is_protected=is_protected,
        typed=address or visit.query("address"),
    )


async def decide(visit: Visit) -> web.Response:
    """List an address, keep it off, or take either back."""
    host = visit.acting(visit.request.match_info["host"])
    address = await words(visit, "address", most=_MOST_ADDRESS)
    reason = await words(visit, "reason", most=_MOST_REASON)
    actor, now = visit.actor, visit.now
    said = await visit.field("do")
    try:
        match said:
            case "list":
                await stories.list_address(
                    visit.store,
                    host,
                    address,
                    actor=actor,
                    rules=visit.service.settings.policy,
                    now=now,
                    expires_at=now + await span(visit),
                    reason=reason,
                    second_yes=bool(await visit.field("protected")),
                )
            case "withhold":
                await stories.withhold(visit.store, host, address, actor=actor, now=now, reason=reason)
            case "unlist":
                await stories.take_back(visit.store, host, address, actor=actor, now=now)
            case _:
                raise Refusal(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "No such choice", "Choose one of those offered."
                )
    except ConfigError as error:
        is_protected = isinstance(error, ProtectedError)
        return await _page(visit, problem=f"{error}.", is_protected=is_protected, address=address)
    return visit.back("/lists", said)


def routes() -> list[web.RouteDef]:
    """Return the routes of the lists."""
    return [get("/lists", show), post("/lists/{host}", decide)]
