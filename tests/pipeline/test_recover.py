"""What killed its worker five times is set aside, and nothing of ours waits for it for ever."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.config import PolicySettings
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId, Restriction
from bridge.pipeline import originate
from bridge.pipeline.originate import Origin
from bridge.pipeline.recover import set_aside
from bridge.policy import lanes, outgoing
from bridge.policy.change import Append, Change, Put, Queue
from bridge.policy.record import Interaction, InteractionState, Peer
from bridge.store import keys, load
from bridge.store.commit import Lease, commit, finished
from bridge.store.connect import Script, Store
from bridge.store.lanes import take
from bridge.xmpp.stanza import PeerError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOST, PEER = "a.test", "b.test"


async def loaded(store: Store, interaction_id: str) -> Interaction:
    name = keys.interaction(interaction_id)
    found = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(found, Interaction)
    return found


async def peer_of(store: Store) -> Peer:
    name = keys.peer(HOST, PEER)
    found = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(found, Peer)
    return found


async def send(store: Store) -> Interaction:
    """Queue a report of ours."""
    origin = Origin(host=HOST, to=(PEER,), now=NOW, new_id=lambda: "sent")
    mine = Document(identity=IncidentId(name=HOST, text="1"), restriction=Restriction.NEED_TO_KNOW)
    (one,) = (await originate.report(store, origin, mine)).interactions
    return one


async def hand_over(store: Store) -> Interaction:
    """Note that Prosody took it."""
    before = await loaded(store, "sent")
    after, change = outgoing.handed_over(before, now=NOW, patience=PolicySettings())
    await commit(store, change)
    return after


async def lease_of(store: Store, queue: Queue, word: str) -> Lease:
    """Take the lane up to the item of this kind; what lies before it is finished."""
    (lease,) = (await take(store, queue, "test")).leases
    at = next(n for n, item in enumerate(lease.items) if word in json.loads(item))
    if at:
        await commit(store, Change(), leases=[finished(lease, lease.items[:at])], keep=64)
    return finished(lease, [lease.items[at]])


async def append(store: Store, item: dict[str, Any]) -> None:
    appended: Append = lanes.incoming(HOST, PEER, item)
    await commit(store, Change(appends=(appended,)))


async def test_a_sending_that_kills_its_worker_ends_as_refused_by_ourselves(store: Store) -> None:
    await send(store)
    lease = await lease_of(store, Queue.OUTGOING, "send")

    await set_aside(store, lease, now=NOW)

    ended = await loaded(store, "sent")
    assert ended.state is InteractionState.REFUSED
    assert ended.failure == PeerError(
        type="cancel", condition="internal-server-error", text="this server failed to send it"
    )
    (event,) = [body for _, body in await load.events(store, HOST, after=0, limit=9)]
    assert (event["type"], event["data"]["failure"]["text"]) == (
        "interaction.refused",
        "this server failed to send it",
    )
    peer = await peer_of(store)
    assert (peer.sent, peer.refused) == (1, 1)
    assert (await load.health(store)).lanes[Queue.OUTGOING].items == 0
    assert (await load.health(store)).set_aside == 1


@pytest.mark.parametrize("kind", ["overdue", "answer"])
async def test_a_sending_whose_answer_kills_the_worker_waits_no_longer(store: Store, kind: str) -> None:
    await send(store)
    sent = await hand_over(store)
    result = outgoing.Answer(sender=PEER, is_bounce=False, failure=None)
    items = {
        "overdue": {"id": "sent-o1", "overdue": sent.id, "attempt": 1},
        "answer": outgoing.answer_item("x", sent.iq_id, result),
    }
    await append(store, items[kind])

    await set_aside(store, await lease_of(store, Queue.INCIDENTS, kind), now=NOW)

    ended = await loaded(store, "sent")
    assert ended.state is InteractionState.REFUSED
    assert ended.failure is not None
    assert ended.failure.text.startswith("this server failed to ")


async def test_an_item_that_came_too_late_ends_nothing(store: Store) -> None:
    await send(store)
    lease = await lease_of(store, Queue.OUTGOING, "send")
    await hand_over(store)
    await append(store, {"id": "sent-o7", "overdue": "sent", "attempt": 7})

    await set_aside(store, lease, now=NOW)
    await set_aside(store, await lease_of(store, Queue.INCIDENTS, "overdue"), now=NOW)

    assert (await loaded(store, "sent")).state is InteractionState.SENT


async def test_whoever_was_faster_does_not_keep_it_from_being_set_aside(store: Store) -> None:
    await send(store)
    lease = await lease_of(store, Queue.OUTGOING, "send")
    script = store.scripts[Script.COMMIT]

    async def late(**arguments: object) -> object:
        store.scripts[Script.COMMIT] = script
        peer = await peer_of(store)
        await commit(store, Change(puts=(Put(peer, peer),)))
        return await script(**arguments)

    store.scripts[Script.COMMIT] = late
    await set_aside(store, lease, now=NOW)

    assert (await loaded(store, "sent")).state is InteractionState.REFUSED
