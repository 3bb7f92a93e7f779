"""The form that makes an endpoint, and the one that changes it: the same fields, each with what is wrong beside it."""

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from bridge.errors import ConfigError, MalformedError
from bridge.iodef.model import Severity
from bridge.pipeline import endpoints
from bridge.pipeline.endpoints import EndpointDraft, Permitted, draft_of
from bridge.policy.consumers import Endpoint, QuarantineFilter
from bridge.policy.sessions import Role
from bridge.policy.sign_in import digest, is_secret
from bridge.web.console.endpoints import own, page
from bridge.web.console.guard import Visit, get, post
from bridge.web.console.once import once, word
from bridge.webhooks.event import EventType

_LISTS: Final = ("hosts", "types", "severities")
QUARANTINED: Final = {
    QuarantineFilter.EXCLUDE.value: "not told of",
    QuarantineFilter.INCLUDE.value: "told of, marked as quarantined",
    QuarantineFilter.ONLY.value: "told of, and of nothing else",
}


def _permitted(visit: Visit) -> Permitted:
    """What the configuration permits, for the hosts that this person may act for."""
    settings = visit.service.settings.webhooks
    return Permitted(
        hosts=[host for host, role in visit.hosts.items() if role is Role.APPROVER],
        allow_http=settings.allow_http,
        allow_networks=settings.allow_networks,
        max_endpoints=settings.max_endpoints,
    )


async def show_new(visit: Visit) -> web.Response:
    """Show the empty form."""
    hosts = _may_act(visit)
    return _form(visit, None, _typed(EndpointDraft(url="", hosts=hosts)), {})


def _may_act(visit: Visit) -> list[str]:
    hosts = list(_permitted(visit).hosts)
    if not hosts:
        visit.acting(next(iter(visit.hosts)))  # says so
    return hosts


async def add(visit: Visit) -> web.Response:
    """Add an endpoint; the answer shows its secret."""
    _may_act(visit)
    typed = await _read(visit)
    try:
        draft = _draft(typed, {})

        async def act(_: object) -> str:
            added = await endpoints.add(
                visit.store,
                draft,
                actor=visit.actor,
                now=visit.now,
                permitted=_permitted(visit),
                secret=typed["secret"] or None,
            )
            return f"{added.id} {digest(added.secret)}"

        made, secret = (await once(visit, act)).split(" ")
    except MalformedError as error:
        return _form(visit, None, typed, _wrong(error))
    except ConfigError as error:
        return _form(visit, None, typed, {"secret" if typed["secret"] else "url": str(error)})
    one = await endpoints.loaded(visit.store, made)
    if typed["secret"] or not is_secret(one.secret, secret):  # who typed it has it; or it was rotated since
        return visit.back(f"/endpoints/{one.id}", "endpoint-added")
    return await page(visit, one, is_new=True)


async def show_change(visit: Visit) -> web.Response:
    """Show the form with what the endpoint is."""
    one = await own(visit)
    return _form(visit, one, _typed(draft_of(one)), {})


async def change(visit: Visit) -> web.Response:
    """Make the endpoint what was typed."""
    one = await own(visit)
    typed = await _read(visit)
    try:
        draft = _draft(typed, {} if typed["no_headers"] else one.headers)
        await endpoints.change(
            visit.store, one, draft, actor=visit.actor, now=visit.now, permitted=_permitted(visit)
        )
    except MalformedError as error:
        return _form(visit, one, typed, _wrong(error))
    return visit.back(f"/endpoints/{one.id}", "endpoint-changed")


async def _read(visit: Visit) -> dict[str, Any]:
    """What was typed, as the form shows it again."""
    names = ("url", "description", "peers", "quarantined", "xml", "headers", "no_headers", "secret")
    typed: dict[str, Any] = {name: await visit.field(name) for name in names}
    return typed | {name: await visit.fields(name) for name in _LISTS}


def _typed(draft: EndpointDraft) -> dict[str, Any]:
    """What would have to be typed to get an endpoint like this; the values of headers stay where they are."""
    return {
        "url": draft.url,
        "description": draft.description,
        "peers": "\n".join(draft.peers),
        "quarantined": draft.quarantined.value,
        "xml": "on" if draft.includes_xml else "",
        "headers": "",
        "no_headers": "",
        "secret": "",
        **{name: list(getattr(draft, name)) for name in _LISTS},
    }


def _draft(typed: Mapping[str, Any], headers: Mapping[str, str]) -> EndpointDraft:
    """What was typed, for the story that checks it; `headers` are those that stay where none are typed.

    Raises:
        MalformedError: a line is no header, or the choice none that is offered.
    """
    if typed["quarantined"] not in QUARANTINED:
        raise MalformedError("quarantined", "is none of those offered")
    draft = EndpointDraft(
        url=typed["url"],
        hosts=typed["hosts"],
        description=typed["description"],
        types=typed["types"],
        peers=typed["peers"].split(),
        severities=typed["severities"],
        quarantined=QuarantineFilter(typed["quarantined"]),
        includes_xml=bool(typed["xml"]),
    )
    return replace(draft, headers=_headers(typed["headers"]) or dict(headers))


def _headers(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, value = line.partition(":")
        if not colon or name.strip() in found:
            raise MalformedError("headers", "write one NAME: VALUE in a line, each name once")
        found[name.strip()] = value.strip()
    return found


def _wrong(error: MalformedError) -> dict[str, str]:
    """What is wrong, by the field it is wrong in."""
    field = error.path.partition("[")[0].partition(".")[0] or "url"
    return {field: error.rule}


def _form(
    visit: Visit, one: Endpoint | None, typed: Mapping[str, Any], wrong: Mapping[str, str]
) -> web.Response:
    return visit.page(
        "endpoint_form.html",
        title="Add an endpoint" if one is None else "Change an endpoint",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK,
        endpoint=one,
        typed=typed,
        wrong=wrong,
        choices=_permitted(visit).hosts,
        types=tuple(EventType),
        severities=tuple(Severity),
        quarantined=QUARANTINED,
        once=word(),
    )


def routes() -> list[web.RouteDef]:
    """Return the routes of adding and changing."""
    one = "/endpoints/{id:ep_[a-z2-7]+}"
    return [
        get("/endpoints/new", show_new),
        post("/endpoints", add),
        get(f"{one}/change", show_change),
        post(f"{one}/change", change),
    ]
