"""What is kept of the reports of a host's own users (XEP-0377): the draft of an incident.

House rule: who reported is kept as a keyed hash, and by name only where the operator wants them thanked; neither ever
leaves the bridge for another server.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AbuseKind(StrEnum):
    """What users say that it is."""

    SPAM = "spam"
    ABUSE = "abuse"
    OTHER = "other"


class DraftState(StrEnum):
    """Whether an operator is asked."""

    OPEN = "open"  # waits for a yes or no
    SENT = "sent"  # what was known then went to the accused domain
    DISMISSED = "dismissed"


class Shortage(StrEnum):
    """What the admins are told where not all that users report is kept."""

    NO_PLACE = "no-place"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accused:
    """One JID that users reported.

    Attributes:
        jid: a bare JID or a domain; no resource, in which a user could write what he likes.
        reports: of how many users; each counts once.
        more: reports by users that are not told apart any more, for operators only: they may be the same again.
        agreed: how many of these agreed that it be passed on to the accused domain; nothing else is ever sent.
        agreed_others: how many of the latter agreed that it go to others as well.
        is_admin: it is an admin of this host.
        reporters: whose reports these are, hashed; see `abuse_count.MAX_REPORTERS`.
        last_at: when the last report came; None: before this was kept.
        resources: some that users reported it with, newest last, for operators only: in a room, nicks.
        with_resource: how many of `reports` named one.
    """

    jid: str
    reports: int = 0
    agreed: int = 0
    agreed_others: int = 0
    is_admin: bool = False
    reporters: tuple[str, ...] = ()
    more: int = 0
    last_at: datetime | None = None
    resources: tuple[str, ...] = ()
    with_resource: int = 0

    @property
    def is_alone(self) -> bool:
        """Whether no two users reported it."""
        return self.reports + self.more <= 1

    @property
    def may_be_room(self) -> bool:
        """Whether all users who reported it named a resource, as they do of who is in a room."""
        return 0 < self.reports <= self.with_resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a user wrote about it; hostile text, to be shown as just that.

    Attributes:
        agreed: whether the user agreed that it be passed on to the accused domain.
        who: the user, as in `Accused.reporters`; "": not kept.
    """

    jid: str
    text: str
    at: datetime
    agreed: bool
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbuseDraft:
    """What users of `host` reported about JIDs of `domain`, of one kind; sent to nobody before an operator says so.

    Attributes:
        id: of (host, domain, kind), so there is one draft for all of it.
        created_at: when the first report came; with the id it names the incident that is made of it.
        accused: at most `abuse_count.MAX_ACCUSED`; `left_out` counts reports about more of them.
        first_at, last_at: of all reports; `agreed_first_at`, `agreed_last_at`: of those that may be sent.
        words, stanza_ids: the first of them; ids are those that users' archives gave to what they reported.
        is_own: the domain is this server's own.
        thank: users to thank once it is sent, by name; empty unless `policy.tell_reporters`.
        thanking: those who are told once it arrives.
        incident_id: the incident that it became, once it was sent.
        sent_by: the interaction by which it was sent last; those are told once that one arrives.
        decided_by: who, as in `change.Audit`.
        acted: accounts of ours that an operator suspended because of it.
    """

    id: str
    host: str
    domain: str
    kind: AbuseKind
    created_at: datetime
    first_at: datetime
    last_at: datetime
    is_own: bool = False
    state: DraftState = DraftState.OPEN
    accused: tuple[Accused, ...] = ()
    left_out: int = 0
    agreed_first_at: datetime | None = None
    agreed_last_at: datetime | None = None
    words: tuple[Words, ...] = ()
    stanza_ids: tuple[tuple[str, str], ...] = ()
    thank: tuple[str, ...] = ()
    thanking: tuple[str, ...] = ()
    incident_id: str | None = None
    sent_by: str | None = None
    decided_by: str = ""
    decided_at: datetime | None = None
    acted: tuple[str, ...] = ()
    version: int = 0

    @property
    def reports(self) -> int:
        """How many reports, each user's once about each JID."""
        return sum(one.reports for one in self.accused) + self.left_out

    @property
    def more(self) -> int:
        """How many reports by users who are not told apart; not among `reports`."""
        return sum(one.more for one in self.accused)

    @property
    def may_be_dropped(self) -> bool:
        """Whether it is what one user says, and no operator decided anything about it."""
        is_one_s = self.reporters <= 1 and all(one.is_alone for one in self.accused)
        is_touched = self.incident_id is not None or self.decided_at is not None or self.acted
        return self.state is DraftState.OPEN and is_one_s and not is_touched

    @property
    def told(self) -> tuple[Accused, ...]:
        """Those of whom the accused domain may be told; an admin of this host, wherever the account is, never."""
        return tuple(one for one in self.accused if one.agreed and not one.is_admin)

    @property
    def agreed(self) -> int:
        """How many of them may be sent to the accused domain."""
        return sum(one.agreed for one in self.told)

    @property
    def reporters(self) -> int:
        """How many different users reported it, as far as they are told apart."""
        return len({who for one in self.accused for who in one.reporters})

    @property
    def may_be_sent(self) -> bool:
        """Whether one yes sends it."""
        return self.state is DraftState.OPEN and not self.is_own and self.agreed > 0
