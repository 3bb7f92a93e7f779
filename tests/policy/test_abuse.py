"""What a peer must not get by asking often, answering unasked, or speaking over a stream that proves little."""

import re
from dataclasses import replace

import pytest

from bridge.errors import RefusedError
from bridge.policy import decide as decide_
from bridge.policy.admit import ANSWERS_AT_MOST, Returned, State, admit, charge, question_name
from bridge.policy.forwarding import correction_recipients
from bridge.policy.record import Interaction, incident_id
from bridge.policy.replies import take_answer
from bridge.policy.trust import Authentication, Stream, Trust
from bridge.xep0268.model import Kind, Reading
from bridge.xmpp import xml
from bridge.xmpp.stanza import read_iq

from .conftest import NOW, SECURE, arrival_of, deciding, stanza, state

WEAK = replace(SECURE, authentication=Authentication.DIALBACK)


def numbered(number: int, *, stream: Stream = SECURE) -> object:
    text = re.sub(r"<IncidentID ", f"<IncidentID instance='n{number}' ", stanza(), count=1)
    return arrival_of(text.encode(), id=f"i{number}", stream=stream)


def asking(before: State) -> State:
    """The same, after an inquiry of ours about the example's incident."""
    reading = arrival_of(stanza().encode(), id="i").reading
    assert isinstance(reading, Reading)
    identity = reading.incident.identity
    name = question_name(Kind.INQUIRY, "a.test", "b.test", identity)
    return replace(before, remembered={name: f"q1 {incident_id('a.test', 'b.test', identity)}"})


def admitted(before: State, arrival: object) -> tuple[State, Interaction]:
    after, change = admit(before, arrival, now=NOW)  # type: ignore[arg-type]
    record = change.puts[0].after
    assert isinstance(record, Interaction)
    return after, record


def test_an_inquiry_of_ours_lets_nothing_out_but_what_we_asked_about() -> None:
    current = asking(state())
    for number in range(3):
        current, interaction = admitted(current, numbered(number))
        assert (interaction.answers, interaction.quarantined) == (None, True)
    current, interaction = admitted(current, arrival_of(stanza().encode(), id="answer"))
    assert (interaction.answers, interaction.quarantined) == ("q1", False)


def test_a_stranger_may_correct_its_answer_a_few_times_only() -> None:
    current = asking(state())
    found = []
    for number in range(ANSWERS_AT_MOST + 2):
        text = stanza().replace("lots of", f"{number} lots of")
        current, interaction = admitted(current, arrival_of(text.encode(), id=f"i{number}"))
        found.append(interaction.quarantined)
    assert found == [False] * ANSWERS_AT_MOST + [True] * 2


def test_a_weak_stream_in_a_trusted_peers_name_answers_nothing() -> None:
    answer = arrival_of(stanza().encode(), id="i1", stream=WEAK)
    _, interaction = admitted(asking(state(trust=Trust.TRUSTED)), answer)
    assert (interaction.trust, interaction.quarantined, interaction.answers) == (Trust.STRANGER, True, None)


def test_only_what_a_trusted_peer_corrects_goes_on_to_those_who_were_told() -> None:
    _, interaction = admitted(state(trust=Trust.TRUSTED), numbered(1))
    text = stanza().replace("<Incident ", "<Incident restriction='public' ", 1)
    _, interaction = admitted(state(trust=Trust.TRUSTED), arrival_of(text.encode(), id="i1"))
    current, _ = decide_.decide(
        deciding(interaction), {"id": "i1", "incident": interaction.incident_id}, now=NOW
    )
    known = current.incidents[interaction.incident_id]
    assert known is not None
    incident = replace(known, told=("c.test",))
    assert correction_recipients(incident, interaction) == ("c.test",)
    assert correction_recipients(incident, replace(interaction, trust=Trust.STRANGER)) == ()


def returned(domain: str) -> Returned:
    iq = read_iq(
        xml.parse(
            f"<iq from='{domain}' to='a.test' id='ib-disco-x' type='result'>"
            "<query xmlns='http://jabber.org/protocol/disco#info'>"
            "<feature var='urn:xmpp:incident:2'/></query></iq>".encode()
        )
    )
    return Returned(id="r", iq=iq, stream=SECURE)


def test_an_answer_to_a_question_we_never_asked_leaves_nothing_behind() -> None:
    after, change = take_answer(state(domain="s1.evil.test"), returned("s1.evil.test"), now=NOW)
    assert change.appends == ()
    assert "*" in after.buckets, "and it costs what all strangers share"


def test_a_blocked_peers_answers_are_not_even_counted() -> None:
    before = state(domain="s1.evil.test", trust=Trust.BLOCKED)
    assert take_answer(before, returned("s1.evil.test"), now=NOW)[0] is before


@pytest.mark.parametrize(("fill", "trust"), [(0.8, Trust.STRANGER), (0.95, Trust.TRUSTED)])
def test_a_full_store_answers_no_inquiries(fill: float, trust: Trust) -> None:
    arrival = arrival_of(stanza(kind="inquiry", type="get").encode(), id="q")
    full = state(trust=trust, fill=fill)
    with pytest.raises(RefusedError, match="resource-constraint"):
        admit(charge(full, arrival, now=NOW), arrival, now=NOW)
    admit(state(trust=trust, fill=fill - 0.01), arrival, now=NOW)
