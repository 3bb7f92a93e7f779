"""What our webhook events say (DESIGN §7): the envelope's `data`, made once when the thing happens.

House rules: an event is written in the same commit as what it tells of and never changed afterwards; the store adds
`sequence`, the delivery adds the absolute part of the links.
"""

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from bridge.iodef.model import Incident
from bridge.iodef.repair import Repair

SCHEMA = "incident-bridge/1"


_DOCUMENT = TypeAdapter(Incident)
_REPAIRS = TypeAdapter(tuple[Repair, ...])


class EventType(StrEnum):
    """Every type of event there is today."""

    INCIDENT_REPORTED = "incident.reported"
    INCIDENT_UPDATED = "incident.updated"
    INCIDENT_RESOLVED = "incident.resolved"
    INQUIRY_RECEIVED = "inquiry.received"
    INQUIRY_ANSWERED = "inquiry.answered"
    REQUEST_RECEIVED = "request.received"
    REQUEST_APPROVED = "request.approved"
    REQUEST_COMPLETED = "request.completed"
    REQUEST_DECLINED = "request.declined"
    REQUEST_EXPIRED = "request.expired"
    RESPONSE_RECEIVED = "response.received"
    INTERACTION_ACKNOWLEDGED = "interaction.acknowledged"
    INTERACTION_REFUSED = "interaction.refused"
    INTERACTION_UNREACHABLE = "interaction.unreachable"
    INTERACTION_UNANSWERED = "interaction.unanswered"
    CONTACT_TOLD = "contact.told"
    CONTACT_ANSWERED = "contact.answered"
    MITIGATION_APPLIED = "mitigation.applied"
    MITIGATION_LIFTED = "mitigation.lifted"
    MITIGATION_EXPIRED = "mitigation.expired"
    MITIGATION_FAILED = "mitigation.failed"
    ENDPOINT_DISABLED = "endpoint.disabled"
    ENDPOINT_TEST = "endpoint.test"


def plain(value: Any) -> Any:
    """Turn typed views into what JSON knows: dataclasses to objects, tuples to arrays, times to RFC 3339 in UTC."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value.value if isinstance(value, StrEnum) else value


def linked(data: Mapping[str, Any], public_url: str) -> dict[str, Any]:
    """The `data` of an event with links that lead somewhere; where `public_url` is "" they stay paths."""
    if not public_url or "links" not in data:
        return dict(data)
    return {**data, "links": {name: public_url + path for name, path in data["links"].items()}}


def interaction_data(
    *,
    event_id: str,
    interaction_id: str,
    kind: str,
    direction: str,
    host: str,
    peer: dict[str, Any],
    incident_id: str,
    reporter: str,
    status: str,
    severity: str | None,
    document: Incident,
    repairs: tuple[Repair, ...],
) -> dict[str, Any]:
    """Make the `data` of an event about one interaction; `peer` is {domain, trust, authentication, quarantined}."""
    summary = _DOCUMENT.dump_python(document, mode="json")
    summary.update(id=incident_id, reporter=reporter, status=status, severity=severity)
    return {
        "schema": SCHEMA,
        "event_id": event_id,
        "interaction_id": interaction_id,
        "kind": kind,
        "direction": direction,
        "host": host,
        "peer": peer,
        "incident": summary,
        "repairs": _REPAIRS.dump_python(repairs, mode="json"),
        "links": {
            "self": f"/api/v1/incidents/{incident_id}",
            "iodef": f"/api/v1/incidents/{incident_id}/iodef",
        },
    }
