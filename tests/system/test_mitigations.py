"""What a mitigation does on a real Prosody: to accounts, domains and rooms, and how each is undone."""

import dataclasses
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from bridge.clients.prosody import Mitigated, ProsodyClient
from deploy.servers import Prosody, iq
from tests.system.reports import report
from tests.system.servers import Federation, Lab, eventually, new_secret
from tests.system.user import CLIENT, Clients, RefusedError, User, condition_of

MUC = "muc.a.test"
ROOM = f"garden@{MUC}"
COMPONENT = f'Component "{MUC}" "muc"\n'
DISCO = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
SUSPENDED = "This account is suspended"


@dataclasses.dataclass
class Operator:
    """Commands one host's Prosody as a worker does."""

    prosody: Prosody
    client: ProsodyClient
    host: str = "a.test"

    async def mitigate(
        self, action: str, mitigation: str = "m1", revision: int = 1, **more: Any
    ) -> Mitigated:
        """Carry out; `seconds` until it expires (an hour), `reason`, and the target."""
        return await self.client.mitigate(
            self.host,
            action,
            mitigation=mitigation,
            revision=revision,
            expires_at=datetime.now(UTC) + timedelta(seconds=more.pop("seconds", 3600)),
            reason=more.pop("reason", "spam"),
            target=more,
            webhook_id=f"t-{secrets.token_hex(8)}",
        )

    async def lift(self, mitigation: str = "m1", revision: int = 2) -> Mitigated:
        """Lift."""
        return await self.client.lift(
            self.host, mitigation=mitigation, revision=revision, webhook_id=f"t-{secrets.token_hex(8)}"
        )

    async def ids(self) -> list[str]:
        """What is in force."""
        return [one["mitigation"] for one in await self.client.mitigations(self.host)]


def host_of(url: str, secret: str) -> Any:
    """A host as the client wants it."""
    return SimpleNamespace(api_url=url, secrets=(SimpleNamespace(get_secret_value=lambda: secret),))


@pytest.fixture(params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def a(lab: Lab, request: pytest.FixtureRequest) -> Prosody:
    """a.test with alice and bob and chat rooms, beside z.test; their bridge does not run, nobody else is there."""
    secret = new_secret()
    prosody = lab.prosody(
        "a.test",
        version=request.param,
        modules=["incident_bridge", "smacks"],
        extra=f'incident_bridge_secret = "{secret}"\nVirtualHost "z.test"\n{COMPONENT}',
    )
    for name in ("alice", "bob", "admin"):
        prosody.control("register", name, "a.test", "secret")
    return prosody


@pytest.fixture
async def operator(a: Prosody) -> AsyncIterator[Operator]:
    """The operator of a.test."""
    host = host_of(a.url, a.extra.split('"')[1])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Operator(a, ProsodyClient(dict.fromkeys(("a.test", "z.test"), host), session))


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """What users sign in with."""
    async with Clients() as made:
        yield made


async def test_a_suspended_account_is_signed_out_and_gets_no_resource_until_it_is_lifted(
    operator: Operator, clients: Clients
) -> None:
    a = operator.prosody
    stored = {path: path.read_bytes() for path in (a.folder / "data/a%2etest").rglob("alice.dat")}
    alice = await clients.sign_in(a, "alice")
    unbound = await clients.connect(a, "alice")
    bob = await clients.sign_in(a, "bob")

    done = await operator.mitigate("account.suspend", account="Alice@a.test")

    assert done.ok, done
    assert done.detail["is_new"] is True
    assert await alice.ended() == ("policy-violation", SUSPENDED)
    assert await unbound.ended() == ("policy-violation", SUSPENDED)
    again = await clients.connect(a, "alice")  # the password is as good as ever
    with pytest.raises(RefusedError) as refused:
        await again.bind("phone")
    assert (refused.value.condition, refused.value.text) == ("not-allowed", SUSPENDED)
    assert await again.ended() == ("policy-violation", SUSPENDED)
    assert (await bob.ask("<iq type='get' to='a.test'><ping xmlns='urn:xmpp:ping'/></iq>")).get(
        "type"
    ) == "result"

    lifted = await operator.lift()
    assert lifted.ok
    assert lifted.detail["was"] == "active"
    await clients.sign_in(a, "alice")
    assert {path: path.read_bytes() for path in stored} == stored


async def test_a_session_kept_for_a_client_that_is_away_cannot_be_taken_up_again(
    operator: Operator, clients: Clients
) -> None:
    a = operator.prosody
    alice = await clients.sign_in(a, "alice")
    token = await alice.keep()
    alice.vanish()

    assert (await operator.mitigate("account.suspend", account="alice@a.test")).ok

    again = await clients.connect(a, "alice")
    with pytest.raises(ConnectionError):
        await again.resume(token)
    assert again.error == ("policy-violation", SUSPENDED)
    assert (await operator.lift()).ok
    later = await clients.connect(a, "alice")
    with pytest.raises(RefusedError, match="item-not-found"):
        await later.resume(token)


async def test_a_target_stays_mitigated_until_the_last_of_its_mitigations_ends(
    operator: Operator, clients: Clients
) -> None:
    a = operator.prosody
    for mitigation in ("one", "two"):
        assert (await operator.mitigate("account.suspend", mitigation, account="alice@a.test")).ok
    again = await operator.mitigate("account.suspend", "one", account="alice@a.test")
    assert (again.ok, again.detail["is_new"], list(again.detail["together_with"])) == (True, False, ["two"])

    lifted = await operator.lift("one", 3)
    assert list(lifted.detail["still_mitigated_by"]) == ["two"]
    for revision in (1, 3):  # what was overtaken changes nothing
        late = await operator.mitigate("account.suspend", "one", revision, account="alice@a.test")
        assert (late.ok, late.status) == (False, 409)
        assert "lifted" in late.error
    with pytest.raises(RefusedError):
        await clients.sign_in(a, "alice")

    assert await operator.ids() == ["two"]
    assert (await operator.lift("two")).ok
    assert (await operator.lift("two")).detail["was"] == "lifted"
    assert (await operator.lift("never")).status == 404
    await clients.sign_in(a, "alice")


async def test_an_undo_says_that_the_account_was_deleted_meanwhile(operator: Operator) -> None:
    assert (await operator.mitigate("account.suspend", account="bob@a.test")).ok
    operator.prosody.control("deluser", "bob@a.test")

    assert (await operator.mitigate("account.suspend", "another", account="bob@a.test")).status == 404
    assert (await operator.lift()).detail["is_gone"] is True


async def test_it_expires_by_itself_also_while_prosody_is_away(operator: Operator, clients: Clients) -> None:
    a = operator.prosody
    assert (await operator.mitigate("account.suspend", "short", account="alice@a.test", seconds=1)).ok
    assert (await operator.mitigate("account.suspend", "away", account="bob@a.test", seconds=3)).ok
    assert (await operator.mitigate("domain.block", "long", domain="b.test")).ok

    async def is_over() -> bool:
        return "short" not in await operator.ids()

    await eventually(is_over, 10)
    await clients.sign_in(a, "alice")
    ends_at = datetime.now(UTC) + timedelta(seconds=3)
    a.kill()
    await eventually(lambda: datetime.now(UTC) > ends_at)
    a.start()

    await clients.sign_in(a, "bob")
    assert await operator.ids() == ["long"]
    assert (await operator.lift("short")).detail["was"] == "expired"


async def test_it_survives_a_restart_and_a_reload_of_the_module(operator: Operator, clients: Clients) -> None:
    a = operator.prosody
    assert (await operator.mitigate("account.suspend", account="alice@a.test")).ok

    for again in (a.restart, lambda: a.reload_module("incident_bridge")):
        again()
        assert await operator.ids() == ["m1"]
        with pytest.raises(RefusedError):
            await clients.sign_in(a, "alice")


async def test_admins_own_hosts_and_rooms_of_others_are_refused_and_what_is_not_there_is_not_found(
    operator: Operator, clients: Clients
) -> None:
    targets: list[tuple[int, str, dict[str, str]]] = [
        (409, "account.suspend", {"account": "admin@a.test"}),
        (409, "account.suspend", {"account": "alice@b.test"}),
        (404, "account.suspend", {"account": "nobody@a.test"}),
        (409, "domain.block", {"domain": "a.test"}),
        (409, "domain.block", {"domain": MUC}),
        (409, "room.ban", {"room": "r@rooms.b.test", "jid": "x@c.test"}),
        (409, "room.ban", {"room": ROOM, "jid": "admin@a.test"}),
        (409, "room.ban", {"room": ROOM, "jid": "a.test"}),
        (404, "room.ban", {"room": ROOM, "jid": "x@c.test"}),
    ]
    for status, action, target in targets:
        refused = await operator.mitigate(action, **target)
        assert (refused.ok, refused.status) == (False, status), (target, refused)
        assert refused.error
        assert (await operator.client.preview("a.test", **target))["refused"] == refused.error
    assert await operator.ids() == []


async def test_prosodyctl_lists_and_undoes_without_the_bridge_while_prosody_runs_and_while_it_does_not(
    operator: Operator, clients: Clients
) -> None:
    a = operator.prosody
    assert "No mitigations" in a.control("mod_incident_bridge", "list")
    reason = "spam \u202e\x1b[2J"
    refused = operator.mitigate("account.suspend", account="alice@a.test", reason=reason)
    with pytest.raises(Exception, match="control characters"):
        await refused
    for mitigation, account in (("one", "alice"), ("two", "bob")):
        target = f"{account}@a.test"
        assert (await operator.mitigate("account.suspend", mitigation, account=target, reason="x\u202ey")).ok

    listed = a.control("mod_incident_bridge", "list")
    assert "account.suspend alice@a.test" in listed
    assert "(x?y)" in listed
    assert "one is undone on a.test" in a.control("mod_incident_bridge", "undo", "one")
    await clients.sign_in(a, "alice")
    assert (await operator.lift("one")).detail["was"] == "undone"

    a.stop()
    assert "two will be undone" in a.control("mod_incident_bridge", "undo", "two", "a.test")
    assert "to be undone" in a.control("mod_incident_bridge", "list", "a.test")
    a.start()
    await clients.sign_in(a, "bob")
    assert "No mitigations" in a.control("mod_incident_bridge", "list")
    assert "No mitigation two" in a.control("mod_incident_bridge", "undo", "two")
    assert "usage:" in a.control("mod_incident_bridge", "undo")
    z = dataclasses.replace(operator, host="z.test")
    for one in (operator, z):
        assert (await one.mitigate("domain.block", "same", domain="b.test")).ok
    assert "same is an id on a.test and on z.test" in a.control("mod_incident_bridge", "undo", "same")
    assert "same is undone on z.test" in a.control("mod_incident_bridge", "undo", "same", "z.test")
    assert (await operator.ids(), await z.ids()) == (["same"], [])
    assert "not enabled on c.test" in a.control("mod_incident_bridge", "list", "c.test")


async def join(user: User, nick: str) -> None:
    """Join the room, which is made if there is none; RefusedError if one may not."""
    muc = "<x xmlns='http://jabber.org/protocol/muc'/>"
    await user.send(f"<presence to='{ROOM}/{nick}'>{muc}</presence>")
    own = await user.wait(lambda one: one.tag == f"{CLIENT}presence" and one.get("from") == f"{ROOM}/{nick}")
    if own.get("type") == "error":
        raise RefusedError(*condition_of(own.find(f"{CLIENT}error")))


async def make_room(user: User, nick: str) -> None:
    """Make the room, to last, and join it."""
    await join(user, nick)
    form = "<x xmlns='jabber:x:data' type='submit'>{}{}</x>".format(
        "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>",
        "<field var='muc#roomconfig_persistentroom'><value>1</value></field>",
    )
    query = f"<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>"
    assert (await user.ask(f"<iq type='set' to='{ROOM}'>{query}</iq>")).get("type") == "result"


async def affiliation(user: User, jid: str) -> str:
    """What the room says a user is to it; the asker owns the room."""
    for rank in ("outcast", "member", "admin", "owner"):
        item = f"<item affiliation='{rank}'/>"
        query = f"<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>"
        reply = await user.ask(f"<iq type='get' to='{ROOM}'>{query}</iq>")
        if any(one.get("jid") == jid for one in reply.iter("{http://jabber.org/protocol/muc#admin}item")):
            return rank
    return "none"


async def set_affiliation(user: User, jid: str, rank: str) -> None:
    item = f"<item affiliation='{rank}' jid='{jid}'/>"
    query = f"<query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query>"
    assert (await user.ask(f"<iq type='set' to='{ROOM}'>{query}</iq>")).get("type") == "result"


async def test_somebody_banned_from_a_room_gets_back_what_they_were_when_the_last_ban_ends(
    operator: Operator, clients: Clients
) -> None:
    a = operator.prosody
    alice, bob = await clients.sign_in(a, "alice"), await clients.sign_in(a, "bob")
    await make_room(alice, "alice")
    await set_affiliation(alice, "bob@a.test", "member")
    await join(bob, "bob")
    preview = await operator.client.preview("a.test", room=ROOM, jid="bob@a.test")
    assert (preview["affiliation"], preview["occupants"], preview["occupants_in_all"]) == ("member", 1, 2)

    for mitigation in ("one", "two"):
        assert (await operator.mitigate("room.ban", mitigation, room=ROOM, jid="bob@a.test")).ok
    assert await affiliation(alice, "bob@a.test") == "outcast"
    await bob.wait(lambda one: one.get("type") == "unavailable" and one.get("from") == f"{ROOM}/bob")
    with pytest.raises(RefusedError, match="forbidden"):
        await join(bob, "again")
    a.restart()
    alice, bob = await clients.sign_in(a, "alice"), await clients.sign_in(a, "bob")
    await operator.lift("one")
    assert await affiliation(alice, "bob@a.test") == "outcast"
    lifted = await operator.lift("two")

    assert (lifted.ok, lifted.detail["affiliation"]) == (True, "member")
    assert await affiliation(alice, "bob@a.test") == "member"
    await join(bob, "bob")


async def test_an_affiliation_that_the_rooms_owner_changed_meanwhile_stays_and_the_undo_says_so(
    operator: Operator, clients: Clients
) -> None:
    a = operator.prosody
    alice = await clients.sign_in(a, "alice")
    await make_room(alice, "alice")
    assert (await operator.mitigate("room.ban", room=ROOM, jid="x@c.test")).ok
    await set_affiliation(alice, "x@c.test", "admin")

    lifted = await operator.lift()

    assert lifted.detail["changed_by_hand"] == "admin"
    assert await affiliation(alice, "x@c.test") == "admin"


async def test_a_ban_holds_in_a_room_that_is_made_anew_under_the_same_name(
    operator: Operator, clients: Clients
) -> None:
    a = operator.prosody
    alice = await clients.sign_in(a, "alice")
    await join(alice, "alice")
    assert (await operator.mitigate("room.ban", room=ROOM, jid="x@c.test")).ok
    await alice.send(f"<presence type='unavailable' to='{ROOM}/alice'/>")
    await alice.wait(lambda one: one.get("from") == f"{ROOM}/alice" and one.get("type") == "unavailable")

    await join(alice, "again")

    async def is_banned() -> bool:
        return await affiliation(alice, "x@c.test") == "outcast"

    await eventually(is_banned, 10)


@pytest.fixture(params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
async def blocking(lab: Lab, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Federation, Operator]]:
    """a.test with its bridge and chat rooms, b.test its peer, and who blocks the one for the other."""
    made = Federation.start(lab, version=request.param, extra=COMPONENT, modules=["smacks"])
    for server, name in ((made.a, "alice"), (made.a, "carol"), (made.b, "bob")):
        server.control("register", name, server.name, "secret")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        hosts = {"a.test": host_of(made.a.url, made.bridge.hosts["a.test"][1])}
        yield made, Operator(made.a, ProsodyClient(hosts, session))


async def test_a_blocked_domain_reaches_nobody_and_nobody_reaches_it_but_incidents_are_still_answered(
    blocking: tuple[Federation, Operator], clients: Clients
) -> None:
    federation, operator = blocking
    a, b = federation.a, federation.b
    alice, carol = await clients.sign_in(a, "alice"), await clients.sign_in(a, "carol")
    bob = await clients.sign_in(b, "bob")
    await alice.send(f"<message type='chat' to='{bob.jid}'><body>before</body></message>")
    await bob.message("before")
    await bob.send(f"<message type='chat' to='{alice.jid}'><body>before too</body></message>")
    await alice.message("before too")
    await make_room(alice, "alice")
    await join(bob, "bob")
    preview = await operator.client.preview("a.test", domain="b.test")
    assert preview["streams"] == 4  # two ways, of the host and of its rooms
    assert preview["rooms"] == [{"room": ROOM, "occupants": 1}]

    assert (await operator.mitigate("domain.block", domain="b.test")).ok
    assert (await operator.client.preview("a.test", domain="b.test"))["rooms"] == []
    await eventually(lambda: "does not communicate with b.test" in b.log())

    # Users on neither side reach the other; each is told, at once.
    for sender, recipient in ((alice, bob), (bob, alice)):
        await sender.send(f"<message type='chat' id='x1' to='{recipient.jid}'><body>hello</body></message>")
        error = await sender.wait(lambda one: one.get("id") == "x1" and one.get("type") == "error")
        told = condition_of(error.find(f"{CLIENT}error"))
        assert told == ("not-allowed", "a.test does not communicate with b.test")
        ping = f"<iq type='get' to='{recipient.jid}'><ping xmlns='urn:xmpp:ping'/></iq>"
        assert (await sender.ask(ping)).get("type") == "error"
    await bob.send(f"<presence to='{ROOM}/again'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
    refused = await bob.ask(
        f"<iq type='get' to='{ROOM}'>{DISCO}</iq>"
    )  # on the same stream, so after the presence
    assert refused.get("type") == "error"
    assert (await operator.client.preview("a.test", domain="b.test"))["rooms"] == []
    assert [one for one in (*alice.stanzas, *bob.stanzas) if one.findtext(f"{CLIENT}body") == "hello"] == []
    await alice.send(f"<message type='chat' to='{carol.jid}'><body>to carol</body></message>")
    await carol.message("to carol")

    # Its operator can still talk to ours, and ours to its.
    assert (await b.send_iq(report("while blocked"))).type == "result"
    disco = iq(DISCO, to="a.test", sender="b.test", id="d1", type="get")
    assert (await b.send_iq(disco)).type == "result"
    federation.bridge.cli(
        "report", "--to", "b.test", "--source", "spammer@b.test", "--description", "five messages"
    )

    async def arrived() -> bool:
        return any("urn:xmpp:incident:2" in one and "<report" in one for one in await b.received())

    await eventually(arrived, 20)

    a.restart()
    alice = await clients.sign_in(a, "alice")
    ping = f"<iq type='get' to='{bob.jid}'><ping xmlns='urn:xmpp:ping'/></iq>"
    assert (await alice.ask(ping)).get("type") == "error"
    assert (await operator.lift()).ok
    await bob.send(f"<message type='chat' to='{alice.jid}'><body>after</body></message>")
    await alice.message("after")
    await alice.send(f"<message type='chat' to='{bob.jid}'><body>after too</body></message>")
    await bob.message("after too")
