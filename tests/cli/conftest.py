"""A command line for tests: `run(...)` is one call of `incident-bridge`, with what it printed."""

import asyncio
import base64
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.main import main
from bridge.clients.prosody import Mitigated
from bridge.config import PolicySettings
from bridge.pipeline import mitigate
from bridge.pipeline.actors import Actor
from bridge.pipeline.peers import change_peer
from bridge.pipeline.process import process
from bridge.pipeline.send_stanzas import send_stanzas
from bridge.policy import lanes, outgoing
from bridge.policy.change import Change, Put, Queue
from bridge.policy.record import Interaction, Peer, Way, incident_id
from bridge.policy.trust import Authentication, Direction, Rule, Stream, Trust
from bridge.store.commit import commit, finished
from bridge.store.connect import Store, close, open_store
from bridge.store.embedded import EmbeddedServer, start_embedded
from bridge.store.lanes import take
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import PeerError, read_iq

HOST = "im.flosoft.biz"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@dataclass(frozen=True)
class Printed:
    code: int
    out: str
    messages: str

    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Printed]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command in this process; with `config=` a text, that is its configuration."""
    monkeypatch.setenv("NO_COLOR", "1")

    def run_command(*words: str, config: str | None = None) -> Printed:
        monkeypatch.delenv("INCIDENT_BRIDGE_CONFIG", raising=False)
        options = []
        if config is not None:
            path = tmp_path / "config.toml"
            path.touch(mode=0o600)
            path.write_text(config)
            options = ["--config", str(path)]
        capsys.readouterr()
        try:
            code = main([*options, *words])
        except SystemExit as ended:  # argparse ends so
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return Printed(code, printed.out, printed.err)

    return run_command


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    folder = Path(tempfile.mkdtemp(prefix="ib-cli-"))
    running = start_embedded(folder, max_bytes=256 * 2**20)
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture
def configuration(server: EmbeddedServer) -> str:
    """A configuration for one host with the session's store."""
    return f'[store]\nurl = "{server.url}"\n[hosts."{HOST}"]\nsecret = "{SECRET}"\n'


RULES = PolicySettings()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "xep0268"


def interaction(number: int, payload: bytes, *, peer: str, trust: Trust = Trust.TRUSTED) -> Interaction:
    """The interaction that an IQ in a file becomes when `peer` sends it."""
    iq = replace(read_iq(xml.parse_file(payload)[0]), sender=Jid.parse(peer), to=Jid.parse(HOST))
    reading = read(iq)
    return Interaction(
        id=f"i{number}",
        host=HOST,
        peer=peer,
        kind=reading.kind,
        way=Way.RECEIVED,
        sender=peer,
        iq_id=iq.id,
        received_at=NOON + timedelta(minutes=number),
        stream=Stream(
            direction=Direction.INCOMING,
            encrypted=True,
            tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
            authentication=Authentication.CERTIFICATE,
            certificate_sha256="ab" * 32,
        ),
        trust=trust,
        quarantined=trust is Trust.STRANGER,
        digest="d" * 64,
        status=reading.status,
        document=reading.incident,
        repairs=reading.repairs,
        incident_id=incident_id(HOST, peer, reading.incident.identity),
        rule=Rule.QUARANTINE if trust is Trust.STRANGER else Rule.NOTIFY,
        original=payload,
    )


def store_all(url: str, interactions: Sequence[Interaction]) -> None:
    """Empty the store, put the interactions into their lanes as receiving does, and decide about them."""

    async def write() -> None:
        store = await open_store(url)
        await store.redis.flushall()
        peers = {
            one.peer: Peer(host=HOST, domain=one.peer, trust=one.trust, received=1) for one in interactions
        }
        change = Change(
            puts=tuple(Put(None, one) for one in (*interactions, *peers.values())),
            appends=tuple(
                lanes.incoming(HOST, one.peer, {"id": one.id, "incident": one.incident_id})
                for one in interactions
            ),
        )
        await commit(store, change)
        await drain(store, StandInProsody())
        await close(store)

    asyncio.run(write())


@dataclass
class StandInProsody:
    """Takes every stanza and tells every admin; keeps what it was given."""

    stanzas: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    active: dict[str, dict[str, str]] = field(default_factory=dict)

    async def send(self, _: str, stanzas: Sequence[str], **__: str) -> list[dict[str, str]]:
        self.stanzas += stanzas
        return [{} for _ in stanzas]

    async def notify(self, _: str, text: str, **__: str) -> list[str]:
        self.notices.append(text)
        return ["admin"]

    async def preview(self, _: str, **__: str | None) -> dict[str, Any]:
        return {"exists": True, "sessions": 2}

    async def mitigate(self, _: str, __: str, *, mitigation: str, target: Any, **___: Any) -> Mitigated:
        self.active[mitigation] = dict(target)
        return Mitigated(ok=True, status=200)

    async def lift(self, _: str, *, mitigation: str, **__: Any) -> Mitigated:
        del self.active[mitigation]
        return Mitigated(ok=True, status=200)


async def drain(store: Store, prosody: StandInProsody) -> None:
    """Do what the workers do until nothing waits, in this process."""
    is_busy = True
    while is_busy:
        is_busy = False
        for lease in (await take(store, Queue.INCIDENTS, "test")).leases:
            await process(store, [lease], rules=RULES, now=NOON)
            is_busy = True
        for lease in (await take(store, Queue.OUTGOING, "test")).leases:
            kind, _, host = lease.lane.partition(":")
            if kind == "approval":
                sent = await mitigate.work(store, prosody, lease.items, rules=RULES, now=NOON)
            else:
                sent = await send_stanzas(store, prosody, host, lease.items, patience=RULES, now=NOON)  # type: ignore[arg-type]
            await commit(store, sent.change, leases=[finished(lease, lease.items[: sent.count])])
            is_busy = True


@dataclass
class World:
    """What lies beyond the store: Prosody, and peers that answer as they are told to."""

    url: str
    prosody: StandInProsody = field(default_factory=StandInProsody)

    def work(self) -> None:
        """Let the workers do all that waits."""

        async def work() -> None:
            store = await open_store(self.url)
            await drain(store, self.prosody)
            await close(store)

        asyncio.run(work())

    def answer(self, interaction_id: str, *, peer: str, failure: PeerError | None = None) -> None:
        """Let a peer answer a sending of ours, and the workers take note."""

        async def answer() -> None:
            store = await open_store(self.url)
            given = outgoing.Answer(sender=peer, is_bounce=False, failure=failure)
            item = outgoing.answer_item(f"a-{interaction_id}", f"ib-{interaction_id}", given)
            await commit(store, Change(appends=(lanes.incoming(HOST, peer, item),)))
            await drain(store, self.prosody)
            await close(store)

        asyncio.run(answer())

    def receive(self, one: Interaction) -> None:
        """Let a peer send something more."""

        async def receive() -> None:
            store = await open_store(self.url)
            item = {"id": one.id, "incident": one.incident_id}
            change = Change(puts=(Put(None, one),), appends=(lanes.incoming(HOST, one.peer, item),))
            await commit(store, change)
            await drain(store, self.prosody)
            await close(store)

        asyncio.run(receive())

    def change_peer(self, domain: str, change: Callable[[Peer], Peer]) -> None:
        """Change what is known of a peer."""

        async def write() -> None:
            store = await open_store(self.url)
            await change_peer(store, HOST, domain, change, actor=Actor("cli:test"), now=datetime.now(UTC))
            await close(store)

        asyncio.run(write())


@pytest.fixture
def world(server: EmbeddedServer) -> World:
    """The world around an emptied store."""
    store_all(server.url, [])
    return World(server.url)


@pytest.fixture
def add(server: EmbeddedServer) -> Callable[..., list[Interaction]]:
    """Fills the store with (vector, peer, trust), one minute apart; `change` alters each before it is stored."""

    def fill(
        *sent: tuple[str, str, Trust], change: Callable[[Interaction], Interaction] = lambda one: one
    ) -> list[Interaction]:
        found = [
            change(interaction(number, (VECTORS / f"{name}.xml").read_bytes(), peer=peer, trust=trust))
            for number, (name, peer, trust) in enumerate(sent)
        ]
        store_all(server.url, found)
        return found

    return fill


@pytest.fixture
def at() -> Callable[[str, str], Callable[[Interaction], Interaction]]:
    """Makes a change for `add`: in the document, one text stands for another."""

    def make(old: str, new: str) -> Callable[[Interaction], Interaction]:
        def change(one: Interaction) -> Interaction:
            payload = (one.original or b"").decode().replace(old, new)
            number = int(one.id.removeprefix("i"))
            return interaction(number, payload.encode(), peer=one.peer, trust=one.trust)

        return change

    return make


@pytest.fixture
def arrive() -> Callable[[str, str], Interaction]:
    """Makes the interaction that a vector becomes when a trusted peer sends it, an hour after noon."""
    return lambda name, peer: interaction(60, (VECTORS / f"{name}.xml").read_bytes(), peer=peer)
