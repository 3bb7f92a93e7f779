"""`endpoints add|change|list|show|test|rotate|enable|disable|remove`: where webhook events go."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.consumers import (
    DELIVERY_TITLES,
    actor,
    all_endpoints,
    delivery_rows,
    misused,
    one_endpoint,
    outcome,
    permitted,
    plain_delivery,
    plain_endpoint,
    standing,
    state_of,
)
from bridge.cli.output import Exit, Terminal, cell, moment
from bridge.cli.stored import hosts_of, opened, records
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError, MalformedError
from bridge.iodef.model import Severity
from bridge.pipeline import endpoints
from bridge.pipeline.endpoints import EndpointDraft, draft_of
from bridge.policy.consumers import Delivery, DeliveryState, Endpoint, QuarantineFilter
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.webhooks.event import EventType

_LABEL = 16
_SHOWN_DELIVERIES = 10
_POLL_SECONDS = 0.1
_MOST_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One run of one of the commands."""

    arguments: argparse.Namespace
    settings: Settings
    terminal: Terminal
    store: Store

    async def endpoint(self) -> Endpoint:
        """The endpoint named."""
        return await one_endpoint(self.store, self.arguments.id)


Story = Callable[[_Call], Awaitable[int]]


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(commands, common, "endpoints", "webhook endpoints: add, list, show, test, rotate, …")
    _add_add(inner, common)
    _add_change(inner, common)
    command(inner, common, "list", _runs(_list), "list the endpoints and how they stand")
    for name, story, summary in (
        ("show", _show, "show an endpoint and its last deliveries"),
        ("test", _test, "deliver a test event to an endpoint and say what came of it"),
        ("rotate", _rotate, "give an endpoint a new secret; the old one signs too for 24 hours"),
        ("enable", _enable, "deliver to an endpoint again"),
        ("disable", _disable, "deliver nothing more to an endpoint"),
        ("remove", _remove, "remove an endpoint and drop what waits for it"),
    ):
        parser = command(inner, common, name, _runs(story), summary)
        parser.add_argument("id", metavar="ID", help="the endpoint's id, or enough of its beginning")
        if name == "test":
            parser.add_argument("--wait", type=_seconds, default=20.0, metavar="SECONDS",
                                help="wait so long for what comes of it (default 20)")  # fmt: skip
        if name == "disable":
            parser.add_argument("--reason", default="", help="why, for people")


def _add_add(inner: Commands, common: argparse.ArgumentParser) -> None:
    parser = command(inner, common, "add", _runs(_add), "have events delivered to a URL; prints the secret")
    parser.add_argument("url", metavar="URL", help="where to: https://…")
    _add_several(parser, "--host", "HOST", "only this host's events (default: every host's)")
    _add_several(parser, "--type", "TYPE", f"only this type of event: {', '.join(EventType)}")
    _add_several(parser, "--peer", "DOMAIN", "only what concerns this server")
    _add_several(parser, "--severity", "SEVERITY", f"only this severity: {', '.join(Severity)}")
    _add_several(parser, "--header", "'NAME: VALUE'", "sent along with every delivery")
    parser.add_argument("--header-file", type=Path, metavar="FILE",
                        help="holds such lines; other users of the machine can see what is in a command")  # fmt: skip
    parser.add_argument("--quarantined", choices=[str(one) for one in QuarantineFilter], default="exclude",
                        help="what strangers sent (default exclude)")  # fmt: skip
    parser.add_argument("--xml", action="store_true", help="add the IODEF document as `data.xml`")
    parser.add_argument("--description", default="", help="for people")
    parser.add_argument("--secret-file", type=Path, metavar="FILE",
                        help="holds the secret, if the consumer has one already")  # fmt: skip


def _add_change(inner: Commands, common: argparse.ArgumentParser) -> None:
    parser = command(inner, common, "change", _runs(_change), "change what an endpoint gets; the rest stays")
    parser.add_argument("id", metavar="ID", help="the endpoint's id, or enough of its beginning")
    parser.add_argument("--url", metavar="URL", help="where to")
    _add_several(parser, "--host", "HOST", "only this host's events; all: every host's")
    _add_several(parser, "--type", "TYPE", "only this type of event; all: every type")
    _add_several(parser, "--peer", "DOMAIN", "only what concerns this server; all: whatever it concerns")
    _add_several(parser, "--severity", "SEVERITY", "only this severity; all: every one")
    _add_several(parser, "--header", "'NAME: VALUE'", "sent along, instead of those before; none: no header")
    parser.add_argument("--header-file", type=Path, metavar="FILE", help="more of them, one a line")
    parser.add_argument("--quarantined", choices=[str(one) for one in QuarantineFilter],
                        help="what strangers sent")  # fmt: skip
    parser.add_argument(
        "--xml", action=argparse.BooleanOptionalAction, help="the IODEF document as `data.xml`"
    )
    parser.add_argument("--description", help="for people")


def _add_several(parser: argparse.ArgumentParser, option: str, metavar: str, meaning: str) -> None:
    parser.add_argument(
        option, action="append", default=[], metavar=metavar, help=f"{meaning}; may be repeated"
    )


def _seconds(text: str) -> float:
    if not text.isascii() or not text.isdigit() or int(text) > _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"is a number of seconds up to {_MOST_SECONDS}")
    return float(text)


def _runs(story: Story) -> Callable[[argparse.Namespace, Terminal], int]:
    def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
        return asyncio.run(_run(story, arguments, terminal))

    return run


async def _run(story: Story, arguments: argparse.Namespace, terminal: Terminal) -> int:
    settings = load_settings(arguments.config)
    hosts_of(settings, None)  # says so if there is no configuration at all
    async with opened(settings) as store:
        call = _Call(arguments=arguments, settings=settings, terminal=terminal, store=store)
        try:
            return await story(call)
        except MalformedError as error:
            raise misused(error) from None
        except ConfigError as error:
            raise UsageError(str(error)) from None


async def _add(call: _Call) -> int:
    wanted = call.arguments
    draft = EndpointDraft(
        url=wanted.url,
        hosts=wanted.host or hosts_of(call.settings, None),
        description=wanted.description,
        types=wanted.type,
        peers=wanted.peer,
        severities=wanted.severity,
        quarantined=QuarantineFilter(wanted.quarantined),
        includes_xml=wanted.xml,
        headers=_headers(wanted.header, wanted.header_file),
    )
    endpoint = await endpoints.add(
        call.store,
        draft,
        actor=actor(),
        now=datetime.now(UTC),
        permitted=permitted(call.settings),
        secret=None if wanted.secret_file is None else _text_in(wanted.secret_file),
    )
    _print_secret(endpoint, call.terminal, "It gets what happens from now on.")
    return Exit.OK


async def _change(call: _Call) -> int:
    wanted, known = call.arguments, await call.endpoint()
    filters = {"types": wanted.type, "peers": wanted.peer, "severities": wanted.severity}
    given: dict[str, Any] = {name: _all(words, ()) for name, words in filters.items() if words}
    if wanted.host:
        given["hosts"] = _all(wanted.host, hosts_of(call.settings, None))
    if wanted.header or wanted.header_file:
        lines = [] if wanted.header == ["none"] else wanted.header
        given["headers"] = _headers(lines, wanted.header_file)
    if wanted.quarantined is not None:
        given["quarantined"] = QuarantineFilter(wanted.quarantined)
    plain = {"url": wanted.url, "description": wanted.description, "includes_xml": wanted.xml}
    given |= {name: value for name, value in plain.items() if value is not None}
    if not given:
        raise UsageError(
            "say what is to change, such as --type incident.reported; see: endpoints change --help"
        )
    endpoint = await endpoints.change(
        call.store,
        known,
        replace(draft_of(known), **given),
        actor=actor(),
        now=datetime.now(UTC),
        permitted=permitted(call.settings),
    )
    return _said(endpoint, f"{endpoint.id} is changed. To see it: incident-bridge endpoints show {endpoint.id}",
                 call.terminal)  # fmt: skip


def _all(words: list[str], everything: Sequence[str]) -> Sequence[str]:
    """What was named; where that is just `all`, everything."""
    return everything if words == ["all"] else words


def _headers(lines: list[str], path: Path | None) -> dict[str, str]:
    places = [(line, "--header") for line in lines]
    if path is not None:
        numbered = enumerate(_text_in(path).splitlines(), start=1)
        places += [(line, f"{path}, line {number}") for number, line in numbered if line.strip()]
    found: dict[str, str] = {}
    for line, place in places:
        name, colon, value = line.partition(":")
        if not colon or name in found:
            raise UsageError(f"{place}: write NAME: VALUE, each name once")
        found[name] = value.strip()
    return found


def _text_in(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain ASCII"
        raise UsageError(f"{path} cannot be read: {reason}") from None


def _print_secret(endpoint: Endpoint, terminal: Terminal, text: str) -> None:
    """Print the secret, which is shown this once."""
    if terminal.is_json:
        terminal.json({**plain_endpoint(endpoint), "secret": endpoint.secret})
    else:
        terminal.line(f"{'endpoint':{_LABEL}} {endpoint.id}")
        terminal.line(f"{'secret':{_LABEL}} {endpoint.secret}")
    terminal.say(
        f"{text} The secret is not shown again; the consumer verifies each delivery with it (Standard Webhooks; "
        "see README, Consumers).\n"
        f"To try it out: incident-bridge endpoints test {endpoint.id}"
    )


async def _list(call: _Call) -> int:
    found = await all_endpoints(call.store)
    if call.terminal.is_json:
        call.terminal.json({"endpoints": [plain_endpoint(one) for one in found]})
        return Exit.OK
    if not found:
        call.terminal.say("There is no endpoint. To add one: incident-bridge endpoints add URL")
        return Exit.OK
    titles = ("ENDPOINT", "URL", "HOSTS", "EVENTS", "NOW")
    rows = [
        (one.id, one.url, " ".join(one.hosts), " ".join(one.types) or "all", state_of(one)) for one in found
    ]
    call.terminal.table(titles, rows)
    return Exit.OK


async def _show(call: _Call) -> int:
    endpoint, terminal = await call.endpoint(), call.terminal
    index = keys.deliveries(endpoint.id)
    ids = (await load.newest(call.store, [index], limit=_SHOWN_DELIVERIES))[index]
    found = await records(call.store, [keys.delivery(one) for one in ids])
    deliveries = [one for one in found if isinstance(one, Delivery)]
    if terminal.is_json:
        terminal.json({**plain_endpoint(endpoint), "deliveries": [plain_delivery(one) for one in deliveries]})
        return Exit.OK
    terminal.line(terminal.marked(cell(endpoint.url), "title"))
    for label, value in _described(endpoint):
        terminal.line(f"  {label:{_LABEL}} {cell(value)}")
    terminal.title("Last deliveries")
    if deliveries:
        terminal.table(DELIVERY_TITLES, delivery_rows(deliveries), indent=2)
    else:
        terminal.line("  none yet")
    return Exit.OK


def _described(endpoint: Endpoint) -> list[tuple[str, object]]:
    rotated = endpoint.old_secret_until
    return [
        ("Endpoint", endpoint.id),
        ("Now", state_of(endpoint)),
        ("Description", endpoint.description),
        ("Hosts", " ".join(endpoint.hosts)),
        ("Events", " ".join(endpoint.types) or "all"),
        ("Servers", " ".join(endpoint.peers) or "all"),
        ("Severities", " ".join(endpoint.severities) or "all"),
        ("Quarantined", endpoint.quarantined),
        ("IODEF document", endpoint.includes_xml),
        ("Headers", " ".join(sorted(endpoint.headers))),
        ("Added", endpoint.created_at),
        ("Old secret", f"signs too until {moment(rotated)}" if rotated else None),
    ]


async def _test(call: _Call) -> int:
    endpoint, terminal = await call.endpoint(), call.terminal
    event_id = await endpoints.send_test(call.store, endpoint, actor=actor(), now=datetime.now(UTC))
    delivery = await _tried(call, endpoint, event_id)
    if terminal.is_json:
        terminal.json({"event_id": event_id, "delivery": plain_delivery(delivery) if delivery else None})
    elif delivery is not None:
        attempt = delivery.attempts[-1]
        words = (event_id, standing(delivery), outcome(attempt), f"{attempt.duration_ms} ms")
        terminal.line("  ".join(cell(word) for word in words))
    if delivery is None:
        waited = f"was not tried within {call.arguments.wait:.0f} seconds"
        terminal.say(f"The event {event_id} {waited}; is there a worker? See: incident-bridge check")
        return Exit.NO
    if delivery.state is DeliveryState.DELIVERED:
        return Exit.OK
    terminal.say(f"To see what it answered: incident-bridge deliveries show {delivery.id}")
    return Exit.NO


async def _tried(call: _Call, endpoint: Endpoint, event_id: str) -> Delivery | None:
    """Wait for the delivery of an event to be tried; None: it was not in time."""
    index = keys.deliveries(endpoint.id)
    deadline = asyncio.get_running_loop().time() + call.arguments.wait
    while True:
        ids = (await load.newest(call.store, [index], limit=_SHOWN_DELIVERIES))[index]
        for one in await records(call.store, [keys.delivery(member) for member in ids]):
            if isinstance(one, Delivery) and one.event_id == event_id and one.attempts:
                return one
        if asyncio.get_running_loop().time() >= deadline:
            return None
        await asyncio.sleep(_POLL_SECONDS)


async def _rotate(call: _Call) -> int:
    known = await call.endpoint()
    endpoint = await endpoints.rotate(call.store, known, actor=actor(), now=datetime.now(UTC))
    until = moment(endpoint.old_secret_until)
    _print_secret(endpoint, call.terminal, f"Until {until} deliveries are signed with the old secret too.")
    return Exit.OK


async def _enable(call: _Call) -> int:
    known = await call.endpoint()
    endpoint = await endpoints.enable(call.store, known, actor=actor(), now=datetime.now(UTC))
    since = known.disabled_at or known.failing_since
    text = f"{endpoint.id} is enabled."
    if since is not None:
        options = f"--endpoint {endpoint.id} --since {since:%Y-%m-%dT%H:%M:%SZ}"
        text += f" To deliver what it missed: incident-bridge deliveries redeliver {options}"
    return _said(endpoint, text, call.terminal)


async def _disable(call: _Call) -> int:
    endpoint = await endpoints.disable(
        call.store, await call.endpoint(), reason=call.arguments.reason, actor=actor(), now=datetime.now(UTC)
    )
    return _said(endpoint, f"{endpoint.id} is disabled: {endpoint.disabled_reason}", call.terminal)


async def _remove(call: _Call) -> int:
    endpoint = await call.endpoint()
    await endpoints.remove(call.store, endpoint, actor=actor(), now=datetime.now(UTC))
    return _said(endpoint, f"{endpoint.id} is removed; what waited for it is dropped.", call.terminal)


def _said(endpoint: Endpoint, text: str, terminal: Terminal) -> int:
    if terminal.is_json:
        terminal.json(plain_endpoint(endpoint))
    else:
        terminal.say(text)
    return Exit.OK
