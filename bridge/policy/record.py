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
from typing import Any

from bridge.iodef.model import HistoryItem, IncidentId, Restriction
from bridge.iodef.model import Incident as Document
from bridge.iodef.repair import Repair
from bridge.policy.abuse_record import AbuseDraft
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
    original: bytes | None = None
    version: int = 0


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
    """When the host's admins were told last, of others and in the digest of strangers; what waits is in tallies."""

    host: str
    told_at: datetime | None = None
    digest_told_at: datetime | None = None
    version: int = 0


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


class TriageState(StrEnum):
    """Where an operator is with an incident; an incident without a `Triage` is open."""

    OPEN = "open"
    IN_PROGRESS = "in-progress"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an operator wrote down."""

    at: datetime
    by: str
    text: str


MAX_NOTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Triage:
    """What the operators of this host think of an incident; never told to a peer.

    Attributes:
        assignee: who looks after it, as that person is called here (a JID, a token's name); "": nobody.
        resolution: for people, why it is closed.
        notes: oldest first, at most `MAX_NOTES`.
    """

    incident_id: str
    host: str
    state: TriageState = TriageState.OPEN
    assignee: str = ""
    resolution: str = ""
    notes: tuple[Note, ...] = ()
    updated_at: datetime | None = None
    version: int = 0


class MitigationType(StrEnum):
    """What this host can do, by the name of the command to Prosody (DESIGN §4)."""

    SUSPEND = "account.suspend"
    BLOCK = "domain.block"
    BAN = "room.ban"


class TargetState(StrEnum):
    """How far one target of an approval got; what becomes of its mitigation later stands there."""

    OFFERED = "offered"  # one yes and it is carried out
    SHOWN = "shown"  # there is nothing this host can do; `reason` says why
    LEFT_OUT = "left-out"  # the operator said yes to others only
    APPROVED = "approved"  # being carried out
    APPLIED = "applied"
    FAILED = "failed"  # `reason` says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing to do, to one address.

    Attributes:
        action: what was asked for, in IODEF's words.
        address: as the request names it; hostile text, to be escaped where shown.
        type: None: nothing can be done.
        fields: whom or what Prosody is told: `account`, `domain`, or `room` and `jid`, each a prepared JID.
        second_yes: why one yes is not enough; "": it is.
        preview: what it would touch on this server, as Prosody said; {"error": why} where it did not.
        mitigation_id: set once it is approved.
    """

    action: str
    address: str
    type: MitigationType | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    state: TargetState = TargetState.SHOWN
    reason: str = ""
    second_yes: str = ""
    preview: Mapping[str, Any] | None = None
    mitigation_id: str | None = None


class ApprovalState(StrEnum):
    """How far an approval got."""

    OPEN = "open"  # waits for an operator
    APPROVED = "approved"  # being carried out
    DONE = "done"  # all that was approved is done
    PARTLY = "partly"  # some of it failed
    FAILED = "failed"  # all of it failed
    DECLINED = "declined"
    EXPIRED = "expired"  # nobody decided in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An operator's yes or no to a request, or what an operator does unasked.

    Attributes:
        id: that of the request, if there is one.
        request: the interaction that asks for it; None: an operator acts unasked.
        requester: the peer that asked; "" where nobody did.
        expires_at: while it is open: when it is declined because nobody decided.
        previewed_at: when Prosody was last asked what the targets' mitigations would touch.
        decided_by: who, as in `change.Audit`; `decided_from`: from which address.
        had_second_yes: whether the operator said yes to protected names.
        is_automatic: a rule said yes (`policy.approve_automatically`).
        reason: for people: why it was declined, or done.
    """

    id: str
    host: str
    incident_id: str
    request: str | None
    requester: str
    targets: tuple[Target, ...]
    created_at: datetime
    expires_at: datetime
    state: ApprovalState = ApprovalState.OPEN
    previewed_at: datetime | None = None
    decided_by: str = ""
    decided_from: str = ""
    decided_at: datetime | None = None
    had_second_yes: bool = False
    is_automatic: bool = False
    reason: str = ""
    version: int = 0


class MitigationState(StrEnum):
    """Where a mitigation is."""

    PENDING = "pending"  # approved; Prosody has not said yet that it is in force
    APPLIED = "applied"
    LIFTING = "lifting"  # taken back; Prosody has not said yet that it is over
    LIFTED = "lifted"
    EXPIRED = "expired"
    FAILED = "failed"  # it could not be applied, or not be lifted; `failure` says which and why


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigation:
    """Something done on our server to one target.

    Attributes:
        target: as in `Target.fields`.
        revision: of the last command about it; Prosody ignores older ones.
        asked_at: when the operator asked for that; it is tried for a day.
        tries: how often Prosody was asked, and was not reachable.
        by: who approved it; `lifted_by`: who took it back.
        reason: for people, as Prosody is told; never text of a document.
        ended_at: when it was lifted, expired or failed.
        failure: what went wrong last.
        note: what an operator should know of how it ended.
    """

    id: str
    host: str
    type: MitigationType
    target: Mapping[str, str]
    action: str
    incident_id: str
    approval_id: str
    created_at: datetime
    asked_at: datetime
    expires_at: datetime
    by: str
    reason: str
    revision: int = 1
    state: MitigationState = MitigationState.PENDING
    tries: int = 0
    applied_at: datetime | None = None
    ended_at: datetime | None = None
    lifted_by: str = ""
    failure: str = ""
    note: str = ""
    version: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it is in force, or about to begin or end."""
        return self.state in {MitigationState.PENDING, MitigationState.APPLIED, MitigationState.LIFTING}


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
)


def incident_id(host: str, reporter: str, identity: IncidentId) -> str:
    """Name the incident that `reporter` told `host` under `identity`: 16 characters, lower case, typeable.

    The name inside the identity is compared without case, the text exactly (RFC 5070 §3.3).
    """
    return derived_id(host, reporter, identity.name.casefold(), identity.text, identity.instance or "")


def delivery_id(endpoint_id: str, host: str, sequence: int) -> str:
    """Name the delivery of a host's event to an endpoint, so that a repeated attempt finds it: 16 characters."""
    packed = f"{endpoint_id} {host} {sequence}".encode()
    return base64.b32encode(hashlib.sha256(packed).digest()[:10]).decode().lower()


def derived_id(*parts: str) -> str:
    """Name something by what it is about, so that deciding twice names the same: 16 characters."""
    packed = b"".join(len(part).to_bytes(4, "big") + part for part in (text.encode() for text in parts))
    return base64.b32encode(hashlib.sha256(packed).digest()[:10]).decode().lower()
