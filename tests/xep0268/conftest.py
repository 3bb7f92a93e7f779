"""The specification's own examples."""

from pathlib import Path

import pytest

from bridge.xep0268.model import Kind, Reading
from bridge.xep0268.read import read
from bridge.xmpp.stanza import read_iq
from bridge.xmpp.xml import parse

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "xep0268"


@pytest.fixture(params=list(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture
def example(kind: Kind) -> Reading:
    """What the example of this kind says."""
    return read(read_iq(parse((VECTORS / f"{kind}.xml").read_bytes().strip())))
