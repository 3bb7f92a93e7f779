"""The page of the lists, and what everybody may fetch."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from bridge.config import HostSettings, Settings
from bridge.errors import UnavailableError
from bridge.pipeline import publish
from bridge.policy.change import Change, Put
from bridge.policy.publish import Published
from bridge.policy.record import Peer
from bridge.policy.sessions import Role
from bridge.policy.trust import Trust
from bridge.store.commit import commit
from bridge.store.connect import Durability, Store
from bridge.web import lists
from bridge.web.state import SERVICE, Service
from tests.web.console.test_pages import Open, blockbuster, browse, send, server, store

__all__ = ["blockbuster", "browse", "server", "store"]


async def addresses(store: Store, host: str = "a.test") -> set[str]:
    found = await publish.published_by(store, host, now=datetime.now(UTC))
    return {one.address for one in found.entries}


async def test_an_address_is_listed_kept_off_and_taken_off_on_the_page(browse: Open, store: Store) -> None:
    client = await browse(a=Role.APPROVER)
    answer = await send(client, "/lists/a.test", page="/lists", do="list", address="Bad.test", days="7")
    assert answer.headers["Location"] == "/lists?said=list"
    assert await addresses(store) == {"bad.test"}
    page = await (await client.get("/lists")).text()
    assert "bad.test" in page
    assert 'href="/lists"' in await (await client.get("/mitigations")).text()
    assert "publish_lists = true" in page  # it has not opted in

    await send(client, "/lists/a.test", page="/lists", do="withhold", address="bad.test", reason="<b>oops")
    assert await addresses(store) == set()
    page = await (await client.get("/lists")).text()
    assert "&lt;b&gt;oops" in page
    await send(client, "/lists/a.test", page="/lists", do="unlist", address="bad.test")
    assert "Kept off" not in await (await client.get("/lists")).text()


async def test_a_protected_name_asks_for_a_second_yes_on_the_page(browse: Open, store: Store) -> None:
    peer = Peer(host="a.test", domain="friend.test", trust=Trust.TRUSTED)
    await commit(store, Change(puts=(Put(None, peer),)))
    client = await browse(a=Role.APPROVER)
    fields = {"do": "list", "address": "friend.test", "days": "7"}
    answer = await send(client, "/lists/a.test", page="/lists", **fields)
    assert answer.status == 422
    assert 'name="protected"' in await answer.text()
    assert await addresses(store) == set()
    await send(client, "/lists/a.test", page="/lists", **fields, protected="yes")
    assert await addresses(store) == {"friend.test"}


@pytest.mark.parametrize(
    ("host", "fields", "status"),
    [
        ("b.test", {"do": "list", "address": "x.test"}, 403),
        ("c.test", {"do": "list", "address": "x.test"}, 404),
        ("a.test", {"do": "list", "address": "muc.a.test"}, 422),
        ("a.test", {"do": "list", "address": "x.test", "days": "0"}, 422),
        ("a.test", {"do": "burn", "address": "x.test"}, 422),
        ("a.test", {"do": "unlist", "address": "x.test"}, 422),
    ],
)
async def test_what_may_not_be_said_is_refused(
    browse: Open, store: Store, host: str, fields: dict[str, str], status: int
) -> None:
    client = await browse(a=Role.APPROVER, b=Role.VIEWER)
    assert (await send(client, f"/lists/{host}", page="/lists", **fields)).status == status
    assert await addresses(store, host) == set()


def service(store: Store) -> Service:
    hosts = {"a.test": HostSettings(secrets=(), publish_lists=True), "b.test": HostSettings(secrets=())}
    durability = Durability(mode="disk", problems=(), fix=())
    return Service(settings=Settings(hosts=hosts), store=store, durability=durability, keys={})


async def test_who_opted_in_is_read_by_everybody_and_asked_again_in_vain_while_nothing_changes(
    store: Store, aiohttp_client: Any
) -> None:
    app = web.Application()
    app[SERVICE] = service(store)
    app.add_routes(lists.routes())
    client = await aiohttp_client(app)
    peer_rules = Settings().policy
    actor = publish.Actor("cli:root")
    await publish.list_address(
        store, "a.test", "bad.test", actor=actor, rules=peer_rules, now=datetime.now(UTC)
    )

    got = await client.get("/lists/a.test/domains.txt")
    assert (got.status, await got.text()) == (200, "bad.test\n")
    assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
    again = await client.get("/lists/a.test/domains.txt", headers={"If-None-Match": got.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")
    await publish.withhold(store, "a.test", "bad.test", actor=actor, now=datetime.now(UTC))
    kept = await client.get("/lists/a.test/domains.txt")
    assert await kept.text() == "bad.test\n"  # for a second, whoever asks
    made_at, body = app[SERVICE].lists["a.test"]
    app[SERVICE].lists["a.test"] = (made_at - 1, body)
    after = await client.get("/lists/a.test/domains.txt", headers={"If-None-Match": got.headers["ETag"]})
    assert (after.status, await after.text()) == (200, "")
    for host in ("b.test", "c.test"):
        assert (await client.get(f"/lists/{host}/domains.txt")).status == 404


async def test_the_store_is_asked_once_however_many_ask_for_a_list_at_the_same_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    begun, goes_on = asyncio.Event(), asyncio.Event()
    is_away = True

    async def published_by(store: Store, host: str, *, now: datetime) -> Published:
        asked.append(host)
        begun.set()
        await goes_on.wait()
        if is_away:
            raise UnavailableError("the store is away")
        return await publish.published_by(store, host, now=now)

    monkeypatch.setattr(lists, "published_by", published_by)
    made = service(store)

    async def ask(times: int) -> list[bytes | BaseException]:
        asking = [asyncio.create_task(lists._body(made, "a.test")) for _ in range(times)]
        await asyncio.wait_for(begun.wait(), 30)
        asking.pop(0).cancel()  # who asked first goes away, and stops nobody's
        goes_on.set()
        return await asyncio.gather(*asking, return_exceptions=True)

    failed = await ask(20)
    assert (len(asked), {type(one) for one in failed}) == (1, {UnavailableError})
    is_away = False
    for each in (asked, begun, goes_on):
        each.clear()
    assert (await ask(20), asked) == ([b""] * 19, ["a.test"])
