"""`mitigations list|show|lift`, `incidents act`: what is done on our server, and taking it back."""

import argparse
import asyncio
from collections.abc import Sequence

from bridge.cli.acting import actor, add_end, add_wait, decided, end_of, now_utc, one_like, watched
from bridge.cli.approvals import finish, prosody, wait
from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.output import Exit, Terminal, cell, moment
from bridge.cli.stored import hosts_of, members, one_incident, opened, records
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError
from bridge.pipeline import approve as stories
from bridge.pipeline.ids import new_id
from bridge.pipeline.preview import previewed
from bridge.policy.approval import own_target
from bridge.policy.decisions import Approval, Mitigation, MitigationState, MitigationType, Target
from bridge.policy.effects import effects, would
from bridge.policy.mitigation import about, may_be_lifted
from bridge.policy.record import Incident
from bridge.store import keys
from bridge.store.connect import Store
from bridge.webhooks.event import plain

_LABEL = 12
_MOST = 1000


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands about mitigations."""
    inner = group(commands, common, "mitigations", "what is done on our server: list, show, lift")
    listing = command(inner, common, "list", list_mitigations, "list what is in force")
    listing.add_argument("--all", action="store_true", help="also what is over, or failed")
    listing.add_argument("--host", help="only on this host")
    showing = command(inner, common, "show", show, "show one mitigation, whole")
    _add_id(showing)
    lifting = command(inner, common, "lift", lift, "take a mitigation back; the server that asked is told")
    _add_id(lifting)
    lifting.add_argument("--reason", default="", metavar="TEXT", help="why, for yourselves; it is not sent")
    add_wait(lifting)


def add_act(inner: Commands, common: argparse.ArgumentParser) -> None:
    """Declare `incidents act`."""
    acting = command(inner, common, "act", act, "do something about an incident that nobody asked for")
    acting.add_argument("id", metavar="ID", help="the incident's id, or enough of its beginning")
    acting.add_argument("--suspend", action="append", default=[], metavar="JID",
                        help="suspend an account of ours; may be repeated")  # fmt: skip
    acting.add_argument("--block-domain", action="append", default=[], metavar="DOMAIN",
                        help="block a server, both ways; may be repeated")  # fmt: skip
    acting.add_argument("--ban", action="append", nargs=2, default=[], metavar=("JID", "ROOM"),
                        help="ban a user from a room of ours; may be repeated")  # fmt: skip
    acting.add_argument("--reason", default="", metavar="TEXT", help="why, for yourselves")
    acting.add_argument("--preview", action="store_true", help="say what it would touch, and do nothing")
    acting.add_argument("--host", help="only if the incident was told this host")
    add_end(acting)


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="its id, or enough of its beginning")
    parser.add_argument("--host", help="only on this host")


def list_mitigations(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print what is in force."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    found = asyncio.run(_list(settings, hosts, is_all=arguments.all))
    if terminal.is_json:
        terminal.json({"mitigations": plain(found)})
        return Exit.OK
    if not found:
        terminal.say("Nothing was done yet." if arguments.all else "Nothing is in force.")
        return Exit.OK
    rows = [(one.id, one.type, about(one.type, one.target), one.state, one.by, _end(one)) for one in found]
    terminal.table(("ID", "WHAT", "WHOM", "STATE", "APPROVED BY", "ENDS"), rows)
    terminal.say(f"\nTo take one back: incident-bridge mitigations lift {found[0].id[:8]}")
    return Exit.OK


def _end(one: Mitigation) -> str:
    return moment(one.expires_at) if one.is_active else f"ended {moment(one.ended_at)}"


async def _list(settings: Settings, hosts: Sequence[str], *, is_all: bool) -> list[Mitigation]:
    found: list[Mitigation] = []
    async with opened(settings) as store:
        for host in hosts:
            index = keys.mitigations(host) if is_all else keys.mitigations_active(host)
            ids = [member async for page in members(store, index) for member in page][:_MOST]
            some = await records(store, [keys.mitigation(one) for one in ids])
            found += [one for one in some if isinstance(one, Mitigation)]
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print one mitigation."""
    settings = load_settings(arguments.config)
    one = asyncio.run(_show(settings, arguments))
    if terminal.is_json:
        terminal.json(plain(one))
        return Exit.OK
    terminal.line(terminal.marked(f"Mitigation {cell(one.id)}", "title"))
    for label, value in _fields(one):
        if value:
            terminal.line(f"  {label:{_LABEL}} {cell(value)}")
    if may_be_lifted(one):
        terminal.say(f"To take it back: incident-bridge mitigations lift {one.id[:8]}")
    return Exit.OK


def _fields(one: Mitigation) -> tuple[tuple[str, object], ...]:
    return (
        ("What", one.type),
        ("Whom", about(one.type, one.target)),
        ("On", one.host),
        ("State", one.state),
        ("Approved by", f"{one.by}, {moment(one.created_at)}"),
        ("In force", moment(one.applied_at) if one.applied_at else ""),
        ("Ends", moment(one.expires_at)),
        ("Ended", moment(one.ended_at) if one.ended_at else ""),
        ("Lifted by", one.lifted_by),
        ("Failure", one.failure),
        ("Note", one.note),
        ("Reason", one.reason),
        ("Approval", one.approval_id),
        ("Incident", one.incident_id),
        ("Named by", " ".join(one.feeds)),
        (
            "Reported",
            f"by your users; see: incident-bridge abuse show {one.draft_id[:8]}" if one.draft_id else "",
        ),
    )


async def _show(settings: Settings, arguments: argparse.Namespace) -> Mitigation:
    async with opened(settings) as store:
        return await _find(store, settings, arguments.id, arguments.host)


async def _find(store: Store, settings: Settings, start: str, host: str | None) -> Mitigation:
    hosts = hosts_of(settings, host)
    return await one_like(
        store, start, hosts=hosts, kind=Mitigation, name=keys.mitigation, index=keys.mitigations
    )


def lift(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Take a mitigation back."""
    settings = load_settings(arguments.config)
    one = asyncio.run(_lift(settings, arguments))
    if terminal.is_json:
        terminal.json(plain(one))
    else:
        terminal.line(f"{cell(one.id)}  {cell(about(one.type, one.target))}  {one.state}")
        for text in (one.failure, one.note):
            if text:
                terminal.say(text)
    is_good = one.state is MitigationState.LIFTED or not arguments.wait
    return Exit.OK if is_good else Exit.NO


async def _lift(settings: Settings, arguments: argparse.Namespace) -> Mitigation:
    async with opened(settings) as store:
        known = await _find(store, settings, arguments.id, arguments.host)
        after = await decided(
            stories.lift(store, known, actor=actor(), reason=arguments.reason, now=now_utc())
        )
        if not arguments.wait:
            return after
        return await watched(
            lambda: _find(store, settings, after.id, arguments.host),
            lambda now: now.state is not MitigationState.LIFTING,
            seconds=arguments.wait,
        )


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Do something unasked, or say what it would touch."""
    settings = load_settings(arguments.config)
    one = asyncio.run(_act(settings, arguments))
    if not arguments.preview:
        return finish(one, arguments, terminal)
    return say_preview(one, terminal)


def say_preview(one: Approval, terminal: Terminal) -> int:
    """Say what it would touch; nothing was done."""
    if terminal.is_json:
        terminal.json({"targets": plain(one.targets)})
        return Exit.OK
    for target in one.targets:
        terminal.line(cell(would(target)))
        for text in effects(target):
            terminal.line(f"  {cell(text)}")
        if target.second_yes:
            terminal.line(f"  protected: {cell(target.second_yes)}; it needs --yes-protected")
    terminal.say("Nothing was done. To do it: the same without --preview")
    return Exit.OK


async def _act(settings: Settings, arguments: argparse.Namespace) -> Approval:
    hosts = hosts_of(settings, arguments.host)
    async with opened(settings) as store:
        incident = await one_incident(store, hosts, arguments.id)
        targets, now = _targets(arguments, incident), now_utc()
        if arguments.preview:
            draft = Approval(
                id="", host=incident.host, incident_id=incident.id, request=None, requester="",
                targets=targets, created_at=now, expires_at=now,
            )  # fmt: skip
            async with prosody(settings) as server:
                return await previewed(store, server, draft, rules=settings.policy, now=now)
        after = await decided(
            stories.act(
                store,
                incident,
                targets,
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


def _targets(arguments: argparse.Namespace, incident: Incident) -> tuple[Target, ...]:
    wanted = [(MitigationType.SUSPEND, jid, "") for jid in arguments.suspend]
    wanted += [(MitigationType.BLOCK, domain, "") for domain in arguments.block_domain]
    wanted += [(MitigationType.BAN, jid, room) for jid, room in arguments.ban]
    if not wanted:
        raise UsageError("say what to do: --suspend JID, --block-domain DOMAIN or --ban JID ROOM")
    try:
        found = [
            own_target(incident.host, kind, address=address, room=room) for kind, address, room in wanted
        ]
    except ConfigError as error:
        raise UsageError(str(error)) from None
    return tuple({(one.type, tuple(one.fields.items())): one for one in found}.values())
