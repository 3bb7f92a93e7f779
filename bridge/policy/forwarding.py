"""Who else is told of a report (DESIGN §5 "Forwarding"): off unless the operator named peers.

House rules: once per IncidentID, whoever reported it; never private, never quarantined; never back, and never to the
domain in its name; a correction goes to exactly those who got the report.
"""

from collections.abc import Iterable

from bridge.iodef.model import Restriction
from bridge.policy.record import Incident, Interaction, Peer
from bridge.policy.trust import Trust


def recipients(
    incident: Incident, interaction: Interaction, peers: Iterable[Peer], others: Iterable[Incident]
) -> tuple[str, ...]:
    """Say to whom a first report goes on.

    Args:
        incident: what the report became.
        interaction: the report.
        peers: those that the operator wants reports forwarded to.
        others: everybody's accounts with the same IncidentID text; whoever reported one has it.
    """
    if interaction.quarantined or interaction.trust is not Trust.TRUSTED:
        return ()  # a stranger's answer to an inquiry of ours is not quarantined, but goes nowhere by itself
    if incident.restriction not in (Restriction.PUBLIC, Restriction.NEED_TO_KNOW):
        return ()
    same = [one for one in others if one.identity.key[:2] == incident.identity.key[:2]]
    have_it = {incident.reporter, incident.host, incident.identity.name.casefold()}
    have_it.update(one.reporter for one in same)
    have_it.update(domain for one in same for domain in one.told)
    wanted = [peer for peer in peers if peer.trust is Trust.TRUSTED and peer.is_forwarded_to]
    return tuple(sorted(peer.domain for peer in wanted if peer.domain not in have_it))


def correction_recipients(incident: Incident, interaction: Interaction) -> tuple[str, ...]:
    """Say who gets a correction or resolution: those who got the report, but not whoever sent the correction."""
    if interaction.quarantined or interaction.trust is not Trust.TRUSTED:
        return ()
    if incident.restriction is Restriction.PRIVATE:
        return ()
    return tuple(domain for domain in incident.told if domain != interaction.peer)


def objection(  # noqa: PLR0911 - a table of cases, each with its answer
    incident: Incident, peer: Peer, others: Iterable[Incident], *, even_private: bool
) -> str | None:
    """Say why one incident may not go on to one peer, although the operator asks for it; None: it may.

    Args:
        incident: what another server reported.
        peer: to whom it would go.
        others: everybody's accounts with the same IncidentID text.
        even_private: the operator said that its being private does not matter.
    """
    same = [one for one in others if one.identity.key[:2] == incident.identity.key[:2]]
    has_it = {incident.reporter, *incident.told, *(one.reporter for one in same)}
    has_it.update(domain for one in same for domain in one.told)
    if incident.quarantined:
        return "it lies in quarantine"
    if incident.only_to and peer.domain not in incident.only_to:
        return "the users whose reports it is made of did not agree to that"
    if peer.domain in has_it:
        return f"{peer.domain} has it already"
    if peer.domain == incident.identity.name.casefold():
        return f"{peer.domain} is the server that named it"
    if peer.trust is not Trust.TRUSTED:
        return f"{peer.domain} is not trusted"
    if incident.restriction not in (Restriction.PUBLIC, Restriction.NEED_TO_KNOW) and not even_private:
        return "its reporter says that it is private"
    return None
