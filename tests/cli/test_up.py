"""`up` on this machine: one tree, ready soon, whole again after kill -9, gone without a trace."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.cli.services import is_answering
from bridge.config import Address
from bridge.store.connect import close, open_store
from bridge.store.embedded import EmbeddedServer

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(look: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Wait for something true."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Up:
    """A running `incident-bridge up`."""

    def __init__(self, folder: Path, ports: list[int], store: str = "") -> None:
        self.ports = ports
        names = ("ingest_listen", "listen", "metrics_listen")
        self.config = folder / "config.toml"
        self.config.write_text(
            "[server]\n"
            + "".join(f'{name} = "127.0.0.1:{port}"\n' for name, port in zip(names, self.ports, strict=True))
            + f'[store]\ndata_dir = "{folder / "data"}"\nmax_bytes = 100000000\n{store}\n'
            + f'[hosts."a.test"]\nsecret = "{SECRET}"\napi_url = "http://127.0.0.1:9"\n'
        )
        self.messages = folder / "messages"
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        with self.messages.open("wb") as messages:
            return subprocess.Popen(
                [sys.executable, "-m", "bridge.cli", "--config", str(self.config), "up"],
                cwd=ROOT,
                stderr=messages,
                stdout=messages,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        return is_answering(Address("127.0.0.1", self.ports[0]))

    def told(self) -> str:
        return self.messages.read_text()

    def pids(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def children(self) -> dict[str, int]:
        """The children by what they are."""
        found = {}
        for pid in self.pids():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").strip()
            names = ("worker incidents", "worker outgoing", "worker deliveries", "serve")
            found[next((name for name in names if words.endswith(f" {name}")), "store")] = pid
        return found


@contextmanager
def running(up: Up) -> Iterator[Up]:
    try:
        yield up
    finally:
        up.process.terminate()
        try:
            up.process.wait(60)
        except subprocess.TimeoutExpired:
            up.process.kill()
            up.process.wait()
            raise


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with running(Up(tmp_path, free_ports(3))) as started:
        yield started


@contextmanager
def forgetful(server: EmbeddedServer) -> Iterator[None]:
    """Let the store forget its last second in a power cut, for a while."""

    async def set_fsync(value: str) -> None:
        store = await open_store(server.url)
        await store.redis.config_set("appendfsync", value)
        await close(store)

    asyncio.run(set_fsync("everysec"))
    try:
        yield
    finally:
        asyncio.run(set_fsync("always"))


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_up_is_ready_survives_deaths_and_stops_everything(up: Up) -> None:
    until(up.is_ready)
    until(lambda: "The incident bridge is ready" in up.told())
    children = up.children()
    assert set(children) == {"store", "serve", "worker incidents", "worker outgoing", "worker deliveries"}
    checked = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "--json", "--config", str(up.config), "check"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    findings = {one["what"]: one["code"] for one in json.loads(checked.stdout)["findings"]}
    assert checked.returncode == 3  # there is no Prosody here
    assert findings["store"] == findings["service"] == findings["worker incidents"] == 0
    assert findings["prosody a.test"] == 3

    dead = {name: children[name] for name in ("store", "worker incidents")}
    for pid in dead.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(up.children().get(name, pid) != pid for name, pid in dead.items()))
    until(up.is_ready)

    pids = up.children().values()
    up.process.terminate()
    assert up.process.wait(30) == 0
    assert all(is_gone(pid) for pid in pids)
    assert not up.is_ready()


@pytest.mark.parametrize("children", [2, 3, 4])
def test_nobody_outlives_up_when_it_is_killed(up: Up, children: int) -> None:
    until(lambda: len(up.pids()) >= children)  # the last of them has hardly begun
    pids = up.pids()

    up.process.kill()
    up.process.wait()

    until(lambda: all(is_gone(pid) for pid in pids))


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        with running(Up(tmp_path, [taken.getsockname()[1], *free_ports(2)])) as up:
            assert up.process.wait(60) == 2

    assert "cannot listen on" in up.told()
    assert not (tmp_path / "data").exists()


def test_a_child_that_cannot_use_its_configuration_ends_it_all(
    tmp_path: Path, server: EmbeddedServer
) -> None:
    with forgetful(server), running(Up(tmp_path, free_ports(3), store=f'url = "{server.url}"')) as up:
        assert up.process.wait(60) == 2

    assert "CONFIG SET appendfsync always" in up.told()
