"""What the command groups share when they declare themselves."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.cli.output import Terminal
from bridge.errors import ConfigError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (argparse names the type no other way)
else:
    Commands = object


NO_FILE = "no configuration file was read; name it with --config or INCIDENT_BRIDGE_CONFIG"


class UsageError(ConfigError):
    """What was typed cannot be done; the configuration is not to blame."""


Run = Callable[[argparse.Namespace, Terminal], int]


def command(
    commands: "Commands", common: argparse.ArgumentParser, name: str, run: Run, summary: str
) -> argparse.ArgumentParser:
    """Declare one command; `summary` is its line in the help and the first line of its own."""
    parser = commands.add_parser(
        name,
        parents=[common],
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def group(commands: "Commands", common: argparse.ArgumentParser, name: str, summary: str) -> "Commands":
    """Declare a command that has commands of its own."""
    parser = commands.add_parser(name, parents=[common], help=summary, allow_abbrev=False)
    return parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
