"""`approvals list|show|approve|decline`: a yes or no to what other servers ask for.

House rule: what is asked for was written by a peer, so it reaches the terminal only through `cell`.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bridge.cli.acting import actor, add_end, decided, end_of, now_utc, one_like, watched
from bridge.cli.arguments import Commands, command, group
from bridge.cli.lookalike import address_cell
from bridge.cli.output import Exit, Terminal, cell, count, moment
from bridge.cli.stored import hosts_of, members, opened, records
from bridge.config import Settings, load_settings
from bridge.errors import UnavailableError
from bridge.pipeline import approve as stories
from bridge.pipeline.preview import Server, refresh
from bridge.policy.decisions import Approval, ApprovalState, Target, TargetState
from bridge.policy.effects import effects, would
from bridge.store import keys
from bridge.store.connect import Store
from bridge.webhooks.event import plain

_LABEL = 12
_MOST = 500
_GOOD = {ApprovalState.DONE}


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(
        commands, common, "approvals", "what waits for your yes or no: list, show, approve, decline"
    )
    listing = command(inner, common, "list", list_approvals, "list what waits for a yes or no")
    listing.add_argument("--all", action="store_true", help="also what was decided, newest first")
    listing.add_argument("--host", help="only what this host was asked for")
    showing = command(inner, common, "show", show, "show what is asked for, and what it would touch here")
    _add_id(showing)
    showing.add_argument("--refresh", action="store_true", help="ask Prosody anew what it would touch")
    approving = command(inner, common, "approve", approve, "say yes: it is carried out at once")
    _add_id(approving)
    approving.add_argument("--only", nargs="+", action="extend", metavar="ADDRESS", help="only these of them")
    add_end(approving)
    declining = command(inner, common, "decline", decline, "say no, and why; the server that asked is told")
    _add_id(declining)
    declining.add_argument("--reason", required=True, metavar="TEXT", help="why; it is sent as you write it")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="its id, or enough of its beginning")
    parser.add_argument("--host", help="only if this host was asked")


def list_approvals(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print what waits for an operator."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    found = asyncio.run(_list(settings, hosts, terminal, is_all=arguments.all))
    if terminal.is_json:
        terminal.json({"approvals": plain(found)})
        return Exit.OK
    if not found:
        terminal.say("Nothing was asked for yet." if arguments.all else "Nothing waits for your yes or no.")
        return Exit.OK
    rows = [
        (one.id, address_cell(one.requester) if one.requester else "(unasked)", _what(one.targets), one.state,
         one.created_at, one.decided_by or f"expires {moment(one.expires_at)}")
        for one in found
    ]  # fmt: skip
    terminal.table(("ID", "ASKED BY", "WHAT", "STATE", "SINCE", "DECIDED BY"), rows)
    waiting = [one for one in found if one.state is ApprovalState.OPEN]
    if waiting:
        advice = "To see what it would touch: incident-bridge approvals show"
        terminal.say(
            f"\n{count(len(waiting), 'request waits', 'requests wait')}. {advice} {waiting[0].id[:6]}"
        )
    return Exit.OK


async def _list(
    settings: Settings, hosts: Sequence[str], terminal: Terminal, *, is_all: bool
) -> list[Approval]:
    found: list[Approval] = []
    async with opened(settings) as store:
        for host in hosts:
            index = keys.approvals(host) if is_all else keys.approvals_open(host)
            ids = [member async for page in members(store, index) for member in page]
            if len(ids) > _MOST:
                terminal.say(f"{host} has {len(ids)}; these are the newest {_MOST}.")
                del ids[_MOST:]
            some = await records(store, [keys.approval(one) for one in ids])
            found += [one for one in some if isinstance(one, Approval)]
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def _what(targets: Sequence[Target]) -> str:
    possible = [would(one) for one in targets if one.type is not None]
    rest = len(targets) - len(possible)
    words = possible[:2] + ([f"and {len(possible) - 2} more"] if len(possible) > 2 else [])  # noqa: PLR2004
    if rest:
        words.append(count(rest, "thing we cannot do", "things we cannot do"))
    return ", ".join(words) or "nothing that it names"


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print one approval with its preview."""
    settings = load_settings(arguments.config)
    one = asyncio.run(_show(settings, arguments, terminal))
    if terminal.is_json:
        terminal.json(plain(one))
    else:
        print_approval(one, terminal)
    return Exit.OK


async def _show(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> Approval:
    async with opened(settings) as store:
        one = await _find(store, settings, arguments)
        if not arguments.refresh:
            return one
        async with prosody(settings) as server:
            try:
                return await refresh(store, server, one, rules=settings.policy, now=now_utc())
            except UnavailableError as error:
                terminal.say(f"What it would touch now is not known: {error}")
                return one


@asynccontextmanager
async def prosody(settings: Settings) -> AsyncIterator[Server]:
    """The hosts' Prosodys, for what a command asks itself."""
    import aiohttp

    from bridge.clients.prosody import ProsodyClient

    async with aiohttp.ClientSession() as session:
        yield ProsodyClient(settings.hosts, session)


async def _find(store: Store, settings: Settings, arguments: argparse.Namespace) -> Approval:
    hosts = hosts_of(settings, arguments.host)
    return await one_like(
        store, arguments.id, hosts=hosts, kind=Approval, name=keys.approval, index=keys.approvals
    )


def print_approval(one: Approval, terminal: Terminal) -> None:
    """Print what is asked for, of whom, what it would touch, and what was decided."""
    terminal.line(terminal.marked(f"Approval {cell(one.id)}", "title"))
    asked_by = address_cell(one.requester) if one.requester else "nobody: you act unasked"
    for label, value in (
        ("Asked by", asked_by),
        ("On", one.host),
        ("Incident", one.incident_id),
        ("Named by", " ".join(one.feeds)),
        (
            "Reported",
            f"by your users; see: incident-bridge abuse show {one.draft_id[:8]}" if one.draft_id else "",
        ),
        ("State", one.state),
        ("Since", moment(one.created_at)),
        ("Expires", moment(one.expires_at) if one.state is ApprovalState.OPEN else ""),
        ("Decided by", _decided(one)),
        ("Reason", one.reason),
        ("Previewed", moment(one.previewed_at) if one.previewed_at else ""),
    ):
        if value:
            terminal.line(f"  {label:{_LABEL}} {cell(value)}")
    terminal.title("What is asked for")
    for target in one.targets:
        for line in _lines(target):
            terminal.line(f"  {line}")
    if one.state is ApprovalState.OPEN:
        _advise(one, terminal)


def _decided(one: Approval) -> str:
    if not one.decided_by:
        return ""
    where = f" from {one.decided_from}" if one.decided_from else ""
    return f"{one.decided_by}{where}, {moment(one.decided_at)}"


def _lines(target: Target) -> list[str]:
    named = f"{target.action} of {address_cell(target.address)}" if target.address else target.action
    if target.type is None:
        return [cell(f"{named}: nothing we can do: {target.reason}")]
    head = f"{would(target)}: {target.state}"
    more = [f"  {cell(text)}" for text in effects(target)]
    if target.second_yes:
        more.append(f"  protected: {cell(target.second_yes)}")
    if target.reason and target.state is TargetState.FAILED:
        more.append(f"  {cell(target.reason)}")
    if target.mitigation_id:
        more.append(f"  mitigation {cell(target.mitigation_id)}")
    return [cell(head), *more]


def _advise(one: Approval, terminal: Terminal) -> None:
    terminal.line()
    if any(target.state is TargetState.OFFERED for target in one.targets):
        protected = any(target.second_yes for target in one.targets)
        more = " --yes-protected" if protected else ""
        terminal.say(f"Yes: incident-bridge approvals approve {one.id[:8]}{more}, or a part: --only ADDRESS")
    terminal.say(f"No: incident-bridge approvals decline {one.id[:8]} --reason TEXT")


def approve(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Say yes."""
    settings = load_settings(arguments.config)
    return finish(asyncio.run(_approve(settings, arguments)), arguments, terminal)


async def _approve(settings: Settings, arguments: argparse.Namespace) -> Approval:
    async with opened(settings) as store:
        known, now = await _find(store, settings, arguments), now_utc()
        after = await decided(
            stories.approve(
                store,
                known,
                arguments.only,
                actor=actor(),
                rules=settings.policy,
                now=now,
                expires_at=end_of(arguments, now),
                second_yes=arguments.yes_protected,
            )
        )
        return await wait(store, after, seconds=arguments.wait)


async def wait(store: Store, one: Approval, *, seconds: float) -> Approval:
    """Wait for what comes of an approval."""
    if not seconds:
        return one
    return await watched(
        lambda: stories.loaded(store, one.id),
        lambda now: now.state is not ApprovalState.APPROVED,
        seconds=seconds,
    )


def finish(one: Approval, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Say what came of a yes."""
    if terminal.is_json:
        terminal.json(plain(one))
    else:
        for target in one.targets:
            for line in _lines(target):
                terminal.line(line)
        if one.state is ApprovalState.APPROVED:
            terminal.say(f"It is being carried out. To see it: incident-bridge approvals show {one.id[:8]}")
        ids = [target.mitigation_id for target in one.targets if target.state is TargetState.APPLIED]
        if ids:
            one_of_them = (ids[0] or "")[:8] if len(ids) == 1 else "ID"
            terminal.say(f"To take it back: incident-bridge mitigations lift {one_of_them}")
    return Exit.OK if one.state in _GOOD or not arguments.wait else Exit.NO


def decline(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Say no."""
    settings = load_settings(arguments.config)
    one = asyncio.run(_decline(settings, arguments))
    if terminal.is_json:
        terminal.json(plain(one))
    else:
        terminal.say(f"Declined; {address_cell(one.requester)} is told why.")
    return Exit.OK


async def _decline(settings: Settings, arguments: argparse.Namespace) -> Approval:
    async with opened(settings) as store:
        known = await _find(store, settings, arguments)
        return await decided(
            stories.decline(store, known, actor=actor(), reason=arguments.reason, now=now_utc())
        )
