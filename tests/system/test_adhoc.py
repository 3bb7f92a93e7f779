"""An admin decides and sends from a real XMPP client, and nobody else sees any of it; and what users report there."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, cast
from xml.sax.saxutils import escape, quoteattr

import pytest
from lxml import etree

from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.record import Incident
from bridge.store import keys
from deploy.servers import Authority, free_network
from tests.system.servers import Domain, Lab, eventually, new_secret
from tests.system.test_approvals import ask, in_state, stored, told, waiting
from tests.system.user import CLIENT, Clients, RefusedError, User, block, condition_of

COMMANDS = "{http://jabber.org/protocol/commands}"
DATA = "{jabber:x:data}"
ITEMS = "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>"
NODES = ["approvals", "incidents", "inquiry", "mitigations", "report", "request", "response"]


@pytest.fixture(scope="module", params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def domains(authority: Authority, request: pytest.FixtureRequest) -> Iterator[tuple[Domain, Domain]]:
    """a.test with its admin and alice, and b.test; each with a bridge, and they trust each other."""
    lab = Lab(free_network(os.getpid() + 9), authority)
    try:
        settings = "[policy]\ntell_reporters = true\n"
        a, b = lab.domains({"a.test": request.param, "b.test": "13"}, peer=False, settings=settings)
        a.trust("b.test")
        b.trust("a.test")
        for name in ("admin", "alice", "bob"):
            a.prosody.control("register", name, "a.test", "secret")
        yield a, b
    finally:
        lab.close()


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """What users sign in with."""
    async with Clients() as made:
        yield made


@dataclass
class Step:
    """What came back for one step of a command."""

    tag: etree._Element

    @property
    def status(self) -> str:
        return str(self.tag.get("status"))

    @property
    def note(self) -> str:
        return self.tag.findtext(f"{COMMANDS}note") or ""

    def field(self, var: str) -> etree._Element:
        (found,) = [one for one in self.tag.iter(f"{DATA}field") if one.get("var") == var]
        return found

    def options(self, var: str) -> dict[str, str]:
        return {
            str(one.get("label")): one.findtext(f"{DATA}value") or ""
            for one in self.field(var).iter(f"{DATA}option")
        }

    @property
    def text(self) -> str:
        return "\n".join(str(one) for one in self.tag.itertext())


@dataclass
class Console:
    """Ad-hoc commands from one user's client."""

    user: User

    async def nodes(self) -> list[str]:
        """The bridge's commands that this user sees."""
        reply = await self.user.ask(f"<iq type='get' to='a.test'>{ITEMS}</iq>")
        items = [str(one.get("node")) for one in reply.iter("{http://jabber.org/protocol/disco#items}item")]
        return sorted(one.partition("#")[2] for one in items if one.startswith("incident-bridge#"))

    async def run(self, node: str, before: Step | None = None, action: str = "execute", **given: Any) -> Step:
        """Take one step; RefusedError with the stanza error's condition."""
        session = f" sessionid={quoteattr(str(before.tag.get('sessionid')))}" if before is not None else ""
        fields = "".join(
            f"<field var='{var}'>{''.join(f'<value>{escape(one)}</value>' for one in values)}</field>"
            for var, texts in given.items()
            for values in [[texts] if isinstance(texts, str) else texts]
        )
        form = f"<x xmlns='jabber:x:data' type='submit'>{fields}</x>" if given else ""
        reply = await self.user.ask(
            f"<iq type='set' to='a.test'><command xmlns='http://jabber.org/protocol/commands' "
            f"node='incident-bridge#{node}' action='{action}'{session}>{form}</command></iq>"
        )
        if reply.get("type") == "error":
            raise RefusedError(*condition_of(reply.find(f"{CLIENT}error")))
        command = reply.find(f"{COMMANDS}command")
        assert command is not None, etree.tostring(reply)
        return Step(command)


async def settled(b: Domain, incident: str) -> tuple[str, str]:
    """What b.test takes for the outcome of its request, and what it was told last."""

    async def found() -> Any:
        history, outcome = await told(b, incident, 1)
        return outcome and (outcome, history[-1].descriptions[0].text)

    return cast("tuple[str, str]", await eventually(found, 30))


async def drafts(a: Domain) -> list[AbuseDraft]:
    """What users of a.test reported and nobody decided about."""
    return await stored(a, keys.abuse_drafts_open("a.test"), keys.abuse_draft)


async def test_only_an_admin_sees_and_runs_them(domains: tuple[Domain, Domain], clients: Clients) -> None:
    a, _ = domains
    admin = Console(await clients.sign_in(a.prosody, "admin"))
    alice = Console(await clients.sign_in(a.prosody, "alice"))
    assert await admin.nodes() == NODES
    assert await alice.nodes() == []
    for node in NODES:
        with pytest.raises(RefusedError, match="forbidden"):
            await alice.run(node)
    report = await admin.run("report")
    with pytest.raises(RefusedError, match="forbidden"):
        await alice.run("report", report, "complete", to="b.test", description="mine")
    assert (await admin.run("report", report, "cancel")).status == "canceled"
    info = "<query xmlns='http://jabber.org/protocol/disco#info' node='incident-bridge#report'/>"
    reply = await alice.user.ask(f"<iq type='get' to='a.test'>{info}</iq>")
    assert reply.get("type") == "error"


async def test_an_admin_reports_and_reads_what_was_reported(
    domains: tuple[Domain, Domain], clients: Clients
) -> None:
    a, b = domains
    admin = Console(await clients.sign_in(a.prosody, "admin"))
    form = await admin.run("report")
    wrong = await admin.run("report", form, "complete", to="b.test")
    assert (wrong.status, wrong.note) == ("executing", "say what happened, or who did it")
    given = {"to": "b.test", "description": ["join flood", "& more"], "sources": "bad@c.test=120"}
    sent = await admin.run("report", wrong, "complete", **given)
    assert sent.status == "completed"
    assert "b.test: acknowledged" in sent.text
    again = await admin.run("report", wrong, "complete", **given)
    assert again.status == "completed"

    (known,) = await stored(b, keys.incidents("b.test"), keys.incident)
    assert (known.reporter, known.sources) == ("a.test", ("bad@c.test",))
    listed = await admin.run("incidents")
    ((label, own),) = listed.options("incident").items()
    assert "join flood" in label
    page = await admin.run("incidents", listed, "next", incident=own)
    assert page.status == "completed"
    assert "our report to b.test: acknowledged" in page.text


async def test_a_request_is_approved_and_taken_back_from_a_client(
    domains: tuple[Domain, Domain], clients: Clients
) -> None:
    a, b = domains
    admin = Console(await clients.sign_in(a.prosody, "admin"))
    alice = await clients.sign_in(a.prosody, "alice")
    incident = ask(b, "alice@a.test", "chat")
    one = await waiting(a)

    listed = await admin.run("approvals")
    form = await admin.run("approvals", listed, "next", approval=one.id)
    assert "1 session is closed" in form.text
    given = {"approval": one.id, "decision": "approve", "targets": list(form.options("targets").values())}
    done = await admin.run("approvals", form, "complete", **given)
    await in_state(a, one.id, "done")
    assert done.status == "completed"
    assert (await alice.ended())[0] == "policy-violation"
    assert (await settled(b, incident))[0] == "done"
    after = (await stored(a, keys.approvals("a.test"), keys.approval))[-1]
    assert (after.decided_by, bool(after.decided_from)) == ("admin@a.test", True)
    twice = await admin.run("approvals", form, "complete", **given)
    assert twice.note == "Done."
    assert len(await stored(a, keys.mitigations("a.test"), keys.mitigation)) == 1

    active = await admin.run("mitigations")
    (mitigation,) = active.options("mitigation").values()
    lifted = await admin.run("mitigations", active, "complete", mitigation=mitigation)
    assert "account alice@a.test: lifted" in lifted.text
    await clients.sign_in(a.prosody, "alice")


async def test_a_request_is_declined_from_a_client_and_another_answered_by_hand(
    domains: tuple[Domain, Domain], clients: Clients
) -> None:
    a, b = domains
    admin = Console(await clients.sign_in(a.prosody, "admin"))
    incident = ask(b, "bob@a.test", "no")
    one = await waiting(a)
    form = await admin.run("approvals", await admin.run("approvals"), "next", approval=one.id)
    no = await admin.run(
        "approvals", form, "complete", approval=one.id, decision="decline", reason="he is fine"
    )
    assert no.note.startswith("Declined")
    outcome, text = await settled(b, incident)
    assert (outcome, "he is fine" in text) == ("declined", True)

    incident = ask(b, "bob@a.test", "hand")
    one = await waiting(a)
    form = await admin.run("response", await admin.run("response"), "next", request=one.id)
    assert "block-host" in form.text
    done = await admin.run("response", form, "complete", request=one.id, outcome="done", text="by hand")
    assert "b.test: acknowledged" in done.text
    assert (await settled(b, incident))[0] == "done"
    (record,) = await stored(b, keys.peers("b.test"), lambda domain: keys.peer("b.test", domain))
    assert record.requested >= record.acted + record.declined >= 2
    assert min(record.acted, record.declined) >= 1
    assert len(record.decision_seconds) == record.acted + record.declined


@pytest.mark.parametrize("version", ["0.12", "13"])
async def test_an_admin_is_told_that_the_bridge_is_away(lab: Lab, clients: Clients, version: str) -> None:
    secret = f'incident_bridge_secret = "{new_secret()}"\nincident_bridge_url = "http://127.0.0.1:9"'
    alone = lab.prosody("a.test", version=version, modules=["incident_bridge"], extra=secret)
    alone.control("register", "admin", "a.test", "secret")
    admin = Console(await clients.sign_in(alone, "admin"))
    assert await admin.nodes() == NODES
    for _ in range(2):
        with pytest.raises(RefusedError, match="The incident bridge does not answer") as refused:
            await admin.run("incidents")
        assert refused.value.condition == "resource-constraint"
    alone.reload_module("incident_bridge")
    assert await admin.nodes() == NODES
    with pytest.raises(RefusedError, match="The incident bridge does not answer"):
        await admin.run("incidents")


async def test_one_yes_sends_what_users_agreed_to_and_they_are_thanked(
    domains: tuple[Domain, Domain], clients: Clients
) -> None:
    a, b = domains
    alice = await clients.sign_in(a.prosody, "alice")
    bob = await clients.sign_in(a.prosody, "bob")
    info = await alice.ask(
        "<iq type='get' to='a.test'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    )
    features = {one.get("var") for one in info.iter("{http://jabber.org/protocol/disco#info}feature")}
    assert "urn:xmpp:reporting:1" in features
    asked = [
        await alice.ask(block("spam@b.test", agreed=True, text="buy now")),
        await bob.ask(block("quiet@b.test", agreed=False, text="only for you")),
        await bob.ask(block("admin@a.test", agreed=True)),
        await alice.ask(block("bob@a.test/phone", agreed=True)),
        await bob.ask("<iq type='set'><block xmlns='urn:xmpp:blocking'><item jid='x@c.test'/></block></iq>"),
    ]
    assert [one.get("type") for one in asked] == ["result"] * 5

    async def heard() -> Any:
        found = {one.domain: one for one in await drafts(a)}
        assert found.keys() == {"a.test", "b.test"}, found
        assert found["a.test"].reports == 2
        assert (found["b.test"].reports, found["b.test"].agreed) == (2, 1)
        return found

    found = await eventually(heard, 30)
    assert found["a.test"].accused[0].is_admin
    a.bridge.cli("abuse", "send", "a.test", code=2)
    assert [one.agreed for one in found["b.test"].accused] == [1, 0]
    sent = a.bridge.json("abuse", "send", "b.test", "--with-words")
    assert sent["state"] == "sent"

    async def arrived() -> Any:
        known = await stored(b, keys.incidents("b.test"), keys.incident)
        return next((one for one in known if one.sources == ("spam@b.test",)), None)

    incident = cast("Incident", await eventually(arrived, 30))
    assert (incident.reporter, incident.restriction) == ("a.test", "private")
    document = b.bridge.cli("incidents", "export", incident.id, "--form", "original")
    assert "buy now" in document
    for hidden in ("alice", "bob", "quiet@b.test", "only for you"):
        assert hidden not in document
    thanks = "Thank you. Your report of spam from b.test was passed on to the admins of b.test."
    message = await alice.message(thanks)
    assert (message.get("from"), message.get("type")) == ("a.test", "chat")
    assert not any(thanks in str(one.findtext(f"{CLIENT}body")) for one in bob.stanzas)

    a.bridge.cli("abuse", "act", "a.test", "--suspend", "admin@a.test", code=2)
    would = a.bridge.cli("abuse", "act", "a.test", "--suspend", "bob@a.test", "--preview")
    assert "suspend account bob@a.test" in would
    done = a.bridge.json("abuse", "act", "a.test", "--suspend", "bob@a.test", "--wait", "30")
    assert (done["state"], done["draft_id"]) == ("done", found["a.test"].id)
    assert "bob@a.test" in a.prosody.control("mod_incident_bridge", "list")
    (target,) = done["targets"]
    a.bridge.cli("mitigations", "lift", target["mitigation_id"], "--wait", "30")
