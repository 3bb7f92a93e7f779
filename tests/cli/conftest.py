"""A command line for tests: `run(...)` is one call of `incident-bridge`, with what it printed."""

import base64
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.main import main
from bridge.store.embedded import EmbeddedServer, start_embedded

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
