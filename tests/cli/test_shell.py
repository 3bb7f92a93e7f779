"""Completion and the manual page, as the shells and man(1) take them; held to the commands."""

import re
import subprocess
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
        expected = {one.path[-1] for one in node.commands}
        expected |= {name for option in node.options for name in option.names or option.choices}
        assert completed(bash_script, *node.path, "") == expected, node.path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("end",), {"endpoints"}),
        (("--config", "peers", "endpoints", "ro"), {"rotate"}),
        (("endpoints", "--json", "rot"), {"rotate"}),
        (("endpoints", "add", "--quarantined", ""), {"exclude", "include", "only"}),
        (("--log-level", "w"), {"warning"}),
        (("completion", "z"), {"zsh"}),
        (("--config", ""), {"incident-bridge"}),
        (("endpoints", "rotate", "endpoints", "--he"), {"--help"}),
        (("report", "--description", ""), set()),
    ],
)
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


def test_zsh_and_fish_are_told_every_command_and_option(root: Node) -> None:
    for shell in ("zsh", "fish"):
        text = script(shell, root)
        for node in root.walk():
            assert " ".join(node.path) in text
            for option in node.options:
                assert all(
                    re.search(rf"(?<![a-z]){name.lstrip('-')}(?![a-z])", text) for name in option.names
                )


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
