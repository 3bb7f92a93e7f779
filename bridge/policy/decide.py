"""What becomes of an item that waits in a peer's lane: incident, event, answer, and who else is told (DESIGN §5).

House rules: deciding twice gives the same, so every id is made from the interaction's; a peer can only add to what it
reported itself; nothing here looks anything up: what `State` does not hold does not count.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, assert_never

from bridge.errors import Condition, ErrorType, StanzaError
from bridge.iodef.model import Restriction
from bridge.policy import disclosure, events, forwarding, lanes, notice, outgoing
from bridge.policy.approval import propose
from bridge.policy.change import Append, Change, Mark, Put, Remember, Timer
from bridge.policy.editions import add_edition
from bridge.policy.outcome import outcome_of
from bridge.policy.outreach import Channel, PersonsAnswer
from bridge.policy.record import Incident, Interaction, InteractionState, Notices, Peer, Way, incident_id
from bridge.policy.stages import Stage
from bridge.policy.trust import Trust
from bridge.xep0268.model import Kind
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import IqType, write_error, write_request

FORWARDING_SECONDS = 30  # longer than two workers can be at work on accounts of one incident


class Rules(outgoing.Patience, Protocol):
    """What the operator configured that matters here; see `[policy]`."""

    @property
    def inquiries(self) -> disclosure.Inquiries: ...  # noqa: D102
    @property
    def approval_days(self) -> int: ...  # noqa: D102
    @property
    def protected(self) -> Collection[str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything a batch of one host is decided on; a later item sees what an earlier one did.

    Attributes:
        incidents: by id; None where there is none yet.
        interactions: those that items are about, with what else was sent about the same incident where they failed,
            and those whose documents may be sent on, by id, with originals.
        peers: those whose lanes are worked and those that are sent something, by domain.
        accounts: ids of incidents whose IncidentID has this text, by text.
        forward_to: domains of peers that the operator wants reports forwarded to.
    """

    host: str
    rules: Rules
    incidents: Mapping[str, Incident | None]
    interactions: Mapping[str, Interaction]
    peers: Mapping[str, Peer]
    notices: Notices
    accounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    forward_to: tuple[str, ...] = ()


Item = Mapping[str, Any]


def decide(state: State, item: Item, *, now: datetime) -> tuple[State, Change]:
    """Decide one item.

    Returns:
        the state as the next item sees it, and what to write besides the state's own records, which `puts` collects
        when the batch is done.
    """
    if "inquiry" in item:
        return _inquiry(state, item, now=now)
    if "answer" in item or "overdue" in item:
        return _tracked(state, item, now=now)
    if "disco" in item:
        return _announced(state, item)
    if "said" in item:
        return _said(state, item, now=now)
    interaction = state.interactions.get(item["id"])
    if interaction is None or interaction.state is not InteractionState.STORED:
        return state, Change()
    return _received_kind(state, interaction, now=now)


def _received_kind(state: State, interaction: Interaction, *, now: datetime) -> tuple[State, Change]:
    match interaction.kind:
        case Kind.REPORT:
            return _report(state, interaction, now=now)
        case Kind.REQUEST:
            return _request(state, interaction, now=now)
        case Kind.RESPONSE:
            return _response(state, interaction, now=now)
        case Kind.INQUIRY:
            raise AssertionError("an inquiry waits as an item of its own")
        case _:
            assert_never(interaction.kind)


def puts(before: State, after: State) -> tuple[Put, ...]:
    """The records that a batch changed, each once, with what the store must still hold."""
    found: list[Put] = []
    for key, incident in after.incidents.items():
        if incident is not None and incident is not before.incidents[key]:
            found.append(Put(before.incidents[key], incident))
    for key, interaction in after.interactions.items():
        if interaction is not before.interactions.get(key):
            emptied = b"" if interaction.original == b"" else None  # what was loaded is not written again
            found.append(Put(before.interactions.get(key), replace(interaction, original=emptied)))
    for domain, peer in after.peers.items():
        old = before.peers[domain]
        if peer is not old:
            found.append(Put(old if old.version else None, peer))
    return tuple(found)


def _report(state: State, interaction: Interaction, *, now: datetime) -> tuple[State, Change]:
    """Store a report as a new incident or as the next edition of the reporter's own; tell whom it concerns."""
    known = state.incidents[interaction.incident_id]
    incident = add_edition(known, interaction)
    change = _received(interaction, now)
    change += Change(
        events=(events.received(interaction, incident, now=now),),
        counts=(("incidents", incident.status, interaction.trust),),
    )
    state = _with(state, incident)
    state, more = _spread(state, incident, interaction, is_first=known is None, now=now)
    return state, change + more + notice.note(state.notices, interaction, now=now)


def _request(state: State, interaction: Interaction, *, now: datetime) -> tuple[State, Change]:
    """Store a request with what it tells, and put it up for approval; a stranger's is shown only."""
    incident = add_edition(state.incidents[interaction.incident_id], interaction)
    change = _received(interaction, now)
    change += Change(
        events=(events.received(interaction, incident, now=now),),
        counts=(("incidents", incident.status, interaction.trust),),
    )
    if not interaction.quarantined and interaction.trust is Trust.TRUSTED:
        change += _proposed(state, interaction, now=now)
    return _with(state, incident), change + notice.note(state.notices, interaction, now=now)


def _proposed(state: State, interaction: Interaction, *, now: datetime) -> Change:
    """Put a request up for approval, ask what it would touch, and decline it when nobody decides in time."""
    expires_at = now + timedelta(days=state.rules.approval_days)
    made = propose(interaction, protected=state.rules.protected, expires_at=expires_at)
    item = {"id": f"{made.id}-x", "approval_expired": made.id}
    append = lanes.approval(made.host, item)
    return Change(
        puts=(Put(None, made),),
        appends=(lanes.preview(made.host, made.id),),
        timers=(Timer(name=f"approval-{made.id}", due_at=expires_at, append=append),),
    )


def _response(state: State, interaction: Interaction, *, now: datetime) -> tuple[State, Change]:
    """Match a response to our request; one that nobody asked for becomes a quarantined incident of its own."""
    asked = state.interactions.get(interaction.answers or "")
    known = state.incidents[interaction.incident_id]
    change = _received(interaction, now)
    if asked is None or known is None or asked.peer != interaction.peer:
        incident = add_edition(
            known if known is None or known.reporter == interaction.peer else None, interaction
        )
        state = _with(state, incident)
    else:
        outcome = outcome_of(interaction.document, asked.document)
        peer = outgoing.scored(state.peers[asked.peer], asked, outcome, now=now)
        state = replace(state, peers={**state.peers, peer.domain: peer})
        state = _with_interaction(state, replace(asked, outcome=outcome or asked.outcome))
        incident = replace(known, updated_at=max(known.updated_at, interaction.received_at))
        state = _with(state, incident)
    change += Change(events=(events.received(interaction, incident, now=now),))
    return state, change + notice.note(state.notices, interaction, now=now)


def asked_for(state: State, item: Item) -> tuple[Incident, Restriction] | None:
    """Choose the incident that an inquiry is answered with, and how much of it its sender may see."""
    asked = item["inquiry"]
    accounts = (state.incidents.get(key) for key in state.accounts.get(asked["text"], ()))
    return disclosure.choose(
        [one for one in accounts if one is not None],
        asked["name"],
        Jid.parse(item["sender"]).domain,
        Trust(item["trust"]),
        state.rules.inquiries,
    )


def _inquiry(state: State, item: Item, *, now: datetime) -> tuple[State, Change]:
    """Answer an inquiry: `result` and then the report, or `item-not-found`, by the same path for every reason."""
    asker = Jid.parse(item["sender"]).domain
    chosen = asked_for(state, item)
    counts = (("inquiries", "answered" if chosen else "not-found"),)
    event = events.inquired(state.host, item, asker, is_told=chosen is not None, now=now)
    if chosen is None:
        error = StanzaError(ErrorType.CANCEL, Condition.ITEM_NOT_FOUND, "there is no such incident for you")
        stanza = write_error(error, to=item["sender"], id=item["iq_id"])
        return state, Change(
            appends=(lanes.reply(state.host, stanza, item_id=item["id"]),), events=(event,), counts=counts
        )
    incident, level = chosen
    answer = lanes.answer(state.host, to=item["sender"], iq_id=item["iq_id"], item_id=item["id"])
    if Trust(item["trust"]) is not Trust.TRUSTED:
        state, report = _tell_stranger(state, incident, level, asker, item_id=item["id"])
        return state, Change(appends=(answer, report), events=(event,), counts=counts)
    state, more = _tell(
        state,
        incident,
        level,
        (asker,),
        source_id=incident.current.interaction_id,
        name=item["id"],
        answers=item["id"],
        now=now,
    )
    return state, Change(appends=(answer,), events=(event,), counts=counts) + more


def _tracked(state: State, item: Item, *, now: datetime) -> tuple[State, Change]:
    """Note what came, or did not come, back for a sending of ours."""
    interaction = state.interactions.get(item.get("answer") or item.get("overdue") or "")
    if interaction is None or interaction.peer not in state.peers:
        return state, Change()
    peer = state.peers[interaction.peer]
    if "answer" in item:
        after, counted, change = outgoing.settle(
            interaction,
            peer,
            outgoing.read_answer(dict(item)),
            now=now,
            patience=state.rules,
            others=[one for one in state.interactions.values() if _is_beside(one, interaction)],
        )
    else:
        after, counted, change = outgoing.overdue(
            interaction, peer, item["attempt"], now=now, patience=state.rules
        )
    state = replace(state, peers={**state.peers, counted.domain: counted})
    return _with_interaction(state, after) if after is not interaction else state, change


def _is_beside(one: Interaction, interaction: Interaction) -> bool:
    """Whether it is another sending to the same peer about the same incident."""
    is_same = (one.incident_id, one.peer, one.way) == (interaction.incident_id, interaction.peer, Way.SENT)
    return is_same and one.id != interaction.id


def _said(state: State, item: Item, *, now: datetime) -> tuple[State, Change]:
    """Note what a person wrote back; of anybody else it counts for nothing."""
    interaction = state.interactions.get(item["said"])
    known = interaction.outreach if interaction else None
    if interaction is None or known is None or interaction.peer not in state.peers:
        return state, Change()
    if not known.hears(item["sender"]):
        return state, Change(counts=(("sendings", interaction.kind, "foreign-answer"),))
    is_last = (Channel.CHAT, item["sender"]) == (known.channel, known.address)
    answer = PersonsAnswer(at=now, text=item["text"], address="" if is_last else item["sender"])
    after, peer, change = outgoing.answered_by_person(
        interaction, state.peers[interaction.peer], answer, now=now
    )
    state = replace(state, peers={**state.peers, peer.domain: peer})
    return _with_interaction(state, after) if after is not interaction else state, change


def _announced(state: State, item: Item) -> tuple[State, Change]:
    """Note whether a peer announces XEP-0268, and whom it names as contacts."""
    peer = state.peers.get(item["disco"])
    contacts = tuple(item.get("contacts", ()))
    if peer is None or (peer.announces, peer.contacts) == (item["announces"], contacts):
        return state, Change()
    known = replace(peer, announces=item["announces"], contacts=contacts)
    return replace(state, peers={**state.peers, peer.domain: known}), Change()


def _spread(
    state: State, incident: Incident, interaction: Interaction, *, is_first: bool, now: datetime
) -> tuple[State, Change]:
    """Forward a first report where the operator wants that; send corrections to exactly those who got it."""
    if is_first:
        keys = state.accounts.get(incident.identity.text, ())
        others = [
            one for key in keys if (one := state.incidents.get(key)) is not None and one.id != incident.id
        ]
        peers = [state.peers[domain] for domain in state.forward_to if domain in state.peers]
        to = forwarding.recipients(incident, interaction, peers, others)
        if any(one.told for one in others if one.identity.key[:2] == incident.identity.key[:2]):
            to = ()  # once per IncidentID, whoever reported it
    else:
        to = forwarding.correction_recipients(incident, interaction)
    to = tuple(domain for domain in to if state.peers[domain].trust is not Trust.BLOCKED)
    if not to:
        return state, Change()
    state, change = _tell(
        state, incident, Restriction.NEED_TO_KNOW, to, source_id=interaction.id, name=interaction.id, now=now
    )
    return state, change + Change(remembers=(_once(incident),) if is_first else ())


def _once(incident: Incident) -> Remember:
    """Make stale what another worker decides about the same IncidentID at the same time; soon its index tells it."""
    name = incident_id(incident.host, "", replace(incident.identity, instance=None))
    return Remember(
        host=incident.host, name=f"forwarded:{name}", value=incident.id, ttl_seconds=FORWARDING_SECONDS
    )


def _tell(
    state: State,
    incident: Incident,
    level: Restriction,
    to: tuple[str, ...],
    *,
    source_id: str,
    name: str,
    now: datetime,
    answers: str | None = None,
) -> tuple[State, Change]:
    """Send an edition of an incident to peers, cut down to what they may know, and remember that they have it."""
    source = state.interactions[source_id]
    payload = disclosure.redacted(source, level, host=state.host, status=incident.status)
    change = Change()
    for number, domain in enumerate(to):
        peer, asking = outgoing.ask_first(state.peers[domain], now=now)
        state = replace(state, peers={**state.peers, domain: replace(peer, sent=peer.sent + 1)})
        sending = outgoing.draft(
            interaction_id=f"{name}{number}" if number < 10 else f"{name}-{number}",  # noqa: PLR2004
            host=state.host,
            to=domain,
            kind=Kind.REPORT,
            payload=payload,
            document=source.document,
            status=incident.status,
            incident_id=incident.id,
            now=now,
            answers=answers,
            copy_of=source_id,
        )
        change += Change(appends=(asking,) if asking else ()) + outgoing.enqueue(sending)
    return _with(state, _knowing(incident, to, level)), change


def _tell_stranger(
    state: State, incident: Incident, level: Restriction, asker: str, *, item_id: str
) -> tuple[State, Append]:
    """Send a stranger the report it asked for, once and untracked: who may ask at will must not fill the store."""
    source = state.interactions[incident.current.interaction_id]
    payload = disclosure.redacted(source, level, host=state.host, status=incident.status)
    stanza = write_request(
        IqType.SET, to=asker, id=f"{outgoing.ID_PREFIX}{item_id}", payload=xml.parse(payload)
    )
    return _with(state, _knowing(incident, (asker,), level)), lanes.reply(
        state.host, stanza, item_id=f"{item_id}-report"
    )


def _knowing(incident: Incident, to: tuple[str, ...], level: Restriction) -> Incident:
    """Remember who has an incident; whoever saw only what is public hears no more than the public."""
    if level is Restriction.PUBLIC:
        return incident
    told = dict.fromkeys((*incident.told, *(one for one in to if one != incident.reporter)))
    return replace(incident, told=tuple(told))


def _received(interaction: Interaction, now: datetime) -> Change:
    """Mark an interaction as decided, and answer it with the empty `result` that says it is stored."""
    return Change(
        marks=(Mark(interaction_id=interaction.id, state=InteractionState.DECIDED, at=now),),
        appends=(lanes.acknowledge(interaction),),
        times=((Stage.DECIDED, (now - interaction.received_at).total_seconds()),),
    )


def _with(state: State, incident: Incident) -> State:
    """Let later items see an incident, also as one of the accounts of its IncidentID."""
    text = incident.identity.text
    known = state.accounts.get(text, ())
    is_known = incident.quarantined or incident.id in known
    accounts = state.accounts if is_known else {**state.accounts, text: (incident.id, *known)}
    return replace(state, incidents={**state.incidents, incident.id: incident}, accounts=accounts)


def _with_interaction(state: State, interaction: Interaction) -> State:
    return replace(state, interactions={**state.interactions, interaction.id: interaction})
