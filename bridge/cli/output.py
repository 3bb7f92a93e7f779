"""What the operator sees: calm tables, JSON for programs, hostile text made harmless.

House rules: data goes to stdout and messages to stderr; text that a peer wrote passes `visible` before it is printed;
colour only marks, it never says anything that the words do not.
"""

import json
import os
import re
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import to_jsonable_python

from bridge.log import visible
from bridge.policy.words import count as count  # noqa: PLC0414 - commands have it from here
from bridge.policy.words import moment as moment  # noqa: PLC0414

_GAP = "  "
_COMMAND = re.compile(r"(?<![\w/-])incident-bridge (?=[a-z])")
_NARROWEST = 12
_MARKS = {"good": "32", "bad": "31", "title": "1"}


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    NO = 1
    USAGE = 2
    UNREACHABLE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where a command prints.

    Attributes:
        config: the file named with --config, so that the commands we suggest name it too; None if none was.
        width: None if nothing is to be cut, because a program or a file reads it.
    """

    out: TextIO
    messages: TextIO
    config: Path | None = None
    is_json: bool = False
    width: int | None = None
    has_colour: bool = False

    def line(self, text: str = "") -> None:
        """Print one line of data; the caller has made it harmless."""
        print(text, file=self.out)

    def say(self, text: str) -> None:
        """Print a message for the person at the terminal; never data."""
        for part in self.advice(text).split("\n"):
            print(visible(part), file=self.messages, flush=True)

    def advice(self, text: str) -> str:
        """Complete the commands in a text, each written as `incident-bridge WORD`, to what works here and now."""
        if self.config is None:
            return text
        return _COMMAND.sub(lambda _: f"incident-bridge --config {shlex.quote(str(self.config))} ", text)

    def json(self, value: Any) -> None:
        """Print one JSON document, pure ASCII, so no terminal interprets it."""
        print(json.dumps(to_jsonable_python(value, fallback=str), indent=2), file=self.out)

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 0) -> None:
        """Print rows under titles; cells are made harmless and cut to the width of the terminal."""
        width = None if self.width is None else self.width - indent
        head, *body = table_lines(titles, rows, width=width)
        self.line(" " * indent + self.marked(head, "title"))
        for text in body:
            self.line(" " * indent + text)

    def title(self, text: str) -> None:
        """Print a heading after an empty line."""
        self.line()
        self.line(self.marked(visible(text), "title"))

    def marked(self, text: str, mark: str) -> str:
        """Colour `text` where colour is wanted."""
        return f"\x1b[{_MARKS[mark]}m{text}\x1b[0m" if self.has_colour else text


def terminal(
    *,
    is_json: bool,
    config: Path | None = None,
    out: TextIO | None = None,
    messages: TextIO | None = None,
) -> Terminal:
    """Describe the terminal that we have; NO_COLOR is honoured (no-color.org)."""
    out, messages = out or sys.stdout, messages or sys.stderr
    is_tty = out.isatty()
    return Terminal(
        out=out,
        messages=messages,
        config=config,
        is_json=is_json,
        width=shutil.get_terminal_size().columns if is_tty else None,
        has_colour=is_tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
    )


def cells(text: str) -> int:
    """How many columns harmless text takes: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def shorten(text: str, width: int) -> str:
    """Cut harmless text to `width` columns, with an ellipsis where something is missing."""
    if cells(text) <= width:
        return text
    kept, used = "", 0
    for character in text:
        used += _cells_of(character)
        if used > width - 1:
            break
        kept += character
    return kept + "…"


def cell(value: object) -> str:
    """One cell's text: harmless, on one line; None is shown as a dash."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return moment(value)
        case _:
            return visible(" ".join(str(value).split("\n")))


def table_lines(titles: Sequence[str], rows: Iterable[Sequence[object]], *, width: int | None) -> list[str]:
    """Lay out a table, its titles first; over-wide tables lose text in their widest columns first."""
    grid = [list(titles), *([cell(value) for value in row] for row in rows)]
    widths = [max(cells(text) for text in column) for column in zip(*grid, strict=True)]
    if width is not None:
        room = width - len(_GAP) * (len(widths) - 1)
        while sum(widths) > room and max(widths) > _NARROWEST:
            widest = widths.index(max(widths))
            widths[widest] -= 1
    return [_row(texts, widths) for texts in grid]


def _row(texts: Sequence[str], widths: Sequence[int]) -> str:
    cut = [shorten(text, width) for text, width in zip(texts, widths, strict=True)]
    return _GAP.join(
        text + " " * (width - cells(text)) for text, width in zip(cut, widths, strict=True)
    ).rstrip()
