"""One server publishes lists, another subscribes to them: nothing follows before a yes, and nothing goes round."""

import subprocess
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


@pytest.fixture(params=["0.12 13", "13 0.12"], ids=["0.12 reads 13", "13 reads 0.12"])
def versions(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Of a.test, which reads, and b.test, which publishes."""
    reading, publishing = str(request.param).split()
    return reading, publishing


@pytest.fixture
def publisher(lab: Lab, versions: tuple[str, str]) -> Bridge:
    """The bridge of b.test, which publishes."""
    return started(lab, "b.test", versions[1], number=1, settings="publish_lists = true\n")


@pytest.fixture
def bridge(lab: Lab, versions: tuple[str, str]) -> Bridge:
    """The bridge of a.test, which subscribes, and publishes itself."""
    return started(lab, "a.test", versions[0], number=0, settings=OURS)


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


def subscribe(bridge: Bridge, *urls: str) -> None:
    """Subscribe, or read again, at the same time; wait until that is done."""
    # The page is b.test's as well; that another publishes it is said, so that two agree.
    who = {url: ("--publisher", "another") if url.startswith("http") else () for url in urls}
    argv = [bridge.argv("feeds", "add", url, *who[url], "--wait", "40") for url in urls]
    running = [subprocess.Popen(words, env=bridge.env, stdout=subprocess.DEVNULL) for words in argv]
    assert [one.wait(60) for one in running] == [0] * len(running)


async def test_what_lists_of_another_server_name_is_blocked_on_a_yes_and_let_go_with_them(
    lab: Lab, publisher: Bridge, bridge: Bridge
) -> None:
    page = f"http://{publisher.address}:15268/lists/b.test/domains.txt"
    for address in ("spam.test", "eve@c.test"):
        publisher.cli("lists", "add", address, "--days", "7")
    await eventually(lambda: domains(publisher, "b.test") == "spam.test\n", SECONDS)

    def is_read() -> bool:
        subscribe(bridge, page, NODE, HASHES)
        names = {one["url"]: one["names"] for one in bridge.json("feeds", "list")["feeds"]}
        return names == {page: 1, NODE: 1, HASHES: 1}

    await eventually(is_read, SECONDS)
    assert proposed(bridge, "--preview") == {"spam.test": (2, "")}
    assert bridge.json("mitigations", "list")["mitigations"] == []
    await user_reports(lab, "eve@c.test")
    [draft] = await eventually(lambda: bridge.json("abuse", "list")["drafts"], SECONDS)
    named = bridge.json("abuse", "show", draft["id"])["named_by"]
    assert [one["url"] for one in named["eve@c.test"]] == [HASHES]  # by its hash only

    bridge.cli("feeds", "block", "spam.test", "--days", "3", "--wait", "30", seconds=60)
    [mitigation] = bridge.json("mitigations", "list")["mitigations"]
    assert (mitigation["state"], set(mitigation["feeds"])) == ("applied", {page, NODE})
    assert proposed(bridge, "--all") == {"spam.test": (2, "blocked")}
    assert domains(bridge, "a.test") == ""  # what others say is not said again in our name

    publisher.cli("lists", "remove", "spam.test")

    def is_let_go() -> bool:
        subscribe(bridge, page, NODE)
        let_go = bridge.json("feeds", "proposals", code=1)["let_go"]
        return [(one["domain"], one["by"]) for one in let_go] == [("spam.test", [])]

    await eventually(is_let_go, SECONDS)
    bridge.cli("mitigations", "lift", mitigation["id"], "--wait", "30", seconds=60)
    bridge.cli("feeds", "remove", NODE)
    assert bridge.json("feeds", "proposals", code=1)["let_go"] == []


async def user_reports(lab: Lab, accused: str) -> None:
    """Have a user of a.test block somebody and report them."""
    a = lab.servers["a.test"]
    assert isinstance(a, Prosody)
    a.control("register", "alice", "a.test", "secret")
    async with Clients() as clients:
        alice = await clients.sign_in(a, "alice")
        item = f"<item jid='{accused}'>{REPORTED}</item>"
        await alice.ask(f"<iq type='set'><block xmlns='urn:xmpp:blocking'>{item}</block></iq>")
