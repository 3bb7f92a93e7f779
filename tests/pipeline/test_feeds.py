"""Lists of others: subscribed to, read, and what a yes to what they name does."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.clients.endpoint import Page
from bridge.clients.prosody import Mitigated
from bridge.config import PolicySettings
from bridge.errors import ConfigError, UnsupportedError
from bridge.pipeline import feed_read, feeds, publish
from bridge.pipeline.actors import Actor
from bridge.policy.change import Change, Put, Sent
from bridge.policy.decisions import Mitigation, MitigationState
from bridge.policy.feed_record import Feed
from bridge.policy.mitigation import ProtectedError, applied
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.store.rebuild import rebuild_indexes

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOST = "a.test"
WHO = Actor("cli:root")
ONE, TWO = "https://one.example/list.txt", "https://two.example/list.txt"
NODE = "xmpp:bl.example?;node=spam_source_domains"
RULES = PolicySettings()


@dataclass
class Web:
    """Serves these pages; the mark of each is its own text."""

    pages: dict[str, str] = field(default_factory=dict)
    error: str = ""

    async def get(self, url: str, *, mark: str, max_bytes: int) -> Page:
        assert max_bytes == feed_read.MAX_BYTES
        text = self.pages.get(url)
        if text is None or self.error:
            return Page(error=self.error or "it answered 404")
        return Page(mark=mark) if mark == text else Page(text=text, mark=text)


@dataclass
class Server:
    """A Prosody that answers this about a list."""

    detail: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    is_old: bool = False
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def read_list(self, host: str, service: str, node: str, *, known: str = "") -> Mitigated:
        self.asked.append((host, service, node, known))
        if self.is_old:
            raise UnsupportedError("its module is too old")
        return Mitigated(
            ok=not self.error, status=409 if self.error else 200, error=self.error, detail=self.detail
        )

    async def forget_list(self, host: str, service: str, node: str) -> Mitigated:
        self.asked.append(("forget", host, service, node))
        return Mitigated(ok=True, status=200)


async def settle(store: Store, sent: Sent) -> None:
    await commit(store, sent.change)


async def read(store: Store, web: Web, one: Feed, *, at: datetime = NOON) -> Feed:
    item = json.dumps({"id": "x", "feed": one.id}).encode()
    await settle(store, await feed_read.read_page(store, web, [item], now=lambda: at))
    found = await feeds.find(store, one.id)
    assert found is not None
    return found


async def subscribed(store: Store, lists: Mapping[str, str], *, at: datetime = NOON) -> list[Feed]:
    web = Web(dict(lists))
    made = [await feeds.subscribe(store, HOST, url, actor=WHO, now=at) for url in lists]
    return [await read(store, web, one, at=at) for one in made]


async def items(store: Store, queue: str, one: Feed) -> list[dict[str, Any]]:
    found: list[bytes] = await store.redis.lrange(f"ib:lane:{queue}:feed:{one.id}", 0, -1)  # type: ignore[misc]
    return [json.loads(each) for each in found]


async def block(store: Store, domain: str, **more: Any) -> Any:
    given = {"own": [HOST], "approval_id": "p1", "actor": WHO, "rules": RULES, "now": NOON} | more
    return await feeds.block(store, HOST, domain, **given)


async def mitigations(store: Store) -> list[Mitigation]:
    members = (await load.newest(store, [keys.mitigations(HOST)], limit=9))[keys.mitigations(HOST)]
    records = (await load.fetch(store, names=[keys.mitigation(one) for one in members])).records.values()
    return [one for one in records if isinstance(one, Mitigation)]


async def proposed(store: Store, **more: Any) -> list[str]:
    what = await feeds.proposals(store, HOST, own=[HOST, "c.test"], rules=RULES, now=NOON, **more)
    return [f"{one.domain} {one.standing}".strip() for one in what.found]


async def test_a_list_is_read_at_once_then_when_it_is_due_and_a_node_through_prosody(store: Store) -> None:
    page = await feeds.subscribe(store, HOST, ONE, actor=WHO, now=NOON)
    node = await feeds.subscribe(store, HOST, NODE, actor=WHO, now=NOON)
    assert [one["feed"] for one in await items(store, "deliveries", page)] == [page.id]
    assert [one["feed"] for one in await items(store, "outgoing", node)] == [node.id]

    await feed_read.begin(store, [HOST], now=NOON)  # nobody took them yet: the same items
    assert len(await items(store, "deliveries", page)) == 1
    await read(store, Web({ONE: "bad.test"}), page)
    await feed_read.begin(store, [HOST], now=NOON + timedelta(minutes=10))
    assert len(await items(store, "deliveries", page)) == 1
    await feed_read.begin(store, [HOST], now=NOON + timedelta(hours=2))
    assert len(await items(store, "deliveries", page)) == 2


async def test_a_list_is_known_by_where_it_is_and_asking_for_it_again_reads_it_anew(store: Store) -> None:
    [first] = await subscribed(store, {ONE: "bad.test"})
    again = await feeds.subscribe(store, HOST, ONE, actor=WHO, now=NOON + timedelta(minutes=1))
    assert (again.id, again.names) == (first.id, 1)
    assert [one.url for one in await feeds.listed(store, HOST)] == [ONE]
    assert len(await items(store, "deliveries", first)) == 2
    assert [row["action"] for _, row in await load.audits(store, HOST, limit=9)] == ["feed.add"]


async def test_so_many_lists_are_subscribed_to_and_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.policy.feed.MAX_FEEDS", 1)
    await feeds.subscribe(store, HOST, ONE, actor=WHO, now=NOON)
    with pytest.raises(ConfigError, match="remove one"):
        await feeds.subscribe(store, HOST, TWO, actor=WHO, now=NOON)


async def test_what_a_list_names_is_kept_with_since_when_and_what_it_takes_back_is_gone(store: Store) -> None:
    web = Web({ONE: "bad.test\nworse.test\n"})
    one = await feeds.subscribe(store, HOST, ONE, actor=WHO, now=NOON)
    first = await read(store, web, one)
    assert (first.names, first.problem, first.read_at, first.changed_at) == (2, "", NOON, NOON)
    later = NOON + timedelta(hours=1)
    same = await read(store, web, one, at=later)
    assert (same.read_at, same.changed_at) == (later, NOON)
    web.pages[ONE] = "bad.test"
    assert (await read(store, web, one, at=later)).names == 1
    named = await feeds.named(store, HOST, ["bad.test", "eve@bad.test", "worse.test"])
    assert {address: [each.since for each in by] for address, by in named.items()} == {
        "bad.test": [NOON],
        "eve@bad.test": [NOON],
    }


async def test_a_list_that_cannot_be_read_says_why_and_what_it_named_stands(store: Store) -> None:
    [one] = await subscribed(store, {ONE: "bad.test"})
    after = await read(store, Web(error="it answered 503"), one)
    assert (after.problem, after.names) == ("it answered 503", 1)
    assert await proposed(store, quorum=1) == ["bad.test"]
    assert (await read(store, Web({ONE: "bad.test"}), one)).problem == ""


async def test_what_is_no_list_at_all_does_not_empty_one(store: Store) -> None:
    [one] = await subscribed(store, {ONE: "bad.test"})
    after = await read(store, Web({ONE: "<html>\n<p>down for maintenance</p>"}), one)
    assert (after.names, "no list" in after.problem) == (1, True)
    assert (await read(store, Web({ONE: "# nobody\n"}), one)).names == 0


async def test_a_node_is_read_when_prosody_has_it_and_asked_only_for_what_changed(store: Store) -> None:
    one = await feeds.subscribe(store, HOST, NODE, actor=WHO, now=NOON)
    item = json.dumps({"id": "x", "feed": one.id}).encode()

    async def told(server: Server) -> Feed:
        sent = await feed_read.read_node(store, server, [item, item], now=lambda: NOON)
        assert sent.count == 2
        await settle(store, sent)
        found = await feeds.find(store, one.id)
        assert found is not None
        return found

    loading = await told(Server({"state": "loading"}))
    assert (loading.read_at, loading.due_at) == (None, NOON + timedelta(seconds=5))
    ready = await told(
        Server({"state": "ready", "revision": "r1", "names": ["bad.test", "x y"], "left_out": 3})
    )
    assert (ready.names, ready.bad, ready.left_out, ready.mark) == (1, 1, 3, "r1")
    server = Server({"state": "ready", "revision": "r1", "unchanged": True})
    assert (await told(server)).names == 1
    assert server.asked == [(HOST, "bl.example", "spam_source_domains", "r1")]
    assert (await told(Server(error="item-not-found"))).problem == "item-not-found"
    assert "too old" in (await told(Server(is_old=True))).problem
    assert await proposed(store, quorum=1) == ["bad.test"]


async def test_what_is_no_longer_subscribed_to_proposes_nothing_and_prosody_forgets_it(store: Store) -> None:
    [one] = await subscribed(store, {ONE: "bad.test"})
    node = await feeds.subscribe(store, HOST, NODE, actor=WHO, now=NOON)
    for each in (one, node):
        await feeds.unsubscribe(store, each, actor=WHO, now=NOON)
        await feeds.unsubscribe(store, each, actor=WHO, now=NOON)
    assert await feeds.listed(store, HOST) == []
    assert await proposed(store, quorum=1) == []
    assert [key async for key in store.redis.scan_iter("ib:r:feed*")] == []
    waiting = [json.dumps(each).encode() for each in await items(store, "outgoing", node)]
    server = Server()
    while waiting:
        sent = await feed_read.read_node(store, server, waiting, now=lambda: NOON)
        await settle(store, sent)
        waiting = waiting[sent.count :]
    assert server.asked == [("forget", HOST, "bl.example", "spam_source_domains")]


async def test_nothing_is_proposed_before_enough_lists_agree_and_nothing_done_before_a_yes(
    store: Store,
) -> None:
    await subscribed(store, {ONE: "bad.test\nworse.test", TWO: "bad.test"})
    assert await proposed(store) == ["bad.test"]
    assert await mitigations(store) == []
    assert (await publish.published_by(store, HOST, now=NOON)).entries == ()


async def test_a_yes_blocks_and_keeps_which_lists_named_it_and_publishes_nothing(store: Store) -> None:
    await subscribed(store, {ONE: "bad.test", TWO: "bad.test"})
    after = await block(store, "Bad.test")
    [made] = await mitigations(store)
    assert (made.target, made.feeds, made.incident_id) == ({"domain": "bad.test"}, (ONE, TWO), "")
    assert "2 lists" in made.reason
    assert after.feeds == (ONE, TWO)
    in_force = applied(made, at=NOON)
    await commit(store, Change(puts=(Put(made, in_force),)))
    assert (await publish.published_by(store, HOST, now=NOON)).entries == ()
    assert await proposed(store) == ["bad.test blocked"]
    with pytest.raises(ConfigError, match=r"blocked on a\.test already"):
        await block(store, "bad.test", approval_id="p2")


async def test_a_yes_that_is_sent_twice_blocks_once(store: Store) -> None:
    await subscribed(store, {ONE: "bad.test"})
    first = await block(store, "bad.test")
    assert (await block(store, "bad.test")).targets == first.targets
    assert len(await mitigations(store)) == 1


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("unnamed.test", "none of the lists"),
        ("eve@bad.test", "not a server's domain"),
        ("a.test", "this host itself"),
        ("kept.test", "kept.test is withheld"),
        ("muc.a.test", "muc.a.test is own"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_says_why(store: Store, domain: str, why: str) -> None:
    await publish.withhold(store, HOST, "kept.test", actor=WHO, now=NOON)
    await subscribed(store, {ONE: "bad.test\na.test\nkept.test\nmuc.a.test"})
    with pytest.raises(ConfigError, match=why):
        await block(store, domain)
    assert await mitigations(store) == []


async def test_a_trusted_peer_that_lists_name_is_blocked_on_a_second_yes_only(store: Store) -> None:
    await commit(store, Change(puts=(Put(None, Peer(host=HOST, domain="friend.test", trust=Trust.TRUSTED)),)))
    await subscribed(store, {ONE: "friend.test"})
    assert await proposed(store, quorum=1) == ["friend.test trusted"]
    with pytest.raises(ProtectedError):
        await block(store, "friend.test")
    await block(store, "friend.test", second_yes=True)
    [made] = await mitigations(store)
    assert made.state is MitigationState.PENDING


async def test_feeds_are_found_again_after_the_indexes_are_rebuilt(store: Store) -> None:
    [one] = await subscribed(store, {ONE: "bad.test"})
    await block(store, "bad.test")
    indexes = [keys.feeds(HOST), keys.FEEDS_DUE, keys.mitigations_active(HOST)]
    before = [await store.redis.zrange(index, 0, -1, withscores=True) for index in indexes]
    await store.redis.delete(*indexes)
    await store.redis.zadd(keys.feeds(HOST), {"gone": 1})
    await rebuild_indexes(store)
    assert [await store.redis.zrange(index, 0, -1, withscores=True) for index in indexes] == before
    assert [each.id for each in await feeds.listed(store, HOST)] == [one.id]
