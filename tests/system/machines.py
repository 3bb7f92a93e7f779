"""Service, workers, store and Prosodys, each on a machine of its own, while the store's primary is lost under load.

Run as a program (`python -m tests.system.machines FOLDER FAULT`) it plays one fault and prints what a checker counted,
as JSON; inside `unshare -rn` with network namespaces for machines, elsewhere (`--loopback`) with loopback addresses,
where a machine cannot be cut off from the others but only locked out by the store's users.

    .1 a.test   .2 b.test   .11 .12 .13 store and sentinels   .21 service   .22 .23 workers   .24 another client
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.errors import UnavailableError
from bridge.policy.change import Change, Remember
from bridge.store import load
from bridge.store.commit import Once, SeenError, commit
from bridge.store.connect import close, open_store
from deploy.servers import ROOT, Authority, Process, Prosody, bring_loopback_up, fetch, free_network
from tests.system.replicas import Machine, Trio
from tests.system.reports import report
from tests.system.servers import Bridge, Lab, eventually

FAULTS = ("killed", "frozen", "cut off")
SERVICE, FIRST_WORKERS, SECOND_WORKERS, CLIENT = 21, 22, 23, 24
PEERS_AT_ONCE = 8
HOST = "clients"
SETTINGS = """insecure = true
[policy]
quota_per_minute = 100000
quota_burst = 100000
quota_strangers_per_minute = 100000
quota_strangers_burst = 100000
quarantine_max_per_peer = 10000
"""


class Namespaces:
    """A network namespace for each machine, joined by a bridge; needs one of its own (`unshare -rn`) to be made in."""

    network = "10.68.0"

    def __init__(self, folder: Path) -> None:
        self.ip = fetch("iproute2") / "ip"
        self.folder = folder
        self.keepers: dict[str, Process] = {}
        bring_loopback_up()
        for number, name in enumerate(("switch", "apart")):
            # Without one of its own a bridge changes its address with its ports, and is lost to its neighbours.
            self._run("link", "add", name, "address", f"02:00:00:00:00:0{number}", "type", "bridge")
            self._run("link", "set", name, "up")
        self._run("addr", "add", f"{self.network}.254/24", "dev", "switch")

    def inside(self, address: str) -> Sequence[str]:
        """The words that run a program on the machine with this address, which is made if there is none."""
        if address not in self.keepers:
            self._make(address)
        return ("nsenter", "-t", str(self.keepers[address].pid), "-n", "--")

    def _make(self, address: str) -> None:
        pause = "import signal; print('here', flush=True); signal.pause()"
        keeper = Process(["unshare", "-n", sys.executable, "-c", pause], log=self.folder / f"net-{address}")
        keeper.start()
        while "here" not in keeper.log():
            time.sleep(0.01)
        self.keepers[address] = keeper
        self._run(
            "link", "add", _port(address), "type", "veth", "peer", "name", "eth0", "netns", str(keeper.pid)
        )
        self._run("link", "set", _port(address), "master", "switch", "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            subprocess.run([*self.inside(address), str(self.ip), *words], check=True, timeout=5)

    def cut(self, machine: Machine, *with_it: str) -> None:
        """Cut this machine off from all others but those named; nobody is told, packets get lost."""
        for address in (machine.address, *with_it):
            self._run("link", "set", _port(address), "master", "apart")

    def join(self, machine: Machine, *with_it: str) -> None:
        """End `cut`."""
        for address in (machine.address, *with_it):
            self._run("link", "set", _port(address), "master", "switch")

    def _run(self, *words: str) -> None:
        subprocess.run([str(self.ip), *words], check=True, timeout=5)

    def stop(self) -> None:
        """The machines are gone."""
        for keeper in self.keepers.values():
            keeper.kill()


class Loopback:
    """All machines on this one, where network namespaces are not allowed."""

    def __init__(self, _: Path) -> None:
        self.network = free_network(os.getpid())

    def inside(self, _: str) -> Sequence[str]:
        """Everything is here."""
        return ()

    def cut(self, machine: Machine, *_: str) -> None:
        """Lock replicas and sentinels out, which leaves the clients where they are."""
        machine.lock_out()

    def join(self, machine: Machine, *_: str) -> None:
        """End `cut`."""
        machine.let_in()

    def stop(self) -> None:
        """Nothing was made."""


class Spread(Bridge):
    """The bridge with each of its processes on a machine of its own."""

    def __init__(self, folder: Path, world: Namespaces | Loopback, trio: Trio) -> None:
        super().__init__(folder, address=f"{world.network}.{SERVICE}", settings=SETTINGS)
        self.world = world
        self.store = trio  # type: ignore[assignment]  # only its URL is asked
        world.inside(self.address)

    def start_at(self, last: int, *words: str) -> None:
        """Start one of its processes on the machine with this address."""
        inside = self.world.inside(f"{self.world.network}.{last}")
        name = f"{' '.join(words)} {last}"
        self.processes[name] = Process(
            [*inside, *self.argv(*words)], log=self.folder / f"{name}.log", env=self.env
        )
        self.processes[name].start()


class Answers:
    """What the peer got for its reports, and what it was told is stored."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.answered: list[str] = []
        self.refused = 0
        self.unanswered = 0
        self.is_over = False

    async def ask(self, peer: Prosody, first: int) -> None:
        """Send one report after the other; one that was not stored is sent again, under another id."""
        number, tries = first, 0
        while not self.is_over:
            tries += 1
            stanza = report(number).replace(f"id='r{number}'", f"id='r{number}-{tries}'")
            try:
                reply = await peer.send_iq(stanza, seconds=15)
            except TimeoutError:
                self.unanswered += 1
                continue
            if reply.type == "result":
                self.answered.append(f"incident-{number}")
                self.at.append(time.monotonic())
                number += PEERS_AT_ONCE
            else:
                self.refused += 1
                await asyncio.sleep(0.2)

    def silence(self) -> float:
        """The longest time without an answer."""
        return max(later - earlier for earlier, later in zip(self.at, self.at[1:], strict=False))

    async def more(self, count: int) -> None:
        """Wait until so many more were answered."""
        wanted = len(self.at) + count
        await eventually(lambda: len(self.at) >= wanted, 30)


async def commit_alone(url: str, told: Path) -> None:
    """Be a client that commits without end, and writes down what it was told is stored; on a machine of its own."""
    store = await open_store(url, patience_seconds=3)
    number = 0
    with told.open("w") as file:
        while True:
            number += 1
            name = f"c{number}"
            change = Change(
                remembers=(Remember(host=HOST, name=name, value="1", ttl_seconds=600, is_new=False),)
            )
            try:
                await commit(store, change, once=Once(name, b"ok"))
            except UnavailableError:
                continue
            except SeenError:
                pass
            file.write(f"{name}\n")
            file.flush()
            await asyncio.sleep(0.005)


async def play(folder: Path, world: Namespaces | Loopback, fault: str) -> dict[str, Any]:
    """Lose the primary under load; what was answered, stored and lost."""
    lab = Lab(world.network, Authority(folder / "ca"), folder=folder)
    trio = lab.add(
        "store", Trio(folder / "s", [f"{world.network}.{last}" for last in (11, 12, 13)], inside=world.inside)
    )
    bridge = lab.add("bridge", Spread(folder / "i", world, trio))
    a = lab.prosody("a.test", bridge=bridge, start=False)
    if isinstance(world, Namespaces):
        a.extra_host += (
            f'incident_bridge_insecure = true; incident_bridge_allow = {{ "{world.network}.0/24" }}\n'
        )
    b = lab.prosody("b.test", peer=True, start=False)
    try:
        trio.start()
        bridge.start_at(SERVICE, "serve")
        for last in (FIRST_WORKERS, SECOND_WORKERS):
            bridge.start_at(last, "worker", "incidents")
            bridge.start_at(last, "worker", "outgoing")
            bridge.start_at(last, "worker", "deliveries")
        for prosody in (a, b):
            prosody.process.argv = [*world.inside(prosody.address), *prosody.process.argv]
            prosody.start()
        bridge.wait_ready()
        return await lose_primary(folder, fault, trio, bridge, b)
    except BaseException:
        show(lab, bridge)
        raise
    finally:
        lab.close()


def show(lab: Lab, bridge: Spread) -> None:
    """Print what everybody said last, for the report of a failed test."""
    logs = lab.logs() | {name: one.log()[-4000:] for name, one in bridge.processes.items()}
    for name, text in logs.items():
        print(f"==== {name}\n{text}", file=sys.stderr)


async def lose_primary(folder: Path, fault: str, trio: Trio, bridge: Spread, peer: Prosody) -> dict[str, Any]:
    world, answers, first = bridge.world, Answers(), trio.machines[0]
    client = f"{world.network}.{CLIENT}"
    words = [sys.executable, "-m", "tests.system.machines", str(folder), "client", "--url", trio.url]
    alone = Process([*world.inside(client), *words], log=folder / "client.log", env=bridge.env)
    alone.start()
    asking = [asyncio.create_task(answers.ask(peer, number)) for number in range(PEERS_AT_ONCE)]
    await answers.more(60)
    told = folder / "client.told"
    await eventually(lambda: told.exists() and told.read_text().count("\n") > 50, 20)
    {
        "killed": first.kill,
        "frozen": first.freeze,
        "cut off": lambda: world.cut(first, client),
    }[fault]()
    await eventually(lambda: trio.primary() not in {None, first}, 15)
    await answers.more(40)
    {"killed": first.start, "frozen": first.thaw, "cut off": lambda: world.join(first, client)}[fault]()
    await answers.more(80)
    answers.is_over = True
    await asyncio.gather(*asking)
    alone.kill()
    return await count(folder, trio, bridge, answers)


async def count(folder: Path, trio: Trio, bridge: Spread, answers: Answers) -> dict[str, Any]:
    """Hold what everybody was told against what is stored."""
    listed = bridge.json("incidents", "list", "--limit", "5000")["incidents"]
    editions = {one["identity"]["text"]: len(one["editions"]) for one in listed}
    told = (folder / "client.told").read_text().split()
    store = await open_store(trio.url)
    found = (await load.fetch(store, remembered=[(HOST, name) for name in told])).remembered
    await close(store)
    return {
        "answered": len(answers.answered),
        "refused": answers.refused,
        "unanswered": answers.unanswered,
        "lost": [name for name in answers.answered if name not in editions],
        "doubled": [name for name, number in editions.items() if number != 1],
        "told_client": len(told),
        "lost_client": [name for (_, name), value in found.items() if value is None],
        "silence": round(answers.silence(), 2),
    }


def main() -> None:
    """Play one fault, or be the client."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("fault", choices=(*FAULTS, "client"))
    arguments.add_argument("--loopback", action="store_true")
    arguments.add_argument("--url", default="")
    given = arguments.parse_args()
    if given.fault == "client":
        asyncio.run(commit_alone(given.url, given.folder / "client.told"))
    world = Loopback(given.folder) if given.loopback else Namespaces(given.folder)
    try:
        print(json.dumps(asyncio.run(play(given.folder, world, given.fault))))
    finally:
        world.stop()


def _port(address: str) -> str:
    return f"to{address.rpartition('.')[2]}"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
