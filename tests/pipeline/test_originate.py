"""The documents that begin with us: what goes out is valid, and reads as what was meant."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from lxml import etree

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
from bridge.pipeline.originate import Origin
from bridge.policy.change import Change, Put
from bridge.policy.disclosure import reread
from bridge.policy.outcome import outcome_of
from bridge.policy.record import Incident, Interaction, Outcome, Way, incident_id
from bridge.policy.trust import Authentication, Direction, Stream
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
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
    from bridge.errors import ConfigError

    first = (await originate.report(store, origin("b.test"), MINE)).incident
    assert isinstance(first, Incident)
    with pytest.raises(ConfigError, match=r"b\.test"):
        await originate.resolve(store, origin(), replace(first, reporter="b.test"), text="")
