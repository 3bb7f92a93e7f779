"""Repairs: each kind of deviation, and that the result is valid, complete and stable."""

from datetime import UTC, datetime

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lxml import etree

from bridge.iodef.repair import repair
from bridge.iodef.repairs import MAX_REPAIRS
from bridge.iodef.table import CLASSES, NAMESPACE, tag
from bridge.iodef.write import write
from bridge.xmpp.xml import digest, parse, serialize

NS = f"xmlns='{NAMESPACE}'"
ID = "<IncidentID name='a.example'>1</IncidentID>"
FULL = (
    "<ReportTime>2009-04-13T19:05:20Z</ReportTime><Assessment><Impact/></Assessment>"
    "<Contact role='admin' type='person'/>"
)
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def repaired(inside: str, attributes: str = "purpose='reporting'") -> tuple[str, list[str]]:
    """What is inside a repaired Incident, as text, and what was done."""
    tree, repairs = repair(parse(f"<Incident {NS} {attributes}>{ID}{inside}</Incident>".encode()))
    text = "".join(etree.tostring(child, encoding="unicode") for child in tree[1:])
    return text.replace(f' xmlns="{NAMESPACE}"', ""), [item.done for item in repairs]


CASES = {
    "order": (
        "<ReportTime>2009-04-13T19:05:20Z</ReportTime><StartTime>2009-04-13T19:05:20Z</StartTime>",
        "<StartTime>2009-04-13T19:05:20Z</StartTime><ReportTime>2009-04-13T19:05:20Z</ReportTime>",
    ),
    "xml:lang": ("<Description xml:lang='en'>x</Description>", '<Description lang="en">x</Description>'),
    "xml:lang with _": (
        "<Description xml:lang='en_US'>x</Description>",
        '<Description lang="en-US">x</Description>',
    ),
    "xml:lang where no lang is": (
        "<Method xml:lang='en'><Description>x</Description></Method>",
        "<Method><Description>x</Description></Method>",
    ),
    "dtype of text": (
        "<AdditionalData>x</AdditionalData>",
        '<AdditionalData dtype="string">x</AdditionalData>',
    ),
    "dtype of XML": (
        "<AdditionalData><x xmlns='u'/></AdditionalData>",
        '<AdditionalData dtype="xml"><x xmlns="u"/></AdditionalData>',
    ),
    "jid in IODEF's namespace": (
        "<Contact role='admin' type='person'><AdditionalData><jid>a@b</jid></AdditionalData></Contact>",
        (
            '<Contact role="admin" type="person"><AdditionalData dtype="xml"><jid xmlns="urn:xmpp:jid:0">a@b</jid>'
            "</AdditionalData></Contact>"
        ),
    ),
    "jid without AdditionalData": (
        "<Contact role='admin' type='person'><jid xmlns='urn:xmpp:incident:2'>a@b</jid></Contact>",
        (
            '<Contact role="admin" type="person"><AdditionalData dtype="xml"><jid xmlns="urn:xmpp:jid:0">a@b</jid>'
            "</AdditionalData></Contact>"
        ),
    ),
    "two equal Contacts": (
        (
            "<Contact role='admin' type='person'><Email>a@b</Email></Contact>"
            "<Contact type='person' role='admin'><Email>a@b</Email></Contact>"
        ),
        '<Contact role="admin" type="person"><Email>a@b</Email></Contact>',
    ),
    "ext-value spelled as the attribute": (
        "<Contact role='ext-role' ext-role='chatroom' type='person'/>",
        '<Contact role="ext-value" ext-role="chatroom" type="person"/>',
    ),
    "ext-value in the wrong attribute": (
        "<Contact role='ext-type' ext-type='chatroom'/>",
        '<Contact role="ext-value" ext-type="chatroom" ext-role="chatroom" type="ext-value"/>',
    ),
    "an extension that is standard": (
        "<Contact role='ext-role' ext-role='irt' type='ext-value' ext-type='person'/>",
        '<Contact role="irt" type="person"/>',
    ),
    "an unknown value": ("<Expectation/>", "<EventData><Expectation/></EventData>"),
    "a closed enumeration": (
        "<Assessment><Impact severity='awful' completion='Succeeded'/></Assessment>",
        '<Assessment><Impact completion="succeeded"/></Assessment>',
    ),
    "an unknown restriction": (
        "<EventData restriction='green'><Expectation/></EventData>",
        '<EventData restriction="private"><Expectation/></EventData>',
    ),
    "two Nodes in a System": (
        (
            "<EventData><Flow><System category='source'><Node><Address>192.0.2.1</Address></Node><Node>"
            "<Address>192.0.2.2</Address></Node><Node><Address>192.0.2.3</Address></Node></System></Flow></EventData>"
        ),
        (
            '<EventData><Flow><System category="source"><Node><Address>192.0.2.1</Address></Node></System>'
            '<System category="source"><Node><Address>192.0.2.2</Address></Node></System>'
            '<System category="source"><Node><Address>192.0.2.3</Address></Node></System></Flow></EventData>'
        ),
    ),
    "Expectation in Flow": (
        "<EventData><Flow><System><Node/></System><Expectation action='block-host'/></Flow></EventData>",
        '<EventData><Flow><System><Node/></System></Flow><Expectation action="block-host"/></EventData>',
    ),
    "Address in System": (
        "<EventData><Flow><System><Address>192.0.2.1</Address></System></Flow></EventData>",
        "<EventData><Flow><System><Node><Address>192.0.2.1</Address></Node></System></Flow></EventData>",
    ),
    "empty elements": (
        (
            "<RelatedActivity/><Contact role='admin' type='person'><Email/><Telephone/><PostalAddress> </PostalAddress>"
            "<AdditionalData><jid/></AdditionalData></Contact><History/><EventData><Flow><System/></Flow></EventData>"
        ),
        '<Contact role="admin" type="person"/><EventData/>',
    ),
    "an unknown element": (
        "<EventData><Flow><x xmlns='u'>y</x><System><Node/></System></Flow></EventData>",
        (
            '<EventData><Flow><System><Node/></System></Flow><AdditionalData dtype="xml"><x xmlns="u">y</x>'
            "</AdditionalData></EventData>"
        ),
    ),
    "a misplaced element keeps its restriction": (
        (
            "<EventData><Flow><System><Node/></System><IncidentID name='b' restriction='private'>2</IncidentID></Flow>"
            "</EventData>"
        ),
        (
            '<EventData><Flow><System><Node/></System></Flow><AdditionalData dtype="xml" restriction="private">'
            '<IncidentID name="b" restriction="private">2</IncidentID></AdditionalData></EventData>'
        ),
    ),
    "a misplaced System with two Nodes": (
        "<Method><Description>x</Description><System><Node/><Node/></System></Method>",
        (
            '<Method><Description>x</Description><AdditionalData dtype="xml"><System><Node/></System>'
            "<System><Node/></System></AdditionalData></Method>"
        ),
    ),
    "two IncidentIDs": (
        "<IncidentID name='b'>2</IncidentID>",
        '<AlternativeID><IncidentID name="b">2</IncidentID></AlternativeID>',
    ),
    "two Histories": (
        "<History><HistoryItem action='other'/></History><History><HistoryItem action='nothing'/></History>",
        '<History><HistoryItem action="other"/><HistoryItem action="nothing"/></History>',
    ),
    "two Histories for different eyes": (
        (
            "<History><HistoryItem action='other'/></History><History restriction='private'>"
            "<HistoryItem action='other'/></History>"
        ),
        (
            '<History><HistoryItem action="other"/></History><AdditionalData dtype="xml" restriction="private">'
            '<History restriction="private"><HistoryItem action="other"/></History></AdditionalData>'
        ),
    ),
    "a broken time": (
        "<StartTime>yesterday</StartTime>",
        '<AdditionalData dtype="string" meaning="StartTime">yesterday</AdditionalData>',
    ),
    "a time without colon in the zone": (
        "<StartTime>2026-11-21T21:31:51+0100</StartTime>",
        "<StartTime>2026-11-21T20:31:51Z</StartTime>",
    ),
    "text between elements": (
        "<Method>how<Description>x</Description>so</Method>",
        (
            '<Method><Description>x</Description><AdditionalData dtype="string" meaning="Method">how so'
            "</AdditionalData></Method>"
        ),
    ),
    "markup in text": (
        "<Description>a <b xmlns='u'>b</b> c</Description>",
        (
            '<Description>a </Description><AdditionalData dtype="string" meaning="Description">c</AdditionalData>'
            '<AdditionalData dtype="xml"><b xmlns="u">b</b></AdditionalData>'
        ),
    ),
    "an unknown attribute": ("<Description colour='red'>x</Description>", "<Description>x</Description>"),
    "Impact in Incident": ("<Impact type='dos'/>", '<Assessment><Impact type="dos"/></Assessment>'),
    "Method without Description": (
        "<Method><AdditionalData>x</AdditionalData></Method>",
        '<Method><Description/><AdditionalData dtype="string">x</AdditionalData></Method>',
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_deviation_is_repaired_and_told(name: str, schema: etree.XMLSchema) -> None:
    given_text, expected = CASES[name]
    text, told = repaired(given_text)
    assert text == expected
    assert told
    assert repaired(text) == (text, [])
    tree = parse(f"<Incident {NS}>{ID}{given_text}</Incident>".encode())
    schema.assertValid(write(tree, reported_at=NOW, contact="a.example"))


def test_what_is_as_it_should_be_is_left_alone() -> None:
    foreign = "<AdditionalData dtype='xml'><x xmlns='u' y='1'> z <Flow/></x></AdditionalData>"
    element = parse(f"<Incident {NS} purpose='reporting'>{ID}{FULL}{foreign}</Incident>".encode())
    tree, repairs = repair(element)
    assert repairs == ()
    assert serialize(tree) == serialize(element)


def test_paths_name_the_element_by_number() -> None:
    flow = "<Flow><System><Node><Address>a</Address><Address x='1'>b</Address></Node></System></Flow>"
    element = parse(
        f"<Incident {NS} purpose='other'>{ID}<EventData/><EventData>{flow}</EventData></Incident>".encode()
    )
    _, repairs = repair(element, path="report/Incident")
    assert [item.path for item in repairs] == [
        "report/Incident/EventData[2]/Flow[1]/System[1]/Node/Address[2]"
    ]


def test_the_list_of_repairs_is_bounded() -> None:
    element = parse(f"<Incident {NS} purpose='other'>{ID}{'<Description/>' * 1000}</Incident>".encode())
    _, repairs = repair(element)
    assert len(repairs) == MAX_REPAIRS + 1
    assert "800" in repairs[-1].rule


NAMES = [spec.name for spec in CLASSES.values()]
ATTRIBUTES = sorted({name for spec in CLASSES.values() for name in spec.attributes})
VALUES = [
    "ext-value",
    "ext-type",
    "admin",
    "block-host",
    "",
    " en ",
    "de_DE",
    "-1",
    "99",
    "xmpp",
    "private",
    "Private",
]
WORDS = [
    "",
    " ",
    "x",
    "2009-04-13T19:05:20Z",
    "2009-04-13 19:05:20+0200",
    "12",
    "1e5",
    "INF",
    "80,81",
    "+01:00",
    "a:b",
]


@st.composite
def anything(draw: st.DrawFn, depth: int = 4) -> etree._Element:
    """A tree of RFC 5070's elements in any place, with foreign ones among them."""
    name = draw(st.sampled_from(NAMES))
    element = etree.Element(draw(st.sampled_from([tag(name)] * 8 + ["{u}x", tag("jid"), tag("odd"), name])))
    for key in draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=3, unique=True)):
        element.set(key, draw(st.sampled_from(VALUES)))
    element.text = draw(st.sampled_from(WORDS))
    spec = CLASSES.get(tag(name))
    likely = list(spec.positions) if spec else []
    for _ in range(draw(st.integers(0, 3)) if depth else 0):
        child = draw(anything(depth - 1))
        if likely and draw(st.booleans()):
            child.tag = draw(st.sampled_from(likely))
        child.tail = draw(st.sampled_from(WORDS))
        element.append(child)
    return element


@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(st.lists(anything(), max_size=4))
def test_anything_becomes_valid_and_stays_as_it_is(
    schema: etree.XMLSchema, parts: list[etree._Element]
) -> None:
    incident = etree.Element(tag("Incident"), nsmap={None: NAMESPACE})
    etree.SubElement(incident, tag("IncidentID"), name="a.example").text = "1"
    incident.extend(parts)
    incident = parse(serialize(incident))  # lxml builds trees that it cannot write as they are
    once, _ = repair(incident)
    twice, repairs = repair(once)
    assert repairs == ()
    assert digest(twice) == digest(once)
    written = write(incident, reported_at=NOW, contact="a.example")
    schema.assertValid(written)
    assert digest(write(written, reported_at=NOW, contact="b.example")) == digest(written)
