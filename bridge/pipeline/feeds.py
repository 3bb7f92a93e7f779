"""Lists of others that hosts subscribe to: subscribing, reading them, what they propose, and a yes to that.

House rules: what is read is stored apart from everything else and nothing follows from it; a yes is an approval like
any other, with the lists that named the target beside it.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from bridge import log
from bridge.errors import ConfigError, ConflictError, UnsupportedError
from bridge.pipeline import approve
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.preview import Answer
from bridge.pipeline.publish import published_by
from bridge.policy import feed as rules_of
from bridge.policy import lanes
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.approval import own_target
from bridge.policy.change import Change, Put, Sent
from bridge.policy.compare import UNDECIDED, domains_of, standing
from bridge.policy.decisions import Approval, Grounds, Mitigation, MitigationType
from bridge.policy.feed import Claim, Proposals
from bridge.policy.feed_record import Feed, FeedNames
from bridge.policy.record import Peer, derived_id
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import StaleError, commit
from bridge.store.connect import Store
from bridge.xmpp.jid import shown

_log = log.get(__name__)

MAX_BYTES: Final = 2 * 1024 * 1024
"""So much of a page is read at most."""
_ATTEMPTS: Final = 10
_AT_ONCE: Final = 100
_MOST_MITIGATIONS: Final = 2000
_MOST_DRAFTS: Final = 500
_LOADING: Final = "loading"


class Rules(approve.Rules, Protocol):
    """What the operator configured that matters here; see `[policy]`."""

    @property
    def feed_quorum(self) -> int: ...  # noqa: D102


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


async def subscribe(
    store: Store, host: str, url: str, *, actor: Actor, now: datetime, publisher: str = ""
) -> Feed:
    """Subscribe to a list; one that is known already is read at once.

    Args:
        store: where it is written.
        host: whose proposals it makes.
        url: as `feed.checked_url` wrote it.
        actor: who subscribes.
        now: the time.
        publisher: who answers for it; "": as it was, or whoever is where it is.

    Raises:
        ConfigError: there are `feed.MAX_FEEDS` already.
    """
    name = derived_id("feed", host, url)
    for _ in range(_ATTEMPTS):
        known = await find(store, name)
        if known is None and await load.count(store, keys.feeds(host)) >= rules_of.MAX_FEEDS:
            raise ConfigError(f"{host} subscribes to {rules_of.MAX_FEEDS} lists already; remove one first")
        due_at = now + timedelta(seconds=rules_of.FAILED_SECONDS)  # if what is queued here got lost
        new = Feed(
            id=name, host=host, url=url, by=actor.name, added_at=now, due_at=due_at, publisher=publisher
        )
        after = new
        if known is not None:
            after = replace(known, due_at=due_at, publisher=publisher or known.publisher)
        said = () if known else audits((host,), actor, "feed.add", name, now=now, detail=shown(url))
        if await _is_first(
            store, Change(puts=(Put(known, after),), audits=said, appends=(lanes.read_feed(after, now),))
        ):
            return after
    raise ConflictError("it changes faster than it can be written; try again")


async def unsubscribe(store: Store, feed: Feed, *, actor: Actor, now: datetime) -> None:
    """End a subscription and forget what the list named; what was blocked because of it stays blocked."""
    for _ in range(_ATTEMPTS):
        known, names = await _whole(store, feed.id)
        if known is None:
            return
        drops = (known,) if names is None else (known, names)
        said = audits((feed.host,), actor, "feed.remove", feed.id, now=now, detail=shown(feed.url))
        ended = (lanes.forget_node(known, now),) if known.scheme == "xmpp" else ()
        if await _is_first(store, Change(drops=drops, audits=said, appends=ended)):
            return
    raise ConflictError("it changes faster than it can be removed; try again")


async def find(store: Store, feed_id: str) -> Feed | None:
    """Load one."""
    return (await _whole(store, feed_id))[0]


async def listed(store: Store, host: str) -> list[Feed]:
    """The lists that a host subscribes to, the first first."""
    members = (await load.newest(store, [keys.feeds(host)], limit=_AT_ONCE))[keys.feeds(host)]
    names = [keys.feed(one) for one in reversed(members)]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    return [one for one in records if isinstance(one, Feed)]


async def _whole(store: Store, feed_id: str) -> tuple[Feed | None, FeedNames | None]:
    names = [keys.feed(feed_id), keys.feed_names(feed_id)]
    found, named = (await load.fetch(store, names=names)).records.values()
    return found if isinstance(found, Feed) else None, named if isinstance(named, FeedNames) else None


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
        await _is_first(store, Change(puts=(Put(one, after),), appends=appends))


async def read_page(store: Store, web: Web, items: Sequence[bytes], *, now: Callable[[], datetime]) -> Sent:
    """Read a list at a URL; items that say the same are done with it."""
    feed, names = await _whole(store, json.loads(items[0])["feed"])
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
    feed, names = await _whole(store, decoded[0]["feed"])
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The feeds of a host, and what they name, by URL."""

    feeds: Sequence[Feed]
    lists: Mapping[str, Mapping[str, int]]


async def load_lists(store: Store, host: str) -> Known:
    """Load the feeds of a host with what they name."""
    feeds = await listed(store, host)
    names = [keys.feed_names(one.id) for one in feeds]
    records = (await load.fetch(store, names=names)).records if names else {}
    named = {one.feed_id: one.since for one in records.values() if isinstance(one, FeedNames)}
    return Known(feeds=feeds, lists={one.url: named[one.id] for one in feeds if one.id in named})


async def named(
    store: Store, host: str, addresses: Collection[str], *, known: Known | None = None
) -> dict[str, tuple[Claim, ...]]:
    """Which of these addresses the feeds of a host name, and which feeds do; `known`: these, if they were loaded."""
    if not addresses:
        return {}
    known = known or await load_lists(store, host)
    found = {one: rules_of.claims(known.lists, one) for one in addresses} if known.lists else {}
    return {address: by for address, by in found.items() if by}


async def about(
    store: Store, drafts: Sequence[AbuseDraft], *, known: Mapping[str, Known] | None = None
) -> dict[str, dict[str, tuple[Claim, ...]]]:
    """By draft, which of its addresses the feeds of its host name; `known`: these by host, if they were loaded."""
    found: dict[str, dict[str, tuple[Claim, ...]]] = {}
    for host in dict.fromkeys(one.host for one in drafts):
        mine = [one for one in drafts if one.host == host]
        addresses = {one.id: [one.domain, *(who.jid for who in one.accused)] for one in mine}
        wanted = {each for some in addresses.values() for each in some}
        by = await named(store, host, wanted, known=(known or {}).get(host))
        found |= {name: {one: by[one] for one in some if one in by} for name, some in addresses.items()}
    return found


async def proposals(
    store: Store,
    host: str,
    *,
    own: Collection[str],
    rules: Rules,
    now: datetime,
    quorum: int | None = None,
    known: Known | None = None,
) -> Proposals:
    """Work out what the feeds of a host propose.

    Args:
        store: where they are.
        host: whose.
        own: all our hosts.
        rules: the operator's.
        now: the time.
        quorum: how many must agree; None: `rules.feed_quorum`.
        known: the feeds, if they were loaded already.
    """
    read = known or await load_lists(store, host)
    active = await _active(store, host)
    return await asyncio.to_thread(
        rules_of.proposals,
        read.lists,
        publisher={one.url: one.answers for one in read.feeds},
        quorum=rules.feed_quorum if quorum is None else quorum,
        own=own,
        known=await published_by(store, host, now=now),
        active=active,
        reports=await _reports(store, host),
        trusted=await _trusted(store, host),
        protected=rules.protected,
    )


async def _active(store: Store, host: str) -> list[Mitigation]:
    index = keys.mitigations_active(host)
    members = (await load.newest(store, [index], limit=_MOST_MITIGATIONS))[index]
    names = [keys.mitigation(one) for one in members]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    return [one for one in records if isinstance(one, Mitigation)]


async def _reports(store: Store, host: str) -> dict[str, int]:
    index = keys.abuse_drafts_open(host)
    members = (await load.newest(store, [index], limit=_MOST_DRAFTS))[index]
    names = [keys.abuse_draft(one) for one in members]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    found: dict[str, int] = {}
    for one in records:
        if isinstance(one, AbuseDraft) and not one.is_own:
            found[one.domain] = found.get(one.domain, 0) + one.reports
    return found


async def _trusted(store: Store, host: str) -> set[str]:
    index = keys.peers_trusted(host)
    members = (await load.newest(store, [index], limit=_MOST_MITIGATIONS))[index]
    records = (await load.fetch(store, names=[keys.peer(host, one) for one in members])).records.values()
    return {one.domain for one in records if isinstance(one, Peer) and one.trust is Trust.TRUSTED}


async def block(
    store: Store,
    host: str,
    domain: str,
    *,
    own: Collection[str],
    approval_id: str,
    actor: Actor,
    rules: Rules,
    now: datetime,
    expires_at: datetime | None = None,
    second_yes: bool = False,
    reason: str = "",
) -> Approval:
    """Block a server because lists name it: one is enough where an operator says so.

    Args:
        store: where it lies.
        host: where it is blocked.
        domain: as somebody typed it.
        own: all our hosts, which are never blocked so.
        approval_id: see `approve.act`, as for all that follows.
        actor: who says so.
        rules: the operator's.
        now: the time.
        expires_at: when it ends.
        second_yes: protected names are meant too.
        reason: for people.

    Raises:
        ConfigError: it is no domain, no list names it, or it is decided about already.
        ProtectedError: it needs a second yes.
    """
    before = await approve.stored(store, approval_id)
    if before is not None:
        return before  # it was stored, and the answer got lost
    target = own_target(host, MitigationType.BLOCK, address=domain)
    bare = target.fields["domain"]
    by = (await named(store, host, [bare])).get(bare, ())
    if not by:
        raise ConfigError(f"none of the lists that {host} subscribes to names {shown(bare)}")
    said = await _standing(store, host, bare, own=own, rules=rules, now=now)
    if said not in UNDECIDED:
        raise ConfigError(f"{shown(bare)} is {said} on {host} already")
    return await approve.act_on(
        store,
        host,
        [target],
        Grounds(feeds=tuple(one.url for one in by)),
        approval_id=approval_id,
        actor=actor,
        rules=rules,
        now=now,
        expires_at=expires_at,
        second_yes=second_yes,
        reason=reason,
    )


async def _standing(
    store: Store, host: str, domain: str, *, own: Collection[str], rules: Rules, now: datetime
) -> str:
    if any(one.target.get("domain") == domain for one in await _active(store, host)):
        return "blocked"
    known = await published_by(store, host, now=now)
    trusted = await _trusted(store, host)
    return standing(domain, own, known.said, trusted, domains_of(rules.protected))


async def _is_first(store: Store, change: Change) -> bool:
    try:
        await commit(store, change)
    except StaleError:
        return False
    return True
