"""`abuse act`: suspend accounts of ours that users reported."""

import argparse
import asyncio

from bridge.cli.abuse_find import find_one
from bridge.cli.acting import actor, add_end, decided, end_of, now_utc
from bridge.cli.approvals import finish, prosody, wait
from bridge.cli.arguments import Commands, UsageError, command
from bridge.cli.mitigations import say_preview
from bridge.cli.output import Terminal
from bridge.cli.stored import opened
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError
from bridge.pipeline import abuse_act as stories
from bridge.pipeline.ids import new_id
from bridge.pipeline.preview import previewed
from bridge.policy import abuse_act as rules_of
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.decisions import Approval
from bridge.store.connect import Store


def add(inner: Commands, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Declare the command."""
    acting = command(inner, common, "act", act, "suspend an account of ours that users reported")
    acting.add_argument("--suspend", action="append", default=[], metavar="JID",
                        help="which account; may be repeated")  # fmt: skip
    acting.add_argument("--reason", default="", metavar="TEXT", help="why, for yourselves")
    acting.add_argument("--preview", action="store_true", help="say what it would touch, and do nothing")
    add_end(acting)
    return acting


def act(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Suspend them, or say what that would touch."""
    if not arguments.suspend:
        raise UsageError("say whom: --suspend JID")
    settings = load_settings(arguments.config)
    one = asyncio.run(_act(settings, arguments))
    return say_preview(one, terminal) if arguments.preview else finish(one, arguments, terminal)


async def _act(settings: Settings, arguments: argparse.Namespace) -> Approval:
    async with opened(settings) as store:
        draft, now = await find_one(store, settings, arguments), now_utc()
        if arguments.preview:
            return await _previewed(store, settings, draft, arguments)
        after = await decided(
            stories.suspend(
                store,
                draft.id,
                arguments.suspend,
                hosts=settings.hosts,
                admins=stories.admins_of(settings.hosts, draft),
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


async def _previewed(
    store: Store, settings: Settings, draft: AbuseDraft, arguments: argparse.Namespace
) -> Approval:
    why, now = rules_of.objection(draft, settings.hosts), now_utc()
    if why is not None:
        raise UsageError(why)
    try:
        targets = rules_of.targets(draft, arguments.suspend, admins=stories.admins_of(settings.hosts, draft))
    except ConfigError as error:
        raise UsageError(str(error)) from None
    made = Approval(
        id="", host=draft.domain, incident_id="", request=None, requester="", targets=targets, created_at=now,
        expires_at=now,
    )  # fmt: skip
    async with prosody(settings) as server:
        return await previewed(store, server, made, rules=settings.policy, now=now)
