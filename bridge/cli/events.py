"""`events`: what webhook consumers are told, read from the store; the newest, from a number on, or as it happens."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from bridge.cli.arguments import Commands, command
from bridge.cli.output import Exit, Terminal, cell, count
from bridge.cli.stored import one_host, opened
from bridge.config import Settings, load_settings
from bridge.store import load
from bridge.store.connect import Store

_PAGE = 200
_SHOWN = 20
_POLL_SECONDS = 0.3
_MOST = 10_000


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser = command(commands, common, "events", show, "show webhook events: the newest, or from a number on")
    parser.add_argument("--host", help="whose events, if several hosts are configured")
    parser.add_argument("--after", type=_number, metavar="N", help="those after the one numbered N")
    parser.add_argument("--limit", type=_number, metavar="N",
                        help=f"at most so many (default {_SHOWN}; with --after {_MOST})")  # fmt: skip
    parser.add_argument("--follow", action="store_true",
                        help="go on as they happen; with --json one object a line")  # fmt: skip


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:  # noqa: PLR2004 - what JSON numbers hold
        raise argparse.ArgumentTypeError("is a number from 0 on")
    return int(text)


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print events."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    return asyncio.run(_show(settings, host, arguments, terminal))


async def _show(settings: Settings, host: str, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with opened(settings) as store:
        oldest, newest = await load.event_bounds(store, host)
        limit = arguments.limit
        if arguments.after is None:
            after = max(oldest - 1, newest - (_SHOWN if limit is None else limit))
        else:
            after = arguments.after
            _tell_dropped(after, oldest, terminal)
        if arguments.follow:
            return await _follow(store, host, after, terminal)
        most = _MOST if limit is None else min(limit, _MOST)
        found = [event async for event in _between(store, host, after, newest, most)]
    next_after = found[-1]["data"]["sequence"] if found else after
    if terminal.is_json:
        dropped = [after + 1, oldest - 1] if after + 1 < oldest else None
        terminal.json({"host": host, "events": found, "dropped": dropped, "next_after": next_after})
    for event in () if terminal.is_json else found:
        terminal.line(_line(event))
    if next_after < newest:
        left = count(newest - next_after, "more event")
        terminal.say(f"{left}: incident-bridge events --host {host} --after {next_after}")
    elif not found:
        terminal.say(f"There is no event of {host} after number {after}.")
    return Exit.OK


def _tell_dropped(after: int, oldest: int, terminal: Terminal) -> None:
    """Say which of the events asked for are no longer kept."""
    if after + 1 < oldest:
        terminal.say(
            f"Events {after + 1} to {oldest - 1} are no longer kept (retention.events_days); the oldest is {oldest}."
        )


async def _between(
    store: Store, host: str, after: int, newest: int, limit: int
) -> AsyncIterator[dict[str, Any]]:
    """Walk the events after one number up to another."""
    while limit and after < newest:
        page = await load.events(store, host, after=after, limit=min(_PAGE, limit))
        if not page:
            return
        for sequence, event in page:
            yield event
            after, limit = sequence, limit - 1


async def _follow(store: Store, host: str, after: int, terminal: Terminal) -> int:
    """Print what there is and then what happens, until interrupted."""
    while True:
        page = await load.events(store, host, after=after, limit=_PAGE)
        for sequence, event in page:
            terminal.line(json.dumps(event) if terminal.is_json else _line(event))
            after = sequence
        terminal.out.flush()
        if not page:
            await asyncio.sleep(_POLL_SECONDS)


def _line(event: dict[str, Any]) -> str:
    """One event on one line, harmless."""
    data = event["data"]
    words = [str(data["sequence"]), event["timestamp"][:19] + "Z", event["type"]]
    peer = data.get("peer") or {}
    if "domain" in peer:
        words.append(f"{peer['domain']}{' (quarantined)' if peer.get('quarantined') else ''}")
    incident = data.get("incident") or {}
    about = incident.get("id") or data.get("endpoint_id")
    return "  ".join(cell(word) for word in (*words, *([about] if about else [])))
