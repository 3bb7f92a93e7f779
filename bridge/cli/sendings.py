"""What came of what we sent, as `report`, `inquire`, `request` and `respond` say it: queued, then the answers."""

import asyncio
from collections.abc import Iterable

from bridge.cli.lookalike import address_cell
from bridge.cli.output import Terminal, cell, count
from bridge.cli.stored import records
from bridge.pipeline.export import interactions_about
from bridge.pipeline.originate import Originated
from bridge.policy.outreach import instead
from bridge.policy.record import Incident, Interaction, InteractionState, Peer
from bridge.policy.standing import is_over, standing
from bridge.store import keys
from bridge.store.connect import Store
from bridge.webhooks.event import plain
from bridge.xep0268.model import Kind

_POLL_SECONDS = 0.2


def print_queued(originated: Originated, terminal: Terminal) -> None:
    """Say what is to be sent."""
    for one in originated.interactions:
        terminal.line(f"{one.id}  {one.kind} to {address_cell(one.peer)}  queued")
    incident = originated.incident
    if incident is not None and not originated.interactions:
        terminal.line(f"incident {incident.id}  {incident.status}; nobody was told of it, so nobody is now")
    if incident is not None:
        terminal.say(f"To see what comes of it: incident-bridge incidents show {incident.id[:6]}")


def silent(peers: Iterable[Peer]) -> list[str]:
    """A sentence on each server that does not announce XEP-0268."""
    return [
        f"{address_cell(peer.domain)} does not announce XEP-0268; {cell(instead(peer.contacts))}."
        for peer in peers
        if peer.announces is False
    ]


async def watch(store: Store, sent: tuple[Interaction, ...], *, seconds: float) -> tuple[Interaction, ...]:
    """Look at the sendings until all are over and all inquiries told us something, or the time is up."""
    names = [keys.interaction(one.id) for one in sent]
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = tuple(one for one in await records(store, names) if isinstance(one, Interaction))
        is_done = all([is_over(one) and await _is_told(store, one) for one in found])
        if is_done or asyncio.get_running_loop().time() >= deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)


async def _is_told(store: Store, sent: Interaction) -> bool:
    """Whether the report came that an acknowledged inquiry announces; true for everything else."""
    if sent.kind is not Kind.INQUIRY or sent.state is not InteractionState.ACKNOWLEDGED:
        return True
    about = await interactions_about(store, sent.incident_id)
    return any(one.answers == sent.id for one in about)


async def known_incident(store: Store, originated: Originated) -> Incident | None:
    """The incident that it is about; for an inquiry, if it was told meanwhile."""
    if originated.incident is not None or not originated.interactions:
        return originated.incident
    names = [keys.incident(one.incident_id) for one in originated.interactions]
    return next((one for one in await records(store, names) if isinstance(one, Incident)), None)


def print_outcome(
    sent: tuple[Interaction, ...], peers: dict[str, Peer], incident: Incident | None, terminal: Terminal
) -> None:
    """Say what came of each sending."""
    for one in sent:
        terminal.line(f"{one.id}  {one.kind} to {address_cell(one.peer)}  {cell(standing(one))}")
    is_inquiry = any(one.kind is Kind.INQUIRY for one in sent)
    if is_inquiry and incident is not None:
        terminal.say(f"It is known as: incident-bridge incidents show {incident.id[:6]}")
    for line in silent(peers.values()):
        terminal.say(line)
    waiting = sum(not is_over(one) for one in sent)
    if waiting:
        terminal.say(f"{count(waiting, 'answer')} still to come; the workers go on trying.")
    if any(one.state is InteractionState.QUEUED and not one.attempts for one in sent):
        terminal.say("Prosody has not taken everything yet. To see why: incident-bridge check")


def as_plain(
    incident: Incident | None, sent: tuple[Interaction, ...], peers: dict[str, Peer], remarks: list[str]
) -> dict[str, object]:
    """What a program is told of the sendings."""
    return {
        "incident": incident.id if incident else None,
        "interactions": [
            {
                "id": one.id,
                "kind": one.kind.value,
                "to": one.peer,
                "incident": one.incident_id,
                "state": one.state.value,
                "attempts": one.attempts,
                "retry_at": plain(one.retry_at),
                "failure": plain(one.failure),
                "outreach": plain(one.outreach),
                "announces": peers[one.peer].announces if one.peer in peers else None,
            }
            for one in sent
        ],
        "remarks": remarks,
    }
