"""What users report about others becomes one draft for each accused domain and kind of abuse (XEP-0377 0.4.1).

House rules: a user counts once about each JID, and only within the quota; everything that is kept has a bound; what a
user did not agree to pass on is counted, shown to the operators, and never part of a document, nor is what is about an
admin of this host; a user's words go into a document only as such.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from bridge.iodef.model import Counter, Impact, IncidentId, RecordItem, Restriction, Source, Text
from bridge.iodef.model import Incident as Document
from bridge.policy.abuse_record import AbuseDraft, AbuseKind, Accused, DraftState, Words
from bridge.policy.publish import is_own
from bridge.policy.quota import refill
from bridge.policy.record import Bucket, derived_id
from bridge.policy.words import count
from bridge.xmpp.jid import Jid

MAX_ACCUSED = 50
MAX_REPORTERS = 500
MAX_WORDS = 10
MAX_WORDS_CHARACTERS = 500
MAX_STANZA_IDS = 20
MAX_THANKED = 200
SPAM_IMPACT = "spam"
"""By this `Impact@ext-type` a document says that it is about spam; RFC 5070 §3.10.1 has no word for it."""
_COUNTED = "reports by users"
_MOST_USERS = 10**9  # more is nonsense, or no number at all
MAX_OPEN = 500
"""So many drafts of a host wait at most; reports about further domains are refused."""


class Rules(Protocol):
    """What the operator configured that matters here; see `[policy]`."""

    @property
    def quota_reports_of_user_per_hour(self) -> int: ...  # noqa: D102
    @property
    def tell_reporters(self) -> bool: ...  # noqa: D102


class Heard(StrEnum):
    """What became of one report."""

    COUNTED = "counted"
    REPEATED = "repeated"  # the same user about the same JID
    OVER_QUOTA = "over-quota"
    FULL = "full"


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
class State:
    """What reports are decided on.

    Attributes:
        key: secret of this host, with which reporters are hashed.
        drafts: by id; buckets: by name.
        open: how many drafts of the host wait.
        opened: those that began, or began again, to wait for an operator.
    """

    host: str
    rules: Rules
    key: bytes
    drafts: Mapping[str, AbuseDraft] = field(default_factory=dict)
    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    open: int = 0
    opened: tuple[str, ...] = ()


def draft_id(host: str, domain: str, kind: AbuseKind) -> str:
    """Name the draft."""
    return derived_id("abuse", host, domain, kind)


def bucket_name(reporter: str) -> str:
    """Name the token bucket of a user; no domain is called so."""
    return f"user {reporter}"


def hear(state: State, report: UserReport, *, now: datetime) -> tuple[State, Heard]:
    """Add one report to its draft."""
    if report.is_admin:
        report = replace(report, may_go_to_origin=False, may_go_to_others=False)
    state, is_within = _within_quota(state, report.reporter, now)
    if not is_within:
        return state, Heard.OVER_QUOTA
    name = draft_id(state.host, report.jid.domain, report.kind)
    known = state.drafts.get(name)
    if known is None and state.open >= MAX_OPEN:
        return state, Heard.FULL
    if known is None or known.state is DraftState.DISMISSED:
        draft = replace(_new(name, state.host, report), version=known.version if known else 0)
    else:
        draft = known
    after = _count(draft, report, _hash(state.key, draft, report.reporter))
    if after is None:
        return state, Heard.REPEATED
    if state.rules.tell_reporters and report.may_go_to_origin and len(after.thank) < MAX_THANKED:
        after = replace(after, thank=tuple(dict.fromkeys((*after.thank, report.reporter))))
    is_opened = known is None or known.state is not DraftState.OPEN
    return replace(
        state,
        drafts={**state.drafts, name: replace(after, state=DraftState.OPEN)},
        open=state.open + is_opened,
        opened=tuple(dict.fromkeys((*state.opened, name))) if is_opened else state.opened,
    ), Heard.COUNTED


def _within_quota(state: State, reporter: str, now: datetime) -> tuple[State, bool]:
    burst = state.rules.quota_reports_of_user_per_hour
    name = bucket_name(reporter)
    bucket = refill(state.buckets.get(name), state.host, name, per_minute=burst / 60, burst=burst, now=now)
    if bucket.tokens < 1:
        return state, False
    spent = replace(bucket, tokens=bucket.tokens - 1)
    return replace(state, buckets={**state.buckets, name: spent}), True


def _new(name: str, host: str, report: UserReport) -> AbuseDraft:
    return AbuseDraft(
        id=name,
        host=host,
        domain=report.jid.domain,
        kind=report.kind,
        is_own=report.is_own,
        created_at=report.at,
        first_at=report.at,
        last_at=report.at,
    )


def _hash(key: bytes, draft: AbuseDraft, reporter: str) -> str:
    """Name a reporter inside one draft; the same person is called otherwise in another."""
    return hmac.new(key, f"{draft.id} {reporter}".encode(), hashlib.sha256).hexdigest()[:12]


def _count(draft: AbuseDraft, report: UserReport, who: str) -> AbuseDraft | None:
    """Count a report; None: this user reported that JID before."""
    jid = report.jid.bare
    before = next((one for one in draft.accused if one.jid == jid), None)
    if before is not None and who in before.reporters:
        return None
    draft = replace(
        draft,
        first_at=min(draft.first_at, report.at),
        last_at=max(draft.last_at, report.at),
        is_own=draft.is_own or report.is_own,
    )
    if before is None and len(draft.accused) >= MAX_ACCUSED:
        return replace(draft, left_out=draft.left_out + 1)
    is_told_apart = sum(len(one.reporters) for one in draft.accused) < MAX_REPORTERS
    counted = before or Accused(jid=jid)
    counted = replace(
        counted,
        reports=counted.reports + 1,
        agreed=counted.agreed + report.may_go_to_origin,
        agreed_others=counted.agreed_others + (report.may_go_to_origin and report.may_go_to_others),
        is_admin=report.is_admin,
        reporters=(*counted.reporters, who) if is_told_apart else counted.reporters,
    )
    accused = tuple(counted if one is before else one for one in draft.accused)
    draft = replace(draft, accused=accused if before is not None else (*accused, counted))
    return _with_evidence(draft, report, jid)


def _with_evidence(draft: AbuseDraft, report: UserReport, jid: str) -> AbuseDraft:
    text = report.text.strip()[:MAX_WORDS_CHARACTERS]
    if text and len(draft.words) < MAX_WORDS:
        words = Words(jid=jid, text=text, at=report.at, agreed=report.may_go_to_origin)
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


def objection(draft: AbuseDraft) -> str | None:
    """Say why a draft cannot be sent; None: it can."""
    if draft.is_own:
        return f"it is about {draft.domain}, this server itself; look into it here"
    if draft.state is DraftState.SENT:
        return "it was sent, and nothing came since"
    if draft.state is DraftState.DISMISSED:
        return "it was dismissed, and nothing came since"
    if not draft.agreed and any(one.is_admin for one in draft.accused):
        return "it is about an admin of this server; look into it here"
    if not draft.agreed:
        return (
            f"none of the users who reported it agreed that it be passed on to {draft.domain}; "
            "you can report what you know yourself"
        )
    return None


def may_be_listed(draft: AbuseDraft) -> tuple[str, ...]:
    """The accounts that the host may list because of it: of other servers, and a user agreed that others be told.

    No whole domain is among them: what users report are people, and one domain has many.
    """
    if draft.is_own or is_own(draft.domain, host=draft.host):
        return ()
    return tuple(one.jid for one in draft.told if one.agreed_others and "@" in one.jid)


_IMPACTS = {
    AbuseKind.SPAM: (Impact(type="policy"), Impact(type=SPAM_IMPACT)),
    AbuseKind.ABUSE: (Impact(type="policy"),),
    AbuseKind.OTHER: (Impact(type="unknown"),),
}
_WHAT = {AbuseKind.SPAM: "spam", AbuseKind.ABUSE: "abuse", AbuseKind.OTHER: "something else"}


def headline(draft: AbuseDraft) -> str:
    """Say in a line what users report."""
    return f"{_WHAT[draft.kind]} from {draft.domain}"


def identity(draft: AbuseDraft) -> IncidentId:
    """Name the incident that is made of a draft."""
    return IncidentId(name=draft.host, text=derived_id(draft.id, draft.created_at.isoformat()))


def document(draft: AbuseDraft, *, with_words: bool) -> Document:
    """Write what may be told to the accused domain; every word is ours but what users wrote, if that is wanted."""
    told, names = draft.told, {one.jid for one in draft.told}
    is_for_others = all(one.agreed == one.agreed_others for one in told)
    words = tuple(one for one in draft.words if one.agreed and one.jid in names) if with_words else ()
    return Document(
        identity=identity(draft),
        restriction=Restriction.NEED_TO_KNOW if is_for_others else Restriction.PRIVATE,
        descriptions=(
            Text(
                text=f"Users of {draft.host} reported {headline(draft)}: {count(draft.agreed, 'report')} "
                f"about {count(len(told), 'address', 'addresses')}"
            ),
        ),
        impacts=_IMPACTS[draft.kind],
        started_at=draft.agreed_first_at,
        ended_at=draft.agreed_last_at,
        sources=tuple(_source(one) for one in told),
        record_items=tuple(
            RecordItem(dtype="string", text=one.text, meaning=_meaning(draft.host) + one.jid) for one in words
        ),
    )


def _meaning(host: str) -> str:
    return f"what a user of {host} wrote about "


def words_about(item: RecordItem, host: str) -> str:
    """About whom a user of the host wrote that, as a document says that was made of a draft; "": it says nothing."""
    meaning, start = item.meaning or "", _meaning(host)
    return meaning.removeprefix(start) if meaning.startswith(start) else ""


def _source(accused: Accused) -> Source:
    return Source(
        address=accused.jid,
        category="xmpp",
        system="source",
        jid=accused.jid,
        counters=(Counter(type="event", value=float(accused.agreed), meaning=_COUNTED),),
    )


def users_in(source: Source) -> int:
    """How many users reported that source, as a document says that was made of a draft; 0: it says nothing of that."""
    number = next((one.value for one in source.counters if counts_users(one)), 0)
    return int(number) if 0 < number < _MOST_USERS else 0


def counts_users(counter: Counter) -> bool:
    """Whether it says how many users reported its source."""
    return (counter.type, counter.meaning) == ("event", _COUNTED)


def only_to(draft: AbuseDraft) -> tuple[str, ...]:
    """The only peers that may ever have what is sent of a draft; empty: any, all users agreed to that."""
    return () if all(one.agreed == one.agreed_others for one in draft.told) else (draft.domain,)


def thanks(draft: AbuseDraft) -> str:
    """What those who reported it are told."""
    return f"Thank you. Your report of {headline(draft)} was passed on to the admins of {draft.domain}."


def settled(
    draft: AbuseDraft, state: DraftState, *, by: str, now: datetime, incident: str | None = None
) -> AbuseDraft:
    """Note an operator's yes or no, and the incident it became; who reported is thanked only after a yes."""
    is_sent = state is DraftState.SENT
    return replace(
        draft,
        state=state,
        decided_by=by,
        decided_at=now,
        incident_id=incident or draft.incident_id,
        thank=(),
        thanking=tuple(dict.fromkeys((*draft.thanking, *draft.thank))) if is_sent else draft.thanking,
        words=draft.words if is_sent else (),
    )


def shown(draft: AbuseDraft) -> dict[str, Any]:
    """What operators and their programs are shown of a draft: all but who reported."""
    return {
        "id": draft.id,
        "host": draft.host,
        "domain": draft.domain,
        "kind": str(draft.kind),
        "state": str(draft.state),
        "is_own": draft.is_own,
        "may_be_sent": draft.may_be_sent,
        "objection": objection(draft),
        "reports": draft.reports,
        "agreed": draft.agreed,
        "reporters": draft.reporters,
        "first_at": draft.first_at.isoformat(),
        "last_at": draft.last_at.isoformat(),
        "may_be_listed": list(may_be_listed(draft)),
        "accused": [
            {
                "jid": one.jid,
                "reports": one.reports,
                "agreed": one.agreed,
                "agreed_others": one.agreed_others,
                "is_admin": one.is_admin,
            }
            for one in draft.accused
        ],
        "left_out": draft.left_out,
        "words": [
            {"jid": one.jid, "text": one.text, "at": one.at.isoformat(), "agreed": one.agreed}
            for one in draft.words
        ],
        "stanza_ids": [{"jid": jid, "id": one} for jid, one in draft.stanza_ids],
        "incident_id": draft.incident_id,
        "decided_by": draft.decided_by or None,
        "decided_at": draft.decided_at.isoformat() if draft.decided_at else None,
    }
