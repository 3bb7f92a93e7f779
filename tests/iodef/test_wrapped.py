"""Known documents as payloads of XEP-0268: read in every interaction, written valid, and stable from then on."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from bridge.iodef.model import Restriction
from bridge.iodef.read import INCIDENT, project
from bridge.iodef.redact import redact
from bridge.xep0268.model import NAMESPACE, Kind, Reading
from bridge.xep0268.read import read
from bridge.xep0268.write import write
from bridge.xmpp.stanza import read_iq
from bridge.xmpp.xml import Element, digest, parse, parse_file, serialize

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CORPUS = Path(__file__).resolve().parents[3] / "shared" / "iodef" / "corpus"
FILES = sorted(CORPUS.glob("*/*.xml")) or [None]


def received(kind: Kind, inside: Element) -> Reading:
    """As a stanza of a peer, through text."""
    payload = etree.Element(f"{{{NAMESPACE}}}{kind}", nsmap={None: NAMESPACE})
    payload.append(inside)
    text = serialize(payload).decode()
    iq = f"<iq from='b.test' to='a.test' id='1' type='{kind.iq_type}'>{text}</iq>"
    return read(read_iq(parse(iq.encode())))


@pytest.fixture(params=FILES, ids=lambda file: f"{file.parent.name}/{file.name}" if file else "absent")
def document(request: pytest.FixtureRequest, shared: Path) -> Element:
    """The root of each document; `shared` skips where they are absent, and says so."""
    assert request.param is not None, f"no documents in {shared}"
    return parse_file(request.param.read_bytes())[0]


@pytest.mark.parametrize("kind", Kind)
def test_a_known_incident_is_read_and_written_once_and_for_all(
    schema: etree.XMLSchema, document: Element, kind: Kind
) -> None:
    for incident in list(document.iter(INCIDENT)):
        reading = received(kind, parse(serialize(incident)))
        payload = write(kind, reading.tree, reported_at=NOW, contact="a.test")
        schema.assertValid(payload[0])
        again = received(kind, payload[0])
        assert again.repairs == ()
        assert again.incident == project(again.tree)
        for name in (
            "identity",
            "sources",
            "targets",
            "others",
            "expectations",
            "descriptions",
            "restriction",
        ):
            assert getattr(again.incident, name) == getattr(reading.incident, name), name
        assert [one.action for one in again.incident.history] == [
            one.action for one in reading.incident.history
        ]
        assert digest(write(kind, again.tree, reported_at=NOW, contact="x")[0]) == digest(again.tree)


def test_a_whole_document_is_accepted_where_it_has_one_incident(document: Element) -> None:
    incidents = list(document.iter(INCIDENT))
    if len(incidents) == 1 and document[0] is incidents[0]:
        reading = received(Kind.REPORT, parse(serialize(document)))
        assert reading.incident.identity.text
        assert any(repair.done == "taken off" for repair in reading.repairs) or document.tag == INCIDENT


def test_what_the_old_module_sends_is_accepted_as_it_is(document: Element) -> None:
    if document.tag == "iq":
        document.attrib.update({"from": "capulet.lit", "to": "a.test"})
        incident = read(read_iq(document)).incident
        assert (incident.identity.name, len(incident.sources), len(incident.targets)) == ("capulet.lit", 2, 1)
        assert [one.role for one in incident.contacts] == ["admin", "irt"]


@pytest.mark.parametrize("level", [Restriction.PUBLIC, Restriction.NEED_TO_KNOW])
def test_a_redacted_known_incident_is_valid(
    schema: etree.XMLSchema, document: Element, level: Restriction
) -> None:
    for incident in list(document.iter(INCIDENT)):
        reading = received(Kind.REPORT, parse(serialize(incident)))
        rest, cut = redact(reading.tree, at_most=level)
        stated = [one.get("restriction") for one in reading.tree.iterdescendants() if one.get("restriction")]
        assert bool(cut) <= bool(stated)
        payload = write(Kind.REPORT, rest, reported_at=NOW, contact="a.test", status=None)
        schema.assertValid(payload[0])
