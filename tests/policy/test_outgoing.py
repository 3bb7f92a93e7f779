"""A sending of ours: whatever comes back, in whatever order, it ends, and is counted and told once."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId
from bridge.policy import outgoing
from bridge.policy.change import Change
from bridge.policy.outgoing import (
    Answer,
    draft,
    enqueue,
    handed_over,
    is_due,
    not_sendable,
    overdue,
    scored,
    settle,
)
from bridge.policy.record import Interaction, InteractionState, Outcome, Peer
from bridge.xep0268.model import Kind
from bridge.xmpp.stanza import PeerError

from .conftest import NOW

S = InteractionState
DOCUMENT = Document(identity=IncidentId(name="a.test", text="1"))
REFUSAL = PeerError(type="cancel", condition="service-unavailable", text="")
BUSY = PeerError(type="wait", condition="resource-constraint", text="")
AWAY = PeerError(type="cancel", condition="remote-server-not-found", text="")
ENDS = {S.ACKNOWLEDGED, S.REFUSED, S.UNREACHABLE, S.UNANSWERED}
TERMINAL_EVENTS = {f"interaction.{state}" for state in ENDS}


@dataclass(frozen=True)
class Patience:
    answer_seconds: int = 300
    give_up_seconds: int = 86_400


def sending(**changes: object) -> Interaction:
    made = draft(
        interaction_id="i1",
        host="a.test",
        to="b.test",
        kind=Kind.REPORT,
        payload=b"<report/>",
        document=DOCUMENT,
        status=None,
        incident_id="n1",
        now=NOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def answer(failure: PeerError | None = None, *, sender: str = "b.test", bounce: bool = False) -> Answer:
    return Answer(sender=sender, is_bounce=bounce, failure=failure)


PEER = Peer(host="a.test", domain="b.test")
SENT = sending(state=S.SENT, attempts=1, first_sent_at=NOW, sent_at=NOW)


@pytest.mark.parametrize(
    ("came", "state"),
    [
        (answer(), S.ACKNOWLEDGED),
        (answer(REFUSAL), S.REFUSED),
        (answer(BUSY), S.QUEUED),
        (answer(AWAY, bounce=True), S.QUEUED),
        (answer(sender="c.test"), S.SENT),
        (answer(sender="b.test/x"), S.SENT),
        (answer(REFUSAL, sender="sub.b.test"), S.SENT),
    ],
)
def test_what_an_answer_means(came: Answer, state: InteractionState) -> None:
    after, _, _ = settle(SENT, PEER, came, now=NOW, patience=Patience())
    assert after.state is state
    assert after.failure == (came.failure if state is not S.SENT else None)


def test_the_time_an_answer_took_is_kept() -> None:
    later = NOW + timedelta(seconds=2.5)
    _, peer, change = settle(SENT, PEER, answer(), now=later, patience=Patience())
    assert (peer.answer_seconds, peer.acknowledged) == ((2.5,), 1)
    assert [event.type for event in change.events] == ["interaction.acknowledged"]


def test_an_answer_survives_its_lane() -> None:
    for came in (answer(), answer(REFUSAL), answer(AWAY, bounce=True)):
        item = outgoing.answer_item("x", "ib-i1", came)
        assert (item["answer"], outgoing.read_answer(item)) == ("i1", came)


def test_what_prosody_would_not_send_is_refused_and_says_why() -> None:
    change = not_sendable(sending(), "to is not a domain", now=NOW)
    (put,) = change.puts
    assert [event.type for event in change.events] == ["interaction.refused"]
    assert isinstance(put.after, Interaction)
    assert (put.after.state, put.after.retry_at) == (S.REFUSED, None)
    assert put.after.failure is not None
    assert "to is not a domain" in put.after.failure.text


def test_a_received_interaction_has_no_answer_to_settle() -> None:
    from bridge.policy.record import Way

    received = sending(way=Way.RECEIVED, state=S.SENT)
    assert settle(received, PEER, answer(), now=NOW, patience=Patience())[0] is received


def test_disco_is_asked_once_and_before() -> None:
    asked, append = outgoing.ask_first(PEER, now=NOW)
    assert append is not None
    assert "disco#info" in append.item["stanza"]
    assert outgoing.ask_first(asked, now=NOW) == (asked, None)


@dataclass
class World:
    """One sending, what the store would hold beside it, and what consumers were told."""

    interaction: Interaction
    patience: Patience
    peer: Peer = PEER
    now: datetime = NOW
    timers: dict[str, tuple[datetime, dict[str, object]]] = field(default_factory=dict)
    lane: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def take(self, change: Change) -> None:
        for timer in change.timers:
            self.timers[timer.name] = (timer.due_at, timer.append.item)
        self.lane += [append.item["send"] for append in change.appends]
        self.told += [event.type for event in change.events]

    def settle(self, came: Answer) -> None:
        self.interaction, self.peer, change = settle(
            self.interaction, self.peer, came, now=self.now, patience=self.patience
        )
        self.take(change)

    def send(self) -> None:
        """What the host's lane does when an attempt's turn comes."""
        if not self.lane:
            return
        self.lane.pop()
        if is_due(self.interaction, now=self.now):
            self.interaction, change = handed_over(self.interaction, now=self.now, patience=self.patience)
            self.take(change)

    def sweep(self) -> None:
        """What the sweep does with the timer that is due next: time passes until then."""
        name, (due_at, item) = min(self.timers.items(), key=lambda one: one[1][0])
        del self.timers[name]
        self.now = max(self.now, due_at)
        if "send" in item:
            self.lane.append(str(item["send"]))
            return
        self.interaction, self.peer, change = overdue(
            self.interaction, self.peer, int(str(item["attempt"])), now=self.now, patience=self.patience
        )
        self.take(change)


class Sending(RuleBasedStateMachine):
    """Any sequence of attempts, answers of anybody, bounces, silence, repeats and pauses."""

    @initialize(answer_seconds=st.integers(1, 600), give_up_seconds=st.sampled_from([1, 7, 600, 86_400]))
    def begin(self, answer_seconds: int, give_up_seconds: int) -> None:
        self.world = World(sending(), Patience(answer_seconds, give_up_seconds))
        self.world.take(enqueue(self.world.interaction))

    @rule()
    def send(self) -> None:
        self.world.send()

    @rule()
    def send_twice(self) -> None:
        self.world.lane *= 2
        self.world.send()
        self.world.send()

    @precondition(lambda self: self.world.timers)
    @rule()
    def time_comes(self) -> None:
        self.world.sweep()

    @rule(seconds=st.floats(0, 4000))
    def time_passes(self, seconds: float) -> None:
        self.world.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.world.interaction.attempts)
    @rule(failure=st.sampled_from([None, REFUSAL, BUSY, AWAY]), bounce=st.booleans())
    def answered(self, failure: PeerError | None, bounce: bool) -> None:  # noqa: FBT001
        self.world.settle(answer(failure, bounce=bounce and failure is not None))

    @rule(
        failure=st.sampled_from([None, REFUSAL, BUSY]),
        sender=st.sampled_from(["c.test", "x@b.test", "b.test/r", ""]),
    )
    def answered_by_another(self, failure: PeerError | None, sender: str) -> None:
        before = self.world.interaction
        self.world.settle(answer(failure, sender=sender))
        assert self.world.interaction is before

    @rule(attempt=st.integers(0, 5))
    def an_old_timer_comes(self, attempt: int) -> None:
        world = self.world
        if attempt != world.interaction.attempts:
            before = world.interaction
            after, _, _ = overdue(before, world.peer, attempt, now=world.now, patience=world.patience)
            assert after is before

    @invariant()
    def it_is_told_and_counted_once(self) -> None:
        world = self.world
        peer, state = world.peer, world.interaction.state
        ends = [event for event in world.told if event in TERMINAL_EVENTS]
        given_up = {"interaction.unreachable", "interaction.unanswered"}
        late = len(ends) == 2 and ends[0] in given_up and ends[1] == "interaction.acknowledged"
        assert len(ends) <= 1 or late
        assert bool(ends) is (state in ENDS)
        if ends:
            assert ends[-1] == f"interaction.{state}"
        assert peer.acknowledged + peer.refused + peer.unreachable + peer.unanswered == len(ends)

    @invariant()
    def the_stanza_is_always_the_same(self) -> None:
        interaction = self.world.interaction
        assert (interaction.id, interaction.iq_id, interaction.peer) == ("i1", "ib-i1", "b.test")

    @invariant()
    def what_is_open_has_something_that_moves_it_on(self) -> None:
        world = self.world
        match world.interaction.state:
            case S.QUEUED:
                assert world.lane or f"resend-{world.interaction.id}" in world.timers
            case S.SENT:
                assert f"overdue-{world.interaction.id}" in world.timers
            case _:
                assert world.interaction.state in ENDS

    def teardown(self) -> None:
        """With nobody answering any more it ends, after a bounded number of attempts."""
        if not hasattr(self, "world"):
            return
        world = self.world
        before = world.interaction.attempts
        for _ in range(400):
            if world.lane:
                world.send()
            elif world.timers:
                world.sweep()
        assert not world.timers
        assert world.interaction.state in ENDS
        assert world.interaction.attempts - before <= 40
        self.it_is_told_and_counted_once()


Sending.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestSending = Sending.TestCase


@pytest.mark.parametrize("give_up_seconds", [10, 60, 86_400])
def test_silence_is_given_up_in_time_and_after_few_attempts(give_up_seconds: int) -> None:
    patience = Patience(answer_seconds=1, give_up_seconds=give_up_seconds)
    world = World(sending(), patience)
    world.take(enqueue(world.interaction))
    while world.lane or world.timers:
        world.send() if world.lane else world.sweep()
    assert world.interaction.state is S.UNANSWERED
    assert (world.now - NOW).total_seconds() <= give_up_seconds + 1
    assert 2 <= world.interaction.attempts <= 40


def test_an_acknowledgement_ends_it_while_another_attempt_waits() -> None:
    world = World(SENT, Patience())
    world.settle(answer(BUSY))
    world.settle(answer())
    world.sweep()
    world.send()
    assert (world.interaction.state, world.interaction.attempts) == (S.ACKNOWLEDGED, 1)


def test_what_came_of_requests_is_scored_once_and_anew_where_it_was_acted_on_after_all() -> None:
    asked, peer = sending(), Peer(host="a.test", domain="b.test", requested=1)
    later = asked.received_at + timedelta(hours=2)
    peer = scored(peer, asked, None, now=later)
    assert (peer.acted, peer.declined, peer.decision_seconds) == (0, 0, ())
    peer = scored(peer, asked, Outcome.DECLINED, now=later)
    peer = scored(peer, replace(asked, outcome=Outcome.DECLINED), Outcome.DECLINED, now=later)
    assert (peer.acted, peer.declined, peer.decision_seconds) == (0, 1, (7200.0,))
    peer = scored(peer, replace(asked, outcome=Outcome.DECLINED), Outcome.PARTLY, now=later)
    peer = scored(peer, replace(asked, outcome=Outcome.PARTLY), Outcome.DONE, now=later)
    assert (peer.acted, peer.declined, peer.decision_seconds) == (1, 0, (7200.0,))
