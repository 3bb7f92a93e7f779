"""The API while the store is away."""

import tempfile
from pathlib import Path
from typing import Any

from bridge.policy.record import Scope
from bridge.store.connect import close, open_store
from bridge.store.embedded import start_embedded
from tests.web.api.conftest import Api, blamed, make_app, make_service, make_token


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
