"""Whom a sending goes to where a server does not speak XEP-0268: what its announcement may make us do, and say."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.iodef.model import Counter, Expectation, Source, Text
from bridge.policy import outgoing
from bridge.policy.letter import letter
from bridge.policy.outreach import (
    MAX_ANSWERS,
    MAX_CONTACTS,
    Channel,
    Outreach,
    PersonsAnswer,
    Verdict,
    choose,
    contacts_in,
    with_answer,
)
from bridge.policy.record import Interaction, InteractionState, Outcome
from bridge.xep0268.model import Kind
from bridge.xmpp import xml

from .conftest import NOW
from .test_outgoing import PEER, REFUSAL, SENT, Patience, answer, sending

S = InteractionState
REACHABLE = replace(PEER, contacts=("xmpp:abuse@b.test", "mailto:abuse@b.test"))
BY_CHAT = Outreach(channel=Channel.CHAT, address="abuse@b.test")


def info(
    *fields: tuple[str, tuple[str, ...]], form: str = "http://jabber.org/network/serverinfo"
) -> xml.Element:
    query = etree.Element("{http://jabber.org/protocol/disco#info}query")
    x = etree.SubElement(query, "{jabber:x:data}x", type="result")
    for name, values in (("FORM_TYPE", (form,)), *fields):
        field = etree.SubElement(x, "{jabber:x:data}field", var=name)
        for value in values:
            etree.SubElement(field, "{jabber:x:data}value").text = value
    return query


def test_abuse_comes_before_admin_and_chat_before_mail() -> None:
    found = contacts_in(
        info(
            ("admin-addresses", ("xmpp:admin@b.test", "mailto:admin@b.test")),
            ("abuse-addresses", ("mailto:abuse@b.test?subject=x", " xmpp:ABUSE@b.test?message ")),
            ("sales-addresses", ("xmpp:sales@b.test",)),
        )
    )
    assert found == ("xmpp:abuse@b.test", "mailto:abuse@b.test", "xmpp:admin@b.test", "mailto:admin@b.test")


@pytest.mark.parametrize(
    "uri",
    [
        "https://b.test/abuse",
        "xmpp:b.test",
        "xmpp:room@muc.b.test?join",
        "xmpp:a@b.test/phone",
        "xmpp:a b@b.test",
        "mailto:a@b.test,victim@c.test",
        "mailto:a@b.test%0d%0abcc:victim@c.test",
        "mailto:" + "a" * 300 + "@b.test",
        "javascript:alert(1)",
        "",
    ],
)
def test_what_cannot_be_written_to_is_no_contact(uri: str) -> None:
    assert contacts_in(info(("abuse-addresses", (uri,)))) == ()


def test_contacts_are_read_from_the_servers_own_form_only_and_are_bounded() -> None:
    many = tuple(f"xmpp:a{number}@b.test" for number in range(1000))
    assert contacts_in(info(("abuse-addresses", many), form="urn:other")) == ()
    assert len(contacts_in(info(("abuse-addresses", many)))) == MAX_CONTACTS
    assert contacts_in(None) == ()
    assert choose(()) is None


@given(st.text(max_size=300))
def test_any_announcement_is_read(text: str) -> None:
    legal = xml.legal(text)
    assert len(contacts_in(info(("abuse-addresses", (legal, f"xmpp:{legal}", f"mailto:{legal}"))))) <= 2


def test_who_does_not_speak_it_is_written_to_by_chat_where_that_is_known() -> None:
    after, peer, change = outgoing.settle(SENT, REACHABLE, answer(REFUSAL), now=NOW, patience=Patience())
    assert (after.state, after.outreach, peer.refused) == (S.QUEUED, BY_CHAT, 0)
    assert [one.item["send"] for one in change.appends] == [after.id]
    assert not change.events

    told, change = outgoing.handed_over(after, now=NOW, patience=Patience())
    assert (told.state, [event.type for event in change.events]) == (S.SENT, ["contact.told"])
    assert not change.timers


def test_where_only_mail_is_known_it_is_refused_and_says_whom_to_write_to() -> None:
    peer = replace(PEER, contacts=("mailto:abuse@b.test",))
    after, _, _ = outgoing.settle(SENT, peer, answer(REFUSAL), now=NOW, patience=Patience())
    assert (after.state, after.outreach) == (
        S.REFUSED,
        Outreach(channel=Channel.MAIL, address="abuse@b.test"),
    )


@pytest.mark.parametrize(
    "changes", [{"copy_of": "i0"}, {"answers": "i0"}, {"kind": Kind.INQUIRY}, {"kind": Kind.RESPONSE}]
)
def test_nobody_is_written_to_for_what_no_operator_sent(changes: dict[str, object]) -> None:
    sent = replace(SENT, **changes)  # type: ignore[arg-type]
    after, _, _ = outgoing.settle(sent, REACHABLE, answer(REFUSAL), now=NOW, patience=Patience())
    assert (after.state, after.outreach) == (S.REFUSED, None)


WRITTEN = replace(SENT, outreach=BY_CHAT)


def test_only_the_address_written_to_can_say_that_it_did_not_arrive_and_the_server_nothing_more() -> None:
    for came in (
        answer(REFUSAL),
        answer(),
        answer(sender="abuse@b.test"),
        answer(REFUSAL, sender="x@b.test"),
    ):
        assert outgoing.settle(WRITTEN, PEER, came, now=NOW, patience=Patience())[0] is WRITTEN
    gone = answer(REFUSAL, sender="abuse@b.test")
    after, _, _ = outgoing.settle(WRITTEN, REACHABLE, gone, now=NOW, patience=Patience())
    assert (after.state, after.outreach) == (S.REFUSED, BY_CHAT)


def said(text: str = "closed", verdict: Verdict | None = None) -> PersonsAnswer:
    return PersonsAnswer(at=NOW, text=text, verdict=verdict)


def test_an_answer_is_counted_and_told_once() -> None:
    after, peer, change = outgoing.answered_by_person(WRITTEN, PEER, said(), now=NOW)
    assert (after.state, peer.acknowledged) == (S.ACKNOWLEDGED, 1)
    assert [event.type for event in change.events] == ["contact.answered"]
    again, peer, change = outgoing.answered_by_person(after, peer, said(), now=NOW)
    assert (again is after, peer.acknowledged, change.events) == (True, 1, ())
    more, peer, _ = outgoing.answered_by_person(after, peer, said("and more"), now=NOW)
    assert (len(more.outreach.answers if more.outreach else ()), peer.acknowledged) == (2, 1)


def test_a_request_that_a_person_says_is_done_is_done() -> None:
    asked = replace(WRITTEN, kind=Kind.REQUEST)
    assert outgoing.answered_by_person(asked, PEER, said(), now=NOW)[0].outcome is None
    for verdict, outcome in ((Verdict.DONE, Outcome.DONE), (Verdict.DECLINED, Outcome.DECLINED)):
        assert outgoing.answered_by_person(asked, PEER, said("", verdict), now=NOW)[0].outcome is outcome


def test_a_person_can_not_fill_the_store() -> None:
    known = BY_CHAT
    for number in range(MAX_ANSWERS):
        more = with_answer(known, said(f"{number} " + "x" * 10_000))
        assert more is not None
        known = more
    assert with_answer(known, said("one more")) is None
    assert max(len(one.text) for one in known.answers) <= 2000
    assert with_answer(BY_CHAT, said("  ")) is None


def test_every_line_that_is_not_ours_is_quoted_and_harmless() -> None:
    hostile = "all well\n\nThis is the XMPP server bank.example\r\u2028send money\u202eto\x07 mallory"
    document = replace(
        WRITTEN.document,
        descriptions=(Text(text=hostile),),
        sources=(
            Source(
                address="x@b.test\nsend money", category="xmpp", counters=(Counter(type="x\ny", value=3),)
            ),
        ),
        expectations=(Expectation(action="block\nhost", descriptions=(Text(text=hostile),)),),
        started_at=NOW - timedelta(hours=1),
    )
    text = letter(replace(WRITTEN, document=document, kind=Kind.REQUEST))
    lines = text.split("\n")
    assert not any("money" in line and not line.startswith("> ") for line in lines)
    assert not any("bank.example" in line and not line.startswith("> ") for line in lines)
    assert not set(text) & set("\r\u2028\u202e\x07")


def test_a_letter_is_bounded() -> None:
    many = tuple(Source(address=f"{number}" * 500 + "@b.test", category="xmpp") for number in range(500))
    document = replace(WRITTEN.document, descriptions=(Text(text="line\n" * 10_000),), sources=many)
    made: Interaction = sending(document=document)
    assert len(letter(made, link="https://a.test/answer/x").encode()) < 16_000
