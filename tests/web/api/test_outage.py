"""The API while the store is away."""

import tempfile
from pathlib import Path
from typing import Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Endpoint, Scope
from bridge.store import keys
from bridge.store.commit import commit
from bridge.store.connect import Store, close, open_store
from bridge.store.embedded import start_embedded
from tests.web.api.conftest import HOST, NOW, SECRET, Api, blamed, make_app, make_service, make_token

CONFIGURED = "the store cannot be used as it is configured; the log of the service says why"


async def test_a_store_that_is_away_is_503_and_says_nothing_of_our_inside(
    aiohttp_client: Any,
) -> None:
    with tempfile.TemporaryDirectory(prefix="ib-outage-") as folder:
        await _outage(aiohttp_client, Path(folder))


async def _outage(aiohttp_client: Any, folder: Path) -> None:
    server = start_embedded(folder, max_bytes=64 * 2**20)
    store = await open_store(server.url, patience_seconds=0.5)
    _, text = await make_token(store, (Scope.ADMIN,))
    service = make_service(store)
    api = Api(client=await aiohttp_client(make_app(service)), store=store, service=service, token=text)
    assert (await api("GET", "/incidents")).status == 200
    server.stop()
    for method, path, body in (("GET", "/incidents", None), ("POST", "/interactions", {"kind": "report"})):
        reply = await api(method, path, body, headers={"Idempotency-Key": "k"})
        assert (reply.status, blamed(reply)) == (503, [])
        assert int(reply.headers["Retry-After"]) >= 1
        assert "sock" not in str(reply.body)
    await close(store)


async def test_a_store_that_refuses_us_is_503_and_its_address_is_not_told(aiohttp_client: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="ib-outage-") as folder:
        server = start_embedded(Path(folder), max_bytes=64 * 2**20)
        operator = await open_store(server.url)
        await operator.redis.config_set("requirepass", "before")
        store = await open_store(server.url.replace("://", "://:before@"))
        try:
            await _refused(aiohttp_client, store, operator)
        finally:
            await close(store)
            await close(operator)
            server.stop()


async def _refused(aiohttp_client: Any, store: Store, operator: Store) -> None:
    _, text = await make_token(store, (Scope.ADMIN,))
    service = make_service(store)
    api = Api(client=await aiohttp_client(make_app(service)), store=store, service=service, token=text)
    await operator.redis.config_set("requirepass", "rotated")
    store.redis.set_retry(Retry(NoBackoff(), 0))  # or it is tried again until it is late
    await store.redis.connection_pool.disconnect()
    reply = await api("GET", "/incidents")
    assert (reply.status, reply.body["detail"]) == (503, CONFIGURED)
    assert int(reply.headers["Retry-After"]) >= 1


async def test_a_record_of_a_newer_release_is_503(api: Api, store: Store) -> None:
    endpoint = Endpoint(id="ep_a", url="https://a.test/", hosts=(HOST,), secret=SECRET, created_at=NOW)
    await commit(store, Change(puts=(Put(None, endpoint),)))
    await store.redis.hset(keys.record_key(keys.endpoint("ep_a")), "d", b"\xff")
    reply = await api("GET", "/endpoints/ep_a")
    assert (reply.status, reply.body["detail"]) == (503, CONFIGURED)
