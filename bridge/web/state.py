"""What the handlers of one service process share."""

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from bridge.config import Settings
from bridge.policy.admit import WATERMARK
from bridge.policy.change import Queue
from bridge.policy.stages import Time
from bridge.store.connect import Durability, Store
from bridge.store.load import StoreHealth
from bridge.web.rate import Rates
from bridge.web.streams import Streams

WORKER_SECONDS = 30.0


@dataclass(slots=True)
class Service:
    """The store, the settings and the newest look at the store's health; `app.watch` renews the look each second.

    Attributes:
        health: None until the first look succeeded, and after a look that failed.
        keys: the decoded secrets of each host.
        lists: by host, when making its published list last began, by the loop's clock, and the task that does.
        times: what took how long here since the newest look.
    """

    settings: Settings
    store: Store
    durability: Durability
    keys: dict[str, list[bytes]]
    health: StoreHealth | None = None
    problem: str = "the service is starting"
    rates: Rates = field(default_factory=Rates)
    streams: Streams = field(default_factory=Streams)
    lists: dict[str, tuple[float, asyncio.Task[bytes]]] = field(default_factory=dict)
    times: list[Time] = field(default_factory=list)

    def reasons(self) -> list[str]:
        """Why this service is not ready, each with what to do; empty if it is."""
        if self.health is None:
            return [self.problem]
        full = f"the store is over {WATERMARK:.0%} of store.max_bytes; raise it, or let less in"
        return self.unattended() + ([full] if self.fill >= WATERMARK else [])

    def unattended(self) -> list[str]:
        """Say for which queues no worker was seen lately: what came now would be answered by nobody."""
        if self.health is None:
            return []
        found = []
        for queue in Queue:
            seen = self.health.workers_seen.get(queue)
            if seen is None or seen > WORKER_SECONDS:
                found.append(
                    f"no worker for {queue} was seen lately; start one: incident-bridge worker {queue}"
                )
        return found

    @property
    def fill(self) -> float:
        """Share of the store's memory in use; 1 while that is not known."""
        if self.health is None:
            return 1.0
        return self.health.used_bytes / self.max_bytes

    @property
    def max_bytes(self) -> int:
        """What the store may use: the configured bound, or the server's own where that is smaller."""
        configured = self.settings.store.max_bytes
        limit = self.health.max_bytes if self.health is not None else None
        return min(configured, limit) if limit else configured


SERVICE = web.AppKey("service", Service)


async def end_streams(app: web.Application) -> None:
    """Let those go who wait for events, before the listener closes."""
    app[SERVICE].streams.close()
