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
from typing import Any, Protocol

from bridge.iodef.model import Counter, Impact, IncidentId, RecordItem, Restriction, Source, Text
from bridge.iodef.model import Incident as Document
from bridge.policy.abuse_count import Counted, Heard, UserReport, count_in
from bridge.policy.abuse_record import AbuseDraft, AbuseKind, Accused, DraftState
from bridge.policy.publish import is_own
from bridge.policy.quota import refill
from bridge.policy.record import Bucket, derived_id
from bridge.policy.words import count

MAX_THANKED = 200
SPAM_IMPACT = "spam"
"""By this `Impact@ext-type` a document says that it is about spam; RFC 5070 §3.10.1 has no word for it."""
_COUNTED = "reports by users"
_MOST_USERS = 10**9  # more is nonsense, or no number at all
MAX_OPEN = 500
"""So many drafts of a host wait at most; for another one, the oldest goes that is what one user says."""
MAX_OPENED_PER_DAY = 25
"""So many drafts one user may have begin to wait in a day."""


class Rules(Protocol):
    """What the operator configured that matters here; see `[policy]`."""

    @property
    def quota_reports_of_user_per_hour(self) -> int: ...  # noqa: D102
    @property
    def tell_reporters(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What reports are decided on.

    Attributes:
        key: secret of this host, with which reporters are hashed.
        drafts: by id; buckets: by name.
        open: how many drafts of the host wait.
        opened: those that began, or began again, to wait for an operator.
        crowd: more drafts that wait, by id, where there is no place for others.
        dropped: those that had to go, unless they are among `drafts` again.
        evicted: how many drafts and addresses had to go.
        is_short: not all that users report is kept, so that the admins should know.
    """

    host: str
    rules: Rules
    key: bytes
    drafts: Mapping[str, AbuseDraft] = field(default_factory=dict)
    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    open: int = 0
    opened: tuple[str, ...] = ()
    crowd: Mapping[str, AbuseDraft] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    evicted: int = 0
    is_short: bool = False


def draft_id(host: str, domain: str, kind: AbuseKind) -> str:
    """Name the draft."""
    return derived_id("abuse", host, domain, kind)


def bucket_names(reporter: str) -> tuple[str, str]:
    """Name the token buckets of a user, for reports and for drafts that begin to wait; no domain is called so."""
    return f"user {reporter}", f"new of {reporter}"


def hear(state: State, report: UserReport, *, now: datetime) -> tuple[State, Heard]:
    """Add one report to its draft."""
    if report.is_admin:
        report = replace(report, may_go_to_origin=False, may_go_to_others=False)
    of_reports, of_drafts = bucket_names(report.reporter)
    burst = state.rules.quota_reports_of_user_per_hour
    state, is_within = _within_quota(state, of_reports, burst, per_minute=burst / 60, now=now)
    if not is_within:
        return state, Heard.OVER_QUOTA
    name = draft_id(state.host, report.jid.domain, report.kind)
    known = state.drafts.get(name)
    if known is None or known.state is DraftState.DISMISSED:
        draft = replace(_new(name, state.host, report), version=known.version if known else 0)
    else:
        draft = known
    found = count_in(draft, report, _hash(state.key, draft, report.reporter))
    if found.heard is Heard.REPEATED:
        return state, Heard.REPEATED
    if known is not None and found.heard is Heard.BEYOND:  # it brings nothing that could be sent
        return replace(state, drafts={**state.drafts, name: found.draft}), Heard.BEYOND
    if known is None or known.state is not DraftState.OPEN:
        state, is_within = _within_quota(
            state, of_drafts, MAX_OPENED_PER_DAY, per_minute=MAX_OPENED_PER_DAY / 1440, now=now
        )
        if not is_within:
            return replace(state, is_short=True), Heard.OVER_QUOTA
        place = _place(state, name)
        if place is None:
            return replace(state, is_short=True), Heard.FULL
        state = replace(place, open=place.open + 1, opened=tuple(dict.fromkeys((*place.opened, name))))
    after = replace(_thanking(state, found, report), state=DraftState.OPEN)
    evicted = state.evicted + found.is_evicting
    return replace(state, drafts={**state.drafts, name: after}, evicted=evicted), found.heard


def _within_quota(
    state: State, name: str, burst: float, *, per_minute: float, now: datetime
) -> tuple[State, bool]:
    bucket = refill(state.buckets.get(name), state.host, name, per_minute=per_minute, burst=burst, now=now)
    if bucket.tokens < 1:
        return state, False
    spent = replace(bucket, tokens=bucket.tokens - 1)
    return replace(state, buckets={**state.buckets, name: spent}), True


def _place(state: State, wanted: str) -> State | None:
    """Make a place for another draft that waits; None: all that wait are what several users say, or decided about.

    Who has most of them is not known: a reporter is called otherwise in each. So one user may begin few in a day.
    """
    if state.open < MAX_OPEN:
        return state
    rest = {name: one for name, one in state.crowd.items() if name not in state.dropped}
    there = {**rest, **state.drafts}
    found = [one for name, one in there.items() if name != wanted and one.may_be_dropped]
    if not found:
        return None
    gone = min(found, key=lambda one: (one.last_at, one.id)).id
    return replace(
        state,
        drafts={name: one for name, one in state.drafts.items() if name != gone},
        open=state.open - 1,
        opened=tuple(one for one in state.opened if one != gone),
        dropped=state.dropped | {gone},
        evicted=state.evicted + 1,
        is_short=True,
    )


def _thanking(state: State, found: Counted, report: UserReport) -> AbuseDraft:
    """The draft, with the user among those to thank once it is sent, where that is wanted."""
    draft = found.draft
    is_told = found.heard is Heard.COUNTED and report.may_go_to_origin
    if not (state.rules.tell_reporters and is_told and len(draft.thank) < MAX_THANKED):
        return draft
    return replace(draft, thank=tuple(dict.fromkeys((*draft.thank, report.reporter))))


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
    draft: AbuseDraft,
    state: DraftState,
    *,
    by: str,
    now: datetime,
    incident: str | None = None,
    sent_by: str | None = None,
) -> AbuseDraft:
    """Note an operator's yes or no, and the incident it became; who reported is thanked once that arrived."""
    is_sent = state is DraftState.SENT
    return replace(
        draft,
        state=state,
        decided_by=by,
        decided_at=now,
        incident_id=incident or draft.incident_id,
        sent_by=sent_by or draft.sent_by,
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
        "more": draft.more,
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
                "more": one.more,
                "resources": list(one.resources),
                "may_be_room": one.may_be_room,
                "is_acted_on": one.jid in draft.acted,
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
