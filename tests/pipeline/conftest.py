"""What the stories' tests share: one store, emptied in between, and the official schema."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.store.connect import Store, close, open_store
from bridge.store.embedded import EmbeddedServer, start_embedded
from tests.iodef.conftest import schema, schema_file

__all__ = ["schema", "schema_file"]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    folder = Path(tempfile.mkdtemp(prefix="ib-pipeline-"))
    running = start_embedded(folder, max_bytes=256 * 2**20)
    yield running
    running.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def store(server: EmbeddedServer) -> AsyncIterator[Store]:
    opened = await open_store(server.url)
    await opened.redis.flushall()
    yield opened
    await close(opened)
