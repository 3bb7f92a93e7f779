"""One incident whole: what it says, what happened, who says so, what we repaired; and its document."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.errors import ConfigError
from bridge.iodef.model import Counter
from bridge.iodef.model import Incident as Document
from bridge.pipeline.export import exported, readable
from bridge.pipeline.related import related_to
from bridge.policy import exports
from bridge.policy.lookalike import alike
from bridge.policy.record import Incident, Interaction, Way
from bridge.policy.trust import Authentication
from bridge.store import keys, load
from bridge.web.console import find, timeline
from bridge.web.console.guard import NOT_HERE, Refusal, Visit, get
from bridge.web.console.triage import desk
from bridge.xep0268.model import Kind

_MOST_INTERACTIONS: Final = 200
_PROVEN: Final = {
    Authentication.CERTIFICATE: "by a valid certificate",
    Authentication.DIALBACK_CERTIFICATE: "by dialback, with a certificate that is not trusted",
    Authentication.DIALBACK: "by dialback only",
    Authentication.LOCAL: "it is on this server",
    Authentication.NONE: "not at all",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A peer that got the incident, with how the last sending of it stands."""

    peer: str
    sending: Interaction | None


async def show(visit: Visit) -> web.Response:
    """Show the incident as the edition that counts tells it, then its story."""
    incident = await _incident(visit)
    store = visit.store
    story = await find.interactions(store, incident.id, incident.editions, limit=_MOST_INTERACTIONS)
    newest = next((one for one in story if one.id == incident.current.interaction_id), None)
    document = newest.document if newest else None
    judged = (await find.triage(store, [incident])).get(incident.id)
    return visit.page(
        "incident.html",
        title=incident.summary[:80] or f"Incident {incident.id}",
        incident=incident,
        newest=newest,
        document=document,
        reporter=None if incident.is_own else await find.peer(store, incident.host, incident.reporter),
        triage=judged,
        desk=await desk(visit, incident, judged),
        entries=timeline.entries(incident, story),
        is_cut=len(story) >= _MOST_INTERACTIONS,
        told=_told(incident, story),
        related=await related_to(store, incident, document),
        beware=await _beware(visit, incident, newest),
        repairs=[(one, one.repairs) for one in story if one.repairs],
        proven=None if newest is None else _PROVEN[newest.stream.authentication],
        is_received=newest is not None and newest.way is Way.RECEIVED,
        counter=counter,
        mail=exports.mail_in(document) if document else "",
    )


async def _incident(visit: Visit) -> Incident:
    found = await find.incident(visit.store, visit.request.match_info["id"], visit.hosts)
    if found is None:
        raise NOT_HERE
    return found


def _told(incident: Incident, story: list[Interaction]) -> list[Told]:
    """Who got it, and what came of that."""
    sent = {one.peer: one for one in story if one.way is Way.SENT and one.kind is Kind.REPORT}
    return [Told(peer=peer, sending=sent.get(peer)) for peer in dict.fromkeys((*incident.told, *sent))]


async def _beware(visit: Visit, incident: Incident, newest: Interaction | None) -> list[tuple[str, str]]:
    """Addresses that only look like one that the operator knows, with that one."""
    addresses = [incident.reporter, incident.identity.name]
    if newest is not None:
        document = newest.document
        addresses += [one.address for one in document.sources + document.targets + document.others]
        addresses += [jid for contact in document.contacts for jid in contact.jids]
    return alike(addresses, await find.known_names(visit.store, incident.host))


def counter(one: Counter) -> str:
    """`123 xmpp-presence`, `5 packet a second`."""
    rate = f" a {one.duration}" if one.duration else ""
    meaning = f" ({one.meaning})" if one.meaning else ""
    return f"{one.value:.15g} {one.type}{rate}{meaning}"


async def show_document(visit: Visit) -> web.Response:
    """Show the document that counts: canonical, or as it came."""
    incident = await _incident(visit)
    is_original = visit.query("form") == "original"
    brought = await _brought(visit, incident)
    data = (brought.original or b"") if is_original else readable(brought)
    return visit.page(
        "document.html",
        title="Document",
        incident=incident,
        text=data.decode("utf-8", "replace"),
        is_original=is_original,
        size_bytes=len(data),
    )


async def download(visit: Visit) -> web.Response:
    """Hand out the document as a file."""
    incident = await _incident(visit)
    brought = await _brought(visit, incident)
    data = (brought.original or b"") if visit.query("form") == "original" else exported(brought)
    headers = {"Content-Disposition": f'attachment; filename="incident-{incident.id}.xml"'}
    return web.Response(body=data, content_type="application/xml", headers=headers)


async def download_log(visit: Visit) -> web.Response:
    """Hand out who was told when, as text for a public list."""
    incident, document, story = await _own(visit)
    headers = {"Content-Disposition": f'attachment; filename="incident-{incident.id}.txt"'}
    return web.Response(
        text=exports.log(incident, document, story),
        content_type="text/plain",
        charset="utf-8",
        headers=headers,
    )


async def download_xarf(visit: Visit) -> web.Response:
    """Hand out XARF v4 for hosters, one report for each source."""
    incident, document, story = await _own(visit)
    headers = {"Content-Disposition": f'attachment; filename="incident-{incident.id}-xarf.json"'}
    try:
        made = exports.xarf(incident, document, story, contact=visit.query("contact"))
    except ConfigError as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "XARF cannot say that", f"{error}.") from None
    return web.json_response(made, headers=headers)


async def _own(visit: Visit) -> tuple[Incident, Document, list[Interaction]]:
    """An incident that this host reported itself, with all about it."""
    incident = await _incident(visit)
    if not incident.is_own:
        raise NOT_HERE
    story = await find.interactions(visit.store, incident.id, incident.editions, limit=_MOST_INTERACTIONS)
    return incident, (await _brought(visit, incident)).document, story


async def _brought(visit: Visit, incident: Incident) -> Interaction:
    """The interaction that brought the edition that counts, with its bytes."""
    name = keys.interaction(incident.current.interaction_id)
    found = (await load.fetch(visit.store, names=[name], originals=True)).records[name]
    if not isinstance(found, Interaction) or found.original is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "Gone", "Its document is no longer in the store.")
    return found


def routes() -> list[web.RouteDef]:
    """Return the routes of one incident."""
    return [
        get("/incidents/{id}", show),
        get("/incidents/{id}/document", show_document),
        get("/incidents/{id}/document.xml", download),
        get("/incidents/{id}/log.txt", download_log),
        get("/incidents/{id}/xarf.json", download_xarf),
    ]
