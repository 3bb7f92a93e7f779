"""Pictures of numbers as SVG: columns over time, ranked bars, a strip of states.

House rules: pure; whatever the labels are, what comes out is well-formed and nothing leaves the viewBox; colours are
classes, so that light and dark are the style sheet's; a picture has a title and a description, and a table beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from bridge.log import visible

_WIDTH: Final = 480
_LINE: Final = 13  # the size of the letters
_MOST_LABEL: Final = 80
# columns
_HEIGHT: Final = 200
_LEFT: Final = 44
_TOP: Final = 12
_FLOOR: Final = 168
_GAP: Final = 0.2  # of a column's room
# ranked bars
_ROW: Final = 28
_NAMES: Final = 168
_NUMBERS: Final = 62
_SPACE: Final = 8
_MOST_NAME: Final = 24
# strips
_CELL: Final = 10
_STATES: Final = frozenset({"delivered", "pending", "dead"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One number; `label` may be hostile text."""

    label: str
    value: int


def columns(bars: Sequence[Bar], *, name: str, title: str, text: str) -> Markup:
    """Columns from left to right, with the labels of the first, the middle and the last.

    Args:
        bars: numbers below 0 count as 0.
        name: unique on the page, of letters and hyphens.
        title: what is seen.
        text: the same in words, for who does not see it.
    """
    top = scale(max((bar.value for bar in bars), default=0))
    drawn = [_grid(top, part) for part in (0, 1, 2)]
    room = (_WIDTH - _LEFT) / max(1, len(bars))
    for number, bar in enumerate(bars):
        height = (_FLOOR - _TOP) * max(0, bar.value) / top
        drawn.append(
            _rect(_LEFT + room * (number + _GAP / 2), _FLOOR - height, room * (1 - _GAP), height, bar)
        )
    for number, anchor in _marks(len(bars)):
        drawn.append(_under(bars[number].label, anchor))
    return _picture(drawn, height=_HEIGHT, name=name, title=title, text=text)


def ranked(bars: Sequence[Bar], *, name: str, title: str, text: str) -> Markup:
    """Bars under each other, each with its label at the left and its number at the end."""
    most = max([1, *(bar.value for bar in bars)])
    widest = _WIDTH - _NAMES - _NUMBERS - 2 * _SPACE
    drawn = []
    for number, bar in enumerate(bars):
        y = number * _ROW
        width = widest * max(0, bar.value) / most
        drawn.append(_boxed(_end(visible(bar.label)), 0, y, _NAMES, _ROW, anchor="end"))
        drawn.append(_rect(_NAMES + _SPACE, y + 5, width, _ROW - 10, bar))
        drawn.append(
            _boxed(_short(bar.value), _NAMES + 2 * _SPACE + width, y, _NUMBERS, _ROW, anchor="start")
        )
    return _picture(drawn, height=max(1, len(bars)) * _ROW, name=name, title=title, text=text)


def strip(states: Sequence[tuple[str, str]], *, title: str) -> Markup:
    """Small squares, one for each (state, text); a state is `delivered`, `pending` or `dead`."""
    cells = []
    for number, (state, text) in enumerate(states):
        known = state if state in _STATES else "pending"
        shape = Markup('<rect class="{}" x="{}" y="0" width="{}" height="16" rx="2">{}</rect>')
        cells.append(shape.format(f"cell {known}", number * _CELL, _CELL - 2, _titled(text)))
    width = max(1, len(states)) * _CELL
    start = Markup('<svg class="strip" role="img" width="{0}" height="16" viewBox="0 0 {0} 16">{1}')
    return start.format(width, _titled(title)) + Markup("").join(cells) + Markup("</svg>")


def scale(most: int) -> int:
    """The number at the top of the axis: at least `most`, even, and easy to read."""
    top = 2
    while top < most:
        for step in (2, 4, 6, 10, 20):
            if top * step // 2 >= most:
                return top * step // 2
        top *= 10
    return top


def _end(label: str) -> str:
    """The end of a label, which says of a server whose it is."""
    return label if len(label) <= _MOST_NAME else f"…{label[1 - _MOST_NAME :]}"


def _short(value: int) -> str:
    """A number in a few characters: 950, 12.3k, 4.1M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if value >= size:
            shown = value / (1000 if unit == "k" else size)
            return f"{min(shown, 9999):.3g}{unit}" if shown < 1000 else f"{min(shown, 99999):.0f}{unit}"  # noqa: PLR2004
    return str(value)


def _marks(number: int) -> list[tuple[int, str]]:
    """Which columns are labelled, and how the text lies."""
    if number < 1:
        return []
    if number == 1:
        return [(0, "start")]
    middle = [(number // 2, "middle")] if number > 2 else []  # noqa: PLR2004 - two have no middle
    return [(0, "start"), *middle, (number - 1, "end")]


def _under(label: str, anchor: str) -> Markup:
    """A label under the columns: at the left, in the middle or at the right."""
    room = (_WIDTH - _LEFT) / 3
    x = _LEFT + {"start": 0, "middle": 1, "end": 2}[anchor] * room
    return _boxed(label, x, _FLOOR + 2, room, _HEIGHT - _FLOOR - 2, anchor=anchor)


def _grid(top: int, part: int) -> Markup:
    """A line across at 0, half and all of the axis, with its number."""
    y = _FLOOR - (_FLOOR - _TOP) * part / 2
    line = Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    number = _boxed(_short(top * part // 2), 0, y - 10, _LEFT - 6, 20, anchor="end")
    return line.format(_LEFT, _number(y), _WIDTH, _number(y)) + number


def _boxed(label: str, x: float, y: float, width: float, height: float, *, anchor: str) -> Markup:
    """A line of text in a box that cuts off what does not fit, however wide its letters are."""
    short = label if len(label) <= _MOST_LABEL else f"{label[: _MOST_LABEL - 1]}…"
    at = {"start": 0, "middle": width / 2, "end": width}[anchor]
    shape = Markup(
        '<svg x="{}" y="{}" width="{}" height="{}" overflow="hidden">'
        '<text class="{}" x="{}" y="{}" font-size="{}" text-anchor="{}">{}</text></svg>'
    )
    where = (_number(x), _number(y), _number(width), _number(height))
    return shape.format(
        *where, "label", _number(at), _number(height / 2 + _LINE / 3), _LINE, anchor, _shown(short)
    )


def _rect(x: float, y: float, width: float, height: float, bar: Bar) -> Markup:
    shape = Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}" rx="1.5">{}</rect>')
    where = (_number(x), _number(y), _number(width), _number(height))
    return shape.format(*where, _titled(f"{bar.label}: {bar.value}"))


def _picture(drawn: Sequence[Markup], *, height: int, name: str, title: str, text: str) -> Markup:
    start = Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {}" aria-labelledby="{}-title {}-text">'
        '<title id="{}-title">{}</title><desc id="{}-text">{}</desc>'
    )
    named = escape(name)
    head = start.format(_WIDTH, height, named, named, named, _shown(title), named, _shown(text))
    return head + Markup("").join(drawn) + Markup("</svg>")


def _titled(text: str) -> Markup:
    return Markup("<title>{}</title>").format(_shown(text[: 4 * _MOST_LABEL]))


def _shown(text: str) -> Markup:
    return escape(visible(text))


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
