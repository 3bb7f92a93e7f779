"""From a yes to what is done, undone and over: deciding twice is deciding once, and nothing protected by one yes."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.iodef.model import Expectation, IncidentId, Source
from bridge.iodef.model import Incident as Document
from bridge.policy import mitigation as rules
from bridge.policy.approval import MAX_TARGETS, may_be_automatic, own_target, propose, protect
from bridge.policy.decisions import (
    Approval,
    ApprovalState,
    Mitigation,
    MitigationState,
    MitigationType,
    TargetState,
)
from bridge.policy.mitigation import ProtectedError, Yes
from bridge.policy.outcome import outcome_of
from bridge.policy.outgoing import draft
from bridge.policy.record import Interaction, Outcome, Way
from bridge.xep0268.model import Kind

from .conftest import NOW

HOST = "a.test"
LATER = NOW + timedelta(hours=1)


def jid(address: str, system: str = "source") -> Source:
    return Source(address=address, category="xmpp", jid=address, system=system)


def asked(
    *sources: str, actions: tuple[str, ...] = ("block-host",), rooms: tuple[str, ...] = ()
) -> Interaction:
    document = Document(
        identity=IncidentId(name="b.test", text="1"),
        sources=tuple(jid(one) for one in sources),
        targets=tuple(jid(one, "target") for one in rooms),
        expectations=tuple(Expectation(action=one) for one in actions),
    )
    made = draft(
        interaction_id="r1", host=HOST, to="b.test", kind=Kind.REQUEST, payload=b"", document=document,
        status=None, incident_id="n1", now=NOW,
    )  # fmt: skip
    return replace(made, way=Way.RECEIVED)


def proposal(*sources: str, protected: frozenset[str] = frozenset(), **more: tuple[str, ...]) -> Approval:
    return propose(asked(*sources, **more), protected=protected, expires_at=NOW + timedelta(days=7))


def yes(*, second: bool = False) -> Yes:
    return Yes(by="cli:anna", at=NOW, expires_at=NOW + timedelta(days=30), is_second=second)


def approved(one: Approval, *addresses: str) -> tuple[Approval, tuple[Mitigation, ...]]:
    return rules.approve(one, rules.chosen(one, addresses or None), yes())


def test_a_request_becomes_a_proposal_named_like_it() -> None:
    one = proposal("juliet@a.test", "spam.example")
    assert (one.id, one.request, one.requester, one.state) == ("r1", "r1", "b.test", ApprovalState.OPEN)
    assert [(each.type, dict(each.fields), each.state) for each in one.targets] == [
        (MitigationType.SUSPEND, {"account": "juliet@a.test"}, TargetState.OFFERED),
        (MitigationType.BLOCK, {"domain": "spam.example"}, TargetState.OFFERED),
    ]


def test_a_foreign_user_is_banned_from_the_rooms_of_ours_that_the_request_names() -> None:
    one = proposal("bad@spam.example", rooms=("tea@muc.a.test", "tea@muc.other.test", "muc.a.test"))
    assert [dict(each.fields) for each in one.targets] == [
        {"room": "tea@muc.a.test", "jid": "bad@spam.example"}
    ]
    (nowhere,) = proposal("bad@spam.example").targets
    assert (nowhere.state, nowhere.reason) == (TargetState.SHOWN, "the request names no room of ours")


def test_the_same_thing_asked_for_twice_is_one_target() -> None:
    one = proposal("juliet@a.test", "juliet@a.test/phone", actions=("block-host", "block-host"))
    assert len(one.targets) == 1


@given(st.integers(0, 30), st.integers(0, 30))
def test_one_yes_never_covers_more_than_twenty(accounts: int, rooms: int) -> None:
    sources = [f"u{n}@a.test" for n in range(accounts)] + ["bad@spam.example"]
    one = proposal(*sources, rooms=tuple(f"r{n}@muc.a.test" for n in range(rooms)))
    assert sum(each.state is TargetState.OFFERED for each in one.targets) <= MAX_TARGETS


@given(st.sets(st.integers(0, 4), min_size=1))
def test_deciding_twice_is_deciding_once(which: set[int]) -> None:
    one = proposal(*(f"u{n}@a.test" for n in range(5)))
    first, second = (rules.approve(one, frozenset(which), yes()) for _ in range(2))
    assert first == second
    assert len({each.id for each in first[1]}) == len(which)
    assert [each.state for each in first[0].targets] == [
        TargetState.APPROVED if n in which else TargetState.LEFT_OUT for n in range(5)
    ]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=3, max_size=12))
def test_an_approval_is_settled_once_all_is_known_and_then_never_again(
    answers: list[tuple[int, bool]],
) -> None:
    one, made = approved(proposal("a@a.test", "b@a.test", "c@a.test"))
    known: dict[int, bool] = {}
    for n, is_good in answers:
        known.setdefault(n, is_good)
        told = rules.applied(made[n], at=NOW) if is_good else rules.failed(made[n], "no", at=NOW)
        one = rules.progress(one, told)
        if len(known) < 3:
            assert one.state is ApprovalState.APPROVED
    if len(known) == 3:
        good = sum(known.values())
        expected = {0: ApprovalState.FAILED, 3: ApprovalState.DONE}.get(good, ApprovalState.PARTLY)
        assert one.state is expected


@pytest.mark.parametrize("address", ["juliet@a.test", "account juliet@a.test"])
def test_a_part_is_chosen_by_any_of_its_names(address: str) -> None:
    one = proposal("juliet@a.test", "spam.example")
    assert rules.chosen(one, [address]) == {0}


def test_what_is_not_offered_cannot_be_chosen() -> None:
    one = proposal("juliet@a.test", actions=("block-host", "investigate"))
    with pytest.raises(ConfigError, match=r"romeo@a\.test is not among"):
        rules.chosen(one, ["romeo@a.test"])
    with pytest.raises(ConfigError, match="nothing that is asked for"):
        rules.chosen(proposal("juliet@a.test", actions=("investigate",)), None)


@pytest.mark.parametrize(
    ("source", "protected", "trusted"),
    [
        ("postmaster@a.test", {"postmaster@a.test"}, set()),
        ("friend.example", {"friend.example"}, set()),
        ("friend.example", set(), {"friend.example"}),
        ("bad@friend.example", set(), {"friend.example"}),
    ],
)
def test_protected_names_need_a_second_yes(source: str, protected: set[str], trusted: set[str]) -> None:
    one = proposal(source, "juliet@a.test", rooms=("tea@muc.a.test",))
    one = replace(one, targets=protect(one.targets, protected=protected, trusted=trusted))
    with pytest.raises(ProtectedError, match=source.rpartition("@")[2]):
        approved(one)
    after, _ = rules.approve(one, rules.chosen(one, None), yes(second=True))
    assert after.had_second_yes
    assert approved(one, "juliet@a.test")[0].had_second_yes is False


def test_a_rule_says_yes_only_to_what_is_previewed_harmless_and_within_its_day() -> None:
    bare = proposal("a@a.test", "b@a.test")

    def allowed(one: Approval, *, per_day: int = 2, spent: int = 0) -> bool:
        done = [("block-host", NOW)] * spent + [("block-host", NOW - timedelta(days=2))] * 9
        return may_be_automatic(one, action="block-host", per_day=per_day, done=done, now=NOW)

    def previewed(**preview: object) -> Approval:
        return replace(bare, targets=tuple(replace(one, preview=preview) for one in bare.targets))

    assert allowed(previewed(exists=True))
    assert not allowed(bare)
    assert not allowed(previewed(error="away"))
    assert not allowed(previewed(exists=False))
    assert not allowed(previewed(exists=True, is_admin=True))
    assert not allowed(previewed(exists=True), per_day=1)
    assert not allowed(previewed(exists=True), spent=1)
    good = previewed(exists=True)
    assert not allowed(replace(good, targets=protect(good.targets, protected={"a@a.test"})))


def test_a_lift_outranks_what_it_lifts_and_says_what_it_found() -> None:
    _, (made,) = approved(proposal("juliet@a.test"))
    under_way = rules.lift(rules.applied(made, at=NOW), by="cli:anna", reason="a mistake", at=LATER)
    assert (under_way.state, under_way.revision) == (MitigationState.LIFTING, 2)
    assert rules.lifted(under_way, {"was": "active"}, at=LATER).note == "a mistake"
    assert "undone on the server" in rules.lifted(under_way, {"was": "undone"}, at=LATER).note
    assert "does not exist any more" in rules.lifted(under_way, {"is_gone": True}, at=LATER).note
    gone = rules.lifted(under_way, None, at=LATER)
    assert gone.state is MitigationState.LIFTED
    assert "by hand" in gone.note
    assert not rules.may_be_lifted(gone)
    assert rules.expired(gone, at=LATER) is None


def test_the_requester_is_told_all_that_was_done_and_not_who_did_it() -> None:
    one, made = approved(proposal("juliet@a.test", "romeo@a.test"), "juliet@a.test")
    done = rules.applied(made[0], at=NOW)
    one = rules.progress(one, done)
    assert (one.state, rules.outcome(one)) == (ApprovalState.DONE, Outcome.PARTLY)
    told = rules.items(one, [done], now=NOW)
    assert [each.action for each in told] == ["block-host", "nothing"]
    assert not any("anna" in text.text for each in told for text in each.descriptions)
    request = asked("juliet@a.test").document
    assert outcome_of(replace(request, history=told), request) is Outcome.PARTLY

    over = replace(done, state=MitigationState.EXPIRED, ended_at=LATER)
    assert [each.action for each in rules.items(one, [over], now=LATER)] == ["block-host", "nothing", "other"]


@pytest.mark.parametrize(
    ("kind", "address", "room"),
    [
        (MitigationType.SUSPEND, "juliet@b.test", ""),
        (MitigationType.SUSPEND, "a.test", ""),
        (MitigationType.BLOCK, "a.test", ""),
        (MitigationType.BLOCK, "bad@spam.example", ""),
        (MitigationType.BAN, "spam.example", "tea@muc.a.test"),
        (MitigationType.BAN, "bad@spam.example", ""),
        (MitigationType.BAN, "bad@spam.example", "muc.a.test"),
        (MitigationType.BLOCK, "", ""),
        (MitigationType.BLOCK, "no domain", ""),
    ],
)
def test_an_operator_is_told_what_is_wrong_with_an_address(
    kind: MitigationType, address: str, room: str
) -> None:
    with pytest.raises(ConfigError):
        own_target(HOST, kind, address=address, room=room)


def test_the_same_target_asked_for_twice_is_two_mitigations_and_lifting_one_says_so() -> None:
    first = proposal("juliet@a.test")
    second = replace(first, id="r2", request="r2")
    (one,), (other,) = (approved(each)[1] for each in (first, second))
    assert one.target == other.target
    assert one.id != other.id
    under_way = rules.lift(rules.applied(one, at=NOW), by="cli:anna", reason="", at=LATER)
    done = rules.lifted(under_way, {"was": "active", "still_mitigated_by": [other.id]}, at=LATER)
    assert done.note == "another mitigation of the same is still in force"
    assert rules.progress(second, done) is second
