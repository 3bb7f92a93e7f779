"""Reading the lists of others that hosts subscribe to: when each is due, pages by HTTP, nodes through Prosody.

House rule: what cannot be read changes nothing of what a list named before.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from bridge import log
from bridge.errors import UnsupportedError
from bridge.pipeline.feeds import is_first, whole
from bridge.pipeline.preview import Answer
from bridge.policy import feed as rules_of
from bridge.policy import lanes
from bridge.policy.change import Change, Put, Sent
from bridge.policy.feed_record import Feed, FeedNames
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.xmpp.jid import shown

_log = log.get(__name__)

MAX_BYTES: Final = 2 * 1024 * 1024
"""So much of a page is read at most."""
_AT_ONCE: Final = 100
_LOADING: Final = "loading"


class Page(Protocol):
    """What came of fetching a page; see `clients.endpoint.Page`."""

    @property
    def text(self) -> str | None: ...  # noqa: D102
    @property
    def mark(self) -> str: ...  # noqa: D102
    @property
    def error(self) -> str: ...  # noqa: D102


class Web(Protocol):
    """Where pages are fetched from; see `clients.endpoint.EndpointClient`."""

    async def get(self, url: str, *, mark: str, max_bytes: int) -> Page: ...  # noqa: D102


class Server(Protocol):
    """What is asked of the host's Prosody; see `clients.prosody.ProsodyClient`."""

    async def read_list(self, host: str, service: str, node: str, *, known: str = "") -> Answer: ...  # noqa: D102
    async def forget_list(self, host: str, service: str, node: str) -> Answer: ...  # noqa: D102


async def begin(store: Store, hosts: Collection[str], *, now: datetime) -> None:
    """Queue reading what is due, of the hosts that there are."""
    due = await load.older(store, keys.FEEDS_DUE, than=now, limit=_AT_ONCE)
    names = [keys.feed(one) for one in due]
    found = (await load.fetch(store, names=names)).records.values() if names else ()
    for one in found:
        if not isinstance(one, Feed):
            continue
        wait_seconds = rules_of.FAILED_SECONDS if one.host in hosts else 86_400
        after = replace(one, due_at=now + timedelta(seconds=wait_seconds))
        appends = (lanes.read_feed(one, one.due_at),) if one.host in hosts else ()
        await is_first(store, Change(puts=(Put(one, after),), appends=appends))


async def read_page(store: Store, web: Web, items: Sequence[bytes], *, now: Callable[[], datetime]) -> Sent:
    """Read a list at a URL; items that say the same are done with it."""
    feed, names = await whole(store, json.loads(items[0])["feed"])
    if feed is None:
        return Sent(len(items), Change())
    page = await web.get(feed.url, mark=feed.mark if names else "", max_bytes=MAX_BYTES)
    if page.error:
        return Sent(len(items), _failed(feed, page.error, now()))
    text = page.text
    found = None if text is None else await asyncio.to_thread(rules_of.read_names, text.split("\n"))
    if found is not None and found.bad and not found.names:
        return Sent(len(items), _failed(feed, "it names no domain and no JID: it is no list", now()))
    return Sent(len(items), _read(feed, names, found, page.mark, now()))


async def read_node(
    store: Store, server: Server, items: Sequence[bytes], *, now: Callable[[], datetime]
) -> Sent:
    """Read a list at a pubsub node, through the host's Prosody, which follows its changes; or end that.

    Raises:
        UnavailableError: Prosody cannot be reached; it is tried again.
    """
    decoded = [json.loads(one) for one in items]
    if "forget" in decoded[0]:
        with contextlib.suppress(UnsupportedError):
            await server.forget_list(decoded[0]["host"], *decoded[0]["forget"])
        return Sent(1, Change())
    alike = next((n for n, one in enumerate(decoded) if "forget" in one), len(items))
    feed, names = await whole(store, decoded[0]["feed"])
    if feed is None:
        return Sent(alike, Change())
    change = await _read_node(server, feed, names, now)
    return Sent(alike, change)


async def _read_node(
    server: Server, feed: Feed, names: FeedNames | None, now: Callable[[], datetime]
) -> Change:
    service, node = feed.node
    try:
        answer = await server.read_list(feed.host, service, node, known=feed.mark if names else "")
    except UnsupportedError as error:
        return _failed(feed, str(error), now())
    if not answer.ok:
        return _failed(feed, answer.error, now())
    detail = answer.detail
    if detail.get("state") == _LOADING:
        after = replace(feed, due_at=now() + timedelta(seconds=rules_of.LOADING_SECONDS))
        return Change(puts=(Put(feed, after),))
    mark = str(detail.get("revision") or "")[:200]
    found = None
    if not detail.get("unchanged"):
        read = await asyncio.to_thread(rules_of.read_names, map(str, detail.get("names") or ()))
        found = replace(read, left_out=read.left_out + _number(detail.get("left_out")))
    return _read(feed, names, found, mark, now())


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _read(
    feed: Feed, before: FeedNames | None, names: rules_of.Names | None, mark: str, now: datetime
) -> Change:
    after, changed = rules_of.was_read(feed, before, names, mark=mark, now=now)
    puts = (Put(feed, after),) if changed is None else (Put(feed, after), Put(before, changed))
    if changed is not None:
        _log.info("a list changed", host=feed.host, feed=feed.url, names=after.names, left_out=after.left_out)
    return Change(puts=puts, counts=(("feeds", "unchanged" if changed is None else "changed"),))


def _failed(feed: Feed, problem: str, now: datetime) -> Change:
    if problem != feed.problem:
        _log.warning(
            "a list cannot be read, what it named stands; mend it, or: incident-bridge feeds remove",
            host=feed.host, feed=feed.url, reason=shown(problem),
        )  # fmt: skip
    after = rules_of.failed(feed, problem[:300], now=now)
    return Change(puts=(Put(feed, after),), counts=(("feeds", "failed"),))
