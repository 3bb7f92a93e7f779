"""Real servers on loopback, started and ended by whoever asks: the demo and the system tests.

Two Prosodys find each other without DNS (libunbound reads a hosts file), federate over s2s on port 5269 of their own
loopback addresses, and trust one private authority. Everything lives in one folder; nothing outlives its starter.

House rules: no bridge code is imported; every wait has a deadline; processes are ended by their own id.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp
import trustme
from lxml import etree

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "tests/vectors/xep0268/report.xml"
S2S_PORT = 5269  # fixed: without SRV records Prosody dials no other
HTTP_PORT = 15280
STARTUP_SECONDS = 120.0
ERROR_NAMESPACE = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
PR_SET_PDEATHSIG = 1
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
INSIDE = "INCIDENT_BRIDGE_NAMESPACE"  # set for programs that run in a network namespace made for them
_libc = ctypes.CDLL(None)
T = TypeVar("T")


class PortTakenError(Exception):
    """Somebody listens on port 5269 of every address of this machine, most likely its own Prosody."""


def until(condition: Callable[[], T], seconds: float, what: str) -> T:
    """Return the first true value of `condition`, asked every 20 ms; TimeoutError names `what` was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def accepts(address: str, port: int) -> bool:
    """Tell whether somebody accepts TCP connections there."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


def free_network(start: int) -> str:
    """Return the first three octets of a loopback network whose port 5269 is free, looking from number `start` on.

    Until this process ends no other call returns it, here or in another process.

    Raises:
        PortTakenError: it is taken on all addresses.
    """
    for number in range(start, start + 50):
        network = f"127.{16 + number // 250 % 200}.{number % 250 + 1}"
        if all(_can_bind(f"{network}.{last}", S2S_PORT) for last in (1, 2, 3)) and _reserve(network):
            return network
    raise PortTakenError(f"port {S2S_PORT} is taken on all loopback addresses")


def _reserve(network: str) -> bool:
    """Keep a name that only one process can have, and that the kernel frees with it, as it does the addresses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as name:
        try:
            name.bind(f"\0incident-bridge {network}")
        except OSError:
            return False
        name.detach()
    return True


def _can_bind(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def namespace_command() -> list[str] | None:
    """Return the words that run a program in a network namespace of its own, or None where that is not allowed."""
    for words in (["unshare", "-rn"], ["unshare", "-n"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
                return words
    return None


def bring_loopback_up() -> None:
    """Do what `ip link set lo up` does in a new namespace, also where iproute2 is missing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh22x", b"lo", 0)
        _, flags = struct.unpack("16sh22x", fcntl.ioctl(handle, SIOCGIFFLAGS, request))
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


class Process:
    """One program, its output in a file; killed by the kernel if its starter dies."""

    def __init__(
        self, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.log_path = log
        self.env = dict(os.environ if env is None else env)
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it prints is appended to the log."""
        assert not self.is_running, f"{self.argv[0]} runs already"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        starter = os.getpid()

        def die_with_starter() -> None:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != starter:
                os._exit(1)

        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
                preexec_fn=die_with_starter,  # noqa: PLW1509 - started from the main thread only
            )

    @property
    def pid(self) -> int:
        """Its process id; only of one that was started."""
        assert self._popen is not None, f"{self.argv[0]} was not started"
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """Its exit status, or None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def signal(self, number: int) -> None:
        """Send a signal to it alone, if it runs."""
        if self.is_running:
            os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP: it stays connected and says nothing."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to it alone, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait(10)

    def stop(self, seconds: float = 10.0) -> None:
        """SIGTERM, and SIGKILL if that is not enough; what it left in its session goes with it."""
        if self._popen is None:
            return
        self.thaw()
        self.signal(signal.SIGTERM)
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def log(self) -> str:
        """Everything it printed."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def children(self) -> dict[int, str]:
        """Return the command lines of all processes below it, by process id."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        found: dict[int, str] = {}
        line = [self.pid]
        while line:
            parent = line.pop()
            for pid in (pid for pid, above in parents.items() if above == parent):
                with contextlib.suppress(OSError):
                    found[pid] = (
                        Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                    )
                    line.append(pid)
        return found


class Authority:
    """A private certificate authority; the only one its servers trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._authority = trustme.CA()
        self.file = folder / "ca.crt"
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(self, domain: str) -> tuple[Path, Path]:
        """Write a certificate for the domain and all below it; return its file and the file of its key."""
        certificate, key = self.folder / f"{domain}.crt", self.folder / f"{domain}.key"
        if not certificate.exists():
            ends_at = datetime.now(UTC) + timedelta(days=365)  # ejabberd cannot count to trustme's year 3000
            issued = self._authority.issue_cert(domain, f"*.{domain}", not_after=ends_at)
            issued.private_key_pem.write_to_path(str(key))
            for blob in issued.cert_chain_pems:
                blob.write_to_path(str(certificate), append=True)
        return certificate, key


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for an IQ."""

    xml: str
    type: str
    id: str
    sender: str
    error_type: str | None
    condition: str | None
    text: str | None
    seconds: float

    @classmethod
    def read(cls, xml: str, *, seconds: float) -> Reply:
        """Read Prosody's own serialisation of an IQ."""
        iq = etree.fromstring(xml)
        error = next((child for child in iq if etree.QName(child).localname == "error"), None)
        told = {str(child.tag): child.text for child in ([] if error is None else error)}
        conditions = {
            tag.removeprefix(ERROR_NAMESPACE): text for tag, text in told.items() if ERROR_NAMESPACE in tag
        }
        return cls(
            xml=xml,
            type=iq.get("type", ""),
            id=iq.get("id", ""),
            sender=iq.get("from", ""),
            error_type=None if error is None else error.get("type"),
            condition=next((name for name in conditions if name != "text"), None),
            text=conditions.get("text"),
            seconds=seconds,
        )


class Prosody:
    """One Prosody with one VirtualHost on its own loopback address.

    Args:
        name: the VirtualHost, a name under `.test` (libunbound knows at once that there is no SRV record).
        address: its loopback address.
        commands: the folder with `prosody` and `prosodyctl`, as `deploy/packages` prints it.
        folder: everything of this server: configuration, data, log.
        hosts: addresses of all servers, by name.
        modules: more entries for `modules_enabled`.
        extra: more lines for the global section; `extra_host` for the VirtualHost's.
        plugin_paths: where its modules are; the checkout's own and the peer's are always there.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        commands: Path,
        folder: Path,
        authority: Authority,
        hosts: Mapping[str, str],
        modules: Iterable[str] = (),
        extra: str = "",
        extra_host: str = "",
        plugin_paths: Iterable[Path] = (),
    ) -> None:
        self.name = name
        self.address = address
        self.commands = commands
        self.folder = folder
        self.config_path = folder / "prosody.cfg.lua"
        self.modules = list(modules)
        self.extra = extra
        self.extra_host = extra_host
        self.plugin_paths = [ROOT / "prosody_module", ROOT / "deploy/peer", *plugin_paths]
        self.hosts = dict(hosts)
        self.authority = authority
        self.process = Process(
            [commands / "prosody", "-F", "--config", self.config_path],
            log=folder / "stdout",
            env={key: value for key, value in os.environ.items() if not key.startswith("PROSODY_")},
        )

    @property
    def url(self) -> str:
        """Base URL of its HTTP server."""
        return f"http://{self.address}:{HTTP_PORT}"

    def configuration(self) -> str:
        """Return the whole prosody.cfg.lua."""
        certificate, key = self.authority.issue(self.name)
        modules = [
            "disco",
            "ping",
            "tls",
            "saslauth",
            "roster",
            "dialback",
            "admin_shell",
            "http",
            *self.modules,
        ]
        as_root = (
            'run_as_root = true; prosody_user = "root"; prosody_group = "root"' if os.geteuid() == 0 else ""
        )
        return f"""-- written by a program; changes are lost
{as_root}
pidfile = {_lua(self.folder / "prosody.pid")}
data_path = {_lua(self.folder / "data")}
plugin_paths = {{ {"; ".join(map(_lua, self.plugin_paths))} }}
interfaces = {{ {_lua(self.address)} }}
http_interfaces = {{ {_lua(self.address)} }}
c2s_ports = {{ 15222 }}; s2s_ports = {{ {S2S_PORT} }}; http_ports = {{ {HTTP_PORT} }}; https_ports = {{ }}
use_ipv6 = false
unbound = {{ resolvconf = false; hoststxt = {_lua(self.folder / "hosts")} }}
certificates = {_lua(self.authority.folder)}
ssl = {{ certificate = {_lua(certificate)}; key = {_lua(key)} }}
s2s_ssl = {{ cafile = {_lua(self.authority.file)} }}
s2s_secure_auth = true
admins = {{ {_lua("admin@" + self.name)} }}
modules_enabled = {{ {"; ".join(map(_lua, modules))} }}
authentication = "internal_hashed"; storage = "internal"; statistics = "internal"
network_settings = {{ nagle = false }}
log = {{ {{ levels = {{ min = "info" }}; to = "file"; filename = {_lua(self.folder / "prosody.log")} }} }}
{self.extra}
VirtualHost {_lua(self.name)}
{self.extra_host}
"""

    def start(self) -> None:
        """Write the configuration, start it, and wait until it accepts connections."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        names = [f"{address} {name}\n" for name, address in self.hosts.items()]
        (self.folder / "hosts").write_text("".join(names))
        self.config_path.write_text(self.configuration())
        self.process.start()
        until(self._is_up, STARTUP_SECONDS, f"Prosody for {self.name} starts")

    def _is_up(self) -> bool:
        if not self.process.is_running:
            raise RuntimeError(
                f"Prosody for {self.name} ended:\n{self.process.log()[-2000:]}\n{self.log()[-4000:]}"
            )
        return accepts(self.address, S2S_PORT) and accepts(self.address, HTTP_PORT)

    def stop(self) -> None:
        """End it as an init system would."""
        self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        """End it and start it again with the same data."""
        self.stop()
        self.start()

    def log(self) -> str:
        """Everything it logged."""
        path = self.folder / "prosody.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def control(self, *words: str, seconds: float = 30.0) -> str:
        """Run `prosodyctl` for this server and return what it printed."""
        argv = [str(self.commands / "prosodyctl"), "--config", str(self.config_path), *words]
        done = subprocess.run(
            argv, env=self.process.env, capture_output=True, text=True, check=False, timeout=seconds
        )
        return done.stdout + done.stderr

    def shell(self, expression: str) -> str:
        """Evaluate an expression in Prosody's own shell (`host:list()`, `> code`)."""
        return self.control("shell", expression)

    def reload_module(self, module: str) -> str:
        """Reload one module of the VirtualHost."""
        return self.shell(f'module:reload("{module}", "{self.name}")')

    # What follows needs `incident_peer` among the modules.

    async def send_iq(self, xml: str, *, seconds: float = 60.0) -> Reply:
        """Send an IQ and return its reply; TimeoutError after `seconds` without one."""
        return (await self.send_iqs([xml], seconds=seconds))[0]

    async def send_iqs(self, xmls: Sequence[str], *, seconds: float = 60.0) -> list[Reply]:
        """Send many IQs at once and return their replies, in the order of the IQs."""
        async with self._session() as session:
            return list(await asyncio.gather(*(self._send(session, xml, seconds) for xml in xmls)))

    async def post_iq(self, xml: str) -> None:
        """Send an IQ and wait for nothing; its reply, if any, will be among `received`."""
        async with (
            self._session() as session,
            session.post("/peer/send?wait=no", data=xml.encode()) as response,
        ):
            assert response.status == 202, await response.text()

    async def received(self) -> list[str]:
        """Return every IQ that arrived here since the start, oldest first."""
        async with self._session() as session, session.get("/peer/received") as response:
            return [item["stanza"] for item in json.loads(await response.text())]

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            self.url,
            headers={"Host": self.name},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def _send(self, session: aiohttp.ClientSession, xml: str, seconds: float) -> Reply:
        query = urlencode({"timeout": seconds})
        started = time.monotonic()
        async with session.post(f"/peer/send?{query}", data=xml.encode(), headers=_voice_of(xml)) as response:
            text = await response.text()
            if response.status == 504:
                raise TimeoutError(f"no reply within {seconds:g} s to {xml[:200]}")
            if response.status != 200:
                raise ValueError(f"{self.name} did not send it: {text}")
        return Reply.read(text, seconds=time.monotonic() - started)


def _voice_of(xml: str) -> dict[str, str]:
    """Return the header that reaches the VirtualHost an IQ is from; a Prosody may have several."""
    sender = re.search(r"""<iq[^>]*\sfrom=["'](?:[^"'@]*@)?([^"'/]+)""", xml)
    return {"Host": sender[1]} if sender else {}


def _lua(value: object) -> str:
    """Write a string for a Lua file."""
    return json.dumps(str(value), ensure_ascii=False)


def fetch(name: str) -> Path:
    """Return the folder with the commands of a set of packages; RuntimeError says what `deploy/packages` said."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy/packages"), name],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return Path(done.stdout.strip())


def iq(payload: str, *, to: str, sender: str, id: str, type: str = "set") -> str:  # noqa: A002 - an IQ's own words
    """Write an IQ around a payload that is already XML."""
    return f"<iq type='{type}' id='{id}' from='{sender}' to='{to}'>{payload}</iq>"


def report_payload() -> str:
    """Return the payload of XEP-0268's own report, exactly as printed there."""
    found = re.search(r"<report .*</report>", REPORT.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{REPORT} has no report"
    return found[0]


def open_json(text: str) -> Any:
    """Read JSON printed by a command; the message of a failure shows what was printed."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {text[:500]}") from error
