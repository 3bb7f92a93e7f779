"""What this host publishes for other software to load: domains and accounts.

House rules: what is published follows from what is in force, and is worked out anew each time, so that what ends or is
taken back is off the list by itself; what is withheld is never on it, whatever else says so; nor is what is blocked
only because lists of others name it, or because of what users agreed to tell one server alone; only addresses leave,
never who reported them, who decided, or why.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bridge.errors import ConfigError, MalformedError
from bridge.policy.decisions import Mitigation, MitigationState, MitigationType
from bridge.policy.listing import Listing
from bridge.xmpp.jid import Jid, shown

MAX_ENTRIES: Final = 1000

DOMAINS_NODE: Final = "spam_source_domains"
ACCOUNTS_NODE: Final = "spam_source_jids_sha256"
ROOMS_NODE: Final = "muc_bans_sha256"
"""The nodes that mod_anti_spam, mod_muc_rtbl and their likes in other servers subscribe to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One address that is published, or that is withheld and would be published otherwise.

    Attributes:
        address: a domain or a bare JID, prepared.
        until: when it is off the list by itself; None: never.
        by: who decided that, as in `change.Audit`.
        mitigation_id: the mitigation that it follows from; "": somebody listed it.
        is_reported: as in `Listing`.
    """

    address: str
    since: datetime
    until: datetime | None
    by: str
    mitigation_id: str = ""
    incident_id: str = ""
    is_reported: bool = False

    @property
    def is_domain(self) -> bool:
        """Whether a whole server is listed."""
        return "@" not in self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A host's list as of now: what is on it, newest first, what is kept off it, and what found no place.

    Attributes:
        covering: the withheld domains that keep accounts off which would be listed otherwise.
    """

    entries: tuple[Entry, ...] = ()
    withheld: tuple[Listing, ...] = ()
    left_out: int = 0
    covering: frozenset[str] = frozenset()

    @property
    def said(self) -> dict[str, str]:
        """What is said of each address: `blocked`, `listed`, `withheld`."""
        said = {one.address: "withheld" for one in self.withheld}
        return said | {one.address: "blocked" if one.mitigation_id else "listed" for one in self.entries}


class NotAgreedError(ConfigError):
    """It would be listed because of what users did not agree that others be told."""


class ListFullError(ConfigError):
    """So many addresses are listed by hand or withheld that there is no place for more."""


def is_own(domain: str, *, host: str) -> bool:
    """Whether a domain is the host itself, or one below it."""
    return domain == host or domain.endswith(f".{host}")


def prepared(address: str, *, host: str) -> str:
    """Read what an operator wants listed or withheld: a domain or an account of another server.

    Raises:
        ConfigError: it is no such thing, and why.
    """
    try:
        jid = Jid.parse(address)
    except MalformedError as error:
        raise ConfigError(f"'{shown(address)}' is neither a domain nor an account: {error.rule}") from None
    if is_own(jid.domain, host=host):
        raise ConfigError(f"{jid.bare} is on {host} itself; only others are listed")
    return jid.bare


def published(mitigations: Iterable[Mitigation], listings: Iterable[Listing], *, now: datetime) -> Published:
    """Work out what is published.

    Args:
        mitigations: those of the host that are in force, or about to begin or end.
        listings: what its operators listed and withheld.
        now: the time.
    """
    decided = list(listings)
    withheld = tuple(sorted((one for one in decided if not one.is_published), key=lambda one: one.address))
    never = {one.address for one in withheld}
    found: dict[str, Entry] = {}
    covering: set[str] = set()
    for entry in (*_of_mitigations(mitigations), *_of_listings(decided)):
        if entry.until is not None and entry.until <= now:
            continue
        if entry.address in never or _domain(entry.address) in never:
            covering |= {_domain(entry.address)} & never - {entry.address}
            continue
        known = found.get(entry.address)
        if known is None or _end(known) < _end(entry):
            found[entry.address] = entry
    newest = sorted(found.values(), key=lambda one: (one.since, one.address), reverse=True)
    return Published(
        entries=tuple(newest[:MAX_ENTRIES]),
        withheld=withheld,
        left_out=max(0, len(newest) - MAX_ENTRIES),
        covering=frozenset(covering),
    )


def still_to_list(
    addresses: Iterable[str], listings: Iterable[Listing], *, until: datetime
) -> tuple[str, ...]:
    """Leave out what is withheld, itself or with its domain, and what is listed as long already.

    Args:
        addresses: what is to be listed, prepared.
        listings: what was said about these and about their domains.
        until: when they would be off the list.
    """
    said = {one.address: one for one in listings}

    def is_open(address: str) -> bool:
        known, domain = said.get(address), said.get(_domain(address))
        if domain is not None and not domain.is_published:
            return False
        if known is None:
            return True
        return known.is_published and known.expires_at is not None and known.expires_at < until

    return tuple(one for one in dict.fromkeys(addresses) if is_open(one))


def _of_mitigations(mitigations: Iterable[Mitigation]) -> list[Entry]:
    found = []
    for one in mitigations:
        address = _listed(one)
        if one.state is MitigationState.APPLIED and address is not None:
            found.append(
                Entry(
                    address=address,
                    since=one.applied_at or one.created_at,
                    until=one.expires_at,
                    by=one.by,
                    mitigation_id=one.id,
                    incident_id=one.incident_id,
                )
            )
    return found


def _listed(one: Mitigation) -> str | None:
    """The address that a mitigation puts on the list; None: it is about an account of ours, hearsay, or unlisted."""
    # Also without an incident: an older release drops the first two when it writes such a record.
    if one.feeds or one.is_unlisted or not one.incident_id:
        return None
    match one.type:
        case MitigationType.SUSPEND:
            return None
        case MitigationType.BLOCK:
            return one.target["domain"]
        case MitigationType.BAN:
            return one.target["jid"] if _domain(one.target["jid"]) != one.host else None


def _of_listings(listings: Iterable[Listing]) -> list[Entry]:
    return [
        Entry(
            address=one.address,
            since=one.at,
            until=one.expires_at,
            by=one.by,
            incident_id=one.incident_id,
            is_reported=one.is_reported,
        )
        for one in listings
        if one.is_published
    ]


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def _end(entry: Entry) -> float:
    return float("inf") if entry.until is None else entry.until.timestamp()


def plain_text(entries: Iterable[Entry]) -> str:
    """Write the domains as other software reads them: one a line, sorted, nothing else."""
    return "".join(f"{one}\n" for one in sorted(entry.address for entry in entries if entry.is_domain))


def nodes(entries: Iterable[Entry]) -> Mapping[str, tuple[str, ...]]:
    """The ids of the items that each pubsub node has, newest first; hashes are hexadecimal SHA-256."""
    found: dict[str, list[str]] = {DOMAINS_NODE: [], ACCOUNTS_NODE: [], ROOMS_NODE: []}
    for entry in entries:
        hashed = hashlib.sha256(entry.address.encode()).hexdigest()
        found[ROOMS_NODE].append(hashed)
        if entry.is_domain:
            found[DOMAINS_NODE].append(entry.address)
        else:
            found[ACCOUNTS_NODE].append(hashed)
    return {node: tuple(ids) for node, ids in found.items()}
