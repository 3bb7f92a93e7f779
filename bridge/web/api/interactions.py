"""`interactions`: all four kinds, originated; and own incidents, reported.

House rules: a request queues and is answered 202, the workers send; what came of it is in `interactions/{id}`. The
rules about what may go to whom are those of `pipeline/originate`, the same as for the command line.
"""

import asyncio
from typing import Final

from bridge.errors import ConfigError, MalformedError, RefusedError
from bridge.iodef.model import Incident as Document
from bridge.pipeline import compose, originate
from bridge.pipeline.compose import Details, PrivateError
from bridge.pipeline.originate import Origin
from bridge.policy.admit import WATERMARK
from bridge.policy.consumers import Scope
from bridge.policy.record import Incident, Interaction, Outcome, Way
from bridge.store import keys, load
from bridge.web.api.router import PREFIX, Answer, Call, Route, invalid, not_found
from bridge.web.api.sending import (
    DetailsBody,
    InquiryBody,
    InteractionBody,
    OwnIncident,
    ReportBody,
    RequestBody,
    ResponseBody,
)
from bridge.web.api.views import IncidentItem, InteractionItem, InteractionView, Originated
from bridge.web.problems import ProblemError
from bridge.xep0268.model import Kind

TAG: Final = "interactions"


def _origin(call: Call, host: str, to: tuple[str, ...]) -> Origin:
    if host in to:
        raise invalid(f"to/{to.index(host)}", "is this host itself")
    if call.service.health is not None and call.service.fill >= WATERMARK:
        detail = "the store is nearly full, and what peers send comes first; its operators know"
        raise ProblemError("unavailable", detail, headers={"Retry-After": "60"})
    return Origin(host=host, to=tuple(dict.fromkeys(to)), now=call.now, new_id=call.new_id, actor=call.actor)


async def _stored(call: Call, body: ReportBody | InquiryBody | RequestBody) -> Incident:
    name = keys.incident(body.incident or "")
    found = (await load.fetch(call.store, names=[name])).records[name]
    if not isinstance(found, Incident) or not call.sees(found.host):
        raise invalid("incident", "there is no such incident, or this token may not see it")
    if body.host not in {None, found.host}:
        raise invalid("host", f"the incident is one of {found.host}")
    return found


async def _with_original(call: Call, interaction_id: str, field: str) -> Interaction:
    name = keys.interaction(interaction_id)
    found = (await load.fetch(call.store, names=[name], originals=True)).records[name]
    if not isinstance(found, Interaction) or not call.sees(found.host):
        raise invalid(field, "there is no such interaction, or this token may not see it")
    if found.original is None:
        raise ProblemError("conflict", "its document is no longer kept")
    return found


async def _read(text: str, host: str, kind: Kind) -> compose.Given:
    try:
        return await asyncio.to_thread(compose.from_document, text.encode(), host, kind)
    except MalformedError as error:
        where = f"{error.path}: " if error.path else ""
        raise invalid("document", f"{where}{error.rule}") from None
    except RefusedError as error:
        raise invalid("document", error.stanza_error.text) from None


def _new(host: str, body: DetailsBody | None) -> Document:
    if body is None or not (body.description or body.sources):
        raise invalid("details", "say what happened: a description or a source")
    return compose.new_document(host, body.value())


def _changed(newest: Interaction, body: DetailsBody | None) -> Document:
    if body is not None and body.id is not None:
        raise invalid("details/id", "the incident has its identifier; leave it out")
    return compose.again(newest, Details() if body is None else body.value())


async def _report(call: Call, body: ReportBody | OwnIncident) -> tuple[originate.Originated, tuple[str, ...]]:
    """Report what is no stored incident."""
    origin = _origin(call, call.one_host(body.host), body.to)
    if not origin.to:
        raise invalid("to", "name at least one server")
    if body.document is None:
        return await originate.report(call.store, origin, _new(origin.host, body.details)), ()
    given = await _read(body.document, origin.host, Kind.REPORT)
    reading = given.reading
    return await originate.report(call.store, origin, reading.tree, status=reading.status), given.notes


async def _report_stored(call: Call, body: ReportBody) -> originate.Originated:
    incident = await _stored(call, body)
    if body.status is not None:
        if body.to or body.details is not None:
            raise invalid("status", "is told to exactly those who have it; leave `to` and `details` out")
        origin = _origin(call, incident.host, ())
        if not incident.is_own:
            raise invalid("status", f"only {incident.reporter}, which reported it, can resolve it")
        return await originate.resolve(call.store, origin, incident, text=body.text)
    newest = await _with_original(call, incident.current.interaction_id, "incident")
    if incident.is_own:
        to = body.to or await originate.audience(call.store, incident)
        origin = _origin(call, incident.host, to)
        if not origin.to:
            raise invalid("to", "name at least one server")
        return await originate.report(call.store, origin, _changed(newest, body.details))
    if body.details is not None:
        raise invalid("details", f"what {incident.reporter} reported is passed on as it is")
    if not body.to:
        raise invalid("to", "name at least one server")
    origin = _origin(call, incident.host, body.to)
    return await originate.forward(call.store, origin, incident, newest, even_private=body.even_private)


async def _inquire(call: Call, body: InquiryBody) -> originate.Originated:
    if body.identity is not None:
        host, identity = call.one_host(body.host), body.identity.value()
    else:
        incident = await _stored(call, body)
        host, identity = incident.host, incident.identity
    return await originate.inquire(call.store, _origin(call, host, body.to), identity)


async def _request(call: Call, body: RequestBody) -> tuple[originate.Originated, tuple[str, ...]]:
    if body.incident is not None:
        return await _request_stored(call, body), ()
    origin = _origin(call, call.one_host(body.host), body.to)
    if body.document is None:
        document = _expecting(_new(origin.host, body.details), body)
        return await originate.request(call.store, origin, document), ()
    given = await _read(body.document, origin.host, Kind.REQUEST)
    if body.expectations:
        document = _expecting(given.reading.incident, body)
        return await originate.request(call.store, origin, document), given.notes
    if not given.reading.incident.expectations:
        raise invalid("expectations", "the document asks for nothing: say what they are to do")
    return await originate.request(call.store, origin, given.reading.tree), given.notes


async def _request_stored(call: Call, body: RequestBody) -> originate.Originated:
    incident = await _stored(call, body)
    newest = await _with_original(call, incident.current.interaction_id, "incident")
    origin = _origin(call, incident.host, body.to)
    if incident.is_own:
        document = _changed(newest, body.details)
    elif body.details is not None:
        raise invalid("details", f"the incident is told as {incident.reporter} reported it")
    else:
        try:
            document = compose.of_peer(incident, newest, origin.to, even_private=body.even_private)
        except PrivateError as error:
            raise invalid("even_private", f"{error}; to tell others, it must be true") from None
    return await originate.request(call.store, origin, _expecting(document, body), about=incident)


def _expecting(document: Document, body: RequestBody) -> Document:
    if not body.expectations:
        raise invalid("expectations", "say what they are to do, such as block-host")
    return originate.expect(document, body.expectations, text=body.text)


async def _respond(call: Call, body: ResponseBody) -> originate.Originated:
    asked = await _with_original(call, body.answers, "answers")
    if asked.kind is not Kind.REQUEST or asked.way is not Way.RECEIVED:
        raise invalid("answers", "is not a request that a peer sent")
    if bool(body.actions) is not (body.outcome is Outcome.PARTLY):
        raise invalid("actions", "belongs to the outcome partly, and only to that")
    wanted = list(dict.fromkeys(one.action for one in asked.document.expectations))
    for number, action in enumerate(body.actions):
        if action not in wanted:
            raise invalid(f"actions/{number}", f"was not asked for; asked for: {', '.join(wanted)}")
    origin = _origin(call, asked.host, (asked.peer,))
    try:
        return await originate.respond(
            call.store,
            origin,
            asked,
            outcome=body.outcome,
            text=body.text,
            actions=body.actions,
            again=body.again,
        )
    except ConfigError as error:
        if asked.outcome is None or body.again:
            raise
        detail = f"the request was answered before: {asked.outcome}; to answer it anew, again must be true"
        raise ProblemError("conflict", detail) from error


def _originated(done: originate.Originated, notes: tuple[str, ...] = ()) -> Originated:
    return Originated(
        incident=None if done.incident is None else IncidentItem.of(done.incident, None),
        interactions=tuple(InteractionItem.of(one) for one in done.interactions),
        notes=notes,
    )


async def originate_interaction(call: Call) -> Answer:
    """Queue what is to be sent."""
    body = call.body.root
    notes: tuple[str, ...] = ()
    match body:
        case ReportBody() if body.incident is not None:
            done = await _report_stored(call, body)
        case ReportBody() if body.status is not None:
            raise invalid("status", "goes with the incident that is over; a document says it itself")
        case ReportBody():
            done, notes = await _report(call, body)
        case InquiryBody():
            done = await _inquire(call, body)
        case RequestBody():
            done, notes = await _request(call, body)
        case _:
            done = await _respond(call, body)
    return Answer(body=_originated(done, notes))


async def report_incident(call: Call) -> Answer:
    """Store an own incident and queue its reports."""
    done, notes = await _report(call, call.body)
    headers = {"Location": f"{PREFIX}/incidents/{done.incident.id}"} if done.incident is not None else {}
    return Answer(body=_originated(done, notes), headers=headers)


async def known_interaction(call: Call) -> Interaction:
    """Load the interaction that the path names; 404 where the caller may not see it."""
    name = keys.interaction(call.path["id"])
    found = (await load.fetch(call.store, names=[name])).records[name]
    if not isinstance(found, Interaction) or not call.sees(found.host):
        raise not_found("interaction")
    return found


async def show_interaction(call: Call) -> Answer:
    """One interaction."""
    return Answer(body=InteractionView.of(await known_interaction(call)))


ROUTES: Final = (
    Route(
        method="POST",
        path="/incidents",
        scope=Scope.WRITE,
        handler=report_incident,
        summary="Report an incident of our own",
        description="The same IncidentID again is its next edition. What is queued is sent by the workers.",
        tag="incidents",
        body=OwnIncident,
        answer=Originated,
        status=201,
    ),
    Route(
        method="POST",
        path="/interactions",
        scope=Scope.WRITE,
        handler=originate_interaction,
        summary="Send a report, inquiry, request or response",
        description="Queues one interaction for each peer; what comes of it is in `interactions/{id}` and in events.",
        tag=TAG,
        body=InteractionBody,
        answer=Originated,
        status=202,
    ),
    Route(
        method="GET",
        path="/interactions/{id}",
        scope=Scope.READ,
        handler=show_interaction,
        summary="One interaction with its document, and how far it got",
        tag=TAG,
        answer=InteractionView,
    ),
)
