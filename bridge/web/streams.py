"""Who waits for events: how many may, and one look at each host's newest event for all of them.

House rules: nothing is buffered for who waits, each reads the store from its own place, so a slow reader costs a
connection and nothing more; the look only says that there is something to read.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from bridge.errors import UnavailableError
from bridge.store import load
from bridge.store.connect import Store
from bridge.web.problems import ProblemError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often things are looked at.

    Attributes:
        poll_seconds: for new events of a host.
        check_seconds: whether the token is still good, and whoever waits still there.
        keep_alive_seconds: a stream is never silent for longer.
        write_seconds: a reader that takes nothing for so long is dropped.
    """

    poll_seconds: float = 0.5
    check_seconds: float = 2.0
    keep_alive_seconds: float = 15.0
    write_seconds: float = 30.0


@dataclass(slots=True)
class Feed:
    """One host's newest event, looked at as long as somebody waits.

    Attributes:
        newest: its sequence; None until the first look.
    """

    newest: int | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: int = 0
    looking: asyncio.Task[None] | None = None

    async def wait(self, after: int, seconds: float) -> None:
        """Wait until there is an event after this one, the service ends, or so long."""
        if self.looking is not None and self.looking.done():
            self.looking.result()  # it never ends by itself, so this raises what ended it
        news = self.news
        if self.newest is not None and self.newest > after:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()

    def tell(self) -> None:
        """Wake all who wait."""
        self.news.set()
        self.news = asyncio.Event()

    async def look(self, store: Store, host: str, every_seconds: float) -> None:
        """Look again and again; while the store is away there is nothing new."""
        while True:
            with contextlib.suppress(UnavailableError):
                newest = (await load.event_bounds(store, host))[1]
                if newest != self.newest:
                    self.newest = newest
                    self.tell()
            await asyncio.sleep(every_seconds)


@dataclass(slots=True)
class Streams:
    """All who wait for events in this process."""

    pace: Pace = field(default_factory=Pace)
    is_closing: bool = False
    taken: Counter[str] = field(default_factory=Counter)
    feeds: dict[str, Feed] = field(default_factory=dict)

    @contextlib.contextmanager
    def place(self, token_id: str, *, most: int, most_per_token: int) -> Iterator[None]:
        """Have one of the connections that may wait.

        Raises:
            ProblemError: 429 where the token has all it may have, 503 where all are taken or the service ends.
        """
        if self.taken[token_id] >= most_per_token:
            raise ProblemError(
                "too-many-requests",
                f"a token may have {most_per_token} connections that wait for events "
                "(server.event_connections_per_token)",
                headers={"Retry-After": "5"},
            )
        if self.is_closing or self.taken.total() >= most:
            raise ProblemError(
                "unavailable",
                f"all {most} connections that may wait for events are taken (server.event_connections), or the "
                "service ends; ask without waiting, or try again",
                headers={"Retry-After": "5"},
            )
        self.taken[token_id] += 1
        try:
            yield
        finally:
            self.taken[token_id] -= 1
            if not self.taken[token_id]:
                del self.taken[token_id]

    @contextlib.asynccontextmanager
    async def listening(self, store: Store, host: str) -> AsyncIterator[Feed]:
        """Have the host's events looked at."""
        feed = self.feeds.setdefault(host, Feed())
        feed.listeners += 1
        if feed.looking is None:
            feed.looking = asyncio.create_task(feed.look(store, host, self.pace.poll_seconds))
        try:
            yield feed
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                del self.feeds[host]
                feed.looking.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await feed.looking

    def close(self) -> None:
        """Let all who wait end, and take no more."""
        self.is_closing = True
        for feed in self.feeds.values():
            feed.tell()
