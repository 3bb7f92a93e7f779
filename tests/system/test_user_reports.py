"""What users report in their clients, beside the community's mod_spam_reporting: counted, sent, listed.

The clients are two: our own, and slixmpp with what it makes of XEP-0191 and XEP-0377 itself.
"""

import asyncio
import contextlib
import os
import re
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from xml.etree.ElementTree import SubElement

import pytest
from lxml import etree
from slixmpp import ClientXMPP
from slixmpp.plugins.xep_0191 import BlockItem

from bridge.config import load_settings
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.change import Telling
from bridge.store import keys, load
from bridge.store.connect import close, open_store
from deploy.servers import Authority, Prosody, free_network
from tests.system.servers import Bridge, Domain, Lab, commands_of, eventually
from tests.system.test_approvals import stored
from tests.system.test_lists import domains, ids, sha256
from tests.system.user import CLIENT, Clients, User, block

SPAM_REPORTING = "root/usr/lib/prosody/modules/mod_spam_reporting"
"""The community's module in Debian 13's package; Debian 12's has none, so both load this one."""
NAMES = ("admin", "alice", "bob", "carol", *(f"user{number}" for number in range(50)))
REGISTER = """
for name in ("%s"):gmatch("%%S+") do
  require "core.usermanager".create_user(name, "secret", "a.test");
end
"""
QUOTA = 20  # so many reports of one user count in an hour
BLOCKED = "<iq type='get'><blocklist xmlns='urn:xmpp:blocking'/></iq>"
SECONDS = 40.0


@pytest.fixture(scope="module", params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def house(authority: Authority, request: pytest.FixtureRequest) -> Iterator[tuple[Domain, Domain]]:
    """a.test, which publishes lists and has mod_spam_reporting, too, and b.test; each with a bridge."""
    lab = Lab(free_network(os.getpid() + 11), authority)
    try:
        bridge = lab.bridge(settings="publish_lists = true\n")  # in the only host's table
        prosody = lab.prosody(
            "a.test",
            version=request.param,
            bridge=bridge,
            modules=["spam_reporting"],
            plugin_paths=[commands_of("prosody13").parent / SPAM_REPORTING],
            extra_host="incident_bridge_lists = true\n",
            start=False,
        )
        bridge.start("up")
        [b] = lab.domains({"b.test": "13"}, peer=False)
        bridge.wait_ready()
        prosody.start()
        prosody.shell("> " + " ".join((REGISTER % " ".join(NAMES)).split()))
        b.prosody.control("register", "eve", "b.test", "secret")
        b.trust("a.test")
        yield Domain("a.test", prosody, bridge), b
    finally:
        lab.close()


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """What users sign in with."""
    async with Clients() as made:
        yield made


@contextlib.asynccontextmanager
async def slixmpp(prosody: Prosody, name: str) -> AsyncIterator[ClientXMPP]:
    """Sign in with slixmpp."""
    client = ClientXMPP(f"{name}@{prosody.name}", "secret")
    client.ca_certs = prosody.authority.file
    client.register_plugin("xep_0377")
    client.connect(prosody.address, 15222)
    await client.wait_until("session_start", SECONDS)
    try:
        yield client
    finally:
        await client.disconnect()


async def report_agreed(client: ClientXMPP, jid: str, *consents: str) -> None:
    """Block and report with slixmpp, with the consents that it knows nothing of."""
    iq = client.make_iq_set()
    item = BlockItem(parent=iq["block"])
    item["jid"] = jid
    item["report"]["reason"] = client.plugin["xep_0377"].SPAM
    for consent in consents:
        SubElement(item["report"].xml, f"{{urn:xmpp:reporting:1}}{consent}")
    await iq.send(timeout=SECONDS)


async def draft_about(a: Domain, domain: str) -> AbuseDraft:
    """What waits for a yes; an AssertionError while there is none."""
    known = await stored(a, keys.abuse_drafts_open("a.test"), keys.abuse_draft)
    [found] = [one for one in known if one.domain == domain] or [None]
    assert found is not None, known
    return found


def outcomes(bridge: Bridge) -> Counter[str]:
    """What became of all reports of users since the start."""
    with urllib.request.urlopen(f"http://{bridge.address}:15269/metrics", timeout=10) as answer:
        found = re.findall(r'incident_bridge_abuse_total\{outcome="([^"]+)"\} (\S+)', answer.read().decode())
    return Counter({outcome: int(float(number)) for outcome, number in found})


def read_by_spam_reporting(prosody: Prosody, domain: str) -> list[str]:
    """Which JIDs of a domain mod_spam_reporting logs that it read reports of."""
    line = r"spam_reporting\s+warn\s+Received report of spam from JID '([^']+)'"
    return [jid for jid in re.findall(line, prosody.log()) if f"@{domain}" in jid]


async def signed_in(clients: Clients, prosody: Prosody, names: Iterable[str]) -> list[User]:
    """Sign all in, ten at a time."""
    made: list[User] = []
    waiting = list(names)
    while waiting:
        made += await asyncio.gather(*(clients.sign_in(prosody, name) for name in waiting[:10]))
        del waiting[:10]
    return made


async def test_a_flood_of_reports_through_clients_is_one_draft_that_counts_right_and_one_notice(
    house: tuple[Domain, Domain], clients: Clients
) -> None:
    a, _ = house
    before = outcomes(a.bridge)
    admin = await clients.sign_in(a.prosody, "admin")
    users = await signed_in(clients, a.prosody, NAMES[-50:])
    new = [f"s{number}@flood.test" for number in range(QUOTA - 1)]

    for jid in (*new, "S0@flood.test/again", "over@flood.test"):  # one known already, one over the quota
        replies = await asyncio.gather(*(user.ask(block(jid, agreed=True)) for user in users))
        assert {reply.get("type") for reply in replies} == {"result"}

    expected = {"counted": 500 + 9 * 10, "beyond": 9 * 40, "repeated": 50, "over-quota": 50}
    await eventually(lambda: outcomes(a.bridge) - before == expected, SECONDS)
    draft = await draft_about(a, "flood.test")
    first, rest = dict.fromkeys(new[:10], (50, 50, 0)), dict.fromkeys(new[10:], (10, 10, 40))
    assert {one.jid: (one.reports, one.agreed, one.more) for one in draft.accused} == first | rest
    assert (draft.reports, draft.agreed, draft.more, draft.reporters, draft.left_out) == (
        590,
        590,
        360,
        50,
        0,
    )
    assert len(read_by_spam_reporting(a.prosody, "flood.test")) == 1050
    told = await admin.wait(is_message)
    assert "flood.test: users report spam" in (told.findtext(f"{CLIENT}body") or "")
    store = await open_store(load_settings(a.bridge.config_path).store_url())
    try:
        assert await load.tallies(store, "a.test", Telling.NOTICE) == ()
    finally:
        await close(store)
    await admin.ask(BLOCKED)  # what was sent to them before is here
    assert not [one for one in admin.stanzas if is_message(one)]


async def test_a_report_counts_once_without_the_communitys_module_and_with_it(
    house: tuple[Domain, Domain], clients: Clients
) -> None:
    a, _ = house
    before = outcomes(a.bridge)
    bob = await clients.sign_in(a.prosody, "bob")
    async with slixmpp(a.prosody, "alice") as alice:
        for verb, jid in (("unload", "without@c.test"), ("load", "with@c.test")):
            a.prosody.shell(f'module:{verb}("spam_reporting", "a.test")')
            await alice.plugin["xep_0377"].report(jid, timeout=SECONDS)
            await bob.ask(block(jid, agreed=True))
        listed = await alice.plugin["xep_0191"].get_blocked(timeout=SECONDS)
    await bob.ask(block("last@c.test", agreed=True))  # all before it are decided about before it

    async def is_decided() -> bool:
        return "last@c.test" in {one.jid for one in (await draft_about(a, "c.test")).accused}

    await eventually(is_decided, SECONDS)
    draft = await draft_about(a, "c.test")
    assert {one.jid: (one.reports, one.agreed) for one in draft.accused} == {
        "without@c.test": (2, 1),
        "with@c.test": (2, 1),
        "last@c.test": (1, 1),
    }
    nothing_twice = {"counted": 5}
    await eventually(lambda: outcomes(a.bridge) - before == nothing_twice, SECONDS)
    assert read_by_spam_reporting(a.prosody, "c.test") == ["with@c.test", "with@c.test", "last@c.test"]
    assert {str(one["jid"]) for one in listed["blocklist"]["items"]} == {"without@c.test", "with@c.test"}


async def test_accounts_are_listed_of_which_a_user_agreed_that_others_be_told_and_no_others(
    house: tuple[Domain, Domain], clients: Clients
) -> None:
    a, b = house
    bob, carol = await signed_in(clients, a.prosody, ("bob", "carol"))
    eve = await clients.sign_in(b.prosody, "eve")
    async with slixmpp(a.prosody, "alice") as alice:
        await report_agreed(alice, "open@b.test", "report-origin", "third-party")
        await alice.plugin["xep_0377"].report("mute@b.test", timeout=SECONDS)  # slixmpp asks its user nothing
    await bob.ask(block("open@b.test", agreed=True))
    await carol.ask(block("mixed@b.test", agreed=False))
    await bob.ask(block("mixed@b.test", agreed=True, for_others=True))
    await bob.ask(block("quiet@b.test", agreed=True))
    await carol.ask(block("others@b.test", agreed=False, for_others=True))

    async def is_heard() -> bool:
        return (await draft_about(a, "b.test")).reports == 7

    await eventually(is_heard, SECONDS)
    sent = a.bridge.json("abuse", "send", "b.test", "--list")
    assert sorted(sent["listed"]) == ["mixed@b.test", "open@b.test"]

    async def nodes_are(*jids: str) -> bool:
        hashes = {sha256(jid) for jid in jids}
        nodes = ("spam_source_jids_sha256", "muc_bans_sha256")
        return [await ids(eve, node) for node in nodes] == [hashes, hashes]

    await eventually(lambda: nodes_are("open@b.test", "mixed@b.test"), SECONDS)
    assert await ids(eve, "spam_source_domains") == set()
    assert domains(a.bridge) == "", "accounts only"
    shown = a.bridge.cli("lists", "show")
    assert "reported by users" in shown
    assert not [name for name in ("quiet", "mute", "others", "alice", "bob") if name in shown]

    async def arrived() -> bool:
        [known] = await stored(b, keys.incidents("b.test"), keys.incident)
        assert set(known.sources) == {"open@b.test", "mixed@b.test", "quiet@b.test"}
        return (known.reporter, known.restriction) == ("a.test", "private")

    await eventually(arrived, SECONDS)
    a.bridge.cli("lists", "remove", "open@b.test")
    await eventually(lambda: nodes_are("mixed@b.test"), SECONDS)


def is_message(stanza: etree._Element) -> bool:
    return bool(stanza.tag == f"{CLIENT}message")
