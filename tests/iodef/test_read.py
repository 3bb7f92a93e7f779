"""Incidents as peers send them: what is accepted, what is told, what is refused."""

import json
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter

from bridge.errors import Condition, ErrorType, MalformedError, RefusedError
from bridge.iodef.model import Incident, IncidentId, Restriction, Severity
from bridge.iodef.read import MAX_REPEATED, Document, read
from bridge.xmpp.xml import parse

NS = "xmlns='urn:ietf:params:xml:ns:iodef-1.0'"
ID = "<IncidentID name='A.example'>1</IncidentID>"


def incident(inside: str, attributes: str = "purpose='reporting'") -> Document:
    """An Incident with an identity and something else."""
    text = f"<Incident {NS} {attributes}>{ID}{inside}</Incident>"
    return read(parse(text.encode()), default_name="sender.example", purpose=None, only_id_required=True)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (f"<Incident {NS}/>", "Incident"),
        (f"<Incident {NS}><IncidentID name='a'/></Incident>", "Incident/IncidentID"),
        (f"<Incident {NS}><IncidentID name='a'> \n</IncidentID></Incident>", "Incident/IncidentID"),
        (f"<Incident {NS}><EventData>{ID}</EventData></Incident>", "Incident"),
        ("<Incident/>", "Incident"),
        (f"<EventData {NS}/>", "Incident"),
    ],
)
def test_without_an_identity_nothing_is_read(text: str, path: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read(parse(text.encode()), default_name=None, purpose=None, only_id_required=True)
    assert caught.value.path == path


def test_version_2_is_not_implemented() -> None:
    element = parse(b"<Incident xmlns='urn:ietf:params:xml:ns:iodef-2.0'/>")
    with pytest.raises(RefusedError) as caught:
        read(element, default_name=None, purpose=None, only_id_required=True)
    error = caught.value.stanza_error
    assert (error.type, error.condition) == (ErrorType.CANCEL, Condition.FEATURE_NOT_IMPLEMENTED)


def test_reading_leaves_the_element_as_it_was() -> None:
    element = parse(f"<Incident {NS}>{ID}<Email/></Incident>".encode())
    read(element, default_name=None, purpose=None, only_id_required=True)
    assert len(element) == 2
    assert element.get("purpose") is None


def test_the_identity_is_compared_without_regard_to_the_case_of_the_name() -> None:
    assert incident("").incident.identity.key == IncidentId(name="a.EXAMPLE", text="1").key
    assert IncidentId(name="a", text="x").key != IncidentId(name="a", text="X").key


def test_an_identity_without_name_is_the_senders() -> None:
    element = parse(f"<Incident {NS} purpose='other'><IncidentID> 1\n</IncidentID></Incident>".encode())
    document = read(element, default_name="s.example", purpose=None, only_id_required=True)
    assert document.incident.identity == IncidentId(name="s.example", text="1")
    assert any("name is missing" in repair.rule for repair in document.repairs)
    unnamed = read(element, default_name=None, purpose=None, only_id_required=True)
    assert unnamed.incident.identity == IncidentId(name="", text="1")


def test_what_a_full_incident_needs_and_has_not_is_told() -> None:
    element = parse(f"<Incident {NS} purpose='reporting'>{ID}</Incident>".encode())
    document = read(element, default_name=None, purpose=None, only_id_required=False)
    told = [repair.rule for repair in document.repairs]
    assert told == ["ReportTime is missing", "Assessment is missing", "Contact is missing"]


def test_without_restriction_an_incident_is_private() -> None:
    assert incident("").incident.restriction is Restriction.PRIVATE
    assert incident("", "restriction='need-to-know'").incident.restriction is Restriction.NEED_TO_KNOW
    assert incident("", "restriction='amber'").incident.restriction is Restriction.PRIVATE


@pytest.mark.parametrize(
    ("inside", "status"),
    [
        (
            "<AdditionalData dtype='string' meaning='status' formatid='urn:xmpp:incident:2'>new</AdditionalData>",
            "new",
        ),
        ("<AdditionalData dtype='string' meaning='Incident-Status'> resolved </AdditionalData>", "resolved"),
        ("<AdditionalData dtype='string' meaning='xmpp-incident-status'>odd</AdditionalData>", "odd"),
        ("<AdditionalData dtype='string' meaning='other'>new</AdditionalData>", None),
        ("", None),
    ],
)
def test_a_status_is_found_where_it_may_stand(inside: str, status: str | None) -> None:
    assert incident(inside).incident.status == status


def test_a_status_attribute_is_accepted() -> None:
    document = incident("", "status='ext-value' ext-status='resolved'")
    assert document.incident.status == "resolved"
    assert document.tree.get("status") is None


def test_our_own_spelling_of_the_status_comes_first() -> None:
    both = (
        "<AdditionalData dtype='string' meaning='status'>new</AdditionalData>"
        "<AdditionalData dtype='string' meaning='status' formatid='urn:xmpp:incident:2'>resolved</AdditionalData>"
    )
    assert incident(both).incident.status == "resolved"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2009-04-13T19:05:20Z", datetime(2009, 4, 13, 19, 5, 20, tzinfo=UTC)),
        (" \n2009-04-13T19:05:20Z ", datetime(2009, 4, 13, 19, 5, 20, tzinfo=UTC)),
        ("2009-04-13T21:05:20+0200", datetime(2009, 4, 13, 19, 5, 20, tzinfo=UTC)),
        ("2009-04-13T19:05:20", datetime(2009, 4, 13, 19, 5, 20, tzinfo=UTC)),
        ("2009-04-13t19:05:20z", datetime(2009, 4, 13, 19, 5, 20, tzinfo=UTC)),
        ("2009-04-13T24:00:00Z", datetime(2009, 4, 14, tzinfo=UTC)),
        ("2008-12-31T23:59:60Z", datetime(2009, 1, 1, tzinfo=UTC)),
        ("2009-04-13T19:05:20.1234567890Z", datetime(2009, 4, 13, 19, 5, 20, 123456, tzinfo=UTC)),
        ("2009-W16-1", None),
        ("99999-01-01T00:00:00Z", None),
        ("-0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2009-02-30T00:00:00Z", None),
        ("yesterday", None),
    ],
)
def test_times_are_read_as_utc_or_kept_as_text(text: str, expected: datetime | None) -> None:
    document = incident(f"<StartTime>{text}</StartTime>")
    assert document.incident.started_at == expected
    if expected is None:
        assert f">{text}<" in "".join(f">{t}<" for t in document.tree.itertext())


@pytest.mark.parametrize("number", ["INF", "-INF", "NaN", "1e999", "many", "1,5", ""])
def test_a_counter_without_a_finite_number_is_no_counter(number: str) -> None:
    text = f"<Counter type='event'>{number}</Counter>"
    address = "<Address category='ipv4-addr'>192.0.2.1</Address>"
    document = incident(
        f"<EventData><Flow><System category='source'><Node>{address}{text}</Node></System></Flow></EventData>"
    )
    assert document.incident.sources[0].counters == ()
    json.loads(TypeAdapter(Incident).dump_json(document.incident))


def test_severity_is_the_highest_of_all_impacts() -> None:
    impacts = "<Impact severity='low'/><Impact severity='high'/><Impact severity='awful'/><Impact/>"
    assert incident(f"<Assessment>{impacts}</Assessment>").incident.severity is Severity.HIGH
    assert incident("").incident.severity is None


def test_an_xmpp_address_is_kept_as_written_and_prepared() -> None:
    nodes = "".join(
        f"<Address category='ext-value' ext-category='xmpp'>{a}</Address>"
        for a in ("A@B.example", "not a jid")
    )
    sources = incident(
        f"<EventData><Flow><System category='source'><Node>{nodes}</Node></System></Flow></EventData>"
    ).incident.sources
    assert [(s.address, s.jid) for s in sources] == [("A@B.example", "a@b.example"), ("not a jid", None)]


def test_a_small_document_does_not_become_a_huge_view() -> None:
    node = "<Address>192.0.2.1</Address>" * 3 + "".join(f"<Address>a{i}</Address>" for i in range(1000))
    node += "<Counter type='event'>1</Counter>" * 1000
    view = incident(
        f"<EventData><Flow><System category='source'><Node>{node}</Node></System></Flow></EventData>"
    ).incident
    assert len(view.sources) > MAX_REPEATED
    assert [bool(source.counters) for source in view.sources[:3]] == [True, False, False]


def test_an_unknown_action_is_kept_but_is_no_known_one() -> None:
    document = incident("<History><HistoryItem action='blockquote'/></History>")
    assert document.incident.history[0].action == "blockquote"
    assert document.tree.find(".//{*}HistoryItem").get("action") == "ext-value"
