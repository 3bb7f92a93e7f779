"""`verify` says whether a delivery is genuine, and what is wrong with one that is not."""

import base64
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.verify import SECRET_VARIABLE
from bridge.webhooks.signature import decode_secret, headers_for

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
BODY = '{"type":"endpoint.test","timestamp":"2026-11-21T12:00:00Z","data":{"event_id":"e-1","text":"ü"}}'.encode()


@pytest.fixture
def verify(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `verify` on a body that was signed just now, with changes."""
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)

    def verify(
        body: bytes = BODY, *words: str, age: int = 0, secret: str | None = SECRET, **headers: str
    ) -> Any:
        signed_at = int(time.time()) - age
        signed = headers_for([decode_secret(SECRET)], message_id="e-1", timestamp=signed_at, body=BODY)
        given = {name.removeprefix("webhook-"): value for name, value in signed.items()} | headers
        (tmp_path / "body").write_bytes(body)
        (tmp_path / "secret").write_text(f"{secret}\n")
        options = [f"--{name}={value}" for name, value in given.items()]
        if secret is not None:
            options += ["--secret-file", str(tmp_path / "secret")]
        return run("--json", "verify", "--file", str(tmp_path / "body"), *options, *words)

    return verify


def test_what_was_signed_just_now_is_genuine(verify: Any) -> None:
    printed = verify()

    assert printed.code == 0
    assert printed.json()["verified"] is True
    assert 0 <= printed.json()["age_seconds"] < 60


def test_one_of_two_secrets_is_enough(verify: Any) -> None:
    assert verify(secret=f"{OTHER}\n{SECRET}").code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"secret": OTHER}, "another endpoint's"),
        ({"body": BODY.replace(b"test", b"tost")}, "is not what was sent"),
        ({"body": BODY + b"\n"}, "newline that an editor or echo adds"),
        ({"body": json.dumps(json.loads(BODY), indent=2).encode()}, "parsed and written anew"),
        ({"body": BODY[:40]}, "cut off"),
        ({"id": "e-2"}, "the body is of event e-1"),
        ({"signature": "abc="}, "v1,"),
        ({"signature": ""}, "webhook-signature is missing"),
        ({"timestamp": "yesterday"}, "not Unix seconds"),
        ({"id": ""}, "webhook-id is missing"),
    ],
)
def test_what_is_wrong_is_said(verify: Any, change: dict[str, Any], said: str) -> None:
    printed = verify(**change)

    assert printed.code == 1
    assert printed.json()["verified"] is False
    assert said in printed.json()["reason"]


@pytest.mark.parametrize(("age", "said"), [(3600, "60 minutes ago"), (-900, "15 minutes in the future")])
def test_what_is_stale_is_said_to_be_good_but_stale(verify: Any, age: int, said: str) -> None:
    printed = verify(age=age)
    ignored = verify(BODY, "--ignore-age", age=age)

    assert (printed.code, ignored.code) == (1, 0)
    assert said in printed.json()["reason"]
    assert "--ignore-age" in printed.json()["reason"]
    assert printed.json()["age_seconds"] == pytest.approx(age, abs=60)


def test_the_body_may_come_from_stdin_and_the_secret_from_the_environment(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = headers_for([decode_secret(SECRET)], message_id="e-1", timestamp=int(time.time()), body=BODY)
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BODY)))

    printed = run("verify", *(f"--{name.removeprefix('webhook-')}={value}" for name, value in signed.items()))

    assert (printed.code, printed.out) == (0, "")
    assert "The signature is good" in printed.messages


def test_without_a_secret_or_with_none_it_is_wrong_usage_and_nothing_is_shown(verify: Any) -> None:
    without = verify(secret=None)
    wrong = verify(secret="whsec_c2hvcnQ=")

    assert (without.code, wrong.code) == (2, 2)
    assert "--secret-file" in without.messages
    assert "c2hvcnQ" not in wrong.messages
