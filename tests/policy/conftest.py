"""Arrivals of XEP-0268's own report, from whom and how a test wants."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.policy import admit
from bridge.policy.admit import Arrival
from bridge.policy.record import Bucket, Peer, Quarantine
from bridge.policy.trust import Authentication, Direction, Stream, Trust
from bridge.xmpp import xml
from bridge.xmpp.stanza import read_iq

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


def payload(kind: str, *, text: str = "4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF") -> str:
    """The example's payload; `text` replaces the IncidentID's."""
    whole = (VECTORS / f"{kind}.xml").read_text(encoding="utf-8")
    inner = re.search(rf"<{kind}\b.*</{kind}>", whole, re.DOTALL)
    assert inner is not None
    return inner[0].replace("4BF5D2CE-7C90-4860-BEF2-43A7D777D5FF", text)


def stanza(
    kind: str = "report", *, sender: str = "b.test", to: str = "a.test", type: str = "set", **more: str
) -> str:
    iq_id = more.pop("iq_id", "x1")
    return f"<iq from='{sender}' id='{iq_id}' to='{to}' type='{type}'>{payload(kind, **more)}</iq>"


@pytest.fixture
def arrive() -> Callable[..., Arrival]:
    count = iter(range(10**6))

    def make(*, stream: Stream = SECURE, **more: str) -> Arrival:
        original = stanza(**more).encode()
        iq = read_iq(xml.parse(original))
        assert iq.payload is not None
        digest = xml.digest(iq.payload)
        return Arrival(id=f"i{next(count)}", iq=iq, stream=stream, digest=digest, original=original)

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
