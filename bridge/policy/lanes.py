"""Which lane work goes into, and the items that go there.

House rule: an item's `id` is made from what it is about, so that the same work queued twice is the same item.
"""

from typing import Any

from bridge.policy.change import Append, Queue
from bridge.xmpp.stanza import write_result


def host_lane(host: str) -> str:
    """Name the lane of what goes out through one host's Prosody."""
    return f"host:{host}"


def peer_lane(host: str, peer: str) -> str:
    """Name the lane of what concerns one peer and one host."""
    return f"{host}|{peer}"


def outgoing(host: str, item: dict[str, Any]) -> Append:
    """Queue an item for the host's Prosody."""
    return Append(queue=Queue.OUTGOING, lane=host_lane(host), item=item)


def incoming(host: str, peer: str, item: dict[str, Any]) -> Append:
    """Queue an item to be decided, behind everything else that concerns this peer."""
    return Append(queue=Queue.INCIDENTS, lane=peer_lane(host, peer), item=item)


def reply(host: str, stanza: str, *, item_id: str, interaction_id: str | None = None) -> Append:
    """Queue an answer as text; `interaction_id` names the interaction that is thereby answered."""
    return outgoing(host, {"id": item_id, "interaction": interaction_id, "stanza": stanza})


def answer(host: str, *, to: str, iq_id: str, item_id: str, interaction_id: str | None = None) -> Append:
    """Queue an empty `result`."""
    return reply(host, write_result(to=to, id=iq_id), item_id=item_id, interaction_id=interaction_id)


def send(host: str, interaction_id: str, attempt: int) -> Append:
    """Queue one attempt to send an interaction of ours."""
    return outgoing(host, {"id": f"{interaction_id}-s{attempt}", "interaction": None, "send": interaction_id})
