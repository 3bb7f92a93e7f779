"""`report|inquire|request|respond`: what we tell and ask other servers.

House rules: a command queues and says so, the workers send; what came of it is asked for with `--wait`.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.cli import compose
from bridge.cli.acting import actor
from bridge.cli.arguments import Commands, UsageError, command
from bridge.cli.lookalike import remarks
from bridge.cli.output import Exit, Terminal, count
from bridge.cli.sendings import as_plain, known_incident, print_outcome, print_queued, silent, watch
from bridge.cli.stored import (
    NotFoundError,
    hosts_of,
    known_names,
    one_host,
    one_incident,
    opened,
    peers_named,
    requests_like,
    with_original,
)
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError, ConflictError, MalformedError
from bridge.iodef.model import Incident as Document
from bridge.iodef.model import IncidentId
from bridge.pipeline import originate
from bridge.pipeline.compose import Given
from bridge.pipeline.ids import new_id
from bridge.pipeline.originate import Origin, Originated
from bridge.policy.record import Interaction, InteractionState, Outcome
from bridge.store.connect import Store
from bridge.xep0268.model import Kind
from bridge.xmpp.jid import prep_domain

_TRIES = 10
_MOST_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One run of one of the commands."""

    arguments: argparse.Namespace
    settings: Settings
    terminal: Terminal
    store: Store

    def host(self) -> str:
        """The host that sends."""
        return one_host(self.settings, self.arguments.sender, option="--from")

    def hosts(self) -> list[str]:
        """Where to look for what is named by its id."""
        return hosts_of(self.settings, self.arguments.sender)

    def to(self, host: str) -> tuple[str, ...]:
        """The peers named, each once."""
        return tuple(dict.fromkeys(_domain(word, host) for word in self.arguments.to))

    def origin(self, host: str, to: tuple[str, ...]) -> Origin:
        """Who sends, where to and when."""
        return Origin(host=host, to=to, now=datetime.now(UTC), new_id=new_id, actor=actor())


Story = Callable[[_Call], Awaitable[Originated]]


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    _add_report(commands, common)
    inquiring = command(
        commands, common, "inquire", _runs(_inquire), "ask servers what they know about an incident"
    )
    _add_to(inquiring)
    what = inquiring.add_mutually_exclusive_group(required=True)
    what.add_argument("--id", type=compose.identity, metavar="NAME/TEXT", help="its identifier")
    what.add_argument("--incident", metavar="ID", help="the identifier of a stored incident")
    _add_request(commands, common)
    _add_respond(commands, common)


def _add_report(commands: Commands, common: argparse.ArgumentParser) -> None:
    parser = command(commands, common, "report", _runs(_report), "report an incident to other servers")
    _add_to(parser, is_needed=False)
    compose.add_options(parser)
    parser.add_argument(
        "--even-private", action="store_true", help="forward it although its reporter says that it is private"
    )


def _add_request(commands: Commands, common: argparse.ArgumentParser) -> None:
    parser = command(commands, common, "request", _runs(_request), "ask other servers to do something")
    _add_to(parser)
    parser.add_argument("--action", action="append", default=[], metavar="ACTION",
                        help="what to do, such as block-host; may be repeated")  # fmt: skip
    parser.add_argument("--text", default="", help="more about it, for people")
    compose.add_options(parser)
    parser.add_argument(
        "--even-private", action="store_true", help="tell it although its reporter says that it is private"
    )


def _add_respond(commands: Commands, common: argparse.ArgumentParser) -> None:
    parser = command(commands, common, "respond", _runs(_respond), "answer another server's request")
    parser.add_argument(
        "request", metavar="REQUEST", help="its id or its incident's id, or enough of the beginning"
    )
    outcome = parser.add_mutually_exclusive_group(required=True)
    outcome.add_argument("--done", action="store_true", help="all that it asks for is done")
    outcome.add_argument("--declined", metavar="REASON", help="nothing is done, and why")
    outcome.add_argument("--partly", action="store_true", help="only what --action names is done")
    parser.add_argument("--action", action="append", default=[], metavar="ACTION",
                        help="what was done; may be repeated")  # fmt: skip
    parser.add_argument("--text", default="", help="more about it, for people")
    parser.add_argument("--again", action="store_true", help="answer it although it was answered before")
    _add_common(parser)


def _add_to(parser: argparse.ArgumentParser, *, is_needed: bool = True) -> None:
    default = "" if is_needed else "; default, for an incident of ours: those who have it"
    parser.add_argument("--to", nargs="+", action="extend", default=[], required=is_needed, metavar="DOMAIN",
                        help=f"the servers{default}")  # fmt: skip
    _add_common(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="sender", metavar="HOST", help="our host, if several are configured")
    parser.add_argument("--wait", type=_seconds, default=0.0, metavar="SECONDS",
                        help="wait so long for answers; exit 0 only if all acknowledged it")  # fmt: skip


def _seconds(text: str) -> float:
    if not text.isdecimal() or int(text) > _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, at most {_MOST_SECONDS}")
    return float(text)


def _domain(word: str, host: str) -> str:
    try:
        domain = prep_domain(word)
    except MalformedError as error:
        raise UsageError(f"--to {word}: is not a server's domain: {error.rule}") from None
    if domain == host:
        raise UsageError(f"--to {word}: is this host itself")
    return domain


def _runs(story: Story) -> Callable[[argparse.Namespace, Terminal], int]:
    def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
        return asyncio.run(_run(story, arguments, terminal))

    return run


async def _run(story: Story, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Queue what is to be sent, say so, and wait for what comes of it if asked to."""
    settings = load_settings(arguments.config)
    async with opened(settings) as store:
        call = _Call(arguments=arguments, settings=settings, terminal=terminal, store=store)
        originated = await _settled(story, call)
        sent = originated.interactions
        alike = await _alike(store, sent)
        if not terminal.is_json:
            print_queued(originated, terminal)
            await _warn(call, sent, alike)
        if arguments.wait and sent:
            sent = await watch(store, sent, seconds=arguments.wait)
        peers = await peers_named(store, sent[0].host, [one.peer for one in sent]) if sent else {}
        known = await known_incident(store, originated)
    if terminal.is_json:
        terminal.json(as_plain(known, sent, peers, alike))
    elif arguments.wait:
        print_outcome(sent, peers, known, terminal)
    is_good = all(one.state is InteractionState.ACKNOWLEDGED for one in sent) or not arguments.wait
    return Exit.OK if is_good else Exit.NO


async def _alike(store: Store, sent: tuple[Interaction, ...]) -> list[str]:
    """A remark on each server named that only looks like one that the operator knows."""
    return remarks([one.peer for one in sent], await known_names(store, [sent[0].host])) if sent else []


async def _warn(call: _Call, sent: tuple[Interaction, ...], alike: list[str]) -> None:
    """Say what the operator should know about the servers named."""
    if sent and not call.arguments.wait:
        for line in silent(
            (await peers_named(call.store, sent[0].host, [one.peer for one in sent])).values()
        ):
            call.terminal.say(line)
    for remark in alike:
        call.terminal.say(remark)


async def _settled(story: Story, call: _Call) -> Originated:
    """Run the story until nobody changed meanwhile what it was decided on; nothing is written before."""
    for _ in range(_TRIES):
        try:
            return await story(call)
        except ConflictError:
            continue
        except ConfigError as error:
            raise UsageError(str(error)) from None
    raise ConflictError("the store changes faster than this can be written; try again")


async def _report(call: _Call) -> Originated:
    arguments = call.arguments
    if arguments.incident:
        return await _report_stored(call)
    host = call.host()
    origin = call.origin(host, call.to(host))
    if not origin.to:
        raise UsageError("say to whom: --to DOMAIN")
    if not arguments.file:
        return await originate.report(call.store, origin, compose.new_document(host, arguments))
    read = _file(call, host, Kind.REPORT)
    return await originate.report(call.store, origin, read.reading.tree, status=read.reading.status)


def _file(call: _Call, host: str, kind: Kind) -> Given:
    """Read the file that was given; it goes out whole, so no option describes it."""
    options = compose.given(call.arguments)
    if options:
        raise UsageError(f"{options[0]}: --file has everything; change it there")
    read = compose.from_file(call.arguments.file, host, kind)
    for note in read.notes:
        call.terminal.say(f"Repaired before it is sent: {note}")
    name = read.reading.incident.identity.name
    if name.casefold() != host:
        call.terminal.say(f"Its identifier is one of {name}; it goes out as {host}'s account of it.")
    return read


async def _report_stored(call: _Call) -> Originated:
    """Report an own incident again, or forward what another server reported."""
    arguments, store = call.arguments, call.store
    incident = await one_incident(store, call.hosts(), arguments.incident)
    newest = await with_original(store, incident.current.interaction_id)
    to = call.to(incident.host)
    if incident.is_own:
        to = to or await originate.audience(store, incident)
        if not to:
            raise UsageError("say to whom: --to DOMAIN")
        document = compose.again(newest, arguments)
        return await originate.report(store, call.origin(incident.host, to), document)
    options = compose.given(arguments)
    if options:
        raise UsageError(f"{options[0]}: what {incident.reporter} reported is forwarded as it is")
    if not to:
        raise UsageError("say to whom: --to DOMAIN")
    origin = call.origin(incident.host, to)
    return await originate.forward(store, origin, incident, newest, even_private=arguments.even_private)


async def _inquire(call: _Call) -> Originated:
    identity: IncidentId | None = call.arguments.id
    if identity is not None:
        host = call.host()
    else:
        incident = await one_incident(call.store, call.hosts(), call.arguments.incident)
        host, identity = incident.host, incident.identity
    return await originate.inquire(call.store, call.origin(host, call.to(host)), identity)


async def _request(call: _Call) -> Originated:
    arguments, store = call.arguments, call.store
    if not arguments.action and not arguments.file:
        raise UsageError("say what they are to do: --action ACTION, such as --action block-host")
    if arguments.incident:
        return await _request_stored(call)
    host = call.host()
    origin = call.origin(host, call.to(host))
    if not arguments.file:
        document = compose.new_document(host, arguments)
        return await originate.request(store, origin, _expect(document, arguments))
    reading = _file(call, host, Kind.REQUEST).reading
    if arguments.action:
        return await originate.request(store, origin, _expect(reading.incident, arguments))
    if not reading.incident.expectations:
        raise UsageError(f"{arguments.file} asks for nothing: add --action ACTION")
    return await originate.request(store, origin, reading.tree)


async def _request_stored(call: _Call) -> Originated:
    arguments, store = call.arguments, call.store
    incident = await one_incident(store, call.hosts(), arguments.incident)
    newest = await with_original(store, incident.current.interaction_id)
    origin = call.origin(incident.host, call.to(incident.host))
    if incident.is_own:
        document = compose.again(newest, arguments)
    else:
        options = compose.given(arguments)
        if options:
            raise UsageError(f"{options[0]}: the incident is told as {incident.reporter} reported it")
        document = compose.of_peer(incident, newest, origin.to, even_private=arguments.even_private)
    return await originate.request(store, origin, _expect(document, arguments), about=incident)


def _expect(document: Document, arguments: argparse.Namespace) -> Document:
    return originate.expect(document, arguments.action, text=arguments.text)


async def _respond(call: _Call) -> Originated:
    arguments, store = call.arguments, call.store
    found = await _request_meant(call)
    asked = await with_original(store, found.id)
    wanted = dict.fromkeys(one.action for one in asked.document.expectations)
    outcome = _outcome(arguments)
    if bool(arguments.action) is not (outcome is Outcome.PARTLY):
        raise UsageError("--partly and --action belong together: --partly --action ACTION")
    strange = [one for one in arguments.action if one not in wanted]
    if strange:
        raise UsageError(f"--action {strange[0]}: was not asked for; asked for: {', '.join(wanted)}")
    return await originate.respond(
        store,
        call.origin(asked.host, (asked.peer,)),
        asked,
        outcome=outcome,
        text=" ".join(part for part in (arguments.declined, arguments.text) if part),
        actions=tuple(arguments.action),
        again=arguments.again,
    )


def _outcome(arguments: argparse.Namespace) -> Outcome:
    if arguments.done:
        return Outcome.DONE
    return Outcome.PARTLY if arguments.partly else Outcome.DECLINED


async def _request_meant(call: _Call) -> Interaction:
    """The one request that the operator named, where several are possible the one that is not answered."""
    start = call.arguments.request
    found = await requests_like(call.store, call.hosts(), start)
    if not found:
        raise NotFoundError(
            f"no request has an id that begins with {start}; see: incident-bridge incidents show ID"
        )
    waiting = [one for one in found if one.outcome is None] if len(found) > 1 else found
    if len(waiting) == 1:
        return waiting[0]
    lines = "\n".join(f"  {one.id}  {one.peer}  {one.outcome or 'waits for an answer'}" for one in found)
    raise NotFoundError(f"{count(len(found), 'request')} may be meant; name one by its own id:\n{lines}")
