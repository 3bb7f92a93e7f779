"""The command line as a whole: help, exit codes, configuration commands."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.main import _GROUPS, explain, parser
from bridge.cli.output import Exit, Terminal
from bridge.config import Settings, default_toml
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


def test_config_show_prints_every_section_and_key(run: Any, configuration: str) -> None:
    printed = run("--json", "config", "show", config=configuration).json()
    text = run("config", "show", config=configuration).out

    sections = {one.name: getattr(Settings(), one.name) for one in fields(Settings) if one.name != "path"}
    assert printed.keys() == sections.keys()
    for name, section in sections.items():
        if name != "hosts":
            assert printed[name].keys() == type(section).model_fields.keys()
            assert f"\n[{name}]\n" in text


def test_without_any_configuration_it_is_said_how_to_name_one(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bridge.config.SYSTEM_PATH", tmp_path / "none.toml")

    for words in (("incidents", "list"), ("peers", "trust", "a.example"), ("peers", "list", "--host", "x")):
        printed = run(*words)

        assert printed.code == 2
        assert "no configuration file was read; name it with --config or INCIDENT_BRIDGE_CONFIG" in (
            printed.messages
        )


@pytest.mark.parametrize("kept", ["the configuration", "the system's configuration", "the store"])
def test_what_another_user_keeps_is_2_and_says_who_may(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: str
) -> None:
    denied = tmp_path / "denied"
    look, read = Path.stat, Path.read_text

    def refuse(do: Any) -> Any:
        def maybe(path: Path, **more: Any) -> Any:
            if denied in (path, *path.parents):
                raise PermissionError(13, "Permission denied")
            return do(path, **more)

        return maybe

    monkeypatch.setattr(Path, "stat", refuse(look))  # the tests may run as root, whom no mode keeps out
    monkeypatch.setattr(Path, "read_text", refuse(read))
    monkeypatch.setattr("bridge.config.SYSTEM_PATH", denied / "config.toml")
    host = f'[hosts."a.test"]\nsecret = "{SECRET}"\n'
    if kept == "the configuration":
        printed = run("--config", str(denied / "config.toml"), "incidents", "list")
    elif kept == "the store":
        printed = run("incidents", "list", config=f'[store]\ndata_dir = "{denied}"\n{host}')
    else:
        printed = run("incidents", "list")

    assert printed.code == 2
    assert f"may not read {denied}" in printed.messages
    assert f"sudo -u {tmp_path.owner()} incident-bridge" in printed.messages


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
