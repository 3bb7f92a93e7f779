"""What operators make of incidents: whose it is, whether it is over, notes; and many of the quarantine at once."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from bridge.errors import ConflictError
from bridge.pipeline.retain import forget_quarantined
from bridge.pipeline.triage import Judgement
from bridge.pipeline.triage import triage as judge
from bridge.policy.decisions import Triage, TriageState
from bridge.policy.record import Incident
from bridge.store import keys
from bridge.web.console import find, lists
from bridge.web.console.guard import NOT_HERE, Refusal, Visit, get, post
from bridge.web.console.mitigations import STATES as MITIGATION_STATES
from bridge.web.console.mitigations import what
from bridge.web.console.targets import headline, summary
from bridge.web.console.typed import words

STATES: Final = {
    TriageState.OPEN: "open",
    TriageState.IN_PROGRESS: "in progress",
    TriageState.CLOSED: "closed",
}
_PER_PAGE: Final = 50
_MOST_AT_ONCE: Final = 100
_MOST_ACTS: Final = 50
_MOST_ASSIGNEE: Final = 200
_MOST_RESOLUTION: Final = 2000
_MOST_NOTE: Final = 4000


async def desk(visit: Visit, incident: Incident, known: Triage | None) -> dict[str, Any]:
    """What an incident's page shows of what operators did, for its template."""
    approvals, _ = await lists.approvals(
        visit.store, [keys.approvals_of_incident(incident.id)], limit=_MOST_ACTS
    )
    mitigations, _ = await lists.mitigations(
        visit.store, [keys.mitigations_of_incident(incident.id)], limit=_MOST_ACTS
    )
    return {
        "approvals": approvals,
        "mitigations": mitigations,
        "headline": headline,
        "summary": summary,
        "what": what,
        "mitigation_states": MITIGATION_STATES,
        "judged": known or Triage(incident_id=incident.id, host=incident.host),
        "triage_states": STATES,
    }


async def write(visit: Visit) -> web.Response:
    """Write down what changed in the form; what somebody else wrote meanwhile stays."""
    incident = await find.incident(visit.store, visit.request.match_info["id"], visit.hosts)
    if incident is None:
        raise NOT_HERE
    visit.acting(incident.host)
    state = await visit.field("state")
    if state and state not in set(TriageState):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "No such choice", "Choose one of those offered.")
    assignee = (await words(visit, "assignee", most=_MOST_ASSIGNEE)).replace("\n", " ")
    resolution = await words(visit, "resolution", most=_MOST_RESOLUTION)
    note = await words(visit, "note", most=_MOST_NOTE)
    if await visit.field("take"):
        state, assignee = TriageState.IN_PROGRESS, visit.actor.name[:_MOST_ASSIGNEE]
    judgement = Judgement(
        state=TriageState(state) if state and state != await visit.field("state-was") else None,
        assignee=assignee if assignee != await visit.field("assignee-was") else None,
        resolution=resolution
        if resolution != await words(visit, "resolution-was", most=_MOST_RESOLUTION)
        else None,
        note=note or None,
    )
    await judge(visit.store, incident, judgement, actor=visit.actor, now=visit.now)
    return visit.back(f"/incidents/{incident.id}", "triage")


async def show_quarantine(visit: Visit) -> web.Response:
    """List what lies in quarantine and is not closed, to be ticked."""
    return await _quarantine(visit)


async def _quarantine(visit: Visit, *, problem: str = "") -> web.Response:
    peer, is_whole = visit.query("peer").casefold(), visit.query("closed") == "yes"
    query = find.Query(quarantine="yes", peer=peer, before=find.cursor(visit.query("before")))
    found = await find.search(visit.store, visit.hosts, query, limit=_PER_PAGE)
    triage = await find.triage(visit.store, found.incidents)
    shown = [one for one in found.incidents if is_whole or not _is_closed(triage.get(one.id))]
    kept = {"peer": peer} if peer else {}
    kept |= {"closed": "yes"} if is_whole else {}
    return visit.page(
        "quarantine.html",
        title="Quarantine",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        incidents=shown,
        triage=triage,
        peer=peer,
        is_whole=is_whole,
        is_ticked=visit.query("tick") == "all",
        tick=f"/quarantine?{urlencode({**kept, 'tick': 'all', 'before': visit.query('before')})}",
        is_first=query.before is None,
        next_page=found.after and f"/quarantine?{urlencode({**kept, 'before': find.written(found.after)})}",
        can_act=any(one.host in visit.hosts and visit.hosts[one.host] == "approver" for one in shown),
        has_several_hosts=len(visit.hosts) > 1,
        problem=problem,
    )


def _is_closed(triage: Triage | None) -> bool:
    return triage is not None and triage.state is TriageState.CLOSED


async def clear(visit: Visit) -> web.Response:
    """Close, or forget, what is ticked."""
    ids = list(dict.fromkeys(await visit.fields("incident")))[:_MOST_AT_ONCE]
    found = await find.records(visit.store, map(keys.incident, ids))
    incidents = [one for one in found if isinstance(one, Incident) and one.host in visit.hosts]
    for one in incidents:
        visit.acting(one.host)
    if not incidents:
        return await _quarantine(visit, problem="Tick at least one of them.")
    held = [one for one in incidents if one.quarantined]
    if await visit.field("do") == "forget":
        return await _forget(visit, held)
    resolution = await words(visit, "resolution", most=_MOST_RESOLUTION)
    judgement = Judgement(state=TriageState.CLOSED, resolution=resolution or None)
    for one in held:
        await judge(visit.store, one, judgement, actor=visit.actor, now=visit.now)
    return visit.back("/quarantine", "closed" if len(held) == len(incidents) else "closed-some")


async def _forget(visit: Visit, held: Sequence[Incident]) -> web.Response:
    if not await visit.field("sure"):
        text = "Forgetting cannot be taken back: tick that you mean it. Nothing was deleted."
        return await _quarantine(visit, problem=text)
    gone = 0
    for one in held:
        try:
            gone += await forget_quarantined(visit.store, one, actor=visit.actor, now=visit.now)
        except ConflictError:  # something about it came just now
            continue
    return visit.back("/quarantine", "forgotten" if gone == len(held) else "forgotten-some")


def routes() -> list[web.RouteDef]:
    """Return the routes of what operators make of incidents."""
    return [
        post("/incidents/{id}/triage", write),
        get("/quarantine", show_quarantine),
        post("/quarantine", clear),
    ]
