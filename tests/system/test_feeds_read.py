"""Lists that another server publishes on pubsub nodes, read and followed by the module."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from bridge.clients.prosody import Mitigated, ProsodyClient
from deploy.servers import Prosody
from tests.system.ejabberd import Ejabberd
from tests.system.servers import Bridge, Lab, eventually
from tests.system.user import CLIENT, Clients, User, condition_of

NODE = "spam_source_jids_sha256"
US = "a.test/incident-bridge"
SECONDS = 40.0
EJABBERD = "comp.c.test"
CONFIGURED = """\
<create node='list'/><configure><x xmlns='jabber:x:data' type='submit'>
<field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#node_config</value></field>
<field var='pubsub#notify_retract'><value>1</value></field>
<field var='pubsub#notify_delete'><value>1</value></field>
</x></configure>"""


@dataclass(frozen=True)
class Secret:
    secret: str

    def get_secret_value(self) -> str:
        return self.secret


@dataclass(frozen=True)
class Host:
    api_url: str
    secrets: tuple[Secret, ...]


@dataclass
class Reader:
    """Stands in for the bridge of a.test."""

    prosody: Prosody
    client: ProsodyClient
    service: str = "b.test"
    node: str = NODE
    revision: str = ""

    async def read(self) -> Mitigated:
        """Ask once, without knowing anything."""
        return await self.client.read_list("a.test", self.service, self.node)

    async def ready(self) -> list[str]:
        """Ask until the names are there."""

        async def names() -> tuple[Any, ...] | None:
            read = await self.read()
            assert read.ok, read.error
            if read.detail["state"] == "loading":
                return None
            self.revision = read.detail["revision"]
            assert read.detail["left_out"] == 0
            return (read.detail["names"],)

        return list((await eventually(names, SECONDS))[0])

    async def refusal(self) -> str:
        """Ask until the service's refusal is there."""

        async def error() -> str:
            read = await self.read()
            assert read.status in {200, 409}
            return read.error

        return str(await eventually(error, SECONDS))

    async def is_unchanged(self) -> bool:
        """Whether the revision is still the one known."""
        read = await self.client.read_list("a.test", self.service, self.node, self.revision)
        assert read.ok, read.error
        return read.detail.get("unchanged", False) is True

    async def changed(self) -> list[str]:
        """Wait for another revision, and return the names then."""

        async def is_changed() -> bool:
            return not await self.is_unchanged()

        await eventually(is_changed, SECONDS)
        return await self.ready()


@pytest.fixture(params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def version(request: pytest.FixtureRequest) -> str:
    """Of all servers."""
    return str(request.param)


@pytest.fixture
def publishing(lab: Lab, version: str) -> Bridge:
    """The bridge of b.test, which publishes."""
    made = lab.bridge(number=1, settings="publish_lists = true\n")  # in the only host's table
    b = lab.prosody(
        "b.test", version=version, bridge=made, extra_host="incident_bridge_lists = true\n", start=False
    )
    made.start_up()
    b.start()
    return made


@pytest.fixture
async def reader(lab: Lab, version: str) -> AsyncIterator[Reader]:
    """a.test, whose bridge is this test."""
    bridge = lab.bridge()
    a = lab.prosody("a.test", version=version, bridge=bridge)
    host = Host(a.url, (Secret(bridge.hosts["a.test"][1]),))
    connector = aiohttp.TCPConnector(force_close=True)  # a.test restarts
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Reader(a, ProsodyClient({"a.test": host}, session))


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """What users sign in with."""
    async with Clients() as made:
        yield made


def sha256(*texts: str) -> list[str]:
    return sorted(hashlib.sha256(text.encode()).hexdigest() for text in texts)


async def forge(user: User, change: str) -> str:
    """Tell a.test of a change, as the service would; returns the condition of the error that comes back."""
    event = f"<event xmlns='http://jabber.org/protocol/pubsub#event'>{change}</event>"
    await user.send(f"<message to='{US}' id='forged' type='headline'>{event}</message>")
    error = await user.wait(lambda one: one.tag == f"{CLIENT}message" and one.get("type") == "error")
    return condition_of(error.find(f"{CLIENT}error"))[0]


async def test_a_list_of_another_server_is_read_and_its_changes_come_by_themselves(
    lab: Lab, publishing: Bridge, reader: Reader
) -> None:
    b = lab.servers["b.test"]
    assert isinstance(b, Prosody)
    publishing.cli("lists", "add", "one@spam.test", "--days", "7")

    async def is_published() -> bool:
        return await reader.ready() == sha256("one@spam.test")

    first = await reader.read()
    assert first.detail == {"state": "loading"}
    await eventually(is_published, SECONDS)
    assert await reader.is_unchanged()

    # the node itself would be asked again after hours only
    publishing.cli("lists", "add", "two@spam.test", "--days", "7")
    assert await reader.changed() == sha256("one@spam.test", "two@spam.test")
    publishing.cli("lists", "remove", "one@spam.test")
    assert await reader.changed() == sha256("two@spam.test")

    b.restart()
    assert await reader.is_unchanged()
    publishing.cli("lists", "add", "three@spam.test", "--days", "7")
    assert await reader.changed() == sha256("two@spam.test", "three@spam.test")

    known = reader.revision
    reader.prosody.restart()
    assert await reader.ready() == sha256("two@spam.test", "three@spam.test")
    assert reader.revision != known
    publishing.cli("lists", "remove", "three@spam.test")
    assert await reader.changed() == sha256("two@spam.test")

    def subscribers() -> bool:
        return any(
            US in one.read_text() for one in (b.folder / "data").rglob("*.dat") if "pubsub" in str(one)
        )

    assert subscribers()
    assert (await reader.client.forget_list("a.test", "b.test", NODE)).ok
    await eventually(lambda: not subscribers(), SECONDS)
    assert (await reader.client.forget_list("a.test", "b.test", NODE)).ok


async def test_a_node_that_is_not_there_and_a_server_that_is_not_there_are_told_apart(
    lab: Lab, publishing: Bridge, reader: Reader
) -> None:
    reader.node = "nothing"
    assert await reader.refusal() == "b.test refused to show the node nothing: item-not-found"
    reader.node = "spam_source_domains"
    assert await reader.ready() == []  # one says nothing about another
    reader.service = "d.test"
    assert "d.test cannot be reached: remote-server-not-found" in await reader.refusal()


async def test_nobody_else_can_tell_of_changes(
    lab: Lab, publishing: Bridge, reader: Reader, clients: Clients, version: str
) -> None:
    c = lab.prosody("c.test", version=version)
    b = lab.servers["b.test"]
    assert isinstance(b, Prosody)
    publishing.cli("lists", "add", "one@spam.test", "--days", "7")

    async def is_published() -> bool:
        return await reader.ready() == sha256("one@spam.test")

    await eventually(is_published, SECONDS)
    for server in (reader.prosody, b, c):
        server.control("register", "eve", server.name, "secret")
        eve = await clients.sign_in(server, "eve")
        item = "<item id='x'/>"
        for change in (
            f"<items node='{NODE}'>{item}</items>",
            f"<purge node='{NODE}'/>",
            f"<delete node='{NODE}'/>",
        ):
            assert await forge(eve, change) == "service-unavailable"  # nobody took it
    assert await reader.is_unchanged()


async def ask(user: User, change: str, *, owner: bool = False) -> None:
    """Have ejabberd's pubsub service do something, as the owner of the node."""
    xmlns = "http://jabber.org/protocol/pubsub" + ("#owner" if owner else "")
    reply = await user.ask(f"<iq type='set' to='{EJABBERD}'><pubsub xmlns='{xmlns}'>{change}</pubsub></iq>")
    assert reply.get("type") == "result", condition_of(reply.find(f"{CLIENT}error"))


@pytest.mark.parametrize("version", ["13"], indirect=True)
async def test_a_service_of_another_kind_is_followed_too(lab: Lab, reader: Reader, clients: Clients) -> None:
    made = Ejabberd(
        "c.test",
        lab.hosts["c.test"],
        folder=lab.folder / "c.test",
        authority=lab.authority,
        hosts=lab.hosts,
        modules=f'mod_pubsub: {{hosts: ["{EJABBERD}"]}}',
    )
    lab.add("c.test", made).start()
    reader.prosody.control("register", "owner", "a.test", "secret")
    owner = await clients.sign_in(reader.prosody, "owner")
    await ask(owner, CONFIGURED)
    for name in ("one", "two"):
        await ask(owner, f"<publish node='list'><item id='{name}'><x xmlns='x'/></item></publish>")
    reader.service, reader.node = EJABBERD, "list"

    assert await reader.ready() == ["one", "two"]
    await ask(owner, "<publish node='list'><item id='three'><x xmlns='x'/></item></publish>")
    assert await reader.changed() == ["one", "three", "two"]
    await ask(owner, "<retract node='list' notify='true'><item id='one'/></retract>")
    assert await reader.changed() == ["three", "two"]
    await ask(owner, "<purge node='list'/>", owner=True)
    assert await reader.changed() == []
    await ask(owner, "<delete node='list'/>", owner=True)
    assert await reader.refusal() == f"{EJABBERD} says that the node list is gone"
    assert (await reader.client.forget_list("a.test", EJABBERD, "list")).ok
