"""Whatever the OpenAPI document permits, and what it does not, is sent to a real service over a connection.

The answers must be what the document says: never a 5xx, no answer, header or media type that it does not name, no
acceptance of what it forbids or of a token that is none.
"""

import asyncio
import socket
import sys
from pathlib import Path

from pydantic import SecretStr

from bridge.config import Address, HostSettings, ServerSettings, Settings, StoreSettings
from bridge.policy.change import Change, Event, Put
from bridge.policy.consumers import DeliveryState, Endpoint, Scope
from bridge.store.commit import commit
from bridge.store.connect import Store
from bridge.web.app import serving
from tests.web.api.conftest import HOST, NOW, SECRET, make_incident, make_token, put, reported
from tests.web.api.test_endpoints import tried
from tests.web.api.test_letters import mailed_to

COMMAND = Path(sys.executable).parent / "schemathesis"
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def settings(store: Store) -> Settings:
    ports = [Address("127.0.0.1", port) for port in free_ports(3)]
    return Settings(
        server=ServerSettings(
            listen=ports[0],
            ingest_listen=ports[1],
            metrics_listen=ports[2],
            api_requests_per_minute=10**6,
        ),
        store=StoreSettings(url=store.url, durability="memory"),
        hosts={HOST: HostSettings(secrets=(SecretStr(SECRET),))},
    )


async def fill(store: Store) -> None:
    """Have something of everything, so that lists are not empty."""
    await put(store, *(make_incident(number) for number in range(5)))
    await reported(store, "peer.test")
    await mailed_to(store, "i1")
    endpoint = Endpoint(
        id="ep_a", url="https://consumer.example/", hosts=(HOST,), secret=SECRET, created_at=NOW
    )
    data = {"host": HOST, "peer": {"domain": "peer.test", "quarantined": False}}
    event = Event(host=HOST, id="e1", type="incident.reported", timestamp=NOW, data=data)
    await commit(store, Change(puts=(Put(None, endpoint),), events=(event,)))
    for number, state in enumerate(DeliveryState, start=1):
        await tried(store, endpoint.id, number, state)


async def test_the_api_answers_everything_as_its_document_says(store: Store, tmp_path: Path) -> None:
    await fill(store)
    _, token = await make_token(store, (Scope.ADMIN,))
    configured = settings(store)
    async with serving(configured):
        process = await asyncio.create_subprocess_exec(
            str(COMMAND),
            f"--config-file={CONFIGURATION}",
            "run",
            f"--header=Authorization: Bearer {token}",
            f"http://{configured.server.listen}/api/v1/openapi.json",
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
    text = out.decode()
    assert process.returncode == 0, text
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in text.replace("  ", " "), text
