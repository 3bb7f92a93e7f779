"""`man`: the manual page, made from the parser, so that it says what the commands do."""

import argparse
import textwrap
from collections.abc import Collection, Iterator
from typing import Final

from bridge.cli.arguments import Commands, command
from bridge.cli.output import Exit, Terminal
from bridge.cli.tree import Node, Option, read

_FILES: Final = (
    (
        "/etc/incident-bridge/config.toml",
        "The configuration, unless --config or INCIDENT_BRIDGE_CONFIG says another.",
    ),
)
_ENVIRONMENT: Final = (
    ("INCIDENT_BRIDGE_CONFIG", "The file of the configuration."),
    ("INCIDENT_BRIDGE_SECTION__KEY", "The setting `key` of a section, instead of what the file says."),
    ("CREDENTIALS_DIRECTORY", "Where secrets lie, as systemd hands them over."),
    ("NO_COLOR", "Print without colours."),
)
_CODES: Final = (
    ("0", "It is so, or it is done."),
    ("1", "No, or refused."),
    ("2", "Wrong usage or configuration."),
    ("3", "Something cannot be reached."),
)
_DESCRIPTION: Final = """\
Handles incident reports between XMPP servers (XEP-0268) for Prosody: stores what peers report, says who may be
believed, answers, carries out what an operator approves, and tells programs by webhooks. Data goes to stdout, messages
to stderr; with --json what is printed is for programs. What peers wrote is shown with control characters as escapes.
"""


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser = command(commands, common, "man", _run, "print the manual page")
    parser.epilog = "To read it: incident-bridge man | man -l -"


def _run(_: argparse.Namespace, terminal: Terminal) -> int:
    from bridge.cli.main import parser  # it imports this

    terminal.line(page(read(parser())).rstrip())
    return Exit.OK


def page(root: Node) -> str:
    """The page, for man(1)."""
    return "\n".join(_lines(root)) + "\n"


def _lines(root: Node) -> Iterator[str]:
    yield '.TH INCIDENT\\-BRIDGE 1 "" "Prosody incident bridge" "User Commands"'
    yield from (
        ".SH NAME",
        f"incident\\-bridge \\- {_text('incident reports between XMPP servers, for Prosody')}",
    )
    yield from (
        ".SH SYNOPSIS",
        ".B incident\\-bridge",
        "[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...",
    )
    yield from (".SH DESCRIPTION", *map(_text, textwrap.wrap(_DESCRIPTION)))
    yield ".SH OPTIONS"
    yield from _options(root)
    yield ".SH COMMANDS"
    common = {option.names for option in root.options}
    for node in root.walk():
        if node.path and not node.commands:
            yield from _command(node, common)
    yield from _table("EXIT STATUS", _CODES)
    yield from _table("FILES", _FILES)
    yield from _table("ENVIRONMENT", _ENVIRONMENT)
    yield from (
        ".SH SEE ALSO",
        ".BR prosodyctl (1)",
        ".br",
        "RFC 5070 (IODEF), XEP\\-0268, RFC 9457, Standard Webhooks",
    )


def _command(node: Node, common: set[tuple[str, ...]]) -> Iterator[str]:
    own = [one for one in node.options if one.names not in common]
    usage = " ".join(_usage(one) for one in own)
    yield from (
        f".SS {_text(' '.join(node.path))}",
        f"\\fBincident\\-bridge {_text(' '.join(node.path))}\\fR {usage}",
    )
    yield from (".PP", *map(_text, textwrap.wrap(node.text)))
    yield from _options(node, common)
    if node.epilog:
        yield from (".PP", *map(_text, textwrap.wrap(node.epilog)))


def _usage(option: Option) -> str:
    value = f"\\fI{_text(option.value)}\\fR" if option.value else ""
    name = f"\\fB{_text(option.names[-1])}\\fR" if option.names else ""
    shown = f"{name} {value}".strip() + ("..." if option.is_repeated else "")
    return shown if option.is_needed else f"[{shown}]"


def _options(node: Node, left_out: Collection[tuple[str, ...]] = ()) -> Iterator[str]:
    for option in node.options:
        if option.names in left_out:
            continue
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
        value = f"\\fI{_text(option.value)}\\fR" if option.value else ""
        yield from (".TP", f"{names} {value}".strip(), _text(option.help) or "\\&")


def _table(title: str, rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    yield f".SH {title}"
    for name, text in rows:
        yield from (".TP", f"\\fB{_text(name)}\\fR", _text(text))


def _text(text: str) -> str:
    """Text as roff takes it: nothing of it is a request, a hyphen is the one that is typed."""
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    plain = plain.replace("…", "...").replace("→", "\\(->").replace("`", "\\(ga").replace("“", "\\(lq")
    plain = plain.replace("”", "\\(rq").replace("\u2013", "\\(en")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
