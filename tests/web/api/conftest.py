"""A service on a real store with the listener of the API, and tokens for it."""

import io
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from blockbuster import BlockBuster, blockbuster_ctx
from pydantic import SecretStr

from bridge.config import HostSettings, PolicySettings, ServerSettings, Settings
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId
from bridge.pipeline import originate, tokens
from bridge.pipeline.actors import Actor
from bridge.pipeline.ids import new_id
from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.record import Edition, Incident, incident_id
from bridge.store.commit import commit
from bridge.store.connect import Durability, Store
from bridge.web import health
from bridge.web.api import table
from bridge.web.problems import problems
from bridge.web.state import SERVICE, Service, end_streams
from bridge.webhooks import signature
from bridge.xep0268.model import Status
from tests.pipeline.conftest import server, store

__all__ = ["server", "store"]

HOST, OTHER = "a.test", "b.test"
SECRET = "whsec_" + "QUJD" * 10
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
ADMIN = Actor("cli:test")


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail where a handler blocks the event loop."""
    with blockbuster_ctx(scanned_modules=["bridge.web", "bridge.pipeline"]) as buster:
        for name in (
            "os.stat",
            "io.TextIOWrapper.read",
            "os.listdir",
            "os.scandir",
            "io.BufferedReader.read",
        ):
            if name in buster.functions:  # redis looks its own version up when it opens a connection
                buster.functions[name].can_block_in(
                    "importlib/metadata/__init__.py", {"mtime", "search", "lookup"}
                )
                buster.functions[name].can_block_in("redis/utils.py", "get_lib_version")
        yield buster


@dataclass(frozen=True)
class Reply:
    """What came back: JSON as values, anything else as text."""

    status: int
    body: Any
    headers: Any


@dataclass
class Api:
    """A client of the API with one token."""

    client: TestClient[Any, Any]
    store: Store
    service: Service
    token: str

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        if body is not None:
            more["data"] = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
            headers.setdefault("Content-Type", "application/json")
        url = path if path.startswith(("/docs", "/api")) else f"/api/v1{path}"
        async with self.client.request(method, url, headers=headers, **more) as answer:
            text = await answer.text()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return Reply(answer.status, json.loads(text) if is_json and text else text, answer.headers)

    async def with_token(self, *scopes: Scope, hosts: tuple[str, ...] = (), **more: Any) -> "Api":
        _, text = await make_token(self.store, scopes, hosts, **more)
        return replace(self, token=text)


_numbers = itertools.count()


async def make_token(
    store: Store, scopes: tuple[Scope, ...], hosts: tuple[str, ...] = (), **more: Any
) -> tuple[Any, str]:
    return await tokens.create(
        store,
        name=more.get("name", f"t{next(_numbers)}"),
        scopes=scopes,
        hosts=hosts,
        expires_at=more.get("expires_at"),
        actor=ADMIN,
        now=more.get("now", datetime.now(UTC)),
    )


def make_service(
    store: Store, *, per_minute: int = 100_000, public_url: str = "", answer_page_days: int = 0
) -> Service:
    host = HostSettings(secrets=(SecretStr(SECRET),))
    return Service(
        settings=Settings(
            hosts={HOST: host, OTHER: host},
            server=ServerSettings(api_requests_per_minute=per_minute, public_url=public_url),
            policy=PolicySettings(answer_page_days=answer_page_days),
        ),
        store=store,
        durability=Durability(mode="disk", problems=(), fix=()),
        keys={name: [signature.decode_secret(SECRET)] for name in (HOST, OTHER)},
    )


def make_app(service: Service) -> web.Application:
    app = web.Application(client_max_size=signature.MAX_BODY_BYTES, middlewares=[problems])
    app[SERVICE] = service
    app.add_routes([*health.routes(), *table.routes()])
    app.on_shutdown.append(end_streams)
    return app


MakeApi = Callable[..., Awaitable[Api]]


@pytest.fixture
async def make_api(store: Store) -> AsyncIterator[MakeApi]:
    """Make a service with a listener, and a client whose token may do everything."""
    running = []

    async def make(**more: Any) -> Api:
        service = make_service(store, **more)
        client = TestClient(TestServer(make_app(service)))
        await client.start_server()
        running.append(client)
        _, text = await make_token(store, (Scope.ADMIN,))
        return Api(client=client, store=store, service=service, token=text)

    yield make
    for client in running:
        await client.close()


@pytest.fixture
async def api(make_api: MakeApi) -> Api:
    return await make_api()


def make_incident(number: int, **more: Any) -> Incident:
    """An incident of its own; made `number` seconds after NOW."""
    host, reporter = more.pop("host", HOST), more.pop("reporter", "peer.test")
    identity = IncidentId(name=reporter, text=more.pop("text", f"i{number}"))
    made = NOW + timedelta(seconds=number)
    return Incident(
        id=incident_id(host, reporter, identity),
        host=host,
        reporter=reporter,
        identity=identity,
        status=more.pop("status", Status.NEW),
        quarantined=more.pop("quarantined", False),
        severity=more.pop("severity", "medium"),
        summary=f"number {number}",
        created_at=made,
        updated_at=more.pop("updated_at", made),
        editions=(Edition(interaction_id=f"x{number}", received_at=made, status=Status.NEW),),
        **more,
    )


async def put(store: Store, *incidents: Incident) -> None:
    for start in range(0, len(incidents), 100):
        await commit(store, Change(puts=tuple(Put(None, one) for one in incidents[start : start + 100])))


async def reported(store: Store, *to: str, text: str = "own1", host: str = HOST) -> Incident:
    """An incident of our own that was sent to peers."""
    document = Document(identity=IncidentId(name=host, text=text))
    origin = originate.Origin(host=host, to=to or ("peer.test",), now=NOW, new_id=new_id)
    done = await originate.report(store, origin, document)
    assert done.incident is not None
    return done.incident


def blamed(reply: Reply) -> list[str]:
    """The fields that a problem document blames."""
    assert reply.headers["Content-Type"] == "application/problem+json", reply
    assert reply.body["status"] == reply.status
    assert set(reply.body) >= {"type", "title", "status", "detail", "instance"}
    return [one["field"] for one in reply.body.get("errors", [])]
