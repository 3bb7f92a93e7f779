"""`validate` says offline what the running bridge would answer."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "xep0268"
KINDS = ("report", "inquiry", "request", "response")


def payload(kind: str) -> str:
    text = (VECTORS / f"{kind}.xml").read_text()
    return text[text.index(f"<{kind}") : text.index("</iq>")]


def incident(kind: str) -> str:
    text = payload(kind)
    return text[text.index("<Incident") : text.index(f"</{kind}>")]


def judged(run: Any, tmp_path: Path, text: str, *words: str) -> Any:
    path = tmp_path / "document.xml"
    path.write_text(text, encoding="utf-8")
    return run("--json", "validate", *words, str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_each_example_of_the_specification_is_read(run: Any, kind: str) -> None:
    printed = run("--json", "validate", str(VECTORS / f"{kind}.xml"))

    verdict = printed.json()
    assert verdict["kind"] == kind
    assert verdict["incident"]["identity"]["text"] == "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF"
    assert bool(verdict["repairs"]) is (kind != "inquiry")
    assert printed.code == 0


def test_the_report_is_accepted_with_its_repairs(run: Any) -> None:
    printed = run("validate", str(VECTORS / "report.xml"))

    assert printed.code == 0
    assert printed.out.startswith("Accepted. We would answer with an empty result.")
    assert "dtype='xml'" in printed.out


def test_payload_incident_and_document_are_read_like_the_iq(run: Any, tmp_path: Path) -> None:
    inner = incident("report")
    document = (
        f'<IODEF-Document xmlns="urn:ietf:params:xml:ns:iodef-1.0" version="1.00">{inner}</IODEF-Document>'
    )

    verdicts = [
        judged(run, tmp_path, text).json()["incident"]
        for text in ((VECTORS / "report.xml").read_text(), payload("report"), inner, document)
    ]

    assert verdicts[1:] == verdicts[:1] * 3


def test_an_incident_is_judged_as_the_kind_asked_for(run: Any, tmp_path: Path) -> None:
    assert judged(run, tmp_path, incident("report"), "--as", "inquiry").json()["kind"] == "inquiry"


def test_a_missing_name_is_taken_from_the_sender(run: Any, tmp_path: Path) -> None:
    nameless = incident("report").replace("<IncidentID name='jabber.org'>", "<IncidentID>")

    verdict = judged(run, tmp_path, nameless, "--from", "sender.example").json()

    assert verdict["incident"]["identity"]["name"] == "sender.example"


REFUSED = {
    "not XML": ("hello", "bad-request"),
    "empty": ("", "bad-request"),
    "DOCTYPE": ("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "bad-request"),
    "another payload": ("<query xmlns='jabber:iq:version'/>", "bad-request"),
    "no Incident": ("<report xmlns='urn:xmpp:incident:2'/>", "bad-request"),
    "two Incidents": (
        f"<report xmlns='urn:xmpp:incident:2'>{incident('report') * 2}</report>",
        "bad-request",
    ),
    "an empty document": ("<IODEF-Document xmlns='urn:ietf:params:xml:ns:iodef-1.0'/>", "bad-request"),
    "an answer": ("<iq type='result' id='1' from='a.test' to='b.test'/>", "bad-request"),
    "a user": (
        (VECTORS / "report.xml").read_text().replace("from='jabber.org'", "from='a@jabber.org'"),
        "forbidden",
    ),
    "IODEF v2": (
        payload("report").replace("iodef-1.0", "iodef-2.0"),
        "feature-not-implemented",
    ),
    "too big": (f"<report xmlns='urn:xmpp:incident:2'>{' ' * 140_000}</report>", "policy-violation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_a_no_with_the_error_we_would_send(run: Any, tmp_path: Path, case: str) -> None:
    text, condition = REFUSED[case]

    printed = judged(run, tmp_path, text)

    assert printed.code == 1
    assert printed.json()["error"]["condition"] == condition
    assert printed.json()["error"]["text"]


def test_comments_of_a_file_are_dropped_and_told(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "document.xml"
    path.write_text(f"<?xml version='1.0'?>{payload('report').replace('<Contact', '<!-- x --><Contact')}")

    printed = run("validate", str(path))

    assert printed.code == 0
    assert "Only because this is a file: 3 comment(s) dropped" in printed.out


def test_a_document_comes_from_stdin(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((VECTORS / "report.xml").read_bytes())))

    assert run("validate", "-").code == 0


def test_a_missing_file_is_wrong_usage(run: Any, tmp_path: Path) -> None:
    printed = run("validate", str(tmp_path / "none.xml"))

    assert printed.code == 2
    assert "none.xml: cannot be read" in printed.messages


def test_a_sender_that_is_no_jid_is_wrong_usage(run: Any, tmp_path: Path) -> None:
    assert judged(run, tmp_path, incident("report"), "--from", "a b").code == 2


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
