"""Publishing a host's lists: what operators list, withhold and take back, and bringing its pubsub nodes up to date.

House rules: what is published is worked out from what is stored each time it is asked for; nothing is published for a
host that did not opt in (`hosts."…".publish_lists`), and what was is taken back once it opts out.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from bridge import log
from bridge.errors import ConfigError, ConflictError, UnsupportedError
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.preview import Answer
from bridge.policy import lanes
from bridge.policy.approval import protect
from bridge.policy.change import Change, Forget, Put, Remember, Sent
from bridge.policy.decisions import Mitigation, MitigationType, Target
from bridge.policy.listing import Listing
from bridge.policy.mitigation import ProtectedError
from bridge.policy.publish import ListFullError, NotAgreedError, Published, nodes, prepared, published
from bridge.policy.record import Incident, Peer
from bridge.policy.trust import Trust
from bridge.store import keys, load
from bridge.store.commit import StaleError, commit
from bridge.store.connect import Store
from bridge.xmpp.jid import Jid

_log = log.get(__name__)

EVERY_SECONDS: Final = 300
"""How often the nodes are compared even if nothing changed here: Prosody's storage may have been restored."""
MAX_LISTINGS: Final = 2000
"""How many addresses of a host may be listed by hand or withheld: all of them are looked at each time."""
_NAME: Final = "lists"
_REMEMBER_SECONDS: Final = 400 * 86_400
_ATTEMPTS: Final = 10
_MOST_AT_ONCE: Final = 100  # who list at the same time may go a little beyond the bound
_MOST_ROUNDS: Final = 1000


class Host(Protocol):
    """What is configured for one host that matters here."""

    @property
    def publish_lists(self) -> bool: ...  # noqa: D102


class Rules(Protocol):
    """What the operator configured that matters here; see `[policy]`."""

    @property
    def mitigation_days(self) -> int: ...  # noqa: D102
    @property
    def protected(self) -> Collection[str]: ...  # noqa: D102


class Server(Protocol):
    """What is asked of the host's Prosody; see `clients.prosody.ProsodyClient`."""

    async def publish(self, host: str, nodes: Mapping[str, Sequence[str]]) -> Answer: ...  # noqa: D102


async def published_by(store: Store, host: str, *, now: datetime) -> Published:
    """Work out what a host's lists hold, if they are published."""
    active, decided = keys.mitigations_active(host), keys.listings(host)
    members = await load.newest(store, [active, decided], limit=MAX_LISTINGS + _MOST_AT_ONCE)
    names = [keys.mitigation(one) for one in members[active]]
    names += [keys.listing(host, one) for one in members[decided]]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    return published(
        [one for one in records if isinstance(one, Mitigation)],
        [one for one in records if isinstance(one, Listing)],
        now=now,
    )


async def forget_listings(store: Store, host: str, *, now: datetime) -> int:
    """Delete what was listed by hand and is over; returns how many."""
    index = keys.listings(host)
    members = (await load.newest(store, [index], limit=MAX_LISTINGS + _MOST_AT_ONCE))[index]
    names = [keys.listing(host, one) for one in members]
    records = (await load.fetch(store, names=names)).records.values() if names else ()
    over = [one for one in records if isinstance(one, Listing) and one.expires_at and one.expires_at <= now]
    if over:
        await commit(store, Change(drops=tuple(over)))
    return len(over)


async def list_address(
    store: Store,
    host: str,
    address: str,
    *,
    actor: Actor,
    rules: Rules,
    now: datetime,
    expires_at: datetime | None = None,
    reason: str = "",
    incident_id: str = "",
    second_yes: bool = False,
) -> Listing:
    """List a domain or an account of another server.

    Args:
        store: where it is written.
        host: whose list.
        address: as somebody typed it.
        actor: who does it.
        rules: the operator's.
        now: the time.
        expires_at: when it is off the list; None: after `rules.mitigation_days`.
        reason: for people; never published.
        incident_id: what it is about.
        second_yes: protected names are meant too.

    Raises:
        ConfigError: it cannot be listed, and why; ProtectedError: without a second yes; NotAgreedError: not because of
            that incident.
    """
    bare = prepared(address, host=host)
    await _see_agreed(store, bare, incident_id)
    if not second_yes:
        await see_unprotected(store, host, [bare], rules)
    wanted = Listing(
        host=host,
        address=bare,
        is_published=True,
        by=actor.name,
        at=now,
        reason=reason,
        expires_at=end_of(expires_at, rules, now=now),
        incident_id=incident_id,
    )
    return await _write(store, wanted, actor, "list.add", now)


async def _see_agreed(store: Store, address: str, incident_id: str) -> None:
    """See that nothing is listed because of what users agreed to tell one server, and nobody else."""
    if not incident_id:
        return
    name = keys.incident(incident_id)
    known = (await load.fetch(store, names=[name])).records[name]
    if isinstance(known, Incident) and known.only_to:
        raise NotAgreedError(
            f"{address} is not listed because of incident {known.id}: the users whose reports it is made of agreed "
            f"that {', '.join(known.only_to)} be told, and nobody else; if you know it from elsewhere, list it "
            "without naming that incident"
        )


def end_of(expires_at: datetime | None, rules: Rules, *, now: datetime) -> datetime:
    """When what is listed now is off the list.

    Raises:
        ConfigError: before it begins.
    """
    end = expires_at or now + timedelta(days=rules.mitigation_days)
    if end <= now:
        raise ConfigError("it would be over before it begins; choose a later end")
    return end


async def withhold(
    store: Store, host: str, address: str, *, actor: Actor, now: datetime, reason: str = ""
) -> Listing:
    """Keep a domain with all its accounts, or an account, off the host's list, whatever else says so.

    Raises:
        ConfigError: it is neither a domain nor an account of another server.
    """
    bare = prepared(address, host=host)
    wanted = Listing(host=host, address=bare, is_published=False, by=actor.name, at=now, reason=reason)
    return await _write(store, wanted, actor, "list.withhold", now)


async def take_back(store: Store, host: str, address: str, *, actor: Actor, now: datetime) -> Listing:
    """Take back what somebody said about an address; a mitigation of it goes on, and what follows from that.

    Raises:
        ConfigError: nobody said anything about it.
    """
    bare = prepared(address, host=host)
    for _ in range(_ATTEMPTS):
        known = await _known(store, host, bare)
        if known is None:
            raise ConfigError(f"{bare} is neither listed by hand nor withheld on {host}")
        done = audits((host,), actor, "list.remove", bare, now=now)
        if await _is_first(store, Change(drops=(known,), audits=done)):
            return known
    raise ConflictError("it changes faster than it can be decided; try again")


async def _write(store: Store, wanted: Listing, actor: Actor, action: str, now: datetime) -> Listing:
    done = audits((wanted.host,), actor, action, wanted.address, now=now, detail=wanted.reason)
    for _ in range(_ATTEMPTS):
        known = await _known(store, wanted.host, wanted.address)
        if known is None:
            await see_room(store, wanted.host, more=1)
        if await _is_first(store, Change(puts=(Put(known, wanted),), audits=done)):
            return wanted
    raise ConflictError("it changes faster than it can be decided; try again")


async def see_room(store: Store, host: str, *, more: int) -> None:
    """See that so many more addresses may be listed by hand or withheld.

    Raises:
        ListFullError: they may not.
    """
    known = await load.count(store, keys.listings(host))
    if known + more > MAX_LISTINGS:
        raise ListFullError(
            f"{known} addresses are listed by hand or withheld on {host}, and {MAX_LISTINGS} may be; remove some first"
        )


async def _known(store: Store, host: str, address: str) -> Listing | None:
    name = keys.listing(host, address)
    found = (await load.fetch(store, names=[name])).records[name]
    return found if isinstance(found, Listing) else None


async def _is_first(store: Store, change: Change) -> bool:
    try:
        await commit(store, change)
    except StaleError:
        return False
    return True


async def see_unprotected(store: Store, host: str, addresses: Sequence[str], rules: Rules) -> None:
    """See that one yes is enough to list these.

    Raises:
        ProtectedError: names those that need a second one, and why.
    """
    jids = {one: Jid.parse(one) for one in addresses}
    peers = {keys.peer(host, jid.domain) for jid in jids.values()}
    known = (await load.fetch(store, names=list(peers))).records.values() if peers else ()
    trusted = {one.domain for one in known if isinstance(one, Peer) and one.trust is Trust.TRUSTED}
    targets = protect(
        [_target(address, jid) for address, jid in jids.items()], protected=rules.protected, trusted=trusted
    )
    why = ", ".join(f"{one.address} ({one.second_yes})" for one in targets if one.second_yes)
    if why:
        raise ProtectedError(f"protected, and needs a second yes: {why}")


def _target(address: str, jid: Jid) -> Target:
    kind, field = (MitigationType.BLOCK, "domain") if jid.local is None else (MitigationType.BAN, "jid")
    return Target(action="", address=address, type=kind, fields={field: address})


async def begin(store: Store, hosts: Mapping[str, Host], *, now: datetime) -> None:
    """Queue bringing the nodes up to date for each host whose list changed, or is to be compared again."""
    for name, host in hosts.items():
        known = (await load.fetch(store, remembered=[(name, _NAME)])).remembered[(name, _NAME)]
        if not host.publish_lists:
            if known is not None:
                await commit(
                    store,
                    Change(forgets=(Forget(host=name, name=_NAME),), appends=(lanes.publish(name, now),)),
                )
            continue
        wanted = _digest(await published_by(store, name, now=now), now)
        if wanted != known:
            note = Remember(host=name, name=_NAME, value=wanted, ttl_seconds=_REMEMBER_SECONDS, is_new=False)
            await commit(store, Change(remembers=(note,), appends=(lanes.publish(name, now),)))


def _digest(what: Published, now: datetime) -> str:
    """Tell whether a list is another one than before, or a while has passed."""
    addresses = json.dumps(sorted(one.address for one in what.entries))
    return f"{hashlib.sha256(addresses.encode()).hexdigest()[:32]}-{now.timestamp() // EVERY_SECONDS:.0f}"


async def work(
    store: Store, server: Server, items: Sequence[bytes], *, hosts: Mapping[str, Host], now: datetime
) -> Sent:
    """Bring the nodes of a host up to date; items that say the same are done with it."""
    item: dict[str, Any] = json.loads(items[0])
    name: str = item["publish"]
    host = hosts.get(name)
    what = await published_by(store, name, now=now) if host and host.publish_lists else Published()
    if what.left_out:
        _log.warning("the list is full; the oldest are left out", host=name, left_out=what.left_out)
    try:
        why, left_out = await _brought_up_to_date(server, name, nodes(what.entries))
    except UnsupportedError as error:
        why, left_out = str(error), 0
    if why:  # it is tried again in a few minutes
        _log.warning("the lists are not on pubsub nodes", host=name, reason=why)
    if left_out:
        _log.warning(
            "Prosody keeps fewer items: raise pubsub_max_items for the host", host=name, left_out=left_out
        )
    return Sent(len(items), Change())


async def _brought_up_to_date(
    server: Server, host: str, wanted: Mapping[str, Sequence[str]]
) -> tuple[str, int]:
    """Why Prosody does not publish them, "" where it does; and how many items found no place there."""
    for _ in range(_MOST_ROUNDS):
        answer = await server.publish(host, wanted)
        if not answer.ok:
            return answer.error, 0
        if not answer.detail.get("more"):
            return "", int(answer.detail.get("left_out") or 0)
    return "Prosody changes them without end", 0
