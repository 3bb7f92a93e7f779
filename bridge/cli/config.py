"""`config show`: what the bridge runs with. `config default`: the commented reference."""

import argparse
import json
from dataclasses import fields
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from bridge.cli.arguments import Commands, command, group
from bridge.cli.output import Exit, Terminal
from bridge.config import Address, Settings, default_toml, load_settings
from bridge.log import visible
from bridge.store.place import shown as hidden_in

REDACTED = "(hidden)"


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    inner = group(commands, common, "config", "show the configuration")
    command(inner, common, "show", show, "print the configuration in effect, without secrets")
    command(inner, common, "default", default, "print the commented default configuration")


def default(arguments: argparse.Namespace, terminal: Terminal) -> int:  # noqa: ARG001 (every command is called so)
    """Print `default.toml` as it is; under --json as one text, because it is made of comments."""
    if terminal.is_json:
        terminal.json({"toml": default_toml()})
    else:
        terminal.out.write(default_toml())
    return Exit.OK


def show(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Print what is in effect: defaults, file and environment together."""
    settings = load_settings(arguments.config)
    effective = redacted(settings)
    if terminal.is_json:
        terminal.json(effective)
        return Exit.OK
    terminal.line(
        f"# from {visible(str(settings.path))}" if settings.path else "# defaults and environment; no file"
    )
    hosts = effective.pop("hosts")
    for name, table in effective.items():
        _print_table(terminal, f"[{name}]", table)
    for name, table in hosts.items():
        _print_table(terminal, f"[hosts.{json.dumps(name)}]", table)
    return Exit.OK


def _print_table(terminal: Terminal, header: str, table: dict[str, Any]) -> None:
    terminal.line()
    terminal.line(header)
    for key, value in table.items():
        terminal.line(f"{key} = {json.dumps(value)}")


def redacted(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain values; secrets and passwords are replaced."""
    shown = {
        name: {key: _plain(getattr(section, key)) for key in type(section).model_fields}
        for name in (one.name for one in fields(settings))
        if isinstance(section := getattr(settings, name), BaseModel)
    }
    shown["store"]["url"] = without_password(settings.store.url)
    return {
        **shown,
        "hosts": {
            name: {
                "api_url": host.api_url,
                "secret": [REDACTED] * len(host.secrets),
                "insecure": to_jsonable_python(host.insecure),
            }
            for name, host in settings.hosts.items()
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return str(value) if isinstance(value, Address) else to_jsonable_python(value)


def without_password(url: str) -> str:
    """Hide the password of a URL, and a query, which may hold one too."""
    return hidden_in(url, hidden=REDACTED)
