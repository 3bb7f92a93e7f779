"""`validate` says what the running bridge would answer."""

from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "xep0268"


@pytest.mark.parametrize(
    ("kind", "answer", "said"),
    [
        ("report", "result", "an empty result"),
        ("request", "result", "later with a response"),
        ("response", "result", "unless we asked for it"),
        ("inquiry", "result and report, or item-not-found", "item-not-found"),
    ],
)
def test_each_of_the_specifications_examples_is_accepted(run: Any, kind: str, answer: str, said: str) -> None:
    printed = run("validate", str(VECTORS / f"{kind}.xml"))
    plain = run("--json", "validate", str(VECTORS / f"{kind}.xml")).json()

    assert printed.code == 0
    assert said in printed.out.splitlines()[0]
    assert (plain["kind"], plain["answer"]) == (kind, answer)


def test_what_is_refused_says_what_its_sender_is_told(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.xml"
    file.write_text("<Incident xmlns='urn:ietf:params:xml:ns:iodef-1.0' purpose='reporting'/>")

    printed = run("validate", str(file))

    assert printed.code == 1
    assert "modify/bad-request" in printed.out
    assert "IncidentID is missing" in printed.out
