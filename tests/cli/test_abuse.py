"""`abuse` on a real store: what users report is listed, shown as what it is, sent or dismissed."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bridge.pipeline import abuse as stories
from bridge.pipeline.abuse import Hearing
from bridge.store.connect import close, open_store
from bridge.store.embedded import EmbeddedServer
from tests.pipeline.test_abuse import NOW, Rules, report

HOST = "im.flosoft.biz"


@pytest.fixture
def cli(run: Any, configuration: str) -> Callable[..., Any]:
    """Runs a command with the configuration of this test."""
    return lambda *words: run(*words, config=configuration)


@pytest.fixture
def users(server: EmbeddedServer) -> Callable[..., None]:
    """Has users of the host report, in an empty store."""

    async def hear(reports: Any) -> None:
        store = await open_store(server.url)
        try:
            await store.redis.flushall()
            await stories.hear(
                store, Hearing(host=HOST, rules=Rules(), key=b"k" * 32), reports, webhook_id="w", now=NOW
            )
        finally:
            await close(store)

    return lambda *reports: asyncio.run(hear(reports))


def test_what_users_report_is_listed_and_shown_as_what_it_is(cli: Any, users: Any) -> None:
    hostile = report(text="\x1b[2Jcall me\u202e", may_go_to_origin=False)
    users(report("bob"), hostile, report("carol", f"admin@{HOST}", is_own=True, is_admin=True))
    listed = cli("abuse", "list")
    assert listed.code == 0
    rows = sorted(line.split()[1:5] for line in listed.out.splitlines()[1:] if line)
    assert rows == [["b.test", "spam", "2", "1"], [HOST, "spam", "1", "-"]]
    shown = cli("abuse", "show", "b.test")
    assert "spam@b.test: 2 reports, 1 may be passed on" in shown.out
    assert "(not to be passed on)" in shown.out
    assert "\x1b" not in shown.out
    assert "\u202e" not in shown.out
    assert "abuse send" in shown.messages
    own = cli("abuse", "show", HOST)
    assert "an admin of this server" in own.out
    assert "It cannot be sent: it is about" in own.messages
    assert "passed on" not in own.out + own.messages
    plain = cli("--json", "abuse", "show", "b.test")
    for hidden in ("alice", "bob"):
        assert hidden not in plain.out
    assert cli("abuse", "show", "c.test").code == 1


def test_a_yes_sends_it_and_a_no_does_not(cli: Any, users: Any) -> None:
    users(report(), report(jid="x@c.test"), replace(report(jid="y@d.test"), may_go_to_origin=False))
    sent = cli("abuse", "send", "b.test")
    assert sent.code == 0
    incident = cli("--json", "abuse", "show", "b.test").json()["incident_id"]
    assert f"incidents show {incident}" in sent.messages
    assert "spam@b.test" in cli("incidents", "show", incident).out
    again = cli("abuse", "send", "b.test")
    assert (again.code, "it was sent" in again.messages) == (2, True)
    assert cli("abuse", "send", "d.test").code == 2
    assert cli("abuse", "dismiss", "c.test").code == 0
    assert cli("abuse", "dismiss", "c.test").code == 2
    waiting = cli("--json", "abuse", "list").json()["drafts"]
    assert [one["domain"] for one in waiting] == ["d.test"]
    states = {one["domain"]: one["state"] for one in cli("--json", "abuse", "list", "--all").json()["drafts"]}
    assert states == {"b.test": "sent", "c.test": "dismissed", "d.test": "open"}


def listed(cli: Any) -> dict[str, Any]:
    (one,) = cli("--json", "lists", "show").json()["lists"]
    return {entry["address"]: entry for entry in one["entries"]}


def test_a_yes_lists_the_accounts_too_where_a_user_agreed_that_others_be_told(cli: Any, users: Any) -> None:
    users(report("bob", may_go_to_others=True), report(jid="quiet@b.test"), report(jid="x@c.test"))
    assert "list 1 account for others to load: add --list" in cli("abuse", "show", "b.test").messages
    assert "--list" not in cli("abuse", "show", "c.test").messages
    assert cli("abuse", "send", "b.test", "--list-days", "3").code == 2
    assert cli("abuse", "send", "b.test", "--list", "--list-days", "0").code == 2
    sent = cli("abuse", "send", "b.test", "--list", "--list-days", "3")
    assert sent.code == 0
    assert f"spam@b.test is on the list of {HOST}." in sent.messages
    assert "publish_lists = true" in sent.messages
    incident = cli("--json", "abuse", "show", "b.test").json()["incident_id"]
    (entry,) = listed(cli).values()
    assert (entry["address"], entry["incident_id"], entry["is_reported"]) == ("spam@b.test", incident, True)
    assert f"reported by users, incident {incident[:8]}" in cli("lists", "show").out
    none = cli("--json", "abuse", "send", "c.test", "--list")
    assert (none.code, none.json()["listed"]) == (0, [])
    assert listed(cli).keys() == {"spam@b.test"}


def test_nothing_is_listed_because_of_what_users_agreed_to_tell_one_server_alone(
    cli: Any, users: Any
) -> None:
    users(report())
    assert cli("abuse", "send", "b.test").code == 0
    incident = cli("--json", "abuse", "show", "b.test").json()["incident_id"]
    for more in ((), ("--yes-protected",)):
        refused = cli("lists", "add", "spam@b.test", "--incident", incident, *more)
        assert refused.code == 2
        assert "agreed that b.test be told, and nobody else" in refused.messages
        assert "list it without naming that incident" in refused.messages
    assert listed(cli) == {}
    assert cli("lists", "add", "spam@b.test").code == 0
    assert listed(cli).keys() == {"spam@b.test"}


def test_nobody_to_list_is_said_and_protected_names_need_a_second_yes(
    run: Any, configuration: str, users: Any
) -> None:
    def cli(*words: str) -> Any:
        return run(*words, config=configuration + '[policy]\nprotected = ["b.test"]\n')

    users(report(may_go_to_others=True), report(jid="x@c.test"))
    assert "Nobody is listed" in cli("abuse", "send", "c.test", "--list").messages
    refused = cli("abuse", "send", "b.test", "--list")
    assert (refused.code, "nothing was sent" in refused.messages) == (2, True)
    assert "--yes-protected" in refused.messages
    assert (listed(cli), cli("--json", "abuse", "show", "b.test").json()["state"]) == ({}, "open")
    done = cli("--json", "abuse", "send", "b.test", "--list", "--yes-protected")
    assert (done.code, done.json()["listed"]) == (0, ["spam@b.test"])
    assert listed(cli).keys() == {"spam@b.test"}


def test_somebody_in_a_room_is_shown_by_nick_with_a_warning(cli: Any, users: Any) -> None:
    users(report(jid="room@muc.b.test/eve"), report(jid="phone@c.test/x"), report("bob", "phone@c.test"))
    room = cli("abuse", "show", "muc.b.test")
    assert "…/eve" in room.out
    assert "this may be a room, not a person" in room.messages
    both = cli("abuse", "show", "c.test")
    assert "…/x" in both.out
    assert "may be a room" not in both.messages
    (one,) = cli("--json", "abuse", "show", "muc.b.test").json()["accused"]
    assert (one["jid"], one["resources"], one["may_be_room"]) == ("room@muc.b.test", ["eve"], True)


def test_an_own_account_that_users_reported_is_suspended_and_nobody_else(cli: Any, users: Any) -> None:
    admin, eve = f"admin@{HOST}", f"eve@{HOST}"
    users(
        report("carol", admin, is_own=True, is_admin=True),
        report(jid=eve, is_own=True),
        report(jid="x@c.test"),
    )
    assert "abuse act" in cli("abuse", "show", HOST).messages
    assert "abuse act" not in cli("abuse", "show", "c.test").messages
    assert cli("abuse", "act", HOST).code == 2
    refused = cli("abuse", "act", HOST, "--suspend", admin)
    assert (refused.code, "is an admin of this server" in refused.messages) == (2, True)
    assert cli("abuse", "act", HOST, "--suspend", admin, "--preview").code == 2
    assert cli("abuse", "act", "c.test", "--suspend", "x@c.test").code == 2
    done = cli("--json", "abuse", "act", HOST, "--suspend", eve, "--days", "3", "--reason", "spam")
    assert done.code == 0
    draft, approval = done.json()["draft_id"], done.json()["id"]
    assert "by your users; see: incident-bridge" in cli("approvals", "show", approval).out
    mitigation = done.json()["targets"][0]["mitigation_id"]
    assert f"abuse show {draft[:8]}" in cli("mitigations", "show", mitigation).out
    assert f"{eve}: 1 report, you suspended it" in cli("abuse", "show", HOST).out
