"""Logs are one line per outcome, with fields, whatever a peer wrote."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import log


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@given(st.text(), st.text())
def test_json_logs_are_one_ascii_line_with_the_fields(text: str, peer: str) -> None:
    out = io.StringIO()
    log.configure("json", stream=out)

    log.get("test").info("%s", text, peer=peer, seconds=1.5)

    entry = json.loads(out.getvalue())
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().isascii()
    assert (entry["text"], entry["peer"], entry["seconds"], entry["level"]) == (text, peer, 1.5, "info")


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_human_logs_are_one_harmless_line(text: str, peer: str) -> None:
    out = io.StringIO()
    log.configure("human", stream=out)

    log.get("test").warning("%s", text, peer=peer)

    line = out.getvalue().removesuffix("\n")
    assert log.visible(line) == line


def test_a_field_may_be_called_like_something_of_logging() -> None:
    out = io.StringIO()
    log.configure("json", stream=out)

    log.get("test").info("stored", name="x", args=3, text="other")

    entry = json.loads(out.getvalue())
    assert (entry["name"], entry["args"], entry["text"]) == ("x", 3, "stored")


def test_human_logs_quote_values_with_spaces_and_leave_out_none() -> None:
    out = io.StringIO()
    log.configure("human", stream=out)

    log.get("test").info("refused", reason="over quota", peer=None, condition="wait")

    assert out.getvalue().endswith('refused  reason="over quota" condition=wait\n')


def test_a_traceback_is_told_in_both_formats() -> None:
    for chosen in ("human", "json"):
        out = io.StringIO()
        log.configure(chosen, stream=out)  # type: ignore[arg-type]
        try:
            int("\x1b[31m")
        except ValueError:
            log.get("test").exception("failed", interaction="i1")

        assert "ValueError" in out.getvalue()
        assert "\x1b" not in out.getvalue()


def test_nothing_below_the_level_is_written() -> None:
    out = io.StringIO()
    log.configure("json", "warning", stream=out)

    log.get("test").info("quiet")

    assert out.getvalue() == ""
