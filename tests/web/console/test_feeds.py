"""The pages of lists of others."""

import hashlib

import pytest

from bridge.pipeline import feeds
from bridge.policy.change import Change, Put
from bridge.policy.record import Peer
from bridge.policy.sessions import Role
from bridge.policy.trust import Trust
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.pipeline.test_abuse import hear, report
from tests.pipeline.test_feeds import ONE, TWO, WHO, mitigations, read, subscribed
from tests.pipeline.test_feeds import Web as Pages
from tests.web.console.test_pages import Open, blockbuster, browse, send, server, store

__all__ = ["blockbuster", "browse", "server", "store"]


async def test_a_list_is_subscribed_to_read_and_ended_on_the_page(browse: Open, store: Store) -> None:
    client = await browse(a=Role.APPROVER)
    answer = await send(client, "/feeds/a.test", page="/feeds", do="subscribe", url=ONE)
    assert answer.headers["Location"] == "/feeds?said=subscribe"
    [one] = await feeds.listed(store, "a.test")
    assert "not read yet" in await (await client.get("/feeds")).text()
    await read(store, Pages(error="<b>it answered 503"), one)
    assert "&lt;b&gt;it answered 503" in await (await client.get("/feeds")).text()
    assert 'href="/feeds"' in await (await client.get("/lists")).text()
    await send(client, "/feeds/a.test", page="/feeds", do="subscribe", url=ONE, publisher=" Alice")
    assert "published by <bdi>alice" in await (await client.get("/feeds")).text()
    await send(client, "/feeds/a.test", page="/feeds", do="unsubscribe", id=one.id)
    assert await feeds.listed(store, "a.test") == []


async def test_what_enough_lists_name_is_looked_at_and_blocked_once(browse: Open, store: Store) -> None:
    await subscribed(store, {ONE: "bad.test\nworse.test", TWO: "bad.test"})
    client = await browse(a=Role.APPROVER)
    page = await (await client.get("/feeds")).text()
    assert "bad.test" in page
    assert "worse.test" not in page
    assert "1 more server by fewer publishers" in page
    assert "worse.test" in await (await client.get("/feeds?quorum=1")).text()

    look = "/feeds/a.test?domain=bad.test"
    page = await (await client.get(look)).text()
    assert ONE in page
    assert "What it would touch is not known" in page  # no Prosody runs here
    for _ in range(2):
        answer = await send(client, "/feeds/a.test/block", page=look, domain="bad.test", nonce="n1", days="7")
        assert answer.status == 303
    [made] = await mitigations(store)
    assert made.feeds == (ONE, TWO)
    page = await (await client.get(f"/mitigations/{made.id}")).text()
    assert "named by" in page
    assert TWO in page
    page = await (await client.get("/feeds")).text()
    assert "1 server that you decided about" in page
    assert "Nothing is proposed" in page


async def test_what_lists_no_longer_name_can_be_taken_back(browse: Open, store: Store) -> None:
    [one, _] = await subscribed(store, {ONE: "bad.test", TWO: "bad.test"})
    client = await browse(a=Role.APPROVER)
    look = "/feeds/a.test?domain=bad.test"
    await send(client, "/feeds/a.test/block", page=look, domain="bad.test", nonce="n1")
    await read(store, Pages({ONE: "other.test"}), one)
    [made] = await mitigations(store)
    page = await (await client.get("/")).text()
    assert "1 server blocked because of them is named by fewer now" in page
    page = await (await client.get("/feeds")).text()
    assert "1 list still names it" in page
    assert f"/mitigations/{made.id}" in page


async def test_a_trusted_peer_is_blocked_on_a_second_yes_only(browse: Open, store: Store) -> None:
    await commit(
        store, Change(puts=(Put(None, Peer(host="a.test", domain="friend.test", trust=Trust.TRUSTED)),))
    )
    await subscribed(store, {ONE: "friend.test"})
    client = await browse(a=Role.APPROVER)
    look = "/feeds/a.test?domain=friend.test"
    answer = await send(client, "/feeds/a.test/block", page=look, domain="friend.test", nonce="n1")
    assert answer.status == 422
    assert 'name="second"' in await answer.text()
    assert await mitigations(store) == []
    answer = await send(
        client, "/feeds/a.test/block", page=look, domain="friend.test", nonce="n1", second="yes"
    )
    assert answer.status == 303


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/feeds/b.test", {"do": "subscribe", "url": ONE}, 403),
        ("/feeds/c.test", {"do": "subscribe", "url": ONE}, 404),
        ("/feeds/a.test", {"do": "subscribe", "url": "http://127.0.0.1/"}, 422),
        ("/feeds/a.test", {"do": "subscribe", "url": "xmpp:muc.b.test?;node=x"}, 422),
        ("/feeds/a.test", {"do": "unsubscribe", "id": "none"}, 404),
        ("/feeds/a.test", {"do": "burn"}, 422),
        ("/feeds/b.test/block", {"domain": "bad.test"}, 403),
        ("/feeds/a.test/block", {"domain": "unnamed.test"}, 422),
        ("/feeds/a.test/block", {"domain": "a..b"}, 422),
        ("/feeds/a.test/block", {"domain": "bad.test", "days": "0"}, 422),
    ],
)
async def test_what_may_not_be_done_is_refused(
    browse: Open, store: Store, path: str, fields: dict[str, str], status: int
) -> None:
    await feeds.subscribe(
        store, "b.test", TWO, actor=WHO, now=(await subscribed(store, {ONE: "bad.test"}))[0].added_at
    )
    client = await browse(a=Role.APPROVER, b=Role.VIEWER)
    assert (await send(client, path, page="/feeds", **fields)).status == status
    assert await mitigations(store) == []


async def test_a_viewer_sees_what_lists_name_and_no_button(browse: Open, store: Store) -> None:
    await subscribed(store, {ONE: "bad.test", TWO: "bad.test"})
    client = await browse(a=Role.VIEWER)
    page = await (await client.get("/feeds")).text()
    assert "bad.test" in page
    assert "Look at it" not in page
    assert "Subscribe to a list" not in page
    assert "Block it" not in await (await client.get("/feeds/a.test?domain=bad.test")).text()


async def test_what_users_report_shows_which_lists_name_it_too(browse: Open, store: Store) -> None:
    await hear(store, report(jid="eve@bad.test"))
    await subscribed(store, {ONE: f"{hashlib.sha256(b'eve@bad.test').hexdigest()}", TWO: "bad.test"})
    page = await (await (await browse(a=Role.APPROVER)).get("/")).text()
    assert "on 1 list of others" in page
    assert "on 2 lists of others" in page
