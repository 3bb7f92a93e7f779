"""Incidents, interactions, triage and peers as the API shows them.

House rule: what a peer said is shown as it said it; whoever puts it on a page has to escape it.
"""

from datetime import datetime
from statistics import median
from typing import Self

from pydantic import Field

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId, Restriction
from bridge.iodef.repair import Repair
from bridge.policy.decisions import Note, Triage, TriageState
from bridge.policy.outreach import Outreach
from bridge.policy.record import Edition, Incident, Interaction, InteractionState, Outcome, Peer, Way
from bridge.policy.trust import Rule, Stream, Trust
from bridge.web.api.model import Out
from bridge.web.api.router import PREFIX
from bridge.xep0268.model import Kind, Status
from bridge.xmpp.stanza import PeerError


class Links(Out):
    """Where more of it is."""

    self: str
    iodef: str
    interactions: str


class TriageView(Out):
    """What the operators think of an incident; never told to a peer."""

    state: TriageState
    assignee: str = Field(description="Who looks after it; empty: nobody.")
    resolution: str = Field(description="Why it is closed, for people.")
    notes: tuple[Note, ...]
    updated_at: datetime | None

    @classmethod
    def of(cls, triage: Triage | None) -> Self:
        """Show it; an incident that nobody touched is open."""
        known = triage or Triage(incident_id="", host="")
        return cls(
            state=known.state,
            assignee=known.assignee,
            resolution=known.resolution,
            notes=known.notes,
            updated_at=known.updated_at,
        )


class IncidentItem(Out):
    """An incident in a list."""

    id: str
    host: str
    reporter: str
    is_own: bool
    identity: IncidentId
    status: Status
    quarantined: bool
    severity: str | None
    restriction: Restriction
    summary: str = Field(description="One line of what its reporter says; hostile text.")
    created_at: datetime
    updated_at: datetime
    sources: tuple[str, ...]
    triage_state: TriageState
    assignee: str

    @classmethod
    def of(cls, incident: Incident, triage: Triage | None) -> Self:
        """Show it."""
        return cls(
            id=incident.id,
            host=incident.host,
            reporter=incident.reporter,
            is_own=incident.is_own,
            identity=incident.identity,
            status=incident.status,
            quarantined=incident.quarantined,
            severity=incident.severity,
            restriction=incident.restriction,
            summary=incident.summary,
            created_at=incident.created_at,
            updated_at=incident.updated_at,
            sources=incident.sources,
            triage_state=TriageState.OPEN if triage is None else triage.state,
            assignee="" if triage is None else triage.assignee,
        )


class IncidentPage(Out):
    """A page of incidents, the newest made first."""

    items: tuple[IncidentItem, ...]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class IncidentView(IncidentItem):
    """An incident with everything known of it."""

    parties: tuple[str, ...] = Field(description="Domains that it names as source or target.")
    told: tuple[str, ...] = Field(description="The peers that were sent it.")
    editions: tuple[Edition, ...] = Field(description="Oldest first.")
    document: Document | None = Field(
        description="The edition that counts, as it is understood; null: it is no longer kept."
    )
    triage: TriageView
    links: Links

    @classmethod
    def whole(cls, incident: Incident, triage: Triage | None, current: Interaction | None) -> Self:
        """Show all of it; `current` is the interaction of the edition that counts."""
        url = f"{PREFIX}/incidents/{incident.id}"
        item = IncidentItem.of(incident, triage)
        return cls(
            **{name: getattr(item, name) for name in IncidentItem.model_fields},
            parties=incident.parties,
            told=incident.told,
            editions=incident.editions,
            document=None if current is None else current.document,
            triage=TriageView.of(triage),
            links=Links(self=url, iodef=f"{url}/iodef", interactions=f"{url}/interactions"),
        )


class InteractionItem(Out):
    """One report, inquiry, request or response, received or sent."""

    id: str
    host: str
    peer: str
    kind: Kind
    way: Way
    incident_id: str
    received_at: datetime = Field(description="When it came, or when it was queued.")
    state: InteractionState
    state_at: datetime | None
    status: Status | None = Field(description="What the document itself says.")
    trust: Trust = Field(description="What the peer counted as on its stream.")
    quarantined: bool
    answers: str | None = Field(description="The interaction that this one answers.")
    outcome: Outcome | None
    attempts: int
    sent_at: datetime | None
    retry_at: datetime | None
    failure: PeerError | None = Field(description="Why it was not acknowledged; in the peer's words.")
    outreach: Outreach | None = Field(
        description="The person it went to because the server does not speak XEP-0268, and what that one answered."
    )

    @classmethod
    def of(cls, interaction: Interaction) -> Self:
        """Show it."""
        return cls(**{name: getattr(interaction, name) for name in InteractionItem.model_fields})


class InteractionPage(Out):
    """A page of interactions, the newest first."""

    items: tuple[InteractionItem, ...]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class InteractionView(InteractionItem):
    """An interaction with its document."""

    sender: str
    iq_id: str
    stream: Stream
    document: Document
    repairs: tuple[Repair, ...] = Field(description="What was repaired on reading.")

    @classmethod
    def of(cls, interaction: Interaction) -> Self:
        """Show all of it."""
        return cls(**{name: getattr(interaction, name) for name in InteractionView.model_fields})


class Originated(Out):
    """What was queued: one interaction for each peer."""

    incident: IncidentItem | None = Field(description="The incident it is about; null for an inquiry.")
    interactions: tuple[InteractionItem, ...]
    notes: tuple[str, ...] = Field(description="What was dropped or repaired in the document that was given.")


class PeerView(Out):
    """A remote server as one of our hosts knows it."""

    host: str
    domain: str
    trust: Trust
    rules: dict[Kind, Rule] = Field(description="What becomes of each kind, where that was decided.")
    forward: bool = Field(
        description="Whether reports of others go on to it; takes effect once it is trusted."
    )
    first_seen_at: datetime | None
    last_seen_at: datetime | None
    received: int
    repeated: int
    quarantined: int
    sent: int
    acknowledged: int
    refused: int
    unreachable: int
    unanswered: int
    median_answer_seconds: float | None = Field(description="How long its server took to acknowledge.")
    requested: int = Field(description="Requests among what was sent.")
    acted: int = Field(description="On how many of these its operators acted, in part too.")
    declined: int
    median_decision_seconds: float | None = Field(description="How long its operators took for that.")
    announces: bool | None = Field(
        description="Whether it announces XEP-0268; null: not asked, or no answer."
    )
    contacts: tuple[str, ...] | None = Field(
        description="Its operators' addresses as it announces them (XEP-0157), best first; null: as above."
    )

    @classmethod
    def of(cls, peer: Peer) -> Self:
        """Show it."""
        made = {"rules", "forward", "median_answer_seconds", "median_decision_seconds"}
        return cls(
            **{name: getattr(peer, name) for name in cls.model_fields if name not in made},
            rules=dict(peer.rules),
            forward=peer.is_forwarded_to,
            median_answer_seconds=median(peer.answer_seconds) if peer.answer_seconds else None,
            median_decision_seconds=median(peer.decision_seconds) if peer.decision_seconds else None,
        )


class PeerPage(Out):
    """A page of peers, by host and then by name."""

    items: tuple[PeerView, ...]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")
