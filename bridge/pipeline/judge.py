"""What an operator decides about a peer: its trust, its rules, whether reports go on to it."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from bridge.errors import ConflictError
from bridge.pipeline.actors import Actor
from bridge.policy.change import Audit, Change, Put
from bridge.policy.record import Peer
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

_ATTEMPTS: Final = 10


async def judge(
    store: Store,
    host: str,
    domain: str,
    change: Callable[[Peer], Peer],
    *,
    actor: Actor,
    action: str,
    now: datetime,
    detail: str = "",
) -> Peer:
    """Change what a host decided about a peer, and write down who did.

    Args:
        store: where to.
        host: which host decides.
        domain: the peer, prepared.
        change: makes the record from what it is now; called again if that changed meanwhile.
        actor: who decides.
        action: as in `change.Audit`.
        now: the time.
        detail: as in `change.Audit`.

    Raises:
        ConflictError: the peer sends faster than we write.
    """
    name = keys.peer(host, domain)
    audit = Audit(
        host=host, at=now, actor=actor.name, origin=actor.origin, action=action, target=domain, detail=detail
    )
    for _ in range(_ATTEMPTS):
        known = (await load.fetch(store, names=[name])).records[name]
        before = known if isinstance(known, Peer) else None
        after = change(before or Peer(host=host, domain=domain))
        if after == before:
            return after
        try:
            await commit(store, Change(puts=(Put(before, after),), audits=(audit,)))
        except ConflictError:
            continue
        return after
    raise ConflictError(f"{domain} keeps sending while we write; try again")
