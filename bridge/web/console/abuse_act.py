"""Suspend accounts of ours that users reported: who was, what it would touch, and a yes."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.errors import ConfigError
from bridge.pipeline import abuse
from bridge.pipeline import abuse_act as stories
from bridge.pipeline.ids import new_id
from bridge.policy import abuse_act as rules_of
from bridge.policy.abuse import headline
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.approval import MAX_TARGETS
from bridge.policy.decisions import Approval
from bridge.policy.record import derived_id
from bridge.web.console.guard import NOT_HERE, Visit, get, post
from bridge.web.console.targets import beware, choices, foreseen
from bridge.web.console.typed import span, spans, words

_MOST_REASON: Final = 1000


async def show(visit: Visit) -> web.Response:
    """Show who was reported and what suspending them would touch."""
    return await _page(visit, await _known(visit))


async def _known(visit: Visit) -> AbuseDraft:
    try:
        draft = await abuse.find(visit.store, visit.request.match_info["id"])
    except ConfigError:
        raise NOT_HERE from None
    visit.host(draft.host)
    return draft


async def _page(
    visit: Visit,
    draft: AbuseDraft,
    *,
    problem: str = "",
    chosen: Sequence[str] = (),
    nonce: str = "",
    days: str = "",
    reason: str = "",
) -> web.Response:
    policy = visit.service.settings.policy
    admins = stories.admins_of(visit.service.settings.hosts, draft)
    objection = rules_of.objection(draft, visit.hosts)
    accused = rules_of.suspendable(draft, admins)[:MAX_TARGETS] if objection is None else ()
    targets = rules_of.targets(draft, [one.jid for one in accused], admins=admins) if accused else ()
    made = Approval(
        id="", host=draft.domain, incident_id="", request=None, requester="", targets=targets,
        created_at=visit.now, expires_at=visit.now,
    )  # fmt: skip
    made, unknown = await foreseen(visit, made) if targets else (made, "")
    shown = choices(made.targets)
    return visit.page(
        "abuse_act.html",
        title=f"Users report {headline(draft)}",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        draft=draft,
        headline=headline(draft),
        objection=objection,
        chosen=chosen,
        rows=list(zip(accused, shown, strict=True)),
        others=[one for one in draft.accused if one not in accused],
        protected=[one for one in shown if one.second_yes],
        beware=await beware(visit, draft.domain, made.targets) if targets else [],
        spans=spans(policy.mitigation_days),
        usual=policy.mitigation_days,
        nonce=nonce or new_id(),
        days=days,
        reason=reason,
        unknown=unknown,
        problem=problem,
    )


async def act(visit: Visit) -> web.Response:
    """Suspend those that are ticked."""
    draft = await _known(visit)
    visit.acting(draft.host)
    if draft.domain in visit.hosts:
        visit.acting(draft.domain)
    accounts = await visit.fields("account")
    reason = await words(visit, "reason", most=_MOST_REASON)
    nonce = (await visit.field("nonce"))[:64]
    try:
        after = await stories.suspend(
            visit.store,
            draft.id,
            accounts,
            hosts=visit.hosts,
            admins=stories.admins_of(visit.service.settings.hosts, draft),
            approval_id=derived_id("abuse", draft.id, nonce, *sorted(accounts)),
            actor=visit.actor,
            rules=visit.service.settings.policy,
            now=visit.now,
            expires_at=visit.now + await span(visit),
            second_yes=bool(await visit.field("second")),
            reason=reason,
        )
    except ConfigError as error:
        text, days = f"Nothing was done: {error}.", await visit.field("days")
        return await _page(visit, draft, problem=text, chosen=accounts, nonce=nonce, days=days, reason=reason)
    return visit.back(f"/approvals/{after.id}", "approved")


def routes() -> list[web.RouteDef]:
    """Return the routes of what is done about accounts of ours."""
    return [get("/abuse/{id}/act", show), post("/abuse/{id}/act", act)]
