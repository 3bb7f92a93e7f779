"""One report, counted in its draft: by whom, about whom, and what gives way where there is no place.

House rules: what one user says never takes the place of what several say, nor of what an operator decided about, and
one user alone holds a part of the places only; what gives way, and what cannot be told apart, stays counted for the
operators and is in nothing that leaves.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from bridge.policy.abuse_record import AbuseDraft, AbuseKind, Accused, Words
from bridge.xmpp.jid import Jid

MAX_ACCUSED = 50
MAX_ACCUSED_ALONE = 15
"""So many of them one user alone may have accused."""
MAX_REPORTERS = 500
"""So many reporters are told apart in a draft; of each accused, `MIN_REPORTERS` always are."""
MIN_REPORTERS = 10
MAX_WORDS = 10
MAX_WORDS_ALONE = 3
MAX_WORDS_CHARACTERS = 500
MAX_STANZA_IDS = 20
MAX_RESOURCES = 3
MAX_RESOURCE_CHARACTERS = 100
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Heard(StrEnum):
    """What became of one report."""

    COUNTED = "counted"
    BEYOND = "beyond"  # so many reported that JID that this user cannot be told from them
    LEFT_OUT = "left-out"  # its draft has no place for that JID
    REPEATED = "repeated"  # the same user about the same JID
    OVER_QUOTA = "over-quota"
    FULL = "full"  # no place for a draft


@dataclass(frozen=True, slots=True, kw_only=True)
class UserReport:
    """One report as Prosody relays it.

    Attributes:
        reporter: a user's bare JID; Prosody vouches for it.
        is_own, is_admin: whom it accuses is on this server, or an admin of it.
        may_go_to_origin, may_go_to_others: what the user agreed to.
    """

    reporter: str
    jid: Jid
    kind: AbuseKind
    text: str
    stanza_ids: tuple[str, ...]
    may_go_to_origin: bool
    may_go_to_others: bool
    is_own: bool
    is_admin: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What became of one report, and the draft after it.

    Attributes:
        is_evicting: an accused had to go for it.
    """

    draft: AbuseDraft
    heard: Heard
    is_evicting: bool = False


def count_in(draft: AbuseDraft, report: UserReport, who: str) -> Counted:
    """Count a report of a user, who is called `who` in this draft."""
    jid = report.jid.bare
    before = next((one for one in draft.accused if one.jid == jid), None)
    if before is not None and who in before.reporters:
        return Counted(draft=draft, heard=Heard.REPEATED)
    seen = replace(
        draft,
        first_at=min(draft.first_at, report.at),
        last_at=max(draft.last_at, report.at),
        is_own=draft.is_own or report.is_own,
    )
    if before is not None and not _is_told_apart(draft, before):
        more = replace(before, more=before.more + 1, is_admin=report.is_admin)
        return Counted(draft=_with(seen, before, more), heard=Heard.BEYOND)
    place = seen if before is not None else _place(seen, who)
    if place is None:
        return Counted(draft=replace(seen, left_out=seen.left_out + 1), heard=Heard.LEFT_OUT)
    after = _with(place, before, _counted(before or Accused(jid=jid), report, who))
    return Counted(
        draft=_with_evidence(after, report, who), heard=Heard.COUNTED, is_evicting=place is not seen
    )


def _with(draft: AbuseDraft, before: Accused | None, after: Accused) -> AbuseDraft:
    if before is None:
        return replace(draft, accused=(*draft.accused, after))
    return replace(draft, accused=tuple(after if one is before else one for one in draft.accused))


def _is_told_apart(draft: AbuseDraft, accused: Accused) -> bool:
    if len(accused.reporters) < MIN_REPORTERS:
        return True
    return sum(len(one.reporters) for one in draft.accused) < MAX_REPORTERS


def _place(draft: AbuseDraft, who: str) -> AbuseDraft | None:
    """Make a place for another accused; None: all are accused by several, or an operator decided about them.

    What goes is what one user says: who has most of it loses the oldest, of several that one who reports now.
    """
    alone = [one for one in draft.accused if one.is_alone]
    held = Counter(one.reporters for one in alone)
    if held[who,] >= MAX_ACCUSED_ALONE:
        alone = [one for one in alone if one.reporters == (who,)]
    elif len(draft.accused) < MAX_ACCUSED:
        return draft
    free = [one for one in alone if not _is_decided(draft, one)]
    if not free:
        return None
    mine = (who,)
    gone = min(free, key=lambda one: (-held[one.reporters], one.reporters != mine, one.last_at or _LONG_AGO))
    return replace(
        draft,
        accused=tuple(one for one in draft.accused if one is not gone),
        left_out=draft.left_out + gone.reports,
        words=tuple(one for one in draft.words if one.jid != gone.jid),
        stanza_ids=tuple(one for one in draft.stanza_ids if one[0] != gone.jid),
    )


def _is_decided(draft: AbuseDraft, accused: Accused) -> bool:
    """Whether an operator acted on it, or had it sent: what is sent next corrects that, and has it too."""
    if accused.jid in draft.acted:
        return True
    return draft.decided_at is not None and (accused.last_at or _LONG_AGO) <= draft.decided_at


def _counted(accused: Accused, report: UserReport, who: str) -> Accused:
    resource = (report.jid.resource or "")[:MAX_RESOURCE_CHARACTERS]
    resources = (*(one for one in accused.resources if one != resource), resource) if resource else ()
    return replace(
        accused,
        reports=accused.reports + 1,
        agreed=accused.agreed + report.may_go_to_origin,
        agreed_others=accused.agreed_others + (report.may_go_to_origin and report.may_go_to_others),
        is_admin=report.is_admin,
        reporters=(*accused.reporters, who),
        last_at=max(accused.last_at or report.at, report.at),
        resources=resources[-MAX_RESOURCES:] or accused.resources,
        with_resource=accused.with_resource + bool(resource),
    )


def _with_evidence(draft: AbuseDraft, report: UserReport, who: str) -> AbuseDraft:
    jid, text = report.jid.bare, report.text.strip()[:MAX_WORDS_CHARACTERS]
    has_place = len(draft.words) < MAX_WORDS and sum(one.who == who for one in draft.words) < MAX_WORDS_ALONE
    if text and has_place:
        words = Words(jid=jid, text=text, at=report.at, agreed=report.may_go_to_origin, who=who)
        draft = replace(draft, words=(*draft.words, words))
    ids = dict.fromkeys((*draft.stanza_ids, *((jid, one) for one in report.stanza_ids)))
    draft = replace(draft, stanza_ids=tuple(ids)[:MAX_STANZA_IDS])
    if not report.may_go_to_origin:
        return draft
    return replace(
        draft,
        agreed_first_at=min(draft.agreed_first_at or report.at, report.at),
        agreed_last_at=max(draft.agreed_last_at or report.at, report.at),
    )
