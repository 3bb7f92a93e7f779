"""What an audience may not know is cut out, whole, and told; the rest stays a valid document."""

from datetime import UTC, datetime

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lxml import etree

from bridge.iodef.model import Restriction
from bridge.iodef.read import project
from bridge.iodef.redact import redact
from bridge.iodef.repair import repair
from bridge.iodef.restriction import is_stricter, own, read_restriction
from bridge.iodef.table import CLASSES, NAMESPACE, tag
from bridge.iodef.write import write
from bridge.xmpp.xml import digest, parse, serialize

NS = f"xmlns='{NAMESPACE}'"
ID = "<IncidentID name='a.example' restriction='private'>1</IncidentID>"
NOW = datetime(2026, 11, 21, tzinfo=UTC)
LEVELS = (Restriction.PUBLIC, Restriction.NEED_TO_KNOW, Restriction.PRIVATE)


def incident(
    inside: str, attributes: str = "purpose='reporting' restriction='need-to-know'"
) -> etree._Element:
    tree, _ = repair(parse(f"<Incident {NS} {attributes}>{ID}{inside}</Incident>".encode()))
    return tree


P = "restriction='private'"
ROLE = "role='admin' type='person'"
ITEM = "<HistoryItem action='other'><Description>SECRET</Description></HistoryItem>"
CASES = {
    "EventData[2]": f"<EventData/><EventData {P}><Description>SECRET</Description></EventData>",
    "EventData[1]/EventData[1]": f"<EventData><EventData {P}><Method><Description>SECRET</Description></Method>"
    "</EventData></EventData>",
    "EventData[1]/Flow[1]/System[1]": f"<EventData><Flow><System {P}><Node><Address>SECRET</Address></Node></System>"
    "</Flow></EventData>",
    "Contact[2]": f"<Contact {ROLE}/><Contact {ROLE} {P}><ContactName>SECRET</ContactName></Contact>",
    "Contact[1]/Contact[1]": f"<Contact {ROLE}><Contact {ROLE} {P}><Email>SECRET</Email></Contact></Contact>",
    "History": f"<History {P}>{ITEM}</History>",
    "History/HistoryItem[1]": f"<History>{ITEM.replace('action', P + ' action')}</History>",
    "AlternativeID": f"<AlternativeID {P}><IncidentID name='b'>SECRET</IncidentID></AlternativeID>",
    "AlternativeID/IncidentID[1]": f"<AlternativeID><IncidentID name='b' {P}>SECRET</IncidentID></AlternativeID>",
    "RelatedActivity": f"<RelatedActivity {P}><URL>http://SECRET</URL></RelatedActivity>",
    "RelatedActivity/IncidentID[2]": "<RelatedActivity><IncidentID name='b'>2</IncidentID>"
    f"<IncidentID name='c' {P}>SECRET</IncidentID></RelatedActivity>",
    "Assessment[1]": f"<Assessment {P}><Impact>SECRET</Impact></Assessment>",
    "Method[1]": f"<Method {P}><Description>SECRET</Description></Method>",
    "EventData[1]/Expectation[1]": f"<EventData><Expectation {P}><Description>SECRET</Description></Expectation>"
    "</EventData>",
    "EventData[1]/Record/RecordData[1]/RecordItem[1]": "<EventData><Record><RecordData>"
    f"<RecordItem dtype='string' {P}>SECRET</RecordItem></RecordData></Record></EventData>",
    "AdditionalData[1]": f"<AdditionalData dtype='xml' {P}><x xmlns='u'>SECRET</x></AdditionalData>",
    "AdditionalData[1]/Incident[1]": f"<AdditionalData dtype='xml'><Incident purpose='other'>{ID}"
    "<Description>SECRET</Description></Incident></AdditionalData>",
    "AdditionalData[1]/x[1]": "<AdditionalData dtype='xml'><x xmlns='u' restriction='red'>SECRET</x></AdditionalData>",
}


@pytest.mark.parametrize("cut", CASES)
def test_what_is_private_is_cut_out_and_named(schema: etree.XMLSchema, cut: str) -> None:
    tree = incident(CASES[cut])
    for level in (Restriction.PUBLIC, Restriction.NEED_TO_KNOW):
        rest, paths = redact(tree, at_most=level)
        assert paths == (f"Incident/{cut}",)
        written = write(rest, reported_at=NOW, contact="a.example")
        assert b"SECRET" not in serialize(written)
        schema.assertValid(written)
    whole, paths = redact(tree, at_most=Restriction.PRIVATE)
    assert paths == ()
    assert digest(whole) == digest(tree)


MOVED = {
    "text": f"<History {P}>SECRET<HistoryItem action='other'/></History>",
    "foreign": f"<History {P}><x xmlns='u'>SECRET</x><HistoryItem action='other'/></History>",
    "up": f"<EventData><Expectation {P}><Method><Description>SECRET</Description></Method></Expectation></EventData>",
    "beside": f"<RelatedActivity {P}><IncidentID name='b'>2</IncidentID><URL>u:SECRET</URL></RelatedActivity>",
    "wrapped": f"<EventData {P}><Assessment restriction='public'><Impact/></Assessment><Impact>SECRET</Impact>"
    "</EventData>",
    "no place": f"<Description {P}>SECRET</Description>",
    "no place below": f"<EventData><Flow><System><Node {P}><Address>SECRET</Address></Node></System></Flow>"
    "</EventData>",
    "case": "<EventData restriction='Private'><Description>SECRET</Description></EventData>",
    "word": "<EventData restriction='red'><Description>SECRET</Description></EventData>",
}


@pytest.mark.parametrize("name", MOVED)
def test_a_repair_loosens_no_restriction(name: str) -> None:
    tree = incident(MOVED[name])
    if own(tree) is Restriction.PRIVATE:
        return  # nobody but those who have it is shown any of it
    for level in (Restriction.PUBLIC, Restriction.NEED_TO_KNOW):
        rest, _ = redact(tree, at_most=level)
        assert b"SECRET" not in serialize(rest)


def test_need_to_know_is_kept_from_the_public_and_default_counts_the_same() -> None:
    tree = incident(
        "<Method restriction='default'><Description>a</Description></Method>"
        "<Method restriction='need-to-know'><Description>b</Description></Method>",
        "purpose='reporting' restriction='public'",
    )
    _, cut = redact(tree, at_most=Restriction.PUBLIC)
    assert cut == ("Incident/Method[1]", "Incident/Method[2]")
    assert redact(tree, at_most=Restriction.NEED_TO_KNOW)[1] == ()


def test_the_incidents_own_identity_always_stays() -> None:
    rest, cut = redact(incident(""), at_most=Restriction.PUBLIC)
    assert (project(rest).identity.text, cut) == ("1", ())


def test_text_behind_what_is_cut_out_stays() -> None:
    data = (
        "<AdditionalData dtype='xml'>a<x xmlns='u' restriction='private'/>b<y xmlns='u'/>c</AdditionalData>"
    )
    rest, _ = redact(incident(data), at_most=Restriction.PUBLIC)
    assert "".join(rest[-1].itertext()) == "abc"


def test_what_is_given_is_not_changed() -> None:
    tree = incident("<Method restriction='private'><Description>b</Description></Method>")
    before = digest(tree)
    redact(tree, at_most=Restriction.PUBLIC)
    assert digest(tree) == before


WORDS = ["public", "default", "need-to-know", "private", "Private ", "red", ""]
PLACES = [tag(spec.name) for spec in CLASSES.values()] + ["{u}x"]


@st.composite
def restricted(draw: st.DrawFn, depth: int = 5, name: str = tag("Incident")) -> etree._Element:
    """A document with restrictions anywhere, and with some elements in the wrong place."""
    element = etree.Element(name)
    if draw(st.integers(0, 2)) == 0:
        element.set("restriction", draw(st.sampled_from(WORDS)))
    spec = CLASSES.get(name)
    likely = list(spec.positions) if spec and spec.positions else ["{u}x", tag("Method"), tag("Incident")]
    for _ in range(draw(st.integers(0, 3)) if depth else 0):
        wrong = draw(st.integers(0, 5)) == 0
        child = draw(restricted(depth - 1, draw(st.sampled_from(PLACES if wrong else likely))))
        element.append(child)
    return element


def document(tree: etree._Element) -> etree._Element:
    """With an identity in front, and a text of its own in each leaf, that tells what it may be told to."""
    identity = etree.Element(tag("IncidentID"), name="a.example")
    identity.text = "1"
    tree.insert(0, identity)
    tree.set("restriction", "public")
    for number, element in enumerate(tree.iter()):
        if element is not identity:
            element.text = f"<{number}>"
    return parse(serialize(tree))


def secrets(tree: etree._Element, level: Restriction) -> list[str]:
    """The texts whose nearest restriction is stricter than `level`."""
    found = []
    for element in tree.iter():
        stated = next((own(one) for one in [element, *element.iterancestors()] if own(one) is not None), None)
        if element.text and stated and is_stricter(stated, level):
            found.append(element.text)
    return found


@settings(max_examples=200, deadline=None, database=None, phases=[Phase.generate])
@given(restricted(), st.sampled_from(LEVELS))
def test_nothing_stricter_survives_and_twice_is_once(
    schema: etree.XMLSchema, tree: etree._Element, level: Restriction
) -> None:
    raw = document(tree)
    repaired, _ = repair(raw)
    once, cut = redact(repaired, at_most=level)
    assert len(set(cut)) == len(cut)
    assert bool(cut) is (digest(once) != digest(repaired))
    again, nothing = redact(once, at_most=level)
    assert nothing == ()
    assert digest(again) == digest(once)
    written = write(once, reported_at=NOW, contact="a.example")
    schema.assertValid(written)
    assert redact(written, at_most=level)[1] == ()
    if not is_stricter(read_restriction(repaired.get("restriction", "")), level):
        texts = set(written.itertext())
        assert not texts & set(secrets(raw, level))
