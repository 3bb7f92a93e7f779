"""deploy/demo, as people run it."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers import Process, namespace_command, until

LISTEN = (
    "import socket, sys, subprocess\n"
    "s = socket.socket(); s.bind(('0.0.0.0', 5269)); s.listen()\n"
    "sys.exit(subprocess.run(sys.argv[1:]).returncode)\n"
)
PORT_IS_TAKEN = """
import sys, demo
def taken(_):
    raise demo.PortTakenError("port 5269 is taken")
demo.free_network = taken  # really to take it is safe only where a namespace is allowed
sys.exit(demo.main())
"""
BRING_UP = "import sys; sys.path.insert(0, sys.argv.pop(1)); from deploy.servers import bring_loopback_up as up; up()\n"


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for whoever inherited it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "INCIDENT_BRIDGE_NAMESPACE"}


@pytest.fixture
def staying(root: Path, tmp_path: Path) -> Iterator[Process]:
    """A demo that stays up."""
    demo = Process([root / "deploy/demo"], log=tmp_path / "demo.log")
    demo.start()
    yield demo
    demo.stop(20)


def test_once_ends_well_when_the_report_is_answered_and_stored(root: Path) -> None:
    done = subprocess.run(
        [root / "deploy/demo", "--once"], capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "b.test got its result" in done.stdout
    assert "as it should be" in done.stdout.splitlines()[-1]
    assert re.search(r"stranger\.test .* yes ", done.stdout), "what a stranger sends is shown as quarantined"


def test_it_stays_up_what_it_suggests_works_and_ctrl_c_leaves_nothing(staying: Process) -> None:
    until(lambda: "Ctrl-C" in staying.log() or not staying.is_running, 300, "the demo has told its story")
    assert staying.is_running, staying.log()
    suggested = staying.log().split("What to type next")[1]
    [config] = re.findall(r"--config (\S+)/config.toml", suggested)
    lines = [line.strip() for line in suggested.splitlines() if line.startswith("   ")]
    script = "shopt -s expand_aliases\nset -e\n" + "\n".join(
        line for line in lines if not line.startswith("tail")
    )
    below = staying.children()

    typed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=120)
    staying.signal(signal.SIGINT)
    until(lambda: not staying.is_running, 30, "the demo ends")

    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert "type='result'" in typed.stdout, "the report sent again by hand is answered"
    assert staying.returncode == 0
    assert not Path(config).exists()
    assert below
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


def test_a_demo_killed_without_a_word_takes_its_servers_with_it(staying: Process) -> None:
    until(lambda: "Ctrl-C" in staying.log() or not staying.is_running, 300, "the demo has told its story")
    below = staying.children()

    staying.kill()

    assert below
    deadline = time.monotonic() + 30  # a worker gives its store about 10 s
    while left := {pid: line for pid, line in below.items() if is_alive(pid)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def run_where_the_port_is_taken(root: Path) -> subprocess.CompletedProcess[str]:
    words = namespace_command()
    if words is None:
        pytest.skip(
            "a network namespace is not allowed here, and without one the port cannot be taken safely"
        )
    python = subprocess.run([root / "deploy/environment", "demo"], capture_output=True, text=True, check=True)
    unshare = shutil.which(words[0]) or words[0]
    argv = [
        unshare,
        *words[1:],
        python.stdout.strip(),
        "-c",
        BRING_UP + LISTEN,
        str(root),
        root / "deploy/demo",
        "--once",
    ]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=300, env=clean_environment()
    )


def test_a_server_that_holds_port_5269_is_left_alone(root: Path) -> None:
    done = run_where_the_port_is_taken(root)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "port 5269 is taken" in done.stdout


def test_without_leave_for_a_namespace_it_says_what_to_type(root: Path, tmp_path: Path) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    python = subprocess.run([root / "deploy/environment", "demo"], capture_output=True, text=True, check=True)

    done = subprocess.run(
        [python.stdout.strip(), "-c", PORT_IS_TAKEN, "--once"],
        env={**clean_environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(root / "deploy")},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert "sudo sysctl" in done.stderr
