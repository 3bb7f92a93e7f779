"""Whatever a peer writes, the terminal shows it and does nothing else."""

import io
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli.output import Terminal, cell, cells, count, moment, shorten, table_lines, terminal
from bridge.log import visible

HOSTILE = st.text(st.characters(codec="utf-8")) | st.text("\x1b[2J\u202e\u2066\n\r\t\x07\x9b字e\u0301 a")


def is_harmless(text: str) -> bool:
    return all(unicodedata.category(character)[0] != "C" for character in text) and "\u2028" not in text


@given(HOSTILE)
def test_visible_text_has_no_control_bidi_or_invisible_character(text: str) -> None:
    assert is_harmless(visible(text))


@given(HOSTILE)
def test_making_text_visible_twice_changes_nothing_more(text: str) -> None:
    assert visible(visible(text)) == visible(text)


def test_what_was_hidden_is_shown_as_an_escape() -> None:
    assert visible("a\x1b[31m\u202eb\x00é字") == r"a\x1b[31m\u202eb\x00é字"


@given(st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), max_size=5), st.integers(40, 120))
def test_a_table_stays_within_its_width_and_on_its_lines(rows: list[tuple[str, ...]], width: int) -> None:
    lines = table_lines(("ONE", "TWO", "THREE"), rows, width=width)

    assert len(lines) == len(rows) + 1
    for line in lines:
        assert is_harmless(line)
        assert cells(line) <= width


@given(HOSTILE, st.integers(2, 30))
def test_shortened_text_fits_and_says_that_something_is_missing(text: str, width: int) -> None:
    shown = shorten(visible(text), width)

    assert cells(shown) <= width
    assert shown == visible(text) or shown.endswith("…")


@given(st.recursive(HOSTILE, lambda inner: st.lists(inner) | st.dictionaries(HOSTILE, inner), max_leaves=5))
def test_json_is_ascii_for_any_text(value: object) -> None:
    out = io.StringIO()

    Terminal(out=out, messages=io.StringIO(), is_json=True).json(value)

    assert out.getvalue().isascii()
    assert is_harmless(out.getvalue().replace("\n", ""))


def test_wide_characters_take_two_columns() -> None:
    first, second = table_lines(("A", "B"), [("字字", "x")], width=None)

    assert (first, second) == ("A     B", "字字  x")


def test_a_cell_is_one_line_and_nothing_is_a_dash() -> None:
    assert (cell("a\nb"), cell(None), cell(""), cell(value=True)) == ("a b", "-", "-", "yes")


def test_times_are_shown_in_utc() -> None:
    assert moment(datetime(2026, 11, 21, 22, 50, 7, tzinfo=UTC)) == "2026-11-21 22:50:07Z"


def test_numbers_agree_with_their_nouns() -> None:
    assert (count(1, "incident"), count(2, "reply", "replies"), count(0, "peer")) == (
        "1 incident",
        "2 replies",
        "0 peers",
    )


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_needs_a_terminal_and_no_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    assert terminal(is_json=False, out=Tty()).has_colour
    assert not terminal(is_json=False, out=io.StringIO()).has_colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal(is_json=False, out=Tty()).has_colour
