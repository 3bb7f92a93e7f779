"""What a host's Prosody answers, and what that means for whoever asked."""

import base64
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import aiohttp
import pytest
from aiohttp import web

from bridge.clients.prosody import Mitigated, ProsodyClient
from bridge.errors import UnavailableError, UnsupportedError


@dataclass(frozen=True)
class Secret:
    def get_secret_value(self) -> str:
        return "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass(frozen=True)
class Host:
    api_url: str
    secrets: tuple[Secret, ...] = (Secret(),)


@dataclass
class Prosody:
    """Answers every command alike, or with one of its pages after the other, or with a page that is no JSON."""

    status: int = 200
    answer: dict[str, object] = field(default_factory=dict)
    pages: list[dict[str, object]] = field(default_factory=list)
    page: str = ""
    asked: list[dict[str, object]] = field(default_factory=list)
    client: ProsodyClient | None = None

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((await request.json())["data"])
        if self.page:
            return web.Response(text=self.page, content_type="text/html", status=self.status)
        return web.json_response(self.pages.pop(0) if self.pages else self.answer, status=self.status)


@pytest.fixture
async def prosody() -> AsyncIterator[Prosody]:
    made = Prosody()
    app = web.Application()
    app.router.add_post("/incident_bridge", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        made.client = ProsodyClient({"a.test": Host(f"http://{address}:{port}")}, session)
        yield made
    await runner.cleanup()


async def test_an_older_module_that_cannot_tell_the_admins_is_not_asked_for_ever(prosody: Prosody) -> None:
    assert prosody.client
    prosody.status, prosody.answer = 400, {"error": "unknown type"}

    with pytest.raises(UnsupportedError, match="install the module that came with this bridge"):
        await prosody.client.notify("a.test", "x", webhook_id="n-1")
    with pytest.raises(UnavailableError, match="unknown type"):
        await prosody.client.send("a.test", ["<iq/>"], webhook_id="s-1")


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_whatever_may_pass_is_tried_again(prosody: Prosody, status: int) -> None:
    assert prosody.client
    prosody.status = status

    with pytest.raises(UnavailableError):
        await prosody.client.notify("a.test", "x", webhook_id="n-1")


async def test_it_is_told_who_was_told(prosody: Prosody) -> None:
    assert prosody.client
    prosody.answer = {"sent": ["admin@a.test"], "not_sent": []}

    assert await prosody.client.notify("a.test", "x", webhook_id="n-1") == ["admin@a.test"]


def mitigate(prosody: Prosody) -> Awaitable[Mitigated]:
    assert prosody.client
    return prosody.client.mitigate(
        "a.test",
        "account.suspend",
        mitigation="m1",
        revision=2,
        expires_at=datetime(2026, 12, 31, 1, 0, tzinfo=timezone(timedelta(hours=1))),
        target={"account": "spammer@a.test"},
        reason="spam",
        webhook_id="c-1",
    )


async def test_a_mitigation_says_what_for_how_long_and_against_whom(prosody: Prosody) -> None:
    prosody.answer = {"mitigation": "m1", "revision": 2, "is_new": True}

    assert await mitigate(prosody) == Mitigated(ok=True, status=200, detail=prosody.answer)
    assert prosody.asked == [
        {
            "host": "a.test",
            "mitigation": "m1",
            "revision": 2,
            "expires_at": "2026-12-31T00:00:00Z",
            "reason": "spam",
            "account": "spammer@a.test",
        }
    ]


@pytest.mark.parametrize("status", [404, 409])
async def test_what_the_module_refuses_is_an_answer_and_not_tried_again(
    prosody: Prosody, status: int
) -> None:
    assert prosody.client
    prosody.status, prosody.answer = status, {"error": "spammer@a.test is an admin"}
    refused = Mitigated(ok=False, status=status, error="spammer@a.test is an admin", detail=prosody.answer)

    assert await mitigate(prosody) == refused
    assert await prosody.client.lift("a.test", mitigation="m1", revision=3, webhook_id="l-1") == refused
    with pytest.raises(UnavailableError, match="cannot list its mitigations"):
        await prosody.client.standing("a.test")
    with pytest.raises(UnavailableError, match="is an admin"):
        await prosody.client.send("a.test", ["<iq/>"], webhook_id="s-1")


async def test_a_prosody_that_does_not_know_the_module_is_not_an_answer_about_the_account(
    prosody: Prosody,
) -> None:
    prosody.status, prosody.page = 404, "<!DOCTYPE html><title>404 Not Found</title>"

    with pytest.raises(UnavailableError, match="add incident_bridge to the host's modules_enabled"):
        await mitigate(prosody)


async def test_an_older_module_cannot_mitigate(prosody: Prosody) -> None:
    assert prosody.client
    prosody.status, prosody.answer = 400, {"error": "unknown type"}

    with pytest.raises(UnsupportedError, match="install the module that came with this bridge"):
        await mitigate(prosody)
    with pytest.raises(UnsupportedError):
        await prosody.client.mitigations("a.test")
    with pytest.raises(UnsupportedError):
        await prosody.client.preview("a.test", domain="b.test")


async def test_mitigations_are_listed_page_by_page(prosody: Prosody) -> None:
    assert prosody.client
    prosody.pages = [
        {"mitigations": [{"mitigation": "m1"}], "next": "m1"},
        {"mitigations": [{"mitigation": "m2"}], "next": "m2"},
        {"mitigations": {}},  # Lua's empty array, if somebody else wrote it
    ]

    assert [one["mitigation"] for one in await prosody.client.mitigations("a.test")] == ["m1", "m2"]
    assert [one.get("after") for one in prosody.asked] == [None, "m1", "m2"]


async def test_a_list_without_end_is_given_up(prosody: Prosody) -> None:
    assert prosody.client
    prosody.answer = {"mitigations": [], "next": "m1"}

    with pytest.raises(UnavailableError, match="without end"):
        await prosody.client.mitigations("a.test")


async def test_a_preview_names_its_target_and_has_lists_where_lists_are(prosody: Prosody) -> None:
    assert prosody.client
    prosody.answer = {"exists": True, "refused": None, "rooms": {}, "mitigated_by": ["m1"]}

    found = await prosody.client.preview("a.test", room="r@muc.a.test", jid="x@b.test")

    assert found == {"exists": True, "refused": None, "rooms": [], "mitigated_by": ["m1"]}
    assert prosody.asked == [{"host": "a.test", "room": "r@muc.a.test", "jid": "x@b.test"}]


async def test_a_list_of_another_server_is_read_by_its_place_and_what_is_known(prosody: Prosody) -> None:
    assert prosody.client
    prosody.pages = [
        {"state": "loading"},
        {"state": "ready", "revision": "r-1", "names": {}, "left_out": 0},  # Lua's empty array
        {"state": "ready", "revision": "r-2", "names": ["x.test"], "left_out": 1},
        {"state": "ready", "revision": "r-2", "left_out": 1, "unchanged": True},
    ]

    read = [
        await prosody.client.read_list("a.test", "b.test", "list", known) for known in ("", "", "r-1", "r-2")
    ]

    assert all(one.ok for one in read)
    assert [one.detail.get("names") for one in read] == [None, [], ["x.test"], None]
    assert read[3].detail["unchanged"] is True
    assert prosody.asked[2] == {"host": "a.test", "service": "b.test", "node": "list", "known": "r-1"}


async def test_a_service_that_refuses_its_list_is_an_answer(prosody: Prosody) -> None:
    assert prosody.client
    prosody.status, prosody.answer = 409, {"error": "b.test did not answer within 10 s"}

    read = await prosody.client.read_list("a.test", "b.test", "list")

    assert (read.ok, read.status, read.error) == (False, 409, "b.test did not answer within 10 s")


async def test_a_list_is_let_go_by_its_place(prosody: Prosody) -> None:
    assert prosody.client

    assert (await prosody.client.forget_list("a.test", "b.test", "list")).ok
    assert prosody.asked == [{"host": "a.test", "service": "b.test", "node": "list"}]


async def test_an_older_module_reads_no_lists(prosody: Prosody) -> None:
    assert prosody.client
    prosody.status, prosody.answer = 400, {"error": "unknown type"}

    with pytest.raises(UnsupportedError, match="install the module that came with this bridge"):
        await prosody.client.read_list("a.test", "b.test", "list")
    with pytest.raises(UnsupportedError):
        await prosody.client.forget_list("a.test", "b.test", "list")
