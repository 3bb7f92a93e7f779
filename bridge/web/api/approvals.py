"""`approvals`: what waits for a yes or no, and deciding about it; and `incidents/{id}/act`, what is done unasked.

House rule: what is offered and what it touches here is shown to whoever may read; deciding takes the scope `approve`.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Self

from pydantic import AwareDatetime, Field

from bridge.errors import ConfigError
from bridge.pipeline import approve as stories
from bridge.policy.approval import MAX_TARGETS, own_target
from bridge.policy.consumers import Scope
from bridge.policy.decisions import Approval, ApprovalState, MitigationType, Target, TargetState
from bridge.policy.effects import effects, would
from bridge.policy.mitigation import ProtectedError, about
from bridge.policy.record import Record
from bridge.store import keys, load
from bridge.web.api import paging
from bridge.web.api.incidents import known_incident
from bridge.web.api.model import Body, Domain, Json, Line, Out, PageQuery, Text
from bridge.web.api.router import PREFIX, Answer, Call, Route, invalid, not_found

TAG: Final = "approvals"
_MOST_NAMED: Final = 4 * MAX_TARGETS
_LONGEST: Final = timedelta(days=3650)

End = Annotated[
    AwareDatetime | None,
    Field(description="When what is done ends; default: after `policy.mitigation_days`; at most ten years."),
]
Address = Annotated[Line, Field(min_length=1, max_length=3071)]
SecondYes = Annotated[
    bool, Field(description="The second yes, which protected names need (`second_yes` of a target).")
]


class TargetView(Out):
    """One thing to do, to one address."""

    action: str = Field(description="What was asked for, in IODEF's words.")
    address: str = Field(description="As the request names it; hostile text.")
    state: TargetState = Field(description="`shown`: there is nothing this host can do.")
    type: MitigationType | None
    fields: dict[str, str] = Field(description="`account`, or `domain`, or `room` and `jid`.")
    name: str = Field(description="What `targets` of an approval calls it; empty: it cannot be approved.")
    would: str = Field(description="What would be done, in words.")
    effects: tuple[str, ...] = Field(description="What it would touch here, in words; empty: not asked yet.")
    preview: Json | None = Field(description="The same as Prosody said it.")
    second_yes: str = Field(description="Why one yes is not enough; empty: it is.")
    reason: str = Field(description="Why nothing can be done, or why it failed.")
    mitigation_id: str | None

    @classmethod
    def of(cls, target: Target) -> Self:
        """Show it."""
        return cls(
            action=target.action,
            address=target.address,
            state=target.state,
            type=target.type,
            fields=dict(target.fields),
            name=about(target.type, target.fields),
            would=would(target),
            effects=effects(target),
            preview=None if target.preview is None else dict(target.preview),
            second_yes=target.second_yes,
            reason=target.reason,
            mitigation_id=target.mitigation_id,
        )


class ApprovalView(Out):
    """A request that waits for a yes or no, or what was decided."""

    id: str = Field(description="That of the request's interaction, if there is one.")
    host: str
    incident_id: str = Field(description="Empty: there is none, see `feeds` and `draft_id`.")
    feeds: tuple[str, ...] = Field(
        description="The lists that named it when that was decided because of them."
    )
    draft_id: str = Field(description="What users reported, where that is why; see `/abuse/{id}`.")
    request: str | None = Field(
        description="The interaction that asks for it; null: an operator acts unasked."
    )
    requester: str = Field(description="The peer that asked; empty: nobody did.")
    state: ApprovalState
    targets: tuple[TargetView, ...]
    created_at: datetime
    expires_at: datetime = Field(description="While it is open: when it is declined by itself.")
    previewed_at: datetime | None = Field(description="When Prosody was last asked what it would touch.")
    decided_by: str
    decided_from: str = Field(description="From which address.")
    decided_at: datetime | None
    had_second_yes: bool
    is_automatic: bool = Field(description="A rule said yes (`policy.approve_automatically`).")
    reason: str

    @classmethod
    def of(cls, approval: Approval) -> Self:
        """Show it."""
        given = {name: getattr(approval, name) for name in cls.model_fields if name != "targets"}
        return cls(**given, targets=tuple(TargetView.of(one) for one in approval.targets))


class ApprovalPage(Out):
    """A page of approvals, the newest first."""

    items: tuple[ApprovalView, ...]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class ApprovalsQuery(PageQuery):
    """Which approvals."""

    host: Domain | None = Field(default=None, description="Only this host's.")
    state: ApprovalState | None = None


class ApproveBody(Body):
    """A yes."""

    targets: (
        Annotated[tuple[Address, ...], Field(min_length=1, max_length=_MOST_NAMED, strict=False)] | None
    ) = Field(
        default=None,
        description="The `name` or `address` of each target meant; default: all that are offered.",
    )
    expires_at: End = None
    second_yes: SecondYes = False


class DeclineBody(Body):
    """A no."""

    reason: Annotated[Text, Field(min_length=1, max_length=1000)] = Field(
        description="Why; the server that asked is told it as it is written."
    )


class OwnTarget(Body):
    """What is to be done to whom."""

    type: MitigationType = Field(strict=False)
    address: Address = Field(description="The account, the domain, or the JID to ban.")
    room: Address | None = Field(default=None, description="With `room.ban`: where.")


class ActBody(Body):
    """What is to be done unasked."""

    targets: tuple[OwnTarget, ...] = Field(min_length=1, max_length=MAX_TARGETS, strict=False)
    expires_at: End = None
    second_yes: SecondYes = False
    reason: Annotated[Text, Field(max_length=1000)] = Field(default="", description="For yourselves.")


async def list_approvals(call: Call) -> Answer:
    """A page of approvals."""
    query: ApprovalsQuery = call.query
    hosts = call.hosts_for(query.host)
    of = paging.fingerprint("approvals", hosts, query.state)
    index = keys.approvals_open if query.state is ApprovalState.OPEN else keys.approvals

    def is_wanted(one: Record) -> bool:
        return isinstance(one, Approval) and query.state in {None, one.state}

    found, last = await paging.records(
        call.store,
        [index(host) for host in hosts],
        keys.approval,
        is_wanted,
        limit=query.limit,
        before=paging.position(query.cursor, of=of),
    )
    items = tuple(ApprovalView.of(one) for one in found if isinstance(one, Approval))
    return Answer(body=ApprovalPage(items=items, next=last and paging.following(last, of=of)))


async def known_approval(call: Call) -> Approval:
    """Load the approval that the path names; 404 where the caller may not see it."""
    name = keys.approval(call.path["id"])
    found = (await load.fetch(call.store, names=[name])).records[name]
    if not isinstance(found, Approval) or not call.sees(found.host):
        raise not_found("approval")
    return found


async def show_approval(call: Call) -> Answer:
    """One approval, with what is protected as of now while it is open."""
    known = await known_approval(call)
    if known.state is ApprovalState.OPEN:
        known = await stories.protected_now(call.store, known, call.service.settings.policy)
    return Answer(body=ApprovalView.of(known))


async def approve(call: Call) -> Answer:
    """Say yes."""
    body: ApproveBody = call.body
    known = await known_approval(call)
    try:
        after = await stories.approve(
            call.store,
            known,
            body.targets,
            actor=call.actor,
            rules=call.service.settings.policy,
            now=call.now,
            expires_at=end_of(call, body.expires_at),
            second_yes=body.second_yes,
        )
    except ProtectedError as error:
        raise invalid("second_yes", str(error)) from None
    except ConfigError as error:
        raise invalid("targets", str(error)) from None
    return Answer(body=ApprovalView.of(after))


def end_of(call: Call, at: datetime | None) -> datetime | None:
    """When it is to end, if that can be."""
    if at is not None and not call.now < at <= call.now + _LONGEST:
        raise invalid("expires_at", "must lie in the future, at most ten years from now")
    return at


async def decline(call: Call) -> Answer:
    """Say no."""
    known = await known_approval(call)
    after = await stories.decline(call.store, known, actor=call.actor, reason=call.body.reason, now=call.now)
    return Answer(body=ApprovalView.of(after))


async def act(call: Call) -> Answer:
    """Do something unasked."""
    body: ActBody = call.body
    incident, _ = await known_incident(call)
    targets: dict[str, Target] = {}
    for number, one in enumerate(body.targets):
        try:
            made = own_target(incident.host, one.type, address=one.address, room=one.room or "")
        except ConfigError as error:
            raise invalid(f"targets/{number}", str(error)) from None
        targets[about(made.type, made.fields)] = made
    try:
        after = await stories.act(
            call.store,
            incident,
            tuple(targets.values()),
            approval_id=call.new_id(),
            actor=call.actor,
            rules=call.service.settings.policy,
            now=call.now,
            expires_at=end_of(call, body.expires_at),
            second_yes=body.second_yes,
            reason=body.reason,
        )
    except ProtectedError as error:
        raise invalid("second_yes", str(error)) from None
    return Answer(body=ApprovalView.of(after), headers={"Location": f"{PREFIX}/approvals/{after.id}"})


def _route(method: Any, path: str, handler: Any, summary: str, **more: Any) -> Route:
    scope = Scope.READ if method == "GET" else Scope.APPROVE
    return Route(method=method, path=path, scope=scope, handler=handler, summary=summary, tag=TAG, **more)


ROUTES: Final = (
    _route(
        "GET",
        "/approvals",
        list_approvals,
        "List approvals, the newest first",
        description="`state=open`: those that wait.",
        query=ApprovalsQuery,
        answer=ApprovalPage,
    ),
    _route("GET", "/approvals/{id}", show_approval, "One approval, with its preview", answer=ApprovalView),
    _route(
        "POST",
        "/approvals/{id}/approve",
        approve,
        "Say yes, to all or to some",
        description="It is carried out at once; its `state` says how far it got. 409 where somebody decided before.",
        body=ApproveBody,
        answer=ApprovalView,
    ),
    _route(
        "POST",
        "/approvals/{id}/decline",
        decline,
        "Say no, and why",
        description="The server that asked is told. 409 where somebody decided before.",
        body=DeclineBody,
        answer=ApprovalView,
    ),
    _route(
        "POST",
        "/incidents/{id}/act",
        act,
        "Do something about an incident that nobody asked for",
        description="It is carried out at once; no other server is told.",
        body=ActBody,
        answer=ApprovalView,
        status=201,
    ),
)
