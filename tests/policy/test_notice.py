"""What admins are told in chat: counts, seldom, and nothing that a document says."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId, Text
from bridge.policy.change import Change, Tally, Telling
from bridge.policy.notice import DIGEST_SECONDS, NOTICE_SECONDS, look, may_tell_at, note, text, told
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
    counts: Counter[tuple[Telling, str, Kind]] = field(default_factory=Counter)
    now: datetime = NOW
    timers: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    messages: list[tuple[datetime, str, str]] = field(default_factory=list)

    def receive(self, one: Interaction, *, seen: Notices | None = None) -> None:
        """Let a worker note an interaction, which may not have seen yet that the admins were told."""
        self.commit(note(seen or self.notices, one, now=self.now))

    def commit(self, change: Change) -> None:
        for put in change.puts:
            assert isinstance(put.after, Notices)
            self.notices = put.after
        for one in change.tallies:
            self.counts[one.telling, one.peer, one.kind] += one.count
        self.counts = +self.counts
        for timer in change.timers:
            self.timers[timer.name] = (timer.due_at, timer.append.item["notice"])

    def waiting(self, telling: Telling) -> list[Tally]:
        return [
            Tally(host="a.test", telling=of, peer=peer, kind=kind, count=count)
            for (of, peer, kind), count in self.counts.items()
            if of is telling
        ]

    def wait(self, seconds: float) -> None:
        """Let time pass, and what is due be sent."""
        self.now += timedelta(seconds=seconds)
        for key, (due_at, name) in list(self.timers.items()):
            if due_at <= self.now:
                del self.timers[key]
                self.tell(Telling(name))

    def tell(self, telling: Telling) -> None:
        """Look at what waits, as `send_stanzas` does."""
        tallies = self.waiting(telling)
        if not tallies:
            return
        if self.now < may_tell_at(self.notices, telling, now=self.now):
            self.commit(Change(timers=(look(self.notices, telling, now=self.now),)))
            return
        self.messages.append((self.now, telling, text("a.test", telling, tallies)))
        self.commit(told(self.notices, telling, tallies, now=self.now))


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
    assert note(notices, interaction(rule=rule), now=NOW) == Change()


def test_noting_changes_no_record_so_that_workers_do_not_wait_for_each_other() -> None:
    change = note(Notices(host="a.test"), interaction(rule=Rule.NOTIFY), now=NOW)
    assert change.puts == ()
    assert len(change.tallies) == len(change.timers) == 1


def test_what_is_counted_while_a_message_is_sent_goes_on_waiting() -> None:
    chat = Chat()
    before = chat.notices
    chat.receive(interaction(rule=Rule.NOTIFY))
    sent = chat.waiting(Telling.NOTICE)
    chat.receive(interaction(rule=Rule.NOTIFY), seen=before)
    chat.commit(told(chat.notices, Telling.NOTICE, sent, now=chat.now))
    assert [one.count for one in chat.waiting(Telling.NOTICE)] == [1]
    chat.wait(0)  # the second worker asked for a look at once: too soon
    assert chat.messages == []
    chat.wait(NOTICE_SECONDS)
    assert [message.splitlines()[1] for _, _, message in chat.messages] == ["b.test: 1 report"]


def test_a_stream_of_incidents_never_puts_the_look_at_them_off() -> None:
    told_at = NOW - timedelta(days=1)
    for notices in (Notices(host="a.test"), Notices(host="a.test", told_at=told_at)):
        looks = [look(notices, Telling.NOTICE, now=NOW + timedelta(seconds=n)).due_at for n in range(3)]
        assert looks == [looks[0]] * 3
        assert looks[0] < NOW


def test_admins_told_by_a_clock_that_was_set_back_since_are_told_all_the_same() -> None:
    chat = Chat(Notices(host="a.test", told_at=NOW + timedelta(days=365)))
    chat.receive(interaction(rule=Rule.NOTIFY))
    chat.wait(0)
    assert len(chat.messages) == 1
    assert chat.notices.told_at == NOW


def test_those_who_sent_most_come_first() -> None:
    tallies = [
        Tally(host="a.test", telling=Telling.NOTICE, peer=f"{n}.test", kind=Kind.REPORT, count=n)
        for n in range(1, 40)
    ]
    lines = text("a.test", Telling.NOTICE, tallies).splitlines()
    assert (lines[1], lines[-2]) == ("39.test: 39 reports", "and 19 more")


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
    st.booleans(),
)


@settings(deadline=None)
@given(st.lists(ARRIVALS, max_size=60))
def test_at_most_one_message_a_minute_and_one_digest_an_hour(
    arrivals: list[tuple[str, Kind, bool, Rule, float, bool]],
) -> None:
    chat = Chat()
    wanted = 0
    seen = chat.notices
    for peer, kind, quarantined, rule, seconds, is_late in arrivals:
        seen = seen if is_late else chat.notices
        chat.receive(interaction(peer, kind, quarantined=quarantined, rule=rule), seen=seen)
        wanted += quarantined or rule is Rule.NOTIFY
        chat.wait(seconds)
    chat.wait(DIGEST_SECONDS)
    chat.wait(DIGEST_SECONDS)  # for what a worker that had seen nothing asked for too soon
    for wanted_name, apart in (("notice", NOTICE_SECONDS), ("digest", DIGEST_SECONDS)):
        times = [at for at, name, _ in chat.messages if name == wanted_name]
        assert all((b - a).total_seconds() >= apart for a, b in pairwise(times))
    counted = [line.split()[1] for _, _, message in chat.messages for line in message.splitlines()[1:-1]]
    assert sum(map(int, counted)) == wanted
    assert (chat.counts, chat.timers) == (Counter(), {})


@pytest.mark.parametrize("telling", Telling)
def test_no_word_of_a_document_is_told(telling: Telling) -> None:
    one = interaction(rule=Rule.NOTIFY, quarantined=telling is Telling.DIGEST)
    change = note(Notices(host="a.test"), one, now=NOW)
    message = text("a.test", telling, change.tallies)
    assert "evil" not in message
    assert len(message.splitlines()) == 3


@given(st.integers(1, 60), st.integers(1, 1023), st.sampled_from("aé漢"))
def test_a_message_is_short_enough_for_prosody(peers: int, length: int, letter: str) -> None:
    waiting = [
        Tally(
            host="a.test",
            telling=Telling.DIGEST,
            peer=f"{number}" + letter * (length // len(letter.encode())),
            kind=Kind.INQUIRY,
            count=2**30,
        )
        for number in range(peers)
    ]
    message = text("a" * 255, Telling.DIGEST, waiting)
    assert len(message.encode()) <= 2000
    told_of = [line for line in message.splitlines() if line.endswith("inquiries")]
    rest = [line for line in message.splitlines() if line.startswith("and ")]
    assert len(told_of) + (int(rest[0].split()[1]) if rest else 0) == peers
