"""The XML parser: hostile input, limits, and what a digest does not see."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from bridge.errors import Condition, MalformedError
from bridge.xmpp.xml import Limits, digest, legal, parse, parse_file, serialize

BILLION_LAUGHS = b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><a>&b;</a>'
HOSTILE = {
    "nothing": b"",
    "only white space": b"   ",
    "NUL": b"\x00",
    "two roots": b"<a/><b/>",
    "text after the root": b"<a/>x",
    "not closed": b"<a><b></a>",
    "doctype": b"<!DOCTYPE a><a/>",
    "billion laughs": BILLION_LAUGHS,
    "external entity": b'<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>',
    "parameter entity": b'<!DOCTYPE a [<!ENTITY % f SYSTEM "http://127.0.0.1/x">%f;]><a/>',
    "undeclared entity": b"<a>&nbsp;</a>",
    "comment": b"<a><!-- x --></a>",
    "processing instruction": b"<a><?php x?></a>",
    "declaration": b"<?xml version='1.0'?><a/>",
    "CDATA": b"<a><![CDATA[x]]></a>",
    "UTF-16": "<a/>".encode("utf-16"),
    "latin-1": "<a>ü</a>".encode("latin-1"),
    "overlong UTF-8": b"<a>\xc0\xaf</a>",
    "surrogate": b"<a>\xed\xa0\x80</a>",
    "control character": b"<a>\x01</a>",
    "control character as reference": b"<a>&#1;</a>",
    "U+FFFE": "<a>\ufffe</a>".encode(),
    "undeclared prefix": b"<x:a/>",
    "undeclared attribute prefix": b"<a x:b='1'/>",
    "the same attribute twice": b"<a b='1' b='2'/>",
    "the same attribute twice by prefix": b"<a xmlns:p='u' xmlns:q='u' p:b='1' q:b='2'/>",
    "empty prefix declaration": b"<a xmlns:p=''/>",
    "attribute without quotes": b"<a b=1/>",
}
TOO_LARGE = {
    "bytes": b"<a>" + b"x" * 131072 + b"</a>",
    "elements": b"<a>" + b"<b/>" * 5000 + b"</a>",
    "depth": b"<a>" * 65 + b"</a>" * 65,
    "depth beyond libxml2's": b"<a>" * 250 + b"</a>" * 250,
    "attributes": b"<a " + b" ".join(b"a%d='1'" % i for i in range(65)) + b"/>",
    "namespaces": b"<a " + b" ".join(b"xmlns:a%d='1'" % i for i in range(5001)) + b"/>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_xmpp_forbids_is_malformed(name: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(HOSTILE[name])
    assert caught.value.stanza_error.condition is Condition.BAD_REQUEST
    assert caught.value.rule.isprintable()


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_exceeds_a_limit_violates_the_policy(name: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(TOO_LARGE[name])
    assert caught.value.stanza_error.condition is Condition.POLICY_VIOLATION


def test_what_is_just_within_the_limits_is_parsed() -> None:
    assert len(parse(b"<a>" + b"<b/>" * 4999 + b"</a>")) == 4999
    assert parse(b"<a>" * 64 + b"</a>" * 64).tag == "a"
    assert len(parse(b"<a " + b" ".join(b"a%d='1'" % i for i in range(64)) + b"/>").attrib) == 64


def test_limits_are_an_argument() -> None:
    with pytest.raises(MalformedError):
        parse(b"<a><b><c/></b></a>", limits=Limits(max_depth=2))


def test_a_file_may_have_what_editors_write() -> None:
    data = b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>\n<!-- c --><a>x<!-- c -->y<?p q?>z<![CDATA[<]]></a>"
    root, dropped = parse_file(data)
    assert serialize(root) == b"<a>xyz&lt;</a>"
    assert dropped == ("1 comment(s) dropped", "1 processing instruction(s) dropped")


@pytest.mark.parametrize(
    "data", [BILLION_LAUGHS, b"<!-- x --><!DOCTYPE a><a/>", b"<a/><!-- <!DOCTYPE a> -->"]
)
def test_a_file_never_has_a_document_type(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_file(data)


def test_serialising_leaves_out_what_follows_the_element() -> None:
    assert serialize(parse(b"<a><b/>tail</a>")[0]) == b"<b/>"


def test_characters_that_xml_cannot_carry_are_replaced() -> None:
    text = legal("a\x00b\ud800c\ufffed")
    assert text == "a\ufffdb\ufffdc\ufffdd"
    etree.Element("a").text = text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"<a b='1' c='2'/>", b'<a  c="2"  b="1"></a>'),
        (b"<a xmlns='u'><b/></a>", b"<p:a xmlns:p='u'><p:b/></p:a>"),
        (b"<a>&amp;&#65;</a>", b"<a>&#x26;A</a>"),
        (b"<a><b/></a>", b"<a>\n  <b/>\n</a>"),
        (b"<a xmlns:unused='u'/>", b"<a/>"),
    ],
)
def test_a_digest_is_equal_for_what_says_the_same(one: bytes, other: bytes) -> None:
    assert digest(parse(one)) == digest(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"<a b='1'/>", b"<a b='2'/>"),
        (b"<a>x</a>", b"<a> x</a>"),
        (b"<a><b/>x</a>", b"<a>x<b/></a>"),
        (b"<a><b/><c/></a>", b"<a><b><c/></b></a>"),
        (b"<a xmlns='u'/>", b"<a xmlns='v'/>"),
        (b"<a><b/><c/></a>", b"<a><c/><b/></a>"),
        (b"<a b='c'/>", b"<a>b=c</a>"),
    ],
)
def test_a_digest_differs_for_what_says_something_else(one: bytes, other: bytes) -> None:
    assert digest(parse(one)) != digest(parse(other))


NAMES = st.sampled_from(["a", "b", "{u}a", "{u}b", "{v}c"])
TEXTS = st.text(st.sampled_from("ab \n<&\"'é"), max_size=5)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> etree._Element:
    element = etree.Element(draw(NAMES), draw(st.dictionaries(NAMES, TEXTS, max_size=3)))
    element.text = draw(TEXTS)
    for _ in range(draw(st.integers(0, 3 if depth else 0))):
        child = draw(trees(depth - 1))
        child.tail = draw(TEXTS)
        element.append(child)
    return element


def reordered(element: etree._Element, number: int) -> etree._Element:
    """The same with attributes in reverse order and other prefixes."""
    copy = etree.Element(element.tag, nsmap={f"p{number}": "u", f"q{number}": "v"})
    for name, value in reversed(element.items()):
        copy.set(name, value)
    copy.text, copy.tail = element.text, element.tail
    copy.extend(reordered(child, number + 1) for child in element)
    return copy


@settings(max_examples=60, deadline=None)
@given(trees())
def test_a_digest_survives_serialising_in_another_way(tree: etree._Element) -> None:
    one = parse(serialize(reordered(tree, 0)))
    other = parse(serialize(reordered(one, 100)))
    assert digest(one) == digest(other) == digest(tree)


PIECES = st.lists(
    st.sampled_from(
        [b"<a>", b"</a>", b"<a/>", b"<b c='1'", b">", b"&lt;", b"&#0;", b"<!--", b"-->", b"<?", b"]]>"]
    )
    | st.binary(max_size=8),
    max_size=12,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | PIECES)
def test_any_bytes_are_an_element_or_malformed(data: bytes) -> None:
    for read in (parse, parse_file):
        try:
            read(data)
        except MalformedError as error:
            assert error.rule  # noqa: PT017 — either outcome is right
