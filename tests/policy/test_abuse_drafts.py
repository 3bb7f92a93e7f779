"""What users report becomes one draft; what leaves of it is what they agreed to, in our words."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.iodef.model import Restriction
from bridge.policy import abuse, abuse_count
from bridge.policy.abuse import State, hear
from bridge.policy.abuse_count import Heard, UserReport
from bridge.policy.abuse_record import AbuseDraft, AbuseKind, DraftState
from bridge.policy.disclosure import Inquiries, audience
from bridge.policy.trust import Trust
from bridge.xep0268.model import Kind, Status
from bridge.xep0268.write import write
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid

from .conftest import NOW
from .test_forwarding import incident


@dataclass(frozen=True)
class Rules:
    quota_reports_of_user_per_hour: int = 20
    tell_reporters: bool = False


def report(reporter: str = "alice", jid: str = "spam@b.test", **more: object) -> UserReport:
    made = UserReport(
        reporter=f"{reporter}@a.test",
        jid=Jid.parse(jid),
        kind=AbuseKind.SPAM,
        text="",
        stanza_ids=(),
        may_go_to_origin=True,
        may_go_to_others=False,
        is_own=False,
        is_admin=False,
        at=NOW,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def heard(reports: Iterable[UserReport], state: State | None = None, *, now: datetime = NOW) -> State:
    state = state or State(host="a.test", rules=Rules(), key=b"k")
    for one in reports:
        state, _ = hear(state, one, now=now)
    return state


def draft_of(*reports: UserReport) -> AbuseDraft:
    (draft,) = heard(reports).drafts.values()
    return draft


def told(draft: AbuseDraft, *, with_words: bool = False) -> str:
    """What would go out, as text."""
    payload = write(
        Kind.REPORT,
        abuse.document(draft, with_words=with_words),
        reported_at=NOW,
        contact="a.test",
        restriction=None,
        status=Status.NEW,
    )
    return xml.serialize(payload).decode()


def test_a_flood_of_reports_by_many_is_one_draft_that_counts_them() -> None:
    state = heard(report(f"user{number}") for number in range(1000))
    (draft,) = state.drafts.values()
    assert state.opened == (draft.id,)
    most = abuse_count.MAX_REPORTERS
    assert (draft.reports, draft.agreed, draft.reporters, len(draft.accused)) == (most, most, most, 1)
    assert draft.more == 1000 - most  # not told apart, so for operators only
    assert draft.accused[0].jid == "spam@b.test"


def test_nobody_counts_twice_in_what_leaves_however_many_report() -> None:
    state = heard(report(f"user{number}") for number in range(600))
    for hours in range(3):
        later = NOW + timedelta(hours=hours)
        outcomes = [hear(state, report(f"user{number}", at=later), now=later)[1] for number in (1, 599)]
        assert outcomes == [Heard.REPEATED, Heard.BEYOND]
        state = heard([report("user599", at=later)] * 5, state, now=later)
    (draft,) = state.drafts.values()
    assert draft.more == 100 + 15
    (source,) = abuse.document(draft, with_words=True).sources
    assert source.counters[0].value == abuse_count.MAX_REPORTERS
    state, outcome = hear(
        state, report("user599", "new@b.test"), now=later
    )  # and others can be accused still
    assert outcome is Heard.COUNTED


def simulated(state: State, who: str, reports: Iterable[UserReport]) -> State:
    """One user who reports as fast as the quota allows, for 26 hours."""
    rows = iter(reports)
    for hour in range(26):
        now = NOW + timedelta(hours=hour)
        state = heard((replace(next(rows), reporter=who, at=now) for _ in range(20)), state, now=now)
    return state


def test_one_user_cannot_fill_all_the_drafts_there_may_be() -> None:
    state = simulated(
        State(host="a.test", rules=Rules(), key=b"k"),
        "mallory@a.test",
        (report(jid=f"x@d{n}.test") for n in range(10**6)),
    )
    assert state.open == len(state.drafts) < 2 * abuse.MAX_OPENED_PER_DAY + 5
    assert state.is_short  # what was refused is told
    later = NOW + timedelta(hours=26)
    state, outcome = hear(state, report("bob", at=later), now=later)
    assert outcome is Heard.COUNTED
    assert abuse.draft_id("a.test", "b.test", AbuseKind.SPAM) in state.drafts


def test_one_user_cannot_hide_a_spammer_behind_others() -> None:
    state = simulated(
        State(host="a.test", rules=Rules(), key=b"k"),
        "mallory@a.test",
        (report(jid=f"{n}@b.test") for n in range(10**6)),
    )
    later = NOW + timedelta(hours=26)
    state, outcome = hear(state, report("bob", at=later), now=later)
    (draft,) = state.drafts.values()
    assert outcome is Heard.COUNTED
    assert "spam@b.test" in {one.jid for one in draft.accused}
    assert len(draft.accused) == abuse_count.MAX_ACCUSED_ALONE + 1
    assert draft.reports == 26 * 20 + 1  # none of the others is lost silently
    assert state.evicted == 26 * 20 - abuse_count.MAX_ACCUSED_ALONE


def test_where_there_is_no_place_what_one_user_says_gives_way_and_nothing_else() -> None:
    shared = [report(who, f"{n}@b.test") for who in ("alice", "bob") for n in range(15)]
    alone = [report(f"user{n}", f"one{n}@b.test", at=NOW + timedelta(seconds=n)) for n in range(35)]
    state = heard([*shared, *alone])
    (draft,) = state.drafts.values()
    assert len(draft.accused) == abuse_count.MAX_ACCUSED
    state = heard([report("carol", "new@b.test")], state)
    after = {one.jid for one in state.drafts[draft.id].accused}
    assert {one.jid for one in draft.accused} - after == {"one0@b.test"}
    decided = abuse.settled(state.drafts[draft.id], DraftState.SENT, by="x", now=NOW + timedelta(hours=1))
    state, outcome = hear(replace(state, drafts={draft.id: decided}), report("dave", "late@b.test"), now=NOW)
    assert outcome is Heard.LEFT_OUT
    assert {
        one.jid for one in state.drafts[draft.id].accused
    } == after  # what was sent is corrected, never lost


def test_who_reports_on_and_on_pushes_out_what_they_said_themselves() -> None:
    crowd = [report(f"user{n}", f"one{n}@b.test") for n in range(abuse_count.MAX_ACCUSED - 1)]
    state = heard(
        [*crowd, *(report("mallory", f"{n}@b.test", at=NOW + timedelta(seconds=n)) for n in range(9))]
    )
    (draft,) = state.drafts.values()
    assert [one.jid for one in draft.accused] == [*(f"one{n}@b.test" for n in range(49)), "8@b.test"]


def test_where_no_more_drafts_have_a_place_the_oldest_of_one_user_gives_way() -> None:
    state = heard([report(), report("bob"), *(report("carol", f"x@d{n}.test", at=NOW) for n in range(3))])
    full = replace(state, open=abuse.MAX_OPEN, opened=())
    after, outcome = hear(full, report("dave", "y@new.test"), now=NOW)
    assert (outcome, after.open, after.evicted, len(after.dropped)) == (Heard.COUNTED, abuse.MAX_OPEN, 1, 1)
    domains = {one.domain for one in after.drafts.values()}
    assert {"b.test", "new.test"} <= domains
    assert len(domains) == 4
    touched = {
        name: abuse.settled(one, DraftState.SENT, by="x", now=NOW) for name, one in full.drafts.items()
    }
    kept = {name: replace(one, state=DraftState.OPEN) for name, one in touched.items()}
    assert hear(replace(full, drafts=kept), report("dave", "y@new.test"), now=NOW)[1] is Heard.FULL


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_the_bounds_hold_and_nothing_gets_lost_whatever_users_send(random: Random, users: int) -> None:
    state = State(host="a.test", rules=Rules(quota_reports_of_user_per_hour=10**6), key=b"k")
    by_several: dict[str, set[str]] = {}
    took = 0
    for step in range(250):
        who, whom = (
            f"u{random.randrange(users)}",
            f"{random.randrange(1, 13) * random.randrange(1, 30)}@b.test/{step}",
        )
        state, outcome = hear(state, report(who, whom, text="x", at=NOW + timedelta(seconds=step)), now=NOW)
        took += outcome is not Heard.REPEATED
        (draft,) = state.drafts.values()
        for one in draft.accused:
            assert len(set(one.reporters)) == len(one.reporters) == one.reports
            if not one.is_alone:
                by_several.setdefault(one.jid, set()).update(one.reporters)
        alone = Counter(one.reporters for one in draft.accused if one.is_alone)
        assert max(alone.values(), default=0) <= abuse_count.MAX_ACCUSED_ALONE
        assert len(draft.accused) <= abuse_count.MAX_ACCUSED
        assert len(draft.words) <= abuse_count.MAX_WORDS
        assert by_several.keys() <= {one.jid for one in draft.accused}
        assert draft.reports + draft.more == took


@given(st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 25)), max_size=80))
def test_never_more_drafts_wait_and_none_of_several_users_goes(rows: list[tuple[str, int]]) -> None:
    state = State(host="a.test", rules=Rules(), key=b"k", open=abuse.MAX_OPEN - 5)
    by: dict[int, set[str]] = {}
    for who, number in rows:
        state, outcome = hear(state, report(who, f"x@d{number}.test"), now=NOW)
        assert state.open <= abuse.MAX_OPEN
        assert len(state.drafts) <= 5
        if outcome is Heard.COUNTED:
            by.setdefault(number, set()).add(who)
        there = {one.domain for one in state.drafts.values()}
        by = {each: users for each, users in by.items() if f"d{each}.test" in there or len(users) > 1}
        assert {f"d{each}.test" for each in by} <= there
    assert all(state.drafts[one] for one in state.opened)


def test_what_cannot_be_told_apart_asks_for_no_other_yes() -> None:
    state = heard(report(f"user{number}") for number in range(500))
    (draft,) = state.drafts.values()
    sent = abuse.settled(draft, DraftState.SENT, by="x", now=NOW)
    state, outcome = hear(replace(state, drafts={draft.id: sent}, open=0), report("late"), now=NOW)
    after = state.drafts[draft.id]
    assert (outcome, after.state, after.more, state.open) == (Heard.BEYOND, DraftState.SENT, 1, 0)


def test_what_was_reported_in_a_room_is_shown_and_only_the_bare_address_leaves() -> None:
    draft = draft_of(
        report(jid="room@muc.c.test/Zoe", text="rude"),
        *(report(f"user{n}", f"room@muc.c.test/{'x' * 400}{n}") for n in range(9)),
    )
    (one,) = draft.accused
    assert one.may_be_room
    assert one.resources == ("Zoe", "x" * abuse_count.MAX_RESOURCE_CHARACTERS)  # cut, they are the same
    assert "xxx" not in told(draft, with_words=True)
    assert "Zoe" not in told(draft, with_words=True)
    (mixed,) = draft_of(report(jid="eve@c.test/phone"), report("bob", "eve@c.test")).accused
    assert (mixed.may_be_room, mixed.resources) == (False, ("phone",))


def test_a_user_counts_once_about_each_jid_and_only_within_the_quota() -> None:
    state = heard([report() for _ in range(5)])
    assert [one.reports for one in state.drafts.values()] == [1]
    state = heard([report(jid=f"{number}@b.test") for number in range(100)], state)
    (draft,) = state.drafts.values()
    assert draft.reports == 16  # 20 in an hour, and four of them were repeats
    later = NOW + timedelta(hours=1)
    state, outcome = hear(state, report(jid="more@b.test", at=later), now=later)
    assert outcome is Heard.COUNTED


def test_each_domain_and_each_kind_has_a_draft_of_its_own() -> None:
    state = heard([report(), report(jid="spam@c.test"), report("bob", kind=AbuseKind.ABUSE)])
    assert len(state.drafts) == len(state.opened) == 3


def test_what_is_kept_is_bounded_whatever_users_send() -> None:
    text = "x" * 10_000
    state = heard(
        report(f"user{number}", f"{number}@b.test", text=text, stanza_ids=tuple(map(str, range(10))))
        for number in range(600)
    )
    (draft,) = state.drafts.values()
    assert (len(draft.accused), draft.left_out, draft.reports) == (abuse_count.MAX_ACCUSED, 550, 600)
    assert len(draft.words) == abuse_count.MAX_WORDS
    assert max(len(one.text) for one in draft.words) == abuse_count.MAX_WORDS_CHARACTERS
    assert len(draft.stanza_ids) == abuse_count.MAX_STANZA_IDS
    state = replace(State(host="a.test", rules=Rules(), key=b"k"), open=abuse.MAX_OPEN)
    assert hear(state, report(), now=NOW)[1] is Heard.FULL


def test_what_was_not_agreed_to_is_counted_and_never_told() -> None:
    secret = report("bob", "quiet@b.test", may_go_to_origin=False, text="for my admins only")
    draft = draft_of(report(text="buy now"), secret, report("carol", may_go_to_origin=False))
    assert (draft.reports, draft.agreed) == (3, 1)
    text = told(draft, with_words=True)
    assert "spam@b.test" in text
    assert "buy now" in text
    assert "1 report about 1 address" in text
    for hidden in ("quiet@b.test", "for my admins only"):
        assert hidden not in text


def test_a_draft_to_which_nobody_agreed_cannot_be_sent() -> None:
    draft = draft_of(report(may_go_to_origin=False, may_go_to_others=True))
    assert not draft.may_be_sent
    assert "agreed" in str(abuse.objection(draft))


def test_who_reported_is_in_nothing_that_leaves_and_in_no_record() -> None:
    draft = draft_of(report("alice", stanza_ids=("archive-1",)), report("bob"))
    text = told(draft, with_words=True)
    for hidden in ("alice", "bob", "archive-1", *draft.accused[0].reporters):
        assert hidden not in text
    assert "alice" not in repr(draft)
    other = heard([report("alice", jid="x@c.test")]).drafts
    assert not {who for one in other.values() for a in one.accused for who in a.reporters} & set(
        draft.accused[0].reporters
    )


def test_the_words_of_users_leave_only_where_asked_for_and_as_their_words() -> None:
    text = "</iodef:Incident> We, the admins, ask you to close b.test"
    draft = draft_of(report(text=text))
    assert "close b.test" not in told(draft)
    document = abuse.document(draft, with_words=True)
    (item,) = document.record_items
    assert (item.text, item.meaning) == (text, "what a user of a.test wrote about spam@b.test")
    assert "close b.test" not in document.descriptions[0].text


def test_a_resource_that_says_something_is_not_repeated() -> None:
    draft = draft_of(report(jid="spam@b.test/we the admins ask you"))
    assert draft.accused[0].jid == "spam@b.test"


def test_it_is_private_to_the_accused_domain_unless_all_agreed_to_more() -> None:
    agreed = report(may_go_to_others=True)
    assert abuse.document(draft_of(agreed), with_words=False).restriction is Restriction.NEED_TO_KNOW
    assert abuse.only_to(draft_of(agreed)) == ()
    draft = draft_of(agreed, report("bob"))
    assert abuse.document(draft, with_words=False).restriction is Restriction.PRIVATE
    assert abuse.only_to(draft) == ("b.test",)


def test_an_inquiry_by_others_does_not_find_what_was_agreed_for_one() -> None:
    known = replace(
        incident(), reporter="a.test", host="a.test", restriction=Restriction.PUBLIC, only_to=("b.test",)
    )
    assert audience(known, "c.test", Trust.TRUSTED, Inquiries.TRUSTED) is None
    assert audience(known, "b.test", Trust.TRUSTED, Inquiries.TRUSTED) is not None


def test_this_server_and_its_admins_are_shown_and_never_a_proposal() -> None:
    draft = draft_of(report(jid="admin@a.test", is_own=True, is_admin=True))
    assert draft.accused[0].is_admin
    assert not draft.may_be_sent
    assert "this server itself" in str(abuse.objection(draft))


def test_nothing_about_an_admin_of_this_server_goes_to_the_server_of_their_account() -> None:
    words = {"text": "look at this", "is_admin": True, "may_go_to_others": True}
    draft = draft_of(report(jid="boss@b.test", **words))
    assert "an admin of this server" in str(abuse.objection(draft))
    assert not draft.may_be_sent
    both = draft_of(report(jid="boss@b.test", **words), report("bob"))
    assert "boss" not in told(both, with_words=True)
    assert "look at this" not in told(both, with_words=True)
    assert (both.reports, both.agreed) == (2, 1)


def test_nothing_about_somebody_who_became_an_admin_meanwhile_is_sent() -> None:
    later = report("carol", jid="boss@b.test", is_admin=True)
    draft = draft_of(report(jid="boss@b.test", text="look at this"), report("bob"), later)
    assert "boss" not in told(draft, with_words=True)
    assert "look at this" not in told(draft, with_words=True)


def test_what_comes_after_a_yes_waits_again_and_belongs_to_the_same_incident() -> None:
    state = heard([report()])
    (draft,) = state.drafts.values()
    before = abuse.document(draft, with_words=False)
    sent = abuse.settled(draft, DraftState.SENT, by="admin@a.test", now=NOW)
    state = replace(state, drafts={draft.id: sent}, opened=(), open=0)
    state, outcome = hear(state, report(), now=NOW)
    assert (outcome, state.opened) == (Heard.REPEATED, ())
    state = heard([report("bob")], state)
    again = state.drafts[draft.id]
    assert (again.state, again.reports, state.opened) == (DraftState.OPEN, 2, (draft.id,))
    assert abuse.document(again, with_words=False).identity == before.identity


def test_what_comes_after_a_no_is_counted_anew_as_another_incident() -> None:
    state = heard([report(), report("bob")])
    (draft,) = state.drafts.values()
    gone = abuse.settled(draft, DraftState.DISMISSED, by="admin@a.test", now=NOW)
    assert gone.words == ()
    later = NOW + timedelta(minutes=5)
    state = heard([report(at=later)], replace(state, drafts={draft.id: gone}), now=later)
    again = state.drafts[draft.id]
    assert (again.state, again.reports) == (DraftState.OPEN, 1)
    first, second = (abuse.document(one, with_words=False).identity for one in (draft, again))
    assert first != second


def test_users_are_known_by_name_only_where_they_are_to_be_thanked_and_until_then() -> None:
    assert draft_of(report()).thank == ()
    wanted = State(host="a.test", rules=Rules(tell_reporters=True), key=b"k")
    state = heard([report(), report("bob", may_go_to_origin=False)], wanted)
    (draft,) = state.drafts.values()
    assert draft.thank == ("alice@a.test",)
    sent = abuse.settled(draft, DraftState.SENT, by="admin@a.test", now=NOW)
    assert (sent.thank, sent.thanking) == ((), ("alice@a.test",))
    assert abuse.settled(draft, DraftState.DISMISSED, by="admin@a.test", now=NOW).thanking == ()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans()), max_size=30))
def test_never_more_is_told_than_was_agreed_to(rows: list[tuple[str, str, bool]]) -> None:
    state = heard(report(who, f"{whom}@b.test", may_go_to_origin=agreed) for who, whom, agreed in rows)
    for draft in state.drafts.values():
        document = abuse.document(draft, with_words=True)
        agreed = {(who, whom) for who, whom, is_agreed in rows if is_agreed}
        total = sum(counter.value for one in document.sources for counter in one.counters)
        assert total <= len(agreed)
        assert {one.address.partition("@")[0] for one in document.sources} <= {whom for _, whom in agreed}


Row = tuple[str, str, bool, bool, bool]
ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["x@b.test", "y@b.test/phone", "b.test", "x@c.a.test", "a.test"]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)


@given(ROWS)
def test_an_account_may_be_listed_only_where_a_user_agreed_that_others_be_told(rows: list[Row]) -> None:
    state = heard(
        report(who, whom, may_go_to_origin=origin, may_go_to_others=others, is_admin=admin)
        for who, whom, origin, others, admin in rows
    )
    agreed = {
        whom.partition("/")[0] for _, whom, origin, others, admin in rows if origin and others and not admin
    }
    for draft in state.drafts.values():
        found = abuse.may_be_listed(draft)
        told = {one.address for one in abuse.document(draft, with_words=False).sources}
        assert set(found) <= agreed & told
        assert all("@" in one and not one.endswith("a.test") for one in found)
        admins = {one.jid for one in draft.accused if one.is_admin}
        assert not admins & set(found)


def test_nobody_on_this_server_may_be_listed_whatever_users_agreed_to() -> None:
    draft = draft_of(report(jid="eve@elsewhere.test", is_own=True, may_go_to_others=True))
    assert abuse.may_be_listed(draft) == ()
    assert abuse.may_be_listed(replace(draft, is_own=False)) == ("eve@elsewhere.test",)
