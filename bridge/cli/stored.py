"""How commands look into the store: open it, walk an index, find an incident by the start of its id."""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bridge.cli.arguments import NO_FILE, UsageError
from bridge.cli.output import count
from bridge.config import Settings
from bridge.config_file import may_not_read
from bridge.errors import BridgeError, ConfigError, UnavailableError
from bridge.policy.record import Incident, Interaction, Peer, Record, Way
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.connect import Store, close, open_store
from bridge.xep0268.model import Kind

PATIENCE_SECONDS = 3.0
_PAGE = 200
_MOST_SCANNED = 100_000
_MOST_SEARCHED = 5_000
_MOST_INTERACTIONS = 500


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    """Open the store for one command; says how to start the embedded one if it does not run."""
    url = settings.store_url()
    is_off = f"the embedded store in {settings.store.data_dir} does not run; it runs with: incident-bridge up"
    if settings.is_embedded and not _is_there(url):  # no need to be patient
        raise UnavailableError(is_off)
    try:
        store = await open_store(url, patience_seconds=PATIENCE_SECONDS)
    except UnavailableError as error:
        if not settings.is_embedded:
            raise
        raise UnavailableError(is_off) from error
    try:
        yield store
    finally:
        await close(store)


def _is_there(url: str) -> bool:
    socket = Path(urlsplit(url).path)
    try:
        socket.stat()
    except PermissionError:
        raise UsageError(may_not_read(socket)) from None
    except OSError:
        return False
    if not os.access(socket, os.R_OK | os.W_OK):
        raise UsageError(may_not_read(socket))
    return True


def hosts_of(settings: Settings, wanted: str | None) -> list[str]:
    """The hosts a command is about: the one asked for, or all; ConfigError if there is none such."""
    if wanted is None:
        if not settings.hosts:
            raise ConfigError(
                NO_FILE
                if settings.path is None
                else 'no host is configured; add a [hosts."…"] table (see: incident-bridge config default)'
            )
        return list(settings.hosts)
    if wanted.casefold() not in settings.hosts:
        if settings.path is None and not settings.hosts:
            raise ConfigError(NO_FILE)
        known = ", ".join(settings.hosts) or "none"
        raise ConfigError(f'"{wanted}" is not a configured host; configured: {known}')
    return [wanted.casefold()]


def one_host(settings: Settings, wanted: str | None, *, option: str = "--host") -> str:
    """The one host a command changes something for; with several, it must be named."""
    hosts = hosts_of(settings, wanted)
    if len(hosts) > 1:
        raise UsageError(f"say for which host: {option} {f' or {option} '.join(hosts)}")
    return hosts[0]


async def members(store: Store, index: str) -> AsyncIterator[list[str]]:
    """Walk an index, newest first, a page of members at a time."""
    before: tuple[int, str] | None = None
    for _ in range(_MOST_SCANNED // _PAGE):
        entries = await load.page(store, index, limit=_PAGE, before=before)
        if not entries:
            return
        yield [member for member, _ in entries]
        last_member, last_score = entries[-1]
        before = (last_score, last_member)


async def records(store: Store, names: list[keys.RecordName]) -> list[Record]:
    """Load records in the order of their names; what is gone is left out."""
    if not names:
        return []
    found = (await load.fetch(store, names=names)).records
    return [record for name in names if (record := found[name]) is not None]


async def newest_incidents(
    store: Store, index: str, *, limit: int, matches: Callable[[Incident], bool]
) -> tuple[list[Incident], bool]:
    """Return the newest incidents of an index that match, and whether there are more."""
    found: list[Incident] = []
    async for page in members(store, index):
        for record in await records(store, [keys.incident(member) for member in page]):
            if isinstance(record, Incident) and matches(record):
                if len(found) == limit:
                    return found, True
                found.append(record)
    return found, False


async def incident_like(store: Store, hosts: list[str], start: str) -> list[Incident]:
    """Return the incidents whose id begins so; a whole id is found without a search."""
    exact = await records(store, [keys.incident(start)])
    if exact:
        return [record for record in exact if isinstance(record, Incident) and record.host in hosts]
    names = [
        keys.incident(member)
        for host in hosts
        async for page in members(store, keys.incidents(host))
        for member in page
        if member.startswith(start)
    ]
    return [record for record in await records(store, names[:10]) if isinstance(record, Incident)]


async def one_incident(store: Store, hosts: list[str], start: str) -> Incident:
    """Return the one incident whose id begins so.

    Raises:
        NotFoundError: there is none, or several.
    """
    start = start.strip().casefold()
    if not start:
        raise UsageError("ID is empty; see: incident-bridge incidents list")
    found = await incident_like(store, hosts, start)
    if not found:
        raise NotFoundError(
            f"no incident's id begins with {start}; to see them: incident-bridge incidents list"
        )
    if len(found) > 1:
        ids = "\n".join(f"  {one.id}  {one.reporter}  {one.summary}" for one in found)
        raise NotFoundError(
            f"{count(len(found), 'incident')} or more begin with {start}; type more of the id:\n{ids}"
        )
    return found[0]


class NotFoundError(BridgeError):
    """Nothing, or too much, is called so."""


async def with_original(store: Store, interaction_id: str) -> Interaction:
    """Load an interaction with its bytes.

    Raises:
        NotFoundError: it is gone.
    """
    name = keys.interaction(interaction_id)
    found = (await load.fetch(store, names=[name], originals=True)).records[name]
    if not isinstance(found, Interaction) or found.original is None:
        raise NotFoundError(f"the document of interaction {interaction_id} is no longer in the store")
    return found


async def requests_like(store: Store, hosts: list[str], start: str) -> list[Interaction]:
    """Return peers' requests whose own id, or whose incident's id, begins so, newest first."""
    start = start.strip().casefold()
    if not start:
        raise UsageError("REQUEST is empty; see: incident-bridge incidents list")
    found = await records(store, [keys.interaction(start)])
    if not found:
        incidents = await incident_like(store, hosts, start)
        indexes = [keys.interactions(one.id) for one in incidents] or await _interaction_indexes(store, hosts)
        members = await load.newest(store, indexes, limit=_MOST_INTERACTIONS) if indexes else {}
        ids = [member for index in members.values() for member in index]
        ids = ids if incidents else [one for one in ids if one.startswith(start)]
        found = await records(store, [keys.interaction(one) for one in ids])
    asked = [
        one
        for one in found
        if isinstance(one, Interaction)
        and one.kind is Kind.REQUEST
        and one.way is Way.RECEIVED
        and one.host in hosts
    ]
    return sorted(asked, key=lambda one: one.received_at, reverse=True)


async def _interaction_indexes(store: Store, hosts: list[str]) -> list[str]:
    """The indexes of the interactions of each host's newest incidents."""
    wanted = [keys.incidents(host) for host in hosts]
    newest = await load.newest(store, wanted, limit=_MOST_SEARCHED)
    return [keys.interactions(incident) for index in wanted for incident in newest[index]]


async def peers_named(store: Store, host: str, domains: Iterable[str]) -> dict[str, Peer]:
    """Load what a host knows of these peers; one that it does not know is left out."""
    names = [keys.peer(host, domain) for domain in dict.fromkeys(domains)]
    return {one.domain: one for one in await records(store, names) if isinstance(one, Peer)}


async def known_names(store: Store, hosts: Iterable[str]) -> set[str]:
    """The names that others may imitate: our hosts, and the peers that they trust."""
    found = set(hosts)
    for host in list(found):
        found.update(peer.domain for peer in await peers_of(store, host) if peer.trust is Trust.TRUSTED)
    return found


async def peers_of(store: Store, host: str) -> list[Peer]:
    """Load the peers that a host knows, last seen first."""
    names = [keys.peer(host, member) async for page in members(store, keys.peers(host)) for member in page]
    return [record for record in await records(store, names) if isinstance(record, Peer)]
