"""What the measurements share: a fast consumer, and endpoints that lead to it."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.policy.change import Change, Put
from bridge.policy.consumers import Endpoint
from bridge.store.commit import commit
from bridge.store.connect import Store

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="


@pytest.fixture
def receiver() -> Iterator[str]:
    script = Path(__file__).with_name("receiver.py")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.terminate()


async def add(store: Store, url: str, *, id: str) -> None:
    endpoint = Endpoint(id=id, url=url, hosts=("a.test",), secret=SECRET, created_at=datetime.now(UTC))
    await commit(store, Change(puts=(Put(None, endpoint),)))
