"""What is next after something was sent: who is waited for, for how long, and what ends it."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from bridge.config import PolicySettings
from bridge.iodef.model import Expectation, Source
from bridge.policy.clock import Step, next_steps
from bridge.policy.editions import add_edition
from bridge.policy.outreach import Channel, Outreach, PersonsAnswer, Verdict
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome
from bridge.xep0268.model import Kind, Status

from .conftest import NOW
from .test_outgoing import DOCUMENT, sending


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


def by_person(verdict: Verdict | None) -> Outreach:
    answer = PersonsAnswer(at=NOW, text="…", verdict=verdict)
    return Outreach(channel=Channel.CHAT, address="abuse@b.test", answers=(answer,))


@pytest.mark.parametrize(
    ("ended", "left"),
    [
        (replace(REPORT, outreach=by_person(None)), 0),
        (replace(REPORT, outreach=by_person(Verdict.DECLINED)), 0),
        (replace(REPORT, outreach=by_person(Verdict.NEED_MORE)), 1),
        (replace(REPORT, kind=Kind.REQUEST, outcome=Outcome.DONE), 0),
        (replace(REPORT, kind=Kind.REQUEST, outcome=Outcome.PARTLY), 1),
    ],
)
def test_an_answer_ends_it_unless_more_is_to_be_done(ended: Interaction, left: int) -> None:
    assert len(steps(ended)) == left


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
