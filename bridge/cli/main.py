"""The command `incident-bridge`: reads the arguments, runs one command, turns errors into sentences and exit codes.

House rules: a file per group of commands, each with `add(commands)`; nothing heavy is imported before it is needed.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from bridge import log
from bridge.cli.arguments import UsageError
from bridge.cli.output import Exit, Terminal, terminal
from bridge.errors import BridgeError, ConfigError, UnavailableError

_EPILOG = """\
exit codes: 0 it is so · 1 no, or refused · 2 wrong usage or configuration · 3 something cannot be reached
first steps: incident-bridge config default > config.toml, then incident-bridge up --config config.toml
"""
_INTERRUPTED = 130
_PROGRAM = "incident-bridge"
_GROUPS = {
    "abuse": ("abuse",),
    "approvals": ("approvals",),
    "services": ("up", "serve", "worker"),
    "check": ("check",),
    "config": ("config",),
    "incidents": ("incidents",),
    "mitigations": ("mitigations",),
    "lists": ("lists",),
    "feeds": ("feeds",),
    "login": ("login-link",),
    "letter": ("letter",),
    "originate": ("report", "inquire", "request", "respond"),
    "peers": ("peers",),
    "endpoints": ("endpoints",),
    "deliveries": ("deliveries",),
    "events": ("events",),
    "tokens": ("tokens",),
    "verify": ("verify",),
    "listen": ("listen",),
    "validate": ("validate",),
    "completion": ("completion",),
    "manual": ("man",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every way out is one of the documented exit codes."""
    arguments = parser(_command(argv)).parse_args(argv)
    log.configure(arguments.log_format, arguments.log_level)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no … must not stop us
    screen = terminal(is_json=arguments.json, config=arguments.config)
    try:
        code = int(arguments.run(arguments, screen))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BridgeError as error:
        return explain(error, screen)
    return code


def explain(error: BridgeError, screen: Terminal) -> int:
    """Say what went wrong, on stderr, and return the exit code for it."""
    match error:
        case UsageError():
            screen.say(f"incident-bridge: {error}")
            return Exit.USAGE
        case ConfigError():
            screen.say(f"incident-bridge: this configuration cannot be used:\n{error}")
            return Exit.USAGE
        case UnavailableError():
            screen.say(
                f"incident-bridge: cannot reach what is needed: {error}\nTo see what is wrong: incident-bridge check"
            )
            return Exit.UNREACHABLE
        case _:
            screen.say(f"incident-bridge: {error}")
            return Exit.NO


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """Build the parser; the common options work before and after the command.

    Args:
        command: the command that will be parsed, if known: only its group is imported then.
    """
    common = argparse.ArgumentParser(add_help=False)
    _common(common, is_default=False)
    root = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Incident reports between XMPP servers (XEP-0268), for Prosody.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _common(root, is_default=True)
    root.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = root.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for group, names in _GROUPS.items():
        if command in names or not _is_known(command):
            import_module(f"bridge.cli.{group}").add(commands, common)
    return root


def _is_known(command: str | None) -> bool:
    return any(command in names for names in _GROUPS.values())


def _command(argv: Sequence[str] | None) -> str | None:
    """Find the first word that is no option, without knowing any command."""
    scout = argparse.ArgumentParser(prog=_PROGRAM, add_help=False, allow_abbrev=False)
    _common(scout, is_default=True)
    scout.add_argument("command", nargs="?")
    command: str | None = scout.parse_known_args(argv)[0].command
    return command


def _common(to: argparse.ArgumentParser, *, is_default: bool) -> None:
    def default(value: object) -> object:
        return value if is_default else argparse.SUPPRESS

    to.add_argument(
        "--config", type=Path, metavar="FILE", default=default(None), help="the configuration, TOML"
    )
    to.add_argument(
        "--json", action="store_true", default=default(value=False), help="print JSON for programs"
    )
    to.add_argument(
        "--log-format", choices=("auto", "human", "json"), default=default("auto"), help="of messages"
    )
    levels = ("debug", "info", "warning", "error")
    to.add_argument("--log-level", choices=levels, default=default("info"), help="what to log (default info)")


class _Version(argparse.Action):
    """Looks the version up only when asked, because that takes as long as a whole command."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("prosody-incident-bridge")
        except PackageNotFoundError:
            found = "(not installed)"
        print(f"{_PROGRAM} {found}")
        parser.exit()
