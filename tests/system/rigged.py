"""A disk that can be filled and a clock that can be moved, under real programs."""

import contextlib
import time
from pathlib import Path

from deploy.servers import Process, fetch

DISK = "64m"


class NotAllowedHereError(Exception):
    """This machine does not let us make a file system; says what the machine said."""


class Disk:
    """A small file system in a mount namespace of its own; NotAllowedHereError where there is none to be had."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stay = "exec setpriv --pdeathsig KILL sleep 3600"
        made = f"mount -t tmpfs -o size={DISK} tmpfs '{folder}' && echo made && {stay}"
        self.keeper = Process(["unshare", "-rm", "sh", "-c", made], log=folder.with_suffix(".log"))
        self.keeper.start()
        deadline = time.monotonic() + 10
        while "made" not in self.keeper.log():
            if not self.keeper.is_running or time.monotonic() > deadline:
                self.keeper.kill()
                raise NotAllowedHereError(self.keeper.log().strip() or "unshare -rm says nothing")
            time.sleep(0.01)
        pid = str(self.keeper.pid)
        self.words = f"nsenter -t {pid} -U --preserve-credentials -m -- setpriv --pdeathsig KILL".split()
        self.ballast = Path(f"/proc/{self.keeper.pid}/root{folder}/ballast")

    def fill(self) -> None:
        """Leave not a byte."""
        with self.ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """End `fill`."""
        self.ballast.unlink(missing_ok=True)


class Clock:
    """Moves the clocks of the programs that run with its environment; monotonic ones go on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = fetch("faketime").parent.glob("root/usr/lib/*/faketime/libfaketime.so.1")
        self.library = next(found)
        self.set(0)

    def set(self, ahead: int) -> None:
        """So many seconds from the true time; they look once a second."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(f"{ahead:+}\n")
        fresh.rename(self.path)

    @property
    def env(self) -> dict[str, str]:
        """What its programs are started with."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
