"""The quarantine is emptied of what is too old, and of nothing else."""

from datetime import timedelta
from typing import Any

import pytest

from bridge.pipeline.retain import empty_quarantine
from bridge.policy.change import Change, Put
from bridge.policy.decisions import (
    Approval,
    ApprovalState,
    Mitigation,
    MitigationState,
    MitigationType,
    Triage,
)
from bridge.policy.record import Incident, InteractionState, Peer, Quarantine
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

from .conftest import HOST, NOON, PEER


def usual(incident: Incident) -> dict[str, Any]:
    return {"quarantined": True, "incident_id": incident.id, "state": InteractionState.ANSWERED}


async def put(store: Store, *records: Any) -> None:
    await commit(store, Change(puts=tuple(Put(None, one) for one in records)))


async def test_old_quarantine_is_deleted_and_makes_room(
    store: Store, make_incident: Any, make_interaction: Any
) -> None:
    incident: Incident = make_incident(quarantined=True)
    interaction = make_interaction("i1", **usual(incident), original=b"x" * 100)
    peer = Peer(host=HOST, domain=PEER, quarantined=3, first_seen_at=NOON, last_seen_at=NOON)
    await put(store, incident, interaction, peer, Quarantine(host=HOST, interactions=7, size_bytes=900))
    await put(store, Triage(incident_id=incident.id, host=HOST, updated_at=NOON))

    assert await empty_quarantine(store, HOST, days=30, now=NOON + timedelta(days=29)) == 0
    assert await empty_quarantine(store, HOST, days=30, now=NOON + timedelta(days=31)) == 1

    names = [keys.incident(incident.id), keys.interaction("i1"), keys.peer(HOST, PEER), keys.quarantine(HOST)]
    found = (await load.fetch(store, names=names)).records
    assert found[names[0]] is None
    assert found[names[1]] is None
    assert found[names[2]].quarantined == 2  # type: ignore[union-attr]
    room = found[names[3]]
    assert (room.interactions, room.size_bytes) == (6, 800)  # type: ignore[union-attr]
    for index in (keys.incidents(HOST), keys.incidents_made(HOST), keys.triaged(HOST)):
        assert await load.page(store, index, limit=9) == []
    assert await load.page(store, keys.texts(HOST, incident.identity.text), limit=9) == []


@pytest.mark.parametrize("state", [MitigationState.LIFTED, MitigationState.APPLIED])
async def test_what_was_done_about_it_goes_with_it_once_it_is_over(
    store: Store, make_incident: Any, make_interaction: Any, state: MitigationState
) -> None:
    incident: Incident = make_incident(quarantined=True)
    common = {"host": HOST, "incident_id": incident.id, "created_at": NOON, "expires_at": NOON}
    approval = Approval(
        id="a1", request=None, requester="", targets=(), state=ApprovalState.DONE, **common
    )  # fmt: skip
    mitigation = Mitigation(
        id="m1", type=MitigationType.BLOCK, target={"domain": PEER}, action="block-host", approval_id="a1",
        asked_at=NOON, by="cli:anna", reason="", state=state, **common,
    )  # fmt: skip
    await put(store, incident, make_interaction("i1", **usual(incident)), approval, mitigation)
    await put(store, Peer(host=HOST, domain=PEER, quarantined=1))

    assert await empty_quarantine(store, HOST, days=30, now=NOON + timedelta(days=31)) == 1

    names = [keys.approval("a1"), keys.mitigation("m1")]
    found = (await load.fetch(store, names=names)).records
    assert [one is not None for one in found.values()] == [state is MitigationState.APPLIED] * 2
    assert (await load.fetch(store, names=[keys.incident(incident.id)])).records == {
        keys.incident(incident.id): None
    }


@pytest.mark.parametrize("days_left", [-1, 1])
async def test_what_could_not_be_taken_back_stays_while_it_may_be_in_force(
    store: Store, make_incident: Any, make_interaction: Any, days_left: int
) -> None:
    incident: Incident = make_incident(quarantined=True)
    expires_at = NOON + timedelta(days=1 + days_left)
    common = {"host": HOST, "incident_id": incident.id, "created_at": NOON, "expires_at": expires_at}
    approval = Approval(id="a1", request=None, requester="", targets=(), state=ApprovalState.DONE, **common)
    mitigation = Mitigation(
        id="m1", type=MitigationType.BLOCK, target={"domain": PEER}, action="block-host", approval_id="a1",
        asked_at=NOON, by="cli:anna", reason="", state=MitigationState.FAILED, lifted_by="cli:anna", **common,
    )  # fmt: skip
    await put(store, incident, make_interaction("i1", **usual(incident)), approval, mitigation)
    await put(store, Peer(host=HOST, domain=PEER, quarantined=1))

    assert await empty_quarantine(store, HOST, days=30, now=NOON + timedelta(days=31)) == 1

    found = (await load.fetch(store, names=[keys.approval("a1"), keys.mitigation("m1")])).records
    assert [one is not None for one in found.values()] == [days_left > 0] * 2


async def test_what_still_waits_for_its_worker_stays(
    store: Store, make_incident: Any, make_interaction: Any
) -> None:
    incident: Incident = make_incident(quarantined=True)
    fresh = {**usual(incident), "state": InteractionState.STORED, "received_at": NOON + timedelta(days=31)}
    await put(store, incident, make_interaction("i1", **usual(incident)), make_interaction("i2", **fresh))

    assert await empty_quarantine(store, HOST, days=30, now=NOON + timedelta(days=31)) == 0

    names = [keys.incident(incident.id), keys.interaction("i1"), keys.interaction("i2")]
    assert all((await load.fetch(store, names=names)).records.values())


async def test_what_its_peers_trust_let_out_gives_its_room_back_and_stays(
    store: Store, make_incident: Any, make_interaction: Any
) -> None:
    incident: Incident = make_incident(quarantined=False)
    peer = Peer(host=HOST, domain=PEER, quarantined=1, first_seen_at=NOON, last_seen_at=NOON)
    await put(store, incident, make_interaction("i1", **usual(incident)), peer)

    assert await empty_quarantine(store, HOST, days=30, now=NOON + timedelta(days=31)) == 1
    assert await empty_quarantine(store, HOST, days=30, now=NOON + timedelta(days=31)) == 0

    found = (await load.fetch(store, names=[keys.incident(incident.id), keys.peer(HOST, PEER)])).records
    assert found[keys.incident(incident.id)] is not None
    assert found[keys.peer(HOST, PEER)].quarantined == 0  # type: ignore[union-attr]


async def test_what_a_trusted_peer_sent_stays(store: Store, make_incident: Any) -> None:
    await put(store, make_incident(quarantined=False))
    assert await empty_quarantine(store, HOST, days=1, now=NOON + timedelta(days=99)) == 0
    assert len(await load.page(store, keys.incidents(HOST), limit=9)) == 1
