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
def started(root: Path, tmp_path: Path) -> Iterator[Process]:
    """A demo that stays up."""
    demo = Process([root / "deploy/demo"], log=tmp_path / "demo.log")
    demo.start()
    yield demo
    demo.stop(20)


def run_once(root: Path) -> tuple[bool, subprocess.CompletedProcess[str]]:
    """Run `deploy/demo --once`, where the port is taken if that can be done safely, and tell whether it was."""
    words = namespace_command()
    taken: list[str | Path] = []
    if words is not None:
        python = subprocess.run(
            [root / "deploy/environment", "demo"], capture_output=True, text=True, check=True
        )
        unshare = shutil.which(words[0]) or words[0]
        taken = [unshare, *words[1:], python.stdout.strip(), "-c", BRING_UP + LISTEN, root]
    done = subprocess.run(
        [*taken, root / "deploy/demo", "--once"],
        capture_output=True, text=True, check=False, timeout=600, env=clean_environment(),
    )  # fmt: skip
    return words is not None, done


def assert_well(said: str) -> None:
    """The report is answered and stored; what a stranger sends is shown as quarantined; what a user reports is sent."""
    assert "b.test got its result" in said
    assert re.search("outcome: .* as it should be", said)
    assert "NOT as it should be" not in said
    assert re.search(r"stranger\.test .* yes ", said)
    draft = after(said, "a.test $ incident-bridge abuse show b.test")
    assert "Users of a.test report spam from b.test" in draft
    assert "1 by 1 user; 1 may be passed on to b.test" in draft
    assert "flooder@b.test: 1 report, 1 may be passed on" in draft
    sent = after(said, "a.test $ incident-bridge incidents resolve")
    assert "Users of a.test reported spam from b.test: 1 report about 1 address" in sent
    assert re.search(r"flooder@b\.test .* 1 event \(reports by users\)", sent)
    assert re.search(r"we reported it to b\.test as new\n +acknowledged ", sent), "b.test has it"
    assert "suspend account flooder@b.test: offered" in after(said, "b.test $ incident-bridge approvals show")


def after(said: str, command: str) -> str:
    """What is told after a command was typed, up to the next turn of the story."""
    return re.split(r"\n\n\d\d:\d\d:\d\d ", said.partition(command)[2], maxsplit=1)[0]


def test_once_ends_well_and_leaves_a_server_alone_that_holds_port_5269(root: Path) -> None:
    is_taken, done = run_once(root)

    assert done.returncode == 0, done.stdout + done.stderr
    assert_well(done.stdout)
    assert "as it should be" in done.stdout.splitlines()[-1]
    if not is_taken:
        pytest.skip("the story went well, but a network namespace is not allowed here, so the port was free")
    assert "port 5269 is taken" in done.stdout


def test_it_stays_up_what_it_suggests_works_and_ctrl_c_leaves_nothing(started: Process) -> None:
    until(lambda: "Ctrl-C" in started.log() or not started.is_running, 600, "the demo has told its story")
    assert started.is_running, started.log()
    assert_well(started.log())
    suggested = started.log().split("What to type next")[1]
    [config] = re.findall(r"--config (\S+)/config.toml", suggested)
    lines = [line.strip() for line in suggested.splitlines() if line.startswith("   ")]
    script = "shopt -s expand_aliases\nset -e\n" + "\n".join(
        line for line in lines if not line.startswith("tail")
    )
    below = started.children()

    typed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=300)
    started.signal(signal.SIGINT)
    until(lambda: not started.is_running, 30, "the demo ends")

    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert "type='result'" in typed.stdout, "the report sent again by hand is answered"
    assert started.returncode == 0
    assert not Path(config).exists()
    assert below
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists()]


def test_a_demo_killed_without_a_word_takes_its_servers_with_it(started: Process) -> None:
    until(lambda: "it also hosts" in started.log() or not started.is_running, 600, "all its servers are up")
    below = started.children()

    started.kill()

    assert len(below) > 10, "two bridges with their stores, workers and services, and two Prosodys"
    deadline = time.monotonic() + 30  # a worker gives its store about 10 s
    while left := {pid: line for pid, line in below.items() if is_alive(pid)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_without_leave_for_a_namespace_it_says_what_to_type(root: Path, tmp_path: Path) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    python = subprocess.run([root / "deploy/environment", "demo"], capture_output=True, text=True, check=True)

    done = subprocess.run(
        [python.stdout.strip(), "-c", PORT_IS_TAKEN, "--once"],
        env={**clean_environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(root / "deploy")},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip

    assert done.returncode == 1, done.stdout + done.stderr
    assert "sudo sysctl" in done.stderr
