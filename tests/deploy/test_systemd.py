"""The systemd units: systemd's own tools read them, and the bridge runs under what they forbid.

systemd itself does not run here: that it hides what the units say it hides is not tested.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.config import load_settings
from deploy.servers import Process, until
from tests.deploy.sandbox import allowed, settings
from tests.system.servers import Lab, new_secret

UNITS = ("incident-bridge.service", "incident-bridge-worker@.service", "incident-bridge-up.service")
REDIS = "redis-server@incident-bridge.service"
EXPOSURE_AT_MOST = 2.0
CREDENTIAL = re.compile(r"^LoadCredential=([^:]+):(.*)$", re.MULTILINE)
Commands = Callable[[str], Path]


@pytest.fixture(scope="module")
def units(root: Path, commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of units as on a machine that has them installed; the programs are there."""
    folder = tmp_path_factory.mktemp("units")
    program = folder / "program"
    program.write_text("#!/bin/sh\necho $*\n")
    program.chmod(0o755)
    debian = commands("redis").parent / "root/lib/systemd/system/redis-server@.service"
    shutil.copytree(root / "deploy/systemd", folder, dirs_exist_ok=True)
    shutil.copyfile(
        debian if debian.exists() else Path("/lib/systemd/system") / debian.name, folder / debian.name
    )
    for unit in folder.glob("*.service"):
        text = unit.read_text()
        for path in ("/opt/incident-bridge/bin/incident-bridge", "/usr/bin/redis-server"):
            text = text.replace(path, str(program))
        unit.write_text(text)
    for name in UNITS:
        (folder / f"{name}.d").mkdir()
        shutil.copyfile(root / "deploy/systemd/hosts.conf", folder / f"{name}.d/hosts.conf")
    return folder


def analyze(commands: Commands, units: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = commands("systemd") / "systemd-analyze"
    systems = program.parent.parent / "root/lib/systemd/system"
    path = f"{units}:{systems if systems.exists() else '/lib/systemd/system'}"
    return subprocess.run(
        [program, *words], capture_output=True, text=True, check=False, env={"SYSTEMD_UNIT_PATH": path}
    )


@pytest.mark.parametrize("name", [*UNITS, REDIS])
def test_systemd_has_nothing_to_say_about_a_unit(commands: Commands, units: Path, name: str) -> None:
    instance = name.replace("@.", "@incidents.")

    done = analyze(commands, units, "verify", "--man=no", instance)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_would_complain_about_a_wrong_setting(
    commands: Commands, units: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.service"
    wrong.write_text((units / UNITS[0]).read_text().replace("KillMode=mixed", "KillMode=gently"))

    assert "kill mode" in analyze(commands, units, "verify", "--man=no", str(wrong)).stderr


@pytest.mark.parametrize("name", [*UNITS, REDIS])
def test_a_unit_exposes_little(commands: Commands, units: Path, name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    if name == REDIS:  # offline, drop-ins are not read; of a setting given twice the last is in force
        parts = [units / "redis-server@.service", *(units / f"{REDIS}.d").iterdir()]
        unit.write_text("".join(part.read_text() for part in parts))
    else:
        shutil.copyfile(units / name, unit)
    limit = f"--threshold={EXPOSURE_AT_MOST * 10:.0f}"

    done = analyze(commands, units, "security", "--offline=yes", limit, str(unit))

    assert done.returncode == 0, done.stdout + done.stderr
    [exposure] = re.findall(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert float(exposure) <= EXPOSURE_AT_MOST


@pytest.mark.parametrize("instance", ["incidents", "incidents-2", "outgoing-7", "deliveries"])
def test_the_instance_of_a_worker_is_its_queue(units: Path, instance: str) -> None:
    line = dict(settings(units / "incident-bridge-worker@.service"))["ExecStart"]
    typed = line.replace("%i", instance).replace("%%", "%").replace("$$", "$")

    done = subprocess.run(["/bin/sh", "-c", typed], capture_output=True, text=True, check=True)

    assert done.stdout == f"worker {instance.partition('-')[0]}\n"


@pytest.mark.parametrize(("name", "patience_seconds"), [(UNITS[0], 15), (UNITS[1], 10), (UNITS[2], 55)])
def test_a_unit_lets_the_bridge_end_in_order(root: Path, name: str, patience_seconds: int) -> None:
    said = dict(settings(root / "deploy/systemd" / name))

    assert said["KillMode"] == "mixed"
    assert said["Restart"] == "always"
    assert said["RestartPreventExitStatus"] == "2"
    assert int(said["TimeoutStopSec"]) > patience_seconds


def test_the_user_of_the_units_is_made_and_may_use_the_socket(
    root: Path, commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    file = root / "deploy/systemd/incident-bridge.sysusers"

    subprocess.run([commands("systemd") / "systemd-sysusers", f"--root={tmp_path}", file], check=True)

    user = dict(settings(root / "deploy/systemd" / UNITS[0]))["User"]
    assert f"{user}:" in (tmp_path / "etc/passwd").read_text()
    assert re.search(rf"^redis:.*:{user}$", (tmp_path / "etc/group").read_text(), re.MULTILINE)


def test_the_secret_that_systemd_passes_is_the_host_s(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(credential, path)] = CREDENTIAL.findall((root / "deploy/systemd/hosts.conf").read_text())
    assert Path(path).name == credential
    secret = new_secret()
    (tmp_path / credential).write_text(f"{secret}\n")
    (tmp_path / "config.toml").write_text('[hosts."example.org"]\n')

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    [found] = load_settings(tmp_path / "config.toml").hosts["example.org"].secrets

    assert found.get_secret_value() == secret


@pytest.mark.parametrize("name", [*UNITS, f"{REDIS}.d/incident-bridge.conf"])
def test_a_unit_leaves_no_core_dump(root: Path, name: str) -> None:
    assert dict(settings(root / "deploy/systemd" / name))["LimitCORE"] == "0"


@pytest.mark.parametrize("name", UNITS)
def test_the_units_forbid_what_an_intruder_would_want(root: Path, commands: Commands, name: str) -> None:
    calls = allowed(root / "deploy/systemd" / name, str(commands("systemd") / "systemd-analyze"))

    assert not {"ptrace", "mount", "bpf", "init_module", "reboot", "setuid", "setrlimit"} & calls
    assert {"read", "futex", "clone3", "epoll_wait", "connect"} <= calls


@pytest.mark.parametrize(("name", "steps"), [(UNITS[0], 0), (UNITS[1], 15), (UNITS[2], 15)])
def test_deliveries_give_way_where_a_unit_lets_them_and_go_on_where_not(
    root: Path, commands: Commands, name: str, steps: int
) -> None:
    program = "import os; from bridge.worker import jobs; jobs.give_way(); print(os.getpriority(0, 0))"
    sandbox = [sys.executable, root / "tests/deploy/sandbox.py", commands("systemd") / "systemd-analyze"]

    done = subprocess.run(
        [*sandbox, root / "deploy/systemd" / name, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )

    assert int(done.stdout) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + steps)


def test_the_bridge_runs_under_what_a_unit_forbids(lab: Lab, root: Path, commands: Commands) -> None:
    analyze_path = commands("systemd") / "systemd-analyze"
    bridge = lab.bridge()
    a = lab.prosody("a.test", bridge=bridge)
    sandbox = [sys.executable, root / "tests/deploy/sandbox.py", analyze_path]
    unit = root / "deploy/systemd/incident-bridge-up.service"
    up = bridge.processes["up"] = Process(
        [*sandbox, unit, *bridge.argv("up")], log=bridge.folder / "up.log", env=bridge.env
    )

    up.start()
    bridge.wait_ready()

    below = {pid for pid in up.children() if Path(f"/proc/{pid}").exists()}
    confined = [pid for pid in below if "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()]
    assert len(confined) == len(below) >= 4
    findings = bridge.json("check")["findings"]
    assert {finding["code"] for finding in findings} == {0}, (findings, a.log())
    bridge.cli("report", "--to", "b.test", "--description", "flood", "--source", "bad@b.test=1")
    until(lambda: bridge.json("incidents", "list")["incidents"], 10, "the report is stored")
    assert not re.search(r"Operation not permitted|PermissionError", bridge.log())
