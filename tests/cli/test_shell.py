"""Completion and the manual page, as the shells and man(1) take them; held to the commands."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.cli.completion import script
from bridge.cli.main import main, parser
from bridge.cli.manual import page
from bridge.cli.tree import Node, read
from deploy.servers import fetch

_ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_incident_bridge
printf '%s\\n' "${COMPREPLY[@]}"
"""
_ZSH = r"""
module_path=(%(root)s/usr/lib/*/zsh/*(N/) $module_path)
fpath=(%(root)s/usr/share/zsh/functions/**/*(N/) $fpath)
zmodload zsh/zle zsh/complete; setopt zle; autoload -Uz compinit; compinit -D -u
bindkey -e; bindkey '^I' complete-word; unsetopt automenu alwayslastprompt listambiguous promptsp
PS1=; RPS1=; LISTMAX=10000
source %(script)s
_said() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N _said; bindkey '^T' _said
print rea''dy
"""
_FISH = """
source $argv[1]
while read -l --line line
  echo "> $line"
  complete -C $line
end
"""
_WAIT_SECONDS = 30
WORDS = [
    (("endpo",), {"endpoints"}),
    (("--config", "peers", "endpoints", "ro"), {"rotate"}),
    (("endpoints", "--json", "rot"), {"rotate"}),
    (("endpoints", "add", "--quarantined", ""), {"exclude", "include", "only"}),
    (("--log-level", "w"), {"warning"}),
    (("completion", "z"), {"zsh"}),
    (("endpoints", "rotate", "endpoints", "--he"), {"--help"}),
    (("report", "--description", ""), set()),
]


@pytest.fixture(scope="module")
def root() -> Node:
    return read(parser())


def program(name: str) -> Path:
    """A shell, this machine's or a fetched one."""
    return fetch(name) / name


@pytest.fixture(scope="module")
def bash_script(root: Node, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "incident-bridge"
    path.write_text(script("bash", root))
    return path


def completed(bash_script: Path, *words: str) -> set[str]:
    """What bash offers for the last of these words."""
    line = ["bash", "-uc", _ASK, "bash", str(bash_script), "incident-bridge", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=bash_script.parent)
    return set(done.stdout.split())


def test_bash_completes_every_command_and_option(bash_script: Path, root: Node) -> None:
    for node in root.walk():
        assert completed(bash_script, *node.path, "") == expected_at(node), node.path


@pytest.mark.parametrize(("words", "expected"), [*WORDS, (("--config", ""), {"incident-bridge"})])
def test_bash_knows_where_in_the_line_it_is(
    bash_script: Path, words: tuple[str, ...], expected: set[str]
) -> None:
    assert completed(bash_script, *words) == expected


@pytest.mark.parametrize(("shell", "check"), [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_each_shell_takes_its_script(
    root: Node, tmp_path: Path, shell: str, check: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    path = tmp_path / "script"
    path.write_text(capsys.readouterr().out)
    assert path.read_text().strip() == script(shell, root).strip()
    run = [shell if shell == "bash" else str(program(shell)), *check, str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def expected_at(node: Node) -> set[str]:
    """What a shell offers behind this command."""
    names = {one.path[-1] for one in node.commands}
    return names | {name for option in node.options for name in option.names or option.choices}


@dataclass
class Zsh:
    """A zsh at a terminal, with nothing but our script."""

    terminal: int

    def read_until(self, pattern: str) -> str:
        """What it printed until this was there."""
        found, deadline = "", time.monotonic() + _WAIT_SECONDS
        while not re.search(pattern, found):
            ready, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"zsh does not go on; it printed {found!r}"
            found += os.read(self.terminal, 65536).decode()
        return found

    def completed(self, *words: str) -> set[str]:
        """What it offers for the last of these words, or makes of it."""
        line = " ".join(("incident-bridge", *words))
        os.write(self.terminal, f"{line}\t\x14".encode())
        shown = self.read_until(r"<[^<>]*>\r?\n")
        (line_after,) = re.findall(r"<([^<>]*)>\r?\n", shown)
        if line_after.endswith(" ") and line_after != line:
            return {line_after.split()[-1]}
        listed = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", shown).splitlines()
        rows = [one.partition(" -- ")[0] for one in listed if "incident-bridge" not in one.split(" -- ")[0]]
        return {name for row in rows for name in row.split()}


@pytest.fixture(scope="module")
def zsh(root: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zsh]:
    folder = tmp_path_factory.mktemp("zsh")
    (folder / "script").write_text(script("zsh", root))
    path = program("zsh")
    (folder / "init").write_text(_ZSH % {"root": path.parent.parent / "root", "script": folder / "script"})
    terminal, inner = os.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 1000, 300, 0, 0))
    env = {"TERM": "dumb", "HOME": str(folder), "PATH": os.environ["PATH"]}
    running = subprocess.Popen(
        [path, "-f", "-i"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        cwd=folder,
        env=env,
        start_new_session=True,
    )
    os.close(inner)
    shell = Zsh(terminal)
    try:
        os.write(terminal, b"source ./init\n")
        shell.read_until("ready\r?\n")
        yield shell
    finally:
        running.kill()
        running.wait()
        os.close(terminal)


def test_zsh_completes_every_command_and_option(zsh: Zsh, root: Node) -> None:
    for node in root.walk():
        assert zsh.completed(*node.path, "") == expected_at(node), node.path
    for words, expected in WORDS:
        assert zsh.completed(*words) == expected, words


def test_fish_completes_every_command_and_option(root: Node, tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text(script("fish", root))
    asked: list[tuple[tuple[str, ...], set[str]]] = list(WORDS)
    for node in root.walk():  # it shows options once a dash is typed
        options = {one for one in expected_at(node) if one.startswith("-")}
        asked.append(((*node.path, "-"), options))
        if words := expected_at(node) - options:
            asked.append(((*node.path, ""), words))
    lines = [" ".join(("incident-bridge", *words)) for words, _ in asked]
    run = [program("fish"), "--no-config", "-c", _FISH, str(path)]
    done = subprocess.run(
        run, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True, cwd=tmp_path
    )
    answers = [part.splitlines() for part in re.split(r"(?m)^> ", done.stdout)[1:]]
    for (words, expected), line, answer in zip(asked, lines, answers, strict=True):
        assert answer[0] == line
        offered = {one.partition("\t")[0] for one in answer[1:]}
        assert offered == expected, words


def test_the_manual_page_tells_every_command_with_its_options(
    root: Node, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["man"]) == 0
    text = capsys.readouterr().out
    assert text == page(root)
    path = tmp_path / "incident-bridge.1"
    path.write_text(text)
    mandoc = str(program("mandoc"))
    lint = subprocess.run(
        [mandoc, "-Tlint", "-Wwarning", str(path)], capture_output=True, text=True, check=False
    )
    # It is made when it is asked for, so it has no date.
    assert [line for line in lint.stdout.splitlines() if "missing date" not in line] == []
    run = [mandoc, "-Tutf8", "-Owidth=160", str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    shown = re.sub(".\b", "", done.stdout)
    for node in root.walk():
        if node.commands:
            continue
        start = shown.index(f"\n   {' '.join(node.path)}\n")
        section = shown[start : shown.find("\n   incident-bridge", start + 10)]
        for option in node.options:
            if option.names not in {one.names for one in root.options}:
                assert all(name in shown[start:] for name in option.names), (node.path, option.names, section)
    for word in ("EXIT STATUS", "INCIDENT_BRIDGE_CONFIG", "--log-format"):
        assert word in shown
