"""A worker process for tests: the real worker, with stories that write what they did into the store.

Run as `stand_in.py URL QUEUE LEASE_SECONDS`; a short lease makes every wait short. It stands in for the pipeline,
so that a test can kill and freeze workers without Prosody: `process` passes every item on to the lane
`host:h.example`, `send_stanzas` counts it as sent. Counting is in the same commit that finishes the item, so an
item finished twice shows; the order shows in the events of the "host" named like the lane.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from redis import Redis

from bridge.errors import UnavailableError
from bridge.policy.change import Append, Change, Event, Queue, Sent
from bridge.store import codec, lanes
from bridge.store import commit as commits
from bridge.store.commit import Lease, commit
from bridge.store.connect import Store


async def process(store: Store, leases: Sequence[Lease], *, rules: Any, now: datetime) -> None:
    items = [json.loads(item) for lease in leases for item in lease.items]
    for item in items:
        await _misbehave(store, item)
    appends = [
        Append(queue=Queue.OUTGOING, lane="host:h.example", item={"id": f"out-{item['id']}"})
        for item in items
    ]
    counts = [("worked", item["id"]) for item in items]
    events = [
        Event(host=lease.lane, id=json.loads(item)["id"], type="t", timestamp=now, data={})
        for lease in leases
        for item in lease.items
    ]
    change = Change(appends=tuple(appends), counts=tuple(counts), events=tuple(events))
    await commit(store, change, leases=leases)


async def _misbehave(store: Store, item: dict[str, Any]) -> None:
    match item.get("do"):
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "newer":
            codec.unpack(b"\xff")
        case "raise":
            raise RuntimeError("a mistake of ours")
        case "die once" if await store.redis.set(f"died:{item['id']}", 1, nx=True):
            os.kill(os.getpid(), signal.SIGKILL)
        case "freeze once" if await store.redis.set(f"froze:{item['id']}", os.getpid(), nx=True):
            os.kill(os.getpid(), signal.SIGSTOP)


async def set_aside(store: Store, lease: Lease, *, now: datetime) -> None:
    await commit(store, Change(counts=(("set_aside", json.loads(lease.items[0])["id"]),)), leases=[lease])


async def send_stanzas(
    store: Store,
    prosody: Any,
    host: str,
    items: Sequence[bytes],
    *,
    patience: Any,
    now: datetime,
    link: Any,
) -> Sent:
    decoded = [json.loads(item) for item in items]
    for item in decoded:
        if item.get("do") == "away":
            raise UnavailableError("Prosody is away", retry_after_seconds=0.3)
        if item.get("do") == "hang":
            await asyncio.sleep(60)
        if item.get("do") == "freeze once" and prosody.set(f"froze:{item['id']}", os.getpid(), nx=True):
            os.kill(os.getpid(), signal.SIGSTOP)
    await asyncio.sleep(0.002)
    return Sent(len(items), Change(counts=tuple(("sent", item["id"]) for item in decoded)))


def install(url: str) -> None:
    """Put the stories above where the worker looks for them."""
    webhooks = SimpleNamespace(allow_networks=(), allow_http=False, timeout_seconds=15)
    server = SimpleNamespace(public_url="")
    policy = SimpleNamespace(answer_page_days=1)
    settings = SimpleNamespace(
        store_url=lambda: url, hosts={}, policy=policy, webhooks=webhooks, server=server
    )
    stand_ins: dict[str, dict[str, Any]] = {
        "bridge.config": {"load_settings": lambda: settings, "Settings": SimpleNamespace},
        "bridge.clients.prosody": {"ProsodyClient": lambda *_: Redis.from_url(url)},
        "bridge.pipeline.process": {"process": process},
        "bridge.pipeline.recover": {"set_aside": set_aside},
        "bridge.pipeline.send_stanzas": {"send_stanzas": send_stanzas},
    }
    for name, members in stand_ins.items():
        importlib.import_module(name).__dict__.update(members)


def hurry(lease_seconds: float) -> None:
    """Let leases, and everything that is measured against them, run faster."""
    from bridge.worker import outgoing

    commits.LEASE_SECONDS = lanes.LEASE_SECONDS = lanes.DRAIN_SECONDS = lease_seconds
    lanes.RENEW_SECONDS = lease_seconds / 4
    lanes.LINGER_SECONDS = lease_seconds / 2
    outgoing.GOODBYE_SECONDS = lease_seconds


def main() -> int:
    url, queue, lease_seconds = sys.argv[1:]
    install(url)
    hurry(float(lease_seconds))
    from bridge import config
    from bridge.worker.main import run_worker

    return run_worker(config.load_settings(), Queue(queue))


if __name__ == "__main__":
    sys.exit(main())
