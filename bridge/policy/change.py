"""The one vocabulary in which a decision says what is to be written; `store.commit` carries it out, all or nothing.

House rule: a change speaks of records, lanes and events, never of keys; merging changes is concatenation.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bridge.policy.abuse_record import AbuseKind, Shortage
from bridge.policy.record import InteractionState, Record
from bridge.policy.stages import Time
from bridge.xep0268.model import Kind


class Queue(StrEnum):
    """The RQ queues; each has its own worker process.

    Attributes:
        INCIDENTS: what peers sent is decided; no network.
        OUTGOING: what goes through the hosts' Prosodys.
        DELIVERIES: events on their way to the endpoints of other programs, which give way to the rest.
    """

    INCIDENTS = "incidents"
    OUTGOING = "outgoing"
    DELIVERIES = "deliveries"


@dataclass(frozen=True, slots=True)
class Put:
    """Write `after` where the store still holds `before` (None: nothing); otherwise the commit is stale."""

    before: Record | None
    after: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Move a stored interaction on to `state`, without loading or versioning its record; nothing if it is gone."""

    interaction_id: str
    state: InteractionState
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Remember:
    """Remember a fact under a name, for `ttl_seconds`.

    Attributes:
        value: an id, or two with a space between them.
        is_new: the commit is stale if something is remembered under that name already; else it is replaced.
    """

    host: str
    name: str
    value: str
    ttl_seconds: int
    is_new: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Forget a remembered payload, so that its repeat counts as new."""

    host: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Append one item to a lane; items are small JSON objects of names and ids whose `id` is unique for ever."""

    queue: Queue
    lane: str
    item: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One webhook event (DESIGN §7) for the host's stream; the store adds `sequence`."""

    host: str
    id: str
    type: str
    timestamp: datetime
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """Append `item` to the lane when the store's clock reaches `due_at`; the same `name` replaces an earlier timer."""

    name: str
    due_at: datetime
    append: Append


class Telling(StrEnum):
    """The two messages that a host's admins get; the value is also the name of what waits in the host's lane."""

    NOTICE = "notice"
    DIGEST = "digest"  # of strangers


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Add to what a host's admins are to be told, without loading it: workers who note do not wait for each other.

    Attributes:
        kind: of an interaction; or for what users began to report the peer; or what they report finds no place.
        count: how many interactions more; negative once they were told of.
    """

    host: str
    telling: Telling
    peer: str
    kind: Kind | AbuseKind | Shortage
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Who did what: one entry of the host's audit log.

    Attributes:
        actor: a JID, `token:<name>`, `cli:<user>`, or `bridge` for what it did by itself.
        origin: from where: an address, or "".
        action: a dotted word such as `peer.trust`, `endpoint.add`, `approval.approve`.
        target: the id or domain it was done to.
        detail: for people, in a few words; no secret, no text of a document.
    """

    host: str
    at: datetime
    actor: str
    action: str
    target: str
    origin: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """Delete the host's events before the one numbered `sequence`."""

    host: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Everything one decision writes.

    Attributes:
        drops: records to delete, as loaded; stale if they changed since.
        counts: counters to raise by one, shown at /metrics, as (name, label values…).
        times: how long stages took, shown there too.
    """

    puts: tuple[Put, ...] = ()
    drops: tuple[Record, ...] = ()
    marks: tuple[Mark, ...] = ()
    remembers: tuple[Remember, ...] = ()
    forgets: tuple[Forget, ...] = ()
    appends: tuple[Append, ...] = ()
    events: tuple[Event, ...] = ()
    timers: tuple[Timer, ...] = ()
    tallies: tuple[Tally, ...] = ()
    counts: tuple[tuple[str, ...], ...] = ()
    times: tuple[Time, ...] = ()
    audits: tuple[Audit, ...] = ()
    trims: tuple[Trim, ...] = ()

    def __add__(self, other: "Change") -> "Change":
        """Both, in this order; a record put twice must be folded before (`decide` does)."""
        return Change(
            puts=self.puts + other.puts,
            drops=self.drops + other.drops,
            marks=self.marks + other.marks,
            remembers=self.remembers + other.remembers,
            forgets=self.forgets + other.forgets,
            appends=self.appends + other.appends,
            events=self.events + other.events,
            timers=self.timers + other.timers,
            tallies=self.tallies + other.tallies,
            counts=self.counts + other.counts,
            times=self.times + other.times,
            audits=self.audits + other.audits,
            trims=self.trims + other.trims,
        )


@dataclass(frozen=True, slots=True)
class Sent:
    """What one call to somebody else did: how many of a lane's items, from the first, and what to commit about them."""

    count: int
    change: Change
