"""One server publishes lists, another subscribes to them: nothing follows before a yes, and nothing goes round."""

import hashlib
import urllib.request

import pytest

from deploy.servers import Prosody
from tests.system.servers import Bridge, Lab, eventually
from tests.system.user import Clients

SECONDS = 40.0
NODE = "xmpp:b.test?;node=spam_source_domains"
HASHES = "xmpp:b.test?;node=spam_source_jids_sha256"
OURS = 'publish_lists = true\n[webhooks]\nallow_networks = ["127.0.0.0/8"]\n'
REPORTED = "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'><report-origin/></report>"


@pytest.fixture(params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def version(request: pytest.FixtureRequest) -> str:
    """Of both servers."""
    return str(request.param)


@pytest.fixture
def publisher(lab: Lab, version: str) -> Bridge:
    """The bridge of b.test, which lists spam.test and an account."""
    return started(lab, "b.test", version, number=1, settings="publish_lists = true\n")


@pytest.fixture
def bridge(lab: Lab, version: str) -> Bridge:
    """The bridge of a.test, which subscribes, and publishes itself."""
    return started(lab, "a.test", version, number=0, settings=OURS)


def started(lab: Lab, name: str, version: str, *, number: int, settings: str) -> Bridge:
    made = lab.bridge(number=number, settings=settings)
    more = "incident_bridge_lists = true\n"
    prosody = lab.prosody(name, version=version, bridge=made, extra_host=more, start=False)
    made.start_up()
    prosody.start()
    return made


def domains(bridge: Bridge, host: str) -> str:
    """What a host publishes by HTTP."""
    with urllib.request.urlopen(f"http://{bridge.address}:15268/lists/{host}/domains.txt", timeout=5) as got:
        return str(got.read().decode())


def proposed(bridge: Bridge, *words: str, code: int = 0) -> dict[str, tuple[int, str]]:
    """What is proposed: how many lists name it, and what is decided about it."""
    found = bridge.json("feeds", "proposals", *words, code=code)["proposals"]
    return {one["domain"]: (len(one["by"]), one["standing"]) for one in found}


async def test_what_lists_of_another_server_name_is_blocked_on_a_yes_and_let_go_with_them(
    lab: Lab, publisher: Bridge, bridge: Bridge
) -> None:
    publisher.cli("lists", "add", "spam.test", "--days", "7")
    publisher.cli("lists", "add", "eve@b.test", "--days", "7", code=2)  # its own
    publisher.cli("lists", "add", "eve@c.test", "--days", "7")
    page = f"http://{publisher.address}:15268/lists/b.test/domains.txt"
    await eventually(lambda: domains(publisher, "b.test") == "spam.test\n", SECONDS)
    for url in (page, NODE, HASHES):
        bridge.cli("feeds", "add", url, "--wait", "40", seconds=60)

    def is_read() -> bool:
        names = {one["url"]: one["names"] for one in bridge.json("feeds", "list")["feeds"]}
        return names == {page: 1, NODE: 1, HASHES: 1}

    def read_again(*urls: str) -> None:
        for url in urls:
            bridge.cli("feeds", "add", url, "--wait", "40", seconds=60)

    async def is_read_again() -> bool:
        read_again(page, NODE, HASHES)
        return is_read()

    await eventually(is_read_again, SECONDS)
    assert proposed(bridge) == {"spam.test": (2, "")}
    assert len(bridge.json("feeds", "find", "eve@c.test")["named_by"]) == 1  # by its hash
    assert bridge.json("mitigations", "list")["mitigations"] == []
    assert "nobody here knows it" in bridge.cli("feeds", "proposals", "--preview")

    bridge.cli("feeds", "block", "spam.test", "--days", "3", "--wait", "30", seconds=60)
    [mitigation] = bridge.json("mitigations", "list")["mitigations"]
    assert (mitigation["state"], mitigation["feeds"]) == ("applied", [page, NODE])
    assert proposed(bridge, "--all") == {"spam.test": (2, "blocked")}
    assert domains(bridge, "a.test") == ""  # what others say is not said again in our name

    publisher.cli("lists", "remove", "spam.test")
    await eventually(lambda: domains(publisher, "b.test") == "", SECONDS)

    async def is_let_go() -> bool:
        read_again(page, NODE)
        let_go = bridge.json("feeds", "proposals", code=1)["let_go"]
        return [(one["domain"], one["by"]) for one in let_go] == [("spam.test", [])]

    await eventually(is_let_go, SECONDS)
    bridge.cli("mitigations", "lift", mitigation["id"], "--wait", "30", seconds=60)
    assert bridge.json("feeds", "proposals", code=1)["let_go"] == []
    for one in bridge.json("feeds", "list")["feeds"]:
        bridge.cli("feeds", "remove", one["id"])
    assert "Everything is as it must be" not in bridge.cli("feeds", "list")


async def test_a_list_comes_by_itself_to_whoever_subscribes_and_what_users_report_is_held_against_it(
    lab: Lab, publisher: Bridge, bridge: Bridge
) -> None:
    a = lab.servers["a.test"]
    assert isinstance(a, Prosody)
    bridge.cli("feeds", "add", HASHES, "--wait", "40", seconds=60)
    publisher.cli("lists", "add", "eve@c.test", "--days", "7")
    a.control("register", "alice", "a.test", "secret")
    async with Clients() as clients:
        alice = await clients.sign_in(a, "alice")
        item = f"<item jid='eve@c.test'>{REPORTED}</item>"
        await alice.ask(f"<iq type='set'><block xmlns='urn:xmpp:blocking'>{item}</block></iq>")

    def is_corroborated() -> bool:
        drafts = bridge.json("abuse", "list")["drafts"]
        if not drafts:
            return False
        named = bridge.json("abuse", "show", drafts[0]["id"])["named_by"]
        return [one["url"] for one in named.get("eve@c.test", ())] == [HASHES]

    await eventually(is_corroborated, 120)  # the node is looked at once a minute
    assert hashlib.sha256(b"eve@c.test").hexdigest() not in bridge.cli("abuse", "show", "c.test")
