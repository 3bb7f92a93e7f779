"""What is kept only for a time is deleted: what strangers sent and nobody wanted."""

from dataclasses import replace
from datetime import datetime, timedelta

from bridge.policy.change import Change, Put
from bridge.policy.record import Incident, Interaction, Peer, Quarantine, Record
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

_AT_ONCE = 50
_MOST_INTERACTIONS = 500


async def empty_quarantine(store: Store, host: str, *, days: int, now: datetime) -> int:
    """Delete the host's quarantined incidents that did not change for `days`, up to 50; returns how many.

    Raises:
        ConflictError: one changed meanwhile; what was deleted before it stays deleted.
    """
    index = keys.incidents_quarantined(host, quarantined=True)
    found = await load.older(store, index, than=now - timedelta(days=days), limit=_AT_ONCE)
    for incident_id in found:
        await _delete(store, host, incident_id)
    return len(found)


async def _delete(store: Store, host: str, incident_id: str) -> None:
    """Delete one incident with its interactions, and give back the room they took."""
    ids = (await load.newest(store, [keys.interactions(incident_id)], limit=_MOST_INTERACTIONS)).popitem()[1]
    names = [keys.incident(incident_id), *(keys.interaction(one) for one in ids)]
    records = await _records(store, names)
    incident = next((one for one in records if isinstance(one, Incident)), None)
    if incident is None or not incident.quarantined:
        return
    held = [one for one in records if isinstance(one, Interaction) and one.quarantined]
    room = await _records(store, [keys.peer(host, incident.reporter), keys.quarantine(host)])
    change = Change(drops=tuple(records), counts=(("retired", "quarantine"),))
    for record in room:
        if isinstance(record, Peer):
            left = max(0, record.quarantined - len(held))
            change += Change(puts=(Put(record, replace(record, quarantined=left)),))
        elif isinstance(record, Quarantine):
            change += Change(puts=(Put(record, _without(record, held)),))
    await commit(store, change)


def _without(quarantine: Quarantine, held: list[Interaction]) -> Quarantine:
    size_bytes = sum(len(one.original or b"") for one in held)
    return replace(
        quarantine,
        interactions=max(0, quarantine.interactions - len(held)),
        size_bytes=max(0, quarantine.size_bytes - size_bytes),
    )


async def _records(store: Store, names: list[keys.RecordName]) -> list[Record]:
    fetched = await load.fetch(store, names=names, originals=True)
    return [one for one in fetched.records.values() if one is not None]
