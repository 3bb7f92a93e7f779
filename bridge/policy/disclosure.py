"""Who may know an incident, and how much of it (DESIGN §5 "Disclosure", RFC 5070 §3.2).

House rules: unknown and not allowed are the same answer; what lies in quarantine is shown to nobody but its reporter;
children with a stricter restriction than the audience's are cut out.
"""

from collections.abc import Iterable
from enum import StrEnum

from bridge.iodef.model import Restriction
from bridge.iodef.redact import redact
from bridge.iodef.write import write as write_incident
from bridge.policy.record import Incident, Interaction, Way
from bridge.policy.trust import Trust
from bridge.xep0268.model import NAMESPACE, Kind, Reading
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import Iq, read_iq


class Inquiries(StrEnum):
    """Whose inquiries are answered, besides the reporter's and those of peers that were sent the incident."""

    PARTIES = "parties"  # domains that the incident names as source or target, unless it is private
    TRUSTED = "trusted"  # trusted peers too, unless it is private


def audience(  # noqa: PLR0911 - a table of cases, each with its answer
    incident: Incident, asker: str, trust: Trust, rule: Inquiries
) -> Restriction | None:
    """How strictly restricted a child may be that `asker` is shown; None: the asker is told of no such incident.

    `private` stands for everything: the reporter gets back what it told.
    """
    if trust is Trust.BLOCKED:
        return None
    if asker == incident.reporter:
        return Restriction.PRIVATE
    if incident.only_to and asker not in incident.only_to:
        return None
    is_private = incident.restriction is Restriction.PRIVATE
    if incident.quarantined or (is_private and not incident.is_own):
        return None
    if asker in incident.told:
        return Restriction.NEED_TO_KNOW
    if is_private:
        return None
    if asker in incident.parties or (rule is Inquiries.TRUSTED and trust is Trust.TRUSTED):
        return Restriction.NEED_TO_KNOW
    return Restriction.PUBLIC if incident.restriction is Restriction.PUBLIC else None


def choose(
    incidents: Iterable[Incident], name: str, asker: str, trust: Trust, rule: Inquiries
) -> tuple[Incident, Restriction] | None:
    """Choose the account of an incident that answers an inquiry: our own, else the newest the asker may know.

    `incidents` are everybody's accounts whose IncidentID has the text asked for; the `name` asked for may be "" (old
    software leaves it out) and then matches any.
    """
    wanted = name.casefold()
    allowed = [
        (incident, level)
        for incident in incidents
        if wanted in ("", incident.identity.name.casefold())
        and (level := audience(incident, asker, trust, rule)) is not None
    ]
    return max(allowed, key=lambda one: (one[0].is_own, one[0].updated_at), default=None)


def reread(interaction: Interaction) -> Reading:
    """Read an interaction's own bytes again, to get its document as a tree.

    Raises:
        ValueError: it was loaded without them.
    """
    if interaction.original is None:
        raise ValueError(f"interaction {interaction.id} was loaded without its original")
    element = xml.parse(interaction.original)
    if interaction.way is Way.RECEIVED:
        return read(read_iq(element))
    sender, to = Jid.parse(interaction.host), Jid.parse(interaction.peer)
    iq = Iq(
        type=interaction.kind.iq_type, id=interaction.iq_id, sender=sender, to=to, payload=element, error=None
    )
    return read(iq)


def redacted(interaction: Interaction, level: Restriction, *, host: str, status: str) -> bytes:
    """Make the report payload that tells what an interaction told, cut down to what the audience may know."""
    tree, _ = redact(reread(interaction).tree, at_most=level)
    incident = write_incident(
        tree, reported_at=interaction.received_at, contact=host, restriction=None, status=status
    )
    payload = xml.parse(f"<{Kind.REPORT} xmlns='{NAMESPACE}'/>".encode())
    payload.append(incident)
    return xml.serialize(payload)
