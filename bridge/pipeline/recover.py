"""What is done when a worker keeps dying over one item."""

import json
from datetime import datetime

from bridge import log
from bridge.errors import Condition, ErrorType, StanzaError
from bridge.policy.admit import host_lane
from bridge.policy.change import Append, Change, Forget, Mark, Queue
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
    name = keys.interaction(item["interaction"] if lease.queue is Queue.OUTGOING else item["id"])
    record = (await load.fetch(store, names=[name])).records[name] if item.get("interaction", True) else None
    change = Change(counts=(("set_aside", record.kind if isinstance(record, Interaction) else "answer"),))
    if isinstance(record, Interaction) and lease.queue is Queue.INCIDENTS:
        change += _fail(record, now)
    await commit(store, change, leases=[lease])
    fields = {"lane": lease.lane, "item": item["id"]}
    _log.error(
        "set aside after its worker died five times: report this as a bug, with the document", **fields
    )


def _fail(interaction: Interaction, now: datetime) -> Change:
    """Answer the peer, and forget the payload so that its repeat is tried anew."""
    stanza = write_error(_FAILED, to=interaction.sender, id=interaction.iq_id)
    item = {"id": interaction.id, "interaction": None, "stanza": stanza}
    return Change(
        marks=(Mark(interaction_id=interaction.id, state=InteractionState.FAILED, at=now),),
        forgets=(Forget(host=interaction.host, name=f"{interaction.peer}:{interaction.digest}"),),
        appends=(Append(queue=Queue.OUTGOING, lane=host_lane(interaction.host), item=item),),
    )
