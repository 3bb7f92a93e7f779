"""Block lists that other servers load: by HTTP (mod_firewall), by pubsub (mod_muc_rtbl, mod_anti_spam)."""

import hashlib
import re
import urllib.request
from collections.abc import AsyncIterator

import pytest

from deploy.servers import ROOT, Prosody
from tests.system.servers import Bridge, Lab, eventually
from tests.system.user import CLIENT, Clients, User, condition_of

pytestmark = pytest.mark.asyncio
ROOM = "garden@muc.b.test"
MUC = "<x xmlns='http://jabber.org/protocol/muc'/>"
OPENED = (
    "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query>"
)
SECONDS = 40.0
FIREWALL = """\
%LIST blocked: http://{address}:15268/lists/a.test/domains.txt

::preroute
CHECK LIST: blocked contains $<@to|host>
BOUNCE=policy-violation (listed by a.test)
"""


@pytest.fixture(params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def version(request: pytest.FixtureRequest) -> str:
    """Of both servers."""
    return str(request.param)


@pytest.fixture
def bridge(lab: Lab, version: str) -> Bridge:
    """The bridge of a.test, which publishes, and blocks spam.test."""
    made = lab.bridge(settings="publish_lists = true\n")  # in the only host's table
    a = lab.prosody(
        "a.test", version=version, bridge=made, extra_host="incident_bridge_lists = true\n", start=False
    )
    made.start_up()
    a.start()
    made.cli("report", "--to", "b.test", "--description", "spam wave", "--source", "spam.test=9")
    incident = made.json("incidents", "list")["incidents"][0]["id"]
    made.cli("incidents", "act", incident, "--block-domain", "spam.test", "--wait", "30")
    return made


@pytest.fixture
def b(lab: Lab, bridge: Bridge, version: str) -> Prosody:
    """Another server, which loads what a.test publishes."""
    folder = lab.folder / "firewall.pfw"
    folder.write_text(FIREWALL.format(address=bridge.address))
    prosody = lab.prosody(
        "b.test",
        version=version,
        modules=["firewall"],
        extra=(
            f'firewall_scripts = {{ "{folder}" }}\nanti_spam_services = {{ "a.test" }}\nmuc_rtbl_jid = "a.test"\n'
            'Component "muc.b.test" "muc"\n'
        ),
    )
    # These two subscribe as they are loaded, and at the start of Prosody that is lost now and then.
    prosody.control("shell", "module", "load", "muc_rtbl", "muc.b.test")
    if version == "13":  # in Debian 13, not in 12
        prosody.control("shell", "module", "load", "anti_spam", "b.test")
    for name in ("eve", "bob"):
        prosody.control("register", name, "b.test", "secret")
    return prosody


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """What users sign in with."""
    async with Clients() as made:
        yield made


def domains(bridge: Bridge, host: str = "a.test") -> str:
    """What is served."""
    with urllib.request.urlopen(f"http://{bridge.address}:15268/lists/{host}/domains.txt", timeout=5) as got:
        assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
        return str(got.read().decode())


async def ids(user: User, node: str) -> set[str]:
    """The ids of a node's items, as anybody may ask for them."""
    query = f"<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='{node}'/></pubsub>"
    reply = await user.ask(f"<iq type='get' to='a.test'>{query}</iq>")
    return {one.get("id", "") for one in reply.iter("{http://jabber.org/protocol/pubsub}item")}


async def enters(user: User) -> bool:
    """Whether it can join the room; then it leaves again."""
    await user.send(f"<presence to='{ROOM}/eve'>{MUC}</presence>")
    own = await user.wait(lambda one: one.get("from") == f"{ROOM}/eve")
    if own.get("type") == "error":
        assert condition_of(own.find(f"{CLIENT}error"))[0] == "forbidden"
        return False
    await user.send(f"<presence to='{ROOM}/eve' type='unavailable'/>")
    await user.wait(lambda one: one.get("from") == f"{ROOM}/eve" and one.get("type") == "unavailable")
    return True


async def refusal(user: User, to: str) -> str:
    """What comes back for a message."""
    await user.send(f"<message to='{to}' id='m' type='chat'><body>buy</body></message>")
    error = await user.wait(lambda one: one.tag == f"{CLIENT}message" and one.get("type") == "error")
    return condition_of(error.find(f"{CLIENT}error"))[0]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def writes(user: User) -> str:
    """What comes of an attempt to list something oneself."""
    item = "<item id='good.test'><report xmlns='urn:xmpp:reporting:1'/></item>"
    publish = f"<publish node='spam_source_domains'>{item}</publish>"
    reply = await user.ask(
        f"<iq type='set' to='a.test'><pubsub xmlns='http://jabber.org/protocol/pubsub'>{publish}</pubsub></iq>"
    )
    return condition_of(reply.find(f"{CLIENT}error"))[0]


async def test_another_server_loads_what_is_listed_and_lets_go_what_is_taken_back(
    lab: Lab, bridge: Bridge, b: Prosody, clients: Clients, version: str
) -> None:
    a, eve = lab.servers["a.test"], await clients.sign_in(b, "eve")
    assert isinstance(a, Prosody)
    await eventually(lambda: domains(bridge) == "spam.test\n", SECONDS)

    async def firewall_knows() -> bool:
        return await refusal(eve, "x@spam.test") == "policy-violation"

    async def nodes_are(listed: set[str], rooms: set[str], accounts: set[str]) -> bool:
        return (
            await ids(eve, "spam_source_domains") == listed
            and await ids(eve, "muc_bans_sha256") == rooms
            and await ids(eve, "spam_source_jids_sha256") == accounts
        )

    await eventually(firewall_knows, SECONDS)
    await eventually(lambda: nodes_are({"spam.test"}, {sha256("spam.test")}, set()), SECONDS)
    bob = await clients.sign_in(b, "bob")
    await bob.send(f"<presence to='{ROOM}/bob'>{MUC}</presence>")  # whoever makes the room may always enter
    await bob.wait(lambda one: one.get("from") == f"{ROOM}/bob")
    assert (await bob.ask(f"<iq type='set' to='{ROOM}'>{OPENED}</iq>")).get("type") == "result"
    assert await enters(eve)
    assert await writes(eve) == "forbidden"
    a.restart()  # items and who subscribed are kept
    assert await nodes_are({"spam.test"}, {sha256("spam.test")}, set())

    bridge.cli("lists", "add", "Eve@b.test", "--days", "7", "--reason", "sold pills")

    async def is_kept_out() -> bool:
        return not await enters(eve)

    await eventually(is_kept_out, SECONDS)
    assert await nodes_are({"spam.test"}, {sha256("spam.test"), sha256("eve@b.test")}, {sha256("eve@b.test")})
    if version == "13":
        assert await refusal(eve, "bob@b.test") == "policy-violation"
    shown = bridge.cli("lists", "show")
    assert "eve@b.test" in shown
    assert "sold pills" not in domains(bridge)

    url = f"http://{bridge.address}:15268/lists/a.test/domains.txt"
    other = lab.folder / "other.txt"
    other.write_text("spam.test\nb.test\n")
    compared = bridge.json("lists", "compare", url, str(other), "--preview")["named"]
    assert [(one["domain"], len(one["by"]), one["standing"]) for one in compared] == [
        ("spam.test", 2, "blocked"),
        ("b.test", 1, ""),
    ]
    assert [one["would_touch"] is not None for one in compared] == [False, True]

    bridge.cli("lists", "withhold", "b.test")  # a domain covers its accounts

    await eventually(lambda: enters(eve), SECONDS)
    [mitigation] = bridge.json("mitigations", "list")["mitigations"]
    bridge.cli("mitigations", "lift", mitigation["id"], "--wait", "30")
    await eventually(lambda: domains(bridge) == "", SECONDS)
    await eventually(lambda: nodes_are(set(), set(), set()), SECONDS)


async def test_what_the_readme_gives_mod_firewall_keeps_out_who_is_listed(
    lab: Lab, bridge: Bridge, clients: Clients, version: str
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [snippet] = re.findall(r"^```\n(%LIST .*?)^```$", readme, re.DOTALL | re.MULTILINE)
    script = snippet.replace("https://incidents.example.org", f"http://{bridge.address}:15268")
    (lab.folder / "readme.pfw").write_text(script.replace("example.org", "a.test"))
    bridge.cli("report", "--to", "b.test", "--source", "eve@c.test", "--id", "c")
    incident = next(
        one["id"] for one in bridge.json("incidents", "list")["incidents"] if "c" in one["identity"]["text"]
    )
    bridge.cli("incidents", "act", incident, "--block-domain", "c.test", "--wait", "30")
    await eventually(lambda: domains(bridge).split() == ["c.test", "spam.test"], SECONDS)
    scripts = f'firewall_scripts = {{ "{lab.folder / "readme.pfw"}" }}'
    b = lab.prosody("b.test", version=version, modules=["firewall"], extra=scripts)
    c, d = lab.prosody("c.test"), lab.prosody("d.test")
    for server, name in ((b, "bob"), (c, "eve"), (d, "dan")):
        server.control("register", name, server.name, "secret")
    bob, eve, dan = [
        await clients.sign_in(server, name) for server, name in ((b, "bob"), (c, "eve"), (d, "dan"))
    ]

    async def is_kept_out() -> bool:
        return await refusal(eve, "bob@b.test") == "policy-violation"

    await eventually(is_kept_out, SECONDS)
    await dan.send("<message to='bob@b.test' type='chat'><body>hello</body></message>")
    assert (await bob.message("hello")).get("from", "").startswith("dan@d.test")
