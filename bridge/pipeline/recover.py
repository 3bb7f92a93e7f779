"""What is done when a worker keeps dying over one item."""

import json
from datetime import datetime
from typing import Any

from bridge import log
from bridge.errors import Condition, ErrorType, StanzaError
from bridge.policy import lanes
from bridge.policy.admit import repeat_name
from bridge.policy.change import Change, Forget, Mark, Queue
from bridge.policy.record import Interaction, InteractionState
from bridge.store import keys, load
from bridge.store.commit import Lease, commit
from bridge.store.connect import Store
from bridge.xmpp.stanza import write_error

_log = log.get(__name__)

_FAILED = StanzaError(
    ErrorType.WAIT,
    Condition.INTERNAL_SERVER_ERROR,
    "this server failed to handle the incident; its operators know",
)


async def set_aside(store: Store, lease: Lease, *, now: datetime) -> None:
    """Set aside the one item of a lease, visibly, tell its peer to try again later, and let its lane go on.

    Raises:
        ConflictError: somebody else holds the lane now; nothing was written.
    """
    item = json.loads(lease.items[0])
    change = Change(counts=(("set_aside", lease.queue),))
    if lease.queue is Queue.INCIDENTS:
        change += await _failed(store, lease.lane.partition("|")[0], item, now=now)
    await commit(store, change, leases=[lease])
    _log.error(
        "set aside after its worker died five times: report this as a bug, with the document",
        lane=lease.lane,
        item=item["id"],
    )


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
