"""Who does something that the audit log keeps."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bridge.policy.change import Audit


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it, and from where.

    Attributes:
        name: a JID, `token:<name>`, `cli:<user>`, or `bridge` for what it does by itself.
        origin: an address, or "".
    """

    name: str
    origin: str = ""


def audits(
    hosts: Iterable[str], actor: Actor, action: str, target: str, *, now: datetime, detail: str = ""
) -> tuple[Audit, ...]:
    """Make the entries of what was done: one in the log of each host that it concerns.

    What concerns the bridge as a whole (no host) goes into the log under the name "".
    """
    return tuple(
        Audit(
            host=host,
            at=now,
            actor=actor.name,
            origin=actor.origin,
            action=action,
            target=target,
            detail=detail,
        )
        for host in (tuple(hosts) or ("",))
    )


BRIDGE = Actor(name="bridge")
