"""What each type of event holds, as JSON Schema (2020-12); made of these models, which say what the code makes.

House rules: every member listed is always there, null where there is nothing to say, but for those that say when they
are; new members may come, so consumers ignore what they do not know, as they do with types of event.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from bridge.iodef.model import (
    Confidence,
    Contact,
    Expectation,
    HistoryItem,
    Impact,
    IncidentId,
    RecordItem,
    Restriction,
    Severity,
    Source,
    Text,
)
from bridge.iodef.repair import Repair
from bridge.webhooks.event import EventType

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_OPTIONAL: Final = "x-optional"

Link = Annotated[
    str,
    Field(
        description="Absolute where `server.public_url` is set, else a path; as in the API, whose token it needs."
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(defer_build=True)  # most processes never ask for a schema


class PeerSent(_Model):
    """The server that something was sent to."""

    domain: str


class PeerReceived(PeerSent):
    """The server that something came from, as its stream proved it; everything hangs on this domain."""

    trust: Literal["trusted", "stranger", "blocked"]
    authentication: Literal["certificate", "dialback+certificate", "dialback", "local", "none"]
    quarantined: bool = Field(description="Whether it counts for nothing until an operator decides.")


class IncidentSummary(_Model):
    """The incident as the document tells it (RFC 5070); what the peer says, so it is not to be trusted."""

    id: str = Field(description="As in `/api/v1/incidents/{id}`.")
    identity: IncidentId
    reporter: str = Field(description="The server that reported it; our own host for what we reported.")
    status: Literal["new", "updated", "resolved", ""] = Field(description="Empty: the document does not say.")
    severity: Severity | None = Field(description="The highest that any impact has.")
    purpose: str
    restriction: Restriction
    lang: str | None
    detected_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    reported_at: datetime | None
    descriptions: tuple[Text, ...]
    impacts: tuple[Impact, ...]
    confidence: Confidence | None
    contacts: tuple[Contact, ...]
    sources: tuple[Source, ...]
    targets: tuple[Source, ...]
    others: tuple[Source, ...]
    expectations: tuple[Expectation, ...]
    history: tuple[HistoryItem, ...]
    record_items: tuple[RecordItem, ...]
    related: tuple[IncidentId, ...]
    alternatives: tuple[IncidentId, ...]


class EventLinks(_Model):
    """Where more of the incident is."""

    self: Link
    iodef: Link


class MitigationLinks(_Model):
    """Where more is: of the incident, or of the mitigation where there is none."""

    self: Link
    iodef: Link | None = None


class Failure(_Model):
    """The stanza error that came back (RFC 6120 §8.3); the words of another server."""

    type: str
    condition: str
    text: str


class EventData(_Model):
    """What every event has."""

    version: Literal["incident-bridge/1"] = Field(alias="schema")
    event_id: str = Field(description="The same as the header `webhook-id`; equal for the same event.")
    host: str = Field(description="Which of our hosts it happened to.")
    sequence: int = Field(
        ge=1,
        description="Its number among the events of the host, in order; the cursor of `/api/v1/events`.",
    )


class AboutInteraction(EventData):
    """What happened to one report, inquiry, request or response."""

    interaction_id: str
    kind: Literal["report", "inquiry", "request", "response"]
    incident: IncidentSummary
    repairs: tuple[Repair, ...] = Field(description="What was repaired on reading the document.")
    links: EventLinks
    xml: str | None = Field(
        description="Only for endpoints with `includes_xml`: the document as it came; null: no longer kept.",
        json_schema_extra={_OPTIONAL: True},
    )


class Received(AboutInteraction):
    """A peer sent something."""

    direction: Literal["received"]
    peer: PeerReceived


class ReportReceived(Received):
    """A peer told of an incident."""

    kind: Literal["report"]


class RequestReceived(Received):
    """A peer asks that something be done; nothing is, until an operator decides."""

    kind: Literal["request"]


class ResponseReceived(Received):
    """A peer says what it did about a request of ours."""

    kind: Literal["response"]


class RequestAnswered(RequestReceived):
    """A peer's request was answered by us."""

    outcome: Literal["done", "partly", "declined"]


class ApprovalSummary(_Model):
    """How a request was decided about."""

    id: str
    state: Literal["approved", "expired"]
    by: str = Field(description="Who: a JID, `token:<name>`, `cli:<user>`, or `bridge`.")
    is_automatic: bool = Field(description="Whether a rule of the operators said yes.")
    mitigations: tuple[str, ...] = Field(description="The ids of what is carried out.")


class RequestDecided(RequestReceived):
    """The operators said yes to a peer's request, or did not decide in time."""

    approval: ApprovalSummary


class IncidentReference(_Model):
    """The incident that it is about."""

    id: str = Field(description="As in `/api/v1/incidents/{id}`.")


class MitigationSummary(_Model):
    """Something done on our server."""

    id: str
    type: Literal["account.suspend", "domain.block", "room.ban"]
    target: dict[str, str] = Field(description="`account`, or `domain`, or `room` and `jid`.")
    state: Literal["applied", "lifted", "expired", "failed"]
    by: str = Field(description="Who approved it, or took it back.")
    applied_at: datetime | None
    expires_at: datetime
    failure: str | None = Field(description="Why it could not be applied, or not be lifted.")
    note: str | None = Field(description="What else there is to know of how it ended.")


class MitigationChanged(EventData):
    """What came of a mitigation."""

    peer: PeerSent | None = Field(
        description="The server that asked for it; null: the operators did it unasked."
    )
    request_id: str | None = Field(description="The interaction that asked for it.")
    incident: IncidentReference | None = Field(
        description="null: lists of others named the target, and an operator said yes to that."
    )
    mitigation: MitigationSummary
    links: MitigationLinks


class SendingSettled(AboutInteraction):
    """What came of something that we sent."""

    direction: Literal["sent"]
    peer: PeerSent
    failure: Failure | None = Field(description="Why it was not acknowledged, as far as is known.")


class PersonWrittenTo(_Model):
    """Somebody who looks after a server that does not speak XEP-0268, as that server names its contacts."""

    channel: Literal["chat", "mail"]
    address: str


class PersonAnswered(_Model):
    """What such a person answered; hostile text."""

    at: datetime
    text: str
    verdict: Literal["done", "declined", "need-more"] | None = Field(description="null: only a text.")
    is_by_page: bool = Field(
        description="On the answer page; else by chat, from an address that was written to."
    )
    address: str = Field(description="By chat from this one; empty: from the contact's, or by page.")


class PersonTold(AboutInteraction):
    """What we sent went to a person, or that person answered."""

    direction: Literal["sent"]
    peer: PeerSent
    contact: PersonWrittenTo
    answer: PersonAnswered | None = Field(description="The newest; null: there is none.")


class Inquired(EventData):
    """A peer asked what we know about an incident."""

    interaction_id: str
    kind: Literal["inquiry"]
    direction: Literal["received"]
    peer: PeerReceived
    identity: IncidentId = Field(
        description="What it asked about; `name` is empty where it did not say whose."
    )


class EndpointTest(EventData):
    """A test of one endpoint, delivered to that one only."""

    endpoint_id: str


class EndpointDisabled(EventData):
    """An endpoint gets nothing more until an operator enables it."""

    endpoint_id: str
    reason: str


class Described(BaseModel):
    """One type of event."""

    data: type[EventData]
    meaning: str


def _of(data: type[EventData], meaning: str) -> Described:
    return Described(data=data, meaning=meaning)


EVENTS: Final[Mapping[EventType, Described]] = {
    EventType.INCIDENT_REPORTED: _of(ReportReceived, "A peer reported a new incident."),
    EventType.INCIDENT_UPDATED: _of(ReportReceived, "A peer told more about an incident."),
    EventType.INCIDENT_RESOLVED: _of(ReportReceived, "A peer says that an incident is over."),
    EventType.INQUIRY_RECEIVED: _of(Inquired, "A peer asked about an incident and was told nothing."),
    EventType.INQUIRY_ANSWERED: _of(Inquired, "A peer asked about an incident and was told."),
    EventType.REQUEST_RECEIVED: _of(RequestReceived, "A peer asks that something be done."),
    EventType.REQUEST_APPROVED: _of(
        RequestDecided, "The operators, or a rule of theirs, said yes to a request."
    ),
    EventType.REQUEST_COMPLETED: _of(RequestAnswered, "A peer's request was done, or partly."),
    EventType.REQUEST_DECLINED: _of(RequestAnswered, "A peer's request was declined."),
    EventType.REQUEST_EXPIRED: _of(RequestDecided, "Nobody decided about a request in time; it is declined."),
    EventType.RESPONSE_RECEIVED: _of(ResponseReceived, "A peer says what it did about a request of ours."),
    EventType.INTERACTION_ACKNOWLEDGED: _of(SendingSettled, "A peer took what we sent."),
    EventType.INTERACTION_REFUSED: _of(SendingSettled, "A peer refused what we sent."),
    EventType.INTERACTION_UNREACHABLE: _of(SendingSettled, "A peer could not be reached for a day."),
    EventType.INTERACTION_UNANSWERED: _of(SendingSettled, "A peer did not answer what we sent for a day."),
    EventType.CONTACT_TOLD: _of(
        PersonTold, "The operators of a server without XEP-0268 were written to instead."
    ),
    EventType.CONTACT_ANSWERED: _of(PersonTold, "One of them answered."),
    EventType.MITIGATION_APPLIED: _of(MitigationChanged, "Something is in force on our server."),
    EventType.MITIGATION_LIFTED: _of(MitigationChanged, "It was taken back."),
    EventType.MITIGATION_EXPIRED: _of(MitigationChanged, "Its time is over."),
    EventType.MITIGATION_FAILED: _of(MitigationChanged, "It could not be applied, or not be lifted."),
    EventType.ENDPOINT_DISABLED: _of(EndpointDisabled, "An endpoint failed for too long, or said 410 Gone."),
    EventType.ENDPOINT_TEST: _of(EndpointTest, "An operator tries an endpoint out."),
}
"""Every type of event, with what its `data` holds."""


def schema(event_type: EventType) -> dict[str, Any]:
    """The JSON Schema of the whole body of an event of this type."""
    model = EVENTS[event_type].data
    refs, found = models_json_schema([(model, "serialization")])
    return {
        "$schema": DIALECT,
        "title": str(event_type),
        "description": EVENTS[event_type].meaning,
        **_envelope(event_type, refs[model, "serialization"]),
        "$defs": _plain(found["$defs"]),
    }


def components(prefix: str = "Event.") -> tuple[dict[EventType, dict[str, Any]], dict[str, Any]]:
    """The same for OpenAPI: what each event's body is, and the components that it refers to."""
    models = dict.fromkeys(one.data for one in EVENTS.values())
    template = f"#/components/schemas/{prefix}{{model}}"
    refs, found = models_json_schema([(model, "serialization") for model in models], ref_template=template)
    bodies = {one: _envelope(one, refs[EVENTS[one].data, "serialization"]) for one in EVENTS}
    return bodies, {prefix + name: part for name, part in _plain(found["$defs"]).items()}


def _envelope(event_type: EventType, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "id": {
                "type": "string",
                "description": "In answers of `/api/v1/events` only; a delivery has it as `webhook-id`.",
            },
            "type": {"const": str(event_type)},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
            "data": dict(data),
        },
    }


def _plain(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """As we mean them: members are always there, also those with a default in the code, but for the marked ones."""
    found = {}
    for name, part in definitions.items():
        properties = {
            member: {word: value for word, value in one.items() if word not in {_OPTIONAL, "title"}}
            for member, one in part.get("properties", {}).items()
        }
        required = [member for member in properties if _OPTIONAL not in part["properties"][member]]
        found[name] = {**part, "properties": properties, "required": required} if properties else part
    return found
