"""Who is shown what: the table of audiences, and that nothing else is ever shown."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.iodef.model import IncidentId, Restriction
from bridge.policy.decide import decide
from bridge.policy.disclosure import Inquiries, audience, choose, redacted, reread
from bridge.policy.record import Edition, Incident, Interaction, Way, incident_id
from bridge.policy.trust import Trust
from bridge.xep0268.model import Kind, Status
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.stanza import read_iq

from .conftest import NOW, SECURE, Rules, arrival_of, deciding, stanza

PUBLIC, NEED, PRIVATE, DEFAULT = (
    Restriction.PUBLIC,
    Restriction.NEED_TO_KNOW,
    Restriction.PRIVATE,
    Restriction.DEFAULT,
)
REPORTER, TOLD, PARTY, OTHER = "b.test", "told.test", "clueless.lit", "other.test"
IDENTITY = IncidentId(name="jabber.org", text="4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF")


def incident(restriction: Restriction = NEED, *, reporter: str = REPORTER, **changes: object) -> Incident:
    made = Incident(
        id=incident_id("a.test", reporter, IDENTITY),
        host="a.test",
        reporter=reporter,
        identity=IDENTITY,
        status=Status.NEW,
        quarantined=False,
        severity=None,
        summary="",
        created_at=NOW,
        updated_at=NOW,
        editions=(Edition(interaction_id="i1", received_at=NOW, status=Status.NEW),),
        restriction=restriction,
        parties=(PARTY,),
        told=(TOLD,),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


P, T = Inquiries.PARTIES, Inquiries.TRUSTED
NO = None
TABLE = [
    # asker, its trust, the rule: what it is shown of a public, need-to-know, default, private incident
    (REPORTER, Trust.STRANGER, P, [PRIVATE, PRIVATE, PRIVATE, PRIVATE]),
    (REPORTER, Trust.TRUSTED, T, [PRIVATE, PRIVATE, PRIVATE, PRIVATE]),
    (REPORTER, Trust.BLOCKED, T, [NO, NO, NO, NO]),
    (TOLD, Trust.STRANGER, P, [NEED, NEED, NEED, NO]),  # its reporter made it private since
    (TOLD, Trust.BLOCKED, P, [NO, NO, NO, NO]),
    (PARTY, Trust.STRANGER, P, [NEED, NEED, NEED, NO]),
    (PARTY, Trust.BLOCKED, T, [NO, NO, NO, NO]),
    (OTHER, Trust.STRANGER, P, [PUBLIC, NO, NO, NO]),
    (OTHER, Trust.STRANGER, T, [PUBLIC, NO, NO, NO]),
    (OTHER, Trust.TRUSTED, P, [PUBLIC, NO, NO, NO]),
    (OTHER, Trust.TRUSTED, T, [NEED, NEED, NEED, NO]),
    (OTHER, Trust.BLOCKED, T, [NO, NO, NO, NO]),
    ("sub.clueless.lit", Trust.STRANGER, P, [PUBLIC, NO, NO, NO]),
]


@pytest.mark.parametrize(("asker", "trust", "rule", "expected"), TABLE)
def test_an_audience_is_shown_what_the_table_says(
    asker: str, trust: Trust, rule: Inquiries, expected: list[Restriction | None]
) -> None:
    shown = [audience(incident(one), asker, trust, rule) for one in (PUBLIC, NEED, DEFAULT, PRIVATE)]
    assert shown == expected


ASKERS = st.sampled_from([REPORTER, TOLD, PARTY, OTHER, "jabber.org", "a.test"])
TRUSTS = st.sampled_from(Trust)
RULES = st.sampled_from(Inquiries)


@given(ASKERS, TRUSTS, RULES, st.sampled_from(Restriction))
def test_what_lies_in_quarantine_is_shown_to_its_reporter_only(
    asker: str, trust: Trust, rule: Inquiries, restriction: Restriction
) -> None:
    shown = audience(incident(restriction, quarantined=True), asker, trust, rule)
    assert shown is None or (asker == REPORTER and trust is not Trust.BLOCKED)


@given(ASKERS, TRUSTS, RULES)
def test_what_is_private_is_shown_to_its_reporter_and_if_it_is_ours_to_those_we_told(
    asker: str, trust: Trust, rule: Inquiries
) -> None:
    assert audience(incident(PRIVATE), asker, trust, rule) is None or asker == REPORTER
    own = incident(PRIVATE, reporter="a.test")
    assert audience(own, asker, trust, rule) is None or asker in {TOLD, "a.test"}


@given(ASKERS, RULES, st.sampled_from(Restriction), st.booleans())
def test_the_blocked_are_shown_nothing_and_trust_never_shows_less(
    asker: str,
    rule: Inquiries,
    restriction: Restriction,
    quarantined: bool,  # noqa: FBT001
) -> None:
    one = incident(restriction, quarantined=quarantined)
    order = {None: -1, PUBLIC: 0, DEFAULT: 1, NEED: 1, PRIVATE: 2}
    blocked, stranger, trusted = (
        audience(one, asker, trust, rule) for trust in (Trust.BLOCKED, Trust.STRANGER, Trust.TRUSTED)
    )
    assert blocked is None
    assert order[stranger] <= order[trusted]


def test_our_own_account_is_chosen_before_the_newest() -> None:
    own = incident(reporter="a.test")
    newer = incident(PUBLIC, updated_at=NOW + timedelta(days=1))
    for accounts in ([own, newer], [newer, own]):
        assert choose(accounts, "Jabber.org", PARTY, Trust.STRANGER, P) == (own, NEED)
        assert choose(accounts, "", OTHER, Trust.STRANGER, P) == (newer, PUBLIC)
        assert choose(accounts, "other.name", PARTY, Trust.STRANGER, P) is None
    assert choose([], "", PARTY, Trust.TRUSTED, T) is None


def asked(name: str, *, sender: str = OTHER, text: str = IDENTITY.text) -> dict[str, object]:
    """An inquiry in its lane."""
    return {
        "id": "q1",
        "inquiry": {"name": name, "text": text, "instance": None},
        "sender": sender,
        "iq_id": "x9",
        "trust": "stranger",
        "authentication": "certificate",
    }


def told_of(text: str, **changes: object) -> Interaction:
    """The report of b.test as stored, with its bytes."""
    from bridge.policy.admit import admit

    from .conftest import state

    arrival = arrival_of(text.encode(), id="i1", stream=SECURE)
    _, change = admit(state(trust=Trust.TRUSTED), arrival, now=NOW)
    record = change.puts[0].after
    assert isinstance(record, Interaction)
    return replace(record, **changes)  # type: ignore[arg-type]


def answers(
    one: Incident, report: Interaction, item: dict[str, object]
) -> tuple[list[str], list[Interaction]]:
    """The stanzas in the order in which they go out, and the reports of ours among them."""
    domain = str(item["sender"]).partition("/")[0].rpartition("@")[2]
    before = deciding(report, incidents={one.id: one}, accounts={IDENTITY.text: (one.id,)})
    before = replace(before, peers={domain: replace(before.peers["b.test"], domain=domain, asked_at=NOW)})
    _, change = decide(before, item, now=NOW)
    sent = [put.after for put in change.puts if isinstance(put.after, Interaction)]
    return [str(append.item.get("stanza") or append.item.get("send")) for append in change.appends], sent


def test_unknown_and_not_allowed_get_the_same_answer() -> None:
    report = told_of(stanza())
    not_allowed = answers(incident(), report, asked("jabber.org"))
    assert not_allowed == answers(incident(), report, asked("nobody.example"))
    assert not_allowed == answers(incident(), report, asked("", text="no such text"))
    assert "item-not-found" in not_allowed[0][0]
    assert len(not_allowed[0]) == 1


def test_an_inquiry_is_answered_with_a_result_and_then_the_report() -> None:
    report = told_of(stanza())
    item = {**asked("jabber.org", sender=PARTY), "trust": Trust.TRUSTED.value}
    stanzas, (sent,) = answers(incident(), report, item)
    assert "result" in stanzas[0]
    assert stanzas[1:] == [sent.id]
    assert (sent.kind, sent.peer, sent.way) == (Kind.REPORT, PARTY, Way.SENT)


def test_a_strangers_inquiry_is_answered_the_same_and_nothing_of_it_is_kept() -> None:
    report = told_of(stanza())
    stanzas, sent = answers(incident(), report, asked("jabber.org", sender=PARTY))
    assert "result" in stanzas[0]
    assert "<report" in stanzas[1]
    assert sent == []


def test_asking_twice_shows_no_more_than_asking_once() -> None:
    report = told_of(stanza())
    one = incident(PUBLIC, told=())
    before = deciding(report, incidents={one.id: one}, accounts={IDENTITY.text: (one.id,)})
    after, _ = decide(before, asked("jabber.org", sender=OTHER), now=NOW)
    known = after.incidents[one.id]
    assert known is not None
    assert audience(known, OTHER, Trust.STRANGER, P) is PUBLIC
    assert known.told == ()


def test_a_resource_does_not_make_somebody_else_of_a_user() -> None:
    report = told_of(stanza())
    item = asked("jabber.org", sender=f"juliet@{OTHER}/x@{PARTY}")
    before = deciding(
        report, incidents={incident().id: incident()}, accounts={IDENTITY.text: (incident().id,)}
    )
    _, change = decide(before, item, now=NOW)
    assert [append.item.get("send") for append in change.appends] == [None]


def test_what_a_quarantined_edition_says_is_not_disclosed() -> None:
    report = told_of(stanza())
    forged = Edition(interaction_id="forged", received_at=NOW, status=Status.UPDATED, quarantined=True)
    one = incident(editions=(*incident().editions, forged))
    item = {**asked("jabber.org", sender=PARTY), "trust": Trust.TRUSTED.value}
    _, (sent,) = answers(one, report, item)
    assert sent.document == report.document


SECRET = "<AdditionalData restriction='private' dtype='string'>SECRET</AdditionalData>"


@pytest.mark.parametrize("level", [PUBLIC, NEED, PRIVATE])
def test_a_child_with_a_stricter_restriction_stays_here(level: Restriction) -> None:
    report = told_of(stanza().replace("</Incident>", f"{SECRET}</Incident>"))
    payload = redacted(report, level, host="a.test", status="new")
    assert (b"SECRET" in payload) is (level is PRIVATE)
    iq = f"<iq from='a.test' to='c.test' id='1' type='set'>{payload.decode()}</iq>"
    reading = read(read_iq(xml.parse(iq.encode())))
    assert (reading.status, reading.incident.identity) == (Status.NEW, IDENTITY)
    assert reading.repairs == ()
    assert reading.incident.sources == report.document.sources


@pytest.mark.parametrize("kind", [Kind.REPORT, Kind.REQUEST, Kind.RESPONSE])
def test_a_stored_document_is_read_again_as_it_was(kind: Kind) -> None:
    report = told_of(stanza(kind=kind))
    assert reread(report).incident == report.document
    payload = redacted(report, PRIVATE, host="a.test", status="updated")
    sent = replace(report, way=Way.SENT, kind=Kind.REPORT, original=payload)
    assert reread(sent).incident == replace(report.document, status="updated")


def test_without_its_bytes_a_document_cannot_be_read_again() -> None:
    with pytest.raises(ValueError, match="i1"):
        reread(told_of(stanza(), original=None))


def test_the_rules_of_the_tests_are_the_default_ones() -> None:
    from bridge.config import PolicySettings

    settings = PolicySettings()
    assert (Rules().inquiries, Rules().answer_seconds) == (settings.inquiries, settings.answer_seconds)
