"""XEP-0268's story between three domains, each with a Prosody and a bridge of its own, told by the commands alone."""

import re

import pytest

from bridge.policy.record import Interaction, Outcome, Way
from bridge.xep0268.model import Kind, Status
from tests.system.desk import Desk
from tests.system.servers import Domain, Lab, eventually

ANSWERS = {
    "declined": (Outcome.DECLINED, ["--declined", "not our account"], "not our account"),
    "partly": (Outcome.PARTLY, ["--partly", "--action", "block-host", "--text", "for a day"], "for a day"),
}
LINEUPS = {
    "13 tells 0.12": {"a.test": "13", "b.test": "0.12", "c.test": "13"},
    "0.12 tells 13": {"a.test": "0.12", "b.test": "13", "c.test": "0.12"},
}
FLOOD = "flood-1"


def only(found: list[Interaction], kind: Kind, way: Way) -> Interaction:
    [one] = [one for one in found if (one.kind, one.way) == (kind, way)]
    return one


async def on_the_wire(domain: Domain, sender: str) -> list[str]:
    """What one server sent a domain: the type of each IQ, with its payload's kind where it has one."""
    found = []
    for stanza in await domain.prosody.received():
        if not re.search(rf"^<iq[^>]*\sfrom='{sender}'", stanza) or "disco#info" in stanza:
            continue
        (kind,) = re.findall(r"^<iq[^>]*\stype='(\w+)'", stanza)
        payload = re.search(r"<(report|inquiry|request|response) ", stanza)
        found.append(f"{kind} {payload[1]}" if payload else kind)
    return found


@pytest.mark.parametrize("lineup", LINEUPS)
async def test_from_first_report_to_resolution(lab: Lab, lineup: str) -> None:
    a, b, c = lab.domains(LINEUPS[lineup])
    at_a, at_b, at_c = (Desk(one.bridge, one.name) for one in (a, b, c))
    await at_a.decide("b.test")
    await at_b.decide("a.test")

    # a.test reports a flood from an account at b.test, of which c.test is a victim too.
    sent = a.bridge.json(
        "report", "--to", "b.test", "--id", FLOOD, "--description", "one flood, two victims",
        "--source", "flooder@b.test=47", "--target", "room@c.test", "--wait", "20",
    )  # fmt: skip
    assert [one["state"] for one in sent["interactions"]] == ["acknowledged"]
    incident, _ = await at_b.about("a.test", FLOOD)
    assert (incident.status, incident.quarantined) == (Status.NEW, False)

    # c.test, a stranger but a party to it, inquires both; each answers, and then tells.
    asked = c.bridge.json("inquire", "--to", "a.test", "b.test", "--id", f"a.test/{FLOOD}", "--wait", "20")
    assert [one["state"] for one in asked["interactions"]] == ["acknowledged"] * 2
    for reporter in ("a.test", "b.test"):
        assert await on_the_wire(c, reporter) == ["result", "set report"]
        incident, found = await at_c.about(reporter, FLOOD)
        assert incident.quarantined is False, "it answers an inquiry"
        assert only(found, Kind.REPORT, Way.RECEIVED).document.sources[0].address == "flooder@b.test"

    # a.test asks b.test to block the account; b.test's operator says that it is done.
    a.bridge.cli(
        "request", "--to", "b.test", "--action", "block-host", "--incident", sent["incident"], "--wait", "20"
    )
    incident, found = await at_b.about("a.test", FLOOD)
    request = only(found, Kind.REQUEST, Way.RECEIVED)
    b.bridge.cli("respond", request.id, "--done", "--text", "suspended", "--wait", "20")

    async def answered() -> list[Interaction]:
        _, found = await at_a.about("a.test", FLOOD)
        assert only(found, Kind.REQUEST, Way.SENT).outcome is Outcome.DONE, found
        return found

    found = await eventually(answered, 20)
    assert only(found, Kind.RESPONSE, Way.RECEIVED).quarantined is False

    # a.test resolves it, and everybody who was told of it learns that, c.test from both.
    a.bridge.cli("incidents", "resolve", sent["incident"])

    async def everybody_knows() -> bool:
        for desk, reporter in ((at_a, "a.test"), (at_b, "a.test"), (at_c, "a.test"), (at_c, "b.test")):
            known, _ = await desk.about(reporter, FLOOD)
            assert known.status is Status.RESOLVED, (desk.host, reporter, known.status)
        return True

    await eventually(everybody_knows, 20)
    _, found = await at_b.about("a.test", FLOOD)
    resolution = found[-1].document
    assert (resolution.purpose, resolution.expectations) == ("reporting", ()), "it asks for nothing any more"
    story = b.bridge.cli("incidents", "show", incident.id)
    for expected in (
        "you could suspend the account",
        "asks for block-host",
        "we answered the request of a.test: done",
        "reported it as resolved",
    ):
        assert expected in story, story


async def test_a_request_declined_or_done_in_part_is_known_as_such(lab: Lab) -> None:
    a, b = lab.domains({"a.test": "0.12", "b.test": "13"})
    at_a, at_b = (Desk(one.bridge, one.name) for one in (a, b))
    await at_a.decide("b.test")
    await at_b.decide("a.test")
    for text, (outcome, words, reason) in ANSWERS.items():
        a.bridge.cli(
            "request", "--to", "b.test", "--action", "block-host", "--action", "rate-limit-host",
            "--id", text, "--description", "a flood", "--source", "flooder@b.test=47", "--wait", "20",
        )  # fmt: skip
        _, found = await at_b.about("a.test", text)

        b.bridge.cli("respond", only(found, Kind.REQUEST, Way.RECEIVED).id, *words, "--wait", "20")

        async def answered(text: str = text) -> list[Interaction]:
            _, found = await at_a.about("a.test", text)
            assert only(found, Kind.REQUEST, Way.SENT).outcome is not None, found
            return found

        found = await eventually(answered, 20)
        assert only(found, Kind.REQUEST, Way.SENT).outcome is outcome
        response = only(found, Kind.RESPONSE, Way.RECEIVED)
        incident = response.incident_id
        assert incident is not None
        shown = a.bridge.cli("incidents", "show", incident)
        assert reason in shown, shown
        assert str(outcome) in shown, shown
