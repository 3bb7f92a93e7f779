"""`lists compare`: what lists of others say, how many agree, and what that would touch here; nothing is done."""

import argparse
import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp

from bridge.cli.acting import now_utc
from bridge.cli.approvals import prosody
from bridge.cli.arguments import Commands, UsageError, command
from bridge.cli.lookalike import address_cell
from bridge.cli.output import Exit, Terminal, cell, count
from bridge.cli.stored import one_host, opened, peers_of
from bridge.clients.plain import MAX_BYTES, fetch_text
from bridge.config import Settings, load_settings
from bridge.errors import UnsupportedError
from bridge.pipeline.publish import published_by
from bridge.policy.approval import own_target
from bridge.policy.compare import UNDECIDED, Named, Read, named_by, read_plain
from bridge.policy.decisions import MitigationType
from bridge.policy.effects import effects
from bridge.policy.trust import Trust
from bridge.webhooks.event import plain

MOST_PREVIEWED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What came of it; `touched` is what blocking would touch, for those it was asked for."""

    read: Mapping[str, Read]
    named: tuple[Named, ...]
    touched: Mapping[str, tuple[str, ...]]


def add(inner: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser = command(
        inner, common, "compare", compare, "hold lists of others against each other and what is so here"
    )
    parser.add_argument("lists", nargs="+", metavar="LIST", help="a URL or a file: one domain a line")
    parser.add_argument(
        "--quorum", type=number, default=1, metavar="N", help="only what so many lists agree on"
    )
    parser.add_argument("--preview", action="store_true",
                        help=f"ask Prosody what blocking would touch here (the first {MOST_PREVIEWED})")  # fmt: skip
    parser.add_argument("--host", help="for this host, if several are configured")


def number(text: str) -> int:
    """Read how many must agree."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)


def compare(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print what the lists agree on; exit 1 if that is nothing."""
    settings = load_settings(arguments.config)
    host = one_host(settings, arguments.host)
    lists = tuple(dict.fromkeys(arguments.lists))
    if arguments.quorum > len(lists):
        raise UsageError(f"--quorum {arguments.quorum} of {count(len(lists), 'list')} cannot be")
    found = asyncio.run(_compare(settings, host, lists, arguments))
    code = Exit.OK if found.named else Exit.NO
    if terminal.is_json:
        terminal.json(_plain(found))
        return code
    for name, one in found.read.items():
        terminal.say(
            f"{cell(name)}: {count(len(one.domains), 'domain')}"
            + (f", {count(one.bad, 'line')} that are none" if one.bad else "")
            + (f", {one.left_out} lines left out" if one.left_out else "")
        )
    if not found.named:
        terminal.say("No domain is named by so many.")
        return code
    rows = [
        (address_cell(one.domain), f"{len(one.by)} of {len(lists)}", " ".join(one.by), one.standing,
         "; ".join(found.touched.get(one.domain, ())))
        for one in found.named
    ]  # fmt: skip
    terminal.table(("DOMAIN", "NAMED BY", "LISTS", "HERE", "WOULD TOUCH"), rows)
    terminal.say(
        "\nNothing was done. To block one: incident-bridge incidents act ID --block-domain DOMAIN\n"
        "To keep one off your own list: incident-bridge lists withhold DOMAIN"
    )
    return code


def _plain(found: Compared) -> dict[str, Any]:
    return {
        "lists": [
            {"list": name, "domains": len(one.domains), "bad_lines": one.bad, "left_out": one.left_out}
            for name, one in found.read.items()
        ],
        "named": [
            {
                **plain(one),
                "would_touch": list(found.touched[one.domain]) if one.domain in found.touched else None,
            }
            for one in found.named
        ],
    }


async def _compare(
    settings: Settings, host: str, lists: tuple[str, ...], arguments: argparse.Namespace
) -> Compared:
    async with aiohttp.ClientSession(trust_env=True) as session:
        read = {name: read_plain(await _text(session, name)) for name in lists}
    async with opened(settings) as store:
        trusted = {one.domain for one in await peers_of(store, host) if one.trust is Trust.TRUSTED}
        known = await published_by(store, host, now=now_utc())
    named = named_by(
        {name: one.domains for name, one in read.items()},
        quorum=arguments.quorum,
        own=settings.hosts,
        known=known,
        trusted=trusted,
        protected=settings.policy.protected,
    )
    undecided = (one.domain for one in named if one.standing in UNDECIDED)
    touched = await would_touch(settings, host, undecided) if arguments.preview else {}
    return Compared(read=read, named=named, touched=touched)


async def _text(session: aiohttp.ClientSession, name: str) -> str:
    if name.startswith(("http://", "https://")):
        return await fetch_text(session, name)
    return await asyncio.to_thread(_file, name)


def _file(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from None
    if len(body) > MAX_BYTES:
        raise UsageError(f"{name} is longer than {MAX_BYTES} bytes")
    return body.decode("utf-8", "replace").removeprefix("\ufeff")


async def would_touch(settings: Settings, host: str, domains: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What blocking each of the first `MOST_PREVIEWED` of these would touch, in words."""
    found: dict[str, tuple[str, ...]] = {}
    async with prosody(settings) as server:
        for domain in islice(domains, MOST_PREVIEWED):
            target = own_target(host, MitigationType.BLOCK, address=domain)
            try:
                preview = dict(await server.preview(host, domain=domain))
            except UnsupportedError as error:
                preview = {"error": str(error)}
            found[domain] = tuple(effects(replace(target, preview=preview)))
    return found
