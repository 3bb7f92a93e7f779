"""What the store keeps: one frozen class for each kind of record.

House rules: a record is a value; `version` is the one it was loaded with (0: not stored yet) and only `commit`
raises it. A record's place in the store and its indexes are derived from its fields by `store/keys.py`, so that
indexes can be rebuilt from records. New fields need a default, so that older records stay readable.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId
from bridge.iodef.repair import Repair
from bridge.policy.trust import Stream, Trust
from bridge.xep0268.model import Kind, Status


class Way(StrEnum):
    """Whether an interaction came from a peer or goes to one."""

    RECEIVED = "received"
    SENT = "sent"


class InteractionState(StrEnum):
    """How far an interaction got."""

    STORED = "stored"  # acknowledged to Prosody, not yet decided
    DECIDED = "decided"  # its incident is written and its answer queued
    ANSWERED = "answered"  # Prosody took the answer
    FAILED = "failed"  # set aside after repeated death of its worker; the peer gets an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One report, inquiry, request or response, as it came; the original bytes lie beside it in `original`.

    Attributes:
        peer: the domain that the stream authenticated; everything hangs on it.
        sender: the JID in the IQ's `from`; with `iq_id` it addresses the answer, nothing else.
        digest: equal for equal payloads after canonicalisation; see `xmpp.xml.digest`.
        status: what the document itself says, None if it says nothing.
        state: with `state_at`, moved on by `change.Mark` without writing the record again.
        original: the stanza as Prosody wrote it; None unless asked for when loading.
    """

    id: str
    host: str
    peer: str
    kind: Kind
    way: Way
    sender: str
    iq_id: str
    received_at: datetime
    stream: Stream
    trust: Trust
    quarantined: bool
    digest: str
    status: Status | None
    document: Document
    repairs: tuple[Repair, ...]
    incident_id: str
    state: InteractionState = InteractionState.STORED
    state_at: datetime | None = None
    original: bytes | None = None
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """One version of an incident: the interaction that brought it."""

    interaction_id: str
    received_at: datetime
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What one peer told one host under one IncidentID; its content is that of the newest edition's interaction.

    Attributes:
        id: made from (host, reporter, identity) by `incident_id`, so the same incident is found without an index.
        editions: oldest first; bounded by `decide`, the first always kept.
        summary: one line for lists, from the newest document; hostile text, to be escaped where shown.
    """

    id: str
    host: str
    reporter: str
    identity: IncidentId
    status: Status
    quarantined: bool
    severity: str | None
    summary: str
    created_at: datetime
    updated_at: datetime
    editions: tuple[Edition, ...]
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A remote server's domain as one host knows it; written only when something of it is stored or decided.

    Attributes:
        quarantined: how many of its interactions lie in quarantine.
        received: interactions stored.
    """

    host: str
    domain: str
    trust: Trust = Trust.STRANGER
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    received: int = 0
    repeated: int = 0
    quarantined: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A token bucket as stored; `name` is a peer's domain, or `STRANGERS` for all of them together."""

    host: str
    name: str
    tokens: float
    updated_at: datetime
    ttl_seconds: int
    version: int = 0


STRANGERS = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """How much of what strangers sent a host holds."""

    host: str
    interactions: int = 0
    size_bytes: int = 0
    version: int = 0


Record = Interaction | Incident | Peer | Bucket | Quarantine


def incident_id(host: str, reporter: str, identity: IncidentId) -> str:
    """Name the incident that `reporter` told `host` under `identity`: 16 characters, lower case, typeable.

    The name inside the identity is compared without case, the text exactly (RFC 5070 §3.3).
    """
    parts = (host, reporter, identity.name.casefold(), identity.text, identity.instance or "")
    packed = b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode() for text in parts))
    return base64.b32encode(hashlib.sha256(packed).digest()[:10]).decode().lower()
