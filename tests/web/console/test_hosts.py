"""What people of one host see of what concerns several: endpoints, deliveries, the audit log, charts, sending."""

from datetime import UTC, datetime

from bridge.pipeline.actors import Actor, audits
from bridge.policy.change import Change, Put
from bridge.policy.consumers import Delivery, Endpoint
from bridge.policy.record import Peer
from bridge.policy.sessions import Role
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.web.console.test_pages import SECRET, Open, blockbuster, browse, send, server, store

__all__ = ["blockbuster", "browse", "server", "store"]
NOW = datetime.now(UTC)
SHARED = "ep_aaaaaaaaaaaaaaaa"


async def shared(store: Store) -> None:
    """An endpoint of both hosts, with a delivery of each."""
    one = Endpoint(
        id=SHARED,
        url="https://c.example/in?key=kept-from-a",
        hosts=("a.test", "b.test"),
        secret=SECRET,
        created_at=NOW,
    )
    deliveries = [
        Delivery(
            id=f"d{host[0]}", endpoint_id=SHARED, host=host, event_id=f"event-of-{host[0]}",
            event_type="incident.reported", sequence=1, created_at=NOW,
        )
        for host in one.hosts
    ]  # fmt: skip
    log = audits(one.hosts, Actor("cli:root"), "endpoint.add", SHARED, now=NOW)
    await commit(store, Change(puts=tuple(Put(None, each) for each in (one, *deliveries)), audits=log))


async def test_who_has_one_of_its_hosts_sees_that_part_of_an_endpoint_and_changes_nothing(
    browse: Open, store: Store
) -> None:
    await shared(store)
    client = await browse(a=Role.APPROVER)
    page = await (await client.get(f"/endpoints/{SHARED}")).text()
    assert "event-of-a" in page
    for hidden in ("event-of-b", "b.test", "kept-from-a", "whsec_"):
        assert hidden not in page, hidden
    for action in ("rotate", "remove", "test", "disable", "change", "redeliver", "deliveries/da/redeliver"):
        answer = await send(
            client, f"/endpoints/{SHARED}/{action}", page="/endpoints", which="failed", once="x"
        )
        assert answer.status == 403, action
    name = keys.endpoint(SHARED)
    found = (await load.fetch(store, names=[name])).records[name]
    assert isinstance(found, Endpoint)
    assert found.version == 1


async def test_who_has_none_of_its_hosts_learns_of_no_endpoint(browse: Open, store: Store) -> None:
    await shared(store)
    one = Endpoint(id="ep_b", url="https://c.example/b", hosts=("b.test",), secret=SECRET, created_at=NOW)
    await commit(store, Change(puts=(Put(None, one),)))
    client = await browse(a=Role.APPROVER)
    assert "c.example/b" not in await (await client.get("/endpoints")).text()
    assert (await client.get("/endpoints/ep_b")).status == 404
    data = {"url": "https://c.example/", "hosts": "b.test", "quarantined": "exclude", "once": "x"}
    answer = await send(client, "/endpoints", page="/endpoints/new", **data)
    assert answer.status == 422
    assert "is none of a.test" in await answer.text()


async def test_the_audit_log_has_what_was_done_to_several_hosts_once(browse: Open, store: Store) -> None:
    await shared(store)
    await commit(store, Change(audits=audits((), Actor("cli:root"), "token.create", "t1", now=NOW)))
    both, one = await browse(a=Role.APPROVER, b=Role.APPROVER), await browse(a=Role.APPROVER)
    page = await (await both.get("/audit?what=endpoint")).text()
    assert page.count(f'href="/endpoints/{SHARED}"') == 1
    assert "a.test</bdi>, <bdi>b.test" in page
    assert "token.create" in await (await both.get("/audit?who=root")).text()
    page = await (await one.get("/audit")).text()
    assert f'href="/endpoints/{SHARED}"' in page
    assert "b.test" not in page
    assert "token.create" not in page


async def test_one_sends_in_the_name_of_hosts_that_one_may_act_for_only(browse: Open) -> None:
    client = await browse(a=Role.APPROVER, b=Role.VIEWER)
    typed = {"to": "x.test", "description": "spam", "step": "preview"}
    for host, status in (("a.test", 200), ("b.test", 403), ("c.test", 404)):
        answer = await send(client, "/send/report", host=host, **typed)
        assert answer.status == status, host
    assert (await client.get("/charts?host=c.test&period=nonsense")).status == 200


async def test_trusted_peers_are_offered_and_waiting_requests_listed(browse: Open, store: Store) -> None:
    peers = [Peer(host="a.test", domain=name, trust=trust) for name, trust in
             (("friend.example", Trust.TRUSTED), ("stranger.example", Trust.STRANGER))]  # fmt: skip
    await commit(store, Change(puts=tuple(Put(None, one) for one in peers)))
    client = await browse(a=Role.APPROVER)
    page = await (await client.get("/send/report")).text()
    assert ("friend.example" in page, "stranger.example" in page) == (True, False)
    assert "No request waits." in await (await client.get("/send/response")).text()
