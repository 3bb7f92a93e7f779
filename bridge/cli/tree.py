"""The commands as a tree, read off argparse: what completion and the manual page are made from."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option or, where it has no names, one argument.

    Attributes:
        value: how its value is called; "" for one that takes none.
        choices: the only values there are; empty: any.
        is_file: whether the value is a file's name.
        is_repeated: whether several words may stand there.
    """

    names: tuple[str, ...]
    help: str
    value: str = ""
    choices: tuple[str, ...] = ()
    is_file: bool = False
    is_needed: bool = False
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One command, or a group of them; `path` is what is typed after the program's name."""

    path: tuple[str, ...]
    summary: str
    text: str
    epilog: str
    options: tuple[Option, ...]
    commands: tuple["Node", ...]

    def walk(self) -> Iterator["Node"]:
        """This one and all below it."""
        yield self
        for one in self.commands:
            yield from one.walk()


def read(parser: argparse.ArgumentParser, *path: str, summary: str = "") -> Node:
    """Read a parser whole."""
    options: list[Option] = []
    commands: list[Node] = []
    for action in parser._actions:  # noqa: SLF001 - argparse shows its tree no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            known = {one.dest: one.help or "" for one in action._choices_actions}  # noqa: SLF001
            commands += [
                read(inner, *path, name, summary=known.get(name, ""))
                for name, inner in action.choices.items()
            ]
        elif action.help != argparse.SUPPRESS:
            options.append(_option(action))
    return Node(
        path=path,
        summary=summary,
        text=parser.description or "",
        epilog=parser.epilog or "",
        options=tuple(options),
        commands=tuple(commands),
    )


def _option(action: argparse.Action) -> Option:
    choices = tuple(str(one) for one in action.choices or ())
    is_flag = action.nargs == 0
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    value = "" if is_flag else metavar or "|".join(choices) or action.dest.upper()
    return Option(
        names=tuple(action.option_strings),
        help=(action.help or "") % {"prog": "incident-bridge", "default": action.default},
        value=value,
        choices=choices,
        is_file=action.type is Path or value == "FILE",
        is_needed=action.required,
        is_repeated=action.nargs in {"*", "+"},
    )
