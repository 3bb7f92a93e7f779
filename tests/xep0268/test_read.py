"""Payloads that peers may send: the refusals of the contract, and what is tolerated."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from bridge.errors import Condition, ErrorType, MalformedError, RefusedError
from bridge.iodef.table import CLASSES
from bridge.iodef.table import NAMESPACE as IODEF
from bridge.xep0268.model import NAMESPACE, Kind, Reading, Status
from bridge.xep0268.read import read
from bridge.xmpp.stanza import IqType, read_iq
from bridge.xmpp.xml import parse, serialize

ID = "<IncidentID name='a.example'>1</IncidentID>"
INCIDENT = f"<Incident xmlns='{IODEF}' purpose='other'>{ID}</Incident>"


def received(payload: str, iq_type: str = "set", sender: str = "peer.example") -> Reading:
    iq = f"<iq from='{sender}' to='us.example' id='1' type='{iq_type}'>{payload}</iq>"
    return read(read_iq(parse(iq.encode())))


def payload(kind: str, inside: str = INCIDENT, attributes: str = "") -> str:
    return f"<{kind} xmlns='{NAMESPACE}' {attributes}>{inside}</{kind}>"


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_has_its_iq_type(kind: Kind) -> None:
    assert received(payload(kind), kind.iq_type).kind is kind
    wrong = IqType.GET if kind.iq_type is IqType.SET else IqType.SET
    with pytest.raises(MalformedError, match=f"must be {kind.iq_type}, not {wrong}"):
        received(payload(kind), wrong)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (payload("report", ""), "report"),
        (payload("report", "text"), "report"),
        (payload("report", INCIDENT * 2), "report"),
        (payload("report", "<x xmlns='u'/>"), "report/x"),
        (payload("report", f"<Incident>{ID}</Incident>"), "report/Incident"),
        (payload("report", f"<Incident xmlns='{IODEF}'/>"), "report/Incident"),
        (
            payload("report", f"<Incident xmlns='{IODEF}'><IncidentID name='a'/></Incident>"),
            "report/Incident/IncidentID",
        ),
        (payload("rumour"), "iq"),
        (f"<report xmlns='urn:xmpp:incident:1'>{INCIDENT}</report>", "iq"),
        (INCIDENT, "iq"),
    ],
)
def test_what_the_contract_refuses_is_malformed(text: str, path: str) -> None:
    with pytest.raises(MalformedError) as caught:
        received(text)
    error = caught.value.stanza_error
    assert (error.type, error.condition) == (ErrorType.MODIFY, Condition.BAD_REQUEST)
    assert caught.value.path == path


def test_version_2_of_iodef_is_not_implemented() -> None:
    with pytest.raises(RefusedError) as caught:
        received(payload("report", "<Incident xmlns='urn:ietf:params:xml:ns:iodef-2.0'/>"))
    error = caught.value.stanza_error
    assert (error.type, error.condition) == (ErrorType.CANCEL, Condition.FEATURE_NOT_IMPLEMENTED)


def test_a_document_around_the_incident_is_taken_off() -> None:
    reading = received(
        payload("report", f"<IODEF-Document xmlns='{IODEF}' lang='en'>{INCIDENT}</IODEF-Document>")
    )
    assert reading.incident.identity.text == "1"
    assert reading.repairs[0].done == "taken off"


def test_elements_beside_the_incident_are_told() -> None:
    reading = received(payload("report", f"{INCIDENT}<x xmlns='u'/>"))
    assert reading.repairs[0].rule == "1 element(s) beside the Incident"


def test_a_missing_name_is_the_senders_but_in_an_inquiry() -> None:
    nameless = f"<Incident xmlns='{IODEF}' purpose='other'><IncidentID>1</IncidentID></Incident>"
    assert received(payload("report", nameless)).incident.identity.name == "peer.example"
    assert received(payload("inquiry", nameless), "get").incident.identity.name == ""


def test_an_inquiry_needs_nothing_but_the_identity() -> None:
    assert received(payload("inquiry"), "get").repairs == ()


@pytest.mark.parametrize(
    ("kind", "purpose"),
    [
        ("report", "reporting"),
        ("inquiry", "traceback"),
        ("request", "mitigation"),
        ("response", "mitigation"),
    ],
)
def test_a_missing_purpose_follows_from_the_kind(kind: str, purpose: str) -> None:
    inside = f"<Incident xmlns='{IODEF}'>{ID}</Incident>"
    assert received(payload(kind, inside), Kind(kind).iq_type).incident.purpose == purpose


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("new", Status.NEW),
        (" Resolved ", Status.RESOLVED),
        ("in-progress", Status.UPDATED),
        ("whatever", Status.UPDATED),
        ("", None),
    ],
)
def test_a_status_is_one_of_three(text: str, status: Status | None) -> None:
    data = f"<AdditionalData dtype='string' meaning='status' formatid='{NAMESPACE}'>{text}</AdditionalData>"
    inside = f"<Incident xmlns='{IODEF}' purpose='other'>{ID}{data}</Incident>"
    assert received(payload("report", inside)).status is status
    assert received(payload("report", attributes=f"status='{text}'")).status is status


NAMES = [f"{{{IODEF}}}{spec.name}" for spec in CLASSES.values()] + [f"{{{NAMESPACE}}}jid", "x"]


@st.composite
def trees(draw: st.DrawFn, depth: int = 4) -> etree._Element:
    element = etree.Element(draw(st.sampled_from(NAMES)))
    element.text = draw(st.text("a1 -:Z", max_size=3))
    element.extend(draw(st.lists(trees(depth - 1), max_size=3)) if depth else [])
    return element


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(Kind), st.lists(trees(), max_size=3))
def test_any_payload_is_a_reading_or_refused(kind: Kind, parts: list[etree._Element]) -> None:
    text = b"".join(map(serialize, parts)).decode()
    for inside in (text, f"<Incident xmlns='{IODEF}'>{ID}{text}</Incident>"):
        try:
            reading = received(payload(kind, inside), kind.iq_type)
        except RefusedError as error:
            assert error.stanza_error.text  # noqa: PT017 — either outcome is right
        else:
            assert reading.incident.identity.text
