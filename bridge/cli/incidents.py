"""`incidents list|show`: what peers told our hosts.

House rule: nothing in a document is ours, so nothing of it reaches the terminal but through `visible`.
"""

import argparse
import asyncio
from collections.abc import Callable

from bridge.cli.arguments import Commands, command, group
from bridge.cli.incident_page import print_page
from bridge.cli.output import Exit, Terminal, count
from bridge.cli.stored import hosts_of, incident_like, interactions_of, newest_incidents, opened
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError
from bridge.policy.record import Incident, Interaction
from bridge.store import keys
from bridge.webhooks.event import plain
from bridge.xep0268.model import Status

_MOST = 10_000


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(commands, common, "incidents", "what peers reported: list, show")
    listing = command(inner, common, "list", list_incidents, "list incidents, the last changed first")
    listing.add_argument("--peer", metavar="DOMAIN", help="only what this peer reported")
    listing.add_argument("--status", choices=[str(status) for status in Status], help="only these")
    listing.add_argument(
        "--quarantined", action=argparse.BooleanOptionalAction, help="only what is (not) in quarantine"
    )
    listing.add_argument("--host", help="only what was told this host")
    listing.add_argument("--limit", type=_limit, default=50, metavar="N", help="at most so many (50)")
    showing = command(inner, common, "show", show, "show one incident, whole")
    showing.add_argument("id", metavar="ID", help="its id, or enough of its beginning")
    showing.add_argument("--host", help="only if it was told this host")


def _limit(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {_MOST}")
    return int(text)


def list_incidents(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print a table of incidents."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    found, has_more = asyncio.run(_list(settings, hosts, arguments))
    if terminal.is_json:
        terminal.json({"incidents": plain(found), "has_more": has_more})
        return Exit.OK
    if not found:
        terminal.say(
            "No such incident." if _is_filtered(arguments) else "No peer has reported an incident yet."
        )
        return Exit.OK
    titles = ["ID", "STATUS", "SEVERITY", "REPORTED BY", "CHANGED", "QUARANTINE", "WHAT"]
    rows: list[tuple[object, ...]] = [
        (one.id, one.status, one.severity, one.reporter, one.updated_at, one.quarantined, one.summary)
        for one in found
    ]
    if len(hosts) > 1:
        titles = ["HOST", *titles]
        rows = [(one.host, *row) for one, row in zip(found, rows, strict=True)]
    terminal.table(titles, rows)
    more = f"The newest {len(found)}; more with --limit. " if has_more else ""
    terminal.say(f"\n{more}To see one: incident-bridge incidents show {found[0].id[:6]}")
    return Exit.OK


def _is_filtered(arguments: argparse.Namespace) -> bool:
    return bool(arguments.peer or arguments.status or arguments.quarantined is not None)


async def _list(
    settings: Settings, hosts: list[str], arguments: argparse.Namespace
) -> tuple[list[Incident], bool]:
    found: list[Incident] = []
    has_more = False
    async with opened(settings) as store:
        for host in hosts:
            index = _index(host, arguments)
            some, more = await newest_incidents(
                store, index, limit=arguments.limit, matches=_filter(arguments)
            )
            found += some
            has_more |= more
    found.sort(key=lambda one: one.updated_at, reverse=True)
    return found[: arguments.limit], has_more or len(found) > arguments.limit


def _index(host: str, arguments: argparse.Namespace) -> str:
    """The narrowest index for the filters; `_filter` applies the rest."""
    if arguments.peer:
        return keys.incidents_of_reporter(host, arguments.peer.casefold())
    if arguments.status:
        return keys.incidents_with_status(host, Status(arguments.status))
    if arguments.quarantined is not None:
        return keys.incidents_quarantined(host, quarantined=arguments.quarantined)
    return keys.incidents(host)


def _filter(arguments: argparse.Namespace) -> Callable[[Incident], bool]:
    def matches(incident: Incident) -> bool:
        return (arguments.status is None or incident.status == arguments.status) and (
            arguments.quarantined is None or incident.quarantined == arguments.quarantined
        )

    return matches


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print one incident: what it says, who said so, how sure that is."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    start = arguments.id.strip().casefold()
    if not start:
        raise ConfigError("ID is empty; see: incident-bridge incidents list")
    found, interactions = asyncio.run(_show(settings, hosts, start))
    if not found:
        terminal.say(f"No incident's id begins with {start}. To see them: incident-bridge incidents list")
        return Exit.NO
    if len(found) > 1:
        ids = "\n".join(f"  {one.id}  {one.reporter}  {one.summary}" for one in found)
        terminal.say(
            f"{count(len(found), 'incident')} or more begin with {start}; type more of the id:\n{ids}"
        )
        return Exit.NO
    if terminal.is_json:
        terminal.json({"incident": plain(found[0]), "interactions": [_plain(one) for one in interactions]})
    else:
        print_page(found[0], interactions, terminal)
    return Exit.OK


def _plain(interaction: Interaction) -> object:
    shown = plain(interaction)
    del shown["original"]
    return shown


async def _show(settings: Settings, hosts: list[str], start: str) -> tuple[list[Incident], list[Interaction]]:
    async with opened(settings) as store:
        found = await incident_like(store, hosts, start)
        return found, await interactions_of(store, found[0].id, editions=found[0].editions) if len(
            found
        ) == 1 else []
