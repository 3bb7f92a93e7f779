"""Lists of others over the API."""

from typing import Any

import pytest

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.test_feeds import Web, feeds, read
from tests.web.api.conftest import HOST, OTHER, Api, blamed

LIST = "https://one.example/list.txt"


async def subscribed(api: Api, store: Store, text: str, url: str = LIST) -> str:
    reply = await api("POST", "/feeds", {"host": HOST, "url": url})
    assert reply.status == 201, reply
    known = await feeds.find(store, reply.body["id"])
    assert known is not None
    await read(store, Web({url: text}), known)
    return str(reply.body["id"])


async def test_a_list_is_subscribed_to_shown_and_removed(api: Api, store: Store) -> None:
    feed_id = await subscribed(api, store, "bad.test\nworse.test")
    [one] = (await api("GET", f"/feeds?host={HOST}")).body["items"]
    assert (one["id"], one["url"], one["names"], one["problem"]) == (feed_id, LIST, 2, "")
    assert (await api("GET", f"/feeds/{feed_id}")).body == one
    assert (await api("GET", f"/feeds?host={OTHER}")).body["items"] == []
    assert (await api("DELETE", f"/feeds/{feed_id}")).status == 204
    assert (await api("DELETE", f"/feeds/{feed_id}")).status == 404


async def test_what_they_propose_is_shown_with_who_says_so_and_one_yes_blocks_it(
    api: Api, store: Store
) -> None:
    await subscribed(api, store, "bad.test")
    what = (await api("GET", f"/feeds/proposals?host={HOST}")).body
    assert (what["quorum"], what["items"], what["fewer"]) == (2, [], 1)
    what = (await api("GET", f"/feeds/proposals?host={HOST}&quorum=1")).body
    assert [(one["domain"], one["by"][0]["url"], one["standing"]) for one in what["items"]] == [
        ("bad.test", LIST, "")
    ]
    named = (await api("GET", f"/feeds/named?host={HOST}&address=Eve@Bad.test")).body
    assert (named["address"], [one["url"] for one in named["by"]]) == ("eve@bad.test", [LIST])

    reply = await api("POST", "/feeds/block", {"host": HOST, "domain": "bad.test"})
    assert (reply.status, reply.body["feeds"], reply.body["incident_id"]) == (200, [LIST], "")
    assert (await api("POST", "/feeds/block", {"host": HOST, "domain": "bad.test"})).status == 409
    [made] = (await api("GET", f"/mitigations?host={HOST}")).body["items"]
    assert (made["target"], made["feeds"]) == ({"domain": "bad.test"}, [LIST])


async def test_a_yes_under_the_same_key_blocks_once(api: Api, store: Store) -> None:
    await subscribed(api, store, "bad.test")
    body, key = {"host": HOST, "domain": "bad.test"}, {"headers": {"Idempotency-Key": "k1"}}
    replies = [await api("POST", "/feeds/block", body, **key) for _ in range(2)]
    assert [one.status for one in replies] == [200, 200]
    assert len((await api("GET", f"/mitigations?host={HOST}")).body["items"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/feeds", {"host": HOST, "url": "one.example"}, 422, "url"),
        ("POST", "/feeds", {"host": HOST, "url": f"xmpp:pubsub.{OTHER}?;node=x"}, 422, "url"),
        ("POST", "/feeds", {"url": LIST}, 422, "host"),
        ("GET", f"/feeds/proposals?host={HOST}&quorum=0", None, 400, "quorum"),
        ("GET", f"/feeds/named?host={HOST}&address=a..b", None, 400, "address"),
        ("POST", "/feeds/block", {"host": HOST, "domain": "friend.test"}, 422, "second_yes"),
        ("POST", "/feeds/block", {"host": HOST, "domain": "bad.test", "expires_at": "2020-01-01T00:00:00Z"}, 422,
         "expires_at"),
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_names_the_field(
    api: Api, store: Store, *, method: str, path: str, body: Any, status: int, field: str
) -> None:
    await commit(store, Change(puts=(Put(None, Peer(host=HOST, domain="friend.test", trust=Trust.TRUSTED)),)))
    await subscribed(api, store, "bad.test\nfriend.test")
    reply = await api(method, path, body)
    assert (reply.status, blamed(reply)) == (status, [field])


async def test_reading_subscribing_and_blocking_need_scopes_of_their_own(api: Api, store: Store) -> None:
    feed_id = await subscribed(api, store, "bad.test")
    reader, writer = await api.with_token(Scope.READ), await api.with_token(Scope.READ, Scope.WRITE)
    assert (await reader("GET", "/feeds")).status == 200
    assert (await reader("POST", "/feeds", {"host": HOST, "url": LIST})).status == 403
    assert (await writer("POST", "/feeds/block", {"host": HOST, "domain": "bad.test"})).status == 403
    other = await api.with_token(Scope.ADMIN, hosts=(OTHER,))
    assert (await other("GET", f"/feeds/{feed_id}")).status == 404
    assert (await other("DELETE", f"/feeds/{feed_id}")).status == 404
