"""`incidents`: what was reported to our hosts and what they reported, its documents, and what operators think of it."""

import asyncio
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, RootModel, model_validator

from bridge.errors import MalformedError
from bridge.iodef.model import Severity
from bridge.pipeline.export import exported, interactions_about
from bridge.pipeline.triage import Judgement, triage
from bridge.policy import exports
from bridge.policy.consumers import Scope
from bridge.policy.decisions import Triage, TriageState
from bridge.policy.record import Incident, Interaction, Record
from bridge.store import keys, load
from bridge.store.keys import RecordName
from bridge.web.api import paging
from bridge.web.api.model import Body, Domain, Json, Line, PageQuery, Query, QueryMoment, Text
from bridge.web.api.router import TEXT, XML, Answer, Call, Route, invalid, not_found
from bridge.web.api.search import Filters, find
from bridge.web.api.views import (
    IncidentItem,
    IncidentPage,
    IncidentView,
    InteractionItem,
    InteractionPage,
    TriageView,
)
from bridge.xep0268.model import Status
from bridge.xmpp.jid import Jid

TAG: Final = "incidents"


def _source(value: str) -> str:
    try:
        return str(Jid.parse(value)) if "@" in value else value
    except MalformedError:
        return value


class IncidentsQuery(PageQuery):
    """Which incidents."""

    host: Domain | None = Field(default=None, description="Only this host's.")
    status: Status | None = None
    reporter: Domain | None = Field(
        default=None, description="The peer that reported it, or the host itself."
    )
    quarantined: bool | None = None
    source: Annotated[str, Field(min_length=1, max_length=3100), AfterValidator(_source)] | None = Field(
        default=None, description="An address that it names as a source, exactly."
    )
    severity: Severity | None = None
    triage: TriageState | None = None
    identity: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="The text of its IncidentID; finds nothing that lies in quarantine."
    )
    since: QueryMoment | None = Field(default=None, description="Made at or after this time.")
    until: QueryMoment | None = Field(default=None, description="Made before this time.")

    def filters(self) -> Filters:
        """What is looked for."""
        return Filters(
            status=self.status,
            reporter=self.reporter,
            quarantined=self.quarantined,
            source=self.source,
            severity=self.severity,
            triage=self.triage,
            text=self.identity,
            since=self.since,
            until=self.until,
        )


class FormQuery(Query):
    """In which form."""

    form: Literal["canonical", "original"] = Field(
        default="canonical",
        description="`canonical`: an IODEF-Document, valid against the schema; `original`: the bytes that came.",
    )


class ExportQuery(Query):
    """For whom."""

    form: Literal["log", "xarf"] = Field(
        default="log",
        description="`log`: who was told when, as text for a public list; `xarf`: XARF v4 for hosters, as JSON.",
    )
    contact: Annotated[str, Field(max_length=320)] = Field(
        default="",
        description="For `xarf`: the mail address at which you can be asked; empty: what the document names, and 422 "
        "where it names none.",
    )


class Xarf(RootModel[tuple[Json, ...]]):
    """XARF v4 reports (xarf.org), one for each source; the same source has the same `report_id` again."""


def _left_out() -> Any:
    """Stand for what is not given; null is not the same and refused."""
    return None


class TriagePatch(Body):
    """What an operator writes down; what is left out stays as it is."""

    state: TriageState = Field(default_factory=_left_out)
    assignee: Annotated[Line, Field(max_length=200)] = Field(
        default_factory=_left_out, description="A JID or a name; empty: nobody."
    )
    resolution: Annotated[Text, Field(max_length=2000)] = Field(default_factory=_left_out)
    note: Annotated[Text, Field(min_length=1, max_length=4000)] = Field(
        default_factory=_left_out, description="Added to the notes there are."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("give at least one of state, assignee, resolution and note")
        return self


async def known_incident(call: Call, *more: RecordName) -> tuple[Incident, list[Record | None]]:
    """Load the incident that the path names, with what else is wanted; 404 where the caller may not see it."""
    name = keys.incident(call.path["id"])
    records = (await load.fetch(call.store, names=[name, *more])).records
    incident = records[name]
    if not isinstance(incident, Incident) or not call.sees(incident.host):
        raise not_found("incident")
    return incident, [records[one] for one in more]


async def list_incidents(call: Call) -> Answer:
    """A page of incidents."""
    query: IncidentsQuery = call.query
    hosts = call.hosts_for(query.host)
    filters = query.filters()
    of = paging.fingerprint("incidents", hosts, [str(value) for value in query.filters_given()])
    found = await find(
        call.store, hosts, filters, limit=query.limit, before=paging.position(query.cursor, of=of)
    )
    items = tuple(IncidentItem.of(incident, known) for incident, known in found.incidents)
    following = None if found.last is None else paging.following(found.last, of=of)
    return Answer(body=IncidentPage(items=items, next=following))


async def show_incident(call: Call) -> Answer:
    """One incident with everything."""
    incident, (known,) = await known_incident(call, keys.triage(call.path["id"]))
    name = keys.interaction(incident.current.interaction_id)
    current = (await load.fetch(call.store, names=[name])).records[name]
    return Answer(
        body=IncidentView.whole(
            incident,
            known if isinstance(known, Triage) else None,
            current if isinstance(current, Interaction) else None,
        )
    )


async def judge_incident(call: Call) -> Answer:
    """Write down what an operator thinks."""
    incident, _ = await known_incident(call)
    given = call.body.model_dump(exclude_unset=True)
    after = await triage(call.store, incident, Judgement(**given), actor=call.actor, now=call.now)
    return Answer(body=TriageView.of(after))


async def show_document(call: Call) -> Answer:
    """The document of the edition that counts."""
    incident, _ = await known_incident(call)
    current, original = await _brought(call, incident)
    if call.query.form == "original":
        return Answer(raw=original)
    return Answer(raw=await asyncio.to_thread(exported, current))


async def _brought(call: Call, incident: Incident) -> tuple[Interaction, bytes]:
    """The interaction that brought the edition that counts, and its bytes."""
    name = keys.interaction(incident.current.interaction_id)
    current = (await load.fetch(call.store, names=[name], originals=True)).records[name]
    if not isinstance(current, Interaction) or current.original is None:
        raise not_found("document")
    return current, current.original


async def export_incident(call: Call) -> Answer:
    """An incident of our own for those who keep lists, or run machines."""
    incident, _ = await known_incident(call)
    current, _ = await _brought(call, incident)
    story = await interactions_about(call.store, incident.id)
    if call.query.form == "xarf":
        try:
            made = exports.xarf(incident, current.document, story, contact=call.query.contact)
        except exports.ContactError as error:
            raise invalid("contact", str(error), kind="invalid-query") from None
        return Answer(body=Xarf(tuple(made)))
    text = exports.log(incident, current.document, story)
    return Answer(raw=text.encode(), headers={"Content-Type": f"{TEXT}; charset=utf-8"})


async def list_interactions(call: Call) -> Answer:
    """What was sent and received about an incident."""
    incident, _ = await known_incident(call)
    query: PageQuery = call.query
    of = paging.fingerprint("interactions", incident.id)
    before = paging.position(query.cursor, of=of)
    entries = await load.page(
        call.store, keys.interactions(incident.id), limit=query.limit + 1, before=before
    )
    shown = entries[: query.limit]
    names = [keys.interaction(member) for member, _ in shown]
    records = (await load.fetch(call.store, names=names)).records if names else {}
    items = tuple(InteractionItem.of(one) for one in records.values() if isinstance(one, Interaction))
    more = len(entries) > query.limit
    following = paging.following((shown[-1][1], shown[-1][0]), of=of) if more else None
    return Answer(body=InteractionPage(items=items, next=following))


ROUTES: Final = (
    Route(
        method="GET",
        path="/incidents",
        scope=Scope.READ,
        handler=list_incidents,
        summary="List incidents, the newest made first",
        description="The order is that of creation, so an incident that changes meanwhile is neither lost nor"
        " repeated. With filters a page may be shorter than `limit`, even empty, and still have a `next`.",
        tag=TAG,
        query=IncidentsQuery,
        answer=IncidentPage,
    ),
    Route(
        method="GET",
        path="/incidents/{id}",
        scope=Scope.READ,
        handler=show_incident,
        summary="One incident with its document, editions and triage",
        tag=TAG,
        answer=IncidentView,
    ),
    Route(
        method="PATCH",
        path="/incidents/{id}",
        scope=Scope.WRITE,
        handler=judge_incident,
        summary="Triage an incident: state, assignee, resolution, a note",
        description="No peer is told. To tell that an incident of ours is over, report it resolved.",
        tag=TAG,
        body=TriagePatch,
        answer=TriageView,
    ),
    Route(
        method="GET",
        path="/incidents/{id}/iodef",
        scope=Scope.READ,
        handler=show_document,
        summary="The document of an incident, as XML",
        tag=TAG,
        query=FormQuery,
        produces=XML,
    ),
    Route(
        method="GET",
        path="/incidents/{id}/export",
        scope=Scope.READ,
        handler=export_incident,
        summary="An incident of our own, for public lists and hosters",
        description="409 where another server reported it, or where it is made of what users agreed to tell one server "
        "only; for XARF also where it has no kind for it.",
        tag=TAG,
        query=ExportQuery,
        answer=Xarf,
        or_text=True,
        is_refusable=True,
    ),
    Route(
        method="GET",
        path="/incidents/{id}/interactions",
        scope=Scope.READ,
        handler=list_interactions,
        summary="What was received and sent about an incident, the newest first",
        tag=TAG,
        query=PageQuery,
        answer=InteractionPage,
    ),
)
