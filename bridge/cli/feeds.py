"""`feeds add|list|remove|find|proposals|block`: lists of others that a host subscribes to, and what they propose.

House rule: what a list or its server says reaches the terminal only through `cell`.
"""

import argparse
import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from bridge.cli.acting import actor, add_end, decided, end_of, now_utc
from bridge.cli.approvals import finish, wait
from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.list_compare import MOST_PREVIEWED, number, would_touch
from bridge.cli.lookalike import address_cell
from bridge.cli.output import Exit, Terminal, cell, count, moment
from bridge.cli.stored import NotFoundError, hosts_of, one_host, opened
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError, MalformedError
from bridge.pipeline import feeds as stories
from bridge.pipeline.ids import new_id
from bridge.policy.compare import UNDECIDED
from bridge.policy.decisions import Approval
from bridge.policy.feed import LOADING_SECONDS, Claim, Proposal, Proposals, checked_url
from bridge.policy.feed_record import Feed
from bridge.store.connect import Store
from bridge.webhooks.event import plain
from bridge.xmpp.jid import Jid

_POLL_SECONDS = 0.2
_MOST_NAME = 100


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(
        commands, common, "feeds", "lists of others that propose: add, list, remove, find, proposals, block"
    )
    adding = command(
        inner, common, "add", subscribe, "subscribe to a list; nothing follows from it by itself"
    )
    adding.add_argument("url", metavar="LIST", help="https://…, one name a line; or xmpp:SERVICE?;node=NODE")
    adding.add_argument("--publisher", type=_name, metavar="NAME",
                        help="who answers for it, and counts once (default: the domain where it is)")  # fmt: skip
    adding.add_argument(
        "--wait", type=number, default=0, metavar="SECONDS", help="wait so long until it is read"
    )
    listing = command(inner, common, "list", list_feeds, "list them, and how reading them goes")
    removing = command(
        inner, common, "remove", unsubscribe, "end a subscription; what you blocked stays blocked"
    )
    removing.add_argument("feed", metavar="LIST", help="its address, or enough of the beginning of its id")
    finding = command(
        inner, common, "find", find, "say which of them name an address, in the open or as a hash"
    )
    finding.add_argument("address", metavar="ADDRESS", help="a domain or a JID")
    proposing = command(
        inner, common, "proposals", propose, "what enough of them name, and what blocking would touch"
    )
    proposing.add_argument(
        "--quorum",
        type=number,
        metavar="N",
        help="how many publishers must agree (default: policy.feed_quorum)",
    )
    proposing.add_argument("--all", action="store_true", help="also what is decided about already")
    proposing.add_argument("--preview", action="store_true",
                           help=f"ask Prosody what blocking would touch here (the first {MOST_PREVIEWED})")  # fmt: skip
    blocking = command(
        inner, common, "block", block, "say yes: block a server that at least one of them names"
    )
    blocking.add_argument("domain", metavar="DOMAIN", help="the server")
    blocking.add_argument("--reason", default="", metavar="TEXT", help="why, for yourselves")
    add_end(blocking)
    for parser in (adding, listing, removing, finding, proposing, blocking):
        parser.add_argument("--host", help="for this host, if several are configured")


def _name(text: str) -> str:
    name = text.strip().casefold()
    if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise argparse.ArgumentTypeError(f"must be 1 to {_MOST_NAME} printable characters")
    return name


def subscribe(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Subscribe."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    hooks = settings.webhooks
    try:
        url = checked_url(
            arguments.url, own=settings.own_names, allow_http=hooks.allow_http, allowed=hooks.allow_networks
        )
        one = asyncio.run(_subscribe(settings, host, url, arguments))
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if terminal.is_json:
        terminal.json(plain(one))
    else:
        terminal.line(f"{cell(one.id)}  {cell(one.url)}  {cell(_state(one))}")
        terminal.say(
            "Nothing follows from it by itself. To see what it proposes: incident-bridge feeds proposals"
        )
    return Exit.NO if arguments.wait and (one.problem or one.read_at is None) else Exit.OK


async def _subscribe(settings: Settings, host: str, url: str, arguments: argparse.Namespace) -> Feed:
    async with opened(settings) as store:
        started_at = now_utc()
        made = await stories.subscribe(
            store, host, url, actor=actor(), now=started_at, publisher=arguments.publisher or ""
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + arguments.wait
        while True:
            one = await stories.find(store, made.id) or made
            is_read = one.read_at is not None and one.read_at >= started_at
            is_loading = one.due_at <= now_utc() + timedelta(seconds=LOADING_SECONDS)
            is_failed = bool(one.problem) and one.due_at != made.due_at and not is_loading
            if is_read or is_failed or loop.time() >= deadline:
                return one
            await asyncio.sleep(_POLL_SECONDS)


def _state(one: Feed) -> str:
    if one.problem:
        return f"cannot be read: {one.problem}"
    if one.read_at is None:
        return "not read yet"
    more = f", {one.left_out} left out" if one.left_out else ""
    bad = f", {count(one.bad, 'line')} that are none" if one.bad else ""
    return f"{count(one.names, 'name')}{more}{bad}"


def list_feeds(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print them."""
    settings = load_settings(arguments.config)
    found = asyncio.run(_list(settings, hosts_of(settings, arguments.host)))
    if terminal.is_json:
        terminal.json({"feeds": plain(found)})
        return Exit.OK
    if not found:
        terminal.say("No list of others is subscribed to. To add one: incident-bridge feeds add LIST")
        return Exit.OK
    rows = [
        (one.id, one.host, one.url, one.answers, _state(one), moment(one.read_at), moment(one.changed_at))
        for one in found
    ]
    terminal.table(("ID", "HOST", "LIST", "PUBLISHER", "NAMES", "READ", "CHANGED"), rows)
    return Exit.OK


async def _list(settings: Settings, hosts: Iterable[str]) -> list[Feed]:
    async with opened(settings) as store:
        return [one for host in hosts for one in await stories.listed(store, host)]


def unsubscribe(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """End one."""
    settings = load_settings(arguments.config)
    one = asyncio.run(_unsubscribe(settings, hosts_of(settings, arguments.host), arguments.feed.strip()))
    if terminal.is_json:
        terminal.json(plain(one))
    else:
        terminal.line(f"{cell(one.host)} no longer subscribes to {cell(one.url)}.")
    return Exit.OK


async def _unsubscribe(settings: Settings, hosts: Sequence[str], wanted: str) -> Feed:
    async with opened(settings) as store:
        known = [one for host in hosts for one in await stories.listed(store, host)]
        found = [one for one in known if one.url == wanted] or [
            one for one in known if wanted and one.id.startswith(wanted.casefold())
        ]
        if len(found) != 1:
            many = "several lists are" if found else "no list that is subscribed to is"
            raise NotFoundError(f"{many} called {wanted or 'so'}; see: incident-bridge feeds list")
        await stories.unsubscribe(store, found[0], actor=actor(), now=now_utc())
        return found[0]


def find(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print which lists name an address; exit 1 if none does."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    try:
        address = Jid.parse(arguments.address).bare
    except MalformedError as error:
        raise UsageError(f"{arguments.address} is not an address: {error.rule}") from None
    found = asyncio.run(_named(settings, host, address))
    if terminal.is_json:
        terminal.json({"address": address, "named_by": plain(found)})
    for one in () if terminal.is_json else found:
        terminal.line(f"{cell(one.url)}  since {moment(one.since)} or before")
    if not found:
        terminal.say(f"None of the lists that {host} subscribes to names it.")
    return Exit.OK if found else Exit.NO


async def _named(settings: Settings, host: str, address: str) -> tuple[Claim, ...]:
    async with opened(settings) as store:
        return (await stories.named(store, host, [address])).get(address, ())


def propose(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print what is proposed; exit 1 if that is nothing."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    what, feeds = asyncio.run(_propose(settings, host, arguments.quorum))
    shown = [one for one in what.found if arguments.all or one.standing in UNDECIDED]
    undecided = [one.domain for one in shown if one.standing in UNDECIDED]
    touched = asyncio.run(would_touch(settings, host, undecided)) if arguments.preview and undecided else {}
    if terminal.is_json:
        terminal.json(_plain(host, what, shown, touched))
    else:
        _print(what, shown, touched, len(feeds), terminal)
    return Exit.OK if shown else Exit.NO


async def _propose(settings: Settings, host: str, quorum: int | None) -> tuple[Proposals, list[Feed]]:
    async with opened(settings) as store:
        return await _proposals(store, settings, host, quorum), await stories.listed(store, host)


async def _proposals(store: Store, settings: Settings, host: str, quorum: int | None) -> Proposals:
    return await stories.proposals(
        store, host, own=settings.hosts, rules=settings.policy, now=now_utc(), quorum=quorum
    )


def _plain(
    host: str, what: Proposals, shown: Iterable[Proposal], touched: Mapping[str, Sequence[str]]
) -> dict[str, object]:
    return {
        "host": host,
        "quorum": what.quorum,
        "proposals": [{**plain(one), "would_touch": touched.get(one.domain)} for one in shown],
        "fewer": what.fewer,
        "left_out": what.left_out,
        "let_go": plain(what.let_go),
    }


def _print(
    what: Proposals,
    shown: Sequence[Proposal],
    touched: Mapping[str, Sequence[str]],
    feeds: int,
    terminal: Terminal,
) -> None:
    if shown:
        rows = [
            (address_cell(one.domain), f"{len(one.by)} of {feeds}", one.voices, " ".join(each.url for each in one.by),
             _first(one.by), one.reports or "", one.standing, "; ".join(touched.get(one.domain, ())))
            for one in shown
        ]  # fmt: skip
        titles = ("DOMAIN", "NAMED BY", "PUBLISHERS", "LISTS", "SINCE", "YOUR USERS", "HERE", "WOULD TOUCH")
        terminal.table(titles, rows)
        terminal.say("\nNothing was done. To block one: incident-bridge feeds block DOMAIN")
        terminal.say("To be shown one no more: incident-bridge lists withhold DOMAIN")
    elif feeds:
        terminal.say(f"Nothing that lists of {count(what.quorum, 'publisher')} or more name is undecided.")
    else:
        terminal.say("No list of others is subscribed to. To add one: incident-bridge feeds add LIST")
    if what.left_out:
        terminal.say(f"And {what.left_out} more.")
    if what.fewer:
        terminal.say(
            f"{count(what.fewer, 'domain')} more by fewer publishers: incident-bridge feeds proposals --quorum 1"
        )
    for one in what.let_go:
        terminal.say(
            f"{address_cell(one.domain)} is blocked because lists named it, and only {len(one.by)} still do. "
            f"To take that back: incident-bridge mitigations lift {one.mitigation_id[:8]}"
        )


def _first(by: Sequence[Claim]) -> datetime:
    return min(one.since for one in by)


def block(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Block one."""
    settings = load_settings(arguments.config)
    one = asyncio.run(_block(settings, one_host(settings, arguments.host), arguments))
    return finish(one, arguments, terminal)


async def _block(settings: Settings, host: str, arguments: argparse.Namespace) -> Approval:
    async with opened(settings) as store:
        now = now_utc()
        after = await decided(
            stories.block(
                store,
                host,
                arguments.domain,
                own=settings.hosts,
                approval_id=new_id(),
                actor=actor(),
                rules=settings.policy,
                now=now,
                expires_at=end_of(arguments, now),
                second_yes=arguments.yes_protected,
                reason=arguments.reason,
            )
        )
        return await wait(store, after, seconds=arguments.wait)
