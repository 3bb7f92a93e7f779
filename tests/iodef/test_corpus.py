"""Documents of other software and of the RFCs: every version 1 document is read and written."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from bridge.iodef.read import INCIDENT, project, read
from bridge.iodef.write import write
from bridge.xep0268.model import NAMESPACE, Kind
from bridge.xep0268.read import read as read_interaction
from bridge.xep0268.write import write as write_interaction
from bridge.xmpp.stanza import read_iq
from bridge.xmpp.xml import parse, parse_file

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "iodef" / "corpus"
FILES = sorted(CORPUS.glob("*/*.xml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_known_document_is_read_and_written(schema: etree.XMLSchema, file: Path) -> None:
    root, _ = parse_file(file.read_bytes())
    for element in root.iter(INCIDENT):
        document = read(element, default_name=None, purpose=None, only_id_required=False)
        written = write(document.tree, reported_at=datetime(2026, 11, 21, tzinfo=UTC), contact="a.example")
        schema.assertValid(written)
        assert project(written).sources == document.incident.sources
        assert document.incident.sources or "rfc7203" in str(file)


@pytest.mark.parametrize("kind", Kind)
def test_an_example_of_the_specification_is_written_valid(
    schema: etree.XMLSchema, kind: Kind, root: Path
) -> None:
    vector = root / "tests" / "vectors" / "xep0268" / f"{kind}.xml"
    reading = read_interaction(read_iq(parse(vector.read_bytes().strip())))
    payload = write_interaction(
        kind, reading.tree, reported_at=datetime(2026, 11, 21, tzinfo=UTC), contact="a.example"
    )
    assert payload.tag == f"{{{NAMESPACE}}}{kind}"
    schema.assertValid(payload[0])


def test_the_corpus_is_there(shared: Path) -> None:
    assert len(FILES) > 10, f"no documents in {shared}"
