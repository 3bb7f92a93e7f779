"""Peers over the API."""

import base64
import json
from typing import Any

import pytest

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.web.api import paging
from tests.web.api.conftest import HOST, NOW, OTHER, Api, blamed


async def put_peers(store: Store, *peers: Peer) -> None:
    await commit(store, Change(puts=tuple(Put(None, one) for one in peers)))


async def walk(api: Api, query: str = "", *, limit: int = 2) -> list[tuple[str, str]]:
    found, cursor = [], ""
    while True:
        reply = await api("GET", f"/peers?limit={limit}{query}{cursor}")
        assert reply.status == 200, reply
        found += [(one["host"], one["domain"]) for one in reply.body["items"]]
        if reply.body["next"] is None:
            return found
        cursor = f"&cursor={reply.body['next']}"


async def test_peers_are_listed_by_host_and_name_each_once(api: Api, store: Store) -> None:
    peers = [Peer(host=host, domain=f"p{number}.test") for host in (HOST, OTHER) for number in range(5)]
    peers.append(Peer(host=HOST, domain="münchen.test", trust=Trust.TRUSTED))
    await put_peers(store, *peers)
    wanted = sorted(((one.host, one.domain) for one in peers), key=lambda one: (one[0], one[1].encode()))
    assert await walk(api) == wanted
    assert await walk(api, f"&host={OTHER}") == [one for one in wanted if one[0] == OTHER]
    assert await walk(api, "&trust=trusted", limit=1) == [(HOST, "münchen.test")]


async def test_a_peer_that_is_seen_meanwhile_is_neither_lost_nor_repeated(api: Api, store: Store) -> None:
    peers = [Peer(host=HOST, domain=f"p{number}.test") for number in range(6)]
    await put_peers(store, *peers)
    first = await api("GET", "/peers?limit=3")
    for one in peers:
        seen = Peer(host=HOST, domain=one.domain, first_seen_at=NOW, last_seen_at=NOW)
        await commit(store, Change(puts=(Put(Peer(host=HOST, domain=one.domain, version=1), seen),)))
    second = await api("GET", f"/peers?limit=50&cursor={first.body['next']}")
    found = [one["domain"] for one in first.body["items"] + second.body["items"]]
    assert found == [one.domain for one in peers]


async def test_what_is_put_is_all_that_is_decided_and_is_in_the_audit_log(api: Api, store: Store) -> None:
    body = {"trust": "trusted", "rules": {"request": "refuse"}, "forward": True}
    reply = await api("PUT", f"/peers/Peer.TEST?host={HOST}", body)
    assert (reply.status, reply.body["domain"], reply.body["forward"]) == (200, "peer.test", True)
    again = await api("PUT", f"/peers/peer.test?host={HOST}", {"trust": "trusted"})
    assert (again.body["rules"], again.body["forward"]) == ({}, False)
    gone = await api("DELETE", f"/peers/peer.test?host={HOST}")
    assert (gone.status, gone.body["trust"]) == (200, "stranger")
    entries = [(entry["action"], entry["detail"]) for _, entry in await load.audits(store, HOST, limit=10)]
    assert entries[::-1] == [
        ("peer.trust", "trusted"),
        ("peer.rules", "request: refuse"),
        ("peer.forward", "on"),
        ("peer.rules", "none"),
        ("peer.forward", "off"),
        ("peer.trust", "stranger"),
    ]


async def test_a_peer_nobody_knows_is_not_found(api: Api) -> None:
    for method in ("GET", "DELETE"):
        assert (await api(method, f"/peers/peer.test?host={HOST}")).status == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "fields"),
    [
        ("/peers/peer.test", {"trust": "trusted"}, 400, ["host"]),
        ("/peers/peer.test?host=c.test", {"trust": "trusted"}, 400, ["host"]),
        (f"/peers/{HOST}?host={HOST}", {"trust": "trusted"}, 400, ["domain"]),
        (f"/peers/a%20b?host={HOST}", {"trust": "trusted"}, 400, ["domain"]),
        (f"/peers/peer.test?host={HOST}", {}, 422, ["trust"]),
        (f"/peers/peer.test?host={HOST}", {"trust": "friend"}, 422, ["trust"]),
        (
            f"/peers/peer.test?host={HOST}",
            {"trust": "trusted", "rules": {"report": "x"}},
            422,
            ["rules/report"],
        ),
        (f"/peers/peer.test?host={HOST}", {"trust": "trusted", "forward": "yes"}, 422, ["forward"]),
    ],
)
async def test_a_bad_decision_is_refused_and_nothing_is_written(  # noqa: PLR0917 - one case in a line
    api: Api, store: Store, path: str, body: Any, status: int, fields: list[str]
) -> None:
    reply = await api("PUT", path, body)
    assert (reply.status, blamed(reply)) == (status, fields)
    assert await load.names(store, keys.peer_names(HOST), after="", limit=10) == ()


async def test_a_token_of_one_host_needs_not_name_it_and_may_name_no_other(api: Api) -> None:
    bound = await api.with_token(Scope.WRITE, hosts=(HOST,))
    assert (await bound("PUT", "/peers/peer.test", {"trust": "blocked"})).body["host"] == HOST
    refused = await bound("PUT", f"/peers/peer.test?host={OTHER}", {"trust": "blocked"})
    assert (refused.status, blamed(refused)) == (400, ["host"])


async def test_a_made_up_cursor_that_is_no_text_is_refused(api: Api, store: Store) -> None:
    await put_peers(store, *(Peer(host=HOST, domain=f"{letter}.test") for letter in "xyz"))
    given = (await api("GET", "/peers?limit=1")).body["next"]
    of = json.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))[0]
    made = paging.encode((HOST, "\ud800"), of=of)
    reply = await api("GET", f"/peers?limit=1&cursor={made}")
    assert (reply.status, blamed(reply)) == (400, ["cursor"])
