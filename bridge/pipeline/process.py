"""Stored interactions become incidents, events and answers."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bridge import log
from bridge.policy.change import Change
from bridge.policy.decide import State, decide, incident_puts
from bridge.policy.record import Incident, Interaction
from bridge.store import keys, load
from bridge.store.commit import Lease, commit
from bridge.store.connect import Store

_log = log.get(__name__)


async def process(store: Store, leases: Sequence[Lease], *, now: datetime) -> None:
    """Decide about every item of the leases, in order, and commit once; safe to run twice.

    Raises:
        ConflictError: nothing was written; somebody else holds a lane, or changed a record meanwhile.
    """
    items = [json.loads(item) for lease in leases for item in lease.items]
    interactions, before = await _load(store, [(item["id"], item["incident"]) for item in items])
    state, change = before, Change()
    for interaction in interactions:
        state, more = decide(state, interaction, now=now)
        change += more
    await commit(store, Change(puts=incident_puts(before, state)) + change, leases=leases)
    for interaction in interactions:
        fields: dict[str, Any] = {
            "interaction": interaction.id,
            "incident": interaction.incident_id,
            "peer": interaction.peer,
        }
        _log.info("decided", **fields)


async def _load(store: Store, ids: Sequence[tuple[str, str]]) -> tuple[list[Interaction], State]:
    """Load the interactions, in order, and the incidents they are about, in one round trip."""
    fetched = await load.fetch(
        store,
        names=[
            *(keys.interaction(interaction_id) for interaction_id, _ in ids),
            *(keys.incident(incident_id) for _, incident_id in ids),
        ],
    )
    interactions = [fetched.records[keys.interaction(interaction_id)] for interaction_id, _ in ids]
    incidents: dict[str, Incident | None] = {}
    for _, incident_id in ids:
        record = fetched.records[keys.incident(incident_id)]
        incidents[incident_id] = record if isinstance(record, Incident) else None
    return [one for one in interactions if isinstance(one, Interaction)], State(incidents=incidents)
