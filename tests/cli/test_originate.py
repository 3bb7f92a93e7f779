"""`report|inquire|request|respond` on a real store, with workers' work done in this process."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bridge.iodef.model import Restriction
from bridge.policy.record import Interaction, incident_id
from bridge.policy.trust import Rule, Trust
from bridge.xmpp import xml
from bridge.xmpp.stanza import PeerError

HOST = "im.flosoft.biz"
PEER = "jabber.org"
VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "xep0268"
ADD = Callable[..., list[Interaction]]
FAILED = PeerError(type="cancel", condition="service-unavailable", text="")


@pytest.fixture
def cli(run: Any, configuration: str) -> Callable[..., Any]:
    """Runs a command with the configuration of this test."""
    return lambda *words: run(*words, config=configuration)


def shown(cli: Any, incident: str) -> Any:
    return cli("--json", "incidents", "show", incident).json()


def test_a_report_from_options_is_queued_to_each_peer_and_sent(cli: Any, world: Any) -> None:
    printed = cli(
        "report", "--to", "A.example", "b.example", "--description", "flood", "--source", "Bad@clueless.lit=12",
        "--target", "room@muc.example", "--impact", "dos", "--severity", "high", "--id", "one",
        "--started", "2026-11-21T10:00:00Z", "--contact", "admin@im.flosoft.biz", "--related", "x.example/77",
    )  # fmt: skip
    world.work()

    assert printed.code == 0
    assert [line.split()[1:] for line in printed.out.splitlines()] == [
        ["report", "to", "a.example", "queued"],
        ["report", "to", "b.example", "queued"],
    ]
    (own,) = cli("--json", "incidents", "list", "--own").json()["incidents"]
    assert (own["identity"]["name"], own["identity"]["text"], own["status"]) == (HOST, "one", "new")
    assert own["told"] == ["a.example", "b.example"]
    asked, *_ = world.prosody.stanzas
    assert "disco#info" in asked
    reports = [text for text in world.prosody.stanzas if "<report" in text]
    assert len(reports) == 2
    assert "bad@clueless.lit" in reports[0]
    assert ">12</Counter>" in reports[0]
    assert ">new</AdditionalData>" in reports[0]
    assert 'restriction="need-to-know"' in reports[0]


def test_the_same_identifier_again_updates_the_incident_for_all_who_have_it(cli: Any, world: Any) -> None:
    cli("report", "--to", "a.example", "b.example", "--description", "flood", "--id", "one")
    (own,) = cli("--json", "incidents", "list").json()["incidents"]

    printed = cli("report", "--incident", own["id"][:8], "--severity", "low")
    world.work()

    assert len(printed.out.splitlines()) == 2
    after = shown(cli, own["id"])
    assert (after["incident"]["status"], after["incident"]["severity"]) == ("updated", "low")
    assert [one["status"] for one in after["interactions"]] == ["new", "new", "updated", "updated"]
    assert after["interactions"][-1]["document"]["descriptions"][0]["text"] == "flood"


def test_a_file_goes_out_whole(cli: Any, world: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    file.write_bytes(
        (VECTORS / "report.xml")
        .read_bytes()
        .replace(
            b"</Incident>",
            b"<AdditionalData dtype='xml'><z xmlns='urn:example:z'>kept</z></AdditionalData></Incident>",
        )
    )

    printed = cli("report", "--to", "a.example", "--file", str(file))
    world.work()

    assert printed.code == 0
    assert "Repaired before it is sent" in printed.messages
    assert "jabber.org" in printed.messages
    (sent,) = [text for text in world.prosody.stanzas if "<report" in text]
    assert "urn:example:z" in sent
    assert "abuser@clueless.lit" in sent


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "--description", "x"], "--to DOMAIN"),
        (["report", "--to", "a.example"], "--description"),
        (["report", "--to", HOST, "--description", "x"], "this host itself"),
        (["report", "--to", "a@b.example", "--description", "x"], "not a domain name"),
        (["report", "--to", "a.example", "--file", "no-such.xml"], "cannot be read"),
        (["report", "--to", "a.example", "--file", __file__], "cannot be sent"),
        (["report", "--to", "a.example", "--file", str(VECTORS / "report.xml"), "--id", "x"], "--file has everything"),
        (["report", "--to", "a.example", "--file", str(VECTORS / "inquiry.xml")], "an inquiry"),
        (["report", "--to", "a.example", "--source", "@x"], "not a JID"),
        (["report", "--to", "a.example", "--started", "yesterday"], "a time like"),
        (["request", "--to", "a.example", "--description", "x"], "--action"),
        (["inquire", "--to", "a.example", "--id", "no-name"], "NAME/TEXT"),
        (["inquire", "--to", "a.example"], "required"),
        (["respond", "abc"], "required"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_says_what_to_type(cli: Any, world: Any, words: list[str], said: str) -> None:
    printed = cli(*words)

    assert printed.code == 2
    assert said in printed.messages
    assert "configuration" not in printed.messages
    world.work()
    assert world.prosody.stanzas == []


def test_too_much_evidence_is_refused_before_anything_is_stored(cli: Any, world: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("<" * 60_000)  # five times as large in XML

    assert cli("report", "--to", "a.example", "--description", "x", "--evidence", str(log)).code == 2
    assert cli("--json", "incidents", "list").json()["incidents"] == []


def waiting(cli: Any, world: Any, answers: dict[str, PeerError | None], *words: str) -> Any:
    """Runs a command that waits, while the workers work and peers answer."""
    done: list[Any] = []
    thread = Thread(target=lambda: done.append(cli("--json", *words, "--wait", "5")))
    thread.start()
    while thread.is_alive():
        world.work()
        for text in [one for one in world.prosody.stanzas if "disco#info" not in one]:
            world.prosody.stanzas.remove(text)
            iq = xml.parse(text.encode())
            peer = iq.get("to") or ""
            if peer in answers:
                world.answer((iq.get("id") or "").removeprefix("ib-"), peer=peer, failure=answers[peer])
        thread.join(0.02)
    return done[0]


def test_waiting_ends_well_only_if_all_acknowledged(cli: Any, world: Any) -> None:
    words = ["report", "--description", "flood", "--to", "a.example"]
    good = waiting(cli, world, {"a.example": None}, *words)
    mixed = waiting(cli, world, {"a.example": None, "b.example": FAILED}, *words, "b.example")

    assert good.code == 0
    assert [one["state"] for one in good.json()["interactions"]] == ["acknowledged"]
    assert mixed.code == 1
    assert [one["state"] for one in mixed.json()["interactions"]] == ["acknowledged", "refused"]
    assert mixed.json()["interactions"][1]["failure"]["condition"] == "service-unavailable"


def test_where_only_a_mail_address_is_known_a_text_is_ready_and_what_was_mailed_is_noted(
    cli: Any, world: Any
) -> None:
    mail = ("mailto:abuse@c.example",)
    asked = datetime.now(UTC)
    world.change_peer("c.example", lambda peer: replace(peer, contacts=mail, announces=False, asked_at=asked))
    words = [
        "report",
        "--description",
        "flood\x1b[31m of joins",
        "--source",
        "bad@c.example=7",
        "--to",
        "c.example",
    ]
    (sent,) = waiting(cli, world, {"c.example": FAILED}, *words).json()["interactions"]
    assert (sent["outreach"]["channel"], sent["outreach"]["address"]) == ("mail", "abuse@c.example")
    assert f"incident-bridge letter {sent['id']}" in cli("incidents", "show", sent["incident"]).out

    printed = cli("letter", sent["id"])
    assert printed.out.startswith(
        "To: abuse@c.example\nSubject: Report from im.flosoft.biz about c.example: "
    )
    assert "> bad@c.example: 7" in printed.out
    assert "\x1b" not in printed.out

    assert "no answer yet" in cli("letter", sent["id"], "--sent").out
    assert cli("letter", sent["id"], "--sent").code == 0
    assert cli("incidents", "due").messages.startswith("Nothing is due; later: 1")
    (due,) = cli("--json", "incidents", "due", "--all").json()["due"]
    assert (due["peer"], due["step"], due["times"]) == ("c.example", "remind", 1)
    assert due["command"] in cli("incidents", "due", "--all").out
    assert due["command"] in cli("incidents", "show", sent["incident"]).out
    story = shown(cli, sent["incident"])["interactions"]
    assert [(one["state"], one["failure"]) for one in story if one["id"] == sent["id"]] == [("sent", None)]


def test_there_is_a_letter_only_for_what_went_to_people(cli: Any, world: Any) -> None:
    cli("report", "--to", "a.example", "--description", "x")
    world.work()
    (own,) = cli("--json", "incidents", "list", "--own").json()["incidents"]
    (sent,) = shown(cli, own["id"])["interactions"]

    assert shown(cli, own["id"])["next"] == []  # a.example is no source of it
    for name, code in ((sent["id"], 2), ("nothing", 1)):
        assert cli("letter", name).code == code
        assert cli("letter", name, "--sent").code == code


def test_what_nobody_could_be_reached_with_is_a_letter_all_the_same(cli: Any, world: Any) -> None:
    words = ["report", "--description", "x", "--source", "bad@c.example=7", "--to", "c.example"]
    (sent,) = waiting(cli, world, {"c.example": FAILED}, *words).json()["interactions"]

    printed = cli("letter", sent["id"])
    assert printed.out.startswith("To: \nSubject: Report from ")
    assert "c.example announces no mail address; you may know one." in printed.messages

    assert "its people were written to by mail" in cli("letter", sent["id"], "--sent").out
    log = cli("incidents", "export", sent["incident"], "--form", "log").out
    assert "report to c.example (XEP-0268): not spoken there\n" in log
    assert "report to c.example by mail: no answer\n" in log


def test_an_incident_of_ours_is_exported_for_lists_and_for_hosters(cli: Any, world: Any) -> None:
    cli("report", "--to", "a.example", "--description", "flood", "--source", "bad@a.example=7")
    world.work()
    (own,) = cli("--json", "incidents", "list", "--own").json()["incidents"]

    text = cli("incidents", "export", own["id"], "--form", "log").out
    assert "> bad@a.example: 7" in text
    assert "report to a.example (XEP-0268): no answer" in text
    words = ("incidents", "export", own["id"], "--form", "xarf")
    refused = cli(*words, "--contact", f"abuse@{HOST}")
    assert (refused.code, "--impact spam" in refused.messages) == (2, True)
    assert cli("report", "--incident", own["id"], "--impact", "spam").code == 0
    refused = cli(*words)
    assert (refused.code, "--contact MAIL" in refused.messages) == (2, True)
    (one,) = cli(*words, "--contact", f"abuse@{HOST}").json()
    assert (one["source_identifier"], one["reporter"]["domain"]) == ("bad@a.example", HOST)
    assert one["reporter"]["contact"] == f"abuse@{HOST}"


def test_the_operator_is_told_that_a_peer_does_not_announce_it(cli: Any, world: Any) -> None:
    world.change_peer("old.example", lambda peer: replace(peer, announces=False))

    printed = cli("report", "--to", "old.example", "--description", "x")

    assert printed.code == 0
    assert "old.example does not announce XEP-0268; it is tried anyway" in printed.messages


def test_a_name_that_looks_like_a_trusted_peer_is_remarked_on(cli: Any, world: Any) -> None:
    world.change_peer(PEER, lambda peer: replace(peer, trust=Trust.TRUSTED))

    printed = cli("report", "--to", "j\u0430bber.org", "--description", "x")

    assert "(xn--jbber-4ve.org) is NOT jabber.org" in printed.messages
    (remark,) = cli("--json", "report", "--to", "j\u0430bber.org", "--description", "x").json()["remarks"]
    assert "is NOT jabber.org" in remark


def with_restriction(restriction: Restriction) -> Callable[[Interaction], Interaction]:
    def change(one: Interaction) -> Interaction:
        stanza = (one.original or b"").replace(b"purpose=", f"restriction='{restriction}' purpose=".encode())
        stanza = stanza.replace(
            b"<Assessment",
            b"<Method restriction='private'><Description>hidden</Description></Method><Assessment",
        )
        return replace(one, original=stanza, document=replace(one.document, restriction=restriction))

    return change


def test_one_incident_is_forwarded_by_hand_without_what_is_private(cli: Any, world: Any, add: ADD) -> None:
    (stored,) = add(("report", PEER, Trust.TRUSTED), change=with_restriction(Restriction.NEED_TO_KNOW))
    world.change_peer("c.example", lambda peer: replace(peer, trust=Trust.TRUSTED))

    printed = cli("report", "--incident", stored.incident_id[:6], "--to", "c.example")
    again = cli("report", "--incident", stored.incident_id, "--to", "c.example")
    world.work()

    assert printed.code == 0
    assert shown(cli, stored.incident_id)["incident"]["told"] == ["c.example"]
    (sent,) = [text for text in world.prosody.stanzas if "<report" in text]
    assert "abuser@clueless.lit" in sent
    assert "hidden" not in sent
    assert again.code == 2
    assert "has it already" in again.messages


@pytest.mark.parametrize(
    ("trust", "to", "words", "said"),
    [
        (Trust.TRUSTED, "c.example", [], "private"),
        (Trust.TRUSTED, PEER, ["--even-private"], "has it already"),
        (Trust.TRUSTED, "s.example", ["--even-private"], "not trusted"),
        (Trust.STRANGER, "c.example", ["--even-private"], "quarantine"),
        (Trust.TRUSTED, "c.example", ["--severity", "low"], "forwarded as it is"),
    ],
)
def test_what_must_not_be_forwarded_is_not(  # noqa: PLR0917 (a table of cases)
    cli: Any, world: Any, add: ADD, trust: Trust, to: str, words: list[str], said: str
) -> None:
    (stored,) = add(("report", PEER, trust))
    world.change_peer("c.example", lambda peer: replace(peer, trust=Trust.TRUSTED))

    printed = cli("report", "--incident", stored.incident_id, "--to", to, *words)

    assert printed.code == 2
    assert said in printed.messages
    assert "configuration" not in printed.messages
    assert shown(cli, stored.incident_id)["incident"]["told"] == []


def test_a_private_incident_is_forwarded_if_the_operator_insists(cli: Any, world: Any, add: ADD) -> None:
    (stored,) = add(("report", PEER, Trust.TRUSTED))
    world.change_peer("c.example", lambda peer: replace(peer, trust=Trust.TRUSTED))

    assert cli("report", "--incident", stored.incident_id, "--to", "c.example", "--even-private").code == 0


def test_an_inquiry_is_told_when_its_report_came(cli: Any, world: Any, add: ADD, arrive: Any) -> None:
    asked = cli(
        "--json", "inquire", "--to", PEER, "--id", "jabber.org/4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF"
    ).json()
    (sent,) = asked["interactions"]
    world.work()
    alone = cli("incidents", "show", sent["id"])
    world.answer(sent["id"], peer=PEER)
    world.receive(replace(arrive("report", PEER), answers=sent["id"]))

    text = cli("incidents", "show", sent["id"]).out

    assert asked["incident"] is None
    assert "inquiry to jabber.org" in alone.out
    assert "Nothing is known here yet" in alone.messages
    assert "we asked jabber.org what it knows" in text
    assert "as the answer to our inquiry" in text
    assert "acknowledged" in text


def test_a_request_is_answered_by_a_response(cli: Any, world: Any, arrive: Any) -> None:
    words = ["--action", "block-host", "--source", "bad@peer.example", "--id", "4BF5"]
    sent = cli("--json", "request", "--to", PEER, *words, "--text", "please").json()
    (asked,) = sent["interactions"]
    world.work()
    world.answer(asked["id"], peer=PEER)
    response = arrive("response", PEER)
    history = (replace(response.document.history[0], action="block-host"),)
    document = replace(response.document, history=history)
    world.receive(replace(response, document=document, answers=asked["id"], incident_id=sent["incident"]))

    text = cli("incidents", "show", sent["incident"]).out

    assert "we asked jabber.org for block-host" in text
    assert "the answer: done" in text
    assert "jabber.org answers our request: done" in text
    assert "Account disabled" in text


def test_a_peers_request_is_mapped_shown_and_answered(cli: Any, world: Any, add: ADD) -> None:
    (asked,) = add(("request", PEER, Trust.TRUSTED))

    before = cli("incidents", "show", asked.incident_id).out
    wrong = cli("respond", asked.id, "--partly", "--action", "rate-limit-host")
    printed = cli("respond", asked.incident_id[:6], "--declined", "no proof", "--text", "sorry")
    world.work()
    after = cli("incidents", "show", asked.incident_id).out

    assert "jabber.org asks for block-host" in before
    assert "block-host of abuser@clueless.lit: you could ban it from rooms" in before
    assert f"incident-bridge respond {asked.id}" in before
    assert wrong.code == 2
    assert "asked for: block-host" in wrong.messages
    assert printed.code == 0
    assert "response to jabber.org  queued" in printed.out
    (sent,) = [text for text in world.prosody.stanzas if "<response" in text]
    assert 'action="nothing"' in sent
    assert "no proof sorry" in sent
    assert "you answered: declined" in after
    assert "we answered the request of jabber.org: declined" in after


def test_a_request_is_answered_once_unless_said_again(cli: Any, world: Any, add: ADD) -> None:
    (asked,) = add(("request", PEER, Trust.TRUSTED))
    assert cli("respond", asked.id, "--declined", "no proof").code == 0

    refused = cli("respond", asked.id, "--done")
    corrected = cli("respond", asked.id, "--done", "--again")
    world.work()

    assert refused.code == 2
    assert "answered before: declined" in refused.messages
    assert "--again" in refused.messages
    assert corrected.code == 0
    assert len([text for text in world.prosody.stanzas if "<response" in text]) == 2
    assert "you answered: done" in cli("incidents", "show", asked.incident_id).out


def test_a_blocked_peer_hears_no_more_of_what_it_was_told(cli: Any, world: Any) -> None:
    sent = cli("--json", "report", "--to", "a.example", "b.example", "--description", "flood").json()
    world.change_peer("a.example", lambda peer: replace(peer, trust=Trust.BLOCKED))

    more = cli("report", "--incident", sent["incident"], "--severity", "high")
    over = cli("incidents", "resolve", sent["incident"])

    for printed in (more, over):
        assert [line.split()[1:] for line in printed.out.splitlines()] == [
            ["report", "to", "b.example", "queued"]
        ]


def test_several_requests_about_one_incident_must_be_named(cli: Any, add: ADD) -> None:
    first, second = add(("request", PEER, Trust.TRUSTED), ("request", PEER, Trust.TRUSTED))

    unclear = cli("respond", first.incident_id, "--done")
    cli("respond", first.id, "--done")
    clear = cli("respond", first.incident_id, "--done")

    assert unclear.code == 1
    assert first.id in unclear.messages
    assert second.id in unclear.messages
    assert clear.code == 0
    assert cli("respond", "zzzz", "--done").code == 1


def test_a_request_about_a_peers_incident_tells_only_what_others_may_know(
    cli: Any, world: Any, add: ADD
) -> None:
    (stored,) = add(("report", PEER, Trust.TRUSTED))
    words = ["request", "--incident", stored.incident_id, "--action", "block-host", "--to"]

    refused = cli(*words, "clueless.lit")
    back = cli(*words, PEER)
    insisted = cli(*words, "clueless.lit", "--even-private")

    assert refused.code == 2
    assert "--even-private" in refused.messages
    assert (back.code, insisted.code) == (0, 0)
    incident = shown(cli, stored.incident_id)["incident"]
    assert (incident["reporter"], len(incident["editions"])) == (PEER, 1)


def test_a_resolution_reaches_exactly_those_who_got_the_report(cli: Any, world: Any) -> None:
    sent = cli("--json", "report", "--to", "a.example", "b.example", "--description", "flood").json()

    printed = cli("incidents", "resolve", sent["incident"], "--text", "accounts closed")
    world.work()

    assert [line.split()[1:] for line in printed.out.splitlines()] == [
        ["report", "to", "a.example", "queued"],
        ["report", "to", "b.example", "queued"],
    ]
    told = [text for text in world.prosody.stanzas if "accounts closed" in text]
    assert len(told) == 2
    assert all(">resolved</AdditionalData>" in text for text in told)
    assert shown(cli, sent["incident"])["incident"]["status"] == "resolved"
    assert cli("incidents", "resolve", sent["incident"]).code == 1


def test_only_the_reporter_resolves(cli: Any, add: ADD) -> None:
    (stored,) = add(("report", PEER, Trust.TRUSTED))

    printed = cli("incidents", "resolve", stored.incident_id)

    assert printed.code == 2
    assert "only jabber.org can say" in printed.messages


def test_an_own_incident_that_nobody_was_told_of_is_resolved_alone(cli: Any, world: Any) -> None:
    sent = cli(
        "--json", "request", "--to", "a.example", "--action", "block-host", "--source", "x@y.example"
    ).json()

    printed = cli("incidents", "resolve", sent["incident"])

    assert printed.code == 0
    assert printed.out == ""
    assert shown(cli, sent["incident"])["incident"]["status"] == "resolved"


@pytest.mark.parametrize("form", ["canonical", "original"])
def test_an_exported_document_can_be_validated_again(cli: Any, add: ADD, tmp_path: Path, form: str) -> None:
    (stored,) = add(("report", PEER, Trust.TRUSTED))

    printed = cli("incidents", "export", stored.incident_id[:6], "--form", form)

    file = tmp_path / "exported.xml"
    file.write_text(printed.out)
    judged = cli("--json", "validate", str(file)).json()
    assert judged["answer"] == "result"
    assert judged["incident"]["identity"]["text"] == stored.document.identity.text
    assert bool(judged["repairs"]) is (form == "original")
    if form == "original":
        assert printed.out.encode().strip() == (stored.original or b"").strip()


def test_an_export_as_json_has_the_view(cli: Any, add: ADD) -> None:
    (stored,) = add(("report", PEER, Trust.TRUSTED))

    shown = cli("incidents", "export", stored.incident_id, "--form", "json").json()

    assert shown["document"]["sources"][0]["jid"] == "abuser@clueless.lit"
    assert shown["incident"]["reporter"] == PEER


def test_failed_sendings_say_why(cli: Any, world: Any) -> None:
    sent = cli("--json", "report", "--to", "a.example", "b.example", "--description", "x").json()
    world.work()
    first, second = (one["id"] for one in sent["interactions"])
    world.answer(first, peer="a.example", failure=FAILED)
    world.answer(
        second, peer="b.example", failure=PeerError(type="wait", condition="resource-constraint", text="busy")
    )

    text = cli("incidents", "show", sent["incident"]).out

    assert "it does not speak XEP-0268 (cancel/service-unavailable)" in text
    assert "tried again" in text
    assert "wait/resource-constraint: busy" in text


def test_related_incidents_have_ids_to_type(cli: Any, add: ADD) -> None:
    def number(one: Interaction) -> Interaction:
        later = one.received_at + timedelta(hours=1)
        return replace(one, received_at=later) if one.peer == "b.example" else one

    mine, other = add(("report", PEER, Trust.TRUSTED), ("report", "b.example", Trust.TRUSTED), change=number)

    text = cli("incidents", "show", mine.incident_id).out
    related = shown(cli, mine.incident_id)["related"]

    assert other.incident_id in text
    assert "another account of it" in text
    assert "inquire --to im.example.com --id im.example.com/133BCE2E-E669-4ECE-B0F8-766B9E65630D" in text
    assert [(one["id"], one["reporter"]) for one in related] == [
        (None, None),
        (other.incident_id, "b.example"),
    ]


def test_related_incidents_show_addresses_in_ascii_too(cli: Any, add: ADD) -> None:
    def odd(one: Interaction) -> Interaction:
        source = replace(one.document.sources[0], address="bad@j\u0430bber.org", jid="bad@j\u0430bber.org")
        identity = replace(one.document.identity, text=one.id)
        changed = replace(one, document=replace(one.document, sources=(source,), identity=identity))
        return replace(changed, incident_id=incident_id(HOST, one.peer, identity))

    mine, _ = add(("report", PEER, Trust.TRUSTED), ("report", "b\u0430d.example", Trust.TRUSTED), change=odd)

    (row,) = [
        line for line in cli("incidents", "show", mine.incident_id).out.splitlines() if "same source" in line
    ]

    assert "the same source bad@j\u0430bber.org (bad@xn--jbber-4ve.org)" in row
    assert "b\u0430d.example (xn--bd-7kc.example)" in row


def test_what_counts_is_shown_and_exported_not_what_came_last(
    cli: Any, world: Any, add: ADD, arrive: Any
) -> None:
    (stored,) = add(("report", PEER, Trust.TRUSTED))
    later = arrive("report", PEER)
    text = replace(later.document.descriptions[0], text="nothing happened")
    world.receive(
        replace(later, digest="e" * 64, quarantined=True, trust=Trust.STRANGER, rule=Rule.QUARANTINE,
                document=replace(later.document, descriptions=(text,)))
    )  # fmt: skip

    page, exported = shown(cli, stored.incident_id), cli("--json", "incidents", "export", stored.incident_id)

    assert [one["quarantined"] for one in page["incident"]["editions"]] == [False, True]
    assert (
        "nothing happened" not in cli("incidents", "show", stored.incident_id).out.split("What happened")[0]
    )
    assert "MUC spammers" in exported.out
    assert "nothing happened" not in exported.out


def test_the_admins_are_said_to_be_told(cli: Any, world: Any, add: ADD) -> None:
    (stored,) = add(("report", PEER, Trust.TRUSTED))

    assert "the admins are told by chat" in cli("incidents", "show", stored.incident_id).out
