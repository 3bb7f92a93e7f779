"""What a service does by itself: timers that are due, and what is kept no longer."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.config import HostSettings, Settings
from bridge.errors import ConflictError
from bridge.policy.change import Append, Change, Event, Queue, Timer
from bridge.store import load
from bridge.store.commit import commit
from bridge.store.connect import Durability, Store
from bridge.web import app
from bridge.web.state import Service

HOSTS = ("a.test", "b.test")


def service(store: Store) -> Service:
    host = HostSettings(api_url="http://127.0.0.1:5280", secrets=())
    return Service(
        settings=Settings(hosts=dict.fromkeys(HOSTS, host)),
        store=store,
        durability=Durability(mode="memory", problems=(), fix=()),
        keys={},
    )


async def test_many_due_timers_of_one_lane_do_not_keep_those_of_others_waiting(store: Store) -> None:
    due_at = datetime.now(UTC) - timedelta(seconds=9)

    def timer(lane: str, number: int) -> Timer:
        append = Append(queue=Queue.OUTGOING, lane=lane, item={"id": f"{lane}-{number}"})
        seconds = timedelta(seconds=1 if lane == "host:a.test" else 0)
        return Timer(name=f"{lane}-{number}", due_at=due_at + seconds, append=append)

    many = tuple(timer("endpoint:ep_a", number) for number in range(1000))
    await commit(store, Change(timers=(*many, timer("host:a.test", 1))))

    await app.look(service(store))

    assert await store.redis.llen("ib:lane:outgoing:host:a.test") == 1


async def test_what_cannot_be_deleted_of_one_host_keeps_nothing_of_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=40)
    for host in HOSTS:
        event = Event(host=host, id=f"{host}-1", type="incident.reported", timestamp=long_ago, data={})
        await commit(store, Change(events=(event,)))
    trim = app.trim_events

    async def fail_for_the_first(store: Store, host: str, **more: Any) -> int:
        if host == HOSTS[0]:
            raise ConflictError("changed meanwhile")
        return await trim(store, host, **more)

    monkeypatch.setattr(app, "trim_events", fail_for_the_first)
    await app.sweep_once(service(store))

    bounds = [await load.event_bounds(store, host) for host in HOSTS]
    assert bounds == [(1, 1), (2, 1)]


async def test_timers_are_looked_at_while_much_is_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, gate = asyncio.Event(), asyncio.Event()

    async def delete_for_long(*_: object, **__: object) -> int:
        await gate.wait()
        return 0

    async def look(_: Service) -> None:
        looked.set()

    monkeypatch.setattr(app, "forget_deliveries", delete_for_long)
    monkeypatch.setattr(app, "look", look)
    monkeypatch.setattr(app, "WATCH_SECONDS", 0.01)
    made = service(store)
    tasks = [asyncio.create_task(work) for work in (app.sweep(made), app.watch(made))]
    try:
        for _ in range(3):
            await asyncio.wait_for(looked.wait(), 5)
            looked.clear()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
