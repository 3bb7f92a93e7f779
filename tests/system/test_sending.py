"""What becomes of what we send: acknowledged, refused, unreachable, unanswered; and whose answer counts."""

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
import pytest
from lxml import etree

from bridge.policy.outreach import Channel
from bridge.policy.record import Interaction, InteractionState
from deploy.servers import Authority, Prosody, free_network, iq
from tests.system.desk import Desk
from tests.system.ejabberd import Ejabberd, Silence
from tests.system.reports import inquiry
from tests.system.servers import Bridge, Federation, Lab, eventually, manner
from tests.system.user import CLIENT, Clients, User, block

IMPATIENT = "[policy]\nanswer_seconds = 1\ngive_up_seconds = 8\nanswer_page_days = 7\n"
NAMESPACE = "urn:xmpp:incident:2"
REPORT = "{urn:xmpp:reporting:1}report"


@pytest.fixture(scope="module")
def standing(authority: Authority) -> Iterator[Lab]:
    """One lab for most tests here; each has peers of its own in it."""
    made = Lab(free_network(os.getpid() + 2), authority)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def desk(standing: Lab) -> Desk:
    """The operator of a.test, a Prosody 13 whose bridge does not wait long."""
    page = f'public_url = "http://{standing.network}.100:15268"'
    bridge = standing.bridge(settings=IMPATIENT, server=page)
    prosody = standing.prosody("a.test", version="13", bridge=bridge, start=False)
    bridge.start_up()
    prosody.start()
    return Desk(bridge)


async def arrived(peer: Prosody, kind: str = "report") -> list[str]:
    """The incident IQs that a peer got, of one kind."""
    return [one for one in await peer.received() if f"<{kind} " in one and NAMESPACE in one]


def id_of(stanza: str) -> str:
    found = re.search(r"<iq[^>]*\sid=['\"]([^'\"]+)", stanza)
    assert found is not None, stanza
    return found[1]


def canonical(stanza: str) -> str:
    """A stanza in the one order of attributes; Prosody writes them in any."""
    return etree.canonicalize(stanza)


def result(*, to_id: str, sender: str) -> str:
    return f"<iq type='result' from='{sender}' to='a.test' id='{to_id}'/>"


async def test_a_peer_is_asked_what_it_announces_then_told_and_its_result_is_noted(
    standing: Lab, desk: Desk
) -> None:
    b = standing.prosody("b.test", peer=True, mannered=True)

    made = await desk.report("b.test")

    [sent] = await desk.settled(made.interactions[0].id)
    assert (sent.state, sent.attempts, sent.failure) == (InteractionState.ACKNOWLEDGED, 1, None)
    peer = await desk.peer("b.test")
    assert (peer.sent, peer.acknowledged, peer.announces) == (1, 1, True)
    assert 0 < peer.answer_seconds[0] < 10
    kinds = ["disco" if "disco#info" in one else "report" for one in await b.received()]
    assert kinds == ["disco", "report"]


async def test_a_prosody_without_the_module_does_not_speak_xep_0268(standing: Lab, desk: Desk) -> None:
    standing.prosody("d.test", version="13")

    made = await desk.report("d.test")

    await refused_for_good(desk, made.interactions[0].id, "d.test")
    assert (await desk.peer("d.test")).contacts == ()


async def test_where_a_server_does_not_speak_it_its_contact_is_written_to_and_the_answer_is_in_the_timeline(
    standing: Lab, desk: Desk
) -> None:
    named = '{ "mailto:abuse@c.test", "xmpp:Abuse@c.test?message", "https://c.test/abuse" }'
    c = standing.prosody(
        "c.test", modules=["server_contact_info"], extra_host=f"contact_info = {{ abuse = {named} }}"
    )
    for name in ("abuse", "mallory"):
        c.control("register", name, "c.test", "secret")
    async with Clients() as clients:
        abuse = await clients.sign_in(c, "abuse")
        mallory = await clients.sign_in(c, "mallory")

        [interaction] = (await desk.report("c.test", text="by chat")).interactions
        told = await abuse.wait(lambda one: one.tag.endswith("}message"))
        assert told.get("from") == "a.test"
        text = told.findtext("{jabber:client}body")
        assert "> five messages of spam" in text
        assert "spammer@b.test: 5 xmpp-message" in text
        assert "urn:xmpp:reporting:1" not in etree.tostring(told).decode()

        async def written() -> Interaction:
            [sent] = await desk.interactions(interaction.id)
            assert sent.state is InteractionState.SENT
            assert sent.outreach is not None
            return sent

        sent = await eventually(written, 30)
        assert (sent.outreach.channel, sent.outreach.address) == (Channel.CHAT, "abuse@c.test")
        assert (await desk.peer("c.test")).contacts == ("xmpp:abuse@c.test", "mailto:abuse@c.test")
        thread = f"<thread>{told.findtext('{jabber:client}thread')}</thread>"
        await mallory.send(f"<message type='chat' to='a.test'><body>a lie</body>{thread}</message>")
        await mallory.send("<message type='chat' to='a.test'><body>hello?</body></message>")
        assert (await mallory.wait(lambda one: one.get("type") == "error")).get("from") == "a.test"
        await abuse.send(
            "<message type='chat' to='a.test'><body>closed, <![CDATA[<b>thanks]]></body></message>"
        )

        await desk.settled(interaction.id, seconds=30)
        about = interaction.incident_id
        desk.bridge.cli("request", "--incident", about, "--to", "c.test", "--action", "block-host")
        asked = await abuse.wait(lambda one: "We ask for your help" in (one.findtext(f"{CLIENT}body") or ""))

    for letter in (text, asked.findtext(f"{CLIENT}body")):
        link = re.search(r"https?://\S+/answer/\S+", letter)[0]
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            page = await (await browser.get(link)).text()
            assert "five messages of spam" in page
            form = {
                "csrf": re.search(r'name="csrf" value="([^"]+)"', page)[1],
                "verdict": "done",
                "text": "<i>gone",
            }
            assert "have your answer" in await (await browser.post(link, data=form)).text()
            assert (await browser.post(link, data=form)).status == 404

    [sent] = await desk.interactions(interaction.id)
    assert sent.state is InteractionState.ACKNOWLEDGED
    assert [one.text for one in sent.outreach.answers] == ["closed, <b>thanks", "<i>gone"]
    shown = desk.bridge.cli("incidents", "show", sent.incident_id)
    assert "abuse@c.test, for c.test, answers our report: closed, <b>thanks" in shown
    assert "whoever has the link, for c.test, answers our report: done: <i>gone" in shown
    assert "a lie" not in shown
    record = desk.bridge.cli("peers", "show", "c.test")
    assert "xmpp:abuse@c.test, mailto:abuse@c.test" in record
    assert "1, 1 answered: 1 acted on, 0 declined" in record
    assert "Median time for these" in record
    assert not [one for one in abuse.stanzas if one.find(REPORT) is not None], "nobody of c.test is accused"


async def test_a_contact_that_there_is_not_refuses_for_its_server(standing: Lab, desk: Desk) -> None:
    standing.servers["c.test"].control("deluser", "abuse@c.test")

    [interaction] = (await desk.report("c.test", text="nobody there")).interactions

    [sent] = await desk.settled(interaction.id, seconds=30)
    assert sent.state is InteractionState.REFUSED
    assert (sent.outreach.channel, sent.outreach.address) == (Channel.MAIL, "abuse@c.test")
    [lost] = sent.outreach.tried
    assert (lost.channel, lost.failure.condition) == (Channel.CHAT, "service-unavailable")


@pytest.mark.parametrize(("version", "theirs"), [("0.12", "13"), ("13", "0.12")])
async def test_what_users_agreed_to_reaches_a_contact_as_reports_for_programs_beside_the_letter(
    lab: Lab, version: str, theirs: str
) -> None:
    bridge = lab.bridge()
    a = lab.prosody("a.test", version=version, bridge=bridge, start=False)
    c = lab.prosody(
        "c.test",
        version=theirs,
        modules=["server_contact_info"],
        extra_host='contact_info = { abuse = { "xmpp:abuse@c.test" } }',
    )
    bridge.start_up()
    a.start()
    for server, name in ((a, "alice"), (a, "bob"), (a, "carol"), (c, "abuse")):
        server.control("register", name, server.name, "secret")
    async with Clients() as clients:
        contact = await clients.sign_in(c, "abuse")
        alice = await clients.sign_in(a, "alice")
        bob = await clients.sign_in(a, "bob")
        carol = await clients.sign_in(a, "carol")
        for user, jid, agreed in (
            (alice, "spam@c.test", True),
            (bob, "spam@c.test", True),
            (bob, "quiet@c.test", False),
            (carol, "spam@c.test", False),
        ):
            text = f"{user.name} saw it" if agreed else "not to be told"
            done = await user.ask(block(jid, agreed=agreed, text=text))
            assert done.get("type") == "result"

        async def heard() -> bool:
            return [(one["reports"], one["agreed"]) for one in bridge.json("abuse", "list")["drafts"]] == [
                (4, 2)
            ]

        await eventually(heard, 30)
        bridge.cli("abuse", "send", "c.test", "--with-words")

        letter = await contact.wait(lambda one: one.find(f"{CLIENT}body") is not None)
        beside = await contact.wait(lambda one: one.find(REPORT) is not None)
        assert (beside.get("from"), beside.get("type"), beside.find(f"{CLIENT}body")) == (
            "a.test",
            None,
            None,
        )
        report = beside.find(REPORT)
        assert report.get("reason") == "urn:xmpp:reporting:spam"
        assert report.findtext("{urn:xmpp:jid:0}jid") == "spam@c.test"
        text = report.findtext("{urn:xmpp:reporting:1}text")
        assert text.startswith("2 users of a.test reported this account. Our reference: ")
        assert text.partition("Our reference: ")[2] in letter.findtext(f"{CLIENT}body")
        written = etree.tostring(beside).decode()
        assert not [one for one in ("alice", "bob", "quiet", "saw it") if one in written]
        lines = letter.findtext(f"{CLIENT}body").split("\n")
        assert lines.index("> spam@c.test: reported by 2 users") < lines.index("> alice saw it")
        for quote in ("> alice saw it", "> bob saw it"):
            assert lines[lines.index(quote) - 1] == "A user of a.test wrote about spam@c.test:"
        told = [etree.tostring(one).decode() for one in contact.stanzas]
        assert not [one for one in told if "quiet" in one or "not to be told" in one]

        desk = Desk(bridge)
        [(reporter, identifier)] = await desk.incidents()
        _, [sent] = await desk.about(reporter, identifier)
        await contact.send("<message type='chat' to='a.test'><body>closed</body></message>")
        [sent] = await desk.settled(sent.id, seconds=30)
        assert sent.state is InteractionState.ACKNOWLEDGED
        assert [one.text for one in sent.outreach.answers] == ["closed"]
        assert not [one for one in contact.stanzas if one.find(REPORT) is not None], "there was one"

    c.control("deluser", "abuse@c.test")
    bridge.cli("report", "--to", "c.test", "--source", "other@c.test", "--id", "gone")
    _, [gone] = await desk.about("a.test", "gone")
    [gone] = await desk.settled(gone.id, seconds=30)
    assert gone.state is InteractionState.REFUSED
    assert (gone.outreach.address, gone.failure.condition) == ("abuse@c.test", "service-unavailable")
    logs = bridge.log() + a.log()
    assert not [line for line in logs.splitlines() if " error " in line or "Traceback" in line]


@pytest.mark.parametrize(("version", "theirs"), [("0.12", "13"), ("13", "0.12")])
async def test_who_is_not_there_is_followed_by_the_next_contact_and_what_is_said_of_it_is_true(
    lab: Lab, version: str, theirs: str
) -> None:
    bridge = lab.bridge(settings="[policy]\nanswer_seconds = 1\ntell_reporters = true\n")
    a = lab.prosody("a.test", version=version, bridge=bridge, start=False)
    c = lab.prosody(
        "c.test",
        version=theirs,
        modules=["server_contact_info"],
        extra_host='contact_info = { abuse = { "xmpp:gone@c.test", "mailto:abuse@c.test" }, '
        'admin = { "xmpp:root@c.test" } }',
    )
    bridge.start_up()
    a.start()
    for server, name in ((a, "alice"), (a, "bob"), (c, "root")):
        server.control("register", name, server.name, "secret")
    desk = Desk(bridge)
    async with Clients() as clients:
        alice, bob = await clients.sign_in(a, "alice"), await clients.sign_in(a, "bob")
        async with Clients() as guests:
            root = await guests.sign_in(c, "root")
            bridge.cli("report", "--to", "c.test", "--source", "x@c.test", "--id", "plain")
            letter = await root.wait(lambda one: one.find(f"{CLIENT}body") is not None)
            incident, [sent] = await desk.about("a.test", "plain")
            await root.send("<message type='chat' to='a.test'><body>closed</body></message>")
            [sent] = await desk.settled(sent.id, seconds=30)
            assert (letter.get("from"), letter.get("id")) == ("a.test", sent.iq_id)
            assert [one.text for one in sent.outreach.answers] == ["closed"]
            [lost] = sent.outreach.tried
            assert (lost.address, lost.failure.condition) == ("gone@c.test", "service-unavailable")
            log = bridge.cli("incidents", "export", incident.id, "--form", "log")
            assert "report to c.test (XEP-0268): not spoken there\n" in log
            assert "report to c.test by chat to gone@c.test: not delivered (service-unavailable)\n" in log
            assert "report to c.test by chat to root@c.test: answered\n" in log
            shown = bridge.cli("incidents", "show", incident.id)
            assert "we reported it to c.test as new, by chat to root@c.test" in shown
            assert "root@c.test, for c.test, answers our report: closed" in shown

            await passed_on(bridge, alice, "spam@c.test")
            assert "passed on to the admins of c.test" in await thanks(alice)

        c.control("deluser", "root@c.test")
        made = await passed_on(bridge, bob, "other@c.test")
        [sent] = await desk.settled(made, seconds=30)
        assert [one.address for one in sent.outreach.tried] == ["root@c.test"], "gone@ was not there before"
        shown = bridge.cli("incidents", "show", sent.incident_id)
        assert "we tried to report it to c.test" in shown
        assert "a text for abuse@c.test is ready for you to mail" in shown
        assert bridge.cli("letter", sent.id).startswith("To: abuse@c.test\n")
        await bob.ask("<iq type='get' to='a.test'><ping xmlns='urn:xmpp:ping'/></iq>")
        assert not [one for one in bob.stanzas if one.find(f"{CLIENT}body") is not None], "nothing arrived"
        bridge.cli("letter", sent.id, "--sent")
        assert "passed on to the admins of c.test" in await thanks(bob)
    assert "abuse@c.test was written to by mail" in bridge.cli("incidents", "show", sent.incident_id)
    assert not [line for line in (bridge.log() + a.log()).splitlines() if "Traceback" in line]


async def passed_on(bridge: Bridge, user: User, jid: str) -> str:
    """Have what a user reports sent on; returns by which interaction."""
    await user.ask(block(jid, agreed=True, text="spam"))

    async def heard() -> bool:
        return bool(bridge.json("abuse", "list")["drafts"])

    await eventually(heard, 30)
    incident = bridge.json("abuse", "send", "c.test")["incident_id"]
    return str(bridge.json("incidents", "show", incident)["interactions"][-1]["id"])


async def thanks(user: User) -> str:
    told = await user.wait(lambda one: one.find(f"{CLIENT}body") is not None)
    return str(told.findtext(f"{CLIENT}body"))


@contextlib.asynccontextmanager
async def console(bridge: Bridge) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Sign in by a link, as a browser does; what is given returns a page's text."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        link = bridge.json("login-link")["url"]
        gate = await (await browser.get(link)).text()
        form = {"csrf": re.search(r'name="csrf" value="([^"]+)"', gate)[1]}
        assert (await browser.post(link, data=form)).status == 200

        async def page(path: str) -> str:
            answer = await browser.get(f"http://{bridge.address}:15268{path}")
            found = etree.fromstring(await answer.read(), etree.HTMLParser())
            return " ".join("".join(found.itertext()).split())

        yield page


@pytest.mark.parametrize(("version", "theirs"), [("0.12", "13"), ("13", "0.12")])
async def test_where_only_a_mail_address_is_known_the_operator_mails_the_text_and_is_told_what_is_next(
    lab: Lab, version: str, theirs: str
) -> None:
    bridge = lab.bridge()
    a = lab.prosody("a.test", version=version, bridge=bridge, start=False)
    lab.prosody(
        "d.test",
        version=theirs,
        modules=["server_contact_info"],
        extra_host='contact_info = { abuse = { "mailto:abuse@d.test" } }',
    )
    bridge.start_up()
    a.start()

    about = ("--description", "join flood", "--source", "spam@d.test=5")
    said = bridge.cli("report", "--to", "d.test", *about, "--wait", "30", code=1)

    [incident] = bridge.json("incidents", "list")["incidents"]
    [sent] = bridge.json("incidents", "show", incident["id"])["interactions"]
    ready = f"a text for abuse@d.test is ready for you to mail: incident-bridge letter {sent['id']}"
    assert ready in said
    assert ready in " ".join(bridge.cli("incidents", "show", incident["id"]).split())
    letter = bridge.json("letter", sent["id"])
    assert letter["to"] == "abuse@d.test"
    assert "a.test" in letter["subject"]
    for line in ("> join flood", "> spam@d.test: 5"):
        assert line in letter["text"]
    async with console(bridge) as page:
        assert "A text for abuse@d.test is ready for you to mail" in await page("/")
        assert "join flood" in await page(f"/letters/{sent['id']}")

        noted = bridge.cli("letter", sent["id"], "--sent")

        assert "abuse@d.test was written to by mail" in noted
        assert "no answer yet" in noted
        assert "A text for" not in await page("/")
    assert bridge.json("incidents", "due")["due"] == []
    [step] = bridge.json("incidents", "due", "--all")["due"]
    assert (step["peer"], step["step"], step["times"]) == ("d.test", "remind", 1)
    assert step["command"] == f"incident-bridge report --incident {incident['id']} --to d.test"
    assert "abuse@d.test" in step["way"], step
    shown = " ".join(bridge.cli("incidents", "due", "--all").split())
    assert step["way"] in shown
    assert step["command"] in shown


async def test_ejabberd_does_not_speak_xep_0268(standing: Lab, desk: Desk) -> None:
    ejabberd = Ejabberd(
        "e.test",
        standing.hosts["e.test"],
        folder=standing.folder / "e.test",
        authority=standing.authority,
        hosts=standing.hosts,
    )
    standing.add("e.test", ejabberd).start()

    made = await desk.report("e.test")

    await refused_for_good(desk, made.interactions[0].id, "e.test")


async def refused_for_good(desk: Desk, interaction: str, peer: str) -> None:
    [sent] = await desk.settled(interaction)
    assert sent.state is InteractionState.REFUSED, sent
    assert sent.failure is not None
    assert (sent.failure.condition, sent.attempts) == ("service-unavailable", 1)
    known = await desk.peer(peer)
    assert (known.refused, known.announces) == (1, False)
    assert sent.incident_id is not None
    assert "does not speak XEP-0268" in desk.bridge.cli("incidents", "show", sent.incident_id)


async def test_a_peer_that_is_down_is_tried_again_until_it_is_up(standing: Lab, desk: Desk) -> None:
    f = standing.prosody("f.test", peer=True, mannered=True, start=False)
    [interaction] = (await desk.report("f.test")).interactions

    async def bounced() -> bool:
        [sent] = await desk.interactions(interaction.id)
        return sent.failure is not None and sent.retry_at is not None

    await eventually(bounced, 10)
    f.start()

    [sent] = await desk.settled(interaction.id)
    assert sent.state is InteractionState.ACKNOWLEDGED, sent
    assert sent.attempts > 1
    assert {id_of(one) for one in await arrived(f)} == {interaction.iq_id}


async def test_who_is_down_or_silent_gets_the_same_again_under_the_same_id_and_delays_nobody(
    standing: Lab, desk: Desk
) -> None:
    i, g = (standing.prosody(name, peer=True, mannered=True) for name in ("i.test", "g.test"))
    standing.add("h.test", Silence(standing.hosts["h.test"]))
    await manner(i, "silence")
    started = time.monotonic()

    made = await desk.report("h.test", "i.test", "nowhere.test", "g.test", text="silence")

    mute, silent, nowhere, good = (one.id for one in made.interactions)
    [sent] = await desk.settled(good)
    assert sent.state is InteractionState.ACKNOWLEDGED
    assert time.monotonic() - started < 5
    for sent in await desk.settled(silent, mute):
        assert sent.state is InteractionState.UNANSWERED, sent
        assert sent.attempts > 1
        assert (await desk.peer(sent.peer)).unanswered == 1
    [sent] = await desk.settled(nowhere)
    assert sent.state is InteractionState.UNREACHABLE
    assert sent.failure is not None
    assert sent.failure.condition.startswith("remote-server-"), sent.failure
    assert (await desk.peer("nowhere.test")).unreachable == 1
    tries = await arrived(i)
    assert len(tries) > 1
    assert len(set(map(canonical, tries))) == 1, tries
    assert len(await arrived(g)) == 1

    await i.post_iq(result(to_id=id_of(tries[0]), sender="i.test"))

    async def acknowledged() -> bool:
        [late] = await desk.interactions(silent)
        return late.state is InteractionState.ACKNOWLEDGED

    await eventually(acknowledged, 10)


async def test_an_answer_of_somebody_else_does_not_count(lab: Lab) -> None:
    federation = Federation.start(lab, version="13", is_mannered=True)
    b, c = federation.b, lab.prosody("c.test", peer=True)
    await manner(b, "silence")
    desk = Desk(federation.bridge)
    [interaction] = (await desk.report("b.test")).interactions
    await eventually(lambda: arrived(b), 10)

    await c.post_iq(result(to_id=interaction.iq_id, sender="c.test"))
    await b.post_iq(result(to_id=interaction.iq_id, sender="juliet@b.test"))
    await b.post_iq(result(to_id="ib-made-up", sender="b.test"))
    for peer in (b, c):  # what a peer sends is worked in order: once this is answered, that was looked at
        asked = iq(inquiry("unknown"), to="a.test", sender=peer.name, id="after", type="get")
        assert (await peer.send_iq(asked)).condition == "item-not-found"

    [sent] = await desk.interactions(interaction.id)
    assert sent.state is InteractionState.SENT
    await b.post_iq(result(to_id=interaction.iq_id, sender="b.test"))
    [sent] = await desk.settled(interaction.id)
    assert sent.state is InteractionState.ACKNOWLEDGED


async def test_a_peer_that_is_busy_is_asked_again(standing: Lab, desk: Desk) -> None:
    g = standing.servers["g.test"]
    assert isinstance(g, Prosody)
    before = len(await arrived(g))
    await manner(g, "resource-constraint")
    [interaction] = (await desk.report("g.test", text="busy")).interactions

    async def is_told() -> bool:
        return len(await arrived(g)) > before

    await eventually(is_told, 10)
    await manner(g, "result")

    [sent] = await desk.settled(interaction.id)

    assert (sent.state, sent.attempts) == (InteractionState.ACKNOWLEDGED, 2)
    assert len(set(map(canonical, (await arrived(g))[before:]))) == 1


async def test_workers_killed_between_sending_and_settling_send_nothing_under_another_id(lab: Lab) -> None:
    patient = "[policy]\nanswer_seconds = 4\ngive_up_seconds = 60\n"
    federation = Federation.start(lab, store=lab.store(), settings=patient, is_mannered=True)
    bridge, b = federation.bridge, federation.b
    desk = Desk(bridge)
    ids = [(await desk.report("b.test", text=f"k{number}")).interactions[0].id for number in range(20)]
    for name in ("worker outgoing", "worker incidents", "worker outgoing", "worker outgoing"):
        seen = len(await arrived(b))
        ids.append((await desk.report("b.test", text=f"more {seen} {len(ids)}")).interactions[0].id)
        bridge.kill(name)
        bridge.start(*name.split())

    settled = await desk.settled(*ids, seconds=60)

    assert {one.state for one in settled} == {InteractionState.ACKNOWLEDGED}
    assert {id_of(one) for one in await arrived(b)} == {one.iq_id for one in settled}
    texts = {re.sub(r"\s+", " ", one) for one in await arrived(b)}
    assert len(texts) == len(settled), "a repeat has the bytes of the first"
