"""How commands look into the store: open it, walk an index, find an incident by the start of its id."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bridge.config import Settings
from bridge.errors import ConfigError, UnavailableError
from bridge.policy.record import Incident, Interaction, Peer, Record
from bridge.store import keys, load
from bridge.store.connect import Store, close, open_store

PATIENCE_SECONDS = 3.0
_PAGE = 200
_MOST_SCANNED = 100_000


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
    return Path(urlsplit(url).path).exists()


def hosts_of(settings: Settings, wanted: str | None) -> list[str]:
    """The hosts a command is about: the one asked for, or all; ConfigError if there is none such."""
    if wanted is None:
        if not settings.hosts:
            raise ConfigError(
                'no host is configured; add a [hosts."…"] table (see: incident-bridge config default)'
            )
        return list(settings.hosts)
    if wanted.casefold() not in settings.hosts:
        known = ", ".join(settings.hosts) or "none"
        raise ConfigError(f'"{wanted}" is not a configured host; configured: {known}')
    return [wanted.casefold()]


def one_host(settings: Settings, wanted: str | None) -> str:
    """The one host a command changes something for; with several, it must be named."""
    hosts = hosts_of(settings, wanted)
    if len(hosts) > 1:
        raise ConfigError(f"say for which host: --host {' or --host '.join(hosts)}")
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


async def interactions_of(store: Store, incident: Incident) -> list[Interaction]:
    """Load the interactions that brought an incident's editions, oldest first."""
    names = [keys.interaction(edition.interaction_id) for edition in incident.editions]
    return [record for record in await records(store, names) if isinstance(record, Interaction)]


async def peers_of(store: Store, host: str) -> list[Peer]:
    """Load the peers that a host knows, last seen first."""
    names = [keys.peer(host, member) async for page in members(store, keys.peers(host)) for member in page]
    return [record for record in await records(store, names) if isinstance(record, Peer)]
