"""`incidents due`: what is next with those who were told and did not answer."""

import argparse
import asyncio
from datetime import UTC, datetime

from bridge.cli.arguments import Commands, command
from bridge.cli.incident_page import step_commands, step_text
from bridge.cli.output import Exit, Terminal
from bridge.cli.stored import hosts_of, opened
from bridge.config import Settings, load_settings
from bridge.log import visible
from bridge.pipeline.due import due
from bridge.policy.clock import NextStep
from bridge.webhooks.event import plain


def add_due(inner: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    made = command(inner, common, "due", _run, "what is next with those who were told and did not answer")
    made.add_argument("--all", action="store_true", help="also what is due later")
    made.add_argument("--host", help="only what this host reported")


def _run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    settings = load_settings(arguments.config)
    now = datetime.now(UTC)
    found = asyncio.run(_due(settings, hosts_of(settings, arguments.host)))
    shown = [one for one in found if arguments.all or one.at <= now]
    if terminal.is_json:
        terminal.json(
            {"due": [{**plain(one), "command": one.command, "log_command": one.log_command} for one in shown]}
        )
        return Exit.OK
    for one in shown:
        terminal.line(f"{visible(one.incident_id)}  {step_text(one)}")
        for line in step_commands(one):
            terminal.line(f"    {line}")
    if not shown:
        later = f"; later: {len(found)}, see --all" if found else ""
        terminal.say(f"Nothing is due{later}.")
    return Exit.OK


async def _due(settings: Settings, hosts: list[str]) -> tuple[NextStep, ...]:
    async with opened(settings) as store:
        return await due(store, hosts, rules=settings.policy)
