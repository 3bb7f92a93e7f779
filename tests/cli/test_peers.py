"""`peers show|rule|forward` on a real store."""

from dataclasses import replace
from typing import Any

import pytest

from bridge.policy.trust import Trust

PEER = "jabber.org"


def test_a_peers_record_is_told(run: Any, configuration: str, world: Any) -> None:
    world.change_peer(
        PEER,
        lambda peer: replace(
            peer,
            sent=7,
            acknowledged=3,
            refused=1,
            unreachable=1,
            answer_seconds=(0.2, 4.0, 0.6),
            announces=True,
            requested=4,
            acted=2,
            declined=1,
            decision_seconds=(60.0, 19_800.0, 86_400.0),
        ),
    )

    printed = run("peers", "show", "Jabber.org", config=configuration)
    plain = run("--json", "peers", "show", PEER, config=configuration).json()

    lines = {" ".join(line.split()) for line in printed.out.splitlines()}
    assert {"We sent 7", "Acknowledged 3", "Median time 0.6 s", "Refused 1", "Still open 2"} <= lines
    assert "Announces XEP-0268 yes" in lines
    assert {"Requests to it 4, 3 answered: 2 acted on, 1 declined", "Median time for these 5.5 h"} <= lines
    assert plain["median_decision_seconds"] == 19_800
    assert (plain["sent"], plain["median_answer_seconds"]) == (7, 0.6)


def test_a_peer_that_nobody_knows_is_a_no(run: Any, configuration: str, world: Any) -> None:
    printed = run("--json", "peers", "show", "new.example", config=configuration)

    assert (run("peers", "show", "new.example", config=configuration).code, printed.code) == (1, 1)
    assert printed.json() is None


def test_what_is_forgotten_leaves_no_decision(run: Any, configuration: str, world: Any) -> None:
    for words in (("trust", PEER), ("rule", PEER, "request", "refuse"), ("forward", PEER, "on")):
        run("peers", *words, config=configuration)

    run("peers", "forget", PEER, config=configuration)

    left = run("--json", "peers", "show", PEER, config=configuration).json()
    assert (left["trust"], left["rules"], left["is_forwarded_to"]) == ("stranger", {}, False)


@pytest.mark.parametrize("rule", ["refuse", "quarantine", "accept", "notify"])
def test_a_rule_is_written_and_taken_back(run: Any, configuration: str, world: Any, rule: str) -> None:
    printed = run("peers", "rule", PEER, "inquiry", rule, config=configuration)
    ruled = run("--json", "peers", "show", PEER, config=configuration).json()
    run("peers", "rule", PEER, "inquiry", "default", config=configuration)
    after = run("--json", "peers", "show", PEER, config=configuration).json()

    assert printed.code == 0
    assert ("trust jabber.org" in printed.messages) is (rule != "refuse")
    assert (ruled["rules"], after["rules"]) == ({"inquiry": rule}, {})


def test_forwarding_is_switched_and_waits_for_trust(run: Any, configuration: str, world: Any) -> None:
    printed = run("peers", "forward", PEER, "on", config=configuration)
    before = run("peers", "show", PEER, config=configuration).out
    run("peers", "trust", PEER, config=configuration)
    after = run("peers", "show", PEER, config=configuration).out
    run("peers", "forward", PEER, "off", config=configuration)
    off = run("--json", "peers", "show", PEER, config=configuration).json()

    assert "peers trust jabber.org" in printed.messages
    assert "once it is trusted" in before
    assert "Gets reports of others yes" in " ".join(after.split())
    assert off["is_forwarded_to"] is False


def test_a_name_that_looks_like_a_trusted_peer_is_shown_as_such(
    run: Any, configuration: str, world: Any
) -> None:
    world.change_peer(PEER, lambda peer: replace(peer, trust=Trust.TRUSTED))
    world.change_peer("j\u0430bber.org", lambda peer: peer)
    world.change_peer("other.example", lambda peer: replace(peer, received=1))
    world.change_peer("j\u0430bber.org", lambda peer: replace(peer, received=1))

    listed = run("peers", "list", config=configuration)
    shown = run("peers", "show", "j\u0430bber.org", config=configuration)

    assert "(xn--jbber-4ve.org)" in listed.out
    assert "is NOT jabber.org" in listed.messages
    assert "is NOT jabber.org" in shown.out
