"""What is done when a worker keeps dying over one item."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bridge import log
from bridge.errors import Condition, ErrorType, StanzaError
from bridge.pipeline.deliver_events import dead
from bridge.pipeline.mitigate import given_up
from bridge.policy import lanes, outgoing
from bridge.policy.admit import repeat_name
from bridge.policy.change import Change, Forget, Mark, Put, Queue
from bridge.policy.record import Interaction, InteractionState, Peer
from bridge.store import keys, load
from bridge.store.commit import Lease, StaleError, commit
from bridge.store.connect import Store
from bridge.xmpp.stanza import PeerError, write_error

_log = log.get(__name__)

_FAILED = StanzaError(
    ErrorType.WAIT,
    Condition.INTERNAL_SERVER_ERROR,
    "this server failed to handle the incident; its operators know",
)


_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class _NoPatience:
    """What ends here is not tried again."""

    answer_seconds: int = 0
    give_up_seconds: int = 0


async def set_aside(store: Store, lease: Lease, *, now: datetime) -> None:
    """Set aside the one item of a lease, visibly, and let its lane go on.

    A peer that waits is told to try again later; a sending of ours ends as refused, by ourselves; a mitigation fails.

    Raises:
        ConflictError: somebody else holds the lane now, or is faster each time; nothing was written.
    """
    item = json.loads(lease.items[0])
    for attempt in range(1, _ATTEMPTS + 1):
        change = Change(counts=(("set_aside", lease.queue),)) + await _ended(store, item, now=now)
        if lease.lane.startswith(lanes.approval_lane("")):
            change += await given_up(store, item, now=now)
        if lease.lane.startswith("endpoint:"):
            change += await dead(store, lease.lane.partition(":")[2], item)
        if lease.queue is Queue.INCIDENTS:
            change += await _failed(store, lease.lane.partition("|")[0], item, now=now)
        try:
            await commit(store, change, leases=[lease])
            break
        except StaleError:
            if attempt == _ATTEMPTS:
                raise
    _log.error(
        "set aside after its worker died five times: report this as a bug, with the document",
        lane=lease.lane,
        item=item["id"],
    )


async def _ended(store: Store, item: dict[str, Any], *, now: datetime) -> Change:
    """End the sending of ours that this item would have moved on; otherwise it would wait for ever."""
    interaction_id = item.get("send") or item.get("overdue") or item.get("answer")
    if interaction_id is None:
        return Change()
    name = keys.interaction(interaction_id)
    sent = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(sent, Interaction) or not _is_moved_by(item, sent):
        return Change()
    about = keys.peer(sent.host, sent.peer)
    known = (await load.fetch(store, names=[about])).records[about]
    peer = known if isinstance(known, Peer) else None
    text = "this server failed to send it"
    if "answer" in item:
        text = "this server failed to handle the answer to it"
    ours = outgoing.Answer(
        sender=sent.outreach.address if sent.outreach else sent.peer,
        is_bounce=False,
        failure=PeerError(type="cancel", condition="internal-server-error", text=text),
        is_own_fault=True,
    )
    after, counted, change = outgoing.settle(
        sent, peer or Peer(host=sent.host, domain=sent.peer), ours, now=now, patience=_NoPatience()
    )
    return change + Change(puts=(Put(sent, after), Put(peer, counted)))


def _is_moved_by(item: dict[str, Any], sent: Interaction) -> bool:
    """Whether the sending still waits for just this item."""
    if "send" in item:
        return sent.state is InteractionState.QUEUED
    if "overdue" in item:
        return sent.state is InteractionState.SENT and sent.attempts == item["attempt"]
    return sent.state in (InteractionState.QUEUED, InteractionState.SENT)


async def _failed(store: Store, host: str, item: dict[str, Any], *, now: datetime) -> Change:
    """Answer the peer that waits; forget the payload, so that its repeat is tried anew."""
    if "inquiry" in item:
        return _answer(host, item["sender"], item["iq_id"], item["id"])
    name = keys.interaction(item["id"])
    record = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(record, Interaction):
        return Change()
    return _answer(host, record.sender, record.iq_id, record.id) + Change(
        marks=(Mark(interaction_id=record.id, state=InteractionState.FAILED, at=now),),
        forgets=(Forget(host=host, name=repeat_name(record.peer, record.digest)),),
    )


def _answer(host: str, to: str, iq_id: str, item_id: str) -> Change:
    return Change(appends=(lanes.reply(host, write_error(_FAILED, to=to, id=iq_id), item_id=item_id),))
