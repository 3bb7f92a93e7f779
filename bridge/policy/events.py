"""The webhook events that decisions bring (DESIGN §7): one for each thing that happened to an interaction.

House rule: an event's id is made from the interaction's, so that deciding twice tells once.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bridge.policy.change import Event
from bridge.policy.decisions import Approval, ApprovalState, Mitigation, MitigationState
from bridge.policy.outreach import Channel
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome, Way
from bridge.webhooks.event import SCHEMA, EventType, interaction_data, plain
from bridge.xep0268.model import Kind, Status

_REPORTED = {
    Status.NEW: EventType.INCIDENT_REPORTED,
    Status.UPDATED: EventType.INCIDENT_UPDATED,
    Status.RESOLVED: EventType.INCIDENT_RESOLVED,
}
_SETTLED = {
    InteractionState.ACKNOWLEDGED: EventType.INTERACTION_ACKNOWLEDGED,
    InteractionState.REFUSED: EventType.INTERACTION_REFUSED,
    InteractionState.UNREACHABLE: EventType.INTERACTION_UNREACHABLE,
    InteractionState.UNANSWERED: EventType.INTERACTION_UNANSWERED,
}


_MITIGATED = {
    MitigationState.APPLIED: EventType.MITIGATION_APPLIED,
    MitigationState.LIFTED: EventType.MITIGATION_LIFTED,
    MitigationState.EXPIRED: EventType.MITIGATION_EXPIRED,
    MitigationState.FAILED: EventType.MITIGATION_FAILED,
}


def received(interaction: Interaction, incident: Incident, *, now: datetime) -> Event:
    """Tell what a report, request or response said, and how far it is to be trusted."""
    edition = incident.editions[-1]
    types = {
        Kind.REPORT: _REPORTED[edition.status],
        Kind.REQUEST: EventType.REQUEST_RECEIVED,
        Kind.RESPONSE: EventType.RESPONSE_RECEIVED,
    }
    return _about(
        interaction,
        types[interaction.kind],
        event_id=f"{interaction.id}-1",
        reporter=incident.reporter,
        status=edition.status,
        now=now,
    )


def settled(interaction: Interaction, *, now: datetime) -> Event:
    """Tell what came of a sending of ours."""
    failure = interaction.failure
    why = (
        None if failure is None else {name: getattr(failure, name) for name in ("type", "condition", "text")}
    )
    return _about(
        interaction,
        _SETTLED[interaction.state],
        event_id=f"{interaction.id}-{interaction.state}",
        reporter=interaction.host,
        status=interaction.status or "",
        now=now,
        failure=why,
    )


def contacted(interaction: Interaction, *, now: datetime) -> Event:
    """Tell that a person was written to, whose server does not speak XEP-0268."""
    known = interaction.outreach
    is_by_mail = known is not None and known.channel is Channel.MAIL
    how = "mailed" if is_by_mail else f"told{interaction.attempts}"
    return _by_person(interaction, EventType.CONTACT_TOLD, f"{interaction.id}-{how}", now)


def answered_by_person(interaction: Interaction, *, number: int, now: datetime) -> Event:
    """Tell what a person answered; `number` counts those of one sending."""
    return _by_person(interaction, EventType.CONTACT_ANSWERED, f"{interaction.id}-answer{number}", now)


def _by_person(interaction: Interaction, event_type: EventType, event_id: str, now: datetime) -> Event:
    known = interaction.outreach
    return _about(
        interaction,
        event_type,
        event_id=event_id,
        reporter=interaction.host,
        status=interaction.status or "",
        now=now,
        contact=None if known is None else {"channel": str(known.channel), "address": known.address},
        answer=plain(known.answers[-1]) if known and known.answers else None,
    )


def answered(asked: Interaction, *, by: str, now: datetime) -> Event:
    """Tell what came of a peer's request, which we answered by the response `by`."""
    is_declined = asked.outcome is Outcome.DECLINED
    return _about(
        asked,
        EventType.REQUEST_DECLINED if is_declined else EventType.REQUEST_COMPLETED,
        event_id=f"{by}-{asked.outcome}",
        reporter=asked.peer,
        status=asked.status or "",
        now=now,
        outcome=str(asked.outcome),
    )


def decided(asked: Interaction, approval: Approval, *, now: datetime) -> Event:
    """Tell that an operator, or a rule, said yes to a peer's request, or that nobody decided in time."""
    is_expired = approval.state is ApprovalState.EXPIRED
    return _about(
        asked,
        EventType.REQUEST_EXPIRED if is_expired else EventType.REQUEST_APPROVED,
        event_id=f"{approval.id}-{'expired' if is_expired else 'approved'}",
        reporter=asked.peer,
        status=asked.status or "",
        now=now,
        approval={
            "id": approval.id,
            "state": str(approval.state),
            "by": approval.decided_by,
            "is_automatic": approval.is_automatic,
            "mitigations": [one.mitigation_id for one in approval.targets if one.mitigation_id],
        },
    )


def mitigated(mitigation: Mitigation, approval: Approval | None, *, now: datetime) -> Event:
    """Tell what came of a mitigation; one for each of its revisions and ends."""
    event_id = f"{mitigation.id}-{mitigation.revision}-{mitigation.state}"
    requester = approval.requester if approval is not None else ""
    data = {
        "schema": SCHEMA,
        "event_id": event_id,
        "host": mitigation.host,
        "request_id": approval.request if approval is not None else None,
        "peer": {"domain": requester} if requester else None,
        "incident": {"id": mitigation.incident_id} if mitigation.incident_id else None,
        "mitigation": {
            "id": mitigation.id,
            "type": str(mitigation.type),
            "target": dict(mitigation.target),
            "state": str(mitigation.state),
            "by": mitigation.lifted_by or mitigation.by,
            "applied_at": plain(mitigation.applied_at),
            "expires_at": plain(mitigation.expires_at),
            "failure": mitigation.failure or None,
            "note": mitigation.note or None,
        },
        "links": _links_of(mitigation),
    }
    return Event(
        host=mitigation.host, id=event_id, type=_MITIGATED[mitigation.state], timestamp=now, data=data
    )


def _links_of(mitigation: Mitigation) -> dict[str, str]:
    if not mitigation.incident_id:
        return {"self": f"/api/v1/mitigations/{mitigation.id}"}
    self = f"/api/v1/incidents/{mitigation.incident_id}"
    return {"self": self, "iodef": f"{self}/iodef"}


def inquired(host: str, item: Mapping[str, Any], asker: str, *, is_told: bool, now: datetime) -> Event:
    """Tell who asked about what, and whether it was told; `item` is the inquiry as it waited in its lane."""
    event_id = f"{item['id']}-1"
    data = {
        "schema": SCHEMA,
        "event_id": event_id,
        "interaction_id": item["id"],
        "kind": Kind.INQUIRY.value,
        "direction": Way.RECEIVED.value,
        "host": host,
        "peer": {
            "domain": asker,
            "trust": item["trust"],
            "authentication": item["authentication"],
            "quarantined": False,
        },
        "identity": dict(item["inquiry"]),
    }
    event_type = EventType.INQUIRY_ANSWERED if is_told else EventType.INQUIRY_RECEIVED
    return Event(host=host, id=event_id, type=event_type, timestamp=now, data=data)


def _about(
    interaction: Interaction,
    event_type: EventType,
    *,
    event_id: str,
    reporter: str,
    status: str,
    now: datetime,
    **more: Any,
) -> Event:
    data = interaction_data(
        event_id=event_id,
        interaction_id=interaction.id,
        kind=interaction.kind,
        direction=interaction.way,
        host=interaction.host,
        peer=_peer(interaction),
        incident_id=interaction.incident_id,
        reporter=reporter,
        status=status,
        severity=interaction.document.severity,
        document=interaction.document,
        repairs=interaction.repairs,
    )
    return Event(host=interaction.host, id=event_id, type=event_type, timestamp=now, data={**data, **more})


def _peer(interaction: Interaction) -> dict[str, Any]:
    """Say whom it concerns; what a stream proved is known only of what came over one."""
    if interaction.way is Way.SENT:
        return {"domain": interaction.peer}
    return {
        "domain": interaction.peer,
        "trust": interaction.trust.value,
        "authentication": interaction.stream.authentication.value,
        "quarantined": interaction.quarantined,
    }
