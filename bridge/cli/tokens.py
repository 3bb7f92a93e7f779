"""`tokens create|list|revoke`: who may use the API, and for what."""

import argparse
import asyncio
from datetime import UTC, datetime, timedelta

from bridge.cli.arguments import Commands, UsageError, command, group
from bridge.cli.consumers import actor, misused
from bridge.cli.output import Exit, Terminal, count
from bridge.cli.stored import NotFoundError, hosts_of, opened
from bridge.config import Settings, load_settings
from bridge.errors import ConfigError, MalformedError
from bridge.pipeline import tokens
from bridge.policy.consumers import Scope, Token
from bridge.store.connect import Store
from bridge.webhooks.event import plain

_LABEL = 10
_MOST_DAYS = 3650


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(commands, common, "tokens", "tokens of the API: create, list, revoke")
    creating = command(inner, common, "create", create, "make a token; prints it this once")
    creating.add_argument("name", metavar="NAME", help="who will use it; the audit log calls it so")
    creating.add_argument("--scope", action="append", required=True, choices=[str(one) for one in Scope],
                          help="what it may do; may be repeated")  # fmt: skip
    creating.add_argument("--host", action="append", default=[],
                          help="only for this host; may be repeated (default: all)")  # fmt: skip
    creating.add_argument(
        "--expires-days", type=_days, metavar="N", help="good for so long (default: for ever)"
    )
    command(inner, common, "list", list_tokens, "list the tokens, without what is secret of them")
    revoking = command(inner, common, "revoke", revoke, "make a token worthless, at once")
    revoking.add_argument("token", metavar="ID|NAME", help="its id, or its name")


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"is a number of days from 1 to {_MOST_DAYS}")
    return int(text)


def create(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Make a token and print it."""
    settings = load_settings(arguments.config)
    hosts = [hosts_of(settings, host)[0] for host in arguments.host]
    hosts_of(settings, None)  # says so if there is no configuration at all
    token, text = asyncio.run(_create(settings, arguments, hosts))
    if terminal.is_json:
        terminal.json({**_plain(token), "token": text})
    else:
        terminal.line(f"{'id':{_LABEL}} {token.id}")
        terminal.line(f"{'token':{_LABEL}} {text}")
    terminal.say("The token is not shown again. It goes into the header: Authorization: Bearer ib_…")
    return Exit.OK


async def _create(settings: Settings, arguments: argparse.Namespace, hosts: list[str]) -> tuple[Token, str]:
    now = datetime.now(UTC)
    days = arguments.expires_days
    async with opened(settings) as store:
        try:
            return await tokens.create(
                store,
                name=arguments.name,
                scopes=[Scope(one) for one in arguments.scope],
                hosts=hosts,
                expires_at=None if days is None else now + timedelta(days=days),
                actor=actor(),
                now=now,
            )
        except MalformedError as error:
            raise misused(error) from None
        except ConfigError as error:
            raise UsageError(str(error)) from None


def list_tokens(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print every token."""
    settings = load_settings(arguments.config)
    hosts_of(settings, None)
    found = asyncio.run(_load(settings))
    if terminal.is_json:
        terminal.json({"tokens": [_plain(one) for one in found]})
        return Exit.OK
    if not found:
        terminal.say("There is no token. To make one: incident-bridge tokens create NAME --scope read")
        return Exit.OK
    rows = [
        (one.id, one.name, " ".join(one.scopes), " ".join(one.hosts) or "all", one.created_at, _standing(one))
        for one in found
    ]
    terminal.table(("TOKEN", "NAME", "SCOPES", "HOSTS", "MADE", "NOW"), rows)
    return Exit.OK


async def _load(settings: Settings) -> list[Token]:
    async with opened(settings) as store:
        return await tokens.all_tokens(store)


def _standing(token: Token) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is None:
        return "good"
    is_good = tokens.is_good(token, now=datetime.now(UTC))
    return f"{'good until' if is_good else 'expired'} {token.expires_at:%Y-%m-%d}"


def revoke(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Revoke a token."""
    settings = load_settings(arguments.config)
    hosts_of(settings, None)
    token = asyncio.run(_revoke(settings, arguments.token.strip()))
    if terminal.is_json:
        terminal.json(_plain(token))
    else:
        terminal.say(f"{token.name} ({token.id}) is revoked.")
    return Exit.OK


async def _revoke(settings: Settings, wanted: str) -> Token:
    async with opened(settings) as store:
        token = await _one_token(store, wanted)
        return await tokens.revoke(store, token, actor=actor(), now=datetime.now(UTC))


async def _one_token(store: Store, wanted: str) -> Token:
    if wanted.startswith("ib_"):
        raise UsageError("name the token by its id or name, not by itself: what is typed may be seen")
    found = await tokens.all_tokens(store)
    named = [one for one in found if one.id == wanted.casefold()] or [
        one for one in found if one.name == wanted and one.revoked_at is None
    ]
    if len(named) == 1:
        return named[0]
    problem = f"{count(len(named), 'token')} are called {wanted}" if named else f"no token is called {wanted}"
    raise NotFoundError(f"{problem}; to see them: incident-bridge tokens list")


def _plain(token: Token) -> dict[str, object]:
    shown: dict[str, object] = plain(token)
    for hidden in ("digest", "version"):
        del shown[hidden]
    shown["is_good"] = tokens.is_good(token, now=datetime.now(UTC))
    return shown
