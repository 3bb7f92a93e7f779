"""deploy/packages and what else makes a fresh machine ready."""

import contextlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.specifiers import SpecifierSet

DEBIAN = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
"""
OTHERS = """\
deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.gpg] https://download.example/linux/debian bookworm main
deb https://packages.example/apt cloud-sdk-bookworm main
# deb http://mirror.example/debian bookworm main
"""
UBUNTU = """\
deb http://archive.example/ubuntu/ noble main restricted
deb http://archive.example/ubuntu/ noble universe # x
"""


@pytest.fixture(scope="module")
def packages(root: Path) -> ModuleType:
    """The script as a module."""
    loader = importlib.machinery.SourceFileLoader("packages", str(root / "deploy/packages"))
    spec = importlib.util.spec_from_loader("packages", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["packages"] = module
    loader.exec_module(module)
    return module


def sources(
    packages: ModuleType, folder: Path, distribution: str, codename: str, **files: str
) -> list[tuple[str, ...]]:
    (folder / "etc/apt/sources.list.d").mkdir(parents=True)
    (folder / "keys").mkdir()
    (folder / f"keys/{distribution}-archive-keyring.gpg").touch()
    for name, text in files.items():
        (folder / "etc/apt/sources.list.d" / name.replace("_", ".")).write_text(text)
    found = packages.own_sources(distribution, codename, etc=folder / "etc", keyrings=folder / "keys")
    return [(source.uri, *source.suites, *source.components) for source in found]


def test_debian_s_own_sources_are_found_and_no_others(packages: ModuleType, tmp_path: Path) -> None:
    assert sources(packages, tmp_path, "debian", "bookworm", debian_sources=DEBIAN, other_list=OTHERS) == [
        ("http://mirror.example/debian", "bookworm", "bookworm-updates", "main"),
        ("http://mirror.example/debian-security", "bookworm-security", "main"),
    ]


def test_ubuntu_s_one_line_sources_are_found_with_universe(packages: ModuleType, tmp_path: Path) -> None:
    assert sources(packages, tmp_path, "ubuntu", "noble", ubuntu_list=UBUNTU) == [
        ("http://archive.example/ubuntu/", "noble", "main"),
        ("http://archive.example/ubuntu/", "noble", "universe"),
    ]


def run(root: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(root / "deploy/packages"), *words]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **env}
    )


def test_what_was_fetched_once_needs_no_network_again(root: Path) -> None:
    first = run(root, "prosody13")
    again = run(root, "prosody13", http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")

    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert first.stdout == again.stdout
    assert again.stderr == ""


def test_without_network_it_says_so_and_leaves_nothing_half_done(root: Path, tmp_path: Path) -> None:
    env = {
        "INCIDENT_BRIDGE_CACHE": str(tmp_path),
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }

    done = run(root, "prosody13", **env)

    assert done.returncode == 1
    assert "no network to" in done.stderr
    assert "http_proxy" in done.stderr
    assert done.stdout == ""
    assert not list((tmp_path / "packages").glob("*/bin"))
    assert not list((tmp_path / "packages").glob(".new-*"))


def test_two_runs_at_once_share_one_fetch(root: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", FETCH_SMALL, str(root / "deploy/packages")]
    env = {**os.environ, "INCIDENT_BRIDGE_CACHE": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(argv, env=env, **pipes) for _ in range(2)]

    answers = [process.communicate(timeout=300) for process in runs]

    assert [process.returncode for process in runs] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert sum("fetching" in told for _, told in answers) == 1
    [command] = Path(answers[0][0].strip()).iterdir()
    assert (
        "hello"
        in subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.lower()
    )


FETCH_SMALL = """
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.SourceFileLoader("packages", sys.argv[1])
packages = importlib.util.module_from_spec(importlib.util.spec_from_loader("packages", loader))
sys.modules["packages"] = packages
loader.exec_module(packages)
packages.SETS["small"] = packages.PackageSet(("hello",), ("hello",), prefer_path=False)
print(packages.fetch("small"))
"""


def test_constraints_are_names_and_versions_and_cover_all_we_depend_on(root: Path) -> None:
    lines = (root / "deploy/constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if not line.startswith("#")}
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {re.split(r"[\[<>=!~; ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}

    assert all(
        re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines if not line.startswith("#")
    )
    assert names - {project["name"]} <= pinned


@pytest.mark.parametrize("version", ["3.11.2", "3.12.3", "3.13.5"])
def test_pinned_versions_are_for_the_pythons_of_debian_and_ubuntu(root: Path, version: str) -> None:
    pinned = [
        line
        for line in (root / "deploy/constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    needed = {}
    for line in pinned:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # some are for other Pythons only
            found = importlib.metadata.distribution(line.partition("==")[0])
            if found.version == line.partition("==")[2]:
                needed[line] = SpecifierSet(found.metadata.get("Requires-Python", ""))

    assert len(needed) > len(pinned) / 2
    assert [line for line, specifier in needed.items() if not specifier.contains(version)] == []


def test_an_environment_without_network_says_what_to_type(root: Path, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "INCIDENT_BRIDGE_CACHE": str(tmp_path),
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
    }
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "", "PIP_NO_CACHE_DIR": "1"}
    env.pop("PIP_FIND_LINKS", None)

    done = subprocess.run(
        [sys.executable, root / "deploy/environment", "demo"],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )

    assert done.returncode == 1
    assert "https_proxy" in done.stderr
    assert done.stdout == ""
