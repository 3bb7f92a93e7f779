"""Who gets in, how far, and what the others are told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RefusedError
from bridge.policy.admit import Arrival, admit, charge, names_of, puts
from bridge.policy.change import Queue
from bridge.policy.quota import OverQuotaError, refill
from bridge.policy.record import STRANGERS, Interaction, incident_id
from bridge.policy.trust import Authentication, Direction, Rule, Stream, Trust, standing
from bridge.xep0268.model import Kind, Reading

from .conftest import NOW, arrival_of, stanza, state

Arrive = Callable[..., Arrival]


def refusal(before: object, arrival: Arrival) -> str:
    with pytest.raises(RefusedError) as caught:
        admit(charge(before, arrival, now=NOW), arrival, now=NOW)  # type: ignore[arg-type]
    error = caught.value.stanza_error
    return f"{error.type}/{error.condition}"


def stored(change: object) -> Interaction:
    record = change.puts[0].after  # type: ignore[attr-defined]
    assert isinstance(record, Interaction)
    return record


def test_a_trusted_peers_report_is_stored_in_its_own_lane(arrive: Arrive) -> None:
    after, change = admit(state(trust=Trust.TRUSTED), arrive(), now=NOW)
    assert not stored(change).quarantined
    assert [(one.queue, one.lane) for one in change.appends] == [(Queue.INCIDENTS, "a.test|b.test")]
    assert after.peers["b.test"].received == 1
    assert after.quarantine.interactions == 0


def test_a_strangers_report_is_stored_and_counted_in_quarantine(arrive: Arrive) -> None:
    arrival = arrive()
    after, change = admit(state(), arrival, now=NOW)
    assert stored(change).quarantined
    assert (after.quarantine.interactions, after.quarantine.size_bytes) == (1, len(arrival.original))


def test_a_trusted_peer_without_a_certificate_counts_as_a_stranger(arrive: Arrive) -> None:
    weak = Stream(direction=Direction.INCOMING, encrypted=True, authentication=Authentication.DIALBACK)
    _, change = admit(state(trust=Trust.TRUSTED), arrive(stream=weak), now=NOW)
    assert stored(change).trust is Trust.STRANGER
    assert stored(change).quarantined


def test_a_blocked_peer_stays_blocked_on_any_stream() -> None:
    for authentication in Authentication:
        stream = Stream(direction=Direction.INCOMING, encrypted=True, authentication=authentication)
        assert standing(Trust.BLOCKED, stream, required=Authentication.DIALBACK) is Trust.BLOCKED


def test_a_blocked_peer_is_told_so(arrive: Arrive) -> None:
    assert refusal(state(trust=Trust.BLOCKED), arrive()) == "auth/forbidden"


@pytest.mark.parametrize("sender", ["juliet@b.test", "b.test/desk", "juliet@b.test/desk"])
def test_a_user_is_not_a_server(arrive: Arrive, sender: str) -> None:
    assert refusal(state(trust=Trust.TRUSTED), arrive(sender=sender)) == "auth/forbidden"


def test_a_user_who_is_allowed_by_name_may_report(arrive: Arrive) -> None:
    before = state(trust=Trust.TRUSTED, allow_users=frozenset({"juliet@b.test"}))
    _, change = admit(before, arrive(sender="juliet@b.test/desk"), now=NOW)
    assert (stored(change).peer, stored(change).sender) == ("b.test", "juliet@b.test/desk")


def test_an_unencrypted_stream_is_refused_unless_allowed(arrive: Arrive) -> None:
    plain = Stream(direction=Direction.INCOMING, encrypted=False, authentication=Authentication.DIALBACK)
    assert refusal(state(), arrive(stream=plain)) == "modify/policy-violation"
    admit(state(unencrypted="accept"), arrive(stream=plain), now=NOW)


def test_strangers_are_refused_where_the_operator_says_so(arrive: Arrive) -> None:
    assert refusal(state(strangers="refuse"), arrive()) == "auth/forbidden"


def test_a_request_is_stored_like_a_report(arrive: Arrive) -> None:
    _, change = admit(state(trust=Trust.TRUSTED), arrive(kind="request"), now=NOW)
    assert (stored(change).kind, stored(change).quarantined) == (Kind.REQUEST, False)
    assert [one.action for one in stored(change).document.expectations] == ["block-host"]


def test_an_inquiry_waits_in_its_lane_and_leaves_no_record(arrive: Arrive) -> None:
    before = state()
    after, change = admit(before, arrive(kind="inquiry"), now=NOW)
    assert (change.puts, change.remembers, puts(before, after)) == ((), (), ())
    (append,) = change.appends
    assert (append.queue, append.lane, append.item["trust"]) == (
        Queue.INCIDENTS,
        "a.test|b.test",
        "stranger",
    )


def test_a_response_that_nobody_asked_for_is_quarantined_whoever_sends_it(arrive: Arrive) -> None:
    _, change = admit(state(trust=Trust.TRUSTED), arrive(kind="response"), now=NOW)
    assert (stored(change).quarantined, stored(change).answers) == (True, None)


@pytest.mark.parametrize(("kind", "question"), [("report", Kind.INQUIRY), ("response", Kind.REQUEST)])
def test_what_answers_a_question_of_ours_is_not_quarantined(
    arrive: Arrive, kind: str, question: Kind
) -> None:
    arrival = arrive(kind=kind)
    name = names_of("a.test", arrival)[1]
    assert name.startswith(question)
    assert isinstance(arrival.reading, Reading)
    own = incident_id("a.test", "b.test", arrival.reading.incident.identity)
    about = own if kind == "report" else "ours"
    before = replace(state(), remembered={name: f"asked {about}"})
    _, change = admit(before, arrival, now=NOW)
    assert (stored(change).quarantined, stored(change).answers) == (False, "asked")
    assert stored(change).incident_id == about


def test_the_answer_of_another_peer_does_not_count(arrive: Arrive) -> None:
    name = names_of("a.test", arrive(kind="response"))[1]
    before = replace(state(domain="c.test"), remembered={name: "asked own"})
    _, change = admit(before, arrive(kind="response", sender="c.test"), now=NOW)
    assert (stored(change).quarantined, stored(change).answers) == (True, None)


@pytest.mark.parametrize("trust", [Trust.TRUSTED, Trust.STRANGER])
@pytest.mark.parametrize("kind", Kind)
def test_a_kind_that_the_operator_refuses_is_refused_and_no_other(
    arrive: Arrive, kind: Kind, trust: Trust
) -> None:
    before = state(trust=trust)
    peer = replace(before.peers["b.test"], rules={kind: Rule.REFUSE})
    before = replace(before, peers={"b.test": peer})
    assert refusal(before, arrive(kind=kind)) == "auth/forbidden"
    for other in set(Kind) - {kind}:
        admit(before, arrive(kind=other), now=NOW)


@pytest.mark.parametrize(
    ("trust", "decided", "expected"),
    [
        (Trust.TRUSTED, None, Rule.NOTIFY),
        (Trust.TRUSTED, Rule.ACCEPT, Rule.ACCEPT),
        (Trust.TRUSTED, Rule.QUARANTINE, Rule.QUARANTINE),
        (Trust.STRANGER, None, Rule.QUARANTINE),
        (Trust.STRANGER, Rule.ACCEPT, Rule.QUARANTINE),
        (Trust.STRANGER, Rule.NOTIFY, Rule.QUARANTINE),
    ],
)
def test_a_rule_lifts_no_stranger_out_of_quarantine(
    arrive: Arrive, trust: Trust, decided: Rule | None, expected: Rule
) -> None:
    before = state(trust=trust)
    peer = replace(before.peers["b.test"], rules={} if decided is None else {Kind.REPORT: decided})
    _, change = admit(replace(before, peers={"b.test": peer}), arrive(), now=NOW)
    assert (stored(change).rule, stored(change).quarantined) == (expected, expected is Rule.QUARANTINE)


def test_what_cannot_be_read_is_told_only_to_those_who_may_talk_to_us(arrive: Arrive) -> None:
    broken = "<IncidentID name='jabber.org'>"
    original = (
        stanza().replace(broken, "<Method/>" + broken).replace("4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF", "")
    )
    arrival = arrival_of(original.encode(), id="i1")
    assert refusal(state(), arrival) == "modify/bad-request"
    assert refusal(state(trust=Trust.BLOCKED), arrival) == "auth/forbidden"


@pytest.mark.parametrize(("fill", "trust"), [(0.8, Trust.STRANGER), (0.95, Trust.TRUSTED)])
def test_a_full_store_refuses_strangers_first_and_then_everybody(
    arrive: Arrive, fill: float, trust: Trust
) -> None:
    assert refusal(state(trust=trust, fill=fill), arrive()) == "wait/resource-constraint"
    admit(state(trust=trust, fill=fill - 0.01), arrive(), now=NOW)


@given(st.lists(st.integers(0, 3), max_size=40))
def test_the_quarantine_never_outgrows_its_bounds(texts: list[int]) -> None:
    current = state(quarantine_max=5, quarantine_max_per_peer=3, quarantine_max_bytes=9000)
    for number, text in enumerate(texts):
        arrival = arrival_of(stanza(text=f"{text}-{number}").encode(), id=f"i{number}")
        try:
            current, _ = admit(current, arrival, now=NOW)
        except RefusedError:
            continue
    assert current.peers["b.test"].quarantined <= 3
    assert current.quarantine.size_bytes <= 9000


def test_the_same_report_again_is_answered_and_not_stored(arrive: Arrive) -> None:
    after, _ = admit(state(trust=Trust.TRUSTED), arrive(), now=NOW)
    again, change = admit(after, arrive(iq_id="x2"), now=NOW)
    assert change.puts == ()
    assert [one.queue for one in change.appends] == [Queue.OUTGOING]
    assert "x2" in change.appends[0].item["stanza"]
    assert again.peers["b.test"].received == 1


def test_one_report_more_than_the_burst_is_over_the_quota(arrive: Arrive) -> None:
    current = state(trust=Trust.TRUSTED, quota_burst=2, quota_per_minute=60)
    for _ in range(2):
        current = charge(current, arrive(), now=NOW)
    with pytest.raises(OverQuotaError) as caught:
        charge(current, arrive(), now=NOW)
    assert (caught.value.name, caught.value.seconds) == ("b.test", 1)
    charge(current, arrive(), now=NOW + timedelta(seconds=1))


def test_all_strangers_together_have_a_quota_that_trusted_peers_do_not_share(arrive: Arrive) -> None:
    current = charge(state(quota_strangers_burst=1), arrive(), now=NOW)
    with pytest.raises(OverQuotaError) as caught:
        charge(current, arrive(), now=NOW)
    assert caught.value.name == STRANGERS
    charge(state(trust=Trust.TRUSTED, quota_strangers_burst=1), arrive(), now=NOW)


@given(
    st.lists(st.tuples(st.floats(-100, 1000), st.booleans()), max_size=50),
    st.floats(1, 600),
    st.floats(1, 600),
)
def test_a_bucket_holds_between_nothing_and_its_burst(
    steps: list[tuple[float, bool]], per_minute: float, burst: float
) -> None:
    now, bucket = NOW, None
    for seconds, take in steps:
        now += timedelta(seconds=seconds)
        bucket = refill(bucket, "a.test", "b.test", per_minute=per_minute, burst=burst, now=now)
        assert 0 <= bucket.tokens <= burst + 1e-9
        if take and bucket.tokens >= 1:
            bucket = replace(bucket, tokens=bucket.tokens - 1)


def test_a_batch_writes_each_record_once_however_many_items_changed_it(arrive: Arrive) -> None:
    before = state()
    current = before
    for number in range(3):
        arrival = arrive(text=str(number))
        current, _ = admit(charge(current, arrival, now=NOW), arrival, now=NOW)
    written = [type(put.after).__name__ for put in puts(before, current)]
    assert sorted(written) == ["Bucket", "Bucket", "Peer", "Quarantine"]


def test_what_is_refused_changes_nothing_but_its_tokens(arrive: Arrive) -> None:
    before = state(trust=Trust.TRUSTED)
    arrival = arrive(sender="juliet@b.test")
    current = charge(before, arrival, now=NOW)
    with pytest.raises(RefusedError):
        admit(current, arrival, now=NOW)
    assert [type(put.after).__name__ for put in puts(before, current)] == ["Bucket"]
