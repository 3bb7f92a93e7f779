"""When the pubsub nodes of a host are brought up to date, and when not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from bridge.clients.prosody import Mitigated
from bridge.config import PolicySettings
from bridge.errors import ConfigError, UnsupportedError
from bridge.pipeline import publish
from bridge.pipeline.actors import Actor
from bridge.policy.change import Change, Put
from bridge.policy.mitigation import ProtectedError
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.store.rebuild import rebuild_indexes

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOST = "a.test"
ON = {HOST: SimpleNamespace(publish_lists=True)}
OFF = {HOST: SimpleNamespace(publish_lists=False)}
WHO = Actor("cli:root")


@dataclass
class Server:
    """Takes what it is given in steps of one change; `problem` is what it answers instead."""

    nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    calls: int = 0
    problem: str = ""

    async def publish(self, _: str, nodes: Mapping[str, Sequence[str]]) -> Mitigated:
        self.calls += 1
        if self.problem == "old":
            raise UnsupportedError("its module is too old")
        if self.problem:
            return Mitigated(ok=False, status=409, error=self.problem)
        self.nodes = nodes
        return Mitigated(ok=True, status=200, detail={"more": self.calls < 3, "left_out": 0})


async def waiting(store: Store) -> list[bytes]:
    found: list[bytes] = await store.redis.lrange("ib:lane:outgoing:lists:a.test", 0, -1)  # type: ignore[misc]
    return found


async def listed(store: Store, address: str, **more: object) -> None:
    await publish.list_address(
        store,
        HOST,
        address,
        actor=WHO,
        rules=PolicySettings(),
        now=NOON,
        **more,  # type: ignore[arg-type]
    )


async def test_a_change_of_the_list_is_queued_once_and_the_whole_anew_after_a_while(store: Store) -> None:
    await publish.begin(store, ON, now=NOON)
    assert len(await waiting(store)) == 1
    await publish.begin(store, ON, now=NOON + timedelta(seconds=3))
    assert len(await waiting(store)) == 1

    await listed(store, "bad.test")
    await publish.begin(store, ON, now=NOON + timedelta(seconds=6))
    assert len(await waiting(store)) == 2

    await publish.begin(store, ON, now=NOON + timedelta(seconds=publish.EVERY_SECONDS))
    assert len(await waiting(store)) == 3


async def test_a_host_that_never_opted_in_is_left_alone_and_one_that_opts_out_is_emptied(
    store: Store,
) -> None:
    await listed(store, "bad.test")
    await publish.begin(store, OFF, now=NOON)
    assert await waiting(store) == []

    await publish.begin(store, ON, now=NOON)
    for _ in range(2):
        await publish.begin(store, OFF, now=NOON + timedelta(seconds=3))
    items = await waiting(store)
    assert len(items) == 2
    server = Server()
    sent = await publish.work(store, server, items, hosts=OFF, now=NOON)
    assert sent.count == 2
    assert set(map(tuple, server.nodes.values())) == {()}


async def test_prosody_is_asked_until_it_has_all(store: Store) -> None:
    await listed(store, "bad.test")
    server = Server()
    item = json.dumps({"id": "x", "publish": HOST}).encode()
    sent = await publish.work(store, server, [item], hosts=ON, now=NOON)
    assert (sent.count, server.calls) == (1, 3)
    assert list(server.nodes["spam_source_domains"]) == ["bad.test"]


@pytest.mark.parametrize("problem", ["old", "set incident_bridge_lists = true"])
async def test_a_server_that_publishes_no_lists_holds_nothing_up(store: Store, problem: str) -> None:
    item = json.dumps({"id": "x", "publish": HOST}).encode()
    sent = await publish.work(store, Server(problem=problem), [item], hosts=ON, now=NOON)
    assert sent.count == 1


async def test_a_trusted_peer_is_listed_on_a_second_yes_only(store: Store) -> None:
    peer = Peer(host=HOST, domain="friend.test", trust=Trust.TRUSTED)
    await commit(store, Change(puts=(Put(None, peer),)))
    with pytest.raises(ProtectedError, match="trusted peer"):
        await listed(store, "x@friend.test")
    assert (await publish.published_by(store, HOST, now=NOON)).entries == ()
    await listed(store, "x@friend.test", second_yes=True)
    [entry] = (await publish.published_by(store, HOST, now=NOON)).entries
    assert entry.address == "x@friend.test"


async def test_what_was_said_can_be_replaced_taken_back_and_found_in_the_audit_log(store: Store) -> None:
    await listed(store, "bad.test", reason="spam")
    await publish.withhold(store, HOST, "BAD.test", actor=WHO, now=NOON, reason="a mistake")
    assert (await publish.published_by(store, HOST, now=NOON)).entries == ()
    await publish.take_back(store, HOST, "bad.test", actor=WHO, now=NOON)
    with pytest.raises(ConfigError, match="neither listed"):
        await publish.take_back(store, HOST, "bad.test", actor=WHO, now=NOON)
    rows = [row["action"] for _, row in await load.audits(store, HOST, limit=9)]
    assert rows == ["list.remove", "list.withhold", "list.add"]


async def test_what_is_over_is_deleted_and_what_is_withheld_stays(store: Store) -> None:
    await listed(store, "bad.test", expires_at=NOON + timedelta(days=1))
    await listed(store, "worse.test")
    await publish.withhold(store, HOST, "good.test", actor=WHO, now=NOON)
    assert await publish.forget_listings(store, HOST, now=NOON + timedelta(days=2)) == 1
    found = await publish.published_by(store, HOST, now=NOON)
    assert [one.address for one in (*found.entries, *found.withheld)] == ["worse.test", "good.test"]


async def test_so_many_are_listed_that_each_is_looked_at_and_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MAX_LISTINGS", 2)
    await publish.withhold(store, HOST, "good.test", actor=WHO, now=NOON)
    await listed(store, "bad.test")
    with pytest.raises(ConfigError, match="remove some"):
        await listed(store, "worse.test")
    await listed(store, "bad.test", reason="the same again is no more")


async def test_a_listing_is_found_again_after_the_indexes_are_rebuilt(store: Store) -> None:
    await listed(store, "bad.test")
    await store.redis.delete("ib:i:listing:a.test")
    await store.redis.zadd("ib:i:listing:a.test", {"gone.test": 1})
    await rebuild_indexes(store)
    [entry] = (await publish.published_by(store, HOST, now=NOON)).entries
    assert entry.address == "bad.test"
    assert await store.redis.zrange("ib:i:listing:a.test", 0, -1) == [b"bad.test"]
