"""What Prosody posts, spoken to over HTTP in this process, with everything that would block the loop caught."""

import io
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from blockbuster import BlockBuster, blockbuster_ctx
from pydantic import SecretStr

from bridge.config import HostSettings, Settings
from bridge.pipeline import abuse
from bridge.policy.change import Queue
from bridge.store import load
from bridge.store.connect import Durability, Store
from bridge.store.load import LaneHealth, StoreHealth
from bridge.web import health, ingest
from bridge.web.state import SERVICE, Service
from bridge.webhooks import signature
from tests.policy.conftest import stanza

SECRET = "whsec_" + "QUJD" * 10
KEY = signature.decode_secret(SECRET)
STREAM = {"direction": "incoming", "encrypted": True, "authentication": "certificate"}
Post = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail where a handler blocks the event loop."""
    with blockbuster_ctx(scanned_modules=["bridge.web", "bridge.pipeline"]) as buster:
        yield buster


def service(store: Store, *, seen: float | None = 1.0) -> Service:
    lanes = {queue: LaneHealth(lanes=0, items=0, oldest_ready_age_seconds=None) for queue in Queue}
    return Service(
        settings=Settings(hosts={"a.test": HostSettings(secrets=(SecretStr(SECRET),))}),
        store=store,
        durability=Durability(mode="disk", problems=(), fix=()),
        keys={"a.test": [KEY]},
        health=StoreHealth(
            used_bytes=1,
            max_bytes=None,
            workers_seen=dict.fromkeys(Queue, seen),
            lanes=lanes,
            counters={("refused", "forbidden"): 2},
            set_aside=0,
        ),
    )


@pytest.fixture
def post(store: Store, aiohttp_client: Any) -> Post:
    """Post a signed message to the ingest listener of a service on a real store."""

    async def send(
        body: Any, *, host: str = "a.test", key: bytes = KEY, seen: float | None = 1.0
    ) -> tuple[int, Any]:
        app = web.Application(client_max_size=signature.MAX_BODY_BYTES)
        app[SERVICE] = service(store, seen=seen)
        app.add_routes([*ingest.routes(), *health.routes(), web.get("/metrics", health.show_metrics)])
        client = await aiohttp_client(app)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        now = int(datetime.now(UTC).timestamp())
        headers = signature.headers_for([key], message_id=f"m-{hash(data)}", timestamp=now, body=data)
        answer = await client.post(f"/prosody/{host}", data=io.BytesIO(data), headers=headers)
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else text

    return send


def message(*stanzas: str) -> dict[str, Any]:
    items = [{"stanza": one, "stream": STREAM} for one in stanzas]
    return {"type": "stanza.received", "timestamp": "2026-11-21T03:00:00Z", "data": {"items": items}}


async def test_a_bad_item_gets_its_error_and_spoils_nothing_for_the_others(post: Post, store: Store) -> None:
    status, body = await post(message(stanza(), "<iq", stanza(sender="u@b.test"), stanza(text="2")))
    conditions = [one.get("stanza_error", {}).get("condition") for one in body["results"]]
    assert (status, conditions) == (200, [None, "bad-request", "forbidden", None])
    assert (await load.health(store)).lanes[Queue.INCIDENTS].items == 2


async def test_a_large_batch_is_read_beside_the_event_loop(post: Post) -> None:
    status, body = await post(message(*(stanza(text=str(number)) for number in range(40))))
    assert (status, len(body["results"])) == (200, 40)


async def test_without_a_worker_everybody_is_told_to_wait_and_nothing_is_stored(
    post: Post, store: Store
) -> None:
    status, body = await post(message(stanza(), stanza(text="2")), seen=None)
    assert status == 200
    assert {one["stanza_error"]["condition"] for one in body["results"]} == {"resource-constraint"}
    assert (await load.health(store)).lanes[Queue.INCIDENTS].items == 0


@pytest.mark.parametrize(
    ("body", "more", "status"),
    [
        (message(stanza()), {"key": bytes(32)}, 401),
        (message(stanza()), {"host": "other.test"}, 404),
        (b"no json", {}, 400),
        ({"type": "something.else", "timestamp": "x", "data": {"items": []}}, {}, 400),
        (message(), {}, 400),
        (message(*["<iq/>"] * 65), {}, 400),
        (b"x" * (signature.MAX_BODY_BYTES + 1), {}, 413),
    ],
)
async def test_what_is_not_a_signed_batch_for_a_host_of_ours_is_refused(
    post: Post, store: Store, body: Any, more: dict[str, Any], status: int
) -> None:
    assert (await post(body, **more))[0] == status
    assert (await load.health(store)).lanes[Queue.INCIDENTS].items == 0


def command(session: str = "", action: str = "execute", **fields: str) -> dict[str, Any]:
    data = {
        "node": "incident-bridge#report",
        "session": session,
        "action": action,
        "from": "admin@a.test/phone",
        "ip": "",
        "fields": [{"var": name, "values": [text]} for name, text in fields.items()],
    }
    return {"type": "adhoc.command", "timestamp": "2026-11-21T03:00:00Z", "data": data}


async def test_an_admin_s_command_is_answered_also_without_a_worker(post: Post) -> None:
    status, form = await post(command(), seen=None)
    assert (status, form["status"]) == (200, "executing")
    given = {"to": "c.test", "description": "x" * 20_000}
    status, sent = await post(command(form["session"], "complete", **given), seen=None)
    assert (status, sent["status"]) == (200, "completed")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"action": "dance"}, 400),
        ({"fields": [{"var": "to"}]}, 400),
        ({"fields": [{"var": "to", "values": ["x"]}] * 201}, 400),
        ({"from": "@"}, 200),
    ],
)
async def test_what_is_no_command_is_refused(post: Post, change: dict[str, Any], status: int) -> None:
    body = command()
    found, answer = await post({**body, "data": {**body["data"], **change}})
    assert (found, "error" in answer) == (status, True)


def user_reports(*reporters: str, **more: Any) -> dict[str, Any]:
    items = [
        {
            "reporter": f"{who}@a.test",
            "jid": "spam@b.test",
            "kind": "spam",
            "text": "buy this",
            "stanza_ids": [],
            "report_origin": True,
            "third_party": False,
            "is_own": False,
            "is_admin": False,
            "at": "2026-11-21T03:00:00Z",
            **more,
        }
        for who in reporters
    ]
    return {"type": "abuse.reported", "timestamp": "2026-11-21T03:00:00Z", "data": {"items": items}}


async def test_what_users_report_is_taken_also_without_a_worker(post: Post, store: Store) -> None:
    assert await post(user_reports("alice", "bob"), seen=None) == (200, {"ok": True})
    (draft,) = await abuse.waiting(store, "a.test", limit=5)
    assert (draft.domain, draft.reports, draft.agreed) == ("b.test", 2, 2)


async def test_a_host_of_the_bridge_is_never_a_proposal_whatever_prosody_says(
    post: Post, store: Store
) -> None:
    await post(user_reports("alice", jid="admin@a.test"))
    (draft,) = await abuse.waiting(store, "a.test", limit=5)
    assert draft.is_own
    assert not draft.may_be_sent


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"kind": "boredom"}, 400),
        ({"text": "x" * 2001}, 400),
        ({"at": "yesterday"}, 400),
        ({"report_origin": None}, 400),
        ({"jid": "@"}, 200),
    ],
)
async def test_what_is_no_report_of_a_user_makes_no_draft(
    post: Post, store: Store, change: dict[str, Any], status: int
) -> None:
    assert (await post(user_reports("alice", **change)))[0] == status
    assert await abuse.waiting(store, "a.test", limit=5) == []
