"""Incidents over the API: lists, one of them, its document, triage."""

import asyncio
import base64
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lxml import etree

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope
from bridge.policy.decisions import Triage
from bridge.policy.record import Incident
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.xep0268.model import Status
from tests.pipeline.test_abuse import hear, report
from tests.web.api.conftest import HOST, NOW, OTHER, Api, blamed, make_incident, put, reported
from tests.web.api.test_letters import mailed_to


async def walk(api: Api, query: str = "", *, limit: int = 7) -> list[str]:
    """Every incident of a list, page by page."""
    found, cursor = [], ""
    while True:
        reply = await api("GET", f"/incidents?limit={limit}{query}{cursor}")
        assert reply.status == 200, reply
        assert len(reply.body["items"]) <= limit
        found += [one["id"] for one in reply.body["items"]]
        if reply.body["next"] is None:
            return found
        cursor = f"&cursor={reply.body['next']}"


async def test_the_newest_made_come_first_from_all_hosts_of_the_token(api: Api, store: Store) -> None:
    incidents = [make_incident(number, host=HOST if number % 3 else OTHER) for number in range(20)]
    await put(store, *incidents)
    assert await walk(api) == [one.id for one in reversed(incidents)]
    assert await walk(api, limit=20) == [one.id for one in reversed(incidents)]
    bound = await api.with_token(Scope.READ, hosts=(OTHER,))
    assert await walk(bound) == [one.id for one in reversed(incidents) if one.host == OTHER]


async def test_an_item_has_what_a_list_needs(api: Api, store: Store) -> None:
    await put(store, make_incident(1, sources=("spammer@bad.test",)))
    (item,) = (await api("GET", "/incidents")).body["items"]
    assert item["identity"] == {"name": "peer.test", "text": "i1", "instance": None}
    assert item["created_at"] == "2026-11-21T03:00:01Z"
    assert (item["triage_state"], item["assignee"], item["is_own"]) == ("open", "", False)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("&status=resolved", {5}),
        ("&reporter=Other.TEST", {6}),
        ("&quarantined=true", {7}),
        ("&quarantined=false&severity=high", {8}),
        ("&source=Spammer@Bad.test", {9}),
        ("&identity=named", {10}),
        ("&triage=closed", {11}),
        (f"&host={OTHER}", {12}),
        ("&since=2026-11-21T03:00:10Z&until=2026-11-21T03:00:12Z", {10, 11}),
        ("&since=2026-11-21T05:00:10%2B02:00&triage=open", {10, 12}),
        ("&status=resolved&reporter=other.test", set()),
    ],
)
async def test_filters_find_what_they_say(api: Api, store: Store, query: str, wanted: set[int]) -> None:
    special: dict[int, dict[str, Any]] = {
        5: {"status": Status.RESOLVED},
        6: {"reporter": "other.test"},
        7: {"quarantined": True},
        8: {"severity": "high"},
        9: {"sources": ("spammer@bad.test",)},
        10: {"text": "named"},
        12: {"host": OTHER},
    }
    incidents = {number: make_incident(number, **special.get(number, {})) for number in range(13)}
    await put(store, *incidents.values())
    closed = incidents[11]
    reply = await api("PATCH", f"/incidents/{closed.id}", {"state": "closed"})
    assert reply.status == 200
    numbers = {one.id: number for number, one in incidents.items()}
    assert {numbers[one] for one in await walk(api, query, limit=2)} == wanted


async def test_a_filter_that_fits_many_walks_the_list_and_still_finds_each_once(
    api: Api, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.web.api.search._FEW", 10)
    monkeypatch.setattr("bridge.web.api.search._MOST_WALKED", 25)
    incidents = [
        make_incident(number, severity="high" if number % 9 == 0 else "low", sources=("1.2.3.4",))
        for number in range(120)
    ]
    await put(store, *incidents)
    wanted = [one.id for one in reversed(incidents) if one.severity == "high"]
    assert await walk(api, "&severity=high&source=1.2.3.4", limit=3) == wanted


async def test_paging_neither_loses_nor_repeats_while_others_write(api: Api, store: Store) -> None:
    rng = random.Random(7)  # noqa: S311 - which one is written next, nothing secret
    there = [make_incident(number // 3, text=f"x{number}") for number in range(60)]  # three in each moment
    await put(store, *there)
    is_over = asyncio.Event()

    async def write() -> None:
        number = 1000
        known: dict[str, Incident] = {one.id: replace(one, version=1) for one in there}
        while not is_over.is_set():
            one = rng.choice(list(known.values()))
            after = replace(one, updated_at=one.updated_at + timedelta(days=1), status=Status.UPDATED)
            fresh = make_incident(number)
            await commit(store, Change(puts=(Put(one, after), Put(None, fresh))))
            known[one.id] = replace(after, version=one.version + 1)
            number += 1
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    for limit in (1, 4, 7):
        found = await walk(api, f"&until={(NOW + timedelta(seconds=900)).isoformat()[:19]}Z", limit=limit)
        assert sorted(found) == sorted(one.id for one in there)
    is_over.set()
    await writing


async def test_an_incident_has_its_document_editions_and_links(api: Api, store: Store) -> None:
    own = await reported(store)
    reply = await api("GET", f"/incidents/{own.id}")
    assert reply.status == 200
    assert reply.body["document"]["identity"]["text"] == "own1"
    assert (reply.body["told"], len(reply.body["editions"])) == (["peer.test"], 1)
    assert reply.body["links"]["iodef"] == f"/api/v1/incidents/{own.id}/iodef"
    listed = await api("GET", f"/incidents/{own.id}/interactions")
    (one,) = listed.body["items"]
    assert (one["kind"], one["way"], one["state"], one["peer"]) == ("report", "sent", "queued", "peer.test")


async def test_an_incident_whose_document_is_gone_says_so(api: Api, store: Store) -> None:
    one = make_incident(1)
    await put(store, one)
    assert (await api("GET", f"/incidents/{one.id}")).body["document"] is None
    reply = await api("GET", f"/incidents/{one.id}/iodef")
    assert (reply.status, blamed(reply)) == (404, [])


async def test_a_document_is_xml_in_either_form(api: Api, store: Store) -> None:
    own = await reported(store)
    canonical = await api("GET", f"/incidents/{own.id}/iodef")
    assert canonical.headers["Content-Type"] == "application/xml"
    assert etree.fromstring(canonical.body).tag.endswith("IODEF-Document")
    original = await api("GET", f"/incidents/{own.id}/iodef?form=original")
    assert original.body.startswith("<report")
    refused = await api("GET", f"/incidents/{own.id}/iodef?form=other")
    assert (refused.status, blamed(refused)) == (400, ["form"])


async def test_triage_is_written_down_with_who_and_when(api: Api, store: Store) -> None:
    own = await reported(store)
    path = f"/incidents/{own.id}"
    first = await api("PATCH", path, {"state": "in-progress", "assignee": "eve@a.test", "note": "looks bad"})
    assert first.status == 200
    second = await api("PATCH", path, {"state": "closed", "resolution": "account closed", "note": "done"})
    assert (second.body["state"], second.body["assignee"]) == ("closed", "eve@a.test")
    assert [note["text"] for note in second.body["notes"]] == ["looks bad", "done"]
    assert second.body["notes"][0]["by"].startswith("token:")
    shown = (await api("GET", path)).body
    assert shown["triage"] == second.body
    entries = [entry for _, entry in await load.audits(store, HOST, limit=10)]
    assert [entry["action"] for entry in entries[:2]] == ["incident.triage"] * 2
    assert "looks bad" not in str(entries)


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ({}, 422, [""]),
        ({"state": "done"}, 422, ["state"]),
        ({"state": None}, 422, ["state"]),
        ({"note": ""}, 422, ["note"]),
        ({"note": "x" * 4001}, 422, ["note"]),
        ({"note": "a\x00b"}, 422, ["note"]),
        ({"note": 5}, 422, ["note"]),
        ({"assignee": "a\nb"}, 422, ["assignee"]),
        ({"status": "closed"}, 422, ["status"]),
        ({"a" * 500: 1}, 422, ["a" * 100]),
        ([], 422, [""]),
        (b"{", 400, []),
        (b'{"note": "\\ud800"}', 400, []),
        (b"\xff", 400, []),
        (b"[" * 100_000, 400, []),
    ],
)
async def test_bad_triage_is_refused_and_nothing_is_written(
    api: Api, store: Store, body: Any, status: int, fields: list[str]
) -> None:
    own = await reported(store)
    reply = await api("PATCH", f"/incidents/{own.id}", body)
    assert (reply.status, blamed(reply)) == (status, fields)
    assert (await load.fetch(store, names=[keys.triage(own.id)])).records[keys.triage(own.id)] is None


async def test_two_who_judge_at_once_both_leave_their_note(api: Api, store: Store) -> None:
    own = await reported(store)
    path = f"/incidents/{own.id}"
    replies = await asyncio.gather(*(api("PATCH", path, {"note": f"n{number}"}) for number in range(5)))
    assert {reply.status for reply in replies} == {200}
    known = (await load.fetch(store, names=[keys.triage(own.id)])).records[keys.triage(own.id)]
    assert isinstance(known, Triage)
    assert sorted(note.text for note in known.notes) == [f"n{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("color=red", "color"),
        ("status=open", "status"),
        ("quarantined=perhaps", "quarantined"),
        ("since=yesterday", "since"),
        ("since=2026-11-21T03:00:00", "since"),
        ("host=elsewhere.test", "host"),
        ("reporter=a%20b", "reporter"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=!!!", "cursor"),
        ("cursor=WzEsMl0", "cursor"),
        ("cursor=" + "a" * 2000, "cursor"),
        ("cursor=W1tbW1tbW1tbW1tbW1tbW1tb", "cursor"),
    ],
)
async def test_a_bad_parameter_is_named(api: Api, query: str, field: str) -> None:
    reply = await api("GET", f"/incidents?{query}")
    assert (reply.status, blamed(reply)) == (400, [field])


async def test_a_cursor_of_another_list_or_token_is_refused(api: Api, store: Store) -> None:
    await put(store, *(make_incident(number) for number in range(3)))
    cursor = (await api("GET", "/incidents?limit=1")).body["next"]
    assert (await api("GET", f"/incidents?limit=2&cursor={cursor}")).status == 200
    other = await api("GET", f"/incidents?limit=1&status=new&cursor={cursor}")
    assert (other.status, blamed(other)) == (400, ["cursor"])
    bound = await api.with_token(Scope.READ, hosts=(HOST,))
    assert (await bound("GET", f"/incidents?cursor={cursor}")).status == 400


async def test_what_a_token_may_not_see_is_not_found_exactly_like_what_is_not_there(
    api: Api, store: Store
) -> None:
    own = await reported(store, host=OTHER)
    bound = await api.with_token(Scope.ADMIN, hosts=(HOST,))
    for ending in ("", "/iodef", "/interactions"):
        hidden = await bound("GET", f"/incidents/{own.id}{ending}")
        unknown = await bound("GET", f"/incidents/{'x' * 16}{ending}")
        assert (hidden.status, unknown.status) == (404, 404)
        assert hidden.body | {"instance": ""} == unknown.body | {"instance": ""}
    assert (await bound("PATCH", f"/incidents/{own.id}", {"note": "x"})).status == 404
    assert (await api("GET", f"/incidents/{own.id}")).status == 200


async def test_an_own_incident_is_exported_as_log_and_xarf_as_the_command_line_does(
    api: Api, store: Store
) -> None:
    sent = await mailed_to(store, "i1")
    path = f"/incidents/{sent.incident_id}/export"
    log = await api("GET", path)
    assert (log.status, log.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert log.body.startswith("Incident i1 reported by a.test\n")
    assert "request to c.test (XEP-0268): not spoken there" in log.body
    assert "request to c.test by mail to abuse@c.test: not written to yet" in log.body
    assert blamed(await api("GET", f"{path}?form=xarf")) == ["contact"]
    assert blamed(await api("GET", f"{path}?form=xarf&contact=x")) == ["contact"]
    reports = await api("GET", f"{path}?form=xarf&contact=abuse@a.test")
    assert (reports.status, reports.headers["Content-Type"]) == (200, "application/json")
    (one,) = reports.body
    assert (one["xarf_version"], one["source_identifier"]) == ("4.2.0", "bad@c.test")
    assert base64.b64decode(one["evidence"][0]["payload"]).decode() == log.body
    assert blamed(await api("GET", f"{path}?form=json")) == ["form"]
    other = await api.with_token(Scope.ADMIN, hosts=(OTHER,))
    assert (await other("GET", path)).status == 404


async def test_what_is_not_ours_to_publish_is_refused_with_the_reason(api: Api, store: Store) -> None:
    await hear(store, report())
    (draft,) = (await api("GET", "/abuse")).body["items"]
    private = (await api("POST", f"/abuse/{draft['id']}/send", {})).body["incident_id"]
    own = await mailed_to(store, "i1")
    theirs = make_incident(1)
    theirs = replace(theirs, editions=(replace(theirs.editions[0], interaction_id=own.id),))
    await put(store, theirs, make_incident(2))
    for name, reason in (
        (private, "the users whose reports it is made of agreed that b.test be told, and nobody else"),
        (theirs.id, "peer.test reported it, so it is for peer.test to publish"),
    ):
        for form in ("log", "xarf"):
            reply = await api("GET", f"/incidents/{name}/export?form={form}")
            assert (reply.status, reply.body["detail"]) == (409, reason)
    gone = make_incident(2).id
    assert (await api("GET", f"/incidents/{gone}/export")).status == 404
