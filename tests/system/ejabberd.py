"""Servers that do not speak XEP-0268: ejabberd, and one that says nothing at all."""

import contextlib
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Mapping
from pathlib import Path

from deploy.servers import S2S_PORT, Authority, Process, accepts, fetch, until

DNS_PORT = 15053
_SRV, _NXDOMAIN, _ANSWER = 33, 3, 0x8580


class Names(socketserver.ThreadingUDPServer):
    """Answers SRV questions: `_xmpp-server._tcp.NAME` is at an address, port 5269; nothing else exists.

    ejabberd asks libc for addresses, which knows none of ours; so the target of a SRV record is the address itself.
    """

    daemon_threads = True

    def __init__(self, address: str, hosts: Mapping[str, str]) -> None:
        self.hosts = {f"_xmpp-server._tcp.{name}": where for name, where in hosts.items()}
        super().__init__((address, DNS_PORT), _Question)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()


class _Question(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        question, transport = self.request
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode())
            at += 1 + length
        (kind,) = struct.unpack("!H", question[at + 1 : at + 3])
        assert isinstance(self.server, Names)
        where = self.server.hosts.get(".".join(labels).lower()) if kind == _SRV else None
        answer = b""
        if where is not None:
            target = b"".join(bytes([len(label)]) + label.encode() for label in where.split(".")) + b"\0"
            data = struct.pack("!HHH", 0, 0, S2S_PORT) + target
            answer = b"\xc0\x0c" + struct.pack("!HHIH", _SRV, 1, 5, len(data)) + data
        flags = _ANSWER if where else _ANSWER | _NXDOMAIN
        head = question[:2] + struct.pack("!HHHHH", flags, 1, int(where is not None), 0, 0)
        with contextlib.suppress(OSError):
            transport.sendto(head + question[12 : at + 5] + answer, self.client_address)


class Ejabberd:
    """One ejabberd with one host, run as whoever runs the tests; nothing of Erlang's outlives it.

    `modules` are more entries for its `modules`, as YAML has them between braces.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        folder: Path,
        authority: Authority,
        hosts: Mapping[str, str],
        modules: str = "",
    ) -> None:
        self.name = name
        self.address = address
        self.folder = folder
        self.authority = authority
        self.hosts = dict(hosts)
        self.modules = modules
        self.names: Names | None = None
        database = f'"{folder}/spool"'
        runtime = [fetch("ejabberd") / "erl", "+S", "1", "-noinput", "-start_epmd", "false"]
        self.process = Process(
            [*runtime, "-mnesia", "dir", database, "-s", "ejabberd"],
            log=folder / "stdout",
            env={
                **os.environ,
                "HOME": str(folder),
                "ERL_INETRC": str(folder / "inetrc"),
                "ERL_CRASH_DUMP": str(folder / "crash"),
                "EJABBERD_CONFIG_PATH": str(folder / "ejabberd.yml"),
                "EJABBERD_LOG_PATH": str(folder / "ejabberd.log"),
            },
        )

    def configuration(self) -> str:
        """Return the whole ejabberd.yml."""
        certificate, key = self.authority.issue(self.name)
        return f"""
hosts: ["{self.name}"]
loglevel: info
certfiles: ["{certificate}", "{key}"]
ca_file: "{self.authority.file}"
s2s_use_starttls: required
outgoing_s2s_families: [ipv4]
listen: [{{port: {S2S_PORT}, ip: "{self.address}", module: ejabberd_s2s_in}}]
modules: {{mod_ping: {{}}, mod_disco: {{}}, {self.modules}}}
"""

    def start(self) -> None:
        """Start it and wait until it accepts streams."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "ejabberd.yml").write_text(self.configuration())
        address = self.address.replace(".", ",")
        (self.folder / "inetrc").write_text(
            f'{{resolv_conf, ""}}.\nclear_ns.\n{{nameserver, {{{address}}}, {DNS_PORT}}}.\n{{lookup, [file, dns]}}.\n'
        )
        self.names = Names(self.address, self.hosts)
        self.process.start()
        until(self._is_up, 30, f"ejabberd for {self.name} starts")

    def _is_up(self) -> bool:
        if not self.process.is_running:
            raise RuntimeError(f"ejabberd for {self.name} ended:\n{self.log()[-4000:]}")
        return accepts(self.address, S2S_PORT)

    def stop(self) -> None:
        """End it at once; it has nothing to save."""
        self.process.kill()
        self.process.stop()
        if self.names is not None:
            self.names.close()
            self.names = None

    def log(self) -> str:
        """Everything it printed and logged."""
        path = self.folder / "ejabberd.log"
        return self.process.log() + (path.read_text(errors="replace") if path.exists() else "")


class Silence:
    """A server that accepts every connection and never says a word."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, S2S_PORT))
        self.socket.listen()

    def stop(self) -> None:
        """End it."""
        self.socket.close()

    def log(self) -> str:
        """It has nothing to say."""
        return ""
