"""What operators decide about peers, and what of that the audit log keeps."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from bridge.errors import ConflictError
from bridge.pipeline.actors import Actor, audits
from bridge.policy.change import Audit, Change, Put
from bridge.policy.record import Peer
from bridge.policy.trust import Rule, Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.xep0268.model import Kind

_TRIES: Final = 20


def decided(
    peer: Peer, *, trust: Trust, rules: Mapping[Kind, Rule] | None = None, forward: bool = False
) -> Peer:
    """The peer with everything decided anew; without more than a trust, it has no rules and gets nothing passed on."""
    return replace(peer, trust=trust, rules=dict(rules or {}), is_forwarded_to=forward)


async def change_peer(
    store: Store,
    host: str,
    domain: str,
    change: Callable[[Peer], Peer],
    *,
    actor: Actor,
    now: datetime,
) -> Peer:
    """Change what a host's operators decided about a peer, as it is known by then; one never seen is a stranger.

    Args:
        store: where to.
        host: one of ours.
        domain: prepared, and not the host itself.
        change: given what is known, what shall be; called again where the peer sent something meanwhile.
        actor: who decides.
        now: the time.

    Raises:
        ConflictError: the peer keeps sending while we write.
    """
    name = keys.peer(host, domain)
    for _ in range(_TRIES):
        found = (await load.fetch(store, names=[name])).records[name]
        before = found if isinstance(found, Peer) else None
        known = before or Peer(host=host, domain=domain)
        after = change(known)
        if after == before:
            return after
        entries = tuple(_entries(known, after, actor, now))
        try:
            await commit(store, Change(puts=(Put(before, after),), audits=entries))
        except ConflictError:
            continue
        return replace(after, version=known.version + 1)
    raise ConflictError(f"{domain} keeps sending while we write; try again")


def _entries(before: Peer, after: Peer, actor: Actor, now: datetime) -> Iterator[Audit]:
    said = []
    if after.trust is not before.trust:
        said.append(("peer.trust", str(after.trust)))
    if dict(after.rules) != dict(before.rules):
        rules = ", ".join(f"{kind}: {rule}" for kind, rule in after.rules.items())
        said.append(("peer.rules", rules or "none"))
    if after.is_forwarded_to is not before.is_forwarded_to:
        said.append(("peer.forward", "on" if after.is_forwarded_to else "off"))
    for action, detail in said:
        yield from audits([after.host], actor, action, after.domain, now=now, detail=detail)
