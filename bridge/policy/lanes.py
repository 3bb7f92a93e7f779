"""Which lane work goes into, and the items that go there.

House rule: an item's `id` is made from what it is about, so that the same work queued twice is the same item.
"""

from datetime import datetime
from typing import Any

from bridge.policy.change import Append, Queue
from bridge.policy.feed_record import Feed
from bridge.policy.record import Interaction
from bridge.xmpp.stanza import write_result


def host_lane(host: str) -> str:
    """Name the lane of what goes out through one host's Prosody."""
    return f"host:{host}"


def events_lane(host: str) -> str:
    """Name the lane in which a host's new events ring (`store/scripts/commit.lua` writes the items)."""
    return f"events:{host}"


def endpoint_lane(endpoint_id: str) -> str:
    """Name the lane of the deliveries to one endpoint."""
    return f"endpoint:{endpoint_id}"


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


def answer(host: str, *, to: str, iq_id: str, item_id: str) -> Append:
    """Queue an empty `result`."""
    return reply(host, write_result(to=to, id=iq_id), item_id=item_id)


def acknowledge(interaction: Interaction) -> Append:
    """Queue the empty `result` that an interaction of a peer is answered with; `since` tells how long it waited."""
    stanza = write_result(to=interaction.sender, id=interaction.iq_id)
    item = {"id": interaction.id, "interaction": interaction.id, "stanza": stanza}
    return outgoing(interaction.host, {**item, "since": interaction.received_at.timestamp()})


def send(host: str, interaction_id: str, attempt: int) -> Append:
    """Queue one attempt to send an interaction of ours."""
    return outgoing(host, {"id": f"{interaction_id}-s{attempt}", "interaction": None, "send": interaction_id})


def approval_lane(host: str) -> str:
    """Name the lane of what is done on one host's server, and of what expires there.

    It is not the host's, so that a Prosody that is away keeps nothing from being given up or declined in time.
    """
    return f"approval:{host}"


def approval(host: str, item: dict[str, Any]) -> Append:
    """Queue an item about an approval or a mitigation."""
    return Append(queue=Queue.OUTGOING, lane=approval_lane(host), item=item)


def preview(host: str, approval_id: str, *, nonce: str = "") -> Append:
    """Queue the question what an approval's mitigations would touch; `nonce` tells a further one from the first."""
    return approval(host, {"id": f"{approval_id}-p{nonce}", "preview": approval_id})


def carry_out(host: str, mitigation_id: str, revision: int, *, nonce: str = "") -> Append:
    """Queue telling Prosody of a mitigation's newest revision: that it begins, or ends."""
    item_id = f"{mitigation_id}-r{revision}{nonce}"
    return approval(host, {"id": item_id, "carry_out": mitigation_id, "revision": revision})


def compare(host: str, at: datetime) -> Append:
    """Queue comparing what is recorded with what Prosody has in force."""
    return approval(host, {"id": f"{host}-c{at.timestamp()}", "reconcile": host, "at": at.isoformat()})


def missing(host: str, mitigation_id: str, how: str) -> Append:
    """Queue noting that Prosody no longer has a mitigation; `how` it ended there, "" where that is not known."""
    return approval(host, {"id": f"{mitigation_id}-m", "missing": mitigation_id, "how": how})


def in_force(host: str, mitigation_id: str, revision: int) -> Append:
    """Queue noting that Prosody has a mitigation in force that failed as far as is recorded."""
    item = {"id": f"{mitigation_id}-f{revision}", "in_force": mitigation_id, "revision": revision}
    return approval(host, item)


def publish_lane(host: str) -> str:
    """Name the lane of bringing a host's published lists up to date."""
    return f"lists:{host}"


def publish(host: str, at: datetime) -> Append:
    """Queue bringing a host's published lists up to date."""
    item = {"id": f"{host}-l{at.timestamp()}", "publish": host}
    return Append(queue=Queue.OUTGOING, lane=publish_lane(host), item=item)


def read_feed(feed: Feed, at: datetime) -> Append:
    """Queue reading a list of others: a node through the host's Prosody, a page beside what goes to endpoints."""
    queue = Queue.OUTGOING if feed.scheme == "xmpp" else Queue.DELIVERIES
    item = {"id": f"{feed.id}-{at.timestamp()}", "feed": feed.id}
    return Append(queue=queue, lane=f"feed:{feed.id}", item=item)


def forget_node(feed: Feed, at: datetime) -> Append:
    """Queue telling the host's Prosody that nobody reads a node any more."""
    item = {"id": f"{feed.id}-f{at.timestamp()}", "host": feed.host, "forget": list(feed.node)}
    return Append(queue=Queue.OUTGOING, lane=f"feed:{feed.id}", item=item)


def deliver(endpoint_id: str, host: str, sequence: int, *, nonce: str = "") -> Append:
    """Queue one attempt to deliver a host's event; `nonce` tells a further attempt from the first."""
    item = {"id": f"{endpoint_id}-{host}-{sequence}{nonce}", "host": host, "sequence": sequence}
    return Append(queue=Queue.DELIVERIES, lane=endpoint_lane(endpoint_id), item=item)


def thank(host: str, draft_id: str, interaction_id: str, why: str) -> Append:
    """Queue telling users that their reports were passed on, by this interaction; `why` we think so."""
    item_id = f"{draft_id}-t{interaction_id}-{why}"
    item = {"id": item_id, "interaction": None, "thank": draft_id, "by": interaction_id}
    return outgoing(host, item)


def tell(host: str, text: str, *, item_id: str) -> Append:
    """Queue a message of fixed text to the host's admins."""
    return outgoing(host, {"id": item_id, "interaction": None, "text": text})
