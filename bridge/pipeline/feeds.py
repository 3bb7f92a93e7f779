"""Lists of others that hosts subscribe to: subscribing, what they propose, and a yes to that; `feed_read` reads them.

House rules: what is read is stored apart from everything else and nothing follows from it; a yes is an approval like
any other, with the lists that named the target beside it.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from bridge.errors import ConfigError, ConflictError
from bridge.pipeline import approve
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.publish import published_by
from bridge.policy import feed as rules_of
from bridge.policy import lanes
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.approval import own_target
from bridge.policy.change import Change, Put
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

_ATTEMPTS: Final = 10
_AT_ONCE: Final = 100
_MOST_MITIGATIONS: Final = 2000
_MOST_DRAFTS: Final = 500


class Rules(approve.Rules, Protocol):
    """What the operator configured that matters here; see `[policy]`."""

    @property
    def feed_quorum(self) -> int: ...  # noqa: D102


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
        if await is_first(
            store, Change(puts=(Put(known, after),), audits=said, appends=(lanes.read_feed(after, now),))
        ):
            return after
    raise ConflictError("it changes faster than it can be written; try again")


async def unsubscribe(store: Store, feed: Feed, *, actor: Actor, now: datetime) -> None:
    """End a subscription and forget what the list named; what was blocked because of it stays blocked."""
    for _ in range(_ATTEMPTS):
        known, names = await whole(store, feed.id)
        if known is None:
            return
        drops = (known,) if names is None else (known, names)
        said = audits((feed.host,), actor, "feed.remove", feed.id, now=now, detail=shown(feed.url))
        ended = (lanes.forget_node(known, now),) if known.scheme == "xmpp" else ()
        if await is_first(store, Change(drops=drops, audits=said, appends=ended)):
            return
    raise ConflictError("it changes faster than it can be removed; try again")


async def find(store: Store, feed_id: str) -> Feed | None:
    """Load one."""
    return (await whole(store, feed_id))[0]


async def listed(store: Store, host: str) -> list[Feed]:
    """The lists that a host subscribes to, the first first."""
    members = (await load.newest(store, [keys.feeds(host)], limit=_AT_ONCE))[keys.feeds(host)]
    names = [keys.feed(one) for one in reversed(members)]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    return [one for one in records if isinstance(one, Feed)]


async def whole(store: Store, feed_id: str) -> tuple[Feed | None, FeedNames | None]:
    """Load one with what it names."""
    names = [keys.feed(feed_id), keys.feed_names(feed_id)]
    found, named = (await load.fetch(store, names=names)).records.values()
    return found if isinstance(found, Feed) else None, named if isinstance(named, FeedNames) else None


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


async def is_first(store: Store, change: Change) -> bool:
    """Commit, unless something changed since it was loaded."""
    try:
        await commit(store, change)
    except StaleError:
        return False
    return True
