"""`login-link`: a link that signs in to the console, for whoever may read the configuration."""

import argparse
import asyncio
import getpass
from datetime import UTC, datetime

from bridge.cli.arguments import Commands, command
from bridge.cli.output import Exit, Terminal
from bridge.cli.stored import hosts_of, opened
from bridge.config import Settings, load_settings
from bridge.pipeline.sign_in import make_link
from bridge.policy.sessions import Role
from bridge.policy.sign_in import LINK_SECONDS


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    link = command(commands, common, "login-link", login_link, "print a link that signs in to the console")
    link.add_argument("--host", help="only for this host")
    link.add_argument("--viewer", action="store_true", help="to look, and change nothing")


def login_link(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print a link; it is good once, for five minutes."""
    settings = load_settings(arguments.config)
    role = Role.VIEWER if arguments.viewer else Role.APPROVER
    hosts = dict.fromkeys(hosts_of(settings, arguments.host), role)
    who = f"cli:{getpass.getuser()}"
    word = asyncio.run(_make(settings, who, hosts))
    base = settings.server.public_url or f"http://{settings.server.listen}"
    url = f"{base}/sign-in/link/{word}"
    if terminal.is_json:
        terminal.json({"url": url, "valid_seconds": LINK_SECONDS, "role": role})
        return Exit.OK
    terminal.line(url)
    terminal.say(
        f"Good once, for {LINK_SECONDS // 60} minutes. Open it in your browser; pass it on to nobody."
    )
    return Exit.OK


async def _make(settings: Settings, who: str, hosts: dict[str, Role]) -> str:
    async with opened(settings) as store:
        _, word = await make_link(store, who, hosts, now=datetime.now(UTC))
        return word
