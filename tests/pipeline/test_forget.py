"""An operator has incidents of the quarantine forgotten."""

import pytest

from bridge.pipeline import approve
from bridge.pipeline.actors import Actor
from bridge.pipeline.retain import forget_quarantined
from bridge.pipeline.triage import Judgement, triage
from bridge.policy.approval import own_target
from bridge.policy.change import Change, Put
from bridge.policy.decisions import MitigationType, TriageState
from bridge.policy.record import Incident, Peer
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.test_approve import Desk
from tests.policy.conftest import stanza

HOST, ANNA = "a.test", Actor(name="cli:anna")


@pytest.fixture
def desk(store: Store) -> Desk:
    """A host that knows nobody."""
    return Desk(store)


async def reported(desk: Desk, text: str = "1") -> Incident:
    await desk.receive(stanza(sender="c.test", text=text))
    [newest] = (await load.newest(desk.store, [keys.incidents(HOST)], limit=1)).popitem()[1]
    found = await desk.record(keys.incident(newest))
    assert isinstance(found, Incident)
    return found


async def test_what_is_forgotten_is_gone_with_its_judgement_and_may_come_again(desk: Desk) -> None:
    one, kept = await reported(desk), await reported(desk, "2")
    closed = Judgement(state=TriageState.CLOSED)
    await triage(desk.store, one, closed, actor=ANNA, now=desk.now)
    assert await forget_quarantined(desk.store, one, actor=ANNA, now=desk.now)

    assert await desk.record(keys.incident(one.id)) is None
    assert await desk.record(keys.triage(one.id)) is None
    assert await desk.record(keys.interaction(one.current.interaction_id)) is None
    assert await desk.record(keys.incident(kept.id)) == kept
    peer, held = await desk.record(keys.peer(HOST, "c.test")), await desk.record(keys.quarantine(HOST))
    assert (peer.quarantined, held.interactions) == (1, 1)
    assert ("cli:anna", "incident.forget") in await desk.audits()
    assert not await forget_quarantined(desk.store, one, actor=ANNA, now=desk.now)

    again = await reported(desk)
    assert again.id == one.id
    assert await desk.record(keys.triage(one.id)) is None


async def test_what_an_operator_acted_on_is_not_forgotten(desk: Desk) -> None:
    one = await reported(desk)
    target = own_target(HOST, MitigationType.SUSPEND, address="juliet@a.test")
    await approve.act(desk.store, one, [target], approval_id="x", actor=ANNA, rules=desk.rules, now=desk.now)
    assert not await forget_quarantined(desk.store, one, actor=ANNA, now=desk.now)
    assert await desk.record(keys.incident(one.id)) is not None


async def test_what_counts_is_not_forgotten(desk: Desk) -> None:
    trusted = Peer(host=HOST, domain="c.test", trust=Trust.TRUSTED)
    await commit(desk.store, Change(puts=(Put(None, trusted),)))
    one = await reported(desk)
    assert not one.quarantined
    assert not await forget_quarantined(desk.store, one, actor=ANNA, now=desk.now)
    assert await desk.record(keys.incident(one.id)) == one
