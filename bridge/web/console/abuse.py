"""What this server's users report about others: in the inbox, with one button that sends it and one that does not."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from aiohttp import web

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline import abuse as stories
from bridge.pipeline import abuse_lists, feeds
from bridge.pipeline.drafts import Origin
from bridge.policy import abuse, abuse_act
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.mitigation import ProtectedError
from bridge.policy.publish import ListFullError
from bridge.store import keys, load
from bridge.web.console.guard import NOT_HERE, Visit, post
from bridge.web.console.once import NewId, once, word

SHOWN: Final = 20


async def waiting(visit: Visit) -> tuple[list[AbuseDraft], int]:
    """The newest drafts that wait, and how many more there are."""
    found = [one for host in visit.hosts for one in await stories.waiting(visit.store, host, limit=SHOWN)]
    found.sort(key=lambda one: one.last_at, reverse=True)
    total = sum(await load.sizes(visit.store, [keys.abuse_drafts_open(host) for host in visit.hosts]))
    return found[:SHOWN], max(0, total - SHOWN)


async def _mine(visit: Visit) -> AbuseDraft:
    try:
        draft = await stories.find(visit.store, visit.request.match_info["id"])
    except ConfigError:
        raise NOT_HERE from None
    visit.acting(draft.host)
    return draft


async def send(visit: Visit) -> web.Response:
    """Send it to the domain that it is about; a form sent twice sends once."""
    draft = await _mine(visit)
    with_words, is_listing = bool(await visit.field("words")), bool(await visit.field("list"))
    wish = abuse_lists.Wish(
        rules=visit.service.settings.policy,
        second_yes=bool(await visit.field("protected")),
        only=frozenset(await visit.fields("account")),
    )

    async def act(new_id: NewId) -> str:
        origin = Origin(host=draft.host, to=(), now=visit.now, new_id=new_id, actor=visit.actor)
        sent = await stories.send(
            visit.store, origin, draft.id, with_words=with_words, wish=wish if is_listing else None
        )
        return sent.incident.id if sent.incident is not None else ""

    try:
        incident = await once(visit, act)
    except ProtectedError:
        return visit.back("/", "abuse-protected", protected=draft.id)
    except ListFullError:
        raise
    except (ConfigError, ConflictError):  # somebody else was faster, or more came
        return visit.back("/", "abuse-late")
    return visit.back(f"/incidents/{incident}", "abuse-sent")


async def dismiss(visit: Visit) -> web.Response:
    """Send nothing."""
    draft = await _mine(visit)
    try:
        await stories.dismiss(visit.store, draft.id, actor=visit.actor, now=visit.now)
    except (ConfigError, ConflictError):
        return visit.back("/", "abuse-late")
    return visit.back("/", "abuse-dismissed")


async def cards(
    visit: Visit, drafts: list[AbuseDraft], lists: Mapping[str, feeds.Known]
) -> list[dict[str, object]]:
    """What the card of each draft says, beside the draft itself."""
    until = visit.now + timedelta(days=visit.service.settings.policy.mitigation_days)
    listable = await abuse_lists.listable(visit.store, drafts, until=until)
    named = await feeds.about(visit.store, drafts, known=lists)
    return [
        {
            "draft": draft,
            "headline": abuse.headline(draft),
            "objection": abuse.objection(draft),
            "may_act": abuse_act.objection(draft, visit.hosts) is None
            and bool(abuse_act.suspendable(draft, ())),
            "listable": listable[draft.id],
            "named": named[draft.id],
            "is_protected": visit.query("protected") == draft.id,
            "once": word(),
        }
        for draft in drafts
    ]


def routes() -> list[web.RouteDef]:
    """Return the routes of what users report."""
    return [post("/abuse/{id}/send", send), post("/abuse/{id}/dismiss", dismiss)]
