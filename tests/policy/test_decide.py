"""What becomes of an interaction once it is stored."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from bridge.policy.admit import Arrival, admit, names_of
from bridge.policy.change import Queue, Telling
from bridge.policy.decide import State, decide, puts
from bridge.policy.decisions import Approval, ApprovalState
from bridge.policy.editions import MAX_EDITIONS
from bridge.policy.record import Incident, Interaction, InteractionState, Outcome, Way, incident_id
from bridge.policy.trust import Trust
from bridge.xep0268.model import Kind, Status

from .conftest import NOW, deciding, state, waiting

Arrive = Callable[..., Arrival]
Make = Callable[..., Interaction]


@pytest.fixture
def interaction(arrive: Arrive) -> Make:
    """One as admitted: a report of b.test, unless told otherwise."""

    def make(*, trust: Trust = Trust.TRUSTED, kind: str = "report", **changes: object) -> Interaction:
        _, change = admit(state(trust=trust), arrive(kind=kind), now=NOW)
        record = change.puts[0].after
        assert isinstance(record, Interaction)
        return replace(record, **changes)  # type: ignore[arg-type]

    return make


def after(*interactions: Interaction) -> Incident:
    """The first one's incident, once all were decided in this order."""
    current = deciding(*interactions)
    for one in interactions:
        current, _ = decide(current, waiting(one), now=NOW)
    found = current.incidents[interactions[0].incident_id]
    assert found is not None
    return found


def test_a_first_report_becomes_a_new_incident_an_event_and_an_answer(interaction: Make) -> None:
    report = interaction()
    before = deciding(report)
    current, change = decide(before, waiting(report), now=NOW)
    written = {type(put.after): put.after for put in puts(before, current)}
    incident = written[Incident]
    assert isinstance(incident, Incident)
    assert (incident.status, incident.severity, incident.reporter) == (Status.NEW, "medium", "b.test")
    assert incident.summary == "lots of MUC spammers from clueless.lit!"
    assert [event.type for event in change.events] == ["incident.reported"]
    assert [(one.queue, one.lane) for one in change.appends] == [(Queue.OUTGOING, "host:a.test")]
    assert [mark.state for mark in change.marks] == [InteractionState.DECIDED]
    assert set(written) == {Incident}
    assert [(one.telling, one.peer) for one in change.tallies] == [(Telling.NOTICE, "b.test")]


def test_deciding_the_same_interaction_again_changes_nothing(interaction: Make) -> None:
    report = interaction(state=InteractionState.DECIDED)
    before = deciding(report)
    current, change = decide(before, waiting(report), now=NOW)
    assert current is before
    assert (change.events, change.appends, change.puts) == ((), (), ())


def test_what_is_gone_from_the_store_is_passed_over(interaction: Make) -> None:
    report = interaction()
    current, change = decide(deciding(report, interactions={}), waiting(report), now=NOW)
    assert (current.incidents[report.incident_id], change.events) == (None, ())


def test_a_second_report_of_the_same_peer_is_an_update(interaction: Make) -> None:
    later = NOW + timedelta(hours=1)
    incident = after(interaction(), interaction(id="other", received_at=later))
    assert (incident.status, len(incident.editions), incident.updated_at) == (Status.UPDATED, 2, later)


def test_resolved_is_only_what_the_document_says(interaction: Make) -> None:
    assert after(interaction(), interaction(id="2", status=Status.RESOLVED)).status is Status.RESOLVED
    assert after(interaction(status=Status.RESOLVED)).status is Status.RESOLVED
    assert after(interaction(), interaction(id="2", status=Status.NEW)).status is Status.UPDATED
    assert after(interaction(kind="request", status=Status.RESOLVED)).status is Status.NEW


def test_another_peers_account_of_the_same_incident_is_another_incident(interaction: Make) -> None:
    report = interaction()
    assert incident_id("a.test", "c.test", report.document.identity) != report.incident_id


def test_the_event_tells_consumers_how_far_the_peer_is_trusted(interaction: Make) -> None:
    report = interaction(trust=Trust.STRANGER)
    _, change = decide(deciding(report), waiting(report), now=NOW)
    data = change.events[0].data
    assert data["schema"] == "incident-bridge/1"
    assert data["peer"] == {
        "domain": "b.test",
        "trust": "stranger",
        "authentication": "certificate",
        "quarantined": True,
    }
    assert [source["address"] for source in data["incident"]["sources"]] == [
        "abuser@clueless.lit",
        "luser27@clueless.lit",
    ]
    assert data["repairs"]


def test_a_peer_that_never_stops_updating_keeps_the_first_edition_and_the_newest(interaction: Make) -> None:
    first = interaction()
    incident = after(first, *(interaction(id=f"n{number}") for number in range(MAX_EDITIONS + 5)))
    assert len(incident.editions) == MAX_EDITIONS
    assert incident.editions[0].interaction_id == first.id
    assert incident.editions[-1].interaction_id == f"n{MAX_EDITIONS + 4}"


def test_a_weak_stream_in_a_trusted_peers_name_changes_nothing_of_its_incident(interaction: Make) -> None:
    report = interaction()
    forged = replace(
        interaction(id="forged", trust=Trust.STRANGER, kind="response"),
        kind=Kind.REPORT,
        status=Status.RESOLVED,
        incident_id=report.incident_id,
    )
    incident = after(report, forged)
    alone = after(report)
    assert (incident.status, incident.quarantined, incident.current) == (Status.NEW, False, alone.current)
    assert incident.editions[-1].interaction_id == "forged"
    assert replace(incident, editions=alone.editions) == alone


def test_forged_editions_push_no_others_out(interaction: Make) -> None:
    own = [interaction(id=f"own{number}") for number in range(3)]
    forged = [interaction(id=f"n{number}", trust=Trust.STRANGER) for number in range(MAX_EDITIONS + 5)]
    incident = after(*own, *forged)
    assert [one.interaction_id for one in incident.editions[:3]] == [one.id for one in own]
    assert (len(incident.editions), incident.current.interaction_id) == (MAX_EDITIONS, "own2")


def test_a_trusted_stream_lifts_an_incident_out_of_quarantine(interaction: Make) -> None:
    incident = after(interaction(trust=Trust.STRANGER), interaction(id="2"))
    assert (incident.quarantined, incident.current.interaction_id) == (False, "2")


def test_a_stranger_s_request_is_not_put_up_for_approval(interaction: Make) -> None:
    request = interaction(kind="request", trust=Trust.STRANGER)
    _, change = decide(deciding(request), waiting(request), now=NOW)
    assert (change.puts, [one.lane for one in change.appends]) == ((), ["host:a.test"])


def test_a_request_is_stored_told_and_not_acted_on(interaction: Make) -> None:
    request = interaction(kind="request")
    _, change = decide(deciding(request), waiting(request), now=NOW)
    assert [event.type for event in change.events] == ["request.received"]
    # The empty result, and the question what it would touch; nothing else.
    assert [(one.lane, "preview" in one.item) for one in change.appends] == [
        ("host:a.test", False),
        ("approval:a.test", True),
    ]
    (proposed,) = (put.after for put in change.puts)
    assert isinstance(proposed, Approval)
    assert (proposed.id, proposed.state) == (request.id, ApprovalState.OPEN)
    assert [(one.telling, one.kind) for one in change.tallies] == [(Telling.NOTICE, Kind.REQUEST)]


def asked_of(peer: str, interaction: Make) -> tuple[Interaction, Incident]:
    """A request of ours to a peer, and our incident that it is about."""
    sent = interaction(
        kind="request", id="asked", way=Way.SENT, peer=peer, state=InteractionState.ACKNOWLEDGED
    )
    own_id = incident_id("a.test", "a.test", sent.document.identity)
    own = replace(after(interaction()), id=own_id, reporter="a.test")
    return replace(sent, incident_id=own_id), own


def test_a_response_settles_the_request_that_it_answers(interaction: Make, arrive: Arrive) -> None:
    asked, own = asked_of("b.test", interaction)
    name = names_of("a.test", arrive(kind="response"))[1]
    before = replace(state(trust=Trust.TRUSTED), remembered={name: f"{asked.id} {own.id}"})
    _, change = admit(before, arrive(kind="response"), now=NOW)
    response = change.puts[0].after
    assert isinstance(response, Interaction)
    asked_before = deciding(response, incidents={own.id: own})
    asked_before = replace(asked_before, interactions={**asked_before.interactions, asked.id: asked})
    current, change = decide(asked_before, waiting(response), now=NOW)
    assert [event.type for event in change.events] == ["response.received"]
    assert current.interactions["asked"].outcome is None  # `blockquote` is not `block-host`
    assert current.incidents[own.id] == replace(own, updated_at=response.received_at)


def test_a_response_of_somebody_else_settles_nothing(interaction: Make) -> None:
    asked, own = asked_of("c.test", interaction)
    response = interaction(kind="response", answers="asked", incident_id=own.id)
    before = deciding(response, incidents={own.id: own})
    before = replace(before, interactions={**before.interactions, asked.id: asked})
    current, _ = decide(before, waiting(response), now=NOW)
    assert current.interactions["asked"] is asked
    assert asked.outcome is None


def test_an_unsolicited_response_is_an_incident_in_quarantine(interaction: Make) -> None:
    incident = after(interaction(kind="response"))
    assert (incident.reporter, incident.quarantined) == ("b.test", True)


@pytest.mark.parametrize(
    ("asked", "before", "done", "expected"),
    [
        (["block-host"], [], ["block-host"], Outcome.DONE),
        (["block-host"], [], ["nothing"], Outcome.DECLINED),
        (["block-host", "investigate"], [], ["investigate"], Outcome.PARTLY),
        (["block-host", "investigate"], [], ["investigate", "nothing"], Outcome.PARTLY),
        (["block-host"], [], ["blockquote"], None),
        (["block-host"], [], [], None),
        (["block-host"], ["block-host"], ["nothing"], Outcome.DECLINED),
        (["block-host"], ["block-host"], [], None),
        ([], [], ["block-host"], None),
    ],
)
def test_a_request_is_done_only_by_what_was_asked_for(
    asked: list[str], before: list[str], done: list[str], expected: Outcome | None
) -> None:
    from bridge.iodef.model import Expectation, HistoryItem, IncidentId
    from bridge.iodef.model import Incident as Document
    from bridge.policy.outcome import outcome_of

    old = tuple(HistoryItem(action=one, at=NOW - timedelta(days=1)) for one in before)
    request = Document(
        identity=IncidentId(name="a.test", text="1"),
        expectations=tuple(Expectation(action=one) for one in asked),
        history=old,
    )
    new = tuple(HistoryItem(action=one, at=NOW) for one in done)
    assert outcome_of(replace(request, history=(*old, *new)), request) is expected


def test_every_kind_that_is_stored_is_answered_once(interaction: Make) -> None:
    for kind in (Kind.REPORT, Kind.REQUEST, Kind.RESPONSE):
        for trust in (Trust.TRUSTED, Trust.STRANGER):
            one = interaction(kind=kind, trust=trust)
            _, change = decide(deciding(one), waiting(one), now=NOW)
            stanzas = [append.item["stanza"] for append in change.appends if "stanza" in append.item]
            assert len(stanzas) == 1
            assert "type='result'" in stanzas[0] or 'type="result"' in stanzas[0]


def test_later_items_of_a_batch_see_what_earlier_ones_did(interaction: Make) -> None:
    report = interaction()
    current, _ = decide(deciding(report), waiting(report), now=NOW)
    assert isinstance(current, State)
    assert current.accounts[report.document.identity.text] == (report.incident_id,)
