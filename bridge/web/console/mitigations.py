"""What is done on our server: in force, failed, over; and taking it back."""

from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from bridge.errors import ConflictError
from bridge.pipeline import approve as stories
from bridge.policy.approval import own_target
from bridge.policy.decisions import Approval, Grounds, Mitigation, MitigationState, Target
from bridge.policy.effects import effects
from bridge.policy.lookalike import with_ascii
from bridge.policy.mitigation import may_be_lifted
from bridge.policy.record import Incident, derived_id
from bridge.policy.words import moment
from bridge.store import keys
from bridge.web.console import find, lists
from bridge.web.console.guard import NOT_HERE, Visit, get, post
from bridge.web.console.targets import worded
from bridge.web.console.typed import words

_PER_PAGE: Final = 50
_MOST_REASON: Final = 1000
_SOON: Final = timedelta(hours=1)
STATES: Final = {
    MitigationState.PENDING: "about to begin",
    MitigationState.APPLIED: "in force",
    MitigationState.LIFTING: "being taken back",
    MitigationState.LIFTED: "taken back",
    MitigationState.EXPIRED: "over",
    MitigationState.FAILED: "failed",
}


async def show_all(visit: Visit) -> web.Response:
    """List what is in force, then what failed or is over."""
    active, more = await lists.mitigations(visit.store, lists.every(keys.mitigations_active, visit.hosts))
    before = find.cursor(visit.query("before"))
    found, after = await lists.mitigations(
        visit.store, lists.every(keys.mitigations, visit.hosts), limit=_PER_PAGE, before=before
    )
    ended = [one for one in found if not one.is_active]
    return visit.page(
        "mitigations.html",
        title="Mitigations",
        active=[] if before else active,
        has_more_active=more is not None,
        failed=[one for one in ended if one.state is MitigationState.FAILED],
        ended=[one for one in ended if one.state is not MitigationState.FAILED],
        states=STATES,
        what=what,
        is_first=before is None,
        next_page=after and f"/mitigations?{urlencode({'before': find.written(after)})}",
        has_several_hosts=len(visit.hosts) > 1,
    )


def what(one: Mitigation) -> str:
    """`suspend account juliet@a.example`."""
    return worded(Target(action=one.action, address="", type=one.type, fields=one.target))


async def show(visit: Visit) -> web.Response:
    """Show one mitigation."""
    return await _page(visit, await _known(visit))


async def _known(visit: Visit) -> Mitigation:
    """The mitigation that the address names, if it is for this person to see."""
    found = await find.records(visit.store, [keys.mitigation(visit.request.match_info["id"])])
    one = found[0] if found else None
    if not isinstance(one, Mitigation) or one.host not in visit.hosts:
        raise NOT_HERE
    return one


async def _page(
    visit: Visit, one: Mitigation, *, problem: str = "", status: HTTPStatus = HTTPStatus.OK
) -> web.Response:
    found = await find.records(visit.store, [keys.approval(one.approval_id)])
    approval = found[0] if found and isinstance(found[0], Approval) else None
    target = next(
        (each for each in approval.targets if each.mitigation_id == one.id) if approval else iter(()), None
    )
    return visit.page(
        "mitigation.html",
        title=what(one),
        status=status,
        mitigation=one,
        what=what(one),
        said_state=STATES[one.state],
        approval=approval,
        incident=await find.incident(visit.store, one.incident_id, visit.hosts),
        has_draft=bool(one.draft_id and await find.records(visit.store, [keys.abuse_draft(one.draft_id)])),
        effects=effects(target) if target else (),
        may_be_lifted=may_be_lifted(one),
        has_lift_failed=one.state is MitigationState.FAILED and bool(one.lifted_by),
        has_begin_failed=one.state is MitigationState.FAILED and not one.lifted_by,
        is_moving=one.state in {MitigationState.PENDING, MitigationState.LIFTING},
        problem=problem,
    )


async def lift(visit: Visit) -> web.Response:
    """Take it back."""
    known = await _known(visit)
    visit.acting(known.host)
    reason = await words(visit, "reason", most=_MOST_REASON)
    try:
        await stories.lift(visit.store, known, actor=visit.actor, reason=reason, now=visit.now)
    except ConflictError:
        after = await _known(visit)
        if after.lifted_by == visit.actor.name:
            return visit.back(f"/mitigations/{known.id}", "lifted")
        by = f" by {with_ascii(after.lifted_by)}" if after.lifted_by else f" since {moment(after.ended_at)}"
        text = f"It is {STATES[after.state]} already{by}. Nothing was done by you."
        return await _page(visit, after, problem=text, status=HTTPStatus.CONFLICT)
    return visit.back(f"/mitigations/{known.id}", "lifted")


async def begin_again(visit: Visit) -> web.Response:
    """Do once more what failed; it becomes a mitigation of its own."""
    known = await _known(visit)
    visit.acting(known.host)
    incident = await find.incident(visit.store, known.incident_id, visit.hosts)
    is_gone = bool(known.incident_id) and incident is None
    if is_gone or known.state is not MitigationState.FAILED or known.lifted_by:
        text = "There is nothing to try again. Nothing was done."
        return await _page(visit, known, problem=text, status=HTTPStatus.CONFLICT)
    fields = known.target
    address = fields.get("account") or fields.get("domain") or fields.get("jid") or ""
    target = own_target(known.host, known.type, address=address, room=fields.get("room", ""))
    found = await find.records(visit.store, [keys.approval(known.approval_id)])
    had_second_yes = any(
        each.mitigation_id == known.id and bool(each.second_yes)
        for one in found
        if isinstance(one, Approval)
        for each in one.targets
    )
    after = await _done_again(visit, known, incident, target, second_yes=had_second_yes)
    return visit.back(f"/approvals/{after.id}", "approved")


async def _done_again(
    visit: Visit, known: Mitigation, incident: Incident | None, target: Target, *, second_yes: bool
) -> Approval:
    if incident is not None:
        do = partial(stories.act, visit.store, incident, [target])
    else:
        grounds = Grounds(feeds=known.feeds, draft_id=known.draft_id)
        do = partial(stories.act_on, visit.store, known.host, [target], grounds)
    return await do(
        approval_id=derived_id("again", known.id, str(known.revision)),
        actor=visit.actor,
        rules=visit.service.settings.policy,
        now=visit.now,
        expires_at=known.expires_at if known.expires_at > visit.now + _SOON else None,
        second_yes=second_yes,
        reason=f"mitigation {known.id} failed, and is tried again",
    )


def routes() -> list[web.RouteDef]:
    """Return the routes of mitigations."""
    return [
        get("/mitigations", show_all),
        get("/mitigations/{id}", show),
        post("/mitigations/{id}/lift", lift),
        post("/mitigations/{id}/again", begin_again),
    ]
