"""Lists of incidents: the newest made first, by filters, a page at a time.

House rules: the order is that of creation, because it never changes: an incident that changes while somebody pages
is neither lost nor repeated. A filter that an index serves is crossed with the others in the store where the smallest
index is small; else the list is walked, at most `_MOST_WALKED` records a page.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bridge.policy.decisions import Triage, TriageState
from bridge.policy.record import Incident
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.web.api import paging
from bridge.web.api.paging import Position
from bridge.xep0268.model import Status

_FEW: Final = 2000
_AT_ONCE: Final = 200
_MOST_WALKED: Final = 1000

Entry = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which incidents; None: any.

    Attributes:
        text: of the IncidentID; finds nothing that lies in quarantine, whose names are anybody's to choose.
        since, until: when it was made; `until` itself is outside.
    """

    status: Status | None = None
    reporter: str | None = None
    quarantined: bool | None = None
    source: str | None = None
    severity: str | None = None
    triage: TriageState | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def looks_at_records(self) -> bool:
        """Whether an incident of the list may be left out."""
        return any(
            value is not None
            for value in (
                self.status,
                self.reporter,
                self.quarantined,
                self.source,
                self.severity,
                self.triage,
                self.text,
            )
        )

    def indexes(self, host: str) -> list[str]:
        """The indexes of a host that all the incidents looked for are in."""
        found = []
        if self.source is not None:
            found.append(keys.sources(host, self.source))
        if self.text is not None:
            found.append(keys.texts(host, self.text))
        if self.reporter is not None:
            found.append(keys.incidents_of_reporter(host, self.reporter))
        if self.status is not None:
            found.append(keys.incidents_with_status(host, self.status))
        if self.quarantined is not None:
            found.append(keys.incidents_quarantined(host, quarantined=self.quarantined))
        if self.triage not in {None, TriageState.OPEN}:
            found.append(keys.triaged(host))
        return found

    def match(self, incident: Incident, triage: Triage | None) -> bool:
        """Whether this one is looked for, as its record says now."""
        state = TriageState.OPEN if triage is None else triage.state
        checks = (
            (self.status, incident.status),
            (self.reporter, incident.reporter),
            (self.quarantined, incident.quarantined),
            (self.severity, incident.severity),
            (self.triage, state),
            (self.text, incident.identity.text),
        )
        if any(wanted is not None and wanted != found for wanted, found in checks):
            return False
        if self.text is not None and incident.quarantined:
            return False
        return self.source is None or self.source in incident.sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page; `last` is where the next one goes on, None if there is none."""

    incidents: tuple[tuple[Incident, Triage | None], ...]
    last: Position | None


async def find(
    store: Store, hosts: Sequence[str], filters: Filters, *, limit: int, before: Position | None
) -> Found:
    """Find the newest incidents that match, after (in the list: before in time) the position."""
    if filters.until is not None:
        top = (keys.milliseconds(filters.until), "")
        before = top if before is None else min(before, top)
    found: list[tuple[Incident, Triage | None]] = []
    walked, last, looks = 0, before, filters.looks_at_records
    async for entries in _walk(store, hosts, filters, limit=limit, before=before):
        pairs = await _records(store, hosts, entries)
        for (member, score), pair in zip(entries, pairs, strict=True):
            if len(found) == limit or walked == _MOST_WALKED:
                return Found(incidents=tuple(found), last=last)
            walked, last = walked + 1, (score, member)
            if pair is not None and (not looks or filters.match(*pair)):
                found.append(pair)
    return Found(incidents=tuple(found), last=None)


async def _walk(
    store: Store, hosts: Sequence[str], filters: Filters, *, limit: int, before: Position | None
) -> AsyncIterator[list[Entry]]:
    """Yield entries in order, some at a time, back to `filters.since`."""
    lowest = 0 if filters.since is None else keys.milliseconds(filters.since)
    few = await _few(store, hosts, filters)
    size = _AT_ONCE if few is None and filters.looks_at_records else limit + 1
    while True:
        if few is None:
            made = [keys.incidents_made(host) for host in hosts]
            entries = await paging.newest(store, made, limit=size, before=before)
        else:
            left = few if before is None else [one for one in few if (one[1], one[0]) < before]
            entries = left[:size]
        wanted = [entry for entry in entries if entry[1] >= lowest]
        if wanted:
            yield wanted
        if len(wanted) < size:
            return
        before = (wanted[-1][1], wanted[-1][0])


async def _few(store: Store, hosts: Sequence[str], filters: Filters) -> list[Entry] | None:
    """All that the indexes know of what is looked for, in order; None: too many to ask for."""
    by_host = {host: filters.indexes(host) for host in hosts}
    indexes = [index for each in by_host.values() for index in each]
    if not indexes:
        return None
    sizes = dict(zip(indexes, await load.sizes(store, indexes), strict=True))
    smallest = [min(sizes[index] for index in each) for each in by_host.values()]
    if sum(smallest) > _FEW:
        return None
    found: list[Entry] = []
    for host, each in by_host.items():
        found += await load.common(store, keys.incidents_made(host), each)
    return sorted(found, key=lambda entry: (entry[1], entry[0]), reverse=True)


async def _records(
    store: Store, hosts: Sequence[str], entries: Sequence[Entry]
) -> list[tuple[Incident, Triage | None] | None]:
    """Load incidents, and what operators think of those they touched; None for one that is gone."""
    members = [member for member, _ in entries]
    fetched, touched = await asyncio.gather(
        load.fetch(store, names=[keys.incident(member) for member in members]),
        asyncio.gather(*(load.those_in(store, keys.triaged(host), members) for host in hosts)),
    )
    names = [keys.triage(member) for some in touched for member in some]
    triages = (await load.fetch(store, names=names)).records if names else {}
    found: list[tuple[Incident, Triage | None] | None] = []
    for member in members:
        incident, triage = fetched.records[keys.incident(member)], triages.get(keys.triage(member))
        known = triage if isinstance(triage, Triage) else None
        found.append((incident, known) if isinstance(incident, Incident) else None)
    return found
