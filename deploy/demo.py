"""The demo, run by `deploy/demo` in its own environment.

House rules: everything lives in one temporary folder and dies with this process; what is shown is what the real
commands print; the outcome is asked of the command line, as an operator would.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from servers import (
    INSIDE,
    REPORT,
    Authority,
    PortTakenError,
    Process,
    Prosody,
    Reply,
    bring_loopback_up,
    fetch,
    free_network,
    iq,
    namespace_command,
    open_json,
    report_payload,
    until,
)

from bridge.cli.main import main as command_line

PREFIX = "incident-demo-"
OURS, PEER, STRANGER = "a.test", "b.test", "stranger.test"
FLOODER, NOISY = "flooder", "noisy"
"""An account of the peer's, and one of yours."""
REPORTED = "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'><report-origin/></report>"
"""What a client says of somebody whom its user blocks: spam, and that their server may be told (XEP-0377)."""
SEND_AGAIN = """\
#!{python}
# Has the peer send its report once more, which is answered and stored only once, and prints the reply.
import sys
from urllib.request import Request, urlopen
sys.path.insert(0, "{here}")
from servers import iq, report_payload
text = iq(report_payload(), to="a.test", sender="b.test", id="again").encode()
print(urlopen(Request("{server}/peer/send", data=text, headers={{"Host": "b.test"}})).read().decode())
"""


class DemoError(Exception):
    """Why the demo cannot go on, and what to type."""


class Site:
    """One domain as its operator has it: a Prosody, a bridge of its own, and what they type."""

    def __init__(self, name: str, folder: Path, address: str) -> None:
        self.name = name
        self.address = address
        self.config_path = folder / "config.toml"
        self.data_dir = folder / "store"
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.command = Path(sys.executable).parent / "incident-bridge"
        self.bridge = Process(self.argv("up"), log=folder / "bridge.log")

    def in_prosody(self) -> str:
        """Return the lines of the VirtualHost that load the module."""
        return (
            'modules_enabled = { "incident_bridge" }\n'
            f'incident_bridge_url = "http://{self.address}:15267"\nincident_bridge_secret = "{self.secret}"\n'
        )

    def configure(self, prosody: Prosody) -> None:
        """Write the bridge's configuration."""
        self.config_path.parent.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(
            f'[server]\ningest_listen = "{self.address}:15267"\nlisten = "{self.address}:15268"\n'
            f'metrics_listen = "{self.address}:15269"\n\n[store]\ndata_dir = "{self.data_dir}"\n\n'
            f'[hosts."{self.name}"]\napi_url = "{prosody.url}"\nsecret = "{self.secret}"\n'
        )
        self.config_path.chmod(0o600)

    def argv(self, *words: str) -> list[str]:
        """Return the command line of `incident-bridge WORDS`."""
        return [str(self.command), "--config", str(self.config_path), *words]

    def ask(self, *words: str) -> Any:
        """Do what `incident-bridge WORDS --json` does, without a process, and return what it says."""
        said, told = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
            code = command_line(self.argv(*words, "--json")[1:])
        self._require_ok(words, code, said.getvalue() + told.getvalue())
        return open_json(said.getvalue())

    def show(self, *words: str, is_patient: bool = False) -> None:
        """Run `incident-bridge WORDS` before the reader's eyes: its data, then its messages.

        `is_patient`: again and again until it finds what is on its way, and only then.
        """
        if is_patient:
            done = until(lambda: self._tried(words), 20, f"incident-bridge {shlex.join(words)} finds it")
        print(f"\n   {self.name} $ incident-bridge {shlex.join(words)}")
        if not is_patient:
            done = self._run(words)
        for line in (done.stdout + done.stderr).strip("\n").splitlines():
            print(f"   {line}")
        print(flush=True)

    def _tried(self, words: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
        try:
            return self._run(words)
        except DemoError:
            return None

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.argv(*words), capture_output=True, text=True, check=False, timeout=60)
        self._require_ok(words, done.returncode, done.stdout + done.stderr)
        return done

    @staticmethod
    def _require_ok(words: Sequence[str], code: int, said: str) -> None:
        if code:
            raise DemoError(f"incident-bridge {' '.join(words)} ended with {code}: {said}")

    def stored(self) -> dict[str, dict[str, Any]]:
        """Return the newest incident of each reporter, as the command line tells of them."""
        listed = self.ask("incidents", "list")["incidents"]
        return {incident["reporter"]: incident for incident in reversed(listed)}

    def wait_ready(self) -> None:
        """Wait until the bridge is ready."""
        until(self._is_ready, 120, f"the bridge of {self.name} is ready")

    def _is_ready(self) -> bool:
        if not self.bridge.is_running:
            raise DemoError(f"the bridge ended with {self.bridge.returncode}:\n{self.bridge.log()[-3000:]}")
        url = f"http://{self.address}:15267/ready"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
        return False


class Demo:
    """The servers of the demo: yours, and a peer's that also plays a stranger."""

    def __init__(self, folder: Path, network: str, commands: Path) -> None:
        self.folder = folder
        self.password = secrets.token_hex(8)
        hosts = {OURS: f"{network}.1", PEER: f"{network}.2", STRANGER: f"{network}.2"}
        authority = Authority(folder / "certificates")
        certificate, key = authority.issue(STRANGER)
        self.ours = Site(OURS, folder, f"{network}.9")
        self.peer = Site(PEER, folder / "peer", f"{network}.8")
        self.a = Prosody(
            OURS,
            hosts[OURS],
            commands=commands,
            folder=folder / OURS,
            authority=authority,
            hosts=hosts,
            extra_host=self.ours.in_prosody(),
        )
        self.b = Prosody(
            PEER,
            hosts[PEER],
            commands=commands,
            folder=folder / PEER,
            authority=authority,
            hosts=hosts,
            modules=["incident_peer"],
            extra_host=f'{self.peer.in_prosody()}\nVirtualHost "{STRANGER}"\n'
            f'ssl = {{ certificate = "{certificate}"; key = "{key}" }}',
        )
        self.ours.configure(self.a)
        self.peer.configure(self.b)

    @property
    def processes(self) -> tuple[Process, ...]:
        """Everything that runs."""
        return self.ours.bridge, self.peer.bridge, self.a.process, self.b.process

    def start(self) -> None:
        """Start both bridges, then both servers."""
        self.ours.bridge.start()
        self.peer.bridge.start()
        self.ours.wait_ready()
        tell(f"the bridge is up: store, workers and service, one command (process {self.ours.bridge.pid})")
        self.a.start()
        tell(f"Prosody for {OURS}, your server, is up on {self.a.address}, with mod_incident_bridge")
        self.peer.wait_ready()
        self.b.start()
        for prosody, account in ((self.a, NOISY), (self.b, FLOODER)):
            prosody.control("register", account, prosody.name, self.password)
        tell(f"Prosody for {PEER}, a peer, is up on {self.b.address}, with a bridge of its own;")
        tell(f"it also hosts {STRANGER}")

    def stop(self) -> None:
        """End everything, the peer first."""
        for ending in (self.b, self.a, self.peer.bridge, self.ours.bridge):
            ending.stop()

    def report_from(self, sender: str) -> Reply:
        """Have a server send XEP-0268's report, as printed there, and tell what came back."""
        tell(f"{sender} sends XEP-0268's own report to {OURS}, over s2s …")
        text = iq(report_payload(), to=OURS, sender=sender, id=f"demo-{secrets.token_hex(3)}")
        reply = asyncio.run(self.b.send_iq(text, seconds=30))
        if reply.type == "result":
            tell(
                f"{sender} got its result after {reply.seconds * 1000:.0f} ms: stored on disk, processed, answered"
            )
        else:
            tell(f"{sender} got an error: {reply.error_type}/{reply.condition} {reply.text or ''}")
        return reply

    async def user_reports(self, jid: str) -> None:
        """Have a user of yours block somebody in a client, and report them for it."""
        from slixmpp import ClientXMPP
        from slixmpp.xmlstream import ET

        client = ClientXMPP(f"{NOISY}@{OURS}", self.password)
        client.ca_certs = self.a.authority.file
        client.connect(self.a.address, 15222)
        await client.wait_until("session_start", 20)
        item = f"<item jid='{jid}'>{REPORTED}</item>"
        iq = client.make_iq_set(ET.fromstring(f"<block xmlns='urn:xmpp:blocking'>{item}</block>"))
        await iq.send(timeout=20)
        await client.disconnect()

    def tell_stream(self) -> None:
        """Tell how the stream was secured, in Prosody's own words."""
        log = self.a.log()
        tls = re.findall(r"Stream encrypted \((.*)\)", log)
        if tls and f"SASL EXTERNAL identity from {PEER}" in log:
            tell(f"that stream: {tls[-1]}; {PEER} proved itself by its certificate")


def tell(line: str) -> None:
    """Print one step of the story with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def story(demo: Demo) -> bool:
    """Tell it; True if everything came as promised."""
    demo.start()
    is_good = reported(demo) & carried_through(demo)
    verdict = "as it should be" if is_good else "NOT as it should be"
    tell(f"outcome: the peer got its result; incidents stored: {len(demo.ours.stored())}; {verdict}")
    return is_good


def reported(demo: Demo) -> bool:
    """Tell how a report of a trusted peer, and the same of a stranger, come in."""
    ours = demo.ours
    tell(f"you decide to trust {PEER}:")
    ours.show("peers", "trust", PEER)
    reply = demo.report_from(PEER)
    demo.tell_stream()
    tell("somebody you have never heard of sends the same; accepted, but quarantined:")
    demo.report_from(STRANGER)
    tell("what you see:")
    ours.show("incidents", "list")
    stored = ours.stored()
    mine = stored.get(PEER)
    if mine:
        ours.show("incidents", "show", mine["id"])
    is_good = reply.type == "result" and mine is not None and not mine["quarantined"]
    return is_good and stored.get(STRANGER, {}).get("quarantined") is True


def carried_through(demo: Demo) -> bool:
    """Tell how both operators carry an incident through: inquiry, report, request, yes, response, resolution."""
    ours, peer = demo.ours, demo.peer
    known = ours.stored()[PEER]["identity"]
    tell(f"{PEER}'s operator asks what you know of it, an inquiry, and is told:")
    peer.show("inquire", "--to", OURS, "--id", f"{known['name']}/{known['text']}", "--wait", "20")
    peer.ask("peers", "trust", OURS)
    mine = reported_by_a_user(demo)
    ours.show("request", "--to", PEER, "--action", "block-host", "--incident", mine, "--wait", "20")
    is_good = decided(demo, mine)
    tell("you resolve it; everybody who got the report learns that. The whole story:")
    ours.show("incidents", "resolve", mine)
    until(lambda: peer.ask("incidents", "list", "--status", "resolved")["incidents"], 20, f"{PEER} learns it")
    ours.show("incidents", "show", mine)
    return is_good and ours.ask("incidents", "show", mine)["incident"]["status"] == "resolved"


def reported_by_a_user(demo: Demo) -> str:
    """Tell how a user's "block and report" becomes a draft, which one yes sends; return its incident's id."""
    ours = demo.ours
    tell(
        f"a user of yours blocks a spammer, {FLOODER}@{PEER}, in a client and reports it (XEP-0377); you see:"
    )
    asyncio.run(demo.user_reports(f"{FLOODER}@{PEER}"))
    ours.show("abuse", "show", PEER, is_patient=True)
    tell(f"nothing of it left yet. One yes sends it to {PEER}; who reported it is not told:")
    ours.show("abuse", "send", PEER)
    tell("then you request that the account is blocked:")
    return str(ours.stored()[OURS]["id"])


def decided(demo: Demo, incident: str) -> bool:
    """Tell how the peer's operator says yes to what you requested, and takes it back; what you are told of both."""
    ours, peer = demo.ours, demo.peer
    until(lambda: peer.ask("approvals", "list")["approvals"], 20, f"{PEER}'s operator sees the request")
    tell(f"{PEER}'s operator sees what you ask for and what it would touch; nothing happens without a yes:")
    approval = peer.ask("approvals", "list")["approvals"][0]["id"]
    peer.show("approvals", "show", approval)
    peer.show("approvals", "approve", approval, "--days", "7", "--wait", "20")
    until(lambda: outcomes(ours, incident) == ["done"], 20, f"{OURS} is told that it is done")
    tell(
        f"{FLOODER}@{PEER} cannot sign in any more, and you are told that it is done. What {PEER} has in force:"
    )
    peer.show("mitigations", "list")
    in_force = peer.ask("mitigations", "list")["mitigations"]
    tell("its owner has the account back, so it is taken back; you are told that, too:")
    peer.show("mitigations", "lift", in_force[0]["id"], "--wait", "20")
    return len(in_force) == 1 and not peer.ask("mitigations", "list")["mitigations"]


def outcomes(site: Site, incident: str) -> list[str]:
    """Return what came of the requests about an incident, as far as it is known."""
    page = site.ask("incidents", "show", incident)
    return [one["outcome"] for one in page["interactions"] if one["kind"] == "request" and one.get("outcome")]


def asked_of_you(demo: Demo) -> str:
    """Have the peer request something of you that you are left to decide about; return its approval's id."""
    about = ("--source", f"{NOISY}@{OURS}=12", "--description", "join flood")
    demo.peer.ask("request", "--to", OURS, "--action", "block-host", *about, "--wait", "20")
    until(lambda: demo.ours.ask("approvals", "list")["approvals"], 20, "the request waits for you")
    return str(demo.ours.ask("approvals", "list")["approvals"][0]["id"])


def what_next(demo: Demo) -> None:
    """Say what to type in another terminal."""
    first = demo.ours.stored()[PEER]
    tell(f"and {PEER} has just asked you for something: it waits for your yes or no")
    approval = asked_of_you(demo)
    again = demo.folder / "send-again"
    again.write_text(
        SEND_AGAIN.format(python=sys.executable, here=str(Path(__file__).parent), server=demo.b.url)
    )
    again.chmod(0o755)
    lines = [
        f"alias incident-bridge='{shlex.join(demo.ours.argv())}'",
        "incident-bridge incidents list",
        f"incident-bridge incidents show {first['id']}",
        f"incident-bridge approvals show {approval}",
        f"incident-bridge approvals approve {approval}",
        "incident-bridge mitigations list",
        f"incident-bridge peers show {PEER}",
        f"incident-bridge peers block {STRANGER}",
        f"incident-bridge validate {REPORT}",
    ]
    if INSIDE not in os.environ:
        lines += [
            "incident-bridge login-link",
            "incident-bridge check",
            str(again),
        ]
    lines.append(f"tail -f {demo.folder}/bridge.log {demo.a.folder}/prosody.log")
    print("\nWhat to type next, in another terminal:\n")
    print("\n".join(f"   {line}" for line in lines))
    print("\nEverything runs until you press Ctrl-C, and leaves nothing behind.", flush=True)


def stay(demo: Demo) -> None:
    """Wait until somebody ends us or a server ends by itself."""
    while all(process.is_running for process in demo.processes):
        time.sleep(0.5)
    raise DemoError(f"a server ended by itself:\n{demo.ours.bridge.log()[-2000:]}")


def own_network() -> str:
    """Return a loopback network of ours; where port 5269 is taken, start again in a network namespace."""
    if INSIDE in os.environ:
        bring_loopback_up()
    try:
        return free_network(os.getpid())
    except PortTakenError as error:
        if INSIDE in os.environ:
            raise DemoError(str(error)) from error
    if words := namespace_command():
        tell("port 5269 is taken, most likely by this machine's own Prosody: using a network namespace")
        os.execvpe(words[0], [*words, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})
    raise DemoError(
        "port 5269 is taken, most likely by this machine's own Prosody, and a network namespace of our own is not "
        "allowed here (unshare -rn). Either run the demo as root, or allow it for a while: on Ubuntu "
        "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, on Debian "
        "`sudo sysctl kernel.unprivileged_userns_clone=1`."
    )


def remove_leftovers() -> None:
    """Remove the folders of demos that were killed without a word."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end(number: int, _frame: FrameType | None) -> None:
    """Turn a signal into an orderly end."""
    raise SystemExit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line; 0 as promised, 1 not, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="deploy/demo", description="Show the main job with real servers.")
    parser.add_argument(
        "--once", action="store_true", help="end after the story; 0 only if all went as promised"
    )
    options = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        commands = fetch("prosody")
        network = own_network()
        with temporary_folder() as folder:
            demo = Demo(folder, network, commands)
            try:
                is_good = story(demo)
                if options.once:
                    return 0 if is_good else 1
                what_next(demo)
                stay(demo)
            finally:
                demo.stop()
    except KeyboardInterrupt:
        print("\nended; nothing is left behind")
        return 0
    except (DemoError, RuntimeError, TimeoutError) as error:
        print(f"deploy/demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
