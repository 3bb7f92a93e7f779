"""An incident and its editions: how each interaction that tells of it changes it."""

from dataclasses import replace

from bridge.iodef.model import Incident as Document
from bridge.policy.record import MAX_INDEXED, Edition, Incident, Interaction, Way
from bridge.xep0268.model import Kind, Status
from bridge.xmpp.jid import Jid

MAX_EDITIONS = 100
_SUMMARY_CHARACTERS = 120
_SEVERITIES = ("low", "medium", "high")


def add_edition(known: Incident | None, interaction: Interaction) -> Incident:
    """Add what an interaction tells; what a stranger reported stays quarantined until a trusted stream tells it."""
    document = interaction.document
    status = _status(interaction, known)
    edition = Edition(
        interaction_id=interaction.id,
        received_at=interaction.received_at,
        status=status,
        quarantined=interaction.quarantined,
    )
    if known is None:
        known = Incident(
            id=interaction.incident_id,
            host=interaction.host,
            reporter=interaction.peer if interaction.way is Way.RECEIVED else interaction.host,
            identity=document.identity,
            status=status,
            quarantined=interaction.quarantined,
            severity=None,
            summary="",
            created_at=interaction.received_at,
            updated_at=interaction.received_at,
            editions=(),
        )
    editions = _bounded((*known.editions, edition))
    updated_at = max(known.updated_at, interaction.received_at)
    if interaction.quarantined and not known.quarantined:
        return replace(known, updated_at=updated_at, editions=editions)
    return replace(
        known,
        status=status,
        quarantined=known.quarantined and interaction.quarantined,
        severity=severity(document),
        summary=summary(document),
        updated_at=updated_at,
        editions=editions,
        restriction=document.restriction,
        sources=tuple(dict.fromkeys(source.jid or source.address for source in document.sources))[
            :MAX_INDEXED
        ],
        parties=parties(document),
    )


def _bounded(editions: tuple[Edition, ...]) -> tuple[Edition, ...]:
    """Leave out the oldest but the first where there are too many, those in quarantine before the others."""
    if len(editions) <= MAX_EDITIONS:
        return editions
    surplus = next((one for one in editions[1:-1] if one.quarantined), editions[1])
    return tuple(one for one in editions if one is not surplus)


def _status(interaction: Interaction, known: Incident | None) -> Status:
    """Take what a report states; derive new or updated where it is silent, never resolved.

    A request of ours says nothing new about the incident.
    """
    if known is not None and interaction.way is Way.SENT and interaction.kind is Kind.REQUEST:
        return known.status
    if interaction.status is Status.RESOLVED and interaction.kind is Kind.REPORT:
        return Status.RESOLVED
    return Status.NEW if known is None else Status.UPDATED


def severity(document: Document) -> str | None:
    """Return the gravest severity that the document's impacts state, None if none does."""
    stated = [impact.severity for impact in document.impacts if impact.severity in _SEVERITIES]
    return max(stated, key=_SEVERITIES.index, default=None)


def summary(document: Document) -> str:
    """Make one line of the document's first description, or of its sources where it has none."""
    if document.descriptions:
        text = " ".join(document.descriptions[0].text.split())
    else:
        text = ", ".join(source.address for source in document.sources[:MAX_INDEXED])
    return text if len(text) <= _SUMMARY_CHARACTERS else text[: _SUMMARY_CHARACTERS - 1] + "…"


def parties(document: Document) -> tuple[str, ...]:
    """Return the domains that the document names as source or target, by XMPP address."""
    jids = (one.jid for one in document.sources + document.targets if one.jid is not None)
    return tuple(dict.fromkeys(Jid.parse(jid).domain for jid in jids))[:MAX_INDEXED]
