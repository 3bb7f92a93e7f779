"""What is next after something was sent: who is waited for, for how long, and what ends it."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from bridge.cli.incident_page import step_commands, step_text
from bridge.config import PolicySettings
from bridge.iodef.model import Expectation, Source
from bridge.policy.clock import Step, next_steps
from bridge.policy.editions import add_edition
from bridge.policy.outreach import Channel, Outreach, PersonsAnswer, Tried, Verdict
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome, Peer
from bridge.xep0268.model import Kind, Status

from .conftest import NOW
from .test_outgoing import DOCUMENT, REFUSAL, sending


@dataclass(frozen=True)
class Rules:
    remind_days: int = 7
    list_days: int = 14


SPAM = replace(DOCUMENT, sources=(Source(address="x@b.test", category="xmpp", jid="x@b.test"),))
BLOCK = replace(DOCUMENT, expectations=(Expectation(action="block-host"),))
REPORT = sending(document=SPAM, state=InteractionState.ACKNOWLEDGED, attempts=1)
INCIDENT: Incident = add_edition(None, replace(REPORT, status=Status.NEW))
AGAIN = replace(REPORT, id="i2", received_at=NOW + timedelta(days=8))


def steps(*sent: Interaction, incident: Incident = INCIDENT) -> list[tuple[str, Step, float, int]]:
    found = next_steps(incident, sent, rules=Rules())
    return [(one.peer, one.step, (one.at - NOW) / timedelta(days=1), one.times) for one in found]


def test_first_a_reminder_is_due_and_after_it_the_list() -> None:
    assert steps(REPORT) == [("b.test", Step.REMIND, 7, 1)]
    assert steps(AGAIN, REPORT) == [("b.test", Step.LIST, 22, 2)]


def test_only_who_can_act_is_waited_for() -> None:
    assert steps(replace(REPORT, peer="friend.test")) == []
    assert steps(replace(REPORT, peer="friend.test", kind=Kind.REQUEST)) == [
        ("friend.test", Step.REMIND, 7, 1)
    ]
    assert steps(replace(REPORT, state=InteractionState.QUEUED, attempts=0)) == []
    assert steps(replace(REPORT, kind=Kind.INQUIRY)) == []


CHAT = Outreach(channel=Channel.CHAT, address="abuse@b.test")


def by_person(verdict: Verdict | None) -> Outreach:
    answer = PersonsAnswer(at=NOW, text="…", verdict=verdict)
    return Outreach(channel=Channel.CHAT, address="abuse@b.test", answers=(answer,))


@pytest.mark.parametrize(
    ("ended", "left"),
    [
        (replace(REPORT, outreach=by_person(None)), 1),
        (replace(REPORT, outreach=by_person(Verdict.DONE)), 0),
        (replace(REPORT, outreach=by_person(Verdict.DECLINED)), 0),
        (replace(REPORT, outreach=by_person(Verdict.NEED_MORE)), 1),
        (replace(REPORT, kind=Kind.REQUEST, outcome=Outcome.DONE), 0),
        (replace(REPORT, kind=Kind.REQUEST, outcome=Outcome.PARTLY), 1),
    ],
)
def test_an_answer_that_settles_it_ends_it_is_to_be_done(ended: Interaction, left: int) -> None:
    assert len(steps(ended)) == left


def at(days: float, **more: Any) -> Interaction:
    return replace(REPORT, id=f"i{days}", received_at=NOW + timedelta(days=days), **more)


def test_what_is_sent_on_the_same_day_is_one_contact() -> None:
    asked = at(0.001, kind=Kind.REQUEST, document=BLOCK)
    assert steps(REPORT, asked) == [("b.test", Step.REMIND, 7, 1)]
    assert steps(REPORT, at(0.4), at(0.8)) == [("b.test", Step.REMIND, 7, 1)]
    assert steps(REPORT, at(0.4), at(1)) == [("b.test", Step.LIST, 15, 2)]


@pytest.mark.parametrize(
    "more",
    [
        {"state": InteractionState.REFUSED},
        {"state": InteractionState.UNREACHABLE},
        {"state": InteractionState.QUEUED, "failure": REFUSAL},
        {"state": InteractionState.REFUSED, "outreach": CHAT},
        {"state": InteractionState.QUEUED, "outreach": CHAT},
        {"state": InteractionState.REFUSED, "outreach": replace(CHAT, channel=Channel.MAIL)},
    ],
)
def test_what_did_not_arrive_told_nobody(more: dict[str, Any]) -> None:
    assert steps(at(0, **more)) == [("b.test", Step.REMIND, 7, 0)]
    assert steps(at(0, **more), at(2)) == [("b.test", Step.REMIND, 9, 1)]
    assert steps(REPORT, at(8, **more)) == [("b.test", Step.REMIND, 7, 1)]


@pytest.mark.parametrize(
    "more",
    [
        {"state": InteractionState.UNANSWERED},
        {"state": InteractionState.SENT},
        {"state": InteractionState.SENT, "outreach": CHAT},
        {"state": InteractionState.SENT, "outreach": replace(CHAT, channel=Channel.MAIL)},
    ],
)
def test_what_was_tried_and_not_answered_is_a_contact(more: dict[str, Any]) -> None:
    assert steps(REPORT, at(8, **more)) == [("b.test", Step.LIST, 22, 2)]


def test_what_was_mailed_after_a_chat_message_is_a_second_contact() -> None:
    written = Tried(channel=Channel.CHAT, address="abuse@b.test", at=NOW)
    mail = Outreach(channel=Channel.MAIL, address="abuse@b.test", tried=(written,))
    sent = replace(REPORT, state=InteractionState.SENT, outreach=mail, sent_at=NOW + timedelta(days=8))
    assert steps(sent) == [("b.test", Step.LIST, 22, 2)]


def test_a_text_begins_the_wait_anew_and_ends_nothing() -> None:
    def heard(days: float) -> Interaction:
        said = PersonsAnswer(at=NOW + timedelta(days=days), text="I am away")
        return replace(REPORT, outreach=replace(CHAT, answers=(said,)))

    assert steps(heard(3)) == [("b.test", Step.REMIND, 10, 1)]
    assert steps(heard(9), AGAIN) == [("b.test", Step.LIST, 22, 2)]
    assert steps(heard(20), AGAIN) == [("b.test", Step.LIST, 27, 2)]


def test_a_reminder_says_by_which_way_it_would_go() -> None:
    peer = Peer(
        host="a.test", domain="b.test", announces=False, contacts=("xmpp:abuse@b.test", "xmpp:root@b.test")
    )
    sent = replace(REPORT, state=InteractionState.SENT, outreach=CHAT)

    def way(peer: Peer, *sent: Interaction) -> str:
        return next_steps(INCIDENT, sent, rules=Rules(), peers={"b.test": peer})[0].way

    assert way(peer, sent) == "by chat to root@b.test"
    assert way(replace(peer, announces=True), sent) == ""
    assert way(replace(peer, contacts=None), sent) == ""
    assert way(peer, sent, AGAIN) == ""


def test_what_users_agreed_to_for_one_server_is_proposed_for_no_public_list() -> None:
    for incident, may in (
        (INCIDENT, True),
        (replace(INCIDENT, only_to=("b.test",)), False),
        (replace(INCIDENT, reporter="c.test"), False),
    ):
        [step] = next_steps(incident, (REPORT, AGAIN), rules=Rules())
        assert step.may_be_published is may
        assert step.log_command == (
            f"incident-bridge incidents export {INCIDENT.id} --form log" if may else ""
        )
        assert ("public list" in step_text(step), "block it here" in step_text(step)) == (may, not may)
        assert len(step_commands(step)) == 1 + may
    assert next_steps(INCIDENT, (REPORT,), rules=Rules())[0].log_command == ""


def test_nothing_is_due_once_it_is_over() -> None:
    assert steps(REPORT, incident=replace(INCIDENT, status=Status.RESOLVED)) == []


def test_each_step_says_what_to_type() -> None:
    asked = replace(REPORT, kind=Kind.REQUEST, document=BLOCK)
    words = [
        next_steps(INCIDENT, sent, rules=Rules())[0].command
        for sent in ((REPORT,), (asked,), (REPORT, AGAIN))
    ]
    assert words == [
        f"incident-bridge report --incident {INCIDENT.id} --to b.test",
        f"incident-bridge request --incident {INCIDENT.id} --to b.test --action block-host",
        f"incident-bridge incidents act {INCIDENT.id} --block-domain b.test",
    ]


def test_the_defaults_are_the_configurations() -> None:
    settings = PolicySettings()
    assert (settings.remind_days, settings.list_days) == (Rules().remind_days, Rules().list_days)
