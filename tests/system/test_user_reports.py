"""What users report in real clients, with and without the community's mod_spam_reporting, on both Prosodys."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from slixmpp import ClientXMPP
from slixmpp.xmlstream import ET

from deploy.servers import Prosody
from tests.system.servers import VERSIONS, Bridge, Lab, commands_of, eventually
from tests.system.user import CLIENT, Clients, User

SECONDS = 40.0
USERS, EACH = 50, 20
"""So many users report so many; more than 20 an hour do not count."""
ACCOUNTS = """
for i = 1, {users} do require "core.usermanager".create_user("u" .. i, "secret", "a.test"); end
"""


@pytest.fixture(params=["0.12", "13"], ids=["prosody-0.12", "prosody-13"])
def version(request: pytest.FixtureRequest) -> str:
    """Of a.test."""
    return str(request.param)


@pytest.fixture
def bridge(lab: Lab) -> Bridge:
    """The bridge of a.test, which publishes lists."""
    return lab.bridge(settings="publish_lists = true\n")


@pytest.fixture
def a(lab: Lab, bridge: Bridge, version: str) -> Prosody:
    """a.test, which can load the community's mod_spam_reporting too; Debian 12 has none, so that of 13."""
    plugins = lab.folder / "community"
    plugins.mkdir()
    community = commands_of(VERSIONS["13"]).parent / "root/usr/lib/prosody/modules/mod_spam_reporting"
    assert (community / "mod_spam_reporting.lua").is_file()
    (plugins / "mod_spam_reporting").symlink_to(community)
    prosody = lab.prosody(
        "a.test", version=version, bridge=bridge, plugin_paths=[plugins], start=False,
        extra_host='admins = { "admin@a.test" }\nincident_bridge_lists = true\n',
    )  # fmt: skip
    bridge.start_up()
    prosody.start()
    prosody.control("register", "admin", "a.test", "secret")
    prosody.shell("> " + " ".join(ACCOUNTS.format(users=USERS).split()))
    return prosody


def report(jid: str, *, flags: str = "<report-origin/>") -> str:
    """A command that blocks and reports somebody (XEP-0377)."""
    said = f"<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>{flags}</report>"
    return f"<block xmlns='urn:xmpp:blocking'><item jid='{jid}'>{said}</item></block>"


def drafts(bridge: Bridge) -> list[dict[str, Any]]:
    """What waits for an operator."""
    found: list[dict[str, Any]] = bridge.json("abuse", "list")["drafts"]
    return found


async def report_with_a_library(prosody: Prosody, name: str, jid: str, authority: Path) -> None:
    """Block and report with slixmpp."""
    client = ClientXMPP(f"{name}@{prosody.name}", "secret")
    client.ca_certs = authority
    client.connect(prosody.address, 15222)
    await client.wait_until("session_start", 20)
    iq = client.make_iq_set(ET.fromstring(report(jid)))
    await iq.send(timeout=20)
    await client.disconnect()


async def test_a_report_counts_once_with_the_community_s_module_and_without_it(
    lab: Lab, a: Prosody, bridge: Bridge
) -> None:
    a.control("shell", "module", "load", "spam_reporting", "a.test")
    await report_with_a_library(a, "u1", "eve@b.test", lab.authority.file)
    await eventually(lambda: "Received report of spam from JID 'eve@b.test'" in a.log(), SECONDS)  # it ran
    await eventually(lambda: [one["reports"] for one in drafts(bridge)] == [1], SECONDS)
    a.control("shell", "module", "unload", "spam_reporting", "a.test")
    await report_with_a_library(a, "u2", "eve@b.test", lab.authority.file)
    await eventually(lambda: [one["reports"] for one in drafts(bridge)] == [2], SECONDS)
    assert a.log().count("Received report of spam from JID 'eve@b.test'") == 1


async def test_a_flood_of_a_thousand_reports_from_clients_is_one_draft_and_one_notice(
    a: Prosody, bridge: Bridge
) -> None:
    async with Clients() as clients:
        admin = await clients.sign_in(a, "admin")
        users = [await clients.sign_in(a, f"u{number + 1}") for number in range(USERS)]

        async def flood(user: User) -> None:
            for number in range(EACH):
                reply = await user.ask(f"<iq type='set'>{report(f's{number}@b.test')}</iq>")
                assert reply.get("type") == "result"

        await asyncio.gather(*map(flood, users))

        def is_counted() -> bool:
            [one] = drafts(bridge)
            return one["reports"] + one["more"] == USERS * EACH

        await eventually(is_counted, SECONDS)
        first = await admin.wait(lambda one: one.tag == f"{CLIENT}message")
        assert "b.test: users report spam" in (first.findtext(f"{CLIENT}body") or "")
        await admin.ask("<iq type='get' to='a.test'><ping xmlns='urn:xmpp:ping'/></iq>")
        assert [one for one in admin.stanzas if one.tag == f"{CLIENT}message"] == []


async def test_only_those_are_listed_of_whom_a_user_agreed_that_others_be_told(
    a: Prosody, bridge: Bridge
) -> None:
    async with Clients() as clients:
        user = await clients.sign_in(a, "u1")
        await user.ask(f"<iq type='set'>{report('told@b.test', flags='<report-origin/><third-party/>')}</iq>")
        await user.ask(f"<iq type='set'>{report('kept@b.test')}</iq>")
        await user.ask(f"<iq type='set'>{report('silent@b.test', flags='')}</iq>")
        await eventually(lambda: [one["reports"] for one in drafts(bridge)] == [3], SECONDS)
        sent = bridge.json("abuse", "send", "b.test", "--list")
        assert sent["listed"] == ["told@b.test"]
        query = "<items node='spam_source_jids_sha256'/>"
        pubsub = f"<pubsub xmlns='http://jabber.org/protocol/pubsub'>{query}</pubsub>"

        async def listed() -> set[str]:
            reply = await user.ask(f"<iq type='get' to='a.test'>{pubsub}</iq>")
            return {one.get("id", "") for one in reply.iter("{http://jabber.org/protocol/pubsub}item")}

        await eventually(listed, SECONDS)
        assert await listed() == {hashlib.sha256(b"told@b.test").hexdigest()}
    page = bridge.cli("incidents", "show", sent["incident_id"])
    assert "silent@b.test" not in page
