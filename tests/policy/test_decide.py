"""What becomes of a report once it is stored."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from bridge.policy.admit import Arrival, admit
from bridge.policy.change import Queue
from bridge.policy.decide import MAX_EDITIONS, State, decide, incident_puts
from bridge.policy.record import Incident, Interaction, InteractionState
from bridge.policy.trust import Trust
from bridge.xep0268.model import Status

from .conftest import NOW, state

Arrive = Callable[..., Arrival]


@pytest.fixture
def report(arrive: Arrive) -> Callable[..., Interaction]:
    def make(*, trust: Trust = Trust.TRUSTED, **changes: object) -> Interaction:
        _, change = admit(state(trust=trust), arrive(), now=NOW)
        record = change.puts[0].after
        assert isinstance(record, Interaction)
        return replace(record, **changes)  # type: ignore[arg-type]

    return make


def after(interaction: Interaction, *more: Interaction) -> Incident:
    current = State(incidents={interaction.incident_id: None})
    for one in (interaction, *more):
        current, _ = decide(current, one, now=NOW)
    found = current.incidents[interaction.incident_id]
    assert found is not None
    return found


def test_a_first_report_becomes_a_new_incident_an_event_and_an_answer(
    report: Callable[..., Interaction],
) -> None:
    interaction = report()
    before = State(incidents={interaction.incident_id: None})
    current, change = decide(before, interaction, now=NOW)
    (put,) = incident_puts(before, current)
    assert isinstance(put.after, Incident)
    assert (put.after.status, put.after.severity, put.after.reporter) == (Status.NEW, "medium", "b.test")
    assert put.after.summary == "lots of MUC spammers from clueless.lit!"
    assert [event.type for event in change.events] == ["incident.reported"]
    assert [(one.queue, one.lane) for one in change.appends] == [(Queue.OUTGOING, "host:a.test")]
    assert [mark.state for mark in change.marks] == [InteractionState.DECIDED]


def test_deciding_the_same_interaction_again_changes_nothing(report: Callable[..., Interaction]) -> None:
    interaction = report()
    first, _ = decide(State(incidents={interaction.incident_id: None}), interaction, now=NOW)
    second, change = decide(first, interaction, now=NOW)
    assert second == first
    assert (change.events, change.appends) == ((), ())


def test_a_second_report_of_the_same_peer_is_an_update(report: Callable[..., Interaction]) -> None:
    later = NOW + timedelta(hours=1)
    incident = after(report(), report(id="other", received_at=later))
    assert (incident.status, len(incident.editions), incident.updated_at) == (Status.UPDATED, 2, later)


def test_resolved_is_only_what_the_document_says(report: Callable[..., Interaction]) -> None:
    assert after(report(), report(id="other", status=Status.RESOLVED)).status is Status.RESOLVED
    assert after(report(status=Status.RESOLVED)).status is Status.RESOLVED
    assert after(report(), report(id="other", status=Status.NEW)).status is Status.UPDATED


def test_another_peers_account_of_the_same_incident_is_another_incident(
    report: Callable[..., Interaction],
) -> None:
    from bridge.policy.record import incident_id

    interaction = report()
    identity = interaction.document.identity
    assert incident_id("a.test", "c.test", identity) != interaction.incident_id


def test_the_event_tells_consumers_how_far_the_peer_is_trusted(report: Callable[..., Interaction]) -> None:
    interaction = report(trust=Trust.STRANGER)
    _, change = decide(State(incidents={interaction.incident_id: None}), interaction, now=NOW)
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


def test_a_peer_that_never_stops_updating_keeps_the_first_edition_and_the_newest(
    report: Callable[..., Interaction],
) -> None:
    first = report()
    incident = after(first, *(report(id=f"n{number}") for number in range(MAX_EDITIONS + 5)))
    assert len(incident.editions) == MAX_EDITIONS
    assert incident.editions[0].interaction_id == first.id
    assert incident.editions[-1].interaction_id == f"n{MAX_EDITIONS + 4}"
