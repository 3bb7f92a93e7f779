"""`lists show|add|withhold|remove|compare`: what this host publishes for other software to load."""

import argparse
import asyncio
from collections.abc import Coroutine
from typing import Any

from bridge.cli import list_compare
from bridge.cli.acting import actor, days, end_of, now_utc
from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.lookalike import address_cell
from bridge.cli.output import Exit, Terminal, cell, count, moment
from bridge.cli.stored import hosts_of, one_host, one_incident, opened
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError
from bridge.pipeline import publish as stories
from bridge.policy.listing import Listing
from bridge.policy.mitigation import ProtectedError
from bridge.policy.publish import Entry, Published
from bridge.webhooks.event import plain


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(
        commands, common, "lists", "what others may load from here: show, add, withhold, remove, compare"
    )
    showing = command(inner, common, "show", show, "show what is published, or would be")
    showing.add_argument("--host", help="only this host's")
    adding = command(inner, common, "add", add_address, "list a domain or an account of another server")
    _add_address(adding)
    adding.add_argument("--incident", default="", metavar="ID", help="the incident that it is about")
    adding.add_argument("--days", type=days, metavar="N",
                        help="take it off after so many days (default: policy.mitigation_days)")  # fmt: skip
    adding.add_argument(
        "--yes-protected", action="store_true", help="the second yes that protected names need"
    )
    adding.add_argument(
        "--reason", default="", metavar="TEXT", help="why, for yourselves; it is not published"
    )
    keeping = command(
        inner, common, "withhold", withhold, "keep an address off the list, whatever else says so"
    )
    _add_address(keeping)
    keeping.add_argument(
        "--reason", default="", metavar="TEXT", help="why, for yourselves; it is not published"
    )
    removing = command(
        inner, common, "remove", remove, "take back what `add` or `withhold` said of an address"
    )
    _add_address(removing)
    list_compare.add(inner, common)


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="a domain or a JID of another server")
    parser.add_argument("--host", help="on whose list, if several hosts are configured")


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print what is published."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    found = asyncio.run(_load(settings, hosts))
    if terminal.is_json:
        terminal.json({"lists": [_plain(settings, host, one) for host, one in found.items()]})
        return Exit.OK
    for host, one in found.items():
        _print(settings, host, one, terminal)
    return Exit.OK


async def _load(settings: Settings, hosts: list[str]) -> dict[str, Published]:
    async with opened(settings) as store:
        return {host: await stories.published_by(store, host, now=now_utc()) for host in hosts}


def _plain(settings: Settings, host: str, one: Published) -> dict[str, object]:
    return {
        "host": host,
        "is_published": settings.hosts[host].publish_lists,
        "entries": plain(one.entries),
        "withheld": plain(one.withheld),
        "left_out": one.left_out,
    }


def _print(settings: Settings, host: str, one: Published, terminal: Terminal) -> None:
    if one.entries:
        rows = [
            (address_cell(entry.address), _why(entry), entry.by, entry.since, entry.until)
            for entry in one.entries
        ]
        terminal.table(("ADDRESS", "WHY", "BY", "SINCE", "UNTIL"), rows)
    else:
        terminal.say(f"{host} has nothing to list.")
    if one.left_out:
        terminal.say(f"The list is full: {count(one.left_out, 'older entry', 'older entries')} left out.")
    for each in one.withheld:
        who = f"{cell(each.address)}{', with its users' if each.address in one.covering else ''}"
        terminal.say(f"Withheld: {who}, by {cell(each.by)} {moment(each.at)}  {cell(each.reason)}")
    if not settings.hosts[host].publish_lists:
        terminal.say(f'Not published: set publish_lists = true in [hosts."{host}"] and restart the bridge.')
    else:
        base = settings.server.public_url or f"http://{settings.server.listen}"
        terminal.say(f"Published: {base}/lists/{host}/domains.txt")


def _why(entry: Entry) -> str:
    if entry.mitigation_id:
        return f"{'blocked' if entry.is_domain else 'banned'}, mitigation {entry.mitigation_id[:8]}"
    why = "reported by users" if entry.is_reported else "listed by hand"
    return f"{why}, incident {entry.incident_id[:8]}" if entry.incident_id else why


def add_address(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """List an address."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    try:
        one = asyncio.run(_add(settings, host, arguments))
    except ProtectedError as error:
        raise UsageError(f"{error}; if you mean it: --yes-protected") from None
    except ConfigError as error:
        raise UsageError(str(error)) from None
    _say(terminal, one, f"{cell(one.address)} is on the list of {host} until {moment(one.expires_at)}.")
    if not settings.hosts[host].publish_lists:
        terminal.say(f'Nothing is published yet: set publish_lists = true in [hosts."{host}"].')
    return Exit.OK


async def _add(settings: Settings, host: str, arguments: argparse.Namespace) -> Listing:
    async with opened(settings) as store:
        named = arguments.incident
        incident = await one_incident(store, [host], named) if named else None
        now = now_utc()
        return await stories.list_address(
            store,
            host,
            arguments.address,
            actor=actor(),
            rules=settings.policy,
            now=now,
            expires_at=end_of(arguments, now),
            reason=arguments.reason,
            incident_id=incident.id if incident else "",
            second_yes=arguments.yes_protected,
        )


def withhold(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Keep an address off the list."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)

    async def story() -> Listing:
        async with opened(settings) as store:
            return await stories.withhold(
                store, host, arguments.address, actor=actor(), now=now_utc(), reason=arguments.reason
            )

    one = _run(story())
    _say(terminal, one, f"{cell(one.address)} is kept off the list of {host}, whatever else says so.")
    return Exit.OK


def remove(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Take back what was said of an address."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)

    async def story() -> Listing:
        async with opened(settings) as store:
            return await stories.take_back(store, host, arguments.address, actor=actor(), now=now_utc())

    one = _run(story())
    was = "listed by hand" if one.is_published else "withheld"
    _say(terminal, one, f"{cell(one.address)} is no longer {was} on {host}.")
    return Exit.OK


def _run(story: Coroutine[Any, Any, Listing]) -> Listing:
    try:
        return asyncio.run(story)
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _say(terminal: Terminal, one: Listing, text: str) -> None:
    if terminal.is_json:
        terminal.json(plain(one))
    else:
        terminal.line(text)
