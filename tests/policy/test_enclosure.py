"""What goes along with a letter for programs: whom it may name, what it says, and that nothing else gets in."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.iodef.model import Counter, Impact, IncidentId, RecordItem, Source, Text
from bridge.iodef.model import Incident as Document
from bridge.iodef.read import read
from bridge.policy import abuse, outgoing
from bridge.policy.abuse import UserReport
from bridge.policy.abuse_record import AbuseKind
from bridge.policy.admit import Returned
from bridge.policy.change import Change
from bridge.policy.enclosure import MAX_REPORTS, MAX_TEXT_BYTES, Reason, reports
from bridge.policy.outreach import Channel, Outreach
from bridge.policy.record import Interaction, incident_id
from bridge.policy.replies import take_answer
from bridge.xep0268.model import Kind, Status
from bridge.xep0268.write import write
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import read_iq, write_message

from .conftest import NOW, SECURE, state
from .test_abuse_drafts import heard, report
from .test_outgoing import sending

REPORT = "{urn:xmpp:reporting:1}"
JID = "{urn:xmpp:jid:0}jid"


def written(document: Document, **changes: object) -> Interaction:
    """The interaction that tells a contact of b.test of a document, read back as it is stored."""
    payload = write(
        Kind.REPORT, document, reported_at=NOW, contact="a.test", restriction=None, status=Status.NEW
    )
    view = read(payload[0], default_name="a.test", purpose="reporting", only_id_required=False).incident
    made = sending(
        document=view,
        incident_id=incident_id("a.test", "a.test", view.identity),
        outreach=Outreach(channel=Channel.CHAT, address="abuse@b.test"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def about(*addresses: str, **changes: object) -> Document:
    sources = tuple(Source(address=one, category="xmpp") for one in addresses)
    made = Document(identity=IncidentId(name="a.test", text="4711"), sources=sources)
    return replace(made, **changes)  # type: ignore[arg-type]


def told(interaction: Interaction) -> list[tuple[str | None, str | None, str | None]]:
    """JID, reason and text of each report, as a program reads them."""
    messages = [
        xml.parse(write_message(one, to="abuse@b.test", id="x").encode()) for one in reports(interaction)
    ]
    assert all([len(message), len(message[0])] == [1, 2] for message in messages)
    return [
        (one[0].findtext(JID), one[0].get("reason"), one[0].findtext(f"{REPORT}text")) for one in messages
    ]


def test_an_account_is_reported_in_our_words() -> None:
    [one] = told(written(about("spammer@b.test")))
    assert one == ("spammer@b.test", Reason.ABUSE, "a.test reports this account. Our reference: 4711")


def test_only_accounts_of_the_server_itself_are_reported_each_once_and_not_too_many() -> None:
    others = (
        "b.test",
        "x@c.test",
        "x@sub.b.test",
        "room@b.test/nick",
        "x@b.test.c.test",
        "@b.test",
        "192.0.2.1",
    )
    assert told(written(about(*others))) == []
    twice = about("x@b.test", "X@B.test", "y@b.test")
    assert [jid for jid, _, _ in told(written(twice))] == ["x@b.test", "y@b.test"]
    many = about(*(f"x{number}@b.test" for number in range(100)))
    assert len(told(written(many))) == MAX_REPORTS
    targets = about(targets=(Source(address="x@b.test", category="xmpp", system="target"),))
    assert told(written(targets)) == []
    names = about(sources=(Source(address="x@b.test", category="e-mail"),))
    assert told(written(names)) == []


def test_of_what_is_over_nobody_is_reported() -> None:
    made = written(about("x@b.test"))
    assert reports(replace(made, status=Status.RESOLVED)) == ()
    assert len(reports(replace(made, status=Status.UPDATED))) == 1
    assert len(reports(replace(made, kind=Kind.REQUEST, status=None))) == 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(AbuseKind.SPAM, Reason.SPAM), (AbuseKind.ABUSE, Reason.ABUSE), (AbuseKind.OTHER, Reason.ABUSE)],
)
def test_what_users_called_spam_is_spam_and_their_number_is_told(kind: AbuseKind, reason: Reason) -> None:
    (draft,) = heard([report("alice", kind=kind), report("bob", kind=kind)]).drafts.values()
    made = written(abuse.document(draft, with_words=False))
    reference = abuse.identity(draft).text
    text = f"2 users of a.test reported this account. Our reference: {reference}"
    assert told(made) == [("spam@b.test", reason, text)]


def test_what_the_release_before_stored_is_abuse() -> None:
    (draft,) = heard([report()]).drafts.values()
    old = replace(abuse.document(draft, with_words=False), impacts=(Impact(type="policy"),))
    assert [reason for _, reason, _ in told(written(old))] == [Reason.ABUSE]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, -1.0, 0.0])
def test_a_number_of_users_that_is_none_is_not_told(value: float) -> None:
    counters = (Counter(type="event", value=value, meaning="reports by users"),)
    made = written(about("x@b.test"))
    sources = (replace(made.document.sources[0], counters=counters),)
    assert "a.test reports" in str(told(replace(made, document=replace(made.document, sources=sources))))


def test_another_server_does_not_say_how_many_of_our_users_reported() -> None:
    (draft,) = heard([report()]).drafts.values()
    theirs = incident_id("a.test", "c.test", abuse.identity(draft))
    made = written(abuse.document(draft, with_words=False), incident_id=theirs)
    assert "user" not in str(told(made))


_USER_REPORTS = st.builds(
    UserReport,
    reporter=st.sampled_from(["alice@a.test", "bob@a.test", "carol@a.test"]),
    jid=st.sampled_from([Jid.parse(f"{name}@b.test") for name in ("x", "y", "z", "boss")]),
    kind=st.just(AbuseKind.SPAM),
    text=st.sampled_from(["", "buy now, dear alice", "</text><jid>quiet@b.test</jid>"]),
    stanza_ids=st.just(("archive-1",)),
    may_go_to_origin=st.booleans(),
    may_go_to_others=st.booleans(),
    is_own=st.just(False),  # noqa: FBT003 - the value itself
    is_admin=st.booleans(),
    at=st.just(NOW),
)


@given(given_reports=st.lists(_USER_REPORTS, min_size=1, max_size=12), with_words=st.booleans())
def test_nobody_is_reported_of_whom_no_user_agreed_that_it_be_passed_on(
    *, given_reports: list[UserReport], with_words: bool
) -> None:
    (draft,) = heard(given_reports).drafts.values()
    found = told(written(abuse.document(draft, with_words=with_words)))
    counted: dict[tuple[str, str], UserReport] = {}
    for one in given_reports:  # a user counts once about each
        counted.setdefault((one.reporter, one.jid.bare), one)
    agreed = {one.jid.bare for one in counted.values() if one.may_go_to_origin and not one.is_admin}
    admins = {
        jid for jid, is_admin in {one.jid.bare: one.is_admin for one in counted.values()}.items() if is_admin
    }
    assert {jid for jid, _, _ in found} == agreed - admins
    for hidden in ("alice", "bob", "carol", "buy", "archive", "<"):
        assert hidden not in str(found)


@given(
    st.text(max_size=300).filter(str.strip),
    st.lists(st.text(max_size=50), max_size=30),
    st.text(max_size=60),
)
def test_whatever_a_document_holds_its_reports_are_bounded_and_in_our_words(
    identifier: str, locals_: list[str], words: str
) -> None:
    secret = f"secret {words}"
    made = written(
        about(
            *(f"{one}@b.test" for one in locals_),
            "x@b.test",
            identity=IncidentId(name="a.test", text=identifier.strip()),
            descriptions=(Text(text=secret),),
            record_items=(RecordItem(dtype="string", text=secret),),
        )
    )
    found = told(made)
    assert 1 <= len(found) <= MAX_REPORTS
    for jid, _, text in found:
        assert str(jid).endswith("@b.test")
        assert text is not None
        assert len(text.encode()) <= MAX_TEXT_BYTES
        assert "secret" not in text.partition("Our reference: ")[0]
        assert text.startswith("a.test reports this account. ")
        assert "\n" not in text


def test_a_text_is_short_enough_for_the_module_whatever_our_names() -> None:
    made = written(about("x@b.test", identity=IncidentId(name="a.test", text="\U0001f4a3" * 1000)))
    [report_] = reports(replace(made, host="a" * 1023))
    assert len((report_.findtext(f"{REPORT}text") or "").encode()) <= MAX_TEXT_BYTES


def test_what_comes_back_for_a_report_is_nothing_to_anybody_and_costs_its_server_nothing() -> None:
    refused = (
        f"<iq from='abuse@b.test' to='a.test' id='{outgoing.REPORT_PREFIX}i1-1' type='error'>"
        "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
    before = state()
    returned = Returned(id="r", iq=read_iq(xml.parse(refused.encode())), stream=SECURE)
    assert take_answer(before, returned, now=NOW) == (before, Change())
