"""`peers list|show|trust|block|forget|rule|forward`: whose incidents count, and what we know of them."""

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from statistics import median

from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.consumers import actor
from bridge.cli.lookalike import address_cell, remarks
from bridge.cli.output import Exit, Terminal, cell, count
from bridge.cli.stored import hosts_of, known_names, one_host, opened, peers_named, peers_of
from bridge.config import Settings, load_settings
from bridge.errors import MalformedError
from bridge.pipeline.peers import change_peer, decided
from bridge.policy.outreach import uris
from bridge.policy.record import Peer
from bridge.policy.trust import Rule, Trust
from bridge.policy.words import duration
from bridge.webhooks.event import plain
from bridge.xep0268.model import Kind
from bridge.xmpp.jid import prep_domain

_LABEL = 22
_DEFAULT = "default"
_RULES = {
    Rule.REFUSE: "refused",
    Rule.QUARANTINE: "quarantined",
    Rule.ACCEPT: "accepted",
    Rule.NOTIFY: "accepted, and the admins are told",
    None: "what its trust says",
}
_SAID = {
    Trust.TRUSTED: "is trusted by {host}: what it reports from now on counts; what lies in quarantine stays there.",
    Trust.BLOCKED: "is blocked on {host}: what it sends is refused (forbidden); what it sent before stays.",
    Trust.STRANGER: "is a stranger to {host}, without rules: what it reports goes where strangers' reports go.",
}


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(
        commands, common, "peers", "whose incidents count: list, show, trust, block, forget, rule, forward"
    )
    listing = command(inner, common, "list", list_peers, "list the peers that were seen or decided about")
    listing.add_argument("--host", help="only this host's")
    for name, trust, summary in (
        ("trust", Trust.TRUSTED, "trust a peer: what it reports is not quarantined"),
        ("block", Trust.BLOCKED, "block a peer: what it sends is refused"),
        ("forget", Trust.STRANGER, "take a decision back: the peer is a stranger again"),
    ):
        parser = command(inner, common, name, partial(decide, trust=trust), summary)
        _add_domain(parser)
    showing = command(inner, common, "show", show, "show what is known of a peer, and how it answers")
    _add_domain(showing)
    ruling = command(inner, common, "rule", rule, "decide what becomes of one kind of what a peer sends")
    _add_domain(ruling)
    ruling.add_argument("kind", metavar="KIND", choices=[str(kind) for kind in Kind], help=", ".join(Kind))
    rules = [*(str(one) for one in Rule), _DEFAULT]
    ruling.add_argument("rule", metavar="RULE", choices=rules, help=", ".join(rules))
    forwarding = command(
        inner, common, "forward", forward, "pass on to a peer what others report, or stop that"
    )
    _add_domain(forwarding)
    forwarding.add_argument("switch", metavar="on|off", choices=("on", "off"))


def _add_domain(parser: argparse.ArgumentParser) -> None:
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
    titles = ["PEER", "TRUST", "RECEIVED", "REPEATS", "QUARANTINED", "SENT", "LAST SEEN"]
    rows: list[tuple[object, ...]] = [
        (address_cell(peer.domain), peer.trust, peer.received, peer.repeated, peer.quarantined, peer.sent,
         peer.last_seen_at)
        for peer in found
    ]  # fmt: skip
    if len(hosts) > 1:
        titles = ["HOST", *titles]
        rows = [(peer.host, *row) for peer, row in zip(found, rows, strict=True)]
    terminal.table(titles, rows)
    trusted = [peer.domain for peer in found if peer.trust is Trust.TRUSTED]
    others = [peer.domain for peer in found if peer.trust is not Trust.TRUSTED]
    for remark in remarks(others, [*hosts, *trusted]):
        terminal.say(remark)
    strangers = sum(peer.trust is Trust.STRANGER for peer in found)
    if strangers:
        terminal.say(f"\n{count(strangers, 'stranger')}. To decide: incident-bridge peers trust|block DOMAIN")
    return Exit.OK


async def _load(settings: Settings, hosts: list[str]) -> list[Peer]:
    async with opened(settings) as store:
        return [peer for host in hosts for peer in await peers_of(store, host)]


def decide(arguments: argparse.Namespace, terminal: Terminal, *, trust: Trust) -> int:
    """Write the operator's decision about one peer."""

    def change(known: Peer) -> Peer:
        if trust is Trust.STRANGER:  # all that was decided about it is taken back
            return decided(known, trust=trust)
        return replace(known, trust=trust)

    peer = _changed(arguments, change)
    return _say(peer, f"{peer.domain} {_SAID[trust].format(host=peer.host)}", terminal)


def rule(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Write what becomes of one kind of interaction of one peer."""
    kind = Kind(arguments.kind)
    wanted = None if arguments.rule == _DEFAULT else Rule(arguments.rule)

    def change(known: Peer) -> Peer:
        rules = {each: one for each, one in known.rules.items() if each is not kind}
        return replace(known, rules=rules | ({kind: wanted} if wanted else {}))

    peer = _changed(arguments, change)
    text = f"{_plural(kind)} of {peer.domain}: {_RULES[wanted]}."
    if peer.trust is not Trust.TRUSTED and wanted not in {None, Rule.REFUSE}:
        text += f" This counts once it is trusted: incident-bridge peers trust {peer.domain}"
    return _say(peer, text, terminal)


def forward(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Write whether reports of others go on to a peer."""
    is_on = arguments.switch == "on"
    peer = _changed(arguments, lambda known: replace(known, is_forwarded_to=is_on))
    text = f"Reports of others {'go on' if is_on else 'do not go on'} to {peer.domain}."
    if is_on and peer.trust is not Trust.TRUSTED:
        text += f" This begins once it is trusted: incident-bridge peers trust {peer.domain}"
    return _say(peer, text, terminal)


def _say(peer: Peer, text: str, terminal: Terminal) -> int:
    if terminal.is_json:
        terminal.json(plain(peer))
    else:
        terminal.say(text)
    return Exit.OK


def _changed(arguments: argparse.Namespace, change: Callable[[Peer], Peer]) -> Peer:
    """Change what the operator decided about the peer named."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    return asyncio.run(_change(settings, host, _domain(arguments.domain, host), change))


def _domain(text: str, host: str) -> str:
    try:
        domain = prep_domain(text)
    except MalformedError as error:
        raise UsageError(f"DOMAIN is not a server's domain: {error.rule}") from None
    if domain == host:
        raise UsageError(f"{domain} is this host itself")
    return domain


async def _change(settings: Settings, host: str, domain: str, change: Callable[[Peer], Peer]) -> Peer:
    async with opened(settings) as store:
        return await change_peer(store, host, domain, change, actor=actor(), now=datetime.now(UTC))


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print a peer's record."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    domain = _domain(arguments.domain, host)
    peer, known = asyncio.run(_show(settings, host, domain))
    if peer is None:
        if terminal.is_json:
            terminal.json(None)
        terminal.say(f"{domain} was never seen, sent to or decided about; it counts as a stranger.")
        return Exit.NO
    median_seconds = median(peer.answer_seconds) if peer.answer_seconds else None
    if terminal.is_json:
        decided = median(peer.decision_seconds) if peer.decision_seconds else None
        medians = {"median_answer_seconds": median_seconds, "median_decision_seconds": decided}
        terminal.json({**plain(peer), **medians})
        return Exit.OK
    terminal.line(terminal.marked(address_cell(peer.domain), "title"))
    for label, value in _record(peer, median_seconds):
        terminal.line(f"  {label:{_LABEL}} {cell(value)}")
    for remark in remarks([domain], known - {domain}):
        terminal.line(f"  {remark}")
    return Exit.OK


async def _show(settings: Settings, host: str, domain: str) -> tuple[Peer | None, set[str]]:
    async with opened(settings) as store:
        found = await peers_named(store, host, [domain])
        return found.get(domain), await known_names(store, [host])


def _record(peer: Peer, median_seconds: float | None) -> list[tuple[str, object]]:
    rules = ", ".join(f"{_plural(kind)}: {_RULES[one]}" for kind, one in peer.rules.items())
    forwarded = peer.is_forwarded_to and peer.trust is Trust.TRUSTED
    waiting = peer.sent - peer.acknowledged - peer.refused - peer.unreachable - peer.unanswered
    return [
        ("Trust", peer.trust),
        ("Rules", rules or "as its trust says"),
        ("Gets reports of others", forwarded if forwarded == peer.is_forwarded_to else "once it is trusted"),
        ("First seen", peer.first_seen_at),
        ("Last seen", peer.last_seen_at),
        (
            "It sent",
            f"{peer.received}, and {count(peer.repeated, 'repeat')}; {peer.quarantined} in quarantine",
        ),
        ("We sent", peer.sent),
        ("Acknowledged", peer.acknowledged),
        ("Median time", None if median_seconds is None else f"{median_seconds:.1f} s"),
        ("Refused", peer.refused),
        ("Not reachable", f"{peer.unreachable} given up"),
        ("Unanswered", f"{peer.unanswered} given up"),
        ("Still open", max(0, waiting)),
        *_requests(peer),
        ("Announces XEP-0268", "not asked, or no answer" if peer.announces is None else peer.announces),
        ("Contacts", uris(peer.contacts)),
    ]


def _requests(peer: Peer) -> list[tuple[str, object]]:
    """What its operators made of our requests."""
    if not peer.requested:
        return [("Requests to it", "none")]
    answered = peer.acted + peer.declined
    rows: list[tuple[str, object]] = [
        (
            "Requests to it",
            f"{peer.requested}, {answered} answered: {peer.acted} acted on, {peer.declined} declined",
        )
    ]
    if peer.decision_seconds:
        rows.append(("Median time for these", duration(median(peer.decision_seconds))))
    return rows


def _plural(kind: Kind) -> str:
    return "inquiries" if kind is Kind.INQUIRY else f"{kind}s"
