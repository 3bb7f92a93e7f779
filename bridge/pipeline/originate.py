"""What operators and consumers send: reports, inquiries, requests, responses, and resolutions.

House rules: every sending is tracked by an interaction of its own; nothing leaves here, it waits in the host's lane.
What is decided on is loaded anew until nobody was faster; it is stored once under the first of its ids, so a call
whose answer got lost may be repeated within ten minutes if it brings the same ids.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bridge.errors import ConfigError, ConflictError
from bridge.iodef.build import add_history
from bridge.iodef.model import Expectation, HistoryItem, IncidentId, Restriction, Text
from bridge.iodef.model import Incident as Document
from bridge.iodef.read import read as read_document
from bridge.iodef.table import tag
from bridge.pipeline.actors import audits
from bridge.pipeline.drafts import Origin as Origin  # noqa: PLC0414 - callers name it with the stories
from bridge.pipeline.drafts import make_draft, write_payload
from bridge.pipeline.responses import closed_by_hand
from bridge.policy import disclosure, events, forwarding, outgoing
from bridge.policy.admit import INQUIRY_SECONDS, question_name
from bridge.policy.change import Change, Put, Remember
from bridge.policy.editions import add_edition
from bridge.policy.record import Incident, Interaction, Outcome, Peer, incident_id
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import Once, SeenError, commit
from bridge.store.connect import Store
from bridge.xep0268.model import Kind, Status
from bridge.xmpp import xml
from bridge.xmpp.xml import Element

QUESTION_SECONDS = {Kind.INQUIRY: INQUIRY_SECONDS, Kind.REQUEST: 90 * 86_400}
_ATTEMPTS = 10
_MOST_ACCOUNTS = 100
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Originated:
    """What was queued; `incident` is None for an inquiry."""

    incident: Incident | None
    interactions: tuple[Interaction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What one try would store: interactions to send, an incident before and after, and what else changes."""

    drafts: tuple[Interaction, ...]
    incident: tuple[Incident | None, Incident] | None = None
    more: Change = field(default_factory=Change)


async def report(
    store: Store,
    origin: Origin,
    document: Element | Document,
    *,
    status: Status | None = None,
    draft: Callable[[], Awaitable[Change]] | None = None,
    draft_id: str | None = None,
    only_to: tuple[str, ...] = (),
) -> Originated:
    """Report an incident of this host's own to peers; the same IncidentID again is its next edition.

    Args:
        store: where to.
        origin: who sends, and to whom.
        document: what is told.
        status: None: what the document says if that is resolved, else new or updated.
        draft: says what else is stored with it, about the draft that it is made of.
        draft_id: of that draft.
        only_to: the only peers that may ever have it; empty: any.

    Raises:
        ConfigError: it is too large to send, `origin.to` is empty, or one of them must not have it.
    """
    return await _about_own(
        store, origin, Kind.REPORT, document, status=status, draft=draft, draft_id=draft_id, only_to=only_to
    )


async def request(
    store: Store, origin: Origin, document: Element | Document, *, about: Incident | None = None
) -> Originated:
    """Ask peers to act on the document's expectations; `about` is the stored incident it is taken from, if any."""
    return await _about_own(store, origin, Kind.REQUEST, document, about=about)


async def inquire(store: Store, origin: Origin, identity: IncidentId) -> Originated:
    """Ask peers what they know about an incident."""
    document = Document(identity=identity, purpose=Kind.INQUIRY.purpose, restriction=Restriction.NEED_TO_KNOW)
    payload, view = write_payload(origin, Kind.INQUIRY, document, status=None)
    ids = _ids(origin)
    drafts = tuple(
        make_draft(origin, Kind.INQUIRY, to, payload, view, incident_id(origin.host, to, identity), own_id)
        for to, own_id in ids.items()
    )

    async def plan() -> _Plan:
        return _Plan(drafts=drafts)

    return await _store(store, origin, ids, plan, action="inquire")


async def respond(
    store: Store,
    origin: Origin,
    asked: Interaction,
    *,
    outcome: Outcome,
    text: str,
    actions: Sequence[str] = (),
    again: bool = False,
) -> Originated:
    """Answer a peer's request: what was done (or `nothing`, where declined) becomes History.

    Args:
        store: where to.
        origin: `to` is the peer that asked.
        asked: the request, loaded with its original.
        outcome: what came of it.
        text: for people; where declined, the reason.
        actions: what was done, of the actions asked for; all of them where `outcome` is done.
        again: answer it although it was answered before.

    Raises:
        ConfigError: it was answered before.
    """
    ids = {asked.peer: origin.new_id()}
    wanted = tuple(dict.fromkeys(one.action for one in asked.document.expectations)) or ("other",)
    done = {Outcome.DONE: wanted, Outcome.DECLINED: ("nothing",), Outcome.PARTLY: tuple(actions)}[outcome]
    described = (Text(text=text),) if text else ()
    items = tuple(HistoryItem(action=one, at=origin.now, descriptions=described) for one in done)
    document = add_history(disclosure.reread(asked).tree, items, purpose=Kind.RESPONSE.purpose)
    payload, view = write_payload(origin, Kind.RESPONSE, document, status=None)
    draft = make_draft(
        origin, Kind.RESPONSE, asked.peer, payload, view, asked.incident_id, ids[asked.peer], answers=asked.id
    )

    async def plan() -> _Plan:
        stored = await _interaction(store, asked.id)
        if stored.outcome is not None and not again:
            raise ConfigError(
                f"request {asked.id} was answered before: {stored.outcome}; to answer it anew: --again"
            )
        settled = replace(stored, outcome=outcome, original=None)
        event = events.answered(settled, by=draft.id, now=origin.now)
        closed = await closed_by_hand(store, stored, outcome, actor=origin.actor, now=origin.now)
        return _Plan(drafts=(draft,), more=closed + Change(puts=(Put(stored, settled),), events=(event,)))

    return await _store(store, origin, ids, plan, action="respond")


async def resolve(store: Store, origin: Origin, incident: Incident, *, text: str) -> Originated:
    """Resolve an incident and tell exactly those who got it, but no blocked peer; `origin.to` is not looked at.

    Raises:
        ConfigError: another server reported it; only that one can say that it is resolved.
    """
    if not incident.is_own:
        raise ConfigError(f"{incident.reporter} reported it, so only {incident.reporter} can resolve it")
    newest = await _interaction(store, incident.current.interaction_id)
    item = HistoryItem(action="other", at=origin.now, descriptions=(Text(text=text or "resolved"),))
    document = add_history(disclosure.reread(newest).tree, (item,), purpose=Kind.REPORT.purpose)
    for reported_at in document.findall(tag("ReportTime")):
        document.remove(reported_at)  # it is now
    for expectation in list(document.iter(tag("Expectation"))):  # the newest edition may be a request of ours
        if (parent := expectation.getparent()) is not None:
            parent.remove(expectation)
    to = replace(origin, to=await audience(store, incident))
    return await _about_own(
        store, to, Kind.REPORT, document, status=Status.RESOLVED, about=incident, action="resolve"
    )


async def audience(store: Store, incident: Incident) -> tuple[str, ...]:
    """Return the peers that were told of an incident, may have it still, and are not blocked meanwhile."""
    names = {domain: keys.peer(incident.host, domain) for domain in incident.told}
    records = (await load.fetch(store, names=list(names.values()))).records
    peers = {domain: records[name] for domain, name in names.items()}
    return tuple(
        domain
        for domain, peer in peers.items()
        if not (isinstance(peer, Peer) and peer.trust is Trust.BLOCKED)
        and (not incident.only_to or domain in incident.only_to)
    )


async def forward(
    store: Store, origin: Origin, incident: Incident, newest: Interaction, *, even_private: bool = False
) -> Originated:
    """Tell more peers what another server reported, without what they may not know, because the operator says so.

    Args:
        store: where to.
        origin: who sends, and to whom.
        incident: what is told.
        newest: the interaction of its current edition, loaded with its original.
        even_private: tell it although its reporter says that it is private.

    Raises:
        ConfigError: one of the peers must not have it; nobody is told then.
    """
    ids = _ids(origin)

    async def plan() -> _Plan:
        known = await _may_go_on(store, origin, incident, even_private=even_private)
        current = known.current.interaction_id
        source = newest if newest.id == current else await _interaction(store, current)
        payload = disclosure.redacted(source, Restriction.NEED_TO_KNOW, host=origin.host, status=known.status)
        view = read_document(
            xml.parse(payload)[0], default_name=None, purpose=Kind.REPORT.purpose, only_id_required=False
        ).incident
        drafts = tuple(
            make_draft(origin, Kind.REPORT, to, payload, view, known.id, own_id, status=known.status)
            for to, own_id in ids.items()
        )
        after = replace(known, told=tuple(dict.fromkeys((*known.told, *origin.to))))
        return _Plan(drafts=drafts, incident=(known, after))

    return await _store(store, origin, ids, plan, action="forward")


async def _may_go_on(store: Store, origin: Origin, incident: Incident, *, even_private: bool) -> Incident:
    """Load an incident as it is now, and see that each peer may have it."""
    names = [keys.incident(incident.id), *(keys.peer(origin.host, to) for to in origin.to)]
    index = keys.texts(origin.host, incident.identity.text)
    others = (await load.newest(store, [index], limit=_MOST_ACCOUNTS))[index]
    names += [keys.incident(other) for other in others]
    records = (await load.fetch(store, names=names)).records
    known = records[names[0]]
    if not isinstance(known, Incident):
        raise ConfigError(f"incident {incident.id} is gone from the store")
    accounts = [one for one in records.values() if isinstance(one, Incident)]
    for to in origin.to:
        record = records[keys.peer(origin.host, to)]
        peer = record if isinstance(record, Peer) else Peer(host=origin.host, domain=to)
        why = forwarding.objection(known, peer, accounts, even_private=even_private)
        if why is not None:
            raise ConfigError(f"incident {incident.id} is not forwarded to {to}: {why}")
    return known


async def _about_own(
    store: Store,
    origin: Origin,
    kind: Kind,
    document: Element | Document,
    *,
    status: Status | None = None,
    about: Incident | None = None,
    action: str = "",
    draft: Callable[[], Awaitable[Change]] | None = None,
    draft_id: str | None = None,
    only_to: tuple[str, ...] = (),
) -> Originated:
    """Write the next edition of an incident and queue it to each peer."""
    _, view = write_payload(origin, kind, document, status=status)
    own_id = about.id if about is not None else incident_id(origin.host, origin.host, view.identity)
    ids = _ids(origin)

    async def plan() -> _Plan:
        known = (await load.fetch(store, names=[keys.incident(own_id)])).records[keys.incident(own_id)]
        before = known if isinstance(known, Incident) else None
        _see_who_may(before, origin.to)
        stated = _status(before, view, status) if kind is Kind.REPORT else None
        payload, told = write_payload(origin, kind, document, status=stated)
        drafts = tuple(
            make_draft(origin, kind, to, payload, told, own_id, name, status=stated, draft_id=draft_id)
            for to, name in ids.items()
        )
        after = _edition(before, drafts, origin, kind)
        if after is None:
            raise ConfigError("name at least one server to send it to: --to DOMAIN")
        if not drafts and status is Status.RESOLVED:
            after = replace(after, status=status, updated_at=origin.now)  # nobody is to be told
        if draft is not None:
            after = replace(after, only_to=only_to)
        more = await draft() if draft is not None else Change()
        return _Plan(drafts=drafts, incident=(before, after), more=more)

    return await _store(store, origin, ids, plan, action=action or str(kind))


def _see_who_may(known: Incident | None, to: Sequence[str]) -> None:
    """See that nobody gets an incident made of users' reports to whom these users did not agree."""
    others = set(to) - set(known.only_to) if known is not None and known.only_to else set()
    if known is not None and others:
        raise ConfigError(
            f"incident {known.id} is not sent to {', '.join(sorted(others))}: the users whose reports it is made of "
            f"agreed that {', '.join(known.only_to)} be told, and nobody else"
        )


def _status(before: Incident | None, view: Document, status: Status | None) -> Status:
    """What a report of ours states: what is asked for, or resolved if its document says so, else what follows."""
    if status is not None:
        return status
    if Status.of(view.status) is Status.RESOLVED:
        return Status.RESOLVED
    return Status.NEW if before is None else Status.UPDATED


def _edition(
    before: Incident | None, drafts: Sequence[Interaction], origin: Origin, kind: Kind
) -> Incident | None:
    """Add the edition that goes out; a request about somebody else's incident adds none."""
    if before is not None and not before.is_own:
        return before
    if not drafts:
        return before
    after = add_edition(before, drafts[0])
    if kind is Kind.REPORT:
        after = replace(after, told=tuple(dict.fromkeys((*after.told, *origin.to))))
    return after


def _ids(origin: Origin) -> dict[str, str]:
    """Name the interaction with each peer, once for all tries."""
    return {to: origin.new_id() for to in origin.to}


async def _store(
    store: Store, origin: Origin, ids: Mapping[str, str], plan: Callable[[], Awaitable[_Plan]], *, action: str
) -> Originated:
    """Store what is planned and queue its first attempts, once for these ids; plan anew where somebody was faster."""
    once = Once(f"o:{next(iter(ids.values()))}", b"") if ids else None
    if once is not None and (await load.fetch(store, once=once.id)).once is not None:
        return await _as_stored(store, ids)
    for _ in range(_ATTEMPTS):
        planned = await plan()
        if origin.is_rehearsal:
            return _originated(planned)
        try:
            await commit(
                store, await _change(store, origin, planned) + _said(origin, planned, action), once=once
            )
        except SeenError:  # the store's first answer got lost
            return await _as_stored(store, ids)
        except ConflictError:
            continue
        return _originated(planned)
    raise ConflictError("what is to be sent changes faster than it can be stored; try again")


def _said(origin: Origin, planned: _Plan, action: str) -> Change:
    """Write down who has it sent to whom: about the incident, or for a question or an answer by its own id."""
    target = planned.incident[1].id if planned.incident is not None else planned.drafts[0].id
    to = [one.peer for one in planned.drafts]
    more = f" and {len(to) - _MOST_NAMED} more" if len(to) > _MOST_NAMED else ""
    detail = f"to {', '.join(to[:_MOST_NAMED])}{more}" if to else "to nobody"
    return Change(
        audits=audits((origin.host,), origin.actor, f"send.{action}", target, now=origin.now, detail=detail)
    )


def _originated(planned: _Plan) -> Originated:
    after = planned.incident[1] if planned.incident is not None else None
    return Originated(incident=after, interactions=planned.drafts)


async def repeated(store: Store, to: str, own_id: str) -> Originated | None:
    """What was stored for a peer under this id in the last ten minutes; None: nothing."""
    is_known = (await load.fetch(store, once=f"o:{own_id}")).once is not None
    return await _as_stored(store, {to: own_id}) if is_known else None


async def _as_stored(store: Store, ids: Mapping[str, str]) -> Originated:
    """Load what was stored under these ids before."""
    drafts = tuple([await _interaction(store, own_id) for own_id in ids.values()])
    if drafts[0].kind not in (Kind.REPORT, Kind.REQUEST):
        return Originated(incident=None, interactions=drafts)
    name = keys.incident(drafts[0].incident_id)
    known = (await load.fetch(store, names=[name])).records[name]
    return Originated(incident=known if isinstance(known, Incident) else None, interactions=drafts)


async def _interaction(store: Store, interaction_id: str) -> Interaction:
    """Load an interaction with its original."""
    name = keys.interaction(interaction_id)
    found = (await load.fetch(store, names=[name], originals=True)).records[name]
    if not isinstance(found, Interaction):
        raise ConfigError(f"the document of interaction {interaction_id} is gone from the store")
    return found


async def _change(store: Store, origin: Origin, planned: _Plan) -> Change:
    """Write the drafts, queue their first attempts, and remember what answers may come."""
    names = [keys.peer(origin.host, one.peer) for one in planned.drafts]
    records = (await load.fetch(store, names=names)).records
    change = planned.more
    for one in planned.drafts:
        record = records[keys.peer(origin.host, one.peer)]
        before = record if isinstance(record, Peer) else None
        peer, asking = outgoing.ask_first(before or Peer(host=origin.host, domain=one.peer), now=origin.now)
        counted = replace(peer, sent=peer.sent + 1, requested=peer.requested + (one.kind is Kind.REQUEST))
        change += Change(puts=(Put(before, counted),), appends=(asking,) if asking else ())
        change += outgoing.enqueue(one)
        if one.kind in QUESTION_SECONDS:
            change += Change(remembers=(_remember(one),))
    if planned.incident is not None and planned.incident[1] is not planned.incident[0]:
        change += Change(puts=(Put(*planned.incident),))
    return change


def _remember(asked: Interaction) -> Remember:
    return Remember(
        host=asked.host,
        name=question_name(asked.kind, asked.host, asked.peer, asked.document.identity),
        value=f"{asked.id} {asked.incident_id}",
        ttl_seconds=QUESTION_SECONDS[asked.kind],
        is_new=False,
    )


def expect(document: Document, actions: Sequence[str], *, text: str = "") -> Document:
    """Make a request of a document: it asks for these actions."""
    described = (Text(text=text),) if text else ()
    wanted = tuple(Expectation(action=one, descriptions=described) for one in actions)
    return replace(document, purpose=Kind.REQUEST.purpose, expectations=wanted, status=None)
