"""What commands about approvals and mitigations share: who types, what is meant, and waiting for what comes of it."""

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from bridge.cli import consumers
from bridge.cli.arguments import UsageError
from bridge.cli.stored import NotFoundError, members, records
from bridge.errors import ConfigError
from bridge.pipeline.actors import Actor
from bridge.policy.decisions import Approval, Mitigation
from bridge.store.connect import Store
from bridge.store.keys import RecordName

_POLL_SECONDS = 0.2
_MOST_DAYS = 3650
_MOST_SECONDS = 86_400
_MOST_SHOWN = 10
Kept = TypeVar("Kept", Approval, Mitigation)
T = TypeVar("T")


def actor() -> Actor:
    """Who types this, and from which address if it came by SSH."""
    origin = (os.environ.get("SSH_CONNECTION") or "").partition(" ")[0]
    return Actor(name=consumers.actor().name, origin=origin)


def add_end(parser: argparse.ArgumentParser) -> None:
    """Declare how long it is to last, the second yes, and waiting."""
    parser.add_argument("--days", type=days, metavar="N",
                        help="end it after so many days (default: policy.mitigation_days)")  # fmt: skip
    parser.add_argument(
        "--yes-protected", action="store_true", help="the second yes that protected names need"
    )
    add_wait(parser)


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Declare waiting."""
    parser.add_argument("--wait", type=_seconds, default=0.0, metavar="SECONDS",
                        help="wait so long for what comes of it; exit 0 only if all is done")  # fmt: skip


def days(text: str) -> int:
    """Read a number of days."""
    if not text.isdecimal() or not 0 < int(text) <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"must be a number of days from 1 to {_MOST_DAYS}")
    return int(text)


def _seconds(text: str) -> float:
    if not text.isdecimal() or int(text) > _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, at most {_MOST_SECONDS}")
    return float(text)


def end_of(arguments: argparse.Namespace, now: datetime) -> datetime | None:
    """When what is approved ends; None: as configured."""
    return None if arguments.days is None else now + timedelta(days=arguments.days)


def now_utc() -> datetime:
    """The time."""
    return datetime.now(UTC)


async def one_like(
    store: Store,
    start: str,
    *,
    hosts: Sequence[str],
    kind: type[Kept],
    name: Callable[[str], RecordName],
    index: Callable[[str], str],
) -> Kept:
    """Return the one approval or mitigation of these hosts whose id begins so.

    Raises:
        NotFoundError: there is none, or several.
    """
    start = start.strip().casefold()
    word = kind.__name__.casefold()
    if not start:
        raise UsageError(f"ID is empty; see: incident-bridge {word}s list")
    names = [name(start)]
    if not await records(store, names):
        names = [
            name(member)
            for host in hosts
            async for page in members(store, index(host))
            for member in page
            if member.startswith(start)
        ]
    found = [
        one
        for one in await records(store, names[:_MOST_SHOWN])
        if isinstance(one, kind) and one.host in hosts
    ]
    if not found:
        raise NotFoundError(f"no {word}'s id begins with {start}; to see them: incident-bridge {word}s list")
    if len(found) > 1:
        ids = "\n".join(f"  {one.id}" for one in found)
        raise NotFoundError(f"several {word}s begin with {start}; type more of the id:\n{ids}")
    return found[0]


async def decided(story: Awaitable[T]) -> T:
    """Await a decision; what cannot be done as typed is wrong usage, not a wrong configuration."""
    try:
        return await story
    except ConfigError as error:
        raise UsageError(str(error)) from None


async def watched(
    load: Callable[[], Awaitable[Kept]], is_over: Callable[[Kept], bool], *, seconds: float
) -> Kept:
    """Look again until it is over or the time is up."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await load()
        if is_over(found) or asyncio.get_running_loop().time() >= deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)
