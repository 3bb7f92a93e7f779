"""What the store keeps: one frozen class for each kind of record.

House rules: a record is a value; `version` is the one it was loaded with (0: not stored yet) and only `commit`
raises it. A record's place in the store and its indexes are derived from its fields by `store/keys.py`, so that
indexes can be rebuilt from records. New fields need a default, so that older records stay readable.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from bridge.iodef.model import HistoryItem, IncidentId, Restriction
from bridge.iodef.model import Incident as Document
from bridge.iodef.repair import Repair
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.consumers import Delivery, Endpoint, Fanout, Token
from bridge.policy.decisions import Approval, Mitigation, Triage
from bridge.policy.feed_record import Feed, FeedNames
from bridge.policy.listing import Listing
from bridge.policy.outreach import Outreach
from bridge.policy.sessions import Session, SignIn
from bridge.policy.trust import Rule, Stream, Trust
from bridge.xep0268.model import Kind, Status
from bridge.xmpp.stanza import PeerError


class Way(StrEnum):
    """Whether an interaction came from a peer or goes to one."""

    RECEIVED = "received"
    SENT = "sent"


class InteractionState(StrEnum):
    """How far an interaction got: those we received first, then those we send."""

    STORED = "stored"  # acknowledged to Prosody, not yet decided
    DECIDED = "decided"  # its incident is written and its answer queued
    ANSWERED = "answered"  # Prosody took the answer
    FAILED = "failed"  # set aside after repeated death of its worker; the peer gets an error
    QUEUED = "queued"  # waits to be sent, for the first time or again
    SENT = "sent"  # Prosody took it; the peer has not answered
    ACKNOWLEDGED = "acknowledged"  # the peer answered with a result
    REFUSED = "refused"  # the peer answered with an error; `failure` has it
    UNREACHABLE = "unreachable"  # our server could not reach the peer's; given up after a day
    UNANSWERED = "unanswered"  # no answer in time, several times; given up after a day


class Outcome(StrEnum):
    """What came of a request."""

    DONE = "done"
    DECLINED = "declined"
    PARTLY = "partly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """One report, inquiry, request or response, received or sent; its bytes lie beside it in `original`.

    Attributes:
        peer: the domain that the stream authenticated; everything hangs on it.
        sender: the JID in the IQ's `from`; with `iq_id` it addresses the answer, nothing else.
        digest: equal for equal payloads after canonicalisation; see `xmpp.xml.digest`.
        status: what the document itself says, None if it says nothing.
        state: with `state_at`, moved on by `change.Mark` without writing the record again.
        original: of one received, the stanza as Prosody wrote it; of one sent, its payload. None unless asked for
            when loading.
        rule: what the operator's rules made of it; it is quarantined or told to the admins accordingly.
        answers: the interaction that this one answers: a response its request, a report its inquiry (of which
            nothing but the id is kept where a peer made it).
        copy_of: of one sent, the interaction whose document it passes on; its own bytes go once it is settled.
        outcome: of a request (once it is answered) or of a response.
        attempts: how often it was handed to Prosody; `first_sent_at` and `sent_at`, when.
        retry_at: when it is sent again; None: not.
        failure: why it was not acknowledged, as far as is known: the peer's own error, or what our server says.
        outreach: of one sent, the person it went to because the server does not speak XEP-0268; `sent` and
            `acknowledged` then mean: written to, and answered.
        draft_id: of one sent, the draft of users' reports that it was made of; they are thanked once it arrived.
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
    rule: Rule = Rule.ACCEPT
    answers: str | None = None
    copy_of: str | None = None
    outcome: Outcome | None = None
    attempts: int = 0
    first_sent_at: datetime | None = None
    sent_at: datetime | None = None
    retry_at: datetime | None = None
    failure: PeerError | None = None
    outreach: Outreach | None = None
    draft_id: str | None = None
    original: bytes | None = None
    version: int = 0

    @property
    def is_about_own(self) -> bool:
        """Whether it is about an incident that this host reported itself."""
        return self.incident_id == incident_id(self.host, self.host, self.document.identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """One version of an incident: the interaction that brought it, and whether that lies in quarantine."""

    interaction_id: str
    received_at: datetime
    status: Status
    quarantined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What one peer told one host under one IncidentID; its content is that of `current`.

    Attributes:
        id: made from (host, reporter, identity) by `incident_id`, so the same incident is found without an index.
        editions: oldest first; bounded by `decide`, the first always kept.
        summary: one line for lists, from the newest document; hostile text, to be escaped where shown.
        restriction: of the newest document, as it stands there; `default` is not resolved.
        sources: addresses of the newest document, at most `MAX_INDEXED`, by which incidents are found that match.
        parties: domains named as source or target in the newest document.
        told: the peers that were sent this incident; corrections and its resolution go to exactly these.
        history: what this host did about it and undid, oldest first, at most `MAX_HISTORY`.
        only_to: the only peers that may ever have it, where the users whose reports it is made of agreed to no more;
            empty: any.
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
    restriction: Restriction = Restriction.PRIVATE
    sources: tuple[str, ...] = ()
    parties: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    history: tuple[HistoryItem, ...] = ()
    only_to: tuple[str, ...] = ()
    version: int = 0

    @property
    def is_own(self) -> bool:
        """Whether this host itself reported it."""
        return self.reporter == self.host

    @property
    def current(self) -> Edition:
        """The edition that counts: the newest, but none in quarantine where the incident is not.

        A weak stream in a trusted peer's name can add to an incident, and changes nothing of it.
        """
        trusted = (one for one in reversed(self.editions) if not one.quarantined)
        return self.editions[-1] if self.quarantined else next(trusted, self.editions[-1])


MAX_INDEXED = 50
MAX_HISTORY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A remote server's domain as one host knows it; written only when something of it is stored or decided.

    Attributes:
        quarantined: how many of its interactions lie in quarantine.
        received: interactions stored.
        rules: what becomes of each kind, where the operator decided that.
        is_forwarded_to: whether reports of others go on to this peer.
        announces: whether its disco#info announces XEP-0268; None: it was not asked, or did not answer.
        contacts: its operators' addresses as disco#info names them, see `outreach.contacts_in`; None: as above.
        sent: interactions first handed to Prosody; the four after it, what came of them.
        answer_seconds: how long its last answers took, newest last, at most `MAX_ANSWER_TIMES`.
        requested: requests among those; of how many of them its operators acted (in part, too) or declined, and how
            long that took (`decision_seconds`, as `answer_seconds`).
        automatic: which action was carried out for it without a person's yes, and when; of the last day.
    """

    host: str
    domain: str
    trust: Trust = Trust.STRANGER
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    received: int = 0
    repeated: int = 0
    quarantined: int = 0
    rules: Mapping[Kind, Rule] = field(default_factory=dict)
    is_forwarded_to: bool = False
    announces: bool | None = None
    contacts: tuple[str, ...] | None = None
    asked_at: datetime | None = None
    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    unreachable: int = 0
    unanswered: int = 0
    answer_seconds: tuple[float, ...] = ()
    automatic: tuple[tuple[str, datetime], ...] = ()
    requested: int = 0
    acted: int = 0
    declined: int = 0
    decision_seconds: tuple[float, ...] = ()
    version: int = 0


MAX_ANSWER_TIMES = 50


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """When the host's admins were told last, of others and in the digest of strangers; what waits is in tallies.

    Attributes:
        short_at: when it was noted last that they are to be told that not all that users report is kept.
    """

    host: str
    told_at: datetime | None = None
    digest_told_at: datetime | None = None
    short_at: datetime | None = None
    version: int = 0


Record = (
    Interaction
    | Incident
    | Peer
    | Bucket
    | Quarantine
    | Notices
    | Endpoint
    | Delivery
    | Fanout
    | Token
    | Triage
    | Approval
    | Mitigation
    | Listing
    | SignIn
    | Session
    | AbuseDraft
    | Feed
    | FeedNames
)


def incident_id(host: str, reporter: str, identity: IncidentId) -> str:
    """Name the incident that `reporter` told `host` under `identity`: 16 characters, lower case, typeable.

    The name inside the identity is compared without case, the text exactly (RFC 5070 §3.3).
    """
    return derived_id(host, reporter, identity.name.casefold(), identity.text, identity.instance or "")


def derived_id(*parts: str) -> str:
    """Name something by what it is about, so that deciding twice names the same: 16 characters."""
    packed = b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode() for text in parts))
    return base64.b32encode(hashlib.sha256(packed).digest()[:10]).decode().lower()
