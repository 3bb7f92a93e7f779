"""`deliveries list|show|redeliver`: what was delivered to endpoints, what came of it, and once more."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.consumers import (
    DELIVERY_TITLES,
    actor,
    all_endpoints,
    delivery_rows,
    one_delivery,
    one_endpoint,
    outcome,
    plain_delivery,
    standing,
    time_of,
)
from bridge.cli.output import Exit, Terminal, cell, count, moment
from bridge.cli.stored import hosts_of, opened, records
from bridge.config import load_settings
from bridge.errors import ConfigError
from bridge.log import visible
from bridge.pipeline.redeliver import MOST_AT_ONCE, redeliver, redeliver_many
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Endpoint
from bridge.store import keys, load
from bridge.store.connect import Store

_LABEL = 12
_MOST_LISTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One run of one of the commands."""

    arguments: argparse.Namespace
    terminal: Terminal
    store: Store


Story = Callable[[_Call], Awaitable[int]]


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(commands, common, "deliveries", "deliveries to endpoints: list, show, redeliver")
    listing = command(inner, common, "list", _runs(_list), "list deliveries, the newest first")
    listing.add_argument("endpoint", metavar="ENDPOINT", nargs="?", help="only those to this one")
    listing.add_argument("--failed", action="store_true", help="given up, or failed and tried again")
    listing.add_argument("--limit", type=_number, default=50, metavar="N", help="at most so many (50)")
    showing = command(inner, common, "show", _runs(_show), "show every attempt of a delivery")
    showing.add_argument("id", metavar="ID", help="the delivery's id, or enough of its beginning")
    _add_redeliver(inner, common)


def _add_redeliver(inner: Commands, common: argparse.ArgumentParser) -> None:
    parser = command(
        inner, common, "redeliver", _runs(_redeliver), "deliver again: some, what failed, or a range"
    )
    parser.add_argument("ids", metavar="ID", nargs="*", help="these deliveries")
    parser.add_argument("--endpoint", metavar="ENDPOINT", help="to this endpoint, as the times say:")
    parser.add_argument(
        "--failed-since", metavar="TIME", help="what failed, of what was first tried since then"
    )
    parser.add_argument(
        "--since", metavar="TIME", help="every event since then that it wants, delivered or not"
    )
    parser.add_argument("--until", metavar="TIME", help="up to then (default: now)")
    parser.epilog = "A TIME is 2026-11-21T12:00:00Z, or how long ago: 90m, 2h, 3d."


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_LISTED:
        raise argparse.ArgumentTypeError(f"is a number from 1 to {_MOST_LISTED}")
    return int(text)


def _runs(story: Story) -> Callable[[argparse.Namespace, Terminal], int]:
    def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
        return asyncio.run(_run(story, arguments, terminal))

    return run


async def _run(story: Story, arguments: argparse.Namespace, terminal: Terminal) -> int:
    settings = load_settings(arguments.config)
    hosts_of(settings, None)  # says so if there is no configuration at all
    async with opened(settings) as store:
        try:
            return await story(_Call(arguments=arguments, terminal=terminal, store=store))
        except ConfigError as error:  # what is asked for cannot be done; the configuration is not to blame
            raise UsageError(str(error)) from None


async def _list(call: _Call) -> int:
    terminal, limit = call.terminal, call.arguments.limit
    found, has_more = await _found(call, limit)
    if terminal.is_json:
        terminal.json({"deliveries": [plain_delivery(one) for one in found], "has_more": has_more})
        return Exit.OK
    if not found:
        terminal.say("No delivery failed." if call.arguments.failed else "Nothing was delivered yet.")
        return Exit.OK
    several = call.arguments.endpoint is None
    rows = delivery_rows(found)
    titles = ("ENDPOINT", *DELIVERY_TITLES) if several else DELIVERY_TITLES
    if several:
        rows = [(one.endpoint_id, *row) for one, row in zip(found, rows, strict=True)]
    terminal.table(titles, rows)
    if has_more:
        terminal.say(f"There are more; these are the newest {limit}. For more: --limit")
    return Exit.OK


async def _found(call: _Call, limit: int) -> tuple[list[Delivery], bool]:
    """Load the newest deliveries that are asked for, and whether there are more."""
    endpoints: list[Endpoint] = []
    if call.arguments.endpoint is not None:
        endpoints = [await one_endpoint(call.store, call.arguments.endpoint)]
    elif call.arguments.failed:
        endpoints = await all_endpoints(call.store)
    indexes = [keys.DELIVERIES]
    if call.arguments.failed:
        states = (DeliveryState.DEAD, DeliveryState.PENDING)
        indexes = [keys.deliveries_with_state(one.id, state) for one in endpoints for state in states]
    elif endpoints:
        indexes = [keys.deliveries(endpoints[0].id)]
    newest = await load.newest(call.store, indexes, limit=limit + 1) if indexes else {}
    ids = [member for members in newest.values() for member in members]
    found = [
        one
        for one in await records(call.store, [keys.delivery(member) for member in ids])
        if isinstance(one, Delivery) and (not call.arguments.failed or _failed(one))
    ]
    found.sort(key=lambda one: (one.created_at, one.sequence), reverse=True)
    return found[:limit], len(found) > limit


def _failed(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.DEAD or (
        delivery.state is DeliveryState.PENDING and delivery.tries > 0
    )


async def _show(call: _Call) -> int:
    delivery, terminal = await one_delivery(call.store, call.arguments.id), call.terminal
    if terminal.is_json:
        terminal.json(plain_delivery(delivery))
        return Exit.OK
    terminal.line(terminal.marked(f"{delivery.id}  {cell(standing(delivery))}", "title"))
    for label, value in (
        ("Endpoint", delivery.endpoint_id),
        ("Event", f"{delivery.event_type}, number {delivery.sequence} of {delivery.host}"),
        ("webhook-id", delivery.event_id),
    ):
        terminal.line(f"  {label:{_LABEL}} {cell(value)}")
    for attempt in delivery.attempts:
        _print_attempt(attempt, terminal)
    if not delivery.attempts:
        terminal.line("  It was not tried yet.")
    if _failed(delivery):
        terminal.say(f"To deliver it again now: incident-bridge deliveries redeliver {delivery.id}")
    return Exit.OK


def _print_attempt(attempt: Attempt, terminal: Terminal) -> None:
    terminal.line()
    terminal.line(f"  {moment(attempt.at)}  {cell(outcome(attempt))}  {attempt.duration_ms} ms")
    for line in attempt.answer.splitlines():
        terminal.line(f"    {visible(line)}")


async def _redeliver(call: _Call) -> int:
    wanted = call.arguments
    is_range = wanted.failed_since is not None or wanted.since is not None
    if bool(wanted.ids) == (wanted.endpoint is not None):
        raise UsageError("name deliveries by their ID, or an endpoint by --endpoint")
    if wanted.ids and (is_range or wanted.until):
        raise UsageError("--since, --failed-since and --until go with --endpoint")
    if wanted.endpoint is None:
        return await _redeliver_each(call)
    if (wanted.failed_since is None) == (wanted.since is None):
        raise UsageError("say either --failed-since TIME or --since TIME")
    return await _redeliver_range(call)


async def _redeliver_each(call: _Call) -> int:
    found = {one.id: one for one in [await one_delivery(call.store, word) for word in call.arguments.ids]}
    queued = [
        await redeliver(call.store, one, actor=actor(), now=datetime.now(UTC)) for one in found.values()
    ]
    if call.terminal.is_json:
        call.terminal.json({"deliveries": [plain_delivery(one) for one in queued]})
    for one in queued:
        call.terminal.say(
            f"{one.id} is queued. To see what comes of it: incident-bridge deliveries show {one.id}"
        )
    return Exit.OK


async def _redeliver_range(call: _Call) -> int:
    wanted, terminal = call.arguments, call.terminal
    since = time_of(wanted.failed_since or wanted.since)
    until = None if wanted.until is None else time_of(wanted.until)
    endpoint = await one_endpoint(call.store, wanted.endpoint)
    number = await redeliver_many(
        call.store,
        endpoint,
        since=since,
        until=until,
        only_failed=wanted.failed_since is not None,
        actor=actor(),
        now=datetime.now(UTC),
    )
    if terminal.is_json:
        terminal.json({"endpoint": endpoint.id, "queued": number})
    terminal.say(f"{count(number, 'event')} queued for {endpoint.id}.")
    if number == MOST_AT_ONCE:
        terminal.say("That is the most at once, the oldest first; there may be more after them.")
    elif number:
        terminal.say(f"To see what comes of it: incident-bridge deliveries list {endpoint.id}")
    return Exit.OK if number else Exit.NO
