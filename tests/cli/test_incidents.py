"""`incidents` and `peers` on a real store, with the specification's own report in it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.policy.record import Interaction
from bridge.policy.trust import Authentication, Trust

PEER = "jabber.org"
ADD = Callable[..., list[Interaction]]


@pytest.fixture
def stored(add: ADD) -> Interaction:
    """The specification's report, stored as coming from its sender, trusted."""
    return add(("report", PEER, Trust.TRUSTED))[0]


def test_an_incident_stands_in_the_list(run: Any, configuration: str, stored: Interaction) -> None:
    printed = run("incidents", "list", config=configuration)

    head, row = printed.out.splitlines()
    assert printed.code == 0
    assert head.split()[:3] == ["ID", "STATUS", "SEVERITY"]
    assert row.split()[:4] == [stored.incident_id, "new", "medium", PEER]
    assert "lots of MUC spammers" in row
    assert f"incidents show {stored.incident_id[:6]}" in printed.messages


@pytest.mark.usefixtures("stored")
def test_show_tells_all_that_the_report_says(run: Any, configuration: str, stored: Interaction) -> None:
    printed = run("incidents", "show", stored.incident_id[:5], config=configuration)

    text = printed.out
    assert printed.code == 0
    lines = [line.split() for line in text.splitlines()]
    assert ["abuser@clueless.lit", "xmpp", "-", "123", "xmpp-presence"] in lines
    assert ["luser27@clueless.lit", "xmpp", "-", "47", "xmpp-presence"] in lines
    assert ["jdev@conference.jabber.org", "xmpp", "xmpp-muc", "-"] in lines
    assert ["jabber@conference.jabber.org", "xmpp", "xmpp-muc", "-"] in lines
    for expected in (
        "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF of jabber.org",
        "dos, medium severity, succeeded",
        "xmpp:stpeter@jabber.org",
        "xmpp:operators@muc.xmpp.org",
        "lots of MUC spammers from clueless.lit!",
        "133BCE2E-E669-4ECE-B0F8-766B9E65630D of im.example.com",
        "2009-04-13 19:05:20Z",
        "What was repaired in the document",
        "moved to lang, where RFC 5070 has it",
        "by a valid certificate",
        "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "ab" * 32,
    ):
        assert expected in text


def test_show_as_json_has_the_document_and_not_the_stanza(
    run: Any, configuration: str, stored: Interaction
) -> None:
    shown = run("--json", "incidents", "show", stored.incident_id, config=configuration).json()

    assert shown["incident"]["id"] == stored.incident_id
    (only,) = shown["interactions"]
    assert only["document"]["sources"][0]["counters"] == [
        {"type": "xmpp-presence", "value": 123.0, "meaning": None, "duration": None}
    ]
    assert only["stream"]["authentication"] == "certificate"
    assert "original" not in only


def test_an_unknown_id_is_a_no(run: Any, configuration: str, stored: Interaction) -> None:
    printed = run("incidents", "show", "zzzz", config=configuration)

    assert printed.code == 1
    assert "incidents list" in printed.messages


def test_an_ambiguous_id_lists_whom_it_may_mean(run: Any, configuration: str, add: ADD) -> None:
    many = add(*(("report", f"peer{number}.example", Trust.STRANGER) for number in range(40)))
    starts = [one.incident_id[0] for one in many]
    shared = next(start for start in starts if starts.count(start) > 1)

    printed = run("incidents", "show", shared, config=configuration)

    assert printed.code == 1
    assert "type more of the id" in printed.messages


def test_the_list_is_filtered_and_cut(run: Any, configuration: str, add: ADD) -> None:
    add(("report", PEER, Trust.TRUSTED), *(("report", f"s{n}.example", Trust.STRANGER) for n in range(5)))

    def listed(*words: str) -> list[str]:
        found = run("incidents", "list", "--json", *words, config=configuration).json()
        return [one["reporter"] for one in found["incidents"]]

    assert listed() == ["s4.example", "s3.example", "s2.example", "s1.example", "s0.example", PEER]
    assert listed("--limit", "2") == ["s4.example", "s3.example"]
    assert listed("--peer", "S3.example") == ["s3.example"]
    assert listed("--no-quarantined") == [PEER]
    assert len(listed("--quarantined", "--status", "new")) == 5
    assert listed("--status", "resolved") == []
    more = run("incidents", "list", "--limit", "2", config=configuration)
    assert "more with --limit" in more.messages


def test_hostile_text_does_not_reach_the_terminal(run: Any, configuration: str, add: ADD) -> None:
    evil = "\u202eevil\u200b"

    def poison(one: Interaction) -> Interaction:
        text = replace(one.document.descriptions[0], text=f"first\n{evil}")
        source = replace(one.document.sources[0], address=evil)
        return replace(one, document=replace(one.document, descriptions=(text,), sources=(source,)))

    (stored,) = add(("report", PEER, Trust.STRANGER), change=poison)

    listed = run("incidents", "list", config=configuration)
    shown = run("incidents", "show", stored.incident_id, config=configuration)

    for text in (listed.out, shown.out):
        assert "\u202e" not in text
        assert "\\u202eevil\\u200b" in text
    assert "peers trust|block" in shown.out


def test_a_long_text_and_many_sources_are_told_without_anything_that_steers_a_terminal(
    run: Any, configuration: str, add: ADD
) -> None:
    evil = "\x1b]0;owned\x07\u202eevil\r\n" * 5000

    def swell(one: Interaction) -> Interaction:
        text = replace(one.document.descriptions[0], text=evil)
        many = tuple(replace(one.document.sources[0], address=f"\x1b[2Js{n}@x.test") for n in range(500))
        return replace(one, document=replace(one.document, descriptions=(text,), sources=many))

    (stored,) = add(("report", PEER, Trust.STRANGER), change=swell)
    listed = run("incidents", "list", config=configuration)
    shown = run("incidents", "show", stored.incident_id, config=configuration)
    assert len(listed.out.splitlines()) == 2
    assert "s499@x.test" in shown.out
    assert shown.out.count("evil") == 5000
    for text in (listed.out, shown.out):
        assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_an_incident_with_a_weak_sender_says_so(run: Any, configuration: str, add: ADD) -> None:
    def weaken(one: Interaction) -> Interaction:
        return replace(
            one, stream=replace(one.stream, encrypted=False, authentication=Authentication.DIALBACK)
        )

    (stored,) = add(("report", PEER, Trust.STRANGER), change=weaken)

    text = run("incidents", "show", stored.incident_id, config=configuration).out

    assert "by dialback only" in text
    assert "NOT ENCRYPTED" in text


def test_a_peer_is_trusted_blocked_and_forgotten(run: Any, configuration: str, stored: Interaction) -> None:
    for command, trust in (("block", "blocked"), ("trust", "trusted"), ("forget", "stranger")):
        printed = run("peers", command, "Jabber.ORG", config=configuration)
        listed = run("peers", "list", "--json", config=configuration).json()["peers"]

        assert printed.code == 0
        assert [(peer["domain"], peer["trust"], peer["received"]) for peer in listed] == [(PEER, trust, 1)]


def test_a_peer_can_be_trusted_before_it_is_seen(run: Any, configuration: str, add: ADD) -> None:
    add()

    run("peers", "trust", "new.example", config=configuration)

    row = run("peers", "list", config=configuration).out.splitlines()[1]
    assert row.split() == ["new.example", "trusted", "0", "0", "0", "0", "-"]


@pytest.mark.parametrize("domain", ["im.flosoft.biz", "user@spam.example", "spam example"])
def test_what_is_no_peer_is_refused(run: Any, configuration: str, domain: str) -> None:
    assert run("peers", "block", domain, config=configuration).code == 2


def test_with_two_hosts_a_decision_names_one(run: Any, configuration: str, stored: Interaction) -> None:
    two = configuration + configuration[configuration.index("[hosts") :].replace("im.flosoft.biz", "b.test")

    refused = run("peers", "trust", "x.example", config=two)

    assert refused.code == 2
    assert "--host im.flosoft.biz or --host b.test" in refused.messages
    assert run("peers", "trust", "x.example", "--host", "b.test", config=two).code == 0
    assert run("peers", "list", config=two).out.splitlines()[0].startswith("HOST")
    assert run("incidents", "list", config=two).out.splitlines()[0].startswith("HOST")
    assert run("incidents", "list", "--host", "c.test", config=two).code == 2


def test_a_store_that_does_not_run_is_not_reachable(run: Any, configuration: str, tmp_path: Path) -> None:
    config = configuration.split("[hosts")[1]

    printed = run("incidents", "list", config=f'[store]\ndata_dir = "{tmp_path}"\n[hosts{config}')

    assert printed.code == 3
    assert " up" in printed.messages
