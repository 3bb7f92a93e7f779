"""Clocks over the API: what is due, for which host, and by which command."""

from datetime import UTC, datetime, timedelta

from bridge.policy.consumers import Scope
from bridge.store.connect import Store
from tests.web.api.conftest import HOST, OTHER, Api, blamed
from tests.web.api.test_letters import mailed_to


async def test_what_is_due_is_listed_with_its_command_and_what_is_due_later_if_asked_for(
    api: Api, store: Store
) -> None:
    asked = datetime.now(UTC) - timedelta(days=8)
    await mailed_to(store, "i1", received_at=asked)
    await mailed_to(store, "i2", received_at=asked + timedelta(days=2))
    (one,) = (await api("GET", "/due")).body["items"]
    assert one == {
        "incident_id": "ni1",
        "host": HOST,
        "peer": "c.test",
        "step": "remind",
        "at": (asked + timedelta(days=7)).isoformat().replace("+00:00", "Z"),
        "times": 0,
        "action": "block-host",
        "way": "",
        "may_be_published": True,
        "command": "incident-bridge request --incident ni1 --to c.test --action block-host",
        "log_command": "",
    }
    later = (await api("GET", f"/due?all=true&host={HOST}")).body["items"]
    assert [step["incident_id"] for step in later] == ["ni1", "ni2"]
    await api("PATCH", "/incidents/ni1", {"state": "closed"})
    assert (await api("GET", "/due")).body["items"] == []


async def test_what_is_due_elsewhere_is_not_shown(api: Api, store: Store) -> None:
    await mailed_to(store, "i1", received_at=datetime.now(UTC) - timedelta(days=8))
    assert (await api("GET", f"/due?host={OTHER}")).body["items"] == []
    other = await api.with_token(Scope.READ, hosts=(OTHER,))
    assert (await other("GET", "/due?all=1")).body["items"] == []
    reply = await other("GET", f"/due?host={HOST}")
    assert (reply.status, blamed(reply)) == (400, ["host"])
