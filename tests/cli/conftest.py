"""A command line for tests: `run(...)` is one call of `incident-bridge`, with what it printed."""

import asyncio
import base64
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.main import main
from bridge.policy.change import Change, Put
from bridge.policy.decide import State, decide, incident_puts
from bridge.policy.record import Interaction, Peer, Way, incident_id
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.store.commit import commit
from bridge.store.connect import close, open_store
from bridge.store.embedded import EmbeddedServer, start_embedded
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.jid import Jid
from bridge.xmpp.stanza import read_iq

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
        original=payload,
    )


def store_all(url: str, interactions: Sequence[Interaction]) -> None:
    """Empty the store, then decide about the interactions as a worker does, and commit."""

    async def write() -> None:
        store = await open_store(url)
        await store.redis.flushall()
        before = State(incidents=dict.fromkeys((one.incident_id for one in interactions), None))
        state, change = before, Change(puts=tuple(Put(None, one) for one in interactions))
        for one in interactions:
            state, more = decide(state, one, now=NOON)
            change += replace(more, appends=())
        peers = {
            one.peer: Peer(host=HOST, domain=one.peer, trust=one.trust, received=1) for one in interactions
        }
        puts = (*incident_puts(before, state), *(Put(None, peer) for peer in peers.values()))
        await commit(store, Change(puts=puts) + change)
        await close(store)

    asyncio.run(write())


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
