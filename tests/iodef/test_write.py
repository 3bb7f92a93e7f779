"""Written incidents: canonical, valid, and read as what was written."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from pydantic import TypeAdapter

from bridge.errors import MalformedError
from bridge.iodef.model import (
    Completion,
    Confidence,
    Contact,
    Counter,
    Expectation,
    HistoryItem,
    Impact,
    Incident,
    IncidentId,
    RecordItem,
    Restriction,
    Severity,
    Source,
    Text,
)
from bridge.iodef.read import project, read
from bridge.iodef.table import ENUMERATIONS
from bridge.iodef.write import write
from bridge.xmpp.jid import Jid
from bridge.xmpp.xml import digest, parse, serialize

NS = "xmlns='urn:ietf:params:xml:ns:iodef-1.0'"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ID = "<IncidentID name='a.example'>1</IncidentID>"


def written(inside: str) -> etree._Element:
    element = parse(f"<Incident {NS} purpose='reporting'>{ID}{inside}</Incident>".encode())
    return write(element, reported_at=NOW, contact="a.example")


def systems(element: etree._Element) -> list[list[str | None]]:
    """The addresses in each Flow."""
    return [[a.text for a in flow.iterfind(".//{*}Address")] for flow in element.iterfind(".//{*}Flow")]


def flow(sources: int, targets: int, others: int = 0) -> str:
    """A Flow with so many Systems of each kind."""
    made = [
        f"<System category='{kind}'><Node><Address>{kind[0]}{i}</Address></Node></System>"
        for kind, count in (("source", sources), ("target", targets), ("sensor", others))
        for i in range(count)
    ]
    return f"<EventData><Flow>{''.join(made)}</Flow></EventData>"


def test_what_is_missing_is_added(schema: etree.XMLSchema) -> None:
    element = written("<History><HistoryItem action='other'/></History>")
    schema.assertValid(element)
    view = project(element)
    assert view.reported_at == NOW
    assert [impact.type for impact in view.impacts] == ["unknown"]
    assert view.contacts == (Contact(role="creator", type="organization", jids=("a.example",)),)
    assert view.history[0].at == NOW


def test_every_source_gets_a_flow_with_each_target(schema: etree.XMLSchema) -> None:
    element = written(flow(2, 2))
    assert systems(element) == [["s0", "t0"], ["s0", "t1"], ["s1", "t0"], ["s1", "t1"]]
    schema.assertValid(element)


def test_flows_with_only_one_side_or_others_are_written_too() -> None:
    assert systems(written(flow(2, 0))) == [["s0"], ["s1"]]
    assert systems(written(flow(0, 2))) == [["t0"], ["t1"]]
    assert systems(written(flow(2, 1, 1))) == [["s0", "s1", "t0", "s0"]]


def test_splitting_does_not_blow_up_a_document() -> None:
    element = written(flow(100, 100))
    assert len(systems(element)) == 1
    assert len(systems(element)[0]) == 200


def test_splitting_changes_nothing_in_the_view() -> None:
    one = parse(f"<Incident {NS}>{ID}{flow(3, 2)}</Incident>".encode())
    assert project(one).sources == project(written(flow(3, 2))).sources


def test_status_and_restriction_of_our_own_documents(schema: etree.XMLSchema) -> None:
    old = "<AdditionalData dtype='string' meaning='incident-status'>new</AdditionalData>"
    element = parse(f"<Incident {NS} purpose='reporting' restriction='private'>{ID}{old}</Incident>".encode())
    element = write(
        element, reported_at=NOW, contact="a", restriction=Restriction.NEED_TO_KNOW, status="resolved"
    )
    schema.assertValid(element)
    view = project(element)
    assert (view.status, view.restriction) == ("resolved", Restriction.NEED_TO_KNOW)
    assert [data.text for data in element.iterfind("{*}AdditionalData")] == ["resolved"]
    assert element[-1].get("formatid") == "urn:xmpp:incident:2"


def test_foreign_elements_survive() -> None:
    foreign = "<x xmlns='u' b='2' a='1'> text <y xmlns='v'/> tail </x>"
    element = written(f"<AdditionalData dtype='xml'>{foreign}</AdditionalData>")
    assert digest(element.find(".//{u}x")) == digest(parse(foreign.encode()))


def test_what_cannot_be_rewritten_faithfully_is_refused() -> None:
    foreign = "<p:Flow xmlns:p='urn:ietf:params:xml:ns:iodef-1.0' xmlns=''><x/></p:Flow>"
    try:
        element = written(f"<EventData>{foreign}</EventData>")
    except MalformedError:
        return
    assert element.find(".//x") is not None


WORD = st.text(st.sampled_from("abcé&<>\"' 漢"), min_size=1, max_size=8).map(str.strip).filter(bool)
TIME = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001
NUMBER = st.integers(-(10**20), 10**20).map(float) | st.floats(allow_nan=False, allow_infinity=False)
MAYBE_TIME = st.none() | TIME
LANG = st.sampled_from(["en", "de-CH"])
IDS = st.builds(IncidentId, name=WORD, text=WORD, instance=st.none() | WORD)


def coded(name: str) -> st.SearchStrategy[str]:
    standard = sorted(ENUMERATIONS[name] - {"ext-value"})
    return st.sampled_from([*standard, "xmpp-thing", "Own"])


def many(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=2, unique=True).map(tuple)


def prepared(source: Source) -> Source:
    """As reading fills it in: the JID of an XMPP address."""
    try:
        jid = str(Jid.parse(source.address)) if source.category == "xmpp" else None
    except MalformedError:
        jid = None
    return Source(**{**{name: getattr(source, name) for name in Source.__slots__}, "jid": jid})


def source_of(*kinds: str) -> st.SearchStrategy[Source]:
    return st.builds(
        Source,
        address=WORD,
        category=st.sampled_from(["xmpp", "name", "ipv4-addr", "own"]),
        system=st.sampled_from(kinds),
        counters=many(st.builds(Counter, type=coded("counter-type"), value=NUMBER, meaning=st.none() | WORD)),
        roles=many(coded("node-category")),
        spoofed=st.sampled_from(["unknown", "yes", "no"]),
        ports=many(st.sampled_from(["5269", "5222,5280-5281"])),
        descriptions=many(st.builds(Text, text=WORD, lang=LANG)),
    ).map(prepared)


INCIDENTS = st.builds(
    Incident,
    identity=IDS,
    purpose=coded("purpose"),
    restriction=st.sampled_from(Restriction),
    lang=LANG,
    status=st.none() | WORD,
    detected_at=MAYBE_TIME,
    started_at=MAYBE_TIME,
    ended_at=MAYBE_TIME,
    reported_at=TIME,
    descriptions=many(st.builds(Text, text=WORD, lang=LANG)),
    impacts=st.lists(
        st.builds(
            Impact,
            type=coded("impact-type"),
            severity=st.none() | st.sampled_from(Severity),
            completion=st.none() | st.sampled_from(Completion),
            text=st.just("") | WORD,
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    confidence=st.none() | st.builds(Confidence, rating=st.just("numeric"), value=NUMBER),
    contacts=st.lists(
        st.builds(
            Contact,
            role=coded("role"),
            type=coded("contact-type"),
            jids=many(WORD),
            name=st.none() | WORD,
            emails=many(WORD),
            phones=many(WORD),
        ),
        min_size=1,
        max_size=2,
        unique=True,
    ).map(tuple),
    sources=many(source_of("source")),
    targets=many(source_of("target")),
    others=many(source_of("intermediate", "own")),
    expectations=many(
        st.builds(
            Expectation,
            action=coded("action"),
            severity=st.none() | st.sampled_from(Severity),
            started_at=MAYBE_TIME,
        )
    ),
    history=many(st.builds(HistoryItem, action=coded("action"), at=TIME, incident=st.none() | IDS)),
    record_items=many(st.builds(RecordItem, dtype=coded("dtype"), text=WORD, meaning=st.none() | WORD)),
    related=many(IDS),
    alternatives=many(IDS),
)


@settings(max_examples=80, deadline=timedelta(seconds=5))
@given(INCIDENTS)
def test_reading_what_was_written_gives_the_same(schema: etree.XMLSchema, incident: Incident) -> None:
    element = write(incident, reported_at=NOW, contact="a.example")
    schema.assertValid(element)
    again = read(parse(serialize(element)), default_name=None, purpose=None, only_id_required=False)
    assert again.repairs == ()
    assert again.incident == incident


@settings(max_examples=30, deadline=timedelta(seconds=5))
@given(INCIDENTS)
def test_a_view_survives_json(incident: Incident) -> None:
    adapter = TypeAdapter(Incident)
    assert adapter.validate_json(adapter.dump_json(incident)) == incident


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\ufffe"])
def test_text_that_xml_cannot_carry_is_written_with_replacement(text: str) -> None:
    view = Incident(identity=IncidentId(name="a", text="1"), descriptions=(Text(text=text),))
    assert "\ufffd" in project(write(view, reported_at=NOW, contact="a")).descriptions[0].text
