"""What every route does before its handler, and that every error is a problem document."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.pipeline import tokens
from bridge.policy.consumers import Scope
from bridge.store.connect import Store
from bridge.web.api import openapi, paging, table
from bridge.web.api.router import PREFIX, Answer, Call, Route, definition
from bridge.web.problems import KINDS, ProblemError
from bridge.web.rate import Rates
from bridge.webhooks.signature import MAX_BODY_BYTES
from tests.web.api.conftest import ADMIN, Api, MakeApi, blamed, make_app, make_service, make_token


async def test_without_a_token_nothing_is_told(api: Api) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
        reply = await api("GET", "/incidents", headers=headers)
        assert (reply.status, blamed(reply)) == (401, [])
        assert reply.headers["WWW-Authenticate"].startswith('Bearer realm="incident-bridge"')
    async with api.client.get(f"{PREFIX}/incidents") as answer:
        assert answer.status == 401


async def test_a_token_that_is_unknown_revoked_or_expired_looks_the_same(api: Api, store: Store) -> None:
    now = datetime.now(UTC)
    revoked, revoked_text = await make_token(store, (Scope.ADMIN,))
    await tokens.revoke(store, revoked, actor=ADMIN, now=now)
    _, expired_text = await make_token(
        store, (Scope.ADMIN,), expires_at=now - timedelta(hours=1), now=now - timedelta(hours=2)
    )
    wrong_secret = f"ib_{revoked.id}_{'x' * 43}"
    texts = [revoked_text, expired_text, wrong_secret, "ib_none_x", "x" * 5000, "ä", "ib__", f"{api.token}x"]
    replies = [await api("GET", "/incidents", headers={"Authorization": f"Bearer {text}"}) for text in texts]
    assert [reply.status for reply in replies] == [401] * len(texts)
    assert len({str(reply.body) for reply in replies}) == 1
    assert all('error="invalid_token"' in reply.headers["WWW-Authenticate"] for reply in replies)


async def test_every_route_asks_for_its_scope_before_it_looks_at_anything(api: Api, store: Store) -> None:
    tokens = {scope: await api.with_token(scope) for scope in (Scope.READ, Scope.WRITE, Scope.APPROVE)}
    for route in table.ROUTES:
        if route.scope in {None, Scope.READ}:
            continue
        path = re.sub(r"\{\w+\}", "x", route.path)
        for weak in (tokens[scope] for scope in tokens if scope is not route.scope):
            reply = await weak(route.method, path, b"{" if route.body else None)
            assert (reply.status, blamed(reply)) == (403, []), route
            assert f'scope="{route.scope}"' in reply.headers["WWW-Authenticate"]
    assert (await tokens[Scope.APPROVE]("GET", "/incidents")).status == 200


async def test_a_method_that_is_not_there_is_refused_with_those_that_are(api: Api) -> None:
    reply = await api("DELETE", "/incidents/x")
    assert (reply.status, blamed(reply)) == (405, [])
    assert set(reply.headers["Allow"].split(",")) == {"GET", "HEAD", "PATCH"}
    assert (await api("GET", "/nothing/here")).status == 404
    assert (await api("GET", "/api/v2")).body["type"] == "urn:incident-bridge:problem:not-found"
    assert (await api("HEAD", "/incidents")).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"x" * (MAX_BODY_BYTES + 1), {}, 413),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Content-Type": "application/json; charset=utf-16"}, 415),
        (b"{}", {"Content-Encoding": "gzip"}, 415),
        (b"{}", {"Content-Encoding": "zlib"}, 415),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415),
        (b"not json", {}, 400),
        (b'{"a":' * 5000, {}, 400),
        (b'{"kind": NaN}', {}, 422),
        (b"", {}, 422),
    ],
)
async def test_a_body_that_is_not_read_here_is_refused(
    api: Api, body: bytes, headers: dict[str, str], status: int
) -> None:
    reply = await api("POST", "/interactions", body, headers=headers)
    blamed(reply)
    assert reply.status == status, reply


async def test_a_token_may_make_so_many_requests_a_minute(make_api: MakeApi) -> None:
    api = await make_api(per_minute=5)
    statuses = [(await api("GET", "/incidents")).status for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    reply = await api("GET", "/peers")
    assert 1 <= int(reply.headers["Retry-After"]) <= 12
    other = await api.with_token(Scope.READ)
    assert (await other("GET", "/incidents")).status == 200


async def test_several_services_together_spend_no_more_than_the_bucket_holds(store: Store) -> None:
    now = datetime.now(UTC)
    services = [Rates() for _ in range(3)]
    spent = await asyncio.gather(
        *(services[number % 3].spend(store, "t", per_minute=100, now=now) for number in range(200))
    )
    granted = sum(seconds is None for seconds in spent)
    assert 100 - 2 * 5 <= granted <= 100
    later = now + timedelta(seconds=30)
    more = [await services[0].spend(store, "t", per_minute=100, now=later) for _ in range(80)]
    assert 45 <= sum(seconds is None for seconds in more) <= 60


async def test_a_share_that_was_not_spent_within_a_minute_is_gone(store: Store) -> None:
    now, rates = datetime.now(UTC), Rates()
    assert await rates.spend(store, "t", per_minute=40, now=now) is None
    assert rates.shares["t"].left == 1
    assert await rates.spend(store, "t", per_minute=40, now=now + timedelta(seconds=61)) is None
    assert rates.shares["t"].left == 1


async def _fail(_call: Call) -> Answer:
    raise RuntimeError("the inner secret")


async def _hang(_call: Call) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


def _route(path: str, handler: Any) -> Route:
    return Route(method="POST", path=path, scope=Scope.READ, handler=handler, summary="x", tag="x")


@pytest.fixture
async def broken(store: Store, aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A service with a handler that fails and one that hangs."""
    monkeypatch.setattr("bridge.web.api.router._HANDLER_SECONDS", 0.05)
    service = make_service(store)
    app = make_app(service)
    app.add_routes([definition(_route("/fail", _fail)), definition(_route("/hang", _hang))])
    _, text = await make_token(store, (Scope.ADMIN,))
    return Api(client=await aiohttp_client(app), store=store, service=service, token=text)


async def test_what_goes_wrong_here_is_logged_under_the_id_that_is_told(
    broken: Api, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await broken("POST", "/fail")
    assert (reply.status, blamed(reply)) == (500, [])
    assert "secret" not in str(reply.body)
    own_id = reply.body["detail"].rsplit(" ", 1)[1]
    (record,) = [one for one in caplog.records if one.levelname == "ERROR" and one.name.startswith("bridge")]
    assert record.__dict__["fields"]["problem"] == own_id


async def test_a_handler_that_hangs_is_given_up(broken: Api) -> None:
    reply = await broken("POST", "/hang")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    assert blamed(reply) == []


async def test_a_route_without_a_body_takes_none(broken: Api) -> None:
    assert (await broken("POST", "/fail", {"a": 1})).status == 400
    assert (await broken("POST", "/fail?a=1")).body["errors"][0]["field"] == "a"


async def test_the_documents_need_no_token_and_no_third_party(api: Api) -> None:
    async with api.client.get(f"{PREFIX}/openapi.json") as answer:
        described = await answer.json()
        assert answer.status == 200
    assert described["openapi"] == "3.1.0"
    assert {f"{PREFIX}{path}" for path in described["paths"]} == {PREFIX + one.path for one in table.ROUTES}
    async with api.client.get("/docs") as answer:
        page, headers = await answer.text(), answer.headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "<script" not in page
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", page)
    for route in table.ROUTES:
        assert f"id='{openapi.operation_id(route)}'" in page, route
    anchors = set(re.findall(r"id='?([\w.-]+)", page))
    assert set(re.findall(r"href='#([^']+)'", page)) <= anchors


def test_every_reference_of_the_document_leads_somewhere() -> None:
    described = openapi.document(table.ROUTES)
    text = str(described)
    names = set(re.findall(r"#/components/schemas/([^']+)", text))
    assert names <= set(described["components"]["schemas"])
    ids = [openapi.operation_id(route) for route in table.ROUTES]
    assert len(set(ids)) == len(ids)


def test_every_kind_of_problem_has_a_status_of_an_error() -> None:
    assert all(400 <= status < 600 and title for status, title in KINDS.values())


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda data: data.decode("latin-1")))
def test_any_cursor_is_one_or_a_problem_that_names_it(text: str) -> None:
    blamed_fields, parts = ["cursor"], None
    try:
        parts = paging.decode(text, int, str, of="x")
    except ProblemError as error:
        blamed_fields = [one.field for one in error.errors]
    assert blamed_fields == ["cursor"]
    assert parts is None or [type(part) for part in parts] == [int, str]


@given(st.integers(0, 2**53), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_cursor_reads_as_it_was_written(score: int, member: str) -> None:
    assert paging.position(paging.following((score, member), of="f"), of="f") == (score, member)
