"""`peers list|trust|block|forget`: whose incidents count."""

import argparse
import asyncio
from dataclasses import replace
from functools import partial

from bridge.cli.arguments import Commands, command, group
from bridge.cli.output import Exit, Terminal, count
from bridge.cli.stored import hosts_of, one_host, opened, peers_of, records
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError, ConflictError, MalformedError
from bridge.policy.change import Change, Put
from bridge.policy.record import Peer
from bridge.policy.trust import Trust
from bridge.store import keys
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.webhooks.event import plain
from bridge.xmpp.jid import prep_domain

_TRIES = 10
_SAID = {
    Trust.TRUSTED: "is trusted by {host}: what it reports from now on counts; what lies in quarantine stays there.",
    Trust.BLOCKED: "is blocked on {host}: what it sends is refused (forbidden); what it sent before stays.",
    Trust.STRANGER: "is a stranger to {host}: what it reports goes where strangers' reports go.",
}


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(commands, common, "peers", "whose incidents count: list, trust, block, forget")
    listing = command(inner, common, "list", list_peers, "list the peers that were seen or decided about")
    listing.add_argument("--host", help="only this host's")
    for name, trust, summary in (
        ("trust", Trust.TRUSTED, "trust a peer: what it reports is not quarantined"),
        ("block", Trust.BLOCKED, "block a peer: what it sends is refused"),
        ("forget", Trust.STRANGER, "take a decision back: the peer is a stranger again"),
    ):
        parser = command(inner, common, name, partial(decide, trust=trust), summary)
        parser.add_argument(
            "domain", metavar="DOMAIN", help="the peer's exact domain; subdomains are peers of their own"
        )
        parser.add_argument("--host", help="the host that decides, if several are configured")


def list_peers(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print every peer of the hosts asked for."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    found = asyncio.run(_load(settings, hosts))
    if terminal.is_json:
        terminal.json({"peers": plain(found)})
        return Exit.OK
    if not found:
        terminal.say(
            "No peer was seen yet. To trust one before it reports: incident-bridge peers trust DOMAIN"
        )
        return Exit.OK
    titles = ["PEER", "TRUST", "REPORTS", "REPEATS", "QUARANTINED", "LAST SEEN"]
    rows: list[tuple[object, ...]] = [
        (peer.domain, peer.trust, peer.received, peer.repeated, peer.quarantined, peer.last_seen_at)
        for peer in found
    ]
    if len(hosts) > 1:
        titles = ["HOST", *titles]
        rows = [(peer.host, *row) for peer, row in zip(found, rows, strict=True)]
    terminal.table(titles, rows)
    strangers = sum(peer.trust is Trust.STRANGER for peer in found)
    if strangers:
        terminal.say(f"\n{count(strangers, 'stranger')}. To decide: incident-bridge peers trust|block DOMAIN")
    return Exit.OK


async def _load(settings: Settings, hosts: list[str]) -> list[Peer]:
    async with opened(settings) as store:
        return [peer for host in hosts for peer in await peers_of(store, host)]


def decide(arguments: argparse.Namespace, terminal: Terminal, *, trust: Trust) -> int:
    """Write the operator's decision about one peer."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    try:
        domain = prep_domain(arguments.domain)
    except MalformedError as error:
        raise ConfigError(f"DOMAIN is not a server's domain: {error.rule}") from None
    if domain == host:
        raise ConfigError(f"{domain} is this host itself")
    peer = asyncio.run(_decide(settings, host, domain, trust))
    if terminal.is_json:
        terminal.json(plain(peer))
    else:
        terminal.say(f"{domain} {_SAID[trust].format(host=host)}")
    return Exit.OK


async def _decide(settings: Settings, host: str, domain: str, trust: Trust) -> Peer:
    async with opened(settings) as store:
        for _ in range(_TRIES):
            try:
                return await write_trust(store, host, domain, trust)
            except ConflictError:
                continue  # the peer reported something meanwhile; what it is now is loaded again
    raise ConflictError(f"{domain} keeps reporting while we write; try again")


async def write_trust(store: Store, host: str, domain: str, trust: Trust) -> Peer:
    """Load, decide, commit, once; ConflictError if the peer's record changed meanwhile."""
    known = next(iter(await records(store, [keys.peer(host, domain)])), None)
    before = known if isinstance(known, Peer) else None
    after = replace(before or Peer(host=host, domain=domain), trust=trust)
    if after != before:
        await commit(store, Change(puts=(Put(before, after),)))
    return after
