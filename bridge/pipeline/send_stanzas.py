"""What waits in a host's lane is handed to its Prosody."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

from bridge import log
from bridge.clients.prosody import ProsodyClient
from bridge.policy.change import Change, Mark
from bridge.policy.record import InteractionState

_log = log.get(__name__)


async def send_stanzas(prosody: ProsodyClient, host: str, items: Sequence[bytes], *, now: datetime) -> Change:
    """Hand a lane's items to the host's Prosody, in order; returns what to commit when that is done.

    The same items go out under the same `webhook-id`, so a repeat after a crash is recognised by Prosody.

    Raises:
        UnavailableError: Prosody did not take them; they stay in their lane.
    """
    decoded = [json.loads(item) for item in items]
    webhook_id = "s-" + hashlib.sha256(b"\n".join(items)).hexdigest()[:40]
    results = await prosody.send(host, [item["stanza"] for item in decoded], webhook_id=webhook_id)
    change = Change()
    for item, result in zip(decoded, results, strict=True):
        outcome = "error" if "error" in result else "dropped" if "dropped" in result else "sent"
        change += Change(counts=(("stanzas", outcome),), marks=_marks(item, outcome, now))
        fields = {"host": host, "interaction": item["interaction"], "item": item["id"]}
        if outcome == "error":
            reason = f"Prosody refused a stanza of ours, it is not sent again: {result['error']}"
            _log.error(reason, **fields)
        else:
            _log.info("answered" if outcome == "sent" else "dropped: answered by Prosody itself", **fields)
    return change


def _marks(item: dict[str, str | None], outcome: str, now: datetime) -> tuple[Mark, ...]:
    """Note on the interaction that its answer went out; a repeat's answer has no interaction of its own."""
    if outcome != "sent" or item["interaction"] is None:
        return ()
    return (Mark(interaction_id=item["interaction"], state=InteractionState.ANSWERED, at=now),)
