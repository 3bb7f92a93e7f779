"""A tree of processes that live and die together: started in order, restarted when they die, stopped in order.

House rules: a child never outlives us (PR_SET_PDEATHSIG, also after kill -9); it has its own process group, so that
Ctrl-C reaches it only through us, in order; nothing of ours runs between fork and exec, where a signal that we
handle here would be lost there.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bridge import log
from bridge.errors import BridgeError
from bridge.store.parent import dying_with_us

_LOG = log.get(__name__)
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
_LIVED_WELL_SECONDS = 30.0
_LOOK_SECONDS = 0.02


class Running(Protocol):
    """A process as the tree sees it; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def terminate(self) -> None:
        """Ask it to end; nothing if it has."""

    def kill(self) -> None:
        """End it; nothing if it has."""


@dataclass(slots=True, kw_only=True)
class Child:
    """One member of the tree.

    Attributes:
        start: starts it and returns it.
        level: higher levels need lower ones, so they start later and stop earlier.
        bury: gives back what the process held, when it has ended, however it did.
        patience_seconds: how long it may take to end before it is killed.
    """

    name: str
    start: Callable[[], Running]
    level: int = 0
    bury: Callable[[Running], None] = lambda _: None
    patience_seconds: float = 15.0
    running: Running | None = None
    starts: int = 0
    started_at: float = 0.0
    start_at: float = 0.0
    pause_seconds: float = FIRST_PAUSE_SECONDS


def spawn(
    arguments: Sequence[str], *, environment: dict[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Start one of our own commands as a child that dies with us."""
    program = [sys.executable, "-P", "-m", "bridge.cli", *arguments]
    return subprocess.Popen(  # noqa: S603 (our own program)
        dying_with_us(program, signal.SIGTERM),
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": _python_path(), **(environment or {})},
        process_group=0,
    )


def _python_path() -> str:
    """Make `bridge` importable for a child that runs elsewhere, also from a checkout."""
    root = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH", "")
    return root if not known else f"{root}{os.pathsep}{known}"


@dataclass(slots=True)
class Tree:
    """The children in the order in which they start."""

    children: Sequence[Child]

    def start(self, *, now: float) -> None:
        """Start everybody."""
        for child in self.children:
            self._start(child, now=now)

    def look_after(self, *, now: float) -> list[tuple[Child, int]]:
        """Restart whoever died, after a pause that doubles while it keeps dying; return who died and how."""
        died = []
        for child in self.children:
            code = child.running.poll() if child.running else None
            if child.running and code is not None:
                died.append((child, code))
                child.bury(child.running)
                if now - child.started_at > _LIVED_WELL_SECONDS:
                    child.pause_seconds = FIRST_PAUSE_SECONDS
                _LOG.error("died", child=child.name, code=code)
                self._pause(child, now=now)
            elif child.running is None and now >= child.start_at:
                try:
                    self._start(child, now=now)
                except BridgeError as error:  # what worked before may work again
                    _LOG.error("does not start", child=child.name, reason=str(error))
                    self._pause(child, now=now)
                else:
                    _LOG.warning("started again", child=child.name)
        return died

    @staticmethod
    def _pause(child: Child, *, now: float) -> None:
        child.running, child.start_at = None, now + child.pause_seconds
        child.pause_seconds = min(child.pause_seconds * 2, LONGEST_PAUSE_SECONDS)

    def stop(self) -> None:
        """End everybody: the highest level first, those of one level together; who does not listen is killed."""
        for level in sorted({child.level for child in self.children}, reverse=True):
            _end([child for child in self.children if child.level == level])

    def _start(self, child: Child, *, now: float) -> None:
        child.running = child.start()
        child.starts += 1
        child.started_at = now
        _LOG.debug("started", child=child.name, pid=child.running.pid)


def _end(children: Sequence[Child]) -> None:
    left = {child.name: (child, child.running) for child in children if child.running}
    for _, running in left.values():
        running.terminate()
    started = time.monotonic()
    while left:
        for child, running in list(left.values()):
            if running.poll() is not None:
                child.bury(running)
                child.running = None
                del left[child.name]
            elif time.monotonic() > started + child.patience_seconds:
                _LOG.warning("does not stop; killed", child=child.name, pid=running.pid)
                running.kill()
        if left:
            time.sleep(_LOOK_SECONDS)


@contextmanager
def watched_signals() -> Iterator[Callable[[float], set[int]]]:
    """Give a function that waits up to so many seconds and returns the signals that came meanwhile.

    SIGCHLD only ends the wait. SIGTERM, SIGINT and SIGHUP no longer end this process by themselves.
    """
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    previous = {number: signal.signal(number, lambda *_: None) for number in wanted}
    previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait(seconds: float) -> set[int]:
        ready, _, _ = select.select([reader], [], [], seconds)
        return set(os.read(reader, 4096)) if ready else set()

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
