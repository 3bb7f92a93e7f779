"""The command line as a whole: help, exit codes, configuration commands."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.main import _GROUPS, explain, parser
from bridge.cli.output import Exit, Terminal
from bridge.config import default_toml
from bridge.errors import BridgeError, ConfigError, ConflictError, UnavailableError

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
README = Path(__file__).resolve().parents[2] / "README.md"


def test_every_command_is_known_without_importing_it() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]

    assert sorted(commands) == sorted(name for names in _GROUPS.values() for name in names)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [name for names in _GROUPS.values() for name in names])
def test_every_command_stands_in_the_readme(command: str) -> None:
    assert re.search(rf"incident-bridge( --config \S+)? {command}\b", README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("words", [(), ("nonsense",), ("incidents",), ("incidents", "list", "--limit", "0")])
def test_wrong_usage_is_2(run: Any, words: tuple[str, ...]) -> None:
    printed = run(*words)

    assert printed.code == 2
    assert printed.messages.startswith("usage: incident-bridge")
    assert printed.out == ""


def test_common_options_work_before_and_after_the_command(run: Any) -> None:
    before = run("--json", "config", "show", config="")
    after = run("config", "show", "--json", config="")

    assert before.json() == after.json()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), Exit.USAGE),
        (UnavailableError("x"), Exit.UNREACHABLE),
        (ConflictError("x"), Exit.NO),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: BridgeError, code: Exit) -> None:
    screen = Terminal(out=sys.stdout, messages=sys.stderr)

    assert explain(error, screen) == code


def test_a_broken_configuration_is_2_with_its_place(run: Any, tmp_path: Path) -> None:
    printed = run("incidents", "list", config="[polcy]\n")

    assert printed.code == 2
    assert f"{tmp_path}/config.toml:1: polcy: unknown key" in printed.messages


def test_config_default_is_the_reference(run: Any) -> None:
    assert run("config", "default").out == default_toml()
    assert run("config", "default", "--json").json() == {"toml": default_toml()}


def test_config_show_prints_what_is_in_effect_without_secrets(run: Any, configuration: str) -> None:
    config = configuration.replace('url = "unix://', 'url = "redis://me:hunter2@127.0.0.1/') + (
        "[policy]\nquota_burst = 7\n"
    )
    for words in (("config", "show"), ("--json", "config", "show")):
        printed = run(*words, config=config)

        assert printed.code == 0
        assert "whsec_" not in printed.out
        assert "hunter2" not in printed.out
        assert "me:(hidden)@127.0.0.1" in printed.out
    assert printed.json()["policy"]["quota_burst"] == 7
    assert printed.json()["server"]["ingest_listen"] == "127.0.0.1:8267"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m bridge.cli config default | head -1; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=README.parent, check=True
    )

    assert done.stdout.splitlines()[1] == "0"
    assert done.stderr == ""


def test_commands_that_we_suggest_name_the_configuration_in_use(run: Any, tmp_path: Path) -> None:
    config = tmp_path / "my config.toml"
    config.write_text(f'[store]\ndata_dir = "{tmp_path}"\n[hosts."a.test"]\nsecret = "{SECRET}"\n')

    printed = run("--config", str(config), "incidents", "list")

    assert printed.code == 3
    assert f"incident-bridge --config '{config}' up" in printed.messages
    assert f"incident-bridge --config '{config}' check" in printed.messages


def test_a_folder_that_cannot_be_used_is_2(run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    printed = run("up", config=f'[store]\ndata_dir = "{tmp_path}/file/data"\n')

    assert printed.code == 2
    assert "store.data_dir" in printed.messages


def test_a_terminal_without_unicode_gets_escapes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "config", "default"],
        capture_output=True, cwd=README.parent, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip

    assert b"whsec_\\u2026" in done.stdout
