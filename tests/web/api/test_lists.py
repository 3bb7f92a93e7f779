"""Published lists over the API."""

from datetime import timedelta
from typing import Any

import pytest

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.web.api.conftest import HOST, NOW, OTHER, Api, blamed


async def entries(api: Api, host: str = HOST) -> list[str]:
    reply = await api("GET", f"/lists?host={host}")
    assert reply.status == 200, reply
    [one] = reply.body["items"]
    assert one["is_published"] is False
    return [entry["address"] for entry in one["entries"]]


async def test_an_address_is_listed_withheld_and_taken_back(api: Api) -> None:
    where = f"/lists/Eve%40Bad.TEST?host={HOST}"
    reply = await api("PUT", where, {"is_published": True, "reason": "spam"})
    assert (reply.status, reply.body["address"]) == (200, "eve@bad.test")
    assert await entries(api) == ["eve@bad.test"]
    assert await entries(api, OTHER) == []

    assert (await api("PUT", f"/lists/bad.test?host={HOST}", {"is_published": False})).status == 200
    assert await entries(api) == []
    assert (await api("DELETE", f"/lists/bad.test?host={HOST}")).body["is_published"] is False
    assert await entries(api) == ["eve@bad.test"]
    assert (await api("DELETE", where)).status == 200
    assert (await api("DELETE", where)).status == 404


@pytest.mark.parametrize(
    ("address", "body", "field"),
    [
        (HOST, {"is_published": True}, "address"),
        ("a..b", {"is_published": False}, "address"),
        ("x.test", {"is_published": True, "expires_at": NOW.isoformat()}, "expires_at"),
        (
            "x.test",
            {"is_published": True, "expires_at": (NOW + timedelta(days=9999)).isoformat()},
            "expires_at",
        ),
        ("x.test", {"is_published": True, "incident_id": "none"}, "incident_id"),
        ("x.test", {"is_published": True, "reason": "\u0007"}, "reason"),
        ("x.test", {}, "is_published"),
        ("friend.test", {"is_published": True}, "second_yes"),
    ],
)
async def test_what_cannot_be_said_names_the_field(
    api: Api, store: Store, address: str, body: dict[str, Any], field: str
) -> None:
    peer = Peer(host=HOST, domain="friend.test", trust=Trust.TRUSTED)
    await commit(store, Change(puts=(Put(None, peer),)))
    reply = await api("PUT", f"/lists/{address}?host={HOST}", body)
    assert (reply.status, blamed(reply)) == (422 if field != "address" else 400, [field])
    assert await entries(api) == []


async def test_a_second_yes_lists_a_protected_name(api: Api, store: Store) -> None:
    peer = Peer(host=HOST, domain="friend.test", trust=Trust.TRUSTED)
    await commit(store, Change(puts=(Put(None, peer),)))
    body = {"is_published": True, "second_yes": True}
    assert (await api("PUT", f"/lists/friend.test?host={HOST}", body)).status == 200
    assert await entries(api) == ["friend.test"]


async def test_who_may_not_approve_may_not_list(api: Api) -> None:
    robot = await api.with_token(Scope.READ, Scope.WRITE)
    reply = await robot("PUT", f"/lists/x.test?host={HOST}", {"is_published": True})
    assert reply.status == 403
