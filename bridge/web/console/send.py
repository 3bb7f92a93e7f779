"""Send all four kinds: a form, what would be sent, and then what became of it.

House rules: nothing is sent that was not shown before; a form that is sent twice sends once; every mistake is named
beside its field.
"""

import uuid
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup, escape

from bridge.iodef.model import Severity
from bridge.pipeline.compose import IMPACTS
from bridge.pipeline.export import payload
from bridge.pipeline.ids import new_id
from bridge.pipeline.originate import audience
from bridge.policy.lookalike import alike
from bridge.policy.outreach import instead
from bridge.policy.record import Interaction, Outcome, Peer, Way
from bridge.policy.sessions import Role
from bridge.policy.standing import is_over, standing
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.web.console import find, lists, send_form, timeline
from bridge.web.console.guard import NOT_HERE, Refusal, Visit, get, post
from bridge.web.console.once import NewId, once, word
from bridge.web.console.send_form import WrongError
from bridge.web.console.send_stories import Made, Matter, made, matter
from bridge.xep0268.model import Kind

KINDS: Final = {
    Kind.REPORT: "Report",
    Kind.INQUIRY: "Ask",
    Kind.REQUEST: "Request",
    Kind.RESPONSE: "Answer",
}
TITLES: Final = {
    Kind.REPORT: "Report an incident",
    Kind.INQUIRY: "Ask what others know",
    Kind.REQUEST: "Ask others to do something",
    Kind.RESPONSE: "Answer a request",
}
OUTCOMES: Final = {
    Outcome.DONE: "all of it is done",
    Outcome.PARTLY: "only what is ticked is done",
    Outcome.DECLINED: "nothing is done",
}
_OFFERED: Final = 24
_WAITING: Final = 50
_MOST_SENT: Final = 100


async def show_first(visit: Visit) -> web.Response:
    """Show the form for what is sent most."""
    return await _show(visit, Kind.REPORT)


async def show(visit: Visit) -> web.Response:
    """Show the form of a kind; for a response, the requests that wait until one is chosen."""
    return await _show(visit, _kind(visit))


def _kind(visit: Visit) -> Kind:
    name = visit.request.match_info["kind"]
    if name not in set(Kind):
        raise NOT_HERE
    return Kind(name)


async def _show(visit: Visit, kind: Kind) -> web.Response:
    if kind is Kind.RESPONSE and not visit.query("request"):
        return await _waiting(visit)
    typed = send_form.empty()
    for name in ("incident", "request", "host", "to", "sources"):
        typed[name] = visit.query(name)
    return await _form(visit, await matter(visit, kind, typed), typed, {})


async def _waiting(visit: Visit) -> web.Response:
    """List the requests that wait for an answer."""
    if Role.APPROVER not in visit.hosts.values():
        visit.acting(next(iter(visit.hosts)))  # says so
    found, _ = await lists.waiting(visit.store, list(visit.hosts), now=visit.now, limit=_WAITING)
    waiting = [one for one in found if one.request is not None]
    return visit.page(
        "send_waiting.html", title=TITLES[Kind.RESPONSE], kinds=KINDS, kind=Kind.RESPONSE, waiting=waiting
    )


async def _form(
    visit: Visit, about: Matter, typed: Mapping[str, Any], wrong: Mapping[str, str]
) -> web.Response:
    index = keys.peers_trusted(about.host)
    trusted = sorted((await load.newest(visit.store, [index], limit=_OFFERED))[index])
    incident = about.incident
    return visit.page(
        "send.html",
        title=TITLES[about.kind],
        status=HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK,
        kinds=KINDS,
        kind=about.kind,
        about=about,
        told=await audience(visit.store, incident) if incident is not None else (),
        typed=_retyped(typed),
        wrong=wrong,
        trusted=trusted,
        acting=[host for host, role in visit.hosts.items() if role is Role.APPROVER],
        actions=about.asked_for if about.asked else send_form.ACTIONS,
        impacts=IMPACTS,
        severities=tuple(Severity),
        restrictions=send_form.RESTRICTIONS,
        outcomes=OUTCOMES,
    )


async def act(visit: Visit) -> web.Response:
    """Show what would be sent, or send it, or go back to the form; as the button says."""
    typed = await send_form.read(visit)
    about = await matter(visit, _kind(visit), typed)
    step = await visit.field("step")
    if step == "edit":
        return await _form(visit, about, typed, {})
    typed["own"] = typed["own"] or str(uuid.uuid4())
    if about.incident is not None:
        typed["own"] = ""  # it has its identifier
    try:
        if step == "send":
            return await _send(visit, about, typed)
        shown = await made(visit, about, typed, new_id, is_rehearsal=True)
    except WrongError as error:
        return await _form(visit, about, typed, error.fields)
    return await _preview(visit, about, typed, shown)


async def _send(visit: Visit, about: Matter, typed: Mapping[str, Any]) -> web.Response:
    async def send(make_id: NewId) -> str:
        done = await made(visit, about, typed, make_id, is_rehearsal=False)
        return " ".join(one.id for one in done.originated.interactions)

    ids = await once(visit, send)
    return visit.back("/sent", ids=ids.replace(" ", "."))


async def _preview(visit: Visit, about: Matter, typed: Mapping[str, Any], shown: Made) -> web.Response:
    drafts = shown.originated.interactions
    peers = await find.peers_named(visit.store, about.host, [one.peer for one in drafts])
    known = {one.domain: one for one in peers}
    return visit.page(
        "send_preview.html",
        title=TITLES[about.kind],
        kinds=KINDS,
        kind=about.kind,
        about=about,
        drafts=drafts,
        document=drafts[0].document,
        text=payload(drafts[0]).decode("utf-8", "replace"),
        size_bytes=len(drafts[0].original or b""),
        notes=shown.notes,
        known=known,
        remarks=_remarks(about.host, drafts, known),
        beware=alike([one.peer for one in drafts], await find.known_names(visit.store, about.host)),
        fields=_fields(typed),
        outcomes=OUTCOMES,
        typed=typed,
        once=word(),
    )


def _remarks(host: str, drafts: Iterable[Interaction], known: Mapping[str, Peer]) -> list[str]:
    """What somebody should know of the servers before sending to them."""
    found = []
    for one in drafts:
        peer = known.get(one.peer)
        if peer is not None and peer.trust is Trust.BLOCKED:
            found.append(f"{one.peer} is blocked: what it answers is refused.")
        elif peer is None:
            found.append(f"{one.peer} was never met by {host}.")
        if peer is not None and peer.announces is False:
            found.append(f"{one.peer} does not announce XEP-0268; {instead(peer.contacts)}.")
    return found


def _fields(typed: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """What was typed, for the form that sends it: to the letter, also what pages otherwise show as escapes."""
    single = [(name, escape(typed[name])) for name in send_form.LINES if typed[name]]
    return single + [(name, escape(value)) for name in send_form.LISTS for value in typed[name]]


def _retyped(typed: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed, for the form that shows it again, to the letter."""
    return {
        name: escape(value) if isinstance(value, str) else [escape(one) for one in value]
        for name, value in typed.items()
    }


async def show_sent(visit: Visit) -> web.Response:
    """Show what became of what was sent."""
    ids = [one for one in visit.query("ids").split(".") if one][:_MOST_SENT]
    found = await find.records(visit.store, map(keys.interaction, ids))
    sent = [
        one
        for one in found
        if isinstance(one, Interaction) and one.way is Way.SENT and one.host in visit.hosts
    ]
    if not sent:
        raise Refusal(NOT_HERE.status, NOT_HERE.title, NOT_HERE.text)
    incident = await find.incident(visit.store, sent[0].incident_id, visit.hosts)
    return visit.page(
        "sent.html",
        title="Sent",
        sent=sent,
        incident=incident,
        standing=standing,
        is_bad=timeline.is_bad,
        is_over=is_over,
        kinds=KINDS,
        waits=sum(not is_over(one) for one in sent),
    )


def routes() -> list[web.RouteDef]:
    """Return the routes of sending."""
    return [
        get("/send", show_first),
        get("/send/{kind}", show),
        post("/send/{kind}", act),
        get("/sent", show_sent),
    ]
