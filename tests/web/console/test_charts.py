"""Pictures of numbers, whatever the numbers and their labels are."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.web.console import charts
from bridge.web.console.charts import Bar

Draw = Callable[..., str]
bars = st.lists(
    st.builds(Bar, label=st.text(), value=st.integers(min_value=-5, max_value=10**12)), max_size=60
)
drawn = st.sampled_from([charts.columns, charts.ranked])


def parsed(text: str) -> etree._Element:
    return etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False))


@given(drawn, bars, st.text(), st.text())
def test_a_picture_is_well_formed_and_says_what_it_shows(
    draw: Draw, numbers: list[Bar], title: str, text: str
) -> None:
    root = parsed(draw(numbers, name="n", title=title, text=text))
    assert {one.tag for one in root.iter()} <= {"svg", "title", "desc", "rect", "line", "text"}
    assert [root.find("title").get("id"), root.find("desc").get("id")] == root.get("aria-labelledby").split()
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for words in root.itertext():
        assert not {unicodedata.category(one) for one in words} & hidden


@given(drawn, bars)
def test_nothing_leaves_the_view_box(draw: Draw, numbers: list[Bar]) -> None:
    root = parsed(draw(numbers, name="n", title="t", text="d"))
    _, _, wide, high = map(float, root.get("viewBox").split())
    for one in (*root.iter("rect"), *(each for each in root.iter("svg") if each is not root)):
        x, y, width, height = (float(one.get(name)) for name in ("x", "y", "width", "height"))
        assert -0.01 <= x <= x + width <= wide + 0.01
        assert -0.01 <= y <= y + height <= high + 0.01
    for text in root.iter("text"):  # each in a box that cuts it off
        box = text.getparent()
        assert (box is not root, box.get("overflow")) == (True, "hidden")
    for line in root.iter("line"):
        assert float(line.get("x2")) <= wide
        assert 0 <= float(line.get("y1")) <= high


@given(bars.filter(len))
def test_bars_are_as_long_as_their_numbers_say(numbers: list[Bar]) -> None:
    root = parsed(charts.ranked(numbers, name="n", title="t", text="d"))
    widths = [float(one.get("width")) for one in root.iter("rect")]
    longest, most = max(widths), max(bar.value for bar in numbers)
    for bar, width in zip(numbers, widths, strict=True):
        expected = longest * max(0, bar.value) / most if most > 0 else 0
        assert width == pytest.approx(expected, abs=0.02)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=40))
def test_a_strip_has_a_square_for_each_state(states: list[tuple[str, str]]) -> None:
    root = parsed(charts.strip(states, title="t"))
    kinds = {one.get("class") for one in root.iter("rect")}
    assert len(list(root.iter("rect"))) == len(states)
    assert kinds <= {"cell delivered", "cell pending", "cell dead"}


@given(st.integers(min_value=0, max_value=10**12))
def test_an_axis_ends_at_an_even_number_not_far_above_the_highest(most: int) -> None:
    top = charts.scale(most)
    assert top >= most
    assert top % 2 == 0
    assert top <= max(2, 2.01 * most)
