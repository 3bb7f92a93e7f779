"""Ad-hoc commands about what came in: read incidents, say yes or no, see what is in force and take it back.

House rule: what was chosen is loaded anew at each step, and must be this host's.
"""

from datetime import timedelta

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline import approve as stories
from bridge.pipeline.desk import Desk, watched
from bridge.policy import forms, pages
from bridge.policy.decisions import Approval, ApprovalState, Mitigation, MitigationState, Target, TargetState
from bridge.policy.effects import is_ticked
from bridge.policy.forms import Field, FieldKind, Form, Reply
from bridge.policy.mitigation import about, may_be_lifted
from bridge.policy.record import Incident
from bridge.policy.sessions import Role
from bridge.policy.words import count
from bridge.store import keys, load

_MOST_DAYS = 3650


async def ask_incident(desk: Desk) -> Reply:
    """List the newest incidents."""
    ids, more = await desk.listed(keys.incidents(desk.host), "incident")
    found = await desk.records(Incident, [keys.incident(one) for one in ids])
    if not found:
        return forms.over("No incident yet.")
    options = [*((pages.incident_line(one), one.id) for one in found), *more]
    given = {} if desk.is_paging("incident") else desk.given
    return Reply(
        form=Form(
            title=f"Incidents of {desk.host}",
            instructions=("Choose one to read, the newest first.",),
            fields=(
                forms.choice("incident", "Incident", options, given),
                forms.line("id", "Or its id, or enough of its beginning", given),
            ),
        ),
        actions=("next",),
    )


async def show_incident(desk: Desk) -> Reply:
    """Show one incident, or the next page of them."""
    if desk.is_paging("incident") and not desk.first("id"):
        return await ask_incident(desk)
    typed = desk.first("id") or desk.first("incident")
    if not typed:
        raise ConfigError("choose an incident")
    one = await desk.incident(typed)
    story = await desk.story(one)
    newest = next((each for each in story if each.id == one.current.interaction_id), None)
    return forms.page(f"Incident {one.id}", pages.incident_page(one, newest, story))


async def ask_approval(desk: Desk) -> Reply:
    """List what waits, or ask for a yes or no to what was chosen."""
    chosen = await _chosen(desk)
    if chosen is not None and chosen.state is ApprovalState.OPEN:
        return _decision(desk, chosen)
    index = keys.approvals_open(desk.host)
    ids, more = await desk.listed(index, "approval", is_oldest_first=True)  # declined by itself first
    found = await desk.records(Approval, [keys.approval(one) for one in ids])
    if not found:
        return forms.over("Nothing waits for your yes or no.")
    options = [*((pages.approval_line(one), one.id) for one in found), *more]
    waits = count(await load.count(desk.store, index), "request waits", "requests wait")
    given = {} if desk.is_paging("approval") else desk.given
    field = forms.choice("approval", waits, options, given, default=found[0].id, is_required=True)
    title = f"Requests to {desk.host}"
    return Reply(
        form=Form(title=title, instructions=("Choose one to see it and decide.",), fields=(field,)),
        actions=("next",),
    )


async def _chosen(desk: Desk) -> Approval | None:
    approval_id = desk.first("approval")
    found = await desk.records(Approval, [keys.approval(approval_id)]) if approval_id else []
    return next((one for one in found if one.host == desk.host), None)


def _decision(desk: Desk, one: Approval) -> Reply:
    """Show what is asked for, with what it would touch, and ask for a decision."""
    text = pages.approval_page(one)
    title = "A request"
    if desk.role is not Role.APPROVER:
        return forms.page(title, text)
    offered = _offered(one)
    decisions = [("Yes, to what is ticked below", "approve")] if offered else []
    decisions.append(("No", "decline"))
    fields = [
        Field(var="approval", kind=FieldKind.HIDDEN, values=(one.id,)),
        *(forms.fixed(each) for each in text),
        forms.choice("decision", "Your decision", decisions, desk.given, is_required=True),
    ]
    if offered:
        ticked = tuple(n for n, each in offered.items() if is_ticked(each))
        chosen = desk.given.get("targets") or ticked
        options = tuple((pages.short(about(each.type, each.fields)), n) for n, each in offered.items())
        fields.append(
            Field(
                var="targets",
                kind=FieldKind.LIST_MULTI,
                label="What to do",
                values=chosen,
                options=options,
            )
        )
        label = f"End it after so many days (else {desk.rules.mitigation_days})"
        fields.append(forms.line("days", label, desk.given))
    if any(each.second_yes for each in offered.values()):
        second = ("1",) if forms.is_set(desk.given, "second") else ("0",)
        label = "Yes, protected names too"
        fields.append(Field(var="second", kind=FieldKind.BOOLEAN, label=label, values=second))
    fields.append(forms.line("reason", "If no: why; it is sent as you write it", desk.given))
    return Reply(form=Form(title=title, fields=tuple(fields)), actions=("prev", "complete"))


def _offered(one: Approval) -> dict[str, Target]:
    """What can be approved, by its place."""
    return {str(n): each for n, each in enumerate(one.targets) if each.state is TargetState.OFFERED}


async def decide_approval(desk: Desk) -> Reply:
    """Say yes or no, or ask for that."""
    if desk.is_paging("approval"):
        return await ask_approval(desk)
    one = await _chosen(desk)
    if one is None:
        raise ConfigError("choose a request")
    decision = forms.one_of(desk.given, "decision", ("approve", "decline"), "Your decision")
    if not decision:
        return _decision(desk, one) if one.state is ApprovalState.OPEN else _outcome(one)
    desk.may_act()
    note = ""
    try:
        await (_approve(desk, one) if decision == "approve" else _decline(desk, one))
    except ConflictError as error:
        note = str(error)
    after = await watched(
        lambda: stories.loaded(desk.store, one.id), lambda now: now.state is not ApprovalState.APPROVED
    )
    return _outcome(after, note="" if after.decided_by == desk.actor.name else note)


async def _approve(desk: Desk, one: Approval) -> None:
    offered = _offered(one)
    chosen = [offered[n] for n in dict.fromkeys(desk.given.get("targets", ())) if n in offered]
    if not chosen and one.state is ApprovalState.OPEN:
        raise ConfigError("tick at least one thing to do, or say no")
    days = _days(desk)
    await stories.approve(
        desk.store,
        one,
        [about(each.type, each.fields) for each in chosen],
        actor=desk.actor,
        rules=desk.rules,
        now=desk.now,
        expires_at=None if days is None else desk.now + days,
        second_yes=forms.is_set(desk.given, "second"),
    )


async def _decline(desk: Desk, one: Approval) -> None:
    reason = desk.first("reason")
    if not reason:
        raise ConfigError("say why; the server that asked is told")
    await stories.decline(desk.store, one, actor=desk.actor, reason=reason, now=desk.now)


def _days(desk: Desk) -> timedelta | None:
    typed = desk.first("days")
    if not typed:
        return None
    if not (typed.isascii() and typed.isdecimal() and 0 < int(typed[:9]) <= _MOST_DAYS):
        raise ConfigError(f"days: must be a number from 1 to {_MOST_DAYS}")
    return timedelta(days=int(typed))


_OUTCOMES = {
    ApprovalState.OPEN: "It still waits for a yes or no.",
    ApprovalState.APPROVED: "Approved; it is being carried out.",
    ApprovalState.DONE: "Done.",
    ApprovalState.PARTLY: "Done in part; some of it failed.",
    ApprovalState.FAILED: "It was approved, and failed.",
    ApprovalState.DECLINED: "Declined; the server that asked is told.",
    ApprovalState.EXPIRED: "It expired: nobody decided in time.",
}


def _outcome(one: Approval, *, note: str = "") -> Reply:
    return forms.page("A request", pages.approval_page(one), note=note or _OUTCOMES[one.state])


async def ask_mitigation(desk: Desk) -> Reply:
    """List what is in force."""
    ids, more = await desk.listed(keys.mitigations_active(desk.host), "mitigation")
    found = await desk.records(Mitigation, [keys.mitigation(one) for one in ids])
    if not found:
        return forms.over(f"Nothing is in force on {desk.host}.")
    if desk.role is not Role.APPROVER:
        lines = [pages.mitigation_line(one) for one in found]
        return forms.page(
            f"In force on {desk.host}", [*lines, *(["and more, in the console"] if more else [])]
        )
    options = [*((pages.mitigation_line(one), one.id) for one in found if may_be_lifted(one)), *more]
    given = {} if desk.is_paging("mitigation") else desk.given
    return Reply(
        form=Form(
            title=f"In force on {desk.host}",
            instructions=("Choose what to take back; the server that asked for it is told.",),
            fields=(
                forms.choice("mitigation", "Take back", options, given, is_required=True),
                forms.line("reason", "Why, for yourselves; it is not sent", desk.given),
            ),
        ),
        actions=("complete",),
    )


async def lift_mitigation(desk: Desk) -> Reply:
    """Take one back, or show the next page."""
    if desk.is_paging("mitigation"):
        return await ask_mitigation(desk)
    desk.may_act()
    name = keys.mitigation(desk.first("mitigation"))
    found = [one for one in await desk.records(Mitigation, [name]) if one.host == desk.host]
    if not found:
        raise ConfigError("choose what to take back")
    note = ""
    try:
        await stories.lift(desk.store, found[0], actor=desk.actor, reason=desk.first("reason"), now=desk.now)
    except ConflictError as error:
        note = str(error)

    async def look() -> Mitigation:
        return (await desk.records(Mitigation, [name]) or found)[0]

    after = await watched(look, lambda now: now.state is not MitigationState.LIFTING)
    named = about(after.type, after.target)
    said = "; ".join(text for text in (after.failure, after.note) if text)
    return forms.page(
        f"Mitigation {after.id}", [f"{named}: {after.state}", *([said] if said else [])], note=note
    )
