"""Lists of others that a host subscribes to: which, what they propose, and a yes to that with what it would touch."""

from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from bridge.errors import ConfigError
from bridge.pipeline import feeds as stories
from bridge.pipeline.ids import new_id
from bridge.policy.approval import own_target
from bridge.policy.compare import UNDECIDED
from bridge.policy.decisions import Approval, MitigationType, Target
from bridge.policy.feed import checked_url
from bridge.policy.record import derived_id
from bridge.web.console.guard import NOT_HERE, Refusal, Visit, get, post
from bridge.web.console.targets import beware, choices, foreseen
from bridge.web.console.typed import span, spans, words

_SHOWN: Final = 100
_MOST_URL: Final = 2048
_MOST_NAME: Final = 100
_MOST_DOMAIN: Final = 1023
_MOST_REASON: Final = 1000


async def show(visit: Visit) -> web.Response:
    """Show the lists of all hosts and what they propose."""
    return await _page(visit)


async def _page(visit: Visit, *, problem: str = "", typed: str = "") -> web.Response:
    settings = visit.service.settings
    rules = settings.policy
    quorum = _quorum(visit, rules.feed_quorum)
    proposals = {
        host: await stories.proposals(
            visit.store, host, own=settings.hosts, rules=rules, now=visit.now, quorum=quorum
        )
        for host in visit.hosts
    }
    undecided = {
        host: [one for one in what.found if one.standing in UNDECIDED] for host, what in proposals.items()
    }
    return visit.page(
        "feeds.html",
        title="Lists of others",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        feeds={host: await stories.listed(visit.store, host) for host in visit.hosts},
        proposals=proposals,
        undecided=undecided,
        shown=_SHOWN,
        decided={
            host: [one for one in what.found if one.standing not in UNDECIDED][:_SHOWN]
            for host, what in proposals.items()
        },
        quorum=quorum,
        problem=problem,
        typed=typed,
        look=look_at,
    )


def _quorum(visit: Visit, usual: int) -> int:
    text = visit.query("quorum")
    return int(text) if text.isascii() and text.isdecimal() and 0 < int(text[:3]) <= 20 else usual  # noqa: PLR2004


def look_at(host: str, domain: str) -> str:
    """The page on which one proposal is decided about."""
    return f"/feeds/{host}?{urlencode({'domain': domain})}"


async def change(visit: Visit) -> web.Response:
    """Subscribe, or end a subscription."""
    host = visit.acting(visit.request.match_info["host"])
    said, settings = await visit.field("do"), visit.service.settings
    url = await words(visit, "url", most=_MOST_URL)
    publisher = (await words(visit, "publisher", most=_MOST_NAME)).strip().casefold()
    try:
        match said:
            case "subscribe":
                hooks = settings.webhooks
                checked = checked_url(
                    url, own=settings.own_names, allow_http=hooks.allow_http, allowed=hooks.allow_networks
                )
                await stories.subscribe(
                    visit.store, host, checked, actor=visit.actor, now=visit.now, publisher=publisher
                )
            case "unsubscribe":
                known = await stories.find(visit.store, (await visit.field("id"))[:64])
                if known is None or known.host != host:
                    raise NOT_HERE
                await stories.unsubscribe(visit.store, known, actor=visit.actor, now=visit.now)
            case _:
                raise Refusal(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "No such choice", "Choose one of those offered."
                )
    except ConfigError as error:
        return await _page(visit, problem=f"{error}.", typed=url)
    return visit.back("/feeds", said)


async def look(visit: Visit) -> web.Response:
    """Show who names a server and what blocking it would touch."""
    host = visit.host(visit.request.match_info["host"])
    return await _deciding(visit, host, visit.query("domain"))


def _target(host: str, domain: str) -> Target:
    try:
        return own_target(host, MitigationType.BLOCK, address=domain)
    except ConfigError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "No such server", f"{error}.") from None


async def _deciding(
    visit: Visit,
    host: str,
    domain: str,
    *,
    problem: str = "",
    nonce: str = "",
    days: str = "",
    reason: str = "",
) -> web.Response:
    target, policy = _target(host, domain), visit.service.settings.policy
    bare = target.fields["domain"]
    draft = Approval(
        id="", host=host, incident_id="", request=None, requester="", targets=(target,), created_at=visit.now,
        expires_at=visit.now,
    )  # fmt: skip
    draft, unknown = await foreseen(visit, draft)
    shown = choices(draft.targets)
    return visit.page(
        "feed_block.html",
        title=f"Block {bare}?",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        host=host,
        domain=bare,
        named=(await stories.named(visit.store, host, [bare])).get(bare, ()),
        choices=shown,
        protected=[one for one in shown if one.second_yes],
        beware=await beware(visit, host, draft.targets),
        spans=spans(policy.mitigation_days),
        usual=policy.mitigation_days,
        nonce=nonce or new_id(),
        days=days,
        reason=reason,
        unknown=unknown,
        problem=problem,
    )


async def block(visit: Visit) -> web.Response:
    """Block it."""
    host = visit.acting(visit.request.match_info["host"])
    domain = await words(visit, "domain", most=_MOST_DOMAIN)
    reason = await words(visit, "reason", most=_MOST_REASON)
    nonce = (await visit.field("nonce"))[:64]
    try:
        after = await stories.block(
            visit.store,
            host,
            domain,
            own=visit.service.settings.hosts,
            approval_id=derived_id("feeds", host, domain, nonce),
            actor=visit.actor,
            rules=visit.service.settings.policy,
            now=visit.now,
            expires_at=visit.now + await span(visit),
            second_yes=bool(await visit.field("second")),
            reason=reason,
        )
    except ConfigError as error:
        text, days = f"Nothing was done: {error}.", await visit.field("days")
        return await _deciding(visit, host, domain, problem=text, nonce=nonce, days=days, reason=reason)
    return visit.back(f"/approvals/{after.id}", "approved")


def routes() -> list[web.RouteDef]:
    """Return the routes of lists of others."""
    return [
        get("/feeds", show),
        get("/feeds/{host}", look),
        post("/feeds/{host}", change),
        post("/feeds/{host}/block", block),
    ]
