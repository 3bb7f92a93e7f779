"""Containerfile and compose.yaml: read, and compared with the units and with what they name.

No container engine runs here: nothing was built or started from them.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.cli.main import parser
from tests.deploy.sandbox import settings

INSTRUCTIONS = {"FROM", "COPY", "RUN", "USER", "ENV", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
BRIDGE = ("service", "worker-incidents", "worker-outgoing", "worker-deliveries")


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    """What compose.yaml says, its anchors resolved."""
    read: dict[str, Any] = yaml.safe_load((root / "deploy/compose.yaml").read_text())
    return read


@pytest.fixture(scope="module")
def containerfile(root: Path) -> list[tuple[str, str]]:
    """The instructions and their arguments."""
    text = (root / "deploy/Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def test_the_image_is_made_of_this_checkout_and_runs_our_command_as_nobody_special(
    root: Path, containerfile: list[tuple[str, str]]
) -> None:
    said = dict(containerfile)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]

    assert {name for name, _ in containerfile} <= INSTRUCTIONS
    [(name, _)] = [(name, "") for name in project["scripts"]]
    assert json.loads(said["ENTRYPOINT"]) == [name]
    assert parser().parse_args(json.loads(said["CMD"]))
    assert said["USER"] == "10001:10001"
    sources = [path for instruction, text in containerfile for path in re.findall(r"/src/(\S+)", text)]
    assert sources
    assert all((root / path).exists() for path in sources)
    assert project["name"] in [text for instruction, text in containerfile if instruction == "RUN"][-1]


def test_every_service_is_confined(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "10001:10001"
        assert service["ulimits"] == {"core": 0}
        assert service["restart"] == "always"


def test_service_and_workers_run_what_the_units_run_and_may_end_as_slowly(
    root: Path, compose: dict[str, Any]
) -> None:
    for name in BRIDGE:
        service = compose["services"][name]
        unit = "incident-bridge.service" if name == "service" else "incident-bridge-worker@.service"
        assert parser().parse_args(service["command"])
        patience = dict(settings(root / "deploy/systemd" / unit))["TimeoutStopSec"]
        assert service["stop_grace_period"] == f"{patience}s"
        assert Path(root / "deploy" / service["build"]["context"]).resolve() == root
        assert (root / service["build"]["dockerfile"]).is_file()


def test_the_store_finds_its_files_where_redis_conf_says(root: Path, compose: dict[str, Any]) -> None:
    conf = dict(re.findall(r"^(\w+) (\S+)$", (root / "deploy/redis.conf").read_text(), re.MULTILINE))
    store = compose["services"]["store"]
    mounts = {volume.split(":")[1]: volume.split(":")[0] for volume in store["volumes"]}

    assert mounts[store["command"][1]] == "./redis.conf"
    assert {conf["aclfile"], conf["dir"], str(Path(conf["unixsocket"]).parent)} <= set(mounts)
    for name in BRIDGE:
        assert f"socket:{Path(conf['unixsocket']).parent}" in compose["services"][name]["volumes"]


def test_what_must_be_made_first_stands_in_the_readme(root: Path, compose: dict[str, Any]) -> None:
    readme = (root / "deploy/README.md").read_text()
    sources = {
        volume.split(":")[0] for service in compose["services"].values() for volume in service["volumes"]
    }
    sources |= {secret["file"] for secret in compose["secrets"].values()}

    for source in sources - {"socket", "./redis.conf"}:
        assert f"deploy/{source.removeprefix('./')}" in readme
