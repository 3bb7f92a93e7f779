"""Where a setting was written: from a problem's place in the settings back to a line of the file or a variable.

House rule: only names and places leave this module, never a value; a value may be a secret.
"""

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bridge.errors import ConfigError

ENVIRONMENT_PREFIX = "INCIDENT_BRIDGE_"
_NOT_KEYS = frozenset({"INCIDENT_BRIDGE_CONFIG", "INCIDENT_BRIDGE_CACHE"})
_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_PATH = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\s*({_PATH})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_PATH})\s*=")

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A configuration file as read: its values, and the line of each table and key."""

    path: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    lines: Mapping[Place, int] = field(default_factory=dict)


def read_toml(path: Path) -> Source:
    """Read a TOML file; relative `secret_file` paths are resolved against its folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except PermissionError:
        raise ConfigError(may_not_read(path)) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at line ")
        line = place.partition(",")[0]
        raise ConfigError(f"{path}:{line if line.isdigit() else 1}: is not TOML: {reason}") from None
    hosts = data.get("hosts")
    for table in hosts.values() if isinstance(hosts, dict) else ():
        if isinstance(table, dict) and isinstance(table.get("secret_file"), str):
            table["secret_file"] = str(path.absolute().parent / table["secret_file"])
    return Source(path=path, data=data, lines=lines_of(text))


def may_not_read(path: Path) -> str:
    """What to say where the operating system keeps a path from us: who may, as far as that can be seen."""
    user = "USER"
    for place in (path, *path.absolute().parents):
        with contextlib.suppress(OSError, KeyError):  # not to be seen, or an owner without a name
            user = place.owner()
            break
    return f"may not read {path}; type it as the user that runs the bridge: sudo -u {user} incident-bridge …"


def is_file(path: Path) -> bool:
    """Whether there is such a file; ConfigError where we may not know."""
    try:
        return S_ISREG(path.stat().st_mode)
    except PermissionError:
        raise ConfigError(may_not_read(path)) from None
    except OSError:
        return False


def lines_of(text: str) -> dict[Place, int]:
    """The line number of each table header and key; the first of several."""
    lines: dict[Place, int] = {}
    table: Place = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _split(header[1])
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault(table + _split(assignment[1]), number)
    return lines


def _split(path: str) -> Place:
    return tuple(part if part[0] not in "\"'" else part[1:-1] for part in re.findall(_KEY, path))


def problems_of(error: ValidationError, source: Source, model: type[BaseModel]) -> list[str]:
    """One sentence per problem, each beginning with `FILE:LINE:` or the environment variable's name.

    What is wrong between two sections says in its context, as `place`, at which key to blame it.
    """
    problems: dict[str, None] = {}
    for detail in error.errors(include_url=False, include_input=False):
        blamed = detail.get("ctx", {}).get("place") or detail["loc"]
        place = tuple(str(part) for part in blamed if not isinstance(part, int))
        place = place[:3] if place[:1] == ("hosts",) else place[:2]
        if detail["type"] == "extra_forbidden":
            what = f"unknown key{_suggestion(place[-1], _keys(model, place[:-1]))}"
        else:
            what = _lowered(detail["msg"].removeprefix("Value error, "))
        problems[f"{_where(place, source)}: {_name(place)}: {what}"] = None
    return list(problems)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _name(place: Place) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in place)


def _where(place: Place, source: Source) -> str:
    variable = _variable(place)
    if variable:
        return variable
    if source.path is None:
        return "the configuration"
    folded = {
        tuple(part.casefold() for part in known): line for known, line in reversed([*source.lines.items()])
    }
    for length in range(len(place), 0, -1):
        wanted = tuple(part.casefold() for part in place[:length])
        inside = [line for known, line in folded.items() if known[:length] == wanted]
        if line := folded.get(wanted) or min(inside, default=0):
            return f"{source.path}:{line}"
    return f"{source.path}:1"


def _variable(place: Place) -> str | None:
    """The environment variable that set this place, if one did."""
    for length in range(len(place), 0, -1):
        wanted = (ENVIRONMENT_PREFIX + "__".join(place[:length])).casefold()
        for variable in os.environ:
            if variable.casefold() == wanted:
                return variable
    return None


def _suggestion(word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word.casefold(), names, n=1)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known are {', '.join(names)}" if names else ""


def _keys(model: type[BaseModel], place: Place) -> tuple[str, ...]:
    """The keys that are known at a place; a host's name stands for any."""
    current: Any = model
    for part in place:
        if isinstance(current, type) and issubclass(current, BaseModel):
            known = current.model_fields.get(part)
            current = known.annotation if known else None
        else:
            current = (get_args(current) or (None,))[-1]
    return tuple(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else ()


def unknown_variables(model: type[BaseModel]) -> list[str]:
    """Problems with variables that look like keys and are none; pydantic-settings ignores those."""
    sections = tuple(model.model_fields)
    flat = {
        f"{section}_{key}": f"{section}__{key}" for section in sections for key in _keys(model, (section,))
    }
    problems = []
    for variable in sorted(os.environ):
        name = variable.casefold().removeprefix(ENVIRONMENT_PREFIX.casefold())
        if variable in _NOT_KEYS or name == variable.casefold():
            continue
        if "__" in name and name.partition("__")[0] not in sections:
            problems.append(f"{variable}: unknown section{_suggestion(name.partition('__')[0], sections)}")
        elif name in flat:
            right = ENVIRONMENT_PREFIX + flat[name].upper()
            problems.append(f"{variable}: unknown; did you mean {right} (two underscores)?")
    return problems
