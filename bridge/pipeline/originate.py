"""What operators and consumers send: reports, inquiries, requests, responses, and resolutions.

House rules: every sending is tracked by an interaction of its own; nothing leaves here, it waits in the host's lane;
the same call twice sends twice, so callers that repeat bring the same ids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bridge.errors import ConfigError, ConflictError
from bridge.iodef.build import add_history
from bridge.iodef.model import Expectation, HistoryItem, IncidentId, Restriction, Text
from bridge.iodef.model import Incident as Document
from bridge.iodef.read import read as read_document
from bridge.iodef.table import tag
from bridge.policy import disclosure, forwarding, outgoing
from bridge.policy.admit import question_name
from bridge.policy.change import Change, Event, Put, Remember
from bridge.policy.editions import add_edition
from bridge.policy.record import Incident, Interaction, Outcome, Peer, incident_id
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.webhooks.event import EventType, interaction_data
from bridge.xep0268.model import Kind, Status
from bridge.xep0268.write import write
from bridge.xmpp import xml
from bridge.xmpp.xml import Element

QUESTION_SECONDS = {Kind.INQUIRY: 7 * 86_400, Kind.REQUEST: 90 * 86_400}
MAX_PAYLOAD_BYTES = xml.STANZA_LIMITS.max_bytes - 4096
"""Room for the IQ around it."""
_ATTEMPTS = 10
_MOST_ACCOUNTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sends, where to and when; `new_id` makes ids of interactions, 80 random bits each."""

    host: str
    to: tuple[str, ...]
    now: datetime
    new_id: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Originated:
    """What was queued; `incident` is None for an inquiry."""

    incident: Incident | None
    interactions: tuple[Interaction, ...]


async def report(
    store: Store, origin: Origin, document: Element | Document, *, status: Status | None = None
) -> Originated:
    """Report an incident of this host's own to peers; the same IncidentID again is its next edition.

    Args:
        store: where to.
        origin: who sends, and to whom.
        document: what is told.
        status: None: what the document says if that is resolved, else new or updated.

    Raises:
        ConfigError: it is too large to send, or `origin.to` is empty.
    """
    return await _about_own(store, origin, Kind.REPORT, document, status=status)


async def request(
    store: Store, origin: Origin, document: Element | Document, *, about: Incident | None = None
) -> Originated:
    """Ask peers to act on the document's expectations; `about` is the stored incident it is taken from, if any."""
    return await _about_own(store, origin, Kind.REQUEST, document, about=about)


async def inquire(store: Store, origin: Origin, identity: IncidentId) -> Originated:
    """Ask peers what they know about an incident."""
    document = Document(identity=identity, purpose=Kind.INQUIRY.purpose, restriction=Restriction.NEED_TO_KNOW)
    payload, view = _payload(origin, Kind.INQUIRY, document, status=None)
    drafts = tuple(
        _draft(origin, Kind.INQUIRY, to, payload, view, incident_id(origin.host, to, identity))
        for to in origin.to
    )
    await _commit(store, origin, drafts, None)
    return Originated(incident=None, interactions=drafts)


async def respond(
    store: Store,
    origin: Origin,
    asked: Interaction,
    *,
    outcome: Outcome,
    text: str,
    actions: Sequence[str] = (),
) -> Originated:
    """Answer a peer's request: what was done (or `nothing`, where declined) becomes History.

    Args:
        store: where to.
        origin: `to` is the peer that asked.
        asked: the request, loaded with its original.
        outcome: what came of it.
        text: for people; where declined, the reason.
        actions: what was done, of the actions asked for; all of them where `outcome` is done.
    """
    wanted = tuple(dict.fromkeys(one.action for one in asked.document.expectations)) or ("other",)
    done = {Outcome.DONE: wanted, Outcome.DECLINED: ("nothing",), Outcome.PARTLY: tuple(actions)}[outcome]
    described = (Text(text=text),) if text else ()
    items = tuple(HistoryItem(action=one, at=origin.now, descriptions=described) for one in done)
    document = add_history(disclosure.reread(asked).tree, items, purpose=Kind.RESPONSE.purpose)
    payload, view = _payload(origin, Kind.RESPONSE, document, status=None)
    drafts = (_draft(origin, Kind.RESPONSE, asked.peer, payload, view, asked.incident_id, answers=asked.id),)
    settled = replace(asked, outcome=outcome, original=None)
    more = Change(puts=(Put(asked, settled),), events=(_answered_event(settled, origin.now),))
    await _commit(store, origin, drafts, None, more=more)
    return Originated(incident=None, interactions=drafts)


async def resolve(store: Store, origin: Origin, incident: Incident, *, text: str) -> Originated:
    """Resolve an incident and tell exactly those who got it; `origin.to` is not looked at.

    Raises:
        ConfigError: another server reported it; only that one can say that it is resolved.
    """
    if not incident.is_own:
        raise ConfigError(f"{incident.reporter} reported it, so only {incident.reporter} can resolve it")
    last = incident.current.interaction_id
    fetched = await load.fetch(store, names=[keys.interaction(last)], originals=True)
    newest = fetched.records[keys.interaction(last)]
    if not isinstance(newest, Interaction):
        raise ConfigError("its document is gone from the store")
    described = (Text(text=text),) if text else ()
    item = HistoryItem(action="other", at=origin.now, descriptions=described)
    document = add_history(disclosure.reread(newest).tree, (item,), purpose=Kind.REPORT.purpose)
    for reported_at in document.findall(tag("ReportTime")):
        document.remove(reported_at)  # it is now
    for expectation in list(document.iter(tag("Expectation"))):  # the newest edition may be a request of ours
        if (parent := expectation.getparent()) is not None:
            parent.remove(expectation)
    to = replace(origin, to=incident.told)
    return await _about_own(store, to, Kind.REPORT, document, status=Status.RESOLVED, about=incident)


async def forward(
    store: Store, origin: Origin, incident: Incident, newest: Interaction, *, even_private: bool = False
) -> Originated:
    """Tell more peers what another server reported, without what they may not know, because the operator says so.

    Args:
        store: where to.
        origin: who sends, and to whom.
        incident: what is told.
        newest: the interaction of its newest edition, loaded with its original.
        even_private: tell it although its reporter says that it is private.

    Raises:
        ConfigError: one of the peers must not have it; nobody is told then.
    """
    names = [keys.peer(origin.host, to) for to in origin.to]
    index = keys.texts(origin.host, incident.identity.text)
    others = (await load.newest(store, [index], limit=_MOST_ACCOUNTS))[index]
    names += [keys.incident(other) for other in others]
    records = (await load.fetch(store, names=names)).records
    accounts = [one for one in records.values() if isinstance(one, Incident)]
    for to in origin.to:
        known = records[keys.peer(origin.host, to)]
        peer = known if isinstance(known, Peer) else Peer(host=origin.host, domain=to)
        why = forwarding.objection(incident, peer, accounts, even_private=even_private)
        if why is not None:
            raise ConfigError(f"incident {incident.id} is not forwarded to {to}: {why}")
    payload = disclosure.redacted(newest, Restriction.NEED_TO_KNOW, host=origin.host, status=incident.status)
    view = read_document(
        xml.parse(payload)[0], default_name=None, purpose=Kind.REPORT.purpose, only_id_required=False
    ).incident
    drafts = tuple(
        _draft(origin, Kind.REPORT, to, payload, view, incident.id, status=incident.status)
        for to in origin.to
    )
    after = replace(incident, told=tuple(dict.fromkeys((*incident.told, *origin.to))))
    await _commit(store, origin, drafts, (incident, after))
    return Originated(incident=after, interactions=drafts)


async def _about_own(
    store: Store,
    origin: Origin,
    kind: Kind,
    document: Element | Document,
    *,
    status: Status | None = None,
    about: Incident | None = None,
) -> Originated:
    """Write the next edition of an incident and queue it to each peer."""
    _, view = _payload(origin, kind, document, status=status)
    own_id = about.id if about is not None else incident_id(origin.host, origin.host, view.identity)
    for _ in range(_ATTEMPTS):
        known = (await load.fetch(store, names=[keys.incident(own_id)])).records[keys.incident(own_id)]
        before = known if isinstance(known, Incident) else None
        stated = _status(before, view, status) if kind is Kind.REPORT else None
        payload, view = _payload(origin, kind, document, status=stated)
        drafts = tuple(_draft(origin, kind, to, payload, view, own_id, status=stated) for to in origin.to)
        after = _edition(before, drafts, origin, kind)
        if after is None:
            raise ConfigError("name at least one server to send it to: --to DOMAIN")
        if not drafts and status is Status.RESOLVED:
            after = replace(after, status=status, updated_at=origin.now)  # nobody was told, so nobody is now
        try:
            await _commit(store, origin, drafts, (before, after))
        except ConflictError:
            continue
        return Originated(incident=after, interactions=drafts)
    raise ConflictError("the incident changes faster than it can be sent; try again")


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


def _payload(
    origin: Origin, kind: Kind, document: Element | Document, *, status: Status | None
) -> tuple[bytes, Document]:
    """Write the payload that goes out, and read it back as the peer will."""
    if isinstance(document, Document):
        restriction: Restriction | None = document.restriction
    else:
        restriction = None if document.get("restriction") else Restriction.NEED_TO_KNOW
    payload = write(
        kind, document, reported_at=origin.now, contact=origin.host, restriction=restriction, status=status
    )
    view = read_document(
        payload[0], default_name=origin.host, purpose=kind.purpose, only_id_required=kind is Kind.INQUIRY
    )
    data = xml.serialize(payload)
    if len(data) > MAX_PAYLOAD_BYTES:
        raise ConfigError(
            f"the document has {len(data)} bytes; servers accept {MAX_PAYLOAD_BYTES}: leave some evidence out"
        )
    return data, view.incident


def _draft(  # noqa: PLR0917 - who, what, to whom; as it is read at its calls
    origin: Origin,
    kind: Kind,
    to: str,
    payload: bytes,
    view: Document,
    about: str,
    *,
    status: Status | None = None,
    answers: str | None = None,
) -> Interaction:
    return outgoing.draft(
        interaction_id=origin.new_id(),
        host=origin.host,
        to=to,
        kind=kind,
        payload=payload,
        document=view,
        status=status,
        incident_id=about,
        now=origin.now,
        answers=answers,
    )


async def _commit(
    store: Store,
    origin: Origin,
    drafts: Sequence[Interaction],
    incident: tuple[Incident | None, Incident] | None,
    *,
    more: Change | None = None,
) -> None:
    """Store the drafts, queue their first attempts, and remember what answers may come."""
    names = [keys.peer(origin.host, one.peer) for one in drafts]
    records = (await load.fetch(store, names=names)).records
    change = more or Change()
    for one in drafts:
        record = records[keys.peer(origin.host, one.peer)]
        before = record if isinstance(record, Peer) else None
        peer, asking = outgoing.ask_first(before or Peer(host=origin.host, domain=one.peer), now=origin.now)
        change += Change(
            puts=(Put(before, replace(peer, sent=peer.sent + 1)),), appends=(asking,) if asking else ()
        )
        change += outgoing.enqueue(one)
        if one.kind in QUESTION_SECONDS:
            change += Change(remembers=(_remember(one),))
    if incident is not None and incident[1] is not incident[0]:
        change += Change(puts=(Put(*incident),))
    await commit(store, change)


def _answered_event(asked: Interaction, now: datetime) -> Event:
    """Tell consumers what came of a peer's request."""
    is_declined = asked.outcome is Outcome.DECLINED
    event_id = f"{asked.id}-{asked.outcome}"
    data = interaction_data(
        event_id=event_id,
        interaction_id=asked.id,
        kind=asked.kind,
        direction=asked.way,
        host=asked.host,
        peer={
            "domain": asked.peer,
            "trust": asked.trust.value,
            "authentication": asked.stream.authentication.value,
            "quarantined": asked.quarantined,
        },
        incident_id=asked.incident_id,
        reporter=asked.peer,
        status=asked.status or "",
        severity=asked.document.severity,
        document=asked.document,
        repairs=asked.repairs,
    )
    data["outcome"] = str(asked.outcome)
    event_type = EventType.REQUEST_DECLINED if is_declined else EventType.REQUEST_COMPLETED
    return Event(host=asked.host, id=event_id, type=event_type, timestamp=now, data=data)


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
