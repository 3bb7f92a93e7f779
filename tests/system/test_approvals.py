"""A request is approved, carried out on a real Prosody, told, and taken back; and nothing of it is lost in a crash."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from bridge.config import load_settings
from bridge.iodef.model import HistoryItem
from bridge.pipeline import reconcile
from bridge.policy.decisions import Approval, TargetState
from bridge.store import keys, load
from bridge.store.connect import close, open_store
from bridge.xep0268.model import Kind
from deploy.servers import Authority, free_network
from tests.system.servers import Domain, Lab, eventually
from tests.system.user import Clients, RefusedError


@pytest.fixture(scope="module", params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def domains(authority: Authority, request: pytest.FixtureRequest) -> Iterator[tuple[Domain, Domain]]:
    """a.test with alice and bob, and b.test; each with a bridge, and they trust each other."""
    lab = Lab(free_network(os.getpid() + 6), authority)
    try:
        a, b = lab.domains({"a.test": request.param, "b.test": "13"}, peer=False)
        a.trust("b.test")
        b.trust("a.test")
        for name in ("alice", "bob"):
            a.prosody.control("register", name, "a.test", "secret")
        yield a, b
    finally:
        lab.close()


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """What users sign in with."""
    async with Clients() as made:
        yield made


def ask(b: Domain, account: str, text: str) -> str:
    """Let b.test ask a.test to block an account; returns the incident's id there."""
    words = ("--to", "a.test", "--action", "block-host", "--source", f"{account}=5", "--id", text)
    sent = b.bridge.json("request", *words, "--description", "spam")
    return str(sent["incident"])


async def stored(domain: Domain, index: str, name: Callable[[str], keys.RecordName]) -> list[Any]:
    """The records of an index, oldest first; a command for each look would take a second."""
    store = await open_store(load_settings(domain.bridge.config_path).store_url())
    try:
        ids = (await load.newest(store, [index], limit=99))[index]
        fetched = await load.fetch(store, names=[name(one) for one in ids])
        return [fetched.records[name(one)] for one in reversed(ids)]
    finally:
        await close(store)


async def waiting(a: Domain) -> Approval:
    """The one approval that waits at a.test, once it is previewed."""

    async def one() -> Any:
        found = await stored(a, keys.approvals_open("a.test"), keys.approval)
        assert len(found) == 1, (found, a.bridge.log())
        assert found[0].previewed_at, (found, a.bridge.log())
        return found[0]

    return cast("Approval", await eventually(one, 30))


async def in_state(a: Domain, approval: str, state: str, seconds: float = 30) -> None:
    """Wait until an approval is in this state."""

    async def one() -> Any:
        found = {each.id: each for each in await stored(a, keys.approvals("a.test"), keys.approval)}
        assert found[approval].state == state, (found[approval], a.bridge.log())
        return True

    await eventually(one, seconds)


async def told(b: Domain, incident: str, number: int) -> tuple[list[HistoryItem], str | None]:
    """What b.test was answered last, once it is so many responses; and what it takes for the outcome."""

    async def found() -> Any:
        about = await stored(b, keys.interactions(incident), keys.interaction)
        responses = [one for one in about if one.kind is Kind.RESPONSE]
        assert len(responses) == number, [one.document.history for one in responses]
        asked = next(one for one in about if one.id == responses[-1].answers)
        return list(responses[-1].document.history), asked.outcome

    return cast("tuple[list[HistoryItem], str | None]", await eventually(found, 30))


async def test_a_request_is_approved_carried_out_told_and_taken_back(
    domains: tuple[Domain, Domain], clients: Clients
) -> None:
    a, b = domains
    alice = await clients.sign_in(a.prosody, "alice")
    incident = ask(b, "alice@a.test", "one")

    one = await waiting(a)
    (target,) = one.targets
    assert (dict(target.fields), target.state) == ({"account": "alice@a.test"}, TargetState.OFFERED)
    assert target.preview is not None
    assert (target.preview["exists"], target.preview["sessions"]) == (True, 1)
    assert "1 session is closed" in a.bridge.cli("approvals", "show", one.id, "--refresh")

    a.bridge.cli("approvals", "approve", one.id, "--wait", "30")

    assert (await alice.ended())[0] == "policy-violation"
    with pytest.raises(RefusedError):
        await clients.sign_in(a.prosody, "alice")
    history, outcome = await told(b, incident, 1)
    assert ([each.action for each in history], outcome) == (["block-host"], "done")
    (mitigation,) = a.bridge.json("mitigations", "list")["mitigations"]
    assert mitigation["state"] == "applied"
    a.bridge.cli("approvals", "decline", one.id, "--reason", "too late", code=1)

    a.bridge.cli("mitigations", "lift", mitigation["id"], "--wait", "30")

    await clients.sign_in(a.prosody, "alice")
    history, outcome = await told(b, incident, 2)
    assert ([each.action for each in history], outcome) == (["block-host", "other"], "done")


async def test_what_is_undone_in_prosody_itself_is_noticed_and_told(domains: tuple[Domain, Domain]) -> None:
    a, b = domains
    incident = ask(b, "bob@a.test", "undone")
    a.bridge.cli("approvals", "approve", (await waiting(a)).id, "--wait", "30")
    (mitigation,) = await stored(a, keys.mitigations_active("a.test"), keys.mitigation)
    await told(b, incident, 1)

    a.prosody.control("mod_incident_bridge", "undo", mitigation.id)
    store = await open_store(load_settings(a.bridge.config_path).store_url())
    try:
        await reconcile.begin(
            store, ["a.test"], now=datetime.now(UTC)
        )  # as the service does every few minutes
    finally:
        await close(store)

    history, _ = await told(b, incident, 2)
    assert [each.action for each in history] == ["block-host", "other"]
    shown = a.bridge.json("mitigations", "show", mitigation.id)
    assert (shown["state"], shown["lifted_by"]) == ("lifted", "prosodyctl")


async def test_a_yes_survives_prosody_away_and_the_bridge_killed(
    domains: tuple[Domain, Domain], clients: Clients
) -> None:
    a, b = domains
    incident = ask(b, "bob@a.test", "two")
    one = await waiting(a)
    a.prosody.stop()
    a.bridge.cli("approvals", "approve", one.id)

    async def is_tried() -> bool:
        (made,) = await stored(a, keys.mitigations_active("a.test"), keys.mitigation)
        return bool(made.tries)

    await eventually(is_tried, 30)
    a.bridge.kill("up")
    a.bridge.start_up()
    a.prosody.start()

    await in_state(a, one.id, "done", 60)
    with pytest.raises(RefusedError):
        await clients.sign_in(a.prosody, "bob")
    await told(b, incident, 1)
    (mitigation,) = await stored(a, keys.mitigations_active("a.test"), keys.mitigation)
    a.bridge.cli("mitigations", "lift", mitigation.id, "--wait", "30")
    await clients.sign_in(a.prosody, "bob")


async def test_what_prosody_refuses_is_said_and_told(domains: tuple[Domain, Domain]) -> None:
    a, b = domains
    incident = ask(b, "nobody@a.test", "three")
    one = await waiting(a)
    assert "there is no such account" in a.bridge.cli("approvals", "show", one.id)
    a.bridge.cli("approvals", "approve", one.id, "--wait", "30", code=1)
    (target,) = a.bridge.json("approvals", "show", one.id)["targets"]
    assert (target["state"], bool(target["reason"])) == ("failed", True)
    assert (await told(b, incident, 1))[1] == "declined"


async def test_an_operator_blocks_a_domain_unasked_and_sees_before_what_it_would_touch(
    domains: tuple[Domain, Domain],
) -> None:
    a, _ = domains
    made = a.bridge.json("report", "--to", "b.test", "--source", "x@spam.example=9", "--id", "own")
    words = ("incidents", "act", made["incident"], "--block-domain", "spam.example")
    assert "no stream is open" in a.bridge.cli(*words, "--preview")
    assert await stored(a, keys.mitigations_active("a.test"), keys.mitigation) == []
    done = a.bridge.json(*words, "--wait", "30")
    assert (done["state"], done["request"]) == ("done", None)
    protected = (*words[:3], "--block-domain", "b.test")
    a.bridge.cli(*protected, code=2)
