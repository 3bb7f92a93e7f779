"""A store on three machines, as Sentinel runs it: a primary, two replicas, and a sentinel beside each.

    trio = Trio(folder, ["127.77.0.1", "127.77.0.2", "127.77.0.3"])
    trio.start()
    primary = trio.primary()           # the server that is it now
    primary.kill() | .freeze() | .cut_off() …
    trio.stop()

Everything has an address of its own. `inside(address)` gives the words that run a program where that address is; on
loopback there are none, with network namespaces they are `nsenter …` (tests/system/hosts.py).
"""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from deploy.servers import ROOT, Process, fetch, until

PORT, SENTINEL_PORT = 16379, 26379
EXAMPLE = "192.0.2.1"
NAME = "incidents"
PASSWORD, SENTINEL_PASSWORD = "word@of:the/bridge", "word@of:the/sentinels"
DOWN_AFTER_MS = 1000
Inside = Callable[[str], Sequence[str]]


def anywhere(_: str) -> Sequence[str]:
    """Every address is on this machine."""
    return ()


class Machine:
    """One of the three: a Redis that may be the primary, and a sentinel."""

    def __init__(self, folder: Path, address: str, *, first: str, inside: Inside) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address = address
        self.folder = folder
        self.commands = fetch("redis")
        self.words = inside(address)
        (folder / "users.acl").write_text(_users())
        settings = {
            "bind": address,
            "replica-announce-ip": address,
            "port": str(PORT),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": '""',
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
            "aclfile": str(folder / "users.acl"),
            "masteruser": "replica",
            "masterauth": "change-me-replica",
            "repl-timeout": "5",
            "repl-diskless-sync-delay": "0",
            "min-replicas-to-write": "1",
            "min-replicas-max-lag": "3",
            **({} if address == first else {"replicaof": f"{first} {PORT}"}),
        }
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        (folder / "redis.conf").write_text("".join(lines))
        self.store = Process(
            [*self.words, self.commands / "redis-server", folder / "redis.conf"], log=folder / "store.log"
        )
        (folder / "sentinel.conf").write_text(f"{_sentinel(address, first)}dir {folder}\n")
        self.sentinel = Process(
            [*self.words, self.commands / "redis-server", folder / "sentinel.conf", "--sentinel"],
            log=folder / "sentinel.log",
        )

    def cli(self, *words: str) -> str:
        """Run redis-cli against the Redis here, as its admin; what it printed."""
        return self._cli("-p", str(PORT), "--user", "admin", "-a", "change-me-admin", *words)

    def ask_sentinel(self, *words: str) -> str:
        """Run redis-cli against the sentinel here."""
        return self._cli("-p", str(SENTINEL_PORT), "-a", SENTINEL_PASSWORD, *words)

    def _cli(self, *words: str) -> str:
        argv = [
            *self.words,
            str(self.commands / "redis-cli"),
            "-h",
            self.address,
            "--no-auth-warning",
            *words,
        ]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=3)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip()

    def start(self) -> None:
        """Start both."""
        for process in (self.store, self.sentinel):
            if not process.is_running:
                process.start()

    def kill(self) -> None:
        """SIGKILL to both, as when the machine dies."""
        self.store.kill()
        self.sentinel.kill()

    def freeze(self) -> None:
        """SIGSTOP to the Redis: connections stay, nobody answers."""
        self.store.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.store.thaw()

    def lock_out(self) -> None:
        """Let no replica and no sentinel in any more, while clients go on: half a partition."""
        for user in ("replica", "sentinel"):
            self.cli("ACL", "SETUSER", user, "off")
            self.cli("CLIENT", "KILL", "USER", user)

    def let_in(self) -> None:
        """End `lock_out`."""
        for user in ("replica", "sentinel"):
            self.cli("ACL", "SETUSER", user, "on")

    def stop(self) -> None:
        """End both."""
        self.sentinel.stop()
        self.store.stop()

    def log(self) -> str:
        """What both logged."""
        return (
            f"--- redis {self.address}\n{self.store.log()}--- sentinel {self.address}\n{self.sentinel.log()}"
        )


class Trio:
    """Three machines; the first is the primary at first."""

    def __init__(self, folder: Path, addresses: Sequence[str], *, inside: Inside = anywhere) -> None:
        self.machines = [
            Machine(folder / f"m{number}", address, first=addresses[0], inside=inside)
            for number, address in enumerate(addresses)
        ]

    @property
    def url(self) -> str:
        """What `[store] url` takes."""
        hosts = ",".join(f"{machine.address}:{SENTINEL_PORT}" for machine in self.machines)
        password, another = quote(PASSWORD, safe=""), quote(SENTINEL_PASSWORD, safe="")
        return f"sentinel://incident-bridge:{password}@{hosts}/{NAME}?sentinel_password={another}"

    def start(self) -> None:
        """Start all and wait until everybody knows everybody."""
        for machine in self.machines:
            machine.store.start()
        first = self.machines[0]
        until(lambda: first.cli("INFO", "replication").count("state=online") == 2, 20, "the replicas follow")
        for machine in self.machines:
            machine.sentinel.start()
        until(self.is_whole, 20, "the sentinels and replicas know each other")

    def is_whole(self) -> bool:
        """Whether two replicas follow the primary, and every sentinel knows them and the two other sentinels."""
        primary = self.primary()
        if primary is None or primary.cli("INFO", "replication").count("state=online") < 2:
            return False
        return all(self._knows_all(machine) for machine in self.machines)

    def _knows_all(self, machine: Machine) -> bool:
        words = machine.ask_sentinel("SENTINEL", "MASTER", NAME).split("\n")
        found = dict(zip(words[::2], words[1::2], strict=False))
        return (found.get("num-slaves"), found.get("num-other-sentinels"), found.get("flags")) == (
            "2",
            "2",
            "master",
        )

    def primary(self) -> Machine | None:
        """The server that most sentinels take for the primary; None while they do not agree."""
        told = [
            machine.ask_sentinel("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME).split("\n")[0]
            for machine in self.machines
            if machine.sentinel.is_running
        ]
        return next((one for one in self.machines if told.count(one.address) > 1), None)

    def stop(self) -> None:
        """End everything."""
        for machine in reversed(self.machines):
            machine.stop()

    def log(self) -> str:
        """What everybody logged."""
        return "".join(machine.log() for machine in self.machines)


def _users() -> str:
    """The users of deploy/, with a password for the bridge that must be quoted in a URL."""
    text = (ROOT / "deploy/users.acl").read_text() + (ROOT / "deploy/replicas.acl").read_text()
    return text.replace(">change-me ", f">{PASSWORD} ")


def _sentinel(address: str, first: str) -> str:
    """The sentinel's configuration of deploy/, with these addresses and in a hurry."""
    changes = {
        f"{EXAMPLE} 6379": f"{first} {PORT}",
        EXAMPLE: address,
        "change-me-sentinels": SENTINEL_PASSWORD,
        f"down-after-milliseconds {NAME} 2000": f"down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
    }
    text = (ROOT / "deploy/sentinel.conf").read_text()
    for written, used in changes.items():
        assert written in text, written
        text = text.replace(written, used)
    return text
