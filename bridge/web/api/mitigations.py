"""`mitigations`: what is done on our server, and taking it back."""

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import Field

from bridge.pipeline import approve as stories
from bridge.policy.consumers import Scope
from bridge.policy.decisions import Mitigation, MitigationState, MitigationType
from bridge.policy.record import Record
from bridge.store import keys, load
from bridge.web.api import paging
from bridge.web.api.model import Body, Domain, Out, PageQuery, Text
from bridge.web.api.router import Answer, Call, Route, not_found

TAG: Final = "mitigations"
_ACTIVE: Final = {MitigationState.PENDING, MitigationState.APPLIED, MitigationState.LIFTING}


class MitigationView(Out):
    """Something done on our server to one target."""

    id: str
    host: str
    type: MitigationType
    target: dict[str, str] = Field(description="`account`, or `domain`, or `room` and `jid`.")
    state: MitigationState
    is_active: bool = Field(description="Whether it is in force, or about to begin or end.")
    action: str = Field(description="What was asked for, in IODEF's words.")
    incident_id: str = Field(description="Empty: there is none, see `feeds` and `draft_id`.")
    feeds: tuple[str, ...] = Field(
        description="The lists that named it when that was decided because of them."
    )
    draft_id: str = Field(description="What users reported, where that is why; see `/abuse/{id}`.")
    approval_id: str
    by: str = Field(description="Who approved it.")
    reason: str
    created_at: datetime
    applied_at: datetime | None
    expires_at: datetime
    ended_at: datetime | None
    lifted_by: str = Field(description="Who took it back; empty: nobody.")
    tries: int = Field(description="How often Prosody was asked and could not be reached.")
    failure: str = Field(description="What went wrong last.")
    note: str = Field(description="What else there is to know of how it ended.")

    @classmethod
    def of(cls, mitigation: Mitigation) -> Self:
        """Show it."""
        given = {name: getattr(mitigation, name) for name in cls.model_fields if name != "target"}
        return cls(**given, target=dict(mitigation.target))


class MitigationPage(Out):
    """A page of mitigations, the newest first."""

    items: tuple[MitigationView, ...]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class MitigationsQuery(PageQuery):
    """Which mitigations."""

    host: Domain | None = Field(default=None, description="Only this host's.")
    state: MitigationState | None = None
    active: bool | None = Field(
        default=None,
        description="`true`: only what is in force, or about to begin or end; `false`: what is over.",
    )


class LiftBody(Body):
    """Why."""

    reason: Annotated[Text, Field(max_length=1000)] = Field(default="", description="For yourselves.")


async def list_mitigations(call: Call) -> Answer:
    """A page of mitigations."""
    query: MitigationsQuery = call.query
    hosts = call.hosts_for(query.host)
    of = paging.fingerprint("mitigations", hosts, query.state, query.active)
    index = keys.mitigations_active if query.active or query.state in _ACTIVE else keys.mitigations

    def is_wanted(one: Record) -> bool:
        return (
            isinstance(one, Mitigation)
            and query.state in {None, one.state}
            and query.active in {None, one.is_active}
        )

    found, last = await paging.records(
        call.store,
        [index(host) for host in hosts],
        keys.mitigation,
        is_wanted,
        limit=query.limit,
        before=paging.position(query.cursor, of=of),
    )
    items = tuple(MitigationView.of(one) for one in found if isinstance(one, Mitigation))
    return Answer(body=MitigationPage(items=items, next=last and paging.following(last, of=of)))


async def known_mitigation(call: Call) -> Mitigation:
    """Load the mitigation that the path names; 404 where the caller may not see it."""
    name = keys.mitigation(call.path["id"])
    found = (await load.fetch(call.store, names=[name])).records[name]
    if not isinstance(found, Mitigation) or not call.sees(found.host):
        raise not_found("mitigation")
    return found


async def show_mitigation(call: Call) -> Answer:
    """One mitigation."""
    return Answer(body=MitigationView.of(await known_mitigation(call)))


async def lift(call: Call) -> Answer:
    """Take it back."""
    known = await known_mitigation(call)
    after = await stories.lift(call.store, known, actor=call.actor, reason=call.body.reason, now=call.now)
    return Answer(body=MitigationView.of(after))


ROUTES: Final = (
    Route(
        method="GET",
        path="/mitigations",
        scope=Scope.READ,
        handler=list_mitigations,
        summary="List mitigations, the newest first",
        tag=TAG,
        query=MitigationsQuery,
        answer=MitigationPage,
    ),
    Route(
        method="GET",
        path="/mitigations/{id}",
        scope=Scope.READ,
        handler=show_mitigation,
        summary="One mitigation",
        tag=TAG,
        answer=MitigationView,
    ),
    Route(
        method="POST",
        path="/mitigations/{id}/lift",
        scope=Scope.APPROVE,
        handler=lift,
        summary="Take a mitigation back",
        description="Prosody is told at once; the server that asked for it is told once it is over. 409 where it is.",
        tag=TAG,
        body=LiftBody,
        answer=MitigationView,
    ),
)
