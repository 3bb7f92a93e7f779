"""From an IQ to an interaction; refuses only what DESIGN §5 names."""

from dataclasses import replace

from bridge.errors import MalformedError
from bridge.iodef import read as iodef
from bridge.iodef.repair import Repair
from bridge.iodef.table import tag
from bridge.xep0268.model import NAMESPACE, Kind, Reading, Status
from bridge.xmpp.jid import shown
from bridge.xmpp.stanza import Iq
from bridge.xmpp.xml import Element, tag_of

_KINDS = {f"{{{NAMESPACE}}}{kind}": kind for kind in Kind}
_DOCUMENT = tag("IODEF-Document")


def read(iq: Iq) -> Reading:
    """Read the payload of a get or set.

    Raises:
        MalformedError: not one of the four payloads, the wrong IQ type, no or several Incidents, no IncidentID.
        RefusedError: `feature-not-implemented` for IODEF version 2.
    """
    payload = iq.payload
    if payload is None:
        raise MalformedError("iq", f"one of {', '.join(Kind)} in the namespace {NAMESPACE} is expected")
    kind = _kind(payload)
    if iq.type is not kind.iq_type:
        raise MalformedError(kind, f"the IQ type must be {kind.iq_type}, not {iq.type}")
    repairs = _attributes(payload, kind)
    element = _incident(payload, kind, repairs)
    document = iodef.read(
        element,
        default_name=None if kind is Kind.INQUIRY else iq.sender.domain,
        purpose=kind.purpose,
        only_id_required=kind is Kind.INQUIRY,
        path=f"{kind}/Incident",
    )
    incident = document.incident
    if incident.status is None and payload.get("status"):
        incident = replace(incident, status=payload.get("status", "")[:100])
    return Reading(
        kind=kind,
        incident=incident,
        status=Status.of(incident.status),
        repairs=(*repairs, *document.repairs),
        tree=document.tree,
    )


def _kind(payload: Element) -> Kind:
    kind = _KINDS.get(tag_of(payload))
    if kind is None:
        expected = f"one of {', '.join(Kind)} in the namespace {NAMESPACE} is expected"
        raise MalformedError("iq", f"{expected}, not {shown(tag_of(payload))}")
    return kind


def _incident(payload: Element, kind: Kind, repairs: list[Repair]) -> Element:
    """The one Incident in a payload; an IODEF-Document around it is taken off."""
    if len(payload) == 1 and payload[0].tag == _DOCUMENT:
        payload = payload[0]
        repairs.append(
            Repair(
                path=f"{kind}/IODEF-Document", rule="XEP-0268 has the Incident without it", done="taken off"
            )
        )
    incidents = payload.findall(iodef.INCIDENT)
    if len(incidents) > 1:
        raise MalformedError(kind, f"exactly one Incident is allowed, not {len(incidents)}")
    if not incidents:
        if not len(payload):
            raise MalformedError(kind, "the Incident is missing")
        iodef.check_is_incident(payload[0], f"{kind}/{shown(tag_of(payload[0]).rpartition('}')[2])}")
    if len(payload) > 1:
        rule = f"{len(payload) - 1} element(s) beside the Incident"
        repairs.append(Repair(path=str(kind), rule=rule, done="not read"))
    texts = [payload.text, *(child.tail for child in payload)]
    if stray := " ".join(text.strip() for text in texts if text and not text.isspace()):
        rule = f"the text '{shown(stray)}' beside the Incident"
        repairs.append(Repair(path=str(kind), rule=rule, done="not read"))
    return incidents[0]


def _attributes(payload: Element, kind: Kind) -> list[Repair]:
    """XEP-0268 gives the payloads no attributes; a status in one is taken, and whatever stands there is told."""
    found = []
    for name, value in payload.items():
        rule = f"XEP-0268 has no attribute '{shown(name)}' here"
        is_status = name == "status" and bool(value)
        done = (
            f"its value '{shown(value)}' taken as the status" if is_status else f"left out '{shown(value)}'"
        )
        found.append(Repair(path=str(kind), rule=rule, done=done))
    return found
