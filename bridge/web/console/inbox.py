"""What needs this operator, and why; nothing else."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from aiohttp import web

from bridge.pipeline import feeds
from bridge.pipeline.due import due
from bridge.policy.compare import UNDECIDED
from bridge.policy.decisions import Triage, TriageState
from bridge.policy.record import Incident, Interaction, Peer, Way
from bridge.store import keys, load
from bridge.web.console import abuse, find, lists, timeline
from bridge.web.console.guard import Visit, get
from bridge.xep0268.model import Status

_SHOWN: Final = 20
_LOOKED_AT: Final = 100
_STORIES: Final = 30
_STORY: Final = 20
_REPORTS: Final = 30
_RECENT: Final = timedelta(days=7)


async def show(visit: Visit) -> web.Response:
    """Show what waits for a decision, what went wrong, and what is new."""
    approvals, more_approvals = await lists.waiting(
        visit.store, list(visit.hosts), now=visit.now, limit=_LOOKED_AT
    )
    drafts, more_drafts = await abuse.waiting(visit)
    strangers, more_strangers, beware = await _strangers(visit)
    troubles, fresh = await _news(visit, {one.incident_id for one in approvals})
    reasons, rules = visit.service.reasons(), visit.service.settings.policy
    steps = [one for one in await due(visit.store, visit.hosts, rules=rules) if one.at <= visit.now]
    lists_of_others = {host: await feeds.load_lists(visit.store, host) for host in visit.hosts}
    proposed, let_go = await _of_lists(visit, lists_of_others)
    waiting = (approvals, drafts, strangers, troubles, steps, reasons, beware, fresh, let_go)
    return visit.page(
        "inbox.html",
        title="Inbox",
        approvals=approvals,
        more_approvals=more_approvals,
        drafts=await abuse.cards(visit, drafts, lists_of_others),
        more_drafts=more_drafts,
        strangers=strangers[:_SHOWN],
        more_strangers=more_strangers + max(0, len(strangers) - _SHOWN),
        beware=beware,
        steps=steps[:_SHOWN],
        more_steps=max(0, len(steps) - _SHOWN),
        proposed=proposed,
        let_go=let_go,
        troubles=troubles[:_SHOWN],
        fresh=fresh[:_SHOWN],
        more_fresh=max(0, len(fresh) - _SHOWN),
        reasons=reasons,
        is_durable=visit.service.durability.mode == "disk",
        is_empty=not any(waiting),
        has_several_hosts=len(visit.hosts) > 1,
    )


async def _of_lists(visit: Visit, known: Mapping[str, feeds.Known]) -> tuple[int, int]:
    """How many servers lists of others propose to block, and how many blocked because of them fewer name now."""
    settings = visit.service.settings
    found = [
        await feeds.proposals(
            visit.store, host, own=settings.hosts, rules=settings.policy, now=visit.now, known=read
        )
        for host, read in known.items()
        if read.feeds
    ]
    undecided = sum(one.standing in UNDECIDED for what in found for one in what.found)
    return undecided + sum(what.left_out for what in found), sum(len(what.let_go) for what in found)


async def _strangers(visit: Visit) -> tuple[list[Peer], int, list[tuple[str, str]]]:
    """Servers nobody decided about that have something in quarantine, how many more; and names that only look known."""
    indexes = {host: keys.peers_undecided(host) for host in visit.hosts}
    found: list[Peer] = []
    beware: list[tuple[str, str]] = []
    for host, index in indexes.items():
        found += await find.undecided(visit.store, host, limit=_LOOKED_AT)
        beware += await find.only_alike(visit.store, host, index)
    more = sum(await load.sizes(visit.store, list(indexes.values()))) - len(found)
    found.sort(key=lambda one: one.quarantined, reverse=True)
    settled = await _settled(visit, found[:_SHOWN])
    return [one for one in found if (one.host, one.domain) not in settled], max(0, more), beware


async def _settled(visit: Visit, strangers: list[Peer]) -> set[tuple[str, str]]:
    """Those of them whose reports, few enough to look at, are all closed."""
    indexes = {(one.host, one.domain): keys.incidents_of_reporter(one.host, one.domain) for one in strangers}
    members = await load.newest(visit.store, list(indexes.values()), limit=_REPORTS) if indexes else {}
    ids = [one for index in indexes.values() for one in members[index]]
    found = await find.records(visit.store, map(keys.triage, ids))
    closed = {one.incident_id for one in found if isinstance(one, Triage) and one.state is TriageState.CLOSED}
    return {
        whom
        for whom, index in indexes.items()
        if 0 < len(members[index]) < _REPORTS and closed.issuperset(members[index])
    }


async def _recent(visit: Visit) -> tuple[Incident, ...]:
    query = find.Query(quarantine="no", since=visit.now - _RECENT)
    return (await find.search(visit.store, visit.hosts, query, limit=_LOOKED_AT)).incidents


async def _news(visit: Visit, asked: set[str]) -> tuple[list[Interaction], list[Incident]]:
    """What did not arrive, until its incident is closed; and what is new, but for what waits for a yes or no."""
    recent = await _recent(visit)
    seen = await find.triage(visit.store, recent)
    states = {one.id: seen[one.id].state if one.id in seen else TriageState.OPEN for one in recent}
    own = [one for one in recent if one.is_own and states[one.id] is not TriageState.CLOSED]
    fresh = [one for one in recent if states[one.id] is TriageState.OPEN and one.id not in asked]
    return await _troubles(visit, own), [one for one in fresh if _is_fresh(one)]


async def _troubles(visit: Visit, own: list[Incident]) -> list[Interaction]:
    """Sendings of ours that did not get where they should, of the newest incidents."""
    indexes = [keys.interactions(one.id) for one in own[:_STORIES]]
    members = await load.newest(visit.store, indexes, limit=_STORY) if indexes else {}
    ids = [member for index in indexes for member in members[index]]
    found = await find.records(visit.store, map(keys.interaction, ids))
    bad = [
        one for one in found if isinstance(one, Interaction) and one.way is Way.SENT and timeline.is_bad(one)
    ]
    return sorted(bad, key=lambda one: one.state_at or one.received_at, reverse=True)


def _is_fresh(one: Incident) -> bool:
    """Whether a peer that counts reported it, and it is not over."""
    return not one.is_own and one.status is not Status.RESOLVED


def routes() -> list[web.RouteDef]:
    """Return the route of the inbox."""
    return [get("/", show)]
