"""Deciding on a real store: what cannot be hidden, and what takes the same way."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from bridge.config import PolicySettings
from bridge.pipeline.process import process
from bridge.pipeline.receive import Intake, Relayed, receive
from bridge.policy.change import Change, Put, Queue
from bridge.policy.consumers import Attempt, DeliveryState
from bridge.policy.deliver import first
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import keys, lanes, load
from bridge.store.commit import commit
from bridge.store.connect import Store
from tests.policy.conftest import NOW, SECURE, stanza
from tests.system.reports import report

REPORTS = 192  # more than what a store keeps packed in one piece
MOST_BYTES = 4096
LENIENT = PolicySettings(quota_per_minute=10**6, quota_burst=10**6, quota_strangers_burst=10**6)
Work = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def work(store: Store) -> Work:
    """Send stanzas to a.test, have them decided, and take what goes out."""
    numbers = count()

    async def run(*stanzas: str) -> list[dict[str, Any]]:
        import json

        intake = Intake(host="a.test", rules=LENIENT, fill=0.0)
        batch = [Relayed(stanza=one, stream=SECURE) for one in stanzas]
        await receive(
            store,
            intake,
            batch,
            webhook_id=f"w{next(numbers)}",
            now=NOW + timedelta(seconds=next(numbers)),
            new_id=lambda: f"n{next(numbers)}",
        )
        while (taken := await lanes.take(store, Queue.INCIDENTS, "d")).leases:
            await process(store, taken.leases, rules=LENIENT, now=NOW)
        out: list[dict[str, Any]] = []
        while (taken := await lanes.take(store, Queue.OUTGOING, "d")).leases:
            out += [json.loads(item) for lease in taken.leases for item in lease.items]
            await commit(store, Change(), leases=taken.leases)
        return out

    return run


async def trust(store: Store, domain: str) -> None:
    await commit(store, Change(puts=(Put(None, Peer(host="a.test", domain=domain, trust=Trust.TRUSTED)),)))


def inquiry(sender: str, number: int) -> str:
    return stanza(kind="inquiry", type="get", sender=sender, iq_id=f"q{number}")


async def test_a_stranger_cannot_hide_an_incident_behind_namesakes(store: Store, work: Work) -> None:
    await trust(store, "b.test")
    await work(stanza(sender="b.test"))
    for number in range(25):
        named = stanza(sender="evil.test").replace("name='jabber.org'", f"name='x{number}.test'")
        same = stanza(sender=f"e{number}.evil.test")
        await work(named, same)

    out = await work(inquiry("b.test", 1))

    assert "result" in out[0]["stanza"]


async def test_what_the_asker_told_itself_is_found_in_quarantine(work: Work) -> None:
    await work(stanza(sender="evil.test"))
    out = await work(inquiry("evil.test", 1))
    assert "result" in out[0]["stanza"]
    assert "<report" in out[1]["stanza"]
    assert "item-not-found" in (await work(inquiry("other.test", 2)))[0]["stanza"]


async def test_unknown_and_not_allowed_cost_the_same_round_trips(store: Store, work: Work) -> None:
    await trust(store, "b.test")
    await work(stanza(sender="b.test"))

    async def calls(text: str) -> int:
        before = (await store.redis.info("stats"))["total_commands_processed"]
        out = await work(inquiry("other.test", 1).replace("4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF", text))
        assert "item-not-found" in out[0]["stanza"]
        after = (await store.redis.info("stats"))["total_commands_processed"]
        return int(after - before)

    not_allowed = await calls("4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF")
    unknown = await calls("0BF5D2CE-7C90-4860-BEF2-43A7D777D5FF")

    assert abs(not_allowed - unknown) <= 1  # one incident more is read, in the same round trip


async def test_a_report_of_the_specification_s_size_with_its_delivery_and_all_indexes_takes_4_kib(
    store: Store, work: Work
) -> None:
    await trust(store, "b.test")
    for start in range(0, REPORTS, 32):
        await work(*(report(number) for number in range(start, start + 32)))
    events = await load.events(store, "a.test", after=0, limit=2 * REPORTS)
    assert len(events) == REPORTS
    took = Attempt(at=NOW, duration_ms=12, status=204)
    for _, event in events:
        waits = first("ep_a", event, host="a.test", now=NOW)
        done = replace(waits, state=DeliveryState.DELIVERED, tries=1, attempts=(took,), next_at=None)
        await commit(store, Change(puts=(Put(None, done),)))

    used = 0
    for kept in (f"{keys.PREFIX}r:*", f"{keys.PREFIX}i:*"):
        async for key in store.redis.scan_iter(match=kept, count=1000):
            used += await store.redis.memory_usage(key, samples=0) or 0

    assert 1000 < used / REPORTS <= MOST_BYTES
