"""The servers of the system tests: Prosodys, stores and bridges of one test, all real, all ended with it.

    lab = …                                    # the fixture
    b = lab.prosody("b.test", peer=True)       # a peer: await b.send_iq(…)
    store = lab.store()                        # Redis with an append-only file; store.kill(), store.start()
    bridge = lab.bridge(store=store)           # bridge.start("serve"), bridge.start("worker", "incidents"), or "up"
    a = lab.prosody("a.test", bridge=bridge)   # with mod_incident_bridge, either version

`Federation` is the usual arrangement of them. Waiting is `await eventually(condition, seconds)`; nothing sleeps.
"""

import asyncio
import base64
import contextlib
import dataclasses
import functools
import inspect
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import aiohttp

from deploy.servers import ROOT, Authority, Process, Prosody, fetch, open_json, until

MODULES = ROOT / "tests/system/modules"
VERSIONS = {"0.12": "prosody012", "13": "prosody13"}
BRIDGE_STARTUP_SECONDS = 120.0
T = TypeVar("T")

commands_of = functools.cache(fetch)


@overload
async def eventually(condition: Callable[[], Awaitable[T]], seconds: float = 10.0) -> T: ...
@overload
async def eventually(condition: Callable[[], T], seconds: float = 10.0) -> T: ...
async def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return the first true value of `condition`; an AssertionError in it means not yet.

    After `seconds` its last AssertionError is raised, or a TimeoutError with its last value.
    """
    deadline = time.monotonic() + seconds
    while True:
        failure: AssertionError | None = None
        value: Any = None
        try:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
        except AssertionError as error:
            failure, value = error, None
        if value:
            return value
        if time.monotonic() > deadline:
            raise failure or TimeoutError(f"not true within {seconds:g} s; last value {value!r}")
        await asyncio.sleep(0.02)


def new_secret() -> str:
    """Return a fresh webhook secret."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Store:
    """A redis-server as deploy/redis.conf and deploy/users.acl have it; the bridge has no more rights than it needs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.socket = folder / "s"
        self.commands = commands_of("redis")
        acl = (ROOT / "deploy/users.acl").read_text()
        (folder / "users.acl").write_text(
            acl.replace("change-me-admin", "admin").replace("change-me", "bridge")
        )
        settings = {
            "unixsocket": self.socket,
            "dir": folder,
            "aclfile": folder / "users.acl",
            "pidfile": folder / "pid",
            "maxmemory": "512mb",
        }
        text = (ROOT / "deploy/redis.conf").read_text()
        for key, value in settings.items():
            text = re.sub(rf"^{key} .*$", f"{key} {value}", text, flags=re.MULTILINE)
        (folder / "redis.conf").write_text(text)
        self.process = Process([self.commands / "redis-server", folder / "redis.conf"], log=folder / "log")

    @property
    def url(self) -> str:
        """What `[store] url` takes."""
        return f"unix://incident-bridge:bridge@{self.socket}"

    def cli(self, *words: str, user: str = "admin") -> str:
        """Run redis-cli and return what it printed; the other user is `incident-bridge`."""
        who = ["--user", user, "--pass", user.rpartition("-")[2], "--no-auth-warning"]
        argv = [self.commands / "redis-cli", "-s", self.socket, *who, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10).stdout.strip()

    def start(self) -> None:
        """Start it and wait until it answers, its data loaded."""
        self.process.start()
        until(lambda: self.cli("PING") == "PONG", 20, "the store starts")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def stop(self) -> None:
        """SIGTERM."""
        self.process.stop()

    def log(self) -> str:
        """What it logged."""
        return self.process.log()


class Bridge:
    """The bridge's own processes, started from this checkout by the interpreter of the tests.

    Args:
        folder: configuration, embedded store and logs; its path must be short (Unix sockets).
        address: a loopback address of its own.
        store: the store to use; None is the embedded one.
        settings: more TOML, after the tables [server] and [store]; `server` goes into [server].
    """

    def __init__(
        self, folder: Path, *, address: str, store: Store | None = None, settings: str = "", server: str = ""
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = address
        self.store = store
        self.settings = settings
        self.server = server
        self.hosts: dict[str, tuple[str, str]] = {}
        self.processes: dict[str, Process] = {}
        self.config_path = folder / "config.toml"

    @property
    def ingest_url(self) -> str:
        """What Prosody's `incident_bridge_url` takes."""
        return f"http://{self.address}:15267"

    def serve_host(self, name: str, api_url: str) -> str:
        """Add a host and return its secret; before the start."""
        _, secret = self.hosts.setdefault(name, (api_url, new_secret()))
        self.write_configuration()
        return secret

    def write_configuration(self) -> None:
        """Write config.toml."""
        where = f'url = "{self.store.url}"' if self.store else f'data_dir = "{self.folder / "data"}"'
        hosts = [
            f'[hosts."{name}"]\napi_url = "{url}"\nsecret = "{secret}"\n'
            for name, (url, secret) in self.hosts.items()
        ]
        self.config_path.write_text(
            f'[server]\ningest_listen = "{self.address}:15267"\nlisten = "{self.address}:15268"\n'
            f'metrics_listen = "{self.address}:15269"\n{self.server}\n[store]\n{where}\n'
            + "".join(hosts)
            + self.settings
        )
        self.config_path.chmod(0o600)

    def argv(self, *words: str) -> list[str]:
        """Return the command line of `incident-bridge WORDS`."""
        start = "import sys; from bridge.cli.main import main; sys.exit(main())"
        return [sys.executable, "-c", start, "--config", str(self.config_path), *words]

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes: this checkout's code, no setting from outside."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("INCIDENT_BRIDGE_")}
        return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def start(self, *words: str, name: str | None = None) -> Process:
        """Start `incident-bridge WORDS` (`up`, `worker incidents`) without waiting; known by `name` or its words."""
        name = name or " ".join(words)
        process = self.processes.get(name) or Process(
            self.argv(*words), log=self.folder / f"{name}.log", env=self.env
        )
        self.processes[name] = process
        process.start()
        return process

    def start_up(self) -> Process:
        """Start `incident-bridge up` and wait until it is ready."""
        process = self.start("up")
        self.wait_ready()
        return process

    def start_apart(self) -> None:
        """Start `serve` and one worker for each queue as processes of their own; needs a `store`."""
        assert self.store is not None, "processes of their own share a store of their own"
        for words in (("serve",), ("worker", "incidents"), ("worker", "outgoing"), ("worker", "deliveries")):
            self.start(*words)
        self.wait_ready()

    def wait_ready(self, seconds: float = BRIDGE_STARTUP_SECONDS) -> None:
        """Wait until `/ready` answers 200."""
        until(self._is_ready, seconds, "the bridge is ready")

    def _is_ready(self) -> bool:
        for name, process in self.processes.items():
            if not process.is_running and process.returncode not in {None, -9, -15}:
                raise RuntimeError(
                    f"incident-bridge {name} ended with {process.returncode}:\n{process.log()[-4000:]}"
                )
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.ingest_url}/ready", timeout=2) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def kill(self, name: str) -> None:
        """SIGKILL one process."""
        self.processes[name].kill()

    def stop(self) -> None:
        """End all processes, the last started first."""
        for process in reversed(list(self.processes.values())):
            process.stop()

    def cli(self, *words: str, code: int = 0, seconds: float = 30.0) -> str:
        """Run `incident-bridge WORDS` to its end, expect its exit code, and return its stdout."""
        done = subprocess.run(
            self.argv(*words), env=self.env, capture_output=True, text=True, check=False, timeout=seconds
        )
        assert done.returncode == code, (
            f"incident-bridge {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def json(self, *words: str, code: int = 0) -> Any:
        """Run `incident-bridge WORDS --json` and return what it says."""
        return open_json(self.cli(*words, "--json", code=code))

    def log(self) -> str:
        """What its processes printed."""
        return "".join(f"--- {name}\n{process.log()}" for name, process in self.processes.items())


class Server(Protocol):
    """What a lab must know to end a server and to show what it logged."""

    def stop(self) -> None: ...
    def log(self) -> str: ...


S = TypeVar("S", bound=Server)


def processes_of(server: Server) -> list[Process]:
    """What runs for a server."""
    if isinstance(server, Bridge):
        return list(server.processes.values())
    return [process] if isinstance(process := getattr(server, "process", None), Process) else []


@dataclasses.dataclass
class Lab:
    """Makes servers and ends them all; one for each test."""

    network: str
    authority: Authority
    folder: Path = dataclasses.field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ib-")))
    servers: dict[str, Server] = dataclasses.field(default_factory=dict)

    def add(self, name: str, server: S) -> S:
        """Take over the ending of a server."""
        self.servers[name] = server
        return server

    @property
    def hosts(self) -> dict[str, str]:
        """Every name there is, whether its server runs or not."""
        return {
            name: f"{self.network}.{last}"
            for last, server in enumerate((f"{letter}.test" for letter in "abcdefghij"), start=1)
            for name in (server, f"muc.{server}", f"comp.{server}")
        }

    def prosody(
        self,
        name: str,
        *,
        version: str = "0.12",
        bridge: Bridge | None = None,
        peer: bool = False,
        mannered: bool = False,
        start: bool = True,
        **more: Any,
    ) -> Prosody:
        """Start a Prosody.

        With `bridge` it runs mod_incident_bridge, with `peer` it can be told what to send, and `mannered` it announces
        XEP-0268 and answers as `manner` says.
        """
        modules = [
            *more.pop("modules", ()),
            *(["incident_bridge"] if bridge else []),
            *(["incident_peer"] if peer else []),
            *(["incident_manners"] if mannered else []),
        ]
        server = Prosody(
            name,
            self.hosts[name],
            commands=commands_of(VERSIONS[version]),
            folder=self.folder / name,
            authority=self.authority,
            hosts=self.hosts,
            modules=modules,
            plugin_paths=[MODULES, *more.pop("plugin_paths", ())],
            **more,
        )
        if bridge:
            secret = bridge.serve_host(name, server.url)
            server.extra_host += (
                f'\nincident_bridge_url = "{bridge.ingest_url}"\nincident_bridge_secret = "{secret}"\n'
            )
        self.servers[name] = server
        if start:
            server.start()
        return server

    def store(self, *, start: bool = True) -> Store:
        """Start a store of its own."""
        store = Store(self.folder / "r")
        self.servers["store"] = store
        if start:
            store.start()
        return store

    def bridge(
        self, *, store: Store | None = None, settings: str = "", server: str = "", number: int = 0
    ) -> Bridge:
        """Prepare a bridge; add hosts, then start it. Several bridges have several numbers, below ten."""
        address = f"{self.network}.{100 + number}"
        bridge = Bridge(
            self.folder / f"i{number or ''}", address=address, store=store, settings=settings, server=server
        )
        return self.add(f"bridge{number or ''}", bridge)

    def domains(
        self, versions: Mapping[str, str], *, settings: str = "", peer: bool = True
    ) -> list["Domain"]:
        """Start a Prosody of this version for each name, each with a bridge of its own."""
        made = []
        for number, (name, version) in enumerate(versions.items(), start=1):
            bridge = self.bridge(number=number, settings=settings)
            prosody = self.prosody(name, version=version, bridge=bridge, peer=peer, start=False)
            bridge.start("up")
            made.append(Domain(name, prosody, bridge))
        for one in made:
            one.bridge.wait_ready()
            one.prosody.start()
        return made

    def logs(self) -> dict[str, str]:
        """The last lines of everybody's log, for the report of a failed test."""
        return {name: "\n".join(server.log().splitlines()[-60:]) for name, server in self.servers.items()}

    def close(self) -> None:
        """End everything, at the same time but for the store, and remove the folder."""
        for server in self.servers.values():
            for process in [] if isinstance(server, Store) else processes_of(server):
                process.signal(signal.SIGCONT)
                process.signal(signal.SIGTERM)
        for server in reversed(list(self.servers.values())):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclasses.dataclass
class Domain:
    """A domain as its operator has it: its Prosody, and a bridge of its own."""

    name: str
    prosody: Prosody
    bridge: Bridge

    def trust(self, *domains: str) -> None:
        """Decide to trust these peers."""
        for domain in domains:
            self.bridge.cli("peers", "trust", domain)


async def manner(prosody: Prosody, how: str) -> None:
    """Tell a mannered Prosody how to answer: `result`, `silence`, or the condition of an error of type wait."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{prosody.url}/manners", data=how, headers={"Host": prosody.name}) as answer,
    ):
        assert answer.status == 204, await answer.text()


@dataclasses.dataclass
class Federation:
    """a.test with the bridge, b.test its peer, on one private authority; the bridge runs as `up`."""

    lab: Lab
    bridge: Bridge
    a: Prosody
    b: Prosody

    @classmethod
    def start(
        cls,
        lab: Lab,
        *,
        version: str = "0.12",
        settings: str = "",
        store: Store | None = None,
        is_mannered: bool = False,
        **more: Any,
    ) -> "Federation":
        """Start the bridge (as `up`, or apart with a `store`), then both Prosodys; `more` goes to a.test's."""
        bridge = lab.bridge(store=store, settings=settings)
        a = lab.prosody("a.test", version=version, bridge=bridge, start=False, **more)
        b = lab.prosody("b.test", peer=True, mannered=is_mannered, start=False)
        if store:
            bridge.start_apart()
        else:
            bridge.start_up()
        a.start()
        b.start()
        return cls(lab, bridge, a, b)
