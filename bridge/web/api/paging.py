"""Cursor paging over indexes.

House rules: a cursor names the last entry given, never a number of entries, so what is written meanwhile neither
doubles nor hides an entry, as long as the score of an entry never changes (page over times of creation, not of
changes); it is good only for the same list and the same filters; it holds nothing secret and is trusted in nothing.
"""

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bridge.policy.record import Record
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.web.problems import ProblemError, invalid

Position = tuple[int, str]
_HIGHEST: Final = 2**53
_MOST_PAGES: Final = 10  # read in search of what a filter wants; then the page ends early


def encode(parts: Sequence[str | int], *, of: str) -> str:
    """Write a cursor; `of` names the list and its filters (see `fingerprint`)."""
    packed = json.dumps([of, *parts], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(cursor: str, *kinds: type, of: str) -> tuple[str | int, ...]:
    """Read a cursor.

    Args:
        cursor: as the caller gave it.
        kinds: `str` or `int` for each part.
        of: as when it was written.

    Raises:
        ProblemError: 400, naming `cursor`.
    """
    try:
        packed = base64.b64decode(
            (cursor + "=" * (-len(cursor) % 4)).encode("ascii"), altchars=b"-_", validate=True
        )
        found = json.loads(packed)
    except (ValueError, binascii.Error, RecursionError):
        raise _bad("is not a cursor that was given here") from None
    if not isinstance(found, list) or len(found) != 1 + len(kinds):
        raise _bad("is not a cursor that was given here")
    if found[0] != of:
        raise _bad("is one of another list, or of other filters; start anew without it")
    parts = tuple(found[1:])
    for part, kind in zip(parts, kinds, strict=True):
        if type(part) is not kind or (isinstance(part, int) and not 0 <= part <= _HIGHEST):
            raise _bad("is not a cursor that was given here")
        if isinstance(part, str) and any("\ud800" <= letter <= "\udfff" for letter in part):
            raise _bad("is not a cursor that was given here")
    return parts


def _bad(detail: str) -> ProblemError:
    return invalid("cursor", detail, kind="invalid-query")


def fingerprint(*parts: object) -> str:
    """Name a list and its filters in a few characters."""
    packed = json.dumps(parts, default=str, separators=(",", ":")).encode()
    return hashlib.sha256(packed).hexdigest()[:12]


def position(cursor: str | None, *, of: str) -> Position | None:
    """Read a cursor over an index: the (score, member) it ended with."""
    if cursor is None:
        return None
    score, member = decode(cursor, int, str, of=of)
    return int(score), str(member)


def following(last: Position, *, of: str) -> str:
    """Write the cursor of the page after the one that ended with `last`."""
    return encode(last, of=of)


async def newest(
    store: Store, indexes: Sequence[str], *, limit: int, before: Position | None
) -> list[tuple[str, int]]:
    """A page of several indexes as if they were one, newest first, as (member, score); a member is in one of them."""
    pages = await asyncio.gather(*(load.page(store, index, limit=limit, before=before) for index in indexes))
    entries = [entry for page in pages for entry in page]
    return sorted(entries, key=lambda entry: (entry[1], entry[0]), reverse=True)[:limit]


async def records(
    store: Store,
    indexes: Sequence[str],
    name_of: Callable[[str], keys.RecordName],
    is_wanted: Callable[[Record], bool],
    *,
    limit: int,
    before: Position | None,
) -> tuple[list[Record], Position | None]:
    """A page of several indexes' records that are wanted, newest first, and where it ended; None: there are no more."""
    found: list[Record] = []
    for _ in range(_MOST_PAGES):
        entries = await newest(store, indexes, limit=limit, before=before)
        names = [name_of(member) for member, _ in entries]
        known: Mapping[keys.RecordName, Record | None] = (
            (await load.fetch(store, names=names)).records if names else {}
        )
        for number, (member, score) in enumerate(entries, start=1):
            before = (score, member)
            record = known[name_of(member)]
            if record is not None and is_wanted(record):
                found.append(record)
            if len(found) == limit and number < len(entries):
                return found, before
        if len(entries) < limit:
            return found, None
        if len(found) == limit:
            break
    return found, before
