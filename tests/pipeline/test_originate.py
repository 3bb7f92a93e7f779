"""The documents that begin with us: what goes out is valid, and reads as what was meant."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from lxml import etree

from bridge.errors import ConfigError
from bridge.iodef.model import (
    Contact,
    Counter,
    HistoryItem,
    Impact,
    IncidentId,
    RecordItem,
    Restriction,
    Severity,
    Source,
    Text,
)
from bridge.iodef.model import (
    Incident as Document,
)
from bridge.pipeline import originate
from bridge.pipeline.actors import Actor
from bridge.pipeline.originate import Origin, Originated
from bridge.policy.change import Change, Put, Queue
from bridge.policy.disclosure import reread
from bridge.policy.editions import add_edition
from bridge.policy.outcome import outcome_of
from bridge.policy.record import Incident, Interaction, Outcome, Peer, Way, incident_id
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Script, Store
from bridge.xep0268.model import Kind, Status
from bridge.xmpp import xml
from bridge.xmpp.stanza import read_iq, write_request

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
MINE = Document(
    identity=IncidentId(name="a.test", text="4711"),
    restriction=Restriction.NEED_TO_KNOW,
    lang="en",
    started_at=NOW - timedelta(hours=2),
    ended_at=NOW - timedelta(hours=1),
    reported_at=NOW,
    descriptions=(Text(text="presence flood \U0001f4a3 & <more>", lang="en"),),
    impacts=(Impact(type="dos", severity=Severity.HIGH),),
    contacts=(Contact(role="admin", type="person", jids=("ops@a.test",)),),
    sources=(
        Source(
            address="abuser@spam.test",
            category="xmpp",
            jid="abuser@spam.test",
            counters=(Counter(type="xmpp-presence", value=123),),
        ),
        Source(address="spam.test", category="xmpp", jid="spam.test"),
    ),
    targets=(
        Source(
            address="room@muc.a.test",
            category="xmpp",
            system="target",
            jid="room@muc.a.test",
            roles=("xmpp-muc",),
        ),
    ),
    record_items=(RecordItem(dtype="string", text="<presence from='abuser@spam.test'/>", meaning="stanza"),),
    related=(IncidentId(name="other.test", text="1"),),
)


IDS = (f"{number:016}" for number in itertools.count())


def origin(*to: str, now: datetime = NOW) -> Origin:
    return Origin(host="a.test", to=to, now=now, new_id=lambda: next(IDS))


async def stored(store: Store, one: Interaction) -> Interaction:
    """As it lies in the store, with its payload."""
    name = keys.interaction(one.id)
    found = (await load.fetch(store, names=[name], originals=True)).records[name]
    assert isinstance(found, Interaction)
    return found


async def peers_view(store: Store, one: Interaction, schema: etree.XMLSchema) -> Document:
    """What the peer reads of what we send; it must be valid, need no repair, and be what we keep."""
    kept = await stored(store, one)
    payload = xml.parse(kept.original or b"")
    schema.assertValid(payload[0])
    text = write_request(one.kind.iq_type, to=one.peer, id=one.iq_id, payload=payload)
    iq = read_iq(xml.parse(text.replace("<iq ", "<iq from='a.test' ", 1).encode()))
    from bridge.xep0268.read import read

    reading = read(iq)
    assert reading.repairs == ()
    assert reading.incident == kept.document
    assert reread(kept).incident == kept.document
    return reading.incident


async def received(store: Store, sent: Interaction) -> Interaction:
    """A request of ours as the peer has it stored: b.test asked a.test."""
    kept = await stored(store, sent)
    payload = xml.parse(kept.original or b"")
    text = write_request(sent.kind.iq_type, to="a.test", id=sent.iq_id, payload=payload)
    request = replace(
        kept,
        id=next(IDS),
        way=Way.RECEIVED,
        peer="b.test",
        sender="b.test",
        stream=Stream(
            direction=Direction.INCOMING, encrypted=True, authentication=Authentication.CERTIFICATE
        ),
        incident_id=incident_id("a.test", "b.test", kept.document.identity),
        original=text.replace("<iq ", "<iq from='b.test' ", 1).encode(),
        version=0,
    )
    await commit(store, Change(puts=(Put(None, request),)))
    return await stored(store, request)


async def test_a_report_says_what_was_meant(store: Store, schema: etree.XMLSchema) -> None:
    done = await originate.report(store, origin("b.test", "c.test"), MINE)
    for one in done.interactions:
        assert await peers_view(store, one, schema) == replace(MINE, status="new")
    assert done.incident is not None
    assert (done.incident.told, done.incident.is_own) == (("b.test", "c.test"), True)


async def test_a_report_of_little_is_completed(store: Store, schema: etree.XMLSchema) -> None:
    little = Document(
        identity=IncidentId(name="a.test", text="1"),
        restriction=Restriction.NEED_TO_KNOW,
        sources=(Source(address="192.0.2.1", category="ipv4-addr"),),
    )
    (one,) = (await originate.report(store, origin("b.test"), little)).interactions
    view = await peers_view(store, one, schema)
    assert (view.sources, view.reported_at, view.restriction) == (
        little.sources,
        NOW,
        Restriction.NEED_TO_KNOW,
    )
    assert [contact.jids for contact in view.contacts] == [("a.test",)]


async def test_a_request_says_what_is_expected(store: Store, schema: etree.XMLSchema) -> None:
    wanted = originate.expect(MINE, ["block-host", "own-action"], text="please")
    (one,) = (await originate.request(store, origin("b.test"), wanted)).interactions
    view = await peers_view(store, one, schema)
    assert [item.action for item in view.expectations] == ["block-host", "own-action"]
    assert [item.descriptions[0].text for item in view.expectations] == ["please", "please"]
    assert (view.purpose, view.sources, view.status) == ("mitigation", MINE.sources, None)


async def test_an_inquiry_says_which_incident(store: Store, schema: etree.XMLSchema) -> None:
    identity = IncidentId(name="b.test", text="9")
    (one,) = (await originate.inquire(store, origin("b.test"), identity)).interactions
    view = await peers_view(store, one, schema)
    assert (view.identity, view.purpose, one.kind) == (identity, "traceback", Kind.INQUIRY)


@pytest.mark.parametrize(
    ("outcome", "actions", "done"),
    [
        (Outcome.DONE, (), ["block-host", "investigate"]),
        (Outcome.DECLINED, (), ["nothing"]),
        (Outcome.PARTLY, ("investigate",), ["investigate"]),
    ],
)
async def test_a_response_adds_to_the_history(
    store: Store,
    schema: etree.XMLSchema,
    outcome: Outcome,
    actions: tuple[str, ...],
    done: list[str],
) -> None:
    before = HistoryItem(action="block-host", at=NOW - timedelta(days=1))
    wanted = originate.expect(replace(MINE, history=(before,)), ["block-host", "investigate"])
    asked = await received(store, (await originate.request(store, origin("b.test"), wanted)).interactions[0])
    (one,) = (
        await originate.respond(
            store, origin("b.test", now=LATER), asked, outcome=outcome, text="as you see", actions=actions
        )
    ).interactions
    view = await peers_view(store, one, schema)
    assert [(item.action, item.at) for item in view.history] == [
        ("block-host", before.at),
        *((action, LATER) for action in done),
    ]
    assert view.history[-1].descriptions[0].text == "as you see"
    assert replace(view, history=()) == replace(asked.document, history=())
    assert outcome_of(view, asked.document) is outcome
    assert (await stored(store, asked)).outcome is outcome


async def test_a_resolution_goes_to_those_who_were_told_and_says_so(
    store: Store,
    schema: etree.XMLSchema,
) -> None:
    first = (await originate.report(store, origin("b.test", "c.test"), MINE)).incident
    assert first is not None
    resolved = await originate.resolve(store, origin(now=LATER), first, text="account gone")
    assert [one.peer for one in resolved.interactions] == ["b.test", "c.test"]
    for one in resolved.interactions:
        view = await peers_view(store, one, schema)
        assert (view.status, view.reported_at) == ("resolved", LATER)
        assert [(item.action, item.at) for item in view.history] == [("other", LATER)]
        assert replace(view, status="new", reported_at=NOW, history=()) == replace(MINE, status="new")
    assert resolved.incident is not None
    assert resolved.incident.status is Status.RESOLVED


async def test_a_resolution_keeps_what_no_view_holds(store: Store, schema: etree.XMLSchema) -> None:
    namespace = "urn:ietf:params:xml:ns:iodef-1.0"
    document = xml.parse(
        f"<Incident xmlns='{namespace}' purpose='reporting' restriction='need-to-know'>"
        "<IncidentID name='a.test'>7</IncidentID><EventData restriction='private'><Description>SECRET</Description>"
        "</EventData><AdditionalData dtype='xml'><x xmlns='u' y='1'>z</x></AdditionalData></Incident>".encode()
    )
    first = (await originate.report(store, origin("b.test"), document)).incident
    assert first is not None
    (one,) = (await originate.resolve(store, origin(now=LATER), first, text="")).interactions
    await peers_view(store, one, schema)
    tree = reread(await stored(store, one)).tree
    event = tree.find(f"{{{namespace}}}EventData")
    assert event is not None
    assert event.get("restriction") == "private"
    assert tree.find(".//{u}x") is not None


async def test_what_another_server_reported_is_not_ours_to_resolve(store: Store) -> None:
    first = (await originate.report(store, origin("b.test"), MINE)).incident
    assert isinstance(first, Incident)
    with pytest.raises(ConfigError, match=r"b\.test"):
        await originate.resolve(store, origin(), replace(first, reporter="b.test"), text="")


Story = Callable[[Store, Origin], Awaitable[Originated]]


async def report(store: Store, to: Origin) -> Originated:
    return await originate.report(store, to, MINE)


async def inquire(store: Store, to: Origin) -> Originated:
    return await originate.inquire(store, to, IncidentId(name="b.test", text="9"))


async def request(store: Store, to: Origin) -> Originated:
    return await originate.request(store, to, originate.expect(MINE, ["block-host"]))


async def respond(store: Store, to: Origin) -> Originated:
    """Answer what b.test asked for; stored under a fixed id, so that this can be called twice."""
    name = keys.interaction("asked")
    asked = (await load.fetch(store, names=[name], originals=True)).records[name]
    assert isinstance(asked, Interaction)
    return await originate.respond(store, to, asked, outcome=Outcome.DONE, text="")


async def forward(store: Store, to: Origin) -> Originated:
    """Pass on what c.test reported."""
    newest = (await load.fetch(store, names=[keys.interaction("told")], originals=True)).records
    told = newest[keys.interaction("told")]
    assert isinstance(told, Interaction)
    incident = (await load.fetch(store, names=[keys.incident(told.incident_id)])).records
    known = incident[keys.incident(told.incident_id)]
    assert isinstance(known, Incident)
    return await originate.forward(store, to, known, told)


async def prepare(store: Store, story: Story) -> None:
    """What a story needs: a request of b.test, or a report of c.test and a trusted b.test."""
    if story is respond:
        sent = (await request(store, origin("b.test"))).interactions[0]
        asked = replace(await received(store, sent), id="asked", version=0)
        await commit(store, Change(puts=(Put(None, asked),)))
    if story is forward:
        sent = (await report(store, origin("x.test"))).interactions[0]
        told = replace(await received(store, sent), id="told", peer="c.test", version=0)
        told = replace(told, incident_id=incident_id("a.test", "c.test", told.document.identity))
        peer = Peer(host="a.test", domain="b.test", trust=Trust.TRUSTED)
        puts = (Put(None, told), Put(None, add_edition(None, told)), Put(None, peer))
        await commit(store, Change(puts=puts))


async def sent_to(store: Store, domain: str) -> int:
    name = keys.peer("a.test", domain)
    peer = (await load.fetch(store, names=[name])).records[name]
    return peer.sent if isinstance(peer, Peer) else 0


async def waiting(store: Store) -> int:
    return (await load.health(store)).lanes[Queue.OUTGOING].items


STORIES = pytest.mark.parametrize("story", [report, inquire, request, respond, forward])


@STORIES
async def test_what_is_sent_is_stored_once_although_the_stores_answer_got_lost(
    store: Store, story: Story
) -> None:
    await prepare(store, story)
    before, items = await sent_to(store, "b.test"), await waiting(store)
    script = store.scripts[Script.COMMIT]

    async def twice(**arguments: object) -> object:
        await script(**arguments)
        return await script(**arguments)

    store.scripts[Script.COMMIT] = twice
    done = await story(store, origin("b.test"))
    store.scripts[Script.COMMIT] = script

    assert await sent_to(store, "b.test") == before + 1
    assert await waiting(store) - items in {1, 2}  # the question what it announces goes in front
    assert [one.peer for one in done.interactions] == ["b.test"]
    if done.incident is not None:
        name = keys.incident(done.incident.id)
        assert (await load.fetch(store, names=[name])).records[name] == done.incident
        assert len(done.incident.editions) == 1
        assert "b.test" in done.incident.told or story is request


@STORIES
async def test_a_call_repeated_with_the_same_ids_sends_nothing_more(store: Store, story: Story) -> None:
    await prepare(store, story)
    same = replace(origin("b.test"), new_id=lambda: "same")

    first = await story(store, same)
    items = await waiting(store)
    second = await story(store, same)

    assert [one.id for one in first.interactions] == [one.id for one in second.interactions] == ["same"]
    assert await waiting(store) == items
    if first.incident is not None and second.incident is not None:
        assert first.incident.editions == second.incident.editions


@STORIES
async def test_whoever_was_faster_is_no_concern_of_the_caller(store: Store, story: Story) -> None:
    await prepare(store, story)
    script = store.scripts[Script.COMMIT]
    name = keys.peer("a.test", "b.test")

    async def late(**arguments: object) -> object:
        store.scripts[Script.COMMIT] = script
        known = (await load.fetch(store, names=[name])).records[name]
        before = known if isinstance(known, Peer) else None
        after = replace(before or Peer(host="a.test", domain="b.test"), received=7)
        await commit(store, Change(puts=(Put(before, after),)))
        return await script(**arguments)

    before = await sent_to(store, "b.test")
    store.scripts[Script.COMMIT] = late
    done = await story(store, origin("b.test"))

    peer = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(peer, Peer)
    assert (peer.received, peer.sent) == (7, before + 1)
    assert len(done.interactions) == 1


async def test_a_request_is_answered_once(store: Store) -> None:
    await prepare(store, respond)
    name = keys.interaction("asked")
    asked = (await load.fetch(store, names=[name], originals=True)).records[name]
    assert isinstance(asked, Interaction)
    await originate.respond(store, origin("b.test"), asked, outcome=Outcome.DONE, text="")

    with pytest.raises(ConfigError, match="answered before: done"):
        await originate.respond(store, origin("b.test"), asked, outcome=Outcome.DECLINED, text="")
    await originate.respond(store, origin("b.test"), asked, outcome=Outcome.DECLINED, text="", again=True)

    assert (await stored(store, asked)).outcome is Outcome.DECLINED
    assert (await stored(store, asked)).original == asked.original


async def test_a_resolution_goes_to_no_blocked_peer(store: Store) -> None:
    first = (await originate.report(store, origin("b.test", "c.test"), MINE)).incident
    assert first is not None
    name = keys.peer("a.test", "c.test")
    peer = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(peer, Peer)
    await commit(store, Change(puts=(Put(peer, replace(peer, trust=Trust.BLOCKED)),)))

    resolved = await originate.resolve(store, origin(now=LATER), first, text="")

    assert [one.peer for one in resolved.interactions] == ["b.test"]


async def test_a_request_about_a_resolved_incident_leaves_it_resolved(store: Store) -> None:
    document = Document(identity=IncidentId(name="a.test", text="over"), restriction=Restriction.NEED_TO_KNOW)
    made = await originate.report(store, origin("b.test"), document)
    assert made.incident is not None
    resolved = await originate.resolve(store, origin(), made.incident, text="done")
    assert resolved.incident is not None
    asked = await originate.request(
        store, origin("c.test"), originate.expect(document, ["block-host"]), about=resolved.incident
    )
    assert asked.incident is not None
    assert asked.incident.status is Status.RESOLVED


async def test_who_sends_is_in_the_audit_log_once(store: Store) -> None:
    by = replace(origin("b.test", "c.test"), actor=Actor("cli:anna", "192.0.2.1"))
    sent = await originate.report(store, replace(by, is_rehearsal=True), MINE)
    assert await load.audits(store, "a.test", limit=9) == []
    ids = iter(("s1", "s2", "s1", "s2"))
    for _ in range(2):  # the answer to the first got lost
        sent = await originate.report(store, replace(by, new_id=lambda: next(ids)), MINE)
    assert sent.incident is not None
    await originate.resolve(store, replace(by, new_id=lambda: next(IDS)), sent.incident, text="over")
    newest, oldest = [entry for _, entry in await load.audits(store, "a.test", limit=9)]
    assert (oldest["action"], oldest["target"]) == ("send.report", sent.incident.id)
    assert (oldest["actor"], oldest["origin"]) == ("cli:anna", "192.0.2.1")
    assert oldest["detail"] == "to b.test, c.test"
    assert newest["action"] == "send.resolve"
