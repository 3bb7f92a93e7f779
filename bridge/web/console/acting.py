"""Do something about an incident that nobody asked for: choose, see what it would touch, do it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.errors import ConfigError
from bridge.iodef.model import Incident as Document
from bridge.pipeline import approve as stories
from bridge.pipeline.ids import new_id
from bridge.policy.approval import MAX_TARGETS, own_target
from bridge.policy.decisions import Approval, MitigationType, Target
from bridge.policy.mitigation import about
from bridge.policy.record import Incident, Interaction, derived_id
from bridge.store import keys
from bridge.web.console import find
from bridge.web.console.guard import NOT_HERE, Visit, get, post
from bridge.web.console.targets import beware, choices, foreseen, worded
from bridge.web.console.typed import span, spans, words
from bridge.xmpp.jid import Jid

_MOST_SOURCES: Final = 50
_MOST_REASON: Final = 1000
_KINDS: Final = {
    MitigationType.SUSPEND: "suspend an account of ours",
    MitigationType.BLOCK: "block a server",
    MitigationType.BAN: "ban somebody from a room of ours",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One thing that could be done about a source; `value` is what the form calls it."""

    value: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was chosen, as the form says it.

    Attributes:
        whats: of the sources offered, `TYPE ADDRESS`.
        kind, address: something else that was typed.
        room: where whoever is banned is banned.
    """

    whats: tuple[str, ...] = ()
    kind: str = ""
    address: str = ""
    room: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is chosen yet."""
        return not self.whats and not self.address


async def show(visit: Visit) -> web.Response:
    """Let choose; once that is done, show what it would touch."""
    incident = await _incident(visit)
    query = visit.request.query
    wanted = Wanted(
        whats=tuple(query.getall("what", [])),
        kind=visit.query("kind"),
        address=visit.query("address"),
        room=visit.query("room"),
    )
    if wanted.is_empty:
        text = "Choose at least one." if query else ""
        return await _choosing(visit, incident, wanted, problem=text)
    try:
        targets = _targets(incident.host, wanted)
    except ConfigError as error:
        return await _choosing(visit, incident, wanted, problem=f"{error}.")
    return await _previewing(visit, incident, targets)


async def _incident(visit: Visit) -> Incident:
    found = await find.incident(visit.store, visit.request.match_info["id"], visit.hosts)
    if found is None:
        raise NOT_HERE
    visit.acting(found.host)
    return found


def _targets(host: str, wanted: Wanted) -> tuple[Target, ...]:
    """What is meant.

    Raises:
        ConfigError: something of it cannot be meant.
    """
    chosen = [(wanted.kind, wanted.address, wanted.room)] if wanted.address else []
    for what in wanted.whats:
        kind, _, rest = what.partition(" ")
        address, _, room = rest.partition(" ")
        chosen.append((kind, address, room or wanted.room))
    if any(kind not in set(MitigationType) for kind, _, _ in chosen):
        raise ConfigError("choose what to do about the address")
    found = [
        own_target(host, MitigationType(kind), address=address, room=room) for kind, address, room in chosen
    ]
    once = tuple({about(one.type, one.fields): one for one in found}.values())
    if len(once) > MAX_TARGETS:
        raise ConfigError(f"one yes covers {MAX_TARGETS} targets, these are {len(once)}; choose some of them")
    return once


async def _choosing(visit: Visit, incident: Incident, wanted: Wanted, *, problem: str) -> web.Response:
    name = keys.interaction(incident.current.interaction_id)
    found = await find.records(visit.store, [name])
    document = found[0].document if found and isinstance(found[0], Interaction) else None
    offers = _offers(document, incident.host)
    return visit.page(
        "act.html",
        title="Act on an incident",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        incident=incident,
        offers=offers[:_MOST_SOURCES],
        more=max(0, len(offers) - _MOST_SOURCES),
        can_ban=any(one.value.startswith(MitigationType.BAN) for one in offers),
        rooms=_rooms(document, incident.host),
        kinds=_KINDS,
        wanted=wanted,
        problem=problem,
    )


def _offers(document: Document | None, host: str) -> list[Offer]:
    """What could be done about the sources; the whole server of one that is elsewhere too."""
    jids = [Jid.parse(one.jid) for one in (document.sources if document else ()) if one.jid is not None]
    wanted: list[tuple[MitigationType, str]] = []
    for jid in jids:
        if jid.domain == host:
            wanted += [(MitigationType.SUSPEND, jid.bare)] if jid.local else []
        else:
            wanted += [(MitigationType.BAN, jid.bare)] if jid.local else []
            wanted.append((MitigationType.BLOCK, jid.domain))
    return [_offer(host, kind, address) for kind, address in dict.fromkeys(wanted)]


def _offer(host: str, kind: MitigationType, address: str) -> Offer:
    if kind is MitigationType.BAN:
        shown = own_target(host, kind, address=address, room=f"room@{host}")
        text = worded(replace(shown, fields={**shown.fields, "room": "the room below"}))
    else:
        text = worded(own_target(host, kind, address=address))
    return Offer(value=f"{kind} {address}", text=text)


def _rooms(document: Document | None, host: str) -> list[str]:
    """Rooms of ours that the incident names."""
    jids = [Jid.parse(one.jid) for one in (document.targets if document else ()) if one.jid is not None]
    return list(dict.fromkeys(jid.bare for jid in jids if jid.local and jid.domain.endswith(f".{host}")))


async def _previewing(
    visit: Visit,
    incident: Incident,
    targets: Sequence[Target],
    *,
    problem: str = "",
    nonce: str = "",
    days: str = "",
    reason: str = "",
) -> web.Response:
    policy = visit.service.settings.policy
    draft = Approval(
        id="", host=incident.host, incident_id=incident.id, request=None, requester="",
        targets=tuple(targets), created_at=visit.now, expires_at=visit.now,
    )  # fmt: skip
    draft, unknown = await foreseen(visit, draft)
    shown = choices(draft.targets)
    return visit.page(
        "act_preview.html",
        title="Act on an incident",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        incident=incident,
        choices=shown,
        values=[_written(one) for one in targets],
        protected=[one for one in shown if one.second_yes],
        beware=await beware(visit, incident.host, targets),
        spans=spans(policy.mitigation_days),
        usual=policy.mitigation_days,
        nonce=nonce or new_id(),
        days=days,
        reason=reason,
        unknown=unknown,
        problem=problem,
    )


def _written(target: Target) -> str:
    """A target as the form carries it: `TYPE ADDRESS`, `room.ban JID ROOM`; none of these holds a space."""
    fields = target.fields
    address = fields.get("account") or fields.get("domain") or f"{fields['jid']} {fields['room']}"
    return f"{target.type} {address}"


async def act(visit: Visit) -> web.Response:
    """Do it."""
    incident = await _incident(visit)
    wanted = Wanted(whats=tuple(await visit.fields("what")))
    if wanted.is_empty:
        return await _choosing(visit, incident, wanted, problem="Choose at least one.")
    try:
        targets = _targets(incident.host, wanted)
    except ConfigError as error:
        return await _choosing(visit, incident, Wanted(), problem=f"{error}.")
    reason = await words(visit, "reason", most=_MOST_REASON)
    nonce = (await visit.field("nonce"))[:64]
    try:
        after = await stories.act(
            visit.store,
            incident,
            targets,
            approval_id=derived_id("act", incident.id, nonce, *sorted(map(_written, targets))),
            actor=visit.actor,
            rules=visit.service.settings.policy,
            now=visit.now,
            expires_at=visit.now + await span(visit),
            second_yes=bool(await visit.field("second")),
            reason=reason,
        )
    except ConfigError as error:  # protected, and without a second yes
        return await _previewing(
            visit,
            incident,
            targets,
            problem=f"Nothing was done: {error}.",
            nonce=nonce,
            days=await visit.field("days"),
            reason=reason,
        )
    return visit.back(f"/approvals/{after.id}", "approved")


def routes() -> list[web.RouteDef]:
    """Return the routes of what is done unasked."""
    return [get("/incidents/{id}/act", show), post("/incidents/{id}/act", act)]
