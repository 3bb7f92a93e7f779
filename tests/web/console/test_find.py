"""Incidents are found a page at a time, of one host or several, and none is lost between two pages."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.iodef.model import IncidentId
from bridge.policy.change import Change, Put
from bridge.policy.record import Edition, Incident, Peer
from bridge.policy.trust import Trust
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.web.console import find
from bridge.web.console.find import Query
from bridge.xep0268.model import Status
from tests.pipeline.conftest import server, store

__all__ = ["server", "store"]
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def incident(number: int, *, host: str = "a.test", severity: str | None = None) -> Incident:
    """One that came so many minutes before noon."""
    at = NOON - timedelta(minutes=number)
    return Incident(
        id=f"{host[0]}{number:05d}", host=host, reporter="b.test",
        identity=IncidentId(name="b.test", text=f"t{number}"), status=Status.NEW, quarantined=False,
        severity=severity, summary=f"summary {number}", created_at=at, updated_at=at,
        editions=(Edition(interaction_id="i", received_at=at, status=Status.NEW),),
        sources=("spammer@x.test",),
    )  # fmt: skip


async def fill(store: Store, *incidents: Incident) -> None:
    for start in range(0, len(incidents), 500):
        puts = tuple(Put(None, one) for one in incidents[start : start + 500])
        await commit(store, Change(puts=puts))


async def every_page(store: Store, hosts: list[str], query: Query, *, limit: int) -> list[str]:
    """The ids that one sees who goes from page to page."""
    seen: list[str] = []
    while True:
        found = await find.search(store, hosts, query, limit=limit)
        seen += [one.id for one in found.incidents]
        if found.after is None:
            return seen
        query = replace(query, before=find.cursor(find.written(found.after)))


@pytest.mark.parametrize("limit", [1, 7, 50])
async def test_going_from_page_to_page_shows_each_once_newest_first(store: Store, limit: int) -> None:
    both = [incident(number, host=host) for number in range(40) for host in ("a.test", "b.test")]
    await fill(store, *both)
    seen = await every_page(store, ["a.test", "b.test"], Query(), limit=limit)
    assert seen == [one.id for one in sorted(both, key=find._position, reverse=True)]


async def test_what_is_rare_is_found_by_looking_further_back_in_both_hosts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "_MOST_SCANNED", 300)
    rare = {5, 299, 300, 301, 702, 999}
    a = [incident(number, severity="high" if number in rare else None) for number in range(1000)]
    b = [incident(number, host="b.test", severity="high") for number in (150, 640)]
    await fill(store, *a, *b)

    first = await find.search(store, ["a.test", "b.test"], Query(severity="high"), limit=50)
    assert first.is_partial
    seen = await every_page(store, ["a.test", "b.test"], Query(severity="high"), limit=50)

    wanted = [one.id for one in sorted((*a, *b), key=find._position, reverse=True) if one.severity]
    assert seen == wanted


async def test_an_identifier_is_found_at_once_however_old(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "_MOST_SCANNED", 100)
    await fill(store, *(incident(number) for number in range(400)))
    for words in ("t399", "a00399"):
        found = await find.search(store, ["a.test"], Query(words=words), limit=50)
        assert [one.id for one in found.incidents] == ["a00399"]
        assert found.is_partial


async def test_an_address_is_found_in_whatever_case_it_is_typed(store: Store) -> None:
    await fill(store, *(incident(number) for number in range(3)))
    found = await find.search(store, ["a.test"], Query(words="Spammer@X.test"), limit=50)
    assert len(found.incidents) == 3


async def test_days_are_whole(store: Store) -> None:
    await fill(store, incident(0), incident(12 * 60), incident(12 * 60 + 1))
    day = find.day("2026-11-21")
    for query, count in ((Query(since=day), 2), (Query(until=day), 3), (Query(since=day, until=day), 2)):
        assert len((await find.search(store, ["a.test"], query, limit=50)).incidents) == count


@pytest.mark.parametrize("text", ["", "x", "-", "1", "-5-a", "9" * 30 + "-a"])
def test_what_is_no_place_in_a_list_is_the_beginning_of_it_or_a_harmless_one(text: str) -> None:
    found = find.cursor(text)
    assert found is None or found == (1, "")


async def test_whom_others_may_imitate_is_known_however_many_strangers_were_seen_since(store: Store) -> None:
    friend = Peer(host="a.test", domain="jabber.example", trust=Trust.TRUSTED, last_seen_at=NOON)
    strangers = [
        Peer(host="a.test", domain=f"s{number}.example", last_seen_at=NOON + timedelta(seconds=number))
        for number in range(find._MOST_PEERS + 1)
    ]
    for start in range(0, len(strangers), 500):
        await commit(store, Change(puts=tuple(Put(None, one) for one in strangers[start : start + 500])))
    await commit(store, Change(puts=(Put(None, friend),)))
    assert await find.known_names(store, "a.test") == {"a.test", "jabber.example"}

    taken_back = replace(friend, version=1, trust=Trust.BLOCKED)
    await commit(store, Change(puts=(Put(replace(friend, version=1), taken_back),)))
    assert await find.known_names(store, "a.test") == {"a.test"}


async def every_peer(store: Store, hosts: list[str], *, limit: int, **wanted: Any) -> list[tuple[str, str]]:
    """The peers that one sees who goes from page to page."""
    seen: list[tuple[str, str]] = []
    before = None
    while True:
        found = await find.peers(store, hosts, limit=limit, before=before, **wanted)
        seen += [(one.host, one.domain) for one in found.peers]
        if found.after is None:
            return seen
        before = find.cursor(find.written(found.after))


async def test_peers_are_found_a_page_at_a_time_by_name_and_trust(store: Store) -> None:
    hosts = ["a.test", "b.test"]
    trusts = (Trust.STRANGER, Trust.TRUSTED, Trust.BLOCKED)
    many = [
        Peer(host=host, domain=f"p{n}.example", trust=trusts[n % 3], last_seen_at=NOON if n % 4 else None)
        for n in range(50)
        for host in hosts
    ]
    await commit(store, Change(puts=tuple(Put(None, one) for one in many)))
    for limit in (1, 7, 200):
        assert sorted(await every_peer(store, hosts, limit=limit)) == sorted(
            (one.host, one.domain) for one in many
        )
        assert len(await every_peer(store, hosts, limit=limit, words="p1")) == 22
    for trust in trusts:
        mine = sorted((one.host, one.domain) for one in many if one.trust is trust)
        assert sorted(await every_peer(store, hosts, limit=3, trust=trust)) == mine


async def test_only_strangers_with_something_in_quarantine_are_undecided(store: Store) -> None:
    held, settled, trusted = (
        Peer(host="a.test", domain=f"{name}.example", trust=trust, quarantined=count)
        for name, trust, count in (
            ("held", Trust.STRANGER, 2), ("settled", Trust.STRANGER, 0), ("trusted", Trust.TRUSTED, 3),
        )
    )  # fmt: skip
    await commit(store, Change(puts=tuple(Put(None, one) for one in (held, settled, trusted))))
    (one,) = await find.undecided(store, "a.test", limit=9)
    assert one.domain == "held.example"
    await commit(store, Change(puts=(Put(one, replace(one, trust=Trust.BLOCKED)),)))
    assert await find.undecided(store, "a.test", limit=9) == []
