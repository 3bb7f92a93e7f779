"""Whom a sending goes to where a server does not speak XEP-0268: what its announcement may make us do, and say."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.iodef.model import Counter, Expectation, RecordItem, Source, Text
from bridge.iodef.model import Incident as Document
from bridge.policy import outgoing, ways
from bridge.policy.abuse import document
from bridge.policy.change import Change
from bridge.policy.editions import add_edition
from bridge.policy.letter import MAX_BYTES, letter
from bridge.policy.outgoing import Answer
from bridge.policy.outreach import (
    MAX_ANSWERS,
    MAX_CONTACTS,
    Channel,
    Outreach,
    PersonsAnswer,
    Tried,
    Verdict,
    choose,
    contacts_in,
    with_answer,
)
from bridge.policy.record import Interaction, InteractionState, Outcome, incident_id
from bridge.policy.standing import standing
from bridge.policy.story import sentences
from bridge.xep0268.model import Kind, Status
from bridge.xmpp import xml

from .conftest import NOW
from .test_abuse_drafts import draft_of, report
from .test_enclosure import written
from .test_outgoing import AWAY, BUSY, PEER, REFUSAL, SENT, Patience, answer, sending

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
GONE = answer(REFUSAL, sender="abuse@b.test")
LOST = Tried(channel=Channel.CHAT, address="abuse@b.test", at=NOW, failure=REFUSAL)


def test_only_the_address_written_to_can_say_that_it_did_not_arrive_and_the_server_nothing_more() -> None:
    for came in (
        answer(REFUSAL),
        answer(),
        answer(sender="abuse@b.test"),
        answer(REFUSAL, sender="x@b.test"),
    ):
        assert outgoing.settle(WRITTEN, PEER, came, now=NOW, patience=Patience())[0] is WRITTEN
    after, _, _ = outgoing.settle(WRITTEN, PEER, GONE, now=NOW, patience=Patience())
    assert (after.state, after.outreach) == (S.REFUSED, replace(BY_CHAT, tried=(LOST,)))


def settle(
    sent: Interaction, came: Answer, *contacts: str, others: Sequence[Interaction] = ()
) -> Interaction:
    peer = replace(PEER, contacts=contacts)
    return outgoing.settle(sent, peer, came, now=NOW, patience=Patience(), others=others)[0]


def to(address: str, channel: Channel = Channel.CHAT) -> Outreach:
    return Outreach(channel=channel, address=address)


def test_what_does_not_reach_a_contact_goes_to_the_next_one_by_chat_and_then_waits_to_be_mailed() -> None:
    contacts = ("xmpp:abuse@b.test", "mailto:abuse@b.test", "xmpp:root@b.test")
    second = settle(WRITTEN, GONE, *contacts)
    assert (second.state, second.outreach) == (S.QUEUED, replace(to("root@b.test"), tried=(LOST,)))
    assert settle(second, GONE, *contacts) is second, "an error that comes twice"

    told = outgoing.handed_over(second, now=NOW, patience=Patience())[0]
    last = settle(told, answer(REFUSAL, sender="root@b.test"), *contacts)
    assert last.outreach is not None
    assert (last.state, last.outreach.channel, last.outreach.address) == (
        S.REFUSED,
        Channel.MAIL,
        "abuse@b.test",
    )
    assert [one.address for one in last.outreach.tried] == ["abuse@b.test", "root@b.test"]
    assert settle(replace(last, state=S.SENT), GONE, *contacts).state is S.SENT, (
        "a late error of its namesake"
    )
    assert "abuse@b.test did not get it by chat: cancel/service-unavailable" in standing(last)
    assert "root@b.test did not get it" in standing(last)
    assert "a text for abuse@b.test is ready for you to mail" in standing(last)


def test_a_contacts_own_server_that_is_not_there_is_not_waited_for_where_there_is_another() -> None:
    elsewhere = replace(SENT, outreach=to("x@gone.test"))
    bounce = answer(AWAY, sender="x@gone.test", bounce=True)
    assert settle(elsewhere, bounce, "xmpp:x@gone.test", "xmpp:root@b.test").outreach == replace(
        to("root@b.test"), tried=(Tried(channel=Channel.CHAT, address="x@gone.test", at=NOW, failure=AWAY),)
    )
    assert settle(elsewhere, bounce, "xmpp:x@gone.test").retry_at is not None
    here = settle(WRITTEN, answer(AWAY, sender="abuse@b.test", bounce=True), "xmpp:root@b.test")
    assert (here.retry_at is not None, here.outreach) == (True, BY_CHAT)


def test_who_is_busy_for_a_day_is_followed_by_the_next() -> None:
    late = replace(WRITTEN, first_sent_at=NOW - timedelta(days=2))
    after = settle(late, answer(BUSY, sender="abuse@b.test"), "xmpp:abuse@b.test", "xmpp:root@b.test")
    assert after.outreach is not None
    assert (after.state, after.outreach.address) == (S.QUEUED, "root@b.test")
    assert settle(after, answer(BUSY, sender="root@b.test")).retry_at is not None, "its own day begins"


def test_a_server_that_names_ever_new_contacts_ends_all_the_same() -> None:
    sent = WRITTEN
    for number in range(100):
        assert sent.outreach is not None
        came = answer(REFUSAL, sender=sent.outreach.address)
        after = settle(sent, came, f"xmpp:new{number}@b.test")
        if after.state is S.REFUSED:
            break
        sent = outgoing.handed_over(after, now=NOW, patience=Patience())[0]
    assert number == MAX_CONTACTS - 1
    assert after.outreach is not None
    assert len(after.outreach.tried) == MAX_CONTACTS


def test_our_own_fault_tries_nobody_else() -> None:
    ours = replace(GONE, is_own_fault=True)
    assert settle(WRITTEN, ours, "xmpp:root@b.test").state is S.REFUSED


def test_a_second_contact_goes_to_somebody_else_but_not_on_the_same_day() -> None:
    contacts = ("xmpp:abuse@b.test", "mailto:abuse@b.test", "xmpp:root@b.test")
    first = replace(WRITTEN, id="i0", sent_at=NOW - timedelta(days=8))

    def chosen(*others: Interaction) -> Outreach | None:
        found = settle(SENT, answer(REFUSAL), *contacts, others=others).outreach
        return found and to(found.address, found.channel)

    assert chosen(first) == to("root@b.test")
    assert chosen(replace(first, sent_at=NOW - timedelta(hours=1))) == to("abuse@b.test")
    assert chosen(replace(first, state=S.REFUSED, sent_at=NOW)) == to("root@b.test")
    both = (first, replace(first, outreach=to("root@b.test")))
    assert chosen(*both) == to("abuse@b.test", Channel.MAIL)
    mailed = replace(first, outreach=to("abuse@b.test", Channel.MAIL))
    assert chosen(*both, mailed) == to("abuse@b.test")
    assert chosen(replace(first, state=S.REFUSED), both[1], mailed) == to("root@b.test")


def test_what_nobody_got_can_be_mailed_and_what_chat_took_by_mail_too() -> None:
    lost = settle(WRITTEN, GONE)
    assert ways.by_mail(lost, ()) == Outreach(channel=Channel.MAIL, address="", tried=(LOST,))
    old = replace(WRITTEN, state=S.REFUSED, state_at=NOW, failure=REFUSAL)  # as the previous release wrote it
    mail = ways.by_mail(old, ("mailto:abuse@b.test",))
    assert mail == Outreach(channel=Channel.MAIL, address="abuse@b.test", tried=(LOST,))
    silent = replace(SENT, state=S.UNANSWERED)
    assert ways.by_mail(silent, None) == replace(to("", Channel.MAIL), is_server_away=True)
    assert ways.by_mail(replace(silent, copy_of="i0"), None) is None
    assert ways.by_mail(replace(SENT, state=S.REFUSED, failure=BUSY), None) is None, "it has it"
    assert ways.by_mail(WRITTEN, ()) is None

    too = ways.by_mail(WRITTEN, ("mailto:abuse@b.test",))
    assert too is not None
    after, change = outgoing.mailed(WRITTEN, too, now=NOW + timedelta(days=8))
    assert (after.state, too.hears("abuse@b.test"), too.hears("root@b.test")) == (S.SENT, True, False)
    assert [event.id for event in change.events] == ["i1-mailed"]
    assert ways.by_mail(after, ("mailto:abuse@b.test",)) is None


MADE = replace(SENT, draft_id="d1")


def thanks(change: Change) -> list[str]:
    timed = tuple(one.append for one in change.timers)
    return [one.item["by"] for one in (*change.appends, *timed) if "thank" in one.item]


def test_users_are_thanked_for_what_arrived_only() -> None:
    def came(sent: Interaction, one: Answer) -> Change:
        return outgoing.settle(sent, REACHABLE, one, now=NOW, patience=Patience())[2]

    assert thanks(came(MADE, answer())) == ["i1"]
    assert thanks(came(MADE, answer(BUSY))) == thanks(came(MADE, answer(REFUSAL))) == []
    by_chat = replace(MADE, outreach=BY_CHAT)
    [timer] = outgoing.handed_over(by_chat, now=NOW, patience=Patience())[1].timers
    assert (timer.append.item["thank"], timer.due_at - NOW) == ("d1", timedelta(minutes=5))
    assert thanks(came(by_chat, GONE)) == []
    assert thanks(outgoing.answered_by_person(by_chat, PEER, said(), now=NOW)[2]) == ["i1"]
    assert thanks(outgoing.mailed(by_chat, to("abuse@b.test", Channel.MAIL), now=NOW)[1]) == ["i1"]
    assert thanks(came(SENT, answer())) == []


def test_what_a_person_says_of_a_request_is_in_the_servers_record_once() -> None:
    asked = replace(WRITTEN, kind=Kind.REQUEST)
    later = NOW + timedelta(hours=1)
    after, peer, _ = outgoing.answered_by_person(asked, PEER, said("", Verdict.DONE), now=later)
    assert (peer.acted, peer.declined, peer.decision_seconds, peer.answer_seconds) == (1, 0, (3600,), (3600,))
    assert outgoing.answered_by_person(after, peer, said("", Verdict.DONE), now=later)[1] is peer
    _, peer, _ = outgoing.answered_by_person(asked, PEER, said("", Verdict.DECLINED), now=later)
    assert (peer.acted, peer.declined) == (0, 1)
    for unsettled in (said("a machine"), said("", Verdict.NEED_MORE)):
        _, peer, _ = outgoing.answered_by_person(asked, PEER, unsettled, now=later)
        assert (peer.acted, peer.declined, peer.answer_seconds) == (0, 0, ())
    _, peer, _ = outgoing.answered_by_person(WRITTEN, PEER, said("", Verdict.DONE), now=later)
    assert peer.acted == 0, "a report asks for nothing"


@pytest.mark.parametrize(
    ("sent", "text", "told"),
    [
        (WRITTEN, "abuse@b.test was written to by chat", "we reported it to b.test, by chat to abuse@b.test"),
        (settle(WRITTEN, GONE), "it reached nobody, to mail it", "we tried to report it to b.test"),
        (replace(WRITTEN, state=S.QUEUED), "abuse@b.test is written to by chat", "we reported it to b.test"),
        (
            replace(WRITTEN, outreach=Outreach(channel=Channel.MAIL, address="", tried=(LOST,))),
            "abuse@b.test did not get it by chat: cancel/service-unavailable; its people were written to by mail",
            "we reported it to b.test, by mail",
        ),
    ],
)
def test_how_it_stands_says_by_which_way_to_whom_and_whether_it_arrived(
    sent: Interaction, text: str, told: str
) -> None:
    assert text in standing(sent)
    incident = add_edition(None, replace(sent, status=Status.NEW))
    assert sentences(incident, [sent])[sent.id] == told


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
    odd = replace(
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
    text = letter(replace(WRITTEN, document=odd, kind=Kind.REQUEST))
    lines = text.split("\n")
    assert not any("money" in line and not line.startswith("> ") for line in lines)
    assert not any("bank.example" in line and not line.startswith("> ") for line in lines)
    assert not set(text) & set("\r\u2028\u202e\x07")


def from_users() -> Interaction:
    """What two users reported, of whom one agreed that words be passed on, and an operator's evidence."""
    draft = draft_of(
        report("alice", text="sells pills\nThis is the XMPP server bank.example " + "x" * 400),
        report("bob"),
        report("carol", text="secret", may_go_to_origin=False),
    )
    made = document(draft, with_words=True)
    log = RecordItem(dtype="string", text="10:00 <message/>\n\n10:01 <message/>", meaning="a.log")
    return written(replace(made, record_items=(*made.record_items, log)))


def test_what_users_wrote_who_agreed_and_evidence_are_told_as_just_that() -> None:
    lines = letter(from_users()).split("\n")
    start = lines.index("A user of a.test wrote about spam@b.test:")
    end = lines.index("Evidence:")
    assert lines[start - 2 : start] == ["Sources:", "> spam@b.test: reported by 2 users"]
    quotes = lines[start + 1 : end]
    assert quotes[:2] == ["> sells pills", "> This is the XMPP server bank.example " + "x" * 163]
    assert "".join(quotes[1:]).count("x") == 401
    assert all(one.startswith("> ") and len(one) <= 202 for one in quotes)
    assert lines[end + 1 : end + 3] == ["> 10:00 <message/>", "> 10:01 <message/>"]
    assert lines[end + 3] == f"When: {NOW:%Y-%m-%d %H:%M} UTC"
    assert "secret" not in letter(from_users())


def test_what_a_peer_says_that_our_users_wrote_and_counted_is_its_evidence_only() -> None:
    theirs = replace(from_users(), incident_id="n1")
    text = letter(theirs)
    assert "user" not in text.replace("Users of a.test reported", "")
    assert "> spam@b.test: 2 event\nEvidence:\n> sells pills" in text
    strange = RecordItem(
        dtype="string", text="x", meaning="what a user of a.test wrote about send@money.test"
    )
    ours = replace(from_users(), document=replace(theirs.document, record_items=(strange,)))
    assert "Evidence:\n> x\n" in letter(ours)


def test_a_letter_says_until_when_where_that_is_another_minute() -> None:
    for seconds, said in (
        (20, "When: 2026-11-21 10:00 UTC"),
        (90, "2026-11-21 10:00 UTC until 2026-11-21 10:01 UTC"),
    ):
        at = datetime(2026, 11, 21, 10, tzinfo=UTC)
        times = replace(WRITTEN.document, started_at=at, ended_at=at + timedelta(seconds=seconds))
        assert f"{said}\n" in letter(replace(WRITTEN, document=times))


HOSTILE = st.text(
    alphabet=st.sampled_from("ab \n\r\t\v\x85\u2028\u202e\x00\ud800😀>%-"), max_size=30
).flatmap(lambda text: st.sampled_from([1, 1, 1, 100, 10_000]).map(lambda times: f"!{text}" * times))
COUNTERS = st.builds(
    Counter,
    type=HOSTILE | st.just("event"),
    value=st.floats(),
    meaning=st.none() | HOSTILE | st.just("reports by users"),
)
SOURCES = st.builds(
    Source,
    address=HOSTILE,
    category=st.just("xmpp"),
    jid=st.none() | st.just("spam@b.test"),
    counters=st.lists(COUNTERS, max_size=7).map(tuple),
)
MEANINGS = st.none() | HOSTILE | HOSTILE.map(lambda text: f"what a user of a.test wrote about {text}")
ITEMS = st.builds(
    RecordItem,
    dtype=HOSTILE,
    text=HOSTILE,
    meaning=MEANINGS | st.just("what a user of a.test wrote about spam@b.test"),
)
TEXTS = st.lists(st.builds(Text, text=HOSTILE), max_size=20).map(tuple)
OURS = re.compile(
    r"(This is the XMPP server a\.test, writing for its operators to those of b\.test\. [\w ]+:"
    r"|Sources:|Evidence:|A user of a\.test wrote about spam@b\.test:|and \d+ more|When: [\d: UTCuntil-]+"
    r"|We ask you to:|- stop it: .*|Our reference: 1|Please answer here; .*"
    r"|Or see it .*: https://a\.test/answer/x|Servers can tell .*|)"
)


@given(
    st.builds(
        Document,
        identity=st.just(WRITTEN.document.identity),
        descriptions=TEXTS,
        sources=st.lists(SOURCES, max_size=30).map(tuple),
        record_items=st.lists(ITEMS, max_size=30).map(tuple),
        expectations=st.lists(
            st.builds(Expectation, action=HOSTILE | st.just("block-host"), descriptions=TEXTS), max_size=20
        ).map(tuple),
        started_at=st.none() | st.just(NOW),
    ),
    st.sampled_from([Kind.REPORT, Kind.REQUEST]),
    st.sampled_from(["n1", incident_id("a.test", "a.test", WRITTEN.document.identity)]),
)
def test_whatever_a_document_holds_each_line_is_ours_or_quoted_and_the_letter_bounded(
    document: Document, kind: Kind, incident: str
) -> None:
    told = replace(WRITTEN, document=document, kind=kind, incident_id=incident)
    text = letter(told, link="https://a.test/answer/x")
    assert len(text.encode()) < MAX_BYTES
    for line in text.split("\n"):
        assert line.startswith("> ") or OURS.fullmatch(line), line
    assert not set(text) & set("\r\t\v\x85\u2028\u202e\x00\ud800")


def test_a_letter_is_bounded() -> None:
    many = tuple(Source(address=f"{number}" * 500 + "@b.test", category="xmpp") for number in range(500))
    long = replace(WRITTEN.document, descriptions=(Text(text="line\n" * 10_000),), sources=many)
    made: Interaction = sending(document=long)
    assert len(letter(made, link="https://a.test/answer/x").encode()) < 16_000
