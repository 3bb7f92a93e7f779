"""Values that no program expects: each is shown, in the view or as a repair, and never dropped silently."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from pydantic import TypeAdapter

from bridge.errors import Condition, MalformedError
from bridge.iodef.model import Incident
from bridge.iodef.table import NAMESPACE as IODEF
from bridge.xep0268.model import NAMESPACE, Kind, Reading
from bridge.xep0268.read import read
from bridge.xep0268.write import write
from bridge.xmpp.stanza import read_iq
from bridge.xmpp.xml import parse, serialize

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def received(inside: str, kind: Kind = Kind.REQUEST) -> Reading:
    identity = "<IncidentID name='b.test'>1</IncidentID>"
    payload = f"<{kind} xmlns='{NAMESPACE}'><Incident xmlns='{IODEF}' purpose='mitigation'>{identity}{inside}"
    iq = f"<iq from='b.test' to='a.test' id='1' type='{kind.iq_type}'>{payload}</Incident></{kind}></iq>"
    return read(read_iq(parse(iq.encode())))


def address(inside: str) -> str:
    node = f"<Node><Address>192.0.2.1</Address>{inside}</Node>"
    return f"<EventData><Flow><System category='source'>{node}</System></Flow></EventData>"


def told(reading: Reading) -> str:
    return " ".join(f"{repair.path} {repair.rule} {repair.done}" for repair in reading.repairs)


def texts(reading: Reading) -> list[str]:
    """All that is kept, also after writing it again."""
    payload = write(reading.kind, reading.tree, reported_at=NOW, contact="a.test")
    return [text for text in payload.itertext() if text in set(reading.tree.itertext())]


TIMES = {
    "2026-11-21T12:00:00": datetime(2026, 11, 21, 12, tzinfo=UTC),
    "2026-11-21 12:00": datetime(2026, 11, 21, 12, tzinfo=UTC),
    "2026-11-21T24:00:00Z": datetime(2026, 11, 22, tzinfo=UTC),
    "2026-11-21T24:00:00": datetime(2026, 11, 22, tzinfo=UTC),
    "2026-12-31T23:59:60Z": datetime(2027, 1, 1, tzinfo=UTC),
    "9999-12-31T24:00:00Z": None,
    "12026-11-21T12:00:00Z": None,
    "-2026-11-21T12:00:00Z": None,
    "0000-01-01T00:00:00Z": None,
    "2026-11-21T24:00:01Z": None,
    "2026-11-21T12:00:00+15:00": None,
    "2026-W47-6T12:00:00Z": None,
    "20261121T120000Z": None,
    "soon": None,
    "2" * 100_000: None,
}


@pytest.mark.parametrize("text", TIMES, ids=lambda text: text[:25])
@pytest.mark.parametrize("name", ["StartTime", "Expectation", "HistoryItem"])
def test_a_strange_time_is_read_or_kept_and_told(name: str, text: str) -> None:
    match name:
        case "Expectation":
            inside = (
                f"<EventData><Expectation action='other'><EndTime>{text}</EndTime></Expectation></EventData>"
            )
            reading = received(inside)
            found = reading.incident.expectations[0].ended_at
        case "HistoryItem":
            inside = (
                f"<History><HistoryItem action='other'><DateTime>{text}</DateTime></HistoryItem></History>"
            )
            reading = received(inside)
            found = reading.incident.history[0].at
        case _:
            reading = received(f"<StartTime>{text}</StartTime>")
            found = reading.incident.started_at
    assert found == TIMES[text]
    assert f"'{text[:20]}" in told(reading)
    if TIMES[text] is None:
        assert text in texts(reading)


@pytest.mark.parametrize("number", ["INF", "-INF", "NaN", "nan", "1e400", "0x10", "1,5", "٣", "9" * 100_000])
def test_a_strange_number_is_kept_and_told(number: str) -> None:
    reading = received(address(f"<Counter type='event'>{number}</Counter>"))
    assert reading.incident.sources[0].counters == ()
    assert number in texts(reading)
    assert f"'{number[:20]}" in told(reading)
    json.loads(TypeAdapter(Incident).dump_json(reading.incident))


def test_an_endless_integer_is_kept_and_told() -> None:
    endless = "9" * 50_000
    service = f"<Service ip_protocol='{endless}'><Port>{endless}</Port></Service>"
    system = f"<System category='source'><Node><Address>a</Address></Node>{service}</System>"
    reading = received(f"<EventData><Flow>{system}</Flow></EventData>")
    assert reading.incident.sources[0].ports == ()
    assert endless in texts(reading)
    assert "ip_protocol" in told(reading)
    assert len(told(reading)) < 5000


def test_a_document_of_a_megabyte_is_too_big() -> None:
    with pytest.raises(MalformedError) as caught:
        received(f"<Description>{'9' * 2**20}</Description>")
    assert caught.value.stanza_error.condition is Condition.POLICY_VIOLATION


@pytest.mark.parametrize("action", ["blockquote", "nuke", "block host", "Block-Domain", "", "x" * 1000])
def test_an_unknown_action_is_shown_as_text(action: str) -> None:
    reading = received(
        f"<EventData><Expectation action='{action}'/></EventData>"
        f"<History><HistoryItem action='{action}'><DateTime>2026-11-21T12:00:00Z</DateTime></HistoryItem></History>"
    )
    assert [one.action for one in reading.incident.expectations] == [action]
    assert [one.action for one in reading.incident.history] == [action]
    assert told(reading).count("action=") >= 2
    payload = write(reading.kind, reading.tree, reported_at=NOW, contact="a.test")
    for element in payload.iter("{*}Expectation", "{*}HistoryItem"):
        assert (element.get("action"), element.get("ext-action")) == ("ext-value", action)


def test_an_action_in_other_case_is_the_known_one_and_told() -> None:
    reading = received("<EventData><Expectation action=' Block-Host '/></EventData>")
    assert reading.incident.expectations[0].action == "block-host"
    assert "Block-Host" in told(reading)


def test_the_examples_blockquote_stays_what_it_is(root: Path) -> None:
    vector = root / "tests" / "vectors" / "xep0268" / "response.xml"
    reading = read(read_iq(parse(vector.read_bytes().strip())))
    assert [one.action for one in reading.incident.history] == ["blockquote"]
    assert "blockquote" in told(reading)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_as_patient(kind: Kind) -> None:
    reading = received("<StartTime>soon</StartTime><History><HistoryItem action='nuke'/></History>", kind)
    assert "'soon'" in told(reading)
    assert [one.action for one in reading.incident.history] == ["nuke"]


VALUE = st.sampled_from(
    ["soon", "NaN", "INF", "99999-01-01T00:00:00Z", "24:00:00", "", " ", "1", "blockquote"]
)
TAGS = st.sampled_from(
    [
        "StartTime",
        "DetectTime",
        "Description",
        "Counter",
        "Port",
        "Impact",
        "Confidence",
        "Email",
        "Timezone",
        "x",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TAGS, VALUE), max_size=8))
def test_every_text_is_kept_or_told(parts: list[tuple[str, str]]) -> None:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in parts)
    reading = received(inside)
    kept = set(" ".join(serialize_text(reading.tree)).split())
    for _, value in parts:
        assert not value.strip() or value in kept or value in told(reading)


def serialize_text(tree: etree._Element) -> list[str]:
    return [str(text) for text in parse(serialize(tree)).itertext()]
