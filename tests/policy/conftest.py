"""Arrivals of XEP-0268's own report, from whom and how a test wants."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.errors import RefusedError, StanzaError
from bridge.policy import admit, decide
from bridge.policy.admit import Arrival
from bridge.policy.disclosure import Inquiries
from bridge.policy.record import Bucket, Incident, Interaction, Notices, Peer, Quarantine
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.xep0268.model import Kind, Reading
from bridge.xep0268.read import read
from bridge.xmpp import xml
from bridge.xmpp.stanza import Iq, read_iq

VECTORS = Path(__file__).parents[1] / "vectors" / "xep0268"
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
SECURE = Stream(direction=Direction.INCOMING, encrypted=True, authentication=Authentication.CERTIFICATE)


@dataclass(frozen=True)
class Rules:
    strangers: str = "quarantine"
    unencrypted: str = "refuse"
    require_authentication: Authentication = Authentication.CERTIFICATE
    allow_users: frozenset[str] = frozenset()
    quarantine_max: int = 10_000
    quarantine_max_bytes: int = 268_435_456
    quarantine_max_per_peer: int = 100
    quota_per_minute: float = 60
    quota_burst: float = 120
    quota_strangers_per_minute: float = 600
    quota_strangers_burst: float = 1200
    inquiries: Inquiries = Inquiries.PARTIES
    answer_seconds: int = 300
    give_up_seconds: int = 86_400
    approval_days: int = 7
    protected: frozenset[str] = frozenset()


def payload(kind: str, *, text: str = "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF") -> str:
    """The example's payload; `text` replaces the IncidentID's."""
    whole = (VECTORS / f"{kind}.xml").read_text(encoding="utf-8")
    inner = re.search(rf"<{kind}\b.*</{kind}>", whole, re.DOTALL)
    assert inner is not None
    return inner[0].replace("4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF", text)


def stanza(
    kind: str = "report", *, sender: str = "b.test", to: str = "a.test", type: str = "", **more: str
) -> str:
    """An IQ with the example of this kind, of the right type unless told otherwise."""
    iq_id, iq_type = more.pop("iq_id", "x1"), type or Kind(kind).iq_type
    return f"<iq from='{sender}' id='{iq_id}' to='{to}' type='{iq_type}'>{payload(kind, **more)}</iq>"


def reading_of(iq: Iq) -> Reading | StanzaError:
    try:
        return read(iq)
    except RefusedError as error:
        return error.stanza_error


def arrival_of(original: bytes, *, id: str, stream: Stream = SECURE) -> Arrival:
    iq = read_iq(xml.parse(original))
    assert iq.payload is not None
    digest = xml.digest(iq.payload)
    return Arrival(id=id, iq=iq, stream=stream, reading=reading_of(iq), digest=digest, original=original)


@pytest.fixture
def arrive() -> Callable[..., Arrival]:
    count = iter(range(10**6))

    def make(*, stream: Stream = SECURE, **more: str) -> Arrival:
        return arrival_of(stanza(**more).encode(), id=f"i{next(count)}", stream=stream)

    return make


def state(
    *, trust: Trust = Trust.STRANGER, fill: float = 0.0, domain: str = "b.test", **rules: object
) -> admit.State:
    buckets: dict[str, Bucket] = {}
    return admit.State(
        host="a.test",
        rules=Rules(**rules),  # type: ignore[arg-type]
        peers={domain: Peer(host="a.test", domain=domain, trust=trust)},
        buckets=buckets,
        quarantine=Quarantine(host="a.test"),
        remembered={},
        fill=fill,
    )


def deciding(*interactions: Interaction, **changes: object) -> decide.State:
    """What is known when these are decided: nothing but them and their peers, unless told otherwise."""
    incidents: dict[str, Incident | None] = {one.incident_id: None for one in interactions}
    usual: dict[str, object] = {
        "host": "a.test",
        "rules": Rules(),
        "incidents": incidents,
        "interactions": {one.id: one for one in interactions},
        "peers": {one.peer: Peer(host="a.test", domain=one.peer) for one in interactions},
        "notices": Notices(host="a.test"),
    }
    return decide.State(**{**usual, **changes})  # type: ignore[arg-type]


def waiting(interaction: Interaction) -> dict[str, str]:
    """Its place in its peer's lane."""
    return {"id": interaction.id, "incident": interaction.incident_id}
