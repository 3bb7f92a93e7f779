"""JIDs: what Prosody accepts, checked against a second implementation where the two RFCs agree."""

import idna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from precis_i18n import get_profile

from bridge.errors import MalformedError
from bridge.xmpp.jid import Jid, prep_domain, shown

LEGAL = {  # RFC 7622 §3.5, as RFC 6122 prepares them
    "juliet@example.com": "juliet@example.com",
    "juliet@example.com/foo": "juliet@example.com/foo",
    "juliet@example.com/foo bar": "juliet@example.com/foo bar",
    "juliet@example.com/foo@bar": "juliet@example.com/foo@bar",
    "foo\\20bar@example.com": "foo\\20bar@example.com",
    "fussball@example.com": "fussball@example.com",
    "fu\u00dfball@example.com": "fussball@example.com",
    "\u03c0@example.com": "\u03c0@example.com",
    "\u03a3@example.com/foo": "\u03c3@example.com/foo",
    "\u03c3@example.com/foo": "\u03c3@example.com/foo",
    "\u03c2@example.com/foo": "\u03c3@example.com/foo",
    "king@example.com/\u265a": "king@example.com/\u265a",
    "example.com": "example.com",
    "example.com/foobar": "example.com/foobar",
    "a.example.com/b@example.net": "a.example.com/b@example.net",
    "EXAMPLE.com.": "example.com",
    "Juliet@Example.COM/Foo": "juliet@example.com/Foo",
    "_xmpp.example.com": "_xmpp.example.com",
    "B\u00dcCHER.example": "b\u00fccher.example",
    "[::1]": "[::1]",
    "192.0.2.1": "192.0.2.1",
}
ILLEGAL = [
    '"juliet"@example.com',
    "foo bar@example.com",
    "@example.com",
    "@example.com/foo",
    "juliet@",
    "/foobar",
    "",
    "juliet@example.com/",
    "a@b@c.d",
    "a@b..c",
    "a@.b",
    "a@b c",
    "a@b\n",
    "a@b\x00",
    "a&b@c.d",
    "a@" + "b" * 64,
    "a" * 1024 + "@b",
    "a@b/" + "c" * 1024,
    "\ufdfa" * 300 + "@b",
    "a@b\uff0fc",
    "a\uff20b@c.d",
    "[::1",
    "[junk]",
    "a@\u2100.example",
    "\u05d0a@b",
    "\ud800@b",
    "a@b/\u200e",
]
# What both RFCs leave as it is: not ß, which Prosody folds to ss, and nothing younger than Unicode 3.2.
UNCHANGED_LOCAL = "abz019!#$%*+-.=?^_`{|}~\\()[];,éñøπжд中文かな"
UNCHANGED_LABEL = "abz019éñøπжд中文かな"


@pytest.mark.parametrize("text", LEGAL)
def test_a_legal_jid_is_prepared(text: str) -> None:
    assert str(Jid.parse(text)) == LEGAL[text]


@pytest.mark.parametrize("text", ILLEGAL)
def test_an_illegal_jid_is_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        Jid.parse(text)


def test_a_server_is_a_domain_alone() -> None:
    assert Jid.parse("a.example").is_domain
    assert not Jid.parse("a@a.example").is_domain
    assert not Jid.parse("a.example/x").is_domain
    assert Jid.parse("A@a.example/X").bare == "a@a.example"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"[a-zA-Zß.@/ -]{1,20}", fullmatch=True))
def test_any_text_is_a_jid_or_malformed_and_preparing_twice_changes_nothing(text: str) -> None:
    try:
        jid = Jid.parse(text)
    except MalformedError as error:
        assert error.rule.isprintable()  # noqa: PT017 — either outcome is right
        return
    assert Jid.parse(str(jid)) == jid


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from(UNCHANGED_LOCAL), min_size=1, max_size=10))
def test_what_precis_leaves_alone_we_leave_alone(local: str) -> None:
    prepared = get_profile("UsernameCaseMapped").enforce(local)
    assume(prepared == local)
    assert Jid.parse(f"{local}@b").local == local


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from(UNCHANGED_LABEL), min_size=1, max_size=12))
def test_a_valid_domain_label_is_kept(label: str) -> None:
    assert prep_domain(label) == idna.decode(idna.encode(label)) == label


def test_foreign_text_in_messages_is_short_and_printable() -> None:
    assert shown("a\n\u202eb") == "a\ufffd\ufffdb"
    assert len(shown("x" * 5000)) == 81
