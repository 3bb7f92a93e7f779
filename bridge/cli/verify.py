"""`verify`: a consumer's developer asks whether a delivery is genuine, and if not, what is wrong with it.

House rules: needs no configuration and no store; the secret comes from a file or the environment, never from an
argument, and is never shown. What is guessed at is tried: a reason is named only if with it the signature matches.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.cli.arguments import Commands, UsageError, command
from bridge.cli.output import Exit, Terminal
from bridge.errors import ConfigError, SignatureError, TimestampError
from bridge.webhooks.signature import TOLERANCE_SECONDS, decode_secret, verify

SECRET_VARIABLE = "INCIDENT_BRIDGE_WEBHOOK_SECRET"  # noqa: S105 - its name, not the secret
_MOST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a delivery is genuine, and why not; `age_seconds` is None where it is not even signed."""

    is_genuine: bool
    reason: str
    age_seconds: float | None = None


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser = command(
        commands, common, "verify", run, "verify the signature of a delivery, as a consumer does"
    )
    parser.epilog = (
        f"The secret is read from --secret-file (one a line while it is rotated) or from {SECRET_VARIABLE}."
    )
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="the body, byte by byte as it came (default: stdin)"
    )
    for name in ("id", "timestamp", "signature"):
        parser.add_argument(f"--{name}", required=True, metavar="VALUE", help=f"the header webhook-{name}")
    parser.add_argument("--secret-file", type=Path, metavar="FILE", help="holds whsec_…")
    parser.add_argument("--ignore-age", action="store_true", help="accept what was signed long ago")


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Say whether the delivery is genuine."""
    secrets = secrets_from(arguments.secret_file)
    if not secrets:
        raise UsageError(f"there is no secret; name a file by --secret-file, or set {SECRET_VARIABLE}")
    body = _body(arguments.file)
    headers = {f"webhook-{name}": getattr(arguments, name) for name in ("id", "timestamp", "signature")}
    verdict = judge(
        secrets, headers, body, now=datetime.now(UTC).timestamp(), ignore_age=arguments.ignore_age
    )
    if terminal.is_json:
        terminal.json(
            {
                "verified": verdict.is_genuine,
                "reason": verdict.reason,
                "age_seconds": verdict.age_seconds,
            }
        )
    else:
        terminal.say(verdict.reason)
    return Exit.OK if verdict.is_genuine else Exit.NO


def secrets_from(path: Path | None) -> list[bytes]:
    """Read the secrets of a file, or else of the environment; none if there is neither.

    Raises:
        UsageError: the file cannot be read, or what is there is no secret.
    """
    try:
        text = os.environ.get(SECRET_VARIABLE, "") if path is None else path.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not plain ASCII"
        raise UsageError(f"{path} cannot be read: {reason}") from None
    try:
        return [decode_secret(word) for word in text.split()]
    except ConfigError as error:
        raise UsageError(f"{path or SECRET_VARIABLE}: {error}") from None


def _body(path: Path | None) -> bytes:
    try:
        if path is None:
            body = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with path.open("rb") as file:
                body = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path or 'stdin'} cannot be read: {error.strerror}") from None
    if len(body) > _MOST_BYTES:
        raise UsageError(f"the body is larger than {_MOST_BYTES} bytes; no delivery is")
    return body


def judge(
    secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes, *, now: float, ignore_age: bool = False
) -> Verdict:
    """Decide whether a delivery is genuine, and find out what is wrong with one that is not.

    Args:
        secrets: those of the endpoint.
        headers: the three headers.
        body: the bytes as they came.
        now: Unix time in seconds.
        ignore_age: accept it whenever it was signed.
    """
    try:
        verify(secrets, headers, body, now=now)
    except TimestampError:
        age = now - int(headers["webhook-timestamp"])
        when = f"{_span(abs(age))} {'ago' if age > 0 else 'in the future'}"
        if ignore_age:
            return Verdict(
                is_genuine=True, reason=f"The signature is good; it was made {when}.", age_seconds=age
            )
        hint = f"more than {TOLERANCE_SECONDS} seconds are refused, so that nobody can send it again later"
        clock = "if it came just now, one of the two clocks is wrong; to check an old one: --ignore-age"
        reason = f"The signature is good, but was made {when}: {hint}; {clock}."
        return Verdict(is_genuine=False, reason=reason, age_seconds=age)
    except SignatureError as error:
        if error.malformed:
            return Verdict(is_genuine=False, reason=f"This is not how a delivery is signed: {error}.")
        return Verdict(is_genuine=False, reason=_why(secrets, headers, body))
    age = now - int(headers["webhook-timestamp"])
    return Verdict(is_genuine=True, reason="The signature is good.", age_seconds=age)


def _span(seconds: float) -> str:
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}s"
    return f"{seconds:.0f} seconds"


def _why(secrets: Sequence[bytes], headers: Mapping[str, str], body: bytes) -> str:
    """Find the change after which the signature matches; if there is none, say what is left to look at."""
    if not any(one.startswith("v1,") for one in headers["webhook-signature"].split()):
        return "The signature does not begin with v1, (a version, a comma, base64): give the whole header."
    for what, other_headers, other_body in _guesses(headers, body):
        try:
            verify(secrets, other_headers, other_body, now=int(headers["webhook-timestamp"]))
        except SignatureError:
            continue
        return what
    event = _event(body)
    if event is None:
        return (
            f"The signature does not match, and the body ({len(body)} bytes) is no event: it is cut off or another "
            "one. Take the bytes as they came."
        )
    return (
        "The signature does not match: the secret is another endpoint's, or was rotated more than 24 hours ago; or "
        "the body, the id or the timestamp is not what was sent. The body must be the bytes as they came, before "
        "anything parsed them."
    )


def _guesses(headers: Mapping[str, str], body: bytes) -> Iterator[tuple[str, Mapping[str, str], bytes]]:
    """Make what may have been signed instead, each with the sentence that explains the difference."""
    added = (
        "The body has bytes at its end that were not sent, such as the newline that an editor or echo adds."
    )
    yield added, headers, body.rstrip(b"\r\n ")
    yield "The body's line ends were changed.", headers, body.replace(b"\r\n", b"\n")
    event = _event(body)
    if event is None:
        return
    changed = (
        "The body was parsed and written anew; verify the bytes as they came, before anything parses them."
    )
    yield changed, headers, json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
    data = event.get("data")
    own_id = data.get("event_id") if isinstance(data, dict) else None
    if isinstance(own_id, str) and re.fullmatch(r"[!-~]{1,256}", own_id):
        text = f"The id is another delivery's: the body is of event {own_id}."
        yield text, {**headers, "webhook-id": own_id}, body


def _event(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
