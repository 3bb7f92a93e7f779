"""`listen` is a consumer for developers: it prints deliveries, verifies them, and says how to have them sent."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from bridge.webhooks.signature import decode_secret, headers_for

ROOT = Path(__file__).resolve().parents[2]
BODY = b'{"type":"endpoint.test","timestamp":"2026-11-21T12:00:00Z","data":{"sequence":7}}'
OTHER = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class Listening:
    """A running `listen` that made its own secret."""

    def __init__(self, process: "subprocess.Popen[str]", secret_file: Path) -> None:
        self.process, self.secret_file, self.said = process, secret_file, ""
        assert process.stderr
        while "allow_networks" not in self.said:
            line = process.stderr.readline()
            assert line, self.said
            self.said += line
        found = re.search(r"endpoints add (http://127\.0\.0\.1:[0-9]+/)", self.said)
        assert found
        self.url = found[1]

    @property
    def out(self) -> IO[str]:
        assert self.process.stdout
        return self.process.stdout

    def post(self, message_id: str = "e-1", *, secret: str | None = None, age: int = 0) -> int:
        secret = secret or self.secret_file.read_text().strip()
        headers = headers_for(
            [decode_secret(secret)], message_id=message_id, timestamp=int(time.time()) - age, body=BODY
        )
        request = urllib.request.Request(self.url + "any/path", data=BODY, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


def command(*words: str) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-m", "bridge.cli", *words],
        "cwd": ROOT,
        "env": {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }


@pytest.fixture(params=[(), ("--json",)], ids=["people", "json"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listening]:
    secret_file = tmp_path / "new" / "listen.secret"
    words = (*request.param, "listen", "--port", "0", "--secret-file", str(secret_file))
    with subprocess.Popen(**command(*words)) as process:
        yield Listening(process, secret_file)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_deliveries_are_verified_and_printed(listening: Listening, request: pytest.FixtureRequest) -> None:
    is_json = "json" in request.node.name
    codes = [
        listening.post(),
        listening.post(),
        listening.post("e-2", secret=OTHER),
        listening.post("e-3", age=3600),
    ]

    assert codes == [204, 204, 401, 401]
    if is_json:
        lines = [json.loads(listening.out.readline()) for _ in codes]
        assert [line["verified"] for line in lines] == [True, True, False, False]
        assert [line["again"] for line in lines] == [False, True, False, False]
        assert lines[0]["event"]["data"]["sequence"] == 7
    else:
        first, second, third, reason = (listening.out.readline() for _ in range(4))
        assert "genuine  e-1  endpoint.test  7" in first
        assert second.endswith("(again)\n")
        assert "NOT GENUINE  e-2" in third
        assert "another endpoint's" in reason


def test_it_says_what_to_type_and_makes_a_secret_that_only_its_user_can_read(listening: Listening) -> None:
    assert f"--secret-file {listening.secret_file}" in listening.said
    assert 'allow_networks = ["127.0.0.0/8"]' in listening.said
    assert stat.S_IMODE(listening.secret_file.stat().st_mode) == 0o600
    assert decode_secret(listening.secret_file.read_text().strip())
    assert "whsec_" not in listening.said


def test_a_port_that_is_taken_is_said(run: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        printed = run("listen", "--port", str(port), "--secret-file", str(tmp_path / "secret"))

    assert printed.code == 2
    assert f"port {port} cannot be had" in printed.messages
