"""`incidents list|show|act|due|resolve|export`: what peers told our hosts, and what these told them.

House rule: nothing in a document is ours, so nothing of it reaches the terminal but through `visible`.
"""

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from bridge.cli.acting import actor
from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.due import add_due
from bridge.cli.incident_page import Page, print_page
from bridge.cli.lookalike import address_cell
from bridge.cli.mitigations import add_act
from bridge.cli.output import Exit, Terminal, cell, count
from bridge.cli.stored import (
    NotFoundError,
    hosts_of,
    known_names,
    newest_incidents,
    one_incident,
    opened,
    records,
    with_original,
)
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError
from bridge.log import visible
from bridge.pipeline import originate
from bridge.pipeline.due import steps_with
from bridge.pipeline.export import exported, interactions_about
from bridge.pipeline.ids import new_id
from bridge.pipeline.originate import Origin, Originated
from bridge.pipeline.related import related_to
from bridge.policy import exports
from bridge.policy.record import Incident, Interaction, Notices
from bridge.policy.standing import standing
from bridge.policy.story import possible
from bridge.store import keys
from bridge.store.connect import Store
from bridge.webhooks.event import plain
from bridge.xep0268.model import Status

_MOST = 10_000


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(commands, common, "incidents", "what was reported: list, show, act, due, resolve, export")
    listing = command(inner, common, "list", list_incidents, "list incidents, the last changed first")
    listing.add_argument("--peer", metavar="DOMAIN", help="only what this peer reported")
    listing.add_argument("--own", action="store_true", help="only what our own hosts reported")
    listing.add_argument("--status", choices=[str(status) for status in Status], help="only these")
    listing.add_argument(
        "--quarantined", action=argparse.BooleanOptionalAction, help="only what is (not) in quarantine"
    )
    listing.add_argument("--host", help="only what was told this host")
    listing.add_argument("--limit", type=_limit, default=50, metavar="N", help="at most so many (50)")
    showing = command(inner, common, "show", show, "show one incident, whole")
    showing.add_argument("id", metavar="ID", help="its id, or enough of its beginning")
    showing.add_argument("--host", help="only if it was told this host")
    add_act(inner, common)
    add_due(inner, common)
    resolving = command(
        inner, common, "resolve", resolve, "say that an incident of ours is over, to all who know"
    )
    resolving.add_argument("id", metavar="ID", help="its id, or enough of its beginning")
    resolving.add_argument("--text", default="", help="what was done, for people")
    resolving.add_argument("--host", help="only if it is this host's")
    exporting = command(inner, common, "export", export, "print an incident's document")
    exporting.add_argument("id", metavar="ID", help="its id, or enough of its beginning")
    exporting.add_argument("--form", choices=("canonical", "original", "json", "log", "xarf"), default="canonical",
                           help="canonical: valid IODEF (the default); original: as it came; log: who was told when, "
                           "for a public list; xarf: XARF v4, one for each source, for hosters")  # fmt: skip
    exporting.add_argument("--contact", default="", metavar="MAIL",
                           help="where hosters can ask you, for xarf (default: what the document names)")  # fmt: skip
    exporting.add_argument("--host", help="only if it was told this host")


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
        terminal.say("No such incident." if _is_filtered(arguments) else "No incident was reported yet.")
        return Exit.OK
    titles = ["ID", "STATUS", "SEVERITY", "REPORTED BY", "CHANGED", "QUARANTINE", "WHAT"]
    rows: list[tuple[object, ...]] = [
        (one.id, one.status, one.severity, _reporter(one), one.updated_at, one.quarantined, one.summary)
        for one in found
    ]
    if len(hosts) > 1:
        titles = ["HOST", *titles]
        rows = [(one.host, *row) for one, row in zip(found, rows, strict=True)]
    terminal.table(titles, rows)
    more = f"The newest {len(found)}; more with --limit. " if has_more else ""
    terminal.say(f"\n{more}To see one: incident-bridge incidents show {found[0].id[:6]}")
    return Exit.OK


def _reporter(incident: Incident) -> str:
    return f"{incident.reporter} (own)" if incident.is_own else address_cell(incident.reporter)


def _is_filtered(arguments: argparse.Namespace) -> bool:
    return bool(arguments.peer or arguments.own or arguments.status or arguments.quarantined is not None)


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
    if arguments.own:
        return keys.incidents_of_reporter(host, host)
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
    """Print one incident: what it says, what happened with it, who said so and how sure that is."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    found = asyncio.run(_show(settings, hosts, arguments.id))
    if isinstance(found, Interaction):
        return _show_interaction(found, terminal)
    if terminal.is_json:
        terminal.json(_plain_page(found))
    else:
        print_page(found, terminal)
    return Exit.OK


async def _show(settings: Settings, hosts: list[str], start: str) -> Page | Interaction:
    """Load an incident with its story; or an interaction of ours that has no incident yet (an inquiry)."""
    async with opened(settings) as store:
        try:
            incident = await one_incident(store, hosts, start)
        except NotFoundError:
            named = await records(store, [keys.interaction(start.strip().casefold())])
            if not named or not isinstance(named[0], Interaction) or named[0].host not in hosts:
                raise
            about = await records(store, [keys.incident(named[0].incident_id)])
            if not about or not isinstance(about[0], Incident):
                return named[0]
            incident = about[0]
        return await _page(store, incident, settings)


async def _page(store: Store, incident: Incident, settings: Settings) -> Page:
    interactions = await interactions_about(store, incident.id, editions=incident.editions)
    page = Page(
        incident=incident,
        interactions=tuple(interactions),
        related=(),
        notices=None,
        known=frozenset(await known_names(store, [incident.host])),
    )
    document = page.newest.document if page.newest else None
    notices = await records(store, [keys.notices(incident.host)])
    return replace(
        page,
        related=tuple(await related_to(store, incident, document)),
        next_steps=await steps_with(store, incident, interactions, rules=settings.policy),
        notices=next((one for one in notices if isinstance(one, Notices)), None),
    )


def _show_interaction(interaction: Interaction, terminal: Terminal) -> int:
    if terminal.is_json:
        terminal.json({"incident": None, "interactions": [_plain(interaction)]})
        return Exit.OK
    identity = interaction.document.identity
    terminal.line(
        f"{cell(interaction.id)}  {interaction.kind} to {address_cell(interaction.peer)}  {cell(standing(interaction))}"
    )
    terminal.say(f"Nothing is known here yet about {identity.text} of {identity.name}.")
    return Exit.OK


def _plain_page(page: Page) -> dict[str, object]:
    return {
        "incident": plain(page.incident),
        "interactions": [_plain(one) for one in page.interactions],
        "related": [
            {
                "id": one.incident.id if one.incident else None,
                "reporter": one.incident.reporter if one.incident else None,
                "identity": plain(one.identity),
                "why": one.why,
            }
            for one in page.related
        ],
        "next": [
            {**plain(one), "command": one.command, "log_command": one.log_command} for one in page.next_steps
        ],
    }


def _plain(interaction: Interaction) -> object:
    shown = plain(interaction)
    del shown["original"]
    shown["standing"] = standing(interaction)
    shown["possible"] = plain(possible(interaction))
    return shown


def resolve(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Resolve an incident of this host's own, and say who is told."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    done = asyncio.run(_resolve(settings, hosts, arguments))
    if terminal.is_json:
        terminal.json(
            {"incident": plain(done.incident), "interactions": [_plain(one) for one in done.interactions]}
        )
        return Exit.OK
    for one in done.interactions:
        terminal.line(f"{one.id}  {one.kind} to {address_cell(one.peer)}  queued")
    told = count(len(done.interactions), "server")
    incident = done.incident.id[:6] if done.incident else arguments.id
    terminal.say(
        f"Resolved; {told} that got the report {'is' if len(done.interactions) == 1 else 'are'} told. "
        f"To see what comes of it: incident-bridge incidents show {incident}"
    )
    return Exit.OK


async def _resolve(settings: Settings, hosts: list[str], arguments: argparse.Namespace) -> Originated:
    async with opened(settings) as store:
        incident = await one_incident(store, hosts, arguments.id)
        if not incident.is_own:
            raise UsageError(
                f"{incident.reporter} reported it, so only {incident.reporter} can say that it is resolved"
            )
        if incident.status is Status.RESOLVED and not arguments.text:
            raise NotFoundError(f"incident {incident.id} is resolved already")
        now = datetime.now(UTC)
        origin = Origin(host=incident.host, to=incident.told, now=now, new_id=new_id, actor=actor())
        return await originate.resolve(store, origin, incident, text=arguments.text)


def export(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print the document of an incident that counts."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    incident, newest, story = asyncio.run(_export(settings, hosts, arguments.id))
    if arguments.form in ("log", "xarf"):
        return _publish(incident, newest, story, terminal, arguments)
    form = "json" if terminal.is_json else arguments.form
    if form == "json":
        terminal.json({"incident": plain(incident), "document": plain(newest.document)})
        return Exit.OK
    data = newest.original or b""
    if form == "canonical":
        data = exported(newest)
    text = data.decode("utf-8", "replace")
    is_terminal = terminal.width is not None
    terminal.line("\n".join(map(visible, text.split("\n"))) if is_terminal else text)
    return Exit.OK


def _publish(
    incident: Incident,
    newest: Interaction,
    story: list[Interaction],
    terminal: Terminal,
    arguments: argparse.Namespace,
) -> int:
    """Print an incident of ours for those who keep lists, or run machines."""
    try:
        if arguments.form == "xarf":
            terminal.json(exports.xarf(incident, newest.document, story, contact=arguments.contact))
        else:
            terminal.line(exports.log(incident, newest.document, story).rstrip("\n"))
    except exports.ContactError as error:
        raise UsageError(f"{error}; say where: --contact MAIL") from None
    except ConfigError as error:
        raise UsageError(str(error)) from None
    return Exit.OK


async def _export(
    settings: Settings, hosts: list[str], start: str
) -> tuple[Incident, Interaction, list[Interaction]]:
    async with opened(settings) as store:
        incident = await one_incident(store, hosts, start)
        newest = await with_original(store, incident.current.interaction_id)
        return incident, newest, await interactions_about(store, incident.id)
