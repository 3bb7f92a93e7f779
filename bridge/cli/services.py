"""`up`, `serve`, `worker`: the running bridge, whole or in parts."""

import argparse
import http.client
import json
import os
import resource
import signal
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING

from bridge import log
from bridge.cli.arguments import NO_FILE, Commands, command
from bridge.cli.output import Exit, Terminal
from bridge.cli.supervise import Child, Running, Tree, spawn, watched_signals
from bridge.config import Address, Settings, load_settings
from bridge.errors import ConfigError
from bridge.policy.change import Queue

if TYPE_CHECKING:
    from bridge.store.embedded import EmbeddedServer

_LOG = log.get(__name__)
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_TICK_SECONDS = 0.5
_LOOK_SECONDS = 0.05
_NOT_READY_AFTER_SECONDS = 20.0
_SERVE_PATIENCE_SECONDS = 10.0
_WORKER_PATIENCE_SECONDS = 15.0
_STORE_PATIENCE_SECONDS = 30.0


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    command(commands, common, "up", up, "run everything on one machine: service, workers, embedded store")
    command(commands, common, "serve", serve, "run the service alone (ingest, API, metrics)")
    worker_parser = command(
        commands, common, "worker", worker, "run a worker; without QUEUE one for each queue"
    )
    worker_parser.add_argument("queue", nargs="?", choices=[str(queue) for queue in Queue], metavar="QUEUE",
                               help=" or ".join(Queue))  # fmt: skip


def serve(arguments: argparse.Namespace, terminal: Terminal) -> int:  # noqa: ARG001
    """Run the service until it is told to stop."""
    from bridge.web.app import run

    return run(_settings(arguments))


def worker(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run one worker here, or one child for each queue."""
    settings = _settings(arguments)
    if arguments.queue:
        from bridge.worker.main import run_worker

        return run_worker(settings, Queue(arguments.queue))
    children = [_child(arguments, settings, f"worker {queue}") for queue in reversed(Queue)]
    return _run(Tree(children), terminal)


def up(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Run the store (unless one is configured), the workers and the service; stop them in the other order."""
    settings = _settings(arguments)
    _require_free(settings)
    children = [_store_child(settings)] if settings.is_embedded else []
    children += [_child(arguments, settings, f"worker {queue}") for queue in reversed(Queue)]
    children.append(_child(arguments, settings, "serve"))
    return _run(Tree(children), terminal, settings=settings)


def leave_no_core() -> None:
    """Let no crash of this process or of its children write a core file: secrets and peers' words would be in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if soft:
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _settings(arguments: argparse.Namespace) -> Settings:
    """Load the settings, and name the file to our children and to the jobs that a worker runs."""
    leave_no_core()
    settings = load_settings(arguments.config)
    if settings.path:
        os.environ["INCIDENT_BRIDGE_CONFIG"] = str(settings.path.absolute())
    return settings


def _child(arguments: argparse.Namespace, settings: Settings, words: str) -> Child:
    options = ["--log-format", arguments.log_format, "--log-level", arguments.log_level]
    if settings.path:
        options += ["--config", str(settings.path.absolute())]
    is_serve = words == "serve"
    return Child(
        name=words,
        start=lambda: spawn([*options, *words.split()]),
        level=2 if is_serve else 1,
        patience_seconds=_SERVE_PATIENCE_SECONDS if is_serve else _WORKER_PATIENCE_SECONDS,
    )


class _Store:
    """The embedded server as a member of the tree."""

    def __init__(self, server: "EmbeddedServer") -> None:
        self.server = server

    @property
    def pid(self) -> int:
        return self.server.pid

    def poll(self) -> int | None:
        return self.server.process.poll()

    def terminate(self) -> None:
        self.server.process.terminate()

    def kill(self) -> None:
        self.server.process.kill()


def _store_child(settings: Settings) -> Child:
    from bridge.store.embedded import start_embedded

    def start() -> _Store:
        try:
            return _Store(start_embedded(settings.store.data_dir, max_bytes=settings.store.max_bytes))
        except OSError as error:
            folder = settings.store.data_dir
            raise ConfigError(f"store.data_dir {folder} cannot be used: {error.strerror}") from error

    def bury(running: Running) -> None:
        if isinstance(running, _Store):
            running.server.stop()  # it has ended; this gives its lock on the folder back

    return Child(name="store", start=start, bury=bury, patience_seconds=_STORE_PATIENCE_SECONDS)


def _require_free(settings: Settings) -> None:
    """Refuse to start where somebody else listens already, before anything runs."""
    server = settings.server
    for address in (server.ingest_listen, server.listen, server.metrics_listen):
        try:
            with socket.create_server((address.host, address.port), family=_family(address)):
                pass
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            change = "change [server] or stop what listens there"
            raise ConfigError(f"cannot listen on {address}: {reason}; {change}") from error


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _run(tree: Tree, terminal: Terminal, *, settings: Settings | None = None) -> int:
    """Look after the tree until a signal comes; a child that cannot use its configuration at first ends it all."""
    greeting = _Greeting(settings, terminal) if settings else None
    with watched_signals() as wait:
        try:
            tree.start(now=time.monotonic())
            while not wait(_LOOK_SECONDS if greeting else _TICK_SECONDS) & _ENDING:
                died = tree.look_after(now=time.monotonic())
                if any(code == Exit.USAGE and child.starts == 1 for child, code in died):
                    return Exit.USAGE
                if greeting and greeting.is_said():
                    greeting = None
        finally:
            tree.stop()
    return Exit.OK


class _Greeting:
    """Says once that the bridge is ready, and meanwhile once that it takes long."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        self.settings = settings
        self.terminal = terminal
        self.started = time.monotonic()
        self.has_complained = False

    def is_said(self) -> bool:
        seconds = time.monotonic() - self.started
        problem = ready_problem(self.settings.server.ingest_listen)
        if problem is None:
            self.terminal.say(_ready_text(self.settings, seconds=seconds))
        elif seconds > _NOT_READY_AFTER_SECONDS and not self.has_complained:
            self.has_complained = True
            self.terminal.say(f"Not ready yet: {problem}. In another terminal: incident-bridge check")
        return problem is None


def is_answering(address: Address, path: str = "/ready") -> bool:
    """Whether a listener of ours answers 200."""
    return ready_problem(address, path) is None


def ready_problem(address: Address, path: str = "/ready") -> str | None:
    """Why a listener of ours is not ready, in its own words where it has some; None if it is."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 (compared, not bound)
    try:
        with closing(http.client.HTTPConnection(host, address.port, timeout=2)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read(4096).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"nothing answers at {address} ({error})"
    if response.status == http.client.OK:
        return None
    return _reasons(body) or f"{address} answers {response.status}"


def _reasons(body: str) -> str:
    try:
        answer = json.loads(body)
        return "; ".join(str(reason) for reason in answer["reasons"])
    except (ValueError, KeyError, TypeError):
        return ""


def _ready_text(settings: Settings, *, seconds: float) -> str:
    store = settings.store.data_dir if settings.is_embedded else "the configured store"
    where = f"Prosody posts to http://{settings.server.ingest_listen}, data in {store}"
    first = f"The incident bridge is ready ({seconds:.1f} s): {where}."
    if not settings.hosts and settings.path is None:
        return f"{first}\nNo host is configured: {NO_FILE}."
    if not settings.hosts:
        how = 'a [hosts."…"] table, as incident-bridge config default shows'
        return f"{first}\nNo host is configured yet. Next: {how}."
    nexts = "incident-bridge check, then incident-bridge incidents list"
    return f"{first}\nHosts: {', '.join(settings.hosts)}. Next: {nexts}. Ctrl-C stops everything."
