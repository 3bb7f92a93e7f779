"""What is stored about what operators judge and decide: triage, approvals, mitigations.

House rules: as in `record`, which lists every record there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """Why an operator acts where there is no incident.

    Attributes:
        feeds: lists of others that name the target.
        draft_id: what users of the host reported, see `abuse_record.AbuseDraft`; "": nothing.
    """

    feeds: tuple[str, ...] = ()
    draft_id: str = ""


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
        feeds, draft_id: what an operator said yes because of where there is no incident, see `Grounds`.
        is_unlisted: what follows is on no list that others load: the users whose reports the incident is made of
            agreed that one server be told, and nobody else.
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
    feeds: tuple[str, ...] = ()
    draft_id: str = ""
    is_unlisted: bool = False
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
        incident_id, feeds, draft_id: what it is about, as in `Approval`; so is `is_unlisted`.
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
    feeds: tuple[str, ...] = ()
    draft_id: str = ""
    is_unlisted: bool = False
    version: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it is in force, or about to begin or end."""
        return self.state in {MitigationState.PENDING, MitigationState.APPLIED, MitigationState.LIFTING}
