"""What is stored about the programs of others: endpoints, what is delivered to them, tokens of the API.

House rules: as in `record`, which lists every record there is.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class DeliveryState(StrEnum):
    """How far one webhook delivery got."""

    PENDING = "pending"  # tried at least once, and tried again at `next_at`
    DELIVERED = "delivered"
    DEAD = "dead"  # given up; it can be delivered anew


class QuarantineFilter(StrEnum):
    """Whether an endpoint is told of what lies in quarantine."""

    EXCLUDE = "exclude"
    INCLUDE = "include"
    ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where webhook events go, and which.

    Attributes:
        hosts: whose events it gets; never empty.
        secret: `whsec_…`; it signs every delivery. `old_secret` signs too, until `old_secret_until`.
        since: by host, the sequence of the newest event when it was added; it gets later ones only.
        types: the event types it wants; empty: all. So with `peers` (domains) and `severities`.
        headers: sent along with every delivery.
        failing_since: when the first of the failures that nothing interrupted began.
        told_at: when the operators were last told of those.
        disabled_reason: why it gets nothing, for people; None: it is enabled.
    """

    id: str
    url: str
    hosts: tuple[str, ...]
    secret: str = field(repr=False)
    created_at: datetime
    since: Mapping[str, int] = field(default_factory=dict)
    description: str = ""
    types: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    quarantined: QuarantineFilter = QuarantineFilter.EXCLUDE
    includes_xml: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    old_secret: str | None = field(default=None, repr=False)
    old_secret_until: datetime | None = None
    failing_since: datetime | None = None
    told_at: datetime | None = None
    disabled_reason: str | None = None
    disabled_at: datetime | None = None
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One POST of a delivery.

    Attributes:
        status: the HTTP status; None: there was no answer, and `error` says why.
        answer: the first KiB of the answer's body; hostile text, to be escaped where shown.
    """

    at: datetime
    duration_ms: int
    status: int | None = None
    error: str = ""
    answer: str = ""


MAX_ATTEMPTS_KEPT = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one endpoint; written when it was first tried.

    Attributes:
        tries: attempts since it was last (re)queued; they say when the next one is.
        attempts: oldest first, at most `MAX_ATTEMPTS_KEPT`.
        next_at: of one pending, when it is tried again.
    """

    id: str
    endpoint_id: str
    host: str
    event_id: str
    event_type: str
    sequence: int
    created_at: datetime
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    attempts: tuple[Attempt, ...] = ()
    next_at: datetime | None = None
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fanout:
    """How far a host's events were handed on to the lanes of its endpoints: up to `sequence`."""

    host: str
    sequence: int = 0
    version: int = 0


class Scope(StrEnum):
    """What a token may do; none includes another, but every token may read."""

    READ = "read"
    WRITE = "write"  # send, triage, set peers, manage endpoints
    APPROVE = "approve"  # approve and decline, lift mitigations
    ADMIN = "admin"  # all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token of the API, without its secret.

    Attributes:
        digest: SHA-256 of the whole token, in hexadecimal.
        hosts: what it is good for; empty: every host, those added later too.
    """

    id: str
    name: str
    digest: str = field(repr=False)
    scopes: tuple[Scope, ...]
    created_at: datetime
    hosts: tuple[str, ...] = ()
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    version: int = 0


def delivery_id(endpoint_id: str, host: str, sequence: int) -> str:
    """Name the delivery of a host's event to an endpoint, so that a repeated attempt finds it: 16 characters."""
    packed = f"{endpoint_id} {host} {sequence}".encode()
    return base64.b32encode(hashlib.sha256(packed).digest()[:10]).decode().lower()
