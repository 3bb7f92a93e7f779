"""What is kept only for a time is deleted: what strangers sent and nobody wanted, deliveries and events.

House rule: nothing that came within that time goes, and nothing that still waits for its worker.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bridge.pipeline.actors import Actor, audits
from bridge.policy.admit import repeat_name
from bridge.policy.change import Change, Forget, Put, Trim
from bridge.policy.consumers import Delivery, DeliveryState
from bridge.policy.decisions import Approval, ApprovalState, Mitigation, MitigationState
from bridge.policy.record import Incident, Interaction, InteractionState, Peer, Quarantine, Record
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

_AT_ONCE = 50
_DELIVERIES_AT_ONCE = 500
_EVENTS_AT_ONCE = 500
_MOST_ROUNDS = 200
_MOST_INTERACTIONS = 10_000
_ALL = timedelta(days=1)
_NOTHING = Change()
_WAITING = {ApprovalState.OPEN, ApprovalState.APPROVED}


async def empty_quarantine(store: Store, host: str, *, days: int, now: datetime) -> int:
    """Make room in the host's quarantine, up to 50 interactions; returns how many are out of it.

    An interaction older than `days` takes its incident with it, if that lies in quarantine and nothing newer came; of
    an incident that does not (its peer is trusted now), only the count is given back.

    Raises:
        ConflictError: one changed meanwhile; what was done before stays done.
    """
    before = now - timedelta(days=days)
    found = await load.older(store, keys.held(host), than=before, limit=_AT_ONCE)
    records = await _records(store, [keys.interaction(one) for one in found])
    by_incident: dict[str, Interaction] = {
        one.incident_id: one for one in records if isinstance(one, Interaction)
    }
    return sum([await _retire(store, one, before=before) for one in by_incident.values()])


async def forget_quarantined(store: Store, incident: Incident, *, actor: Actor, now: datetime) -> bool:
    """Delete one incident that lies in quarantine, because an operator says so, with all that was sent about it.

    Returns:
        Whether it is gone; what waits for a worker stays, and what operators acted on.

    Raises:
        ConflictError: it changed meanwhile; nothing was done.
    """
    acted = [keys.approvals_of_incident(incident.id), keys.mitigations_of_incident(incident.id)]
    indexes = [keys.interactions(incident.id), *acted]
    found = await load.newest(store, indexes, limit=1)
    interactions = await _records(store, [keys.interaction(one) for one in found[indexes[0]]])
    if not incident.quarantined or any(found[one] for one in acted):
        return False
    for one in interactions:
        if isinstance(one, Interaction):
            judged = await _records(store, [keys.triage(incident.id)])
            log = audits(
                [incident.host], actor, "incident.forget", incident.id, now=now, detail=incident.reporter
            )
            more = Change(drops=tuple(judged), audits=log)
            return await _retire(store, one, before=now + _ALL, more=more) > 0
    return False


async def forget_deliveries(store: Store, *, days: int, now: datetime) -> int:
    """Delete the deliveries first tried more than `days` ago, and of those pending what was due so long ago.

    (Nobody tries the latter any more: their endpoint was removed.)

    Returns:
        How many.

    Raises:
        ConflictError: one changed meanwhile; what was done before stays done.
    """
    before = now - timedelta(days=days)
    count, offset = 0, 0
    for _ in range(_MOST_ROUNDS):
        found = await load.older(
            store, keys.DELIVERIES, than=before, limit=_DELIVERIES_AT_ONCE, offset=offset
        )
        records = await _records(store, [keys.delivery(one) for one in found], originals=False)
        ended = [
            one
            for one in records
            if isinstance(one, Delivery)
            and (one.state is not DeliveryState.PENDING or (one.next_at or one.created_at) < before)
        ]
        await commit(store, Change(drops=tuple(ended)))
        count += len(ended)
        offset += len(found) - len(ended)
        if len(found) < _DELIVERIES_AT_ONCE:
            break
    return count


async def trim_events(store: Store, host: str, *, days: int, now: datetime) -> int:
    """Delete the host's events from more than `days` ago; returns how many."""
    before = now - timedelta(days=days)
    first = after = (await load.event_bounds(store, host))[0] - 1
    for _ in range(_MOST_ROUNDS):
        events = await load.events(store, host, after=after, limit=_EVENTS_AT_ONCE)
        old = [number for number, event in events if datetime.fromisoformat(event["timestamp"]) < before]
        if not old:
            break
        after = old[-1]
        await commit(store, Change(trims=(Trim(host=host, sequence=after + 1),)))
        if len(old) < len(events):
            break
    return after - first


async def _retire(store: Store, oldest: Interaction, *, before: datetime, more: Change = _NOTHING) -> int:
    """Retire what one incident holds of the quarantine; `more` is done with it."""
    members = (
        await load.newest(store, [keys.interactions(oldest.incident_id)], limit=_MOST_INTERACTIONS)
    ).popitem()[1]
    about = oldest.incident_id
    names = [keys.incident(about), keys.triage(about), *(keys.interaction(one) for one in members)]
    records = await _records(store, names)
    incident = next((one for one in records if isinstance(one, Incident)), None)
    interactions = [one for one in records if isinstance(one, Interaction)]
    held = [one for one in interactions if one.quarantined and one.received_at < before]
    if any(one.state is InteractionState.STORED for one in interactions):
        return 0  # it waits for its worker
    if incident is None or incident.quarantined:
        if len(held) < len(interactions):
            return 0  # something newer came
        records += await _over(store, about, before=before)
        change = Change(drops=tuple(records), counts=(("retired", "quarantine"),)) + more
    else:
        change = Change(puts=tuple(Put(one, replace(one, quarantined=False, original=None)) for one in held))
    forgets = tuple(Forget(host=one.host, name=repeat_name(one.peer, one.digest)) for one in held)
    room = await _room(store, oldest, held)
    await commit(store, change + Change(forgets=forgets, puts=room))
    return len(held)


async def _over(store: Store, incident_id: str, *, before: datetime) -> list[Record]:
    """What was decided and done about an incident and is over; what is in force stays, so that it can be taken back.

    What failed may be in force all the same until its time is over (it could not be taken back, say).
    """
    indexes = [keys.approvals_of_incident(incident_id), keys.mitigations_of_incident(incident_id)]
    found = await load.newest(store, indexes, limit=_MOST_INTERACTIONS)
    names = [keys.mitigation(one) for one in found[indexes[1]]]
    mitigations = [one for one in await _records(store, names) if isinstance(one, Mitigation)]
    kept = {
        one.approval_id
        for one in mitigations
        if one.is_active or (one.state is MitigationState.FAILED and one.expires_at >= before)
    }
    names = [keys.approval(one) for one in found[indexes[0]] if one not in kept]
    approvals = [one for one in await _records(store, names) if isinstance(one, Approval)]
    return [
        *(one for one in mitigations if one.approval_id not in kept),
        *(one for one in approvals if one.state not in _WAITING),
    ]


async def _room(store: Store, oldest: Interaction, held: Sequence[Interaction]) -> tuple[Put, ...]:
    """Give back the room that interactions took; all of them are one peer's."""
    size_bytes = sum(len(one.original or b"") for one in held)
    found: list[Put] = []
    for record in await _records(
        store, [keys.peer(oldest.host, oldest.peer), keys.quarantine(oldest.host)], originals=False
    ):
        if isinstance(record, Peer):
            left = max(0, record.quarantined - len(held))
            found.append(Put(record, replace(record, quarantined=left)))
        elif isinstance(record, Quarantine):
            after = replace(
                record,
                interactions=max(0, record.interactions - len(held)),
                size_bytes=max(0, record.size_bytes - size_bytes),
            )
            found.append(Put(record, after))
    return tuple(found)


async def _records(store: Store, names: Sequence[keys.RecordName], *, originals: bool = True) -> list[Record]:
    fetched = await load.fetch(store, names=names, originals=originals)
    return [one for one in fetched.records.values() if one is not None]
