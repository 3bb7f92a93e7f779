"""`listen`: a consumer for developers, on loopback; prints each delivery and whether it is genuine.

House rules: listens on 127.0.0.1 only; what is not genuine is answered 401 and printed as such; what was printed
before is said to be there again, since a delivery may repeat.
"""

import argparse
import asyncio
import json
import os
import secrets
import shlex
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from bridge.cli.arguments import Commands, UsageError, command
from bridge.cli.output import Exit, Terminal, cell
from bridge.cli.verify import Verdict, judge, secrets_from

_PORT = 8269
_FIRST_PORT = 1024
_LAST_PORT = 65535
_MOST_BYTES = 8 * 1024 * 1024
_REMEMBERED = 10_000


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser = command(commands, common, "listen", run, "listen on loopback, and print and verify deliveries")
    parser.add_argument(
        "--port", type=_port, default=_PORT, help=f"where (default {_PORT}); 0: any that is free"
    )
    parser.add_argument("--secret-file", type=Path, metavar="FILE",
                        help="the endpoint's secret; made if it is not there")  # fmt: skip


def _port(text: str) -> int:
    if (
        not text.isascii()
        or not text.isdigit()
        or (text != "0" and not _FIRST_PORT <= int(text) <= _LAST_PORT)
    ):
        raise argparse.ArgumentTypeError(f"is a port from {_FIRST_PORT} to {_LAST_PORT}, or 0")
    return int(text)


def run(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Listen until interrupted."""
    path = arguments.secret_file or _default_file()
    if not path.exists():
        _make_secret(path)
    keys = secrets_from(path)
    if not keys:
        raise UsageError(f"{path} holds no secret")
    return asyncio.run(_listen(_Listener(keys=tuple(keys), terminal=terminal), arguments.port, path))


def _default_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or ""
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "incident-bridge" / "listen.secret"


def _make_secret(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"whsec_{b64encode(secrets.token_bytes(32)).decode()}\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


@dataclass(slots=True)
class _Listener:
    """Takes deliveries; `seen` are the ids of the last of them."""

    keys: tuple[bytes, ...]
    terminal: Terminal
    seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    async def take(self, request: web.Request) -> web.Response:
        """Verify and print one delivery."""
        body = await request.read()
        headers = {name: request.headers.get(name, "") for name in _HEADERS}
        verdict = judge(self.keys, headers, body, now=datetime.now(UTC).timestamp())
        is_again = verdict.is_genuine and headers["webhook-id"] in self.seen
        self._print(headers["webhook-id"], verdict, body, is_again=is_again)
        if not verdict.is_genuine:
            return web.Response(status=401, text=verdict.reason)
        self.seen[headers["webhook-id"]] = None
        if len(self.seen) > _REMEMBERED:
            self.seen.popitem(last=False)
        return web.Response(status=204)

    def _print(self, webhook_id: str, verdict: Verdict, body: bytes, *, is_again: bool) -> None:
        event = _event(body)
        if self.terminal.is_json:
            line = {"webhook_id": webhook_id, "verified": verdict.is_genuine, "reason": verdict.reason}
            self.terminal.line(json.dumps({**line, "again": is_again, "event": event}))
        else:
            mark = "genuine" if verdict.is_genuine else "NOT GENUINE"
            sequence = event.get("data", {}).get("sequence") if isinstance(event.get("data"), dict) else None
            words = (datetime.now(UTC).strftime("%H:%M:%SZ"), mark, webhook_id, event.get("type"), sequence)
            again = "  (again)" if is_again else ""
            self.terminal.line("  ".join(cell(word) for word in words) + again)
            if not verdict.is_genuine:
                self.terminal.line(f"  {cell(verdict.reason)}")
        self.terminal.out.flush()


_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def _event(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def _listen(listener: _Listener, port: int, secret_file: Path) -> int:
    app = web.Application(client_max_size=_MOST_BYTES)
    app.router.add_post("/{path:.*}", listener.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        _say_how(listener.terminal, runner.addresses[0][1], secret_file)
        await asyncio.Event().wait()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise UsageError(f"port {port} cannot be had: {why}; take another: --port N") from None
    finally:
        await runner.cleanup()
    return Exit.OK


def _say_how(terminal: Terminal, port: int, secret_file: Path) -> None:
    file = shlex.quote(str(secret_file.absolute()))
    terminal.say(
        f"Listening on http://127.0.0.1:{port}/ until Ctrl-C. To have events delivered here, in another terminal:\n"
        f"  incident-bridge endpoints add http://127.0.0.1:{port}/ --secret-file {file}\n"
        "This needs, in the bridge's configuration, because it delivers to no loopback address otherwise:\n"
        '  [webhooks]\n  allow_networks = ["127.0.0.0/8"]'
    )
