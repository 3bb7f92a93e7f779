"""`approvals`, `mitigations` and `incidents act` on a real store, with workers' work done in this process."""

from collections.abc import Callable
from typing import Any

import pytest

from bridge.policy.record import Interaction
from bridge.policy.trust import Trust

HOST = "im.flosoft.biz"
PEER = "jabber.org"
Change = Callable[[Interaction], Interaction]


@pytest.fixture
def cli(run: Any, configuration: str) -> Callable[..., Any]:
    """Runs a command with the configuration of this test."""
    return lambda *words, more="": run(*words, config=configuration + more)


@pytest.fixture
def about_us(at: Callable[..., Change]) -> Change:
    """Makes the example's sources accounts of ours."""
    return at("clueless.lit", HOST)


@pytest.fixture
def asked(add: Any, about_us: Change, world: Any) -> str:
    """A trusted peer's request about two accounts of ours; its id."""
    add(("request", PEER, Trust.TRUSTED), change=about_us)
    world.work()
    return "i0"


def test_what_waits_is_listed_and_shown_with_what_it_would_touch(cli: Any, asked: str) -> None:
    listed = cli("approvals", "list")
    assert listed.code == 0
    row = listed.out.splitlines()[1]
    assert row.startswith(
        f"{asked}  {PEER}  suspend account abuser@{HOST}, suspend account luser27@{HOST}  open"
    )
    assert "1 request waits." in listed.messages

    shown = cli("approvals", "show", "i")
    assert f"suspend account abuser@{HOST}: offered" in shown.out
    assert "2 sessions are closed" in shown.out
    assert "approvals approve i0" in shown.messages
    (target, _) = cli("--json", "approvals", "show", asked).json()["targets"]
    assert (target["fields"], target["state"]) == ({"account": f"abuser@{HOST}"}, "offered")


def test_a_list_that_is_cut_says_so(cli: Any, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "these are the newest" not in cli("approvals", "list").messages
    monkeypatch.setattr("bridge.cli.approvals._MOST", 0)
    cut = cli("approvals", "list")
    assert (asked in cut.out, f"{HOST} has 1; these are the newest 0." in cut.messages) == (False, True)


def test_a_yes_to_a_part_is_carried_out_and_can_be_taken_back(cli: Any, asked: str, world: Any) -> None:
    said = cli("approvals", "approve", asked, "--only", f"luser27@{HOST}", "--days", "3")
    assert said.code == 0
    assert "being carried out" in said.messages
    world.work()

    (one,) = cli("--json", "mitigations", "list").json()["mitigations"]
    assert (one["type"], one["target"], one["state"]) == (
        "account.suspend",
        {"account": f"luser27@{HOST}"},
        "applied",
    )
    assert world.prosody.active == {one["id"]: {"account": f"luser27@{HOST}"}}
    assert f"account luser27@{HOST}" in cli("mitigations", "list").out
    page = cli("incidents", "show", one["incident_id"]).out
    assert f"this host: account luser27@{HOST}: suspended until" in page

    lifted = cli("mitigations", "lift", one["id"][:6], "--reason", "a mistake")
    assert (lifted.code, lifted.out.split()[-1]) == (0, "lifting")
    world.work()
    assert world.prosody.active == {}
    after = cli("mitigations", "show", one["id"])
    assert "a mistake" in after.out
    assert cli("mitigations", "list").messages == "Nothing is in force.\n"
    again = cli("mitigations", "lift", one["id"])
    assert (again.code, "is lifted already by cli:" in again.messages) == (1, True)


def test_a_second_decision_is_told_who_was_faster(cli: Any, asked: str) -> None:
    assert cli("approvals", "decline", asked, "--reason", "they are friends").code == 0
    late = cli("approvals", "approve", asked)
    assert late.code == 1
    assert "it was declined; cli:" in late.messages
    assert cli("approvals", "list").messages == "Nothing waits for your yes or no.\n"
    assert "declined" in cli("approvals", "list", "--all").out


def test_protected_names_need_another_word(cli: Any, asked: str) -> None:
    more = f'[policy]\nprotected = ["abuser@{HOST}"]\n'
    refused = cli("approvals", "approve", asked, more=more)
    assert refused.code == 2
    assert "needs a second yes" in refused.messages
    assert cli("approvals", "approve", asked, "--yes-protected", more=more).code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("approvals", "show", "zzz"), 1, "no approval's id begins with zzz"),
        (("approvals", "show", " "), 2, "ID is empty"),
        (("mitigations", "lift", "zzz"), 1, "no mitigation's id begins with zzz"),
        (("approvals", "approve", "i0", "--only", "nobody@else"), 2, "nobody@else is not among"),
        (("approvals", "approve", "i0", "--days", "0"), 2, "must be a number of days"),
        (("approvals", "decline", "i0"), 2, "--reason"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_cannot_be_done_is_said(cli: Any, words: tuple[str, ...], code: int, said: str) -> None:
    printed = cli(*words)
    assert (printed.code, said in printed.messages) == (code, True), printed.messages


def test_an_operator_acts_unasked(cli: Any, add: Any, world: Any) -> None:
    add(("report", PEER, Trust.TRUSTED))
    (incident,) = cli("--json", "incidents", "list").json()["incidents"]
    nothing = cli("incidents", "act", incident["id"])
    assert (nothing.code, "say what to do" in nothing.messages) == (2, True)
    wrong = cli("incidents", "act", incident["id"], "--suspend", "a@elsewhere.example")
    assert (wrong.code, f"is not an account on {HOST}" in wrong.messages) == (2, True)
    trusted = cli("incidents", "act", incident["id"], "--block-domain", PEER)
    assert (trusted.code, "is a trusted peer" in trusted.messages) == (2, True)

    words = ("--block-domain", "clueless.lit", "--ban", "bad@x.example", f"tea@muc.{HOST}")
    done = cli("--json", "incidents", "act", incident["id"], *words).json()
    world.work()
    assert [one["state"] for one in done["targets"]] == ["approved", "approved"]
    assert list(world.prosody.active.values()) == [
        {"domain": "clueless.lit"},
        {"room": f"tea@muc.{HOST}", "jid": "bad@x.example"},
    ]
    assert cli("--json", "approvals", "show", done["id"]).json()["state"] == "done"


def test_hostile_addresses_are_harmless_on_the_terminal(cli: Any, add: Any, at: Any, world: Any) -> None:
    add(("request", PEER, Trust.TRUSTED), change=at("abuser@clueless.lit", "evil\x9b31m\u202ename"))
    world.work()
    printed = cli("approvals", "show", "i0")
    assert printed.code == 0
    assert "\x9b" not in printed.out
    assert "\u202e" not in printed.out


def test_waiting_says_when_nothing_came_of_it(cli: Any, asked: str) -> None:
    printed = cli("approvals", "approve", asked, "--wait", "1")
    assert printed.code == 1
    assert "being carried out" in printed.messages
