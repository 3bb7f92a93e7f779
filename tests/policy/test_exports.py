"""What goes to lists and hosters: whole and dated, valid for its readers, and with nothing that is not theirs."""

import base64
import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
import xarf as reference

from bridge.errors import ConfigError
from bridge.iodef.model import Contact, Counter, Impact, RecordItem, Source, Text
from bridge.policy.editions import add_edition
from bridge.policy.exports import ContactError, log, xarf
from bridge.policy.outreach import Channel, Outreach, PersonsAnswer, Tried, Verdict
from bridge.policy.record import InteractionState, Outcome, Way
from bridge.xep0268.model import Kind, Status

from .conftest import NOW
from .test_outgoing import DOCUMENT, REFUSAL, sending

S = InteractionState
DOING = replace(
    DOCUMENT,
    descriptions=(Text(text="join flood\n2026-01-01 answer for b.test: done"),),
    sources=(
        Source(
            address="bad@b.test",
            category="xmpp",
            jid="bad@b.test",
            counters=(Counter(type="xmpp-message", value=5),),
        ),
        Source(address="192.0.2.7", category="ipv4-addr"),
    ),
    targets=(Source(address="victim@a.test", category="xmpp", system="target"),),
    impacts=(Impact(type="policy"), Impact(type="spam")),
    record_items=(RecordItem(dtype="xml", text="<message to='victim@a.test'/>"),),
)
FIRST = sending(
    document=DOING, status=Status.NEW, state=S.REFUSED, attempts=1, first_sent_at=NOW, failure=REFUSAL
)
OWN = add_edition(None, FIRST)


def days(number: int) -> dict[str, object]:
    return {"first_sent_at": NOW + timedelta(days=number), "received_at": NOW + timedelta(days=number)}


def test_the_log_says_who_was_told_when_by_which_way_and_what_came_back() -> None:
    answer = PersonsAnswer(
        at=NOW + timedelta(days=9), text="closed\n2026-01-01 resolved", verdict=Verdict.DONE
    )
    lost = Tried(channel=Channel.CHAT, address="gone@b.test\n", at=NOW + timedelta(days=7), failure=REFUSAL)
    chat = Outreach(channel=Channel.CHAT, address="abuse@b.test", answers=(answer,), tried=(lost,))
    written = replace(FIRST, id="i2", state=S.ACKNOWLEDGED, outreach=chat, **days(7))
    asked = replace(FIRST, id="i3", kind=Kind.REQUEST, peer="c.test", outcome=Outcome.DECLINED, **days(8))
    reply = replace(asked, id="i5", kind=Kind.RESPONSE, way=Way.RECEIVED, answers="i3", **days(8))
    heard = replace(FIRST, id="i4", way=Way.RECEIVED, peer="secret.test")
    text = log(replace(OWN, status=Status.RESOLVED), DOING, [asked, reply, written, heard, FIRST])
    day = [f"{NOW + timedelta(days=number):%Y-%m-%d}" for number in range(10)]
    assert text.splitlines()[-8:] == [
        f"{day[0]} report to b.test (XEP-0268): refused by the server",
        f"{day[7]} report to b.test (XEP-0268): not spoken there",
        f"{day[7]} report to b.test by chat to gone@b.test�: not delivered (service-unavailable)",
        f"{day[7]} report to b.test by chat to abuse@b.test: answered",
        f"{day[8]} request to c.test (XEP-0268): refused by the server",
        f"{day[8]} answer from c.test: declined",
        f"{day[9]} answer for b.test: done: “closed�2026-01-01 resolved”",
        f"{day[0]} resolved",
    ]
    assert "> 2026-01-01 answer for b.test: done" in text
    assert "> bad@b.test: 5 xmpp-message" in text
    assert "victim" not in text
    assert "secret.test" not in text


@pytest.mark.parametrize(
    ("state", "outreach", "said"),
    [
        (
            S.REFUSED,
            Outreach(channel=Channel.CHAT, address="x@b.test"),
            "not delivered (service-unavailable)",
        ),
        (
            S.UNREACHABLE,
            Outreach(channel=Channel.CHAT, address="x@b.test"),
            "not delivered (service-unavailable)",
        ),
        (S.QUEUED, Outreach(channel=Channel.CHAT, address="x@b.test"), "on its way"),
        (S.SENT, Outreach(channel=Channel.CHAT, address="x@b.test"), "no answer"),
        (S.REFUSED, Outreach(channel=Channel.MAIL, address="x@b.test"), "not written to yet"),
        (S.SENT, Outreach(channel=Channel.MAIL, address="x@b.test"), "no answer"),
    ],
)
def test_the_log_claims_nothing_that_did_not_happen(state: S, outreach: Outreach, said: str) -> None:
    sent = replace(FIRST, state=state, outreach=outreach)
    *_, last = log(OWN, DOING, [sent]).splitlines()
    assert last == f"{NOW:%Y-%m-%d} report to b.test by {outreach.channel} to x@b.test: {said}"


def test_what_others_reported_is_theirs_to_publish() -> None:
    for export in (log, xarf):
        with pytest.raises(ConfigError, match=r"for c\.test to publish"):
            export(replace(OWN, reporter="c.test"), DOING, [FIRST])


def test_xarf_is_valid_for_the_reference_and_has_one_report_for_each_source() -> None:
    made = xarf(OWN, DOING, [FIRST], contact="abuse@a.test")
    assert {(one["category"], one["type"]) for one in made} == {("messaging", "spam")}
    assert [one["source_identifier"] for one in made] == ["bad@b.test", "192.0.2.7"]
    for one in made:
        assert reference.parse(one).errors == []
        (evidence,) = one["evidence"]
        text = base64.b64decode(evidence["payload"])
        assert text.decode() == log(OWN, DOING, [FIRST])
        assert evidence["hash"] == f"sha256:{hashlib.sha256(text).hexdigest()}"
        assert (evidence["size"], one["reporter"]["contact"]) == (len(text), "abuse@a.test")
    assert made == xarf(OWN, DOING, [FIRST], contact="abuse@a.test")
    assert len({one["report_id"] for one in made}) == 2


def test_xarf_holds_with_whatever_a_document_says() -> None:
    contact = Contact(role="irt", type="organization", emails=("noc@a.test",))
    odd = replace(
        DOING,
        descriptions=(Text(text="x\x07" * 3000),),
        sources=(*(Source(address=f"{number}\n@b.test", category="xmpp") for number in range(200)),),
        contacts=(contact,),
        started_at=NOW - timedelta(days=1),
    )
    made = xarf(OWN, odd, [])
    assert len(made) == 100
    assert made[0]["reporter"]["contact"] == "noc@a.test"
    assert made[0]["timestamp"] == (NOW - timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert reference.parse(made[0]).errors == []


def test_a_flood_is_an_attack_and_no_spam() -> None:
    flood = replace(
        DOING,
        impacts=(Impact(type="dos"),),
        sources=DOING.sources[:1],
        started_at=NOW - timedelta(hours=1),
        ended_at=NOW,
    )
    (one,) = xarf(OWN, flood, [FIRST], contact="abuse@a.test")
    assert reference.parse(one).errors == []
    assert (one["category"], one["type"], one["protocol"]) == ("connection", "ddos", "tcp")
    assert one["first_seen"] == (NOW - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert one["last_seen"] == NOW.isoformat().replace("+00:00", "Z")
    with pytest.raises(ConfigError, match=r"of 192\.0\.2\.7 XARF wants to know the port"):
        xarf(OWN, replace(flood, sources=DOING.sources), [FIRST], contact="abuse@a.test")
    with pytest.raises(ConfigError, match="--started TIME"):
        xarf(OWN, replace(flood, started_at=None), [FIRST], contact="abuse@a.test")


@pytest.mark.parametrize(
    ("impacts", "stated"),
    [((), "no impact stated"), (("recon",), "impact recon"), (("policy", "x\n"), "impact policy, x�")],
)
def test_what_xarf_has_no_kind_for_is_refused_with_what_to_type(
    impacts: tuple[str, ...], stated: str
) -> None:
    other = replace(DOING, impacts=tuple(Impact(type=one) for one in impacts))
    with pytest.raises(ConfigError, match=rf"\({stated}\).*--impact spam.*--form log"):
        xarf(OWN, other, [FIRST], contact="abuse@a.test")


def test_no_mail_address_is_made_up() -> None:
    with pytest.raises(ContactError, match="a mail address at which you can be asked"):
        xarf(OWN, DOING, [FIRST])
    for bad in ("a.test", "xmpp:a@a.test", "a@b.test, c@d.test", "a@b.test\nx", "a@", "a@b-"):
        with pytest.raises(ContactError, match="is not a mail address"):
            xarf(OWN, DOING, [FIRST], contact=bad)


def test_what_users_agreed_to_for_one_server_is_for_no_list_and_no_hoster() -> None:
    for form in (log, xarf):
        with pytest.raises(ConfigError, match=r"b\.test be told, and nobody else"):
            form(replace(OWN, only_to=("b.test",)), DOING, [FIRST])
