"""What admins are told in chat: counts, seldom, and nothing that a document says."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId, Text
from bridge.policy.notice import DIGEST_SECONDS, NOTICE_SECONDS, note, text, told
from bridge.policy.outgoing import draft
from bridge.policy.record import Interaction, Notices, Way
from bridge.policy.trust import Rule
from bridge.xep0268.model import Kind

from .conftest import NOW

HOSTILE = "Click http://evil.example now\nIncidents: 0"


def interaction(peer: str = "b.test", kind: Kind = Kind.REPORT, **changes: object) -> Interaction:
    made = draft(
        interaction_id="i1",
        host="a.test",
        to=peer,
        kind=kind,
        payload=b"",
        document=Document(
            identity=IncidentId(name=HOSTILE, text=HOSTILE), descriptions=(Text(text=HOSTILE),)
        ),
        status=None,
        incident_id="n1",
        now=NOW,
    )
    return replace(made, way=Way.RECEIVED, **changes)  # type: ignore[arg-type]


@dataclass
class Chat:
    """What the admins of one host see, and when; timers as the store has them."""

    notices: Notices = field(default_factory=lambda: Notices(host="a.test"))
    now: datetime = NOW
    timers: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    messages: list[tuple[datetime, str, str]] = field(default_factory=list)

    def receive(self, one: Interaction) -> None:
        self.notices, timers = note(self.notices, one, now=self.now)
        for timer in timers:
            self.timers[timer.name] = (timer.due_at, timer.append.item["notice"])

    def wait(self, seconds: float) -> None:
        """Let time pass, and what is due be sent."""
        self.now += timedelta(seconds=seconds)
        for key, (due_at, name) in list(self.timers.items()):
            if due_at <= self.now:
                del self.timers[key]
                message = text(self.notices, name)
                if message is not None:
                    self.messages.append((self.now, name, message))
                    self.notices = told(self.notices, name, now=self.now)


def test_the_first_is_told_at_once_and_the_next_after_a_minute() -> None:
    chat = Chat()
    chat.receive(interaction(rule=Rule.NOTIFY))
    chat.wait(0)
    chat.receive(interaction(rule=Rule.NOTIFY))
    chat.receive(interaction(rule=Rule.NOTIFY, kind=Kind.REQUEST))
    chat.wait(NOTICE_SECONDS - 1)
    assert len(chat.messages) == 1
    chat.wait(1)
    assert [message.splitlines()[1:-1] for _, _, message in chat.messages] == [
        ["b.test: 1 report"],
        ["b.test: 1 report", "b.test: 1 request"],
    ]


@pytest.mark.parametrize("rule", [Rule.ACCEPT, Rule.REFUSE])
def test_what_is_accepted_silently_is_not_told(rule: Rule) -> None:
    notices = Notices(host="a.test")
    assert note(notices, interaction(rule=rule), now=NOW) == (notices, ())


def test_strangers_are_told_of_in_the_digest_only() -> None:
    chat = Chat()
    for _ in range(3):
        chat.receive(interaction("x.test", quarantined=True, rule=Rule.QUARANTINE))
        chat.wait(600)
    chat.receive(interaction("x.test", kind=Kind.RESPONSE, quarantined=True, rule=Rule.QUARANTINE))
    chat.wait(DIGEST_SECONDS)
    assert [(name, message.splitlines()[1:-1]) for _, name, message in chat.messages] == [
        ("digest", ["x.test: 1 report"]),
        ("digest", ["x.test: 2 reports", "x.test: 1 response"]),
    ]
    assert "in quarantine" in chat.messages[0][2]


ARRIVALS = st.tuples(
    st.sampled_from(["b.test", "c.test", "x.test"]),
    st.sampled_from(Kind),
    st.booleans(),
    st.sampled_from(Rule),
    st.one_of(st.just(0.0), st.floats(0, 100), st.floats(0, 5000)),
)


@settings(deadline=None)
@given(st.lists(ARRIVALS, max_size=60))
def test_at_most_one_message_a_minute_and_one_digest_an_hour(
    arrivals: list[tuple[str, Kind, bool, Rule, float]],
) -> None:
    chat = Chat()
    wanted = 0
    for peer, kind, quarantined, rule, seconds in arrivals:
        chat.receive(interaction(peer, kind, quarantined=quarantined, rule=rule))
        wanted += quarantined or rule is Rule.NOTIFY
        chat.wait(seconds)
    chat.wait(DIGEST_SECONDS)
    for wanted_name, apart in (("notice", NOTICE_SECONDS), ("digest", DIGEST_SECONDS)):
        times = [at for at, name, _ in chat.messages if name == wanted_name]
        assert all((b - a).total_seconds() >= apart for a, b in pairwise(times))
    counted = [line.split()[1] for _, _, message in chat.messages for line in message.splitlines()[1:-1]]
    assert sum(map(int, counted)) == wanted
    assert (chat.notices.waiting, chat.notices.digest, chat.timers) == ((), (), {})


@pytest.mark.parametrize("name", ["notice", "digest"])
def test_no_word_of_a_document_is_told(name: str) -> None:
    notices, _ = note(
        Notices(host="a.test"), interaction(rule=Rule.NOTIFY, quarantined=name == "digest"), now=NOW
    )
    message = text(notices, name)
    assert message is not None
    assert "evil" not in message
    assert len(message.splitlines()) == 3


@given(st.integers(1, 60), st.integers(1, 1023), st.sampled_from("aé漢"))
def test_a_message_is_short_enough_for_prosody(peers: int, length: int, letter: str) -> None:
    waiting = tuple(
        (f"{number}" + letter * (length // len(letter.encode())), Kind.INQUIRY, 2**30)
        for number in range(peers)
    )
    message = text(Notices(host="a" * 255, digest=waiting), "digest")
    assert message is not None
    assert len(message.encode()) <= 2000
    told_of = [line for line in message.splitlines() if line.endswith("inquiries")]
    rest = [line for line in message.splitlines() if line.startswith("and ")]
    assert len(told_of) + (int(rest[0].split()[1]) if rest else 0) == peers


def test_nothing_to_tell_is_no_message() -> None:
    assert text(Notices(host="a.test"), "notice") is None
    assert text(Notices(host="a.test"), "digest") is None


def test_strangers_domains_without_number_are_not_all_remembered() -> None:
    notices = Notices(host="a.test")
    for number in range(1100):
        one = interaction(f"x{number}.test", quarantined=True)
        notices, _ = note(notices, one, now=NOW)
    assert len(notices.digest) == 1000
