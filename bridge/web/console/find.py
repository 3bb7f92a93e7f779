"""Look into the store for pages: incidents by what an operator types, peers, an incident's story.

House rules: a page costs a bounded number of records, however much is stored; where it stopped looking it says so.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from bridge.errors import MalformedError
from bridge.pipeline.export import interactions_about
from bridge.policy.decisions import Triage
from bridge.policy.lookalike import alike
from bridge.policy.record import Edition, Incident, Interaction, Peer, Record
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.xep0268.model import Status
from bridge.xmpp.jid import Jid

Cursor = tuple[int, str]
_PAGE: Final = 200
_MOST_SCANNED: Final = 2000
_MOST_NAMED: Final = 50
_MOST_PEERS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for; "" and None leave it open.

    Attributes:
        words: an address, a peer, an identifier, the beginning of an incident's id, or a word of its summary.
        quarantine: "yes" or "no".
        since: the first day, `until` the last, both in UTC.
        before: where the page before ended.
    """

    words: str = ""
    peer: str = ""
    status: Status | None = None
    severity: str = ""
    quarantine: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: Cursor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether everything is wanted."""
        return self == Query(before=self.before)

    def matches(self, one: Incident) -> bool:
        """Whether an incident is what is looked for."""
        return (
            (self.status is None or one.status is self.status)
            and (not self.severity or one.severity == self.severity)
            and (not self.quarantine or one.quarantined is (self.quarantine == "yes"))
            and (not self.peer or one.reporter == self.peer)
            and (self.since is None or one.updated_at >= self.since)
            and (self.until is None or one.updated_at < self.until + timedelta(days=1))
            and (not self.words or self._is_named(one))
        )

    def _is_named(self, one: Incident) -> bool:
        wanted = self.words.casefold()
        identity = one.identity
        texts = (one.reporter, identity.name, identity.text, one.summary, *one.sources, *one.parties)
        return one.id.startswith(wanted) or any(wanted in text.casefold() for text in texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of incidents, newest first; `after` is where the next begins, None: there is none.

    Attributes:
        is_partial: not everything was looked at; more may be beyond `after`.
    """

    incidents: tuple[Incident, ...]
    after: Cursor | None
    is_partial: bool


async def search(store: Store, hosts: Collection[str], query: Query, *, limit: int) -> Found:
    """Look for incidents of several hosts; the first page also has those of just this identifier, however old."""
    found = await _walk(store, hosts, query, limit=limit)
    named = [] if query.before else [one for host in hosts for one in await _named(store, host, query)]
    by_id = {one.id: one for one in (*found.incidents, *named)}
    return replace(found, incidents=tuple(sorted(by_id.values(), key=_position, reverse=True)))


async def _walk(store: Store, hosts: Collection[str], query: Query, *, limit: int) -> Found:
    """Put together what was found for each host, down to where all of them were looked through."""
    parts = await asyncio.gather(*(_walk_host(store, host, query, limit=limit) for host in hosts))
    ordered = sorted((one for part in parts for one in part.incidents), key=_position, reverse=True)
    edge = max((part.after for part in parts if part.after is not None and part.is_partial), default=None)
    if edge is not None:
        ordered = [one for one in ordered if _position(one) >= edge]
    if len(ordered) > limit:
        return Found(incidents=tuple(ordered[:limit]), after=_position(ordered[limit - 1]), is_partial=False)
    return Found(incidents=tuple(ordered), after=edge, is_partial=edge is not None)


def _position(one: Incident) -> Cursor:
    return keys.milliseconds(one.updated_at), one.id


async def _walk_host(store: Store, host: str, query: Query, *, limit: int) -> Found:
    """Look through the narrowest index, so far as a page may; one more than `limit` is enough."""
    index = await _index(store, host, query)
    before = query.before
    if before is None and query.until is not None:
        before = (keys.milliseconds(query.until + timedelta(days=1)), "")
    since = keys.milliseconds(query.since)
    found: list[Incident] = []
    scanned, at_once = 0, limit + 1
    while scanned < _MOST_SCANNED and len(found) <= limit:
        entries = await load.page(store, index, limit=at_once, before=before)
        records = await _incidents(store, [member for member, _ in entries])
        found += [one for one in records if query.matches(one)]
        scanned += len(entries)
        if len(entries) < at_once or entries[-1][1] < since:
            return Found(incidents=tuple(found), after=None, is_partial=False)
        before, at_once = entries[-1][::-1], _PAGE
    return Found(incidents=tuple(found), after=before, is_partial=len(found) <= limit)


async def _index(store: Store, host: str, query: Query) -> str:
    """An index that has everything that matches, and as little else as possible."""
    if query.peer:
        return keys.incidents_of_reporter(host, query.peer)
    if "@" in query.words:
        exact = keys.sources(host, _prepared(query.words))
        if (await load.newest(store, [exact], limit=1))[exact]:
            return exact
    if query.status is not None:
        return keys.incidents_with_status(host, query.status)
    if query.quarantine:
        return keys.incidents_quarantined(host, quarantined=query.quarantine == "yes")
    return keys.incidents(host)


def _prepared(words: str) -> str:
    try:
        return str(Jid.parse(words))
    except MalformedError:
        return words


async def _named(store: Store, host: str, query: Query) -> list[Incident]:
    """Those whose identifier, or id, is just what was typed, however old they are."""
    if not query.words:
        return []
    index = keys.texts(host, query.words)
    members = (await load.newest(store, [index], limit=_MOST_NAMED))[index]
    found = await _incidents(store, dict.fromkeys((*members, query.words.casefold())))
    return [one for one in found if one.host == host and query.matches(one)]


async def _incidents(store: Store, ids: Iterable[str]) -> list[Incident]:
    return [one for one in await records(store, map(keys.incident, ids)) if isinstance(one, Incident)]


async def records(store: Store, names: Iterable[keys.RecordName]) -> list[Record]:
    """Load records in the order of their names; what is gone is left out."""
    wanted = list(names)
    if not wanted:
        return []
    found = (await load.fetch(store, names=wanted)).records
    return [record for name in wanted if (record := found[name]) is not None]


async def incident(store: Store, incident_id: str, hosts: Mapping[str, object]) -> Incident | None:
    """The incident, if it is one of these hosts'."""
    found = await _incidents(store, [incident_id])
    return found[0] if found and found[0].host in hosts else None


async def interactions(
    store: Store, incident_id: str, editions: Sequence[Edition], *, limit: int
) -> list[Interaction]:
    """The newest interactions about an incident, and those that brought its editions, oldest first."""
    return await interactions_about(store, incident_id, editions=editions[-limit:], limit=limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPeers:
    """A page of peers; `after` is where the next begins, None: there is none; `is_partial`: as in `Found`."""

    peers: tuple[Peer, ...]
    after: Cursor | None
    is_partial: bool


async def peers(
    store: Store,
    hosts: Iterable[str],
    *,
    words: str = "",
    trust: Trust | None = None,
    limit: int,
    before: Cursor | None = None,
) -> FoundPeers:
    """A page of the peers that these hosts know, last seen first: by a part of their names, and by their trust."""
    index = keys.peers_trusted if trust is Trust.TRUSTED else keys.peers
    found: list[tuple[Cursor, Peer]] = []
    indexes = {host: index(host) for host in hosts}
    for _ in range(_MOST_SCANNED // _PAGE):
        rows, end = await _rows(store, indexes, before, limit=_PAGE if words or trust else limit)
        names = [keys.peer(host, domain) for (_, domain), host in rows if words in domain]
        loaded = {(one.host, one.domain): one for one in await _peers(store, names)}
        for position, host in rows:
            one = loaded.get((host, position[1]))
            if one is not None and trust in {None, one.trust}:
                found.append((position, one))
        before = end
        if end is None or len(found) >= limit:
            break
    shown = found[:limit]
    shown += [
        each for each in found[limit:] if each[0] == shown[-1][0]
    ]  # another host's: the page ends below it
    after = shown[-1][0] if len(found) > len(shown) else before
    return FoundPeers(
        peers=tuple(one for _, one in shown), after=after, is_partial=after is not None and len(shown) < limit
    )


async def _rows(
    store: Store, indexes: Mapping[str, str], before: Cursor | None, *, limit: int
) -> tuple[list[tuple[Cursor, str]], Cursor | None]:
    """What follows in these hosts' indexes, as (position, host); and the last position, None: there is no more."""
    pages = await asyncio.gather(
        *(load.page(store, one, limit=limit + 1, before=before) for one in indexes.values())
    )
    rows = sorted(
        (
            ((score, member), host)
            for host, page in zip(indexes, pages, strict=True)
            for member, score in page
        ),
        reverse=True,
    )
    kept = rows[:limit] + [each for each in rows[limit:] if rows[limit - 1][0] == each[0]]
    return kept, kept[-1][0] if len(rows) > len(kept) else None


async def _peers(store: Store, names: Iterable[keys.RecordName]) -> list[Peer]:
    return [one for one in await records(store, names) if isinstance(one, Peer)]


async def undecided(store: Store, host: str, *, limit: int) -> list[Peer]:
    """The strangers that have something in quarantine, last seen first."""
    index = keys.peers_undecided(host)
    members = (await load.newest(store, [index], limit=limit))[index]
    return await peers_named(store, host, members)


async def peers_named(store: Store, host: str, domains: Iterable[str]) -> list[Peer]:
    """What a host knows of these peers."""
    return await _peers(store, [keys.peer(host, domain) for domain in domains])


async def only_alike(store: Store, host: str, index: str) -> list[tuple[str, str]]:
    """Those of an index of a host's peers whose names only look like one that it knows, with that one."""
    known = await known_names(store, host)
    members = (await load.newest(store, [index], limit=_MOST_PEERS))[index]
    return alike([one for one in members if one not in known], known)


async def peer(store: Store, host: str, domain: str) -> Peer | None:
    """What a host knows of a peer."""
    found = await records(store, [keys.peer(host, domain)])
    return found[0] if found and isinstance(found[0], Peer) else None


async def triage(store: Store, incidents: Iterable[Incident]) -> dict[str, Triage]:
    """What the operators think of these incidents, by their ids."""
    found = await records(store, (keys.triage(one.id) for one in incidents))
    return {one.incident_id: one for one in found if isinstance(one, Triage)}


async def known_names(store: Store, host: str) -> frozenset[str]:
    """The names that others may imitate: our host, and the peers that it trusts, however many strangers there are."""
    index = keys.peers_trusted(host)
    return frozenset({host, *(await load.newest(store, [index], limit=_MOST_PEERS))[index]})


def day(text: str) -> datetime | None:
    """A day as a date field of a form writes it; None if it is none, or has no next one."""
    try:
        found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        found + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return found


def cursor(text: str) -> Cursor | None:
    """A position as `written` wrote it; None if it is none."""
    score, _, member = text.partition("-")
    return (int(score), member) if score.isdecimal() and len(score) < 20 else None  # noqa: PLR2004 - of a page


def written(position: Cursor | None) -> str:
    """A position for the address of the next page."""
    return "" if position is None else f"{position[0]}-{position[1]}"
