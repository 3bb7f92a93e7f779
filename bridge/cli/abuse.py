"""`abuse list|show|send|act|dismiss`: what users of this server report about others (XEP-0377), and a yes or no to it.

House rule: what users wrote reaches the terminal only through `cell`.
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

from bridge.cli import abuse_act
from bridge.cli.abuse_find import drafts, find_one
from bridge.cli.acting import actor, days, decided, now_utc
from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.lookalike import address_cell
from bridge.cli.output import Exit, Terminal, cell, count, moment
from bridge.cli.stored import hosts_of, opened
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError
from bridge.pipeline import abuse as stories
from bridge.pipeline import abuse_lists, feeds
from bridge.pipeline.drafts import Origin
from bridge.pipeline.ids import new_id
from bridge.policy import abuse
from bridge.policy import abuse_act as abuse_rules
from bridge.policy.abuse_record import AbuseDraft, Accused, DraftState
from bridge.policy.feed import Claim
from bridge.policy.mitigation import ProtectedError
from bridge.webhooks.event import plain

Named = Mapping[str, Sequence[Claim]]
"""The lists of others that name an address."""
_LABEL = 12


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(commands, common, "abuse", "what your users report: list, show, send, act, dismiss")
    listing = command(inner, common, "list", list_drafts, "list what users report and waits for you")
    listing.add_argument("--all", action="store_true", help="also what you decided about")
    listing.add_argument("--host", help="only what users of this host report")
    showing = command(inner, common, "show", show, "show what users report, and what would be sent")
    sending = command(inner, common, "send", send, "say yes: send it to the domain that it is about")
    sending.add_argument("--with-words", action="store_true", help="also what users wrote who agreed to it")
    sending.add_argument("--list", action="store_true", dest="is_listing",
                         help="list the accounts, too, of which a user agreed that others be told")  # fmt: skip
    sending.add_argument("--list-days", type=days, metavar="N",
                         help="take them off after so many days (default: policy.mitigation_days)")  # fmt: skip
    sending.add_argument(
        "--yes-protected", action="store_true", help="the second yes that listing protected names needs"
    )
    acting = abuse_act.add(inner, common)
    dismissing = command(inner, common, "dismiss", dismiss, "say no: nothing is sent, and it is counted anew")
    for parser in (showing, sending, acting, dismissing):
        parser.add_argument("id", metavar="ID", help="its id, or enough of its beginning, or the domain")
        parser.add_argument("--host", help="only of users of this host")


def list_drafts(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print what users report."""
    settings = load_settings(arguments.config)
    hosts = hosts_of(settings, arguments.host)
    found = asyncio.run(_list(settings, hosts, is_all=arguments.all))
    if terminal.is_json:
        terminal.json({"drafts": [abuse.shown(one) for one in found]})
        return Exit.OK
    if not found:
        terminal.say("Your users reported nothing yet." if arguments.all else "Nothing waits for you.")
        return Exit.OK
    rows = [
        (one.id, address_cell(one.domain), one.kind, one.reports, "-" if one.is_own else one.agreed, one.state,
         one.last_at)
        for one in found
    ]  # fmt: skip
    terminal.table(("ID", "ABOUT", "KIND", "REPORTS", "MAY BE SENT", "STATE", "LAST"), rows)
    waiting = [one for one in found if one.state is DraftState.OPEN]
    if waiting:
        terminal.say(f"\nTo see what they report: incident-bridge abuse show {waiting[0].id[:6]}")
    return Exit.OK


async def _list(settings: Settings, hosts: Sequence[str], *, is_all: bool) -> list[AbuseDraft]:
    async with opened(settings) as store:
        return await drafts(store, hosts, is_all=is_all)


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print one draft."""
    settings = load_settings(arguments.config)
    draft, named = asyncio.run(_show(settings, arguments))
    if terminal.is_json:
        terminal.json({**abuse.shown(draft), "named_by": plain(named)})
        return Exit.OK
    print_draft(draft, named, terminal)
    return Exit.OK


async def _show(settings: Settings, arguments: argparse.Namespace) -> tuple[AbuseDraft, Named]:
    async with opened(settings) as store:
        draft = await find_one(store, settings, arguments)
        return draft, (await feeds.about(store, [draft]))[draft.id]


def print_draft(draft: AbuseDraft, named: Named, terminal: Terminal) -> None:
    """Print whom users accuse, which lists name these too, what users wrote, and what a yes would do."""
    terminal.line(
        terminal.marked(f"Users of {cell(draft.host)} report {cell(abuse.headline(draft))}", "title")
    )
    users = count(draft.reporters, "user")
    passed = "" if draft.is_own else f"; {draft.agreed} may be passed on to {draft.domain}"
    for label, value in (
        ("Id", draft.id),
        ("State", draft.state),
        ("Reports", f"{draft.reports} by {users}{passed}"),
        ("First", moment(draft.first_at)),
        ("Last", moment(draft.last_at)),
        ("Decided by", f"{draft.decided_by}, {moment(draft.decided_at)}" if draft.decided_by else ""),
        ("Incident", draft.incident_id or ""),
    ):
        if value:
            terminal.line(f"  {label:{_LABEL}} {cell(value)}")
    terminal.title("Whom")
    for one in draft.accused:
        lists = [f"named by {count(len(named[one.jid]), 'list')}"] if one.jid in named else []
        terminal.line(f"  {address_cell(one.jid)}: {', '.join(_told_of(draft, one) + lists)}")
        if one.resources:
            nicks = "  ".join(cell(f"…/{each}") for each in one.resources)
            terminal.line(f"    reported as {nicks}: if that is a room, it is somebody in it")
    if draft.left_out:
        terminal.line(f"  and {count(draft.left_out, 'report')} about others there")
    if draft.domain in named:
        terminal.title("Lists that name the whole server")
    for claim in named.get(draft.domain, ()):
        terminal.line(f"  {cell(claim.url)}  since {moment(claim.since)} or before")
    if draft.words:
        terminal.title("What users wrote")
    for words in draft.words:
        agreed = "" if words.agreed or draft.is_own else " (not to be passed on)"
        terminal.line(f"  about {address_cell(words.jid)}{agreed}: {cell(words.text)}")
    _advise(draft, terminal)


def _told_of(draft: AbuseDraft, one: Accused) -> list[str]:
    found = [count(one.reports, "report")]
    if one.more:
        found.append(f"{one.more} more by users who may be the same")
    if not draft.is_own:
        found.append(f"{one.agreed} may be passed on")
    if one.is_admin:
        found.append("an admin of this server")
    if one.jid in draft.acted:
        found.append("you suspended it")
    return found


def _advise(draft: AbuseDraft, terminal: Terminal) -> None:
    terminal.line()
    why = abuse.objection(draft)
    for one in draft.accused:
        if one.may_be_room:
            terminal.say(
                f"All reports of {address_cell(one.jid)} name it with something behind it: "
                "this may be a room, not a person."
            )
    if why is None:
        terminal.say(f"Yes: incident-bridge abuse send {draft.id[:8]}")
        if may_be := abuse.may_be_listed(draft):
            also = count(len(may_be), "account")
            terminal.say(f"Yes, and list {also} for others to load: add --list")
    else:
        terminal.say(f"It cannot be sent: {cell(why)}")
    if (
        draft.is_own
        and abuse_rules.objection(draft, {draft.domain}) is None
        and abuse_rules.suspendable(draft, ())
    ):
        terminal.say(
            f"To suspend an account: incident-bridge abuse act {draft.id[:8]} --suspend JID --preview"
        )
    if draft.state is DraftState.OPEN:
        terminal.say(f"No: incident-bridge abuse dismiss {draft.id[:8]}")


def send(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Say yes."""
    if arguments.list_days is not None and not arguments.is_listing:
        raise UsageError("--list-days goes with --list")
    settings = load_settings(arguments.config)
    try:
        draft, listed = asyncio.run(_send(settings, arguments))
    except ProtectedError as error:
        raise UsageError(f"nothing was sent: {error}; if you mean it: --yes-protected") from None
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if terminal.is_json:
        terminal.json({**abuse.shown(draft), "listed": list(listed)})
        return Exit.OK
    terminal.say(f"It is being sent to {address_cell(draft.domain)}.")
    if arguments.is_listing:
        _say_listed(settings, draft, listed, terminal)
    terminal.say(f"To see what comes of it: incident-bridge incidents show {cell(draft.incident_id)}")
    return Exit.OK


def _say_listed(settings: Settings, draft: AbuseDraft, listed: Sequence[str], terminal: Terminal) -> None:
    for one in listed:
        terminal.say(f"{address_cell(one)} is on the list of {cell(draft.host)}.")
    if not listed:
        terminal.say(
            "Nobody is listed: no user agreed that others be told, or the list says otherwise already; "
            "see: incident-bridge lists show"
        )
    elif not settings.hosts[draft.host].publish_lists:
        terminal.say(f'Nothing is published yet: set publish_lists = true in [hosts."{draft.host}"].')


async def _send(settings: Settings, arguments: argparse.Namespace) -> tuple[AbuseDraft, tuple[str, ...]]:
    now = now_utc()
    end = None if arguments.list_days is None else now + timedelta(days=arguments.list_days)
    wish = abuse_lists.Wish(rules=settings.policy, expires_at=end, second_yes=arguments.yes_protected)
    async with opened(settings) as store:
        draft = await find_one(store, settings, arguments)
        origin = Origin(host=draft.host, to=(), now=now, new_id=new_id, actor=actor())
        await stories.send(
            store,
            origin,
            draft.id,
            with_words=arguments.with_words,
            wish=wish if arguments.is_listing else None,
        )
        after = await stories.find(store, draft.id)
        return after, await abuse_lists.listed(store, after)


def dismiss(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Say no."""
    settings = load_settings(arguments.config)
    draft = asyncio.run(_dismiss(settings, arguments))
    if terminal.is_json:
        terminal.json(abuse.shown(draft))
    else:
        terminal.say("Dismissed; nothing is sent. What users report from now on is counted anew.")
    return Exit.OK


async def _dismiss(settings: Settings, arguments: argparse.Namespace) -> AbuseDraft:
    async with opened(settings) as store:
        draft = await find_one(store, settings, arguments)
        return await decided(stories.dismiss(store, draft.id, actor=actor(), now=now_utc()))
