"""What waits for a yes or no: who asks for what, what it would touch here, and what was decided."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from bridge.errors import ConfigError, ConflictError, UnavailableError
from bridge.pipeline import approve as stories
from bridge.pipeline.preview import refresh
from bridge.policy.decisions import Approval, ApprovalState, TargetState
from bridge.policy.lookalike import with_ascii
from bridge.policy.mitigation import about
from bridge.policy.words import moment
from bridge.store import keys
from bridge.web.console import find, lists
from bridge.web.console.guard import NOT_HERE, Visit, get, post
from bridge.web.console.targets import beware, choices, headline, summary
from bridge.web.console.typed import span, spans, words
from bridge.web.prosody import prosody

_PER_PAGE: Final = 50
_MOST_REASON: Final = 1000
STATES: Final = {
    ApprovalState.OPEN: "waits for a yes or no",
    ApprovalState.APPROVED: "being carried out",
    ApprovalState.DONE: "done",
    ApprovalState.PARTLY: "done in part",
    ApprovalState.FAILED: "failed",
    ApprovalState.DECLINED: "declined",
    ApprovalState.EXPIRED: "declined: nobody decided in time",
}
_REFUSED: Final = (ApprovalState.DECLINED, ApprovalState.EXPIRED)


async def show_all(visit: Visit) -> web.Response:
    """List what waits, the oldest first, then what was decided, the newest first."""
    waiting, more = await lists.waiting(visit.store, list(visit.hosts), now=visit.now)
    before = find.cursor(visit.query("before"))
    found, after = await lists.approvals(
        visit.store, lists.every(keys.approvals, visit.hosts), limit=_PER_PAGE, before=before
    )
    return visit.page(
        "approvals.html",
        title="Approvals",
        waiting=[] if before else waiting,
        more_waiting=more,
        decided=[one for one in found if one.state is not ApprovalState.OPEN],
        states=STATES,
        headline=headline,
        summary=summary,
        is_first=before is None,
        next_page=after and f"/approvals?{urlencode({'before': find.written(after)})}",
        has_several_hosts=len(visit.hosts) > 1,
    )


async def show(visit: Visit) -> web.Response:
    """Show one approval: to decide about it, or what was decided."""
    return await _page(visit, await _known(visit))


async def _known(visit: Visit) -> Approval:
    """The approval that the address names, if it is for this person to see."""
    found = await find.records(visit.store, [keys.approval(visit.request.match_info["id"])])
    one = found[0] if found else None
    if not isinstance(one, Approval) or one.host not in visit.hosts:
        raise NOT_HERE
    return one


async def _mine(visit: Visit) -> Approval:
    """The same, if it is for this person to decide about."""
    known = await _known(visit)
    visit.acting(known.host)
    return known


async def _page(
    visit: Visit,
    one: Approval,
    *,
    problem: str = "",
    chosen: Collection[str] | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> web.Response:
    policy = visit.service.settings.policy
    is_open = one.state is ApprovalState.OPEN
    if is_open:  # trust may have changed since it was asked for
        one = await stories.protected_now(visit.store, one, policy)
    shown = choices(one.targets, chosen)
    return visit.page(
        "approval.html",
        title=headline(one),
        status=status,
        approval=one,
        incident=await find.incident(visit.store, one.incident_id, visit.hosts),
        has_draft=bool(one.draft_id and await find.records(visit.store, [keys.abuse_draft(one.draft_id)])),
        peer=await find.peer(visit.store, one.host, one.requester) if one.requester else None,
        headline=headline(one),
        offered=[each for each in shown if each.state is TargetState.OFFERED],
        decided=[each for each in shown if each.state not in {TargetState.OFFERED, TargetState.SHOWN}],
        impossible=[each for each in shown if each.state is TargetState.SHOWN],
        protected=[each for each in shown if each.second_yes and each.state is TargetState.OFFERED],
        beware=await beware(visit, one.host, one.targets, one.requester),
        said_state=STATES[one.state],
        is_open=is_open,
        is_refused=one.state in _REFUSED,
        spans=spans(policy.mitigation_days),
        usual=policy.mitigation_days,
        days=(await visit.field("days")) if visit.request.method == "POST" else "",
        reason=(await visit.field("reason")) if visit.request.method == "POST" else "",
        has_second=visit.request.method == "POST" and bool(await visit.field("second")),
        problem=problem,
    )


async def approve(visit: Visit) -> web.Response:
    """Say yes to what is ticked."""
    known = await _mine(visit)
    chosen = await visit.fields("target")
    expires_at = visit.now + await span(visit)
    if not chosen:
        text = "Tick at least one of them, or decline."
        return await _page(visit, known, problem=text, chosen=(), status=HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        after = await stories.approve(
            visit.store,
            known,
            chosen,
            actor=visit.actor,
            rules=visit.service.settings.policy,
            now=visit.now,
            expires_at=expires_at,
            second_yes=bool(await visit.field("second")),
        )
    except ConflictError:
        return await _late(visit, known, chosen)
    except ConfigError as error:  # also: protected, and without a second yes
        text = f"Nothing was done: {error}."
        return await _page(visit, known, problem=text, chosen=chosen, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    return visit.back(f"/approvals/{after.id}", "approved")


async def decline(visit: Visit) -> web.Response:
    """Say no, and tell the requester why."""
    known = await _mine(visit)
    reason = await words(visit, "reason", most=_MOST_REASON)
    if not reason:
        text = "Say why: the server that asked is told, and learns from it."
        return await _page(visit, known, problem=text, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        after = await stories.decline(visit.store, known, actor=visit.actor, reason=reason, now=visit.now)
    except ConflictError:
        return await _late(visit, known, None)
    return visit.back(f"/approvals/{after.id}", "declined")


async def _late(visit: Visit, known: Approval, chosen: Collection[str] | None) -> web.Response:
    """Say who was faster; whoever pressed the button twice was, and is told of no trouble."""
    after = await stories.loaded(visit.store, known.id)
    if after.state is ApprovalState.OPEN:
        text = "It changes faster than it can be decided. Nothing was done; try again."
        return await _page(visit, after, problem=text, chosen=chosen, status=HTTPStatus.CONFLICT)
    is_refused = after.state in _REFUSED
    done = {about(one.type, one.fields) for one in after.targets if one.mitigation_id}
    is_same = after.state is ApprovalState.DECLINED if chosen is None else done == set(chosen)
    if after.decided_by == visit.actor.name and is_same:
        return visit.back(f"/approvals/{after.id}", "declined" if is_refused else "approved")
    what = "said no" if is_refused else "said yes"
    who = with_ascii(after.decided_by) or "Somebody"
    text = f"{who} was faster and {what} at {moment(after.decided_at)}. Nothing of what you chose was done."
    return await _page(visit, after, problem=text, status=HTTPStatus.CONFLICT)


async def ask_again(visit: Visit) -> web.Response:
    """Ask Prosody anew what it would touch."""
    known = await _mine(visit)
    chosen = await visit.fields("target")
    try:
        async with prosody(visit.service.settings) as server:
            after = await refresh(
                visit.store, server, known, rules=visit.service.settings.policy, now=visit.now
            )
    except UnavailableError as error:
        text = f"What it would touch now is not known: {error}. You can decide all the same."
        return await _page(visit, known, problem=text, chosen=chosen, status=HTTPStatus.SERVICE_UNAVAILABLE)
    return visit.back(f"/approvals/{after.id}", "asked-again")


def routes() -> list[web.RouteDef]:
    """Return the routes of approvals."""
    return [
        get("/approvals", show_all),
        get("/approvals/{id}", show),
        post("/approvals/{id}/approve", approve),
        post("/approvals/{id}/decline", decline),
        post("/approvals/{id}/refresh", ask_again),
    ]
