"""`completion bash|zsh|fish`: a script that completes commands, options and their values, made from the parser."""

import argparse
from collections.abc import Callable, Iterator
from typing import Final

from bridge.cli.arguments import Commands, command
from bridge.cli.output import Exit, Terminal
from bridge.cli.tree import Node, Option, read

_HEAD: Final = "# Completion for incident-bridge; made by: incident-bridge completion {shell}\n"

# Finds the command that is typed, passing over options and their values; the words are in `$@`.
_FIND: Final = """\
_incident_bridge_path() {
  _ib_path=""
  while [ $# -gt 0 ]; do
    case "$1" in
      %(valued)s) shift ;;
      -*) ;;
      *) case "${_ib_path:+$_ib_path }$1" in
        %(paths)s) _ib_path="${_ib_path:+$_ib_path }$1" ;;
      esac ;;
    esac
    if [ $# -gt 0 ]; then shift; fi
  done
}
"""
_BASH: Final = """\
_incident_bridge() {
  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" _ib_path
  COMPREPLY=()
  _incident_bridge_path "${COMP_WORDS[@]:1:COMP_CWORD-1}"
  case "$_ib_path:$prev" in
%(values)s
  esac
  case "$_ib_path" in
%(words)s
  esac
}
complete -F _incident_bridge incident-bridge
"""
_ZSH: Final = """\
_incident_bridge() {
  local _ib_path
  local -a found
  _incident_bridge_path "${(@)words[2,CURRENT-1]}"
  case "$_ib_path:${words[CURRENT-1]}" in
%(values)s
  esac
  case "$_ib_path" in
%(words)s
  esac
  _describe 'incident-bridge' found
}
if [ "${funcstack[1]}" = "_incident_bridge" ]; then
  _incident_bridge "$@"
else
  compdef _incident_bridge incident-bridge
fi
"""
_FISH: Final = """\
function __incident_bridge_at
  set -l path ""
  set -l is_value 0
  for word in (commandline -opc)[2..-1]
    if test $is_value = 1
      set is_value 0
    else if contains -- $word %(valued)s
      set is_value 1
    else if not string match -q -- '-*' $word
      set -l next (string trim "$path $word")
      contains -- "$next" %(paths)s; and set path $next
    end
  end
  test "$path" = "$argv[1]"
end
complete -c incident-bridge -f
"""


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser = command(commands, common, "completion", _run, "print a script for your shell's completion")
    parser.add_argument("shell", choices=tuple(SHELLS), help="which shell")
    parser.epilog = (
        "bash: source <(incident-bridge completion bash); fish: incident-bridge completion fish | source"
    )


def _run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    from bridge.cli.main import parser  # it imports this

    terminal.line(script(arguments.shell, read(parser())).rstrip())
    return Exit.OK


def script(shell: str, root: Node) -> str:
    """The script for a shell."""
    return _HEAD.format(shell=shell) + SHELLS[shell](root)


def _bash(root: Node) -> str:
    values, words = [], []
    for node in root.walk():
        path = " ".join(node.path)
        for option in node.options:
            offered = _offered(option)
            if offered:
                values += [f"    {_quoted(f'{path}:{name}')}) {offered}; return ;;" for name in option.names]
        listed = " ".join(name for name, _ in _words(node))
        words.append(f"    {_quoted(path)}) {_compgen(f'-W {_quoted(listed)}')} ;;")
    return _found(root) + _BASH % {"values": "\n".join(values), "words": "\n".join(words)}


def _offered(option: Option) -> str:
    """What bash offers as the value of an option; "" where it knows nothing."""
    if option.choices:
        return _compgen(f"-W {_quoted(' '.join(option.choices))}")
    if option.is_file:
        return _compgen("-f")
    return ":" if option.value else ""


def _compgen(what: str) -> str:
    return f'COMPREPLY=($(compgen {what} -- "$cur"))'


def _zsh(root: Node) -> str:
    values, words = [], []
    for node in root.walk():
        path = " ".join(node.path)
        for option in node.options:
            if not option.value:
                continue
            offered = f"compadd -- {' '.join(map(_quoted, option.choices))}" if option.choices else ":"
            offered = "_files" if option.is_file else offered
            values += [f"    {_quoted(f'{path}:{name}')}) {offered}; return ;;" for name in option.names]
        listed = " ".join(
            _quoted(f"{name.replace(':', chr(92) + ':')}:{text}") for name, text in _words(node)
        )
        words.append(f"    {_quoted(path)}) found=({listed}) ;;")
    head = "#compdef incident-bridge\n" + _found(root)
    return head + _ZSH % {"values": "\n".join(values), "words": "\n".join(words)}


def _fish(root: Node) -> str:
    paths = " ".join(_quoted(" ".join(node.path)) for node in root.walk() if node.path)
    lines = [_FISH % {"valued": " ".join(sorted(_valued(root))), "paths": paths}]
    for node in root.walk():
        at = f"complete -c incident-bridge -n {_fish_quoted('__incident_bridge_at ' + _quoted(' '.join(node.path)))}"
        lines += [f"{at} -a {one.path[-1]} -d {_fish_quoted(one.summary)}\n" for one in node.commands]
        for option in node.options:
            lines.append(f"{at}{_fish_option(option)}\n" if option.names or option.choices else "")
    return "".join(lines)


def _fish_option(option: Option) -> str:
    names = "".join(f" -{'l' if name.startswith('--') else 's'} {name.lstrip('-')}" for name in option.names)
    offered = f" -a {_fish_quoted(' '.join(option.choices))}" if option.choices else ""
    takes = (" -r" if option.is_file else " -x") if option.value and option.names else ""
    return f"{names}{takes}{' -F' if option.is_file else ''}{offered} -d {_fish_quoted(option.help)}"


def _words(node: Node) -> Iterator[tuple[str, str]]:
    """What may stand next: commands, choices, options; each with what it means."""
    for one in node.commands:
        yield one.path[-1], one.summary
    for option in node.options:
        yield from ((name, option.help) for name in option.names or option.choices)


def _found(root: Node) -> str:
    paths = "|".join(_quoted(" ".join(node.path)) for node in root.walk() if node.path)
    return _FIND % {"valued": "|".join(sorted(_valued(root))), "paths": paths}


def _valued(root: Node) -> set[str]:
    """The options whose value is a word of its own."""
    return {name for node in root.walk() for option in node.options if option.value for name in option.names}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Final[dict[str, Callable[[Node], str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
