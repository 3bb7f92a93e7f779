"""What becomes of a stored interaction: its incident, its event, its answer (DESIGN §5).

House rules: deciding twice gives the same, so every id is made from the interaction's; a peer can only add to what it
reported itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from bridge.iodef.model import Incident as Document
from bridge.policy.admit import answer
from bridge.policy.change import Change, Event, Mark, Put
from bridge.policy.record import Edition, Incident, Interaction, InteractionState
from bridge.webhooks.event import EventType, interaction_data
from bridge.xep0268.model import Kind, Status

MAX_EDITIONS = 100
_SUMMARY_CHARACTERS = 120
_SEVERITIES = ("low", "medium", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The incidents that a batch is about, by id; None where there is none yet."""

    incidents: Mapping[str, Incident | None]


def decide(state: State, interaction: Interaction, *, now: datetime) -> tuple[State, Change]:
    """Decide one interaction.

    Returns:
        the state as the next item of the batch sees it, and what to write besides the incident itself, which
        `incident_puts` collects when the batch is done.
    """
    match interaction.kind:
        case Kind.REPORT:
            return _report(state, interaction, now=now)
        case Kind.INQUIRY | Kind.REQUEST | Kind.RESPONSE:
            raise AssertionError(f"admit stores no {interaction.kind}")  # refused there until it is handled
        case _:
            assert_never(interaction.kind)


def incident_puts(before: State, after: State) -> tuple[Put, ...]:
    """Write each incident that a batch changed once, however many of its items were about it."""
    return tuple(
        Put(before.incidents[key], incident)
        for key, incident in after.incidents.items()
        if incident is not None and incident is not before.incidents[key]
    )


def _report(state: State, interaction: Interaction, *, now: datetime) -> tuple[State, Change]:
    """Store a report as a new incident or as the next edition of the reporter's own."""
    known = state.incidents[interaction.incident_id]
    if known is not None and any(one.interaction_id == interaction.id for one in known.editions):
        return state, Change(marks=(_decided(interaction, now),))
    status = _status(interaction.status, known)
    incident = _edition(known, interaction, status)
    change = Change(
        marks=(_decided(interaction, now),),
        appends=(
            answer(
                interaction.host,
                to=interaction.sender,
                iq_id=interaction.iq_id,
                item_id=interaction.id,
                interaction_id=interaction.id,
            ),
        ),
        events=(_event(interaction, incident, now=now),),
        counts=(("incidents", status, interaction.trust),),
    )
    return replace(state, incidents={**state.incidents, incident.id: incident}), change


def _status(stated: Status | None, known: Incident | None) -> Status:
    """Take what the document states; derive new or updated where it is silent, never resolved."""
    if known is None:
        return Status.RESOLVED if stated is Status.RESOLVED else Status.NEW
    return Status.RESOLVED if stated is Status.RESOLVED else Status.UPDATED


def _edition(known: Incident | None, interaction: Interaction, status: Status) -> Incident:
    """Add one edition; what a stranger reported stays quarantined until the operator lets it out."""
    document = interaction.document
    edition = Edition(interaction_id=interaction.id, received_at=interaction.received_at, status=status)
    if known is None:
        return Incident(
            id=interaction.incident_id,
            host=interaction.host,
            reporter=interaction.peer,
            identity=document.identity,
            status=status,
            quarantined=interaction.quarantined,
            severity=severity(document),
            summary=summary(document),
            created_at=interaction.received_at,
            updated_at=interaction.received_at,
            editions=(edition,),
        )
    editions = (*known.editions, edition)
    if len(editions) > MAX_EDITIONS:
        editions = (editions[0], *editions[-MAX_EDITIONS + 1 :])
    return replace(
        known,
        status=status,
        quarantined=known.quarantined and interaction.quarantined,
        severity=severity(document),
        summary=summary(document),
        updated_at=max(known.updated_at, interaction.received_at),
        editions=editions,
    )


def severity(document: Document) -> str | None:
    """Return the gravest severity that the document's impacts state, None if none does."""
    stated = [impact.severity for impact in document.impacts if impact.severity in _SEVERITIES]
    return max(stated, key=_SEVERITIES.index, default=None)


def summary(document: Document) -> str:
    """Make one line of the document's first description, or of its sources where it has none."""
    if document.descriptions:
        text = " ".join(document.descriptions[0].text.split())
    else:
        text = ", ".join(source.address for source in document.sources)
    return text if len(text) <= _SUMMARY_CHARACTERS else text[: _SUMMARY_CHARACTERS - 1] + "…"


def _decided(interaction: Interaction, now: datetime) -> Mark:
    return Mark(interaction_id=interaction.id, state=InteractionState.DECIDED, at=now)


def _event(interaction: Interaction, incident: Incident, *, now: datetime) -> Event:
    """Tell consumers what the report said and how far it is to be trusted."""
    types = {
        Status.NEW: EventType.INCIDENT_REPORTED,
        Status.UPDATED: EventType.INCIDENT_UPDATED,
        Status.RESOLVED: EventType.INCIDENT_RESOLVED,
    }
    event_id = f"{interaction.id}-1"
    data = interaction_data(
        event_id=event_id,
        interaction_id=interaction.id,
        kind=interaction.kind,
        direction=interaction.way,
        host=interaction.host,
        peer={
            "domain": interaction.peer,
            "trust": interaction.trust.value,
            "authentication": interaction.stream.authentication.value,
            "quarantined": interaction.quarantined,
        },
        incident_id=incident.id,
        reporter=incident.reporter,
        status=incident.status,
        severity=incident.severity,
        document=interaction.document,
        repairs=interaction.repairs,
    )
    return Event(
        host=interaction.host,
        id=event_id,
        type=types[incident.status],
        timestamp=now,
        data=data,
    )
