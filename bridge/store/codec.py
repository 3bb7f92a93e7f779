"""A record as bytes: one byte of format, then compressed JSON.

House rules: what `_BESIDE` names of an interaction lies beside the record, in fields of its own; unknown fields
of a newer release are passed over, a newer *format* is refused; nothing else here knows one record class from another.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from pydantic import TypeAdapter

from bridge.errors import FormatError
from bridge.policy.abuse_record import AbuseDraft
from bridge.policy.consumers import Delivery, Endpoint, Fanout, Token
from bridge.policy.decisions import Approval, Mitigation, Triage
from bridge.policy.feed_record import Feed, FeedNames
from bridge.policy.listing import Listing
from bridge.policy.record import (
    Bucket,
    Incident,
    Interaction,
    InteractionState,
    Notices,
    Peer,
    Quarantine,
    Record,
)
from bridge.policy.sessions import Session, SignIn

FORMAT: Final = 1
# The words of format 1, known to both sides and therefore not stored: halves a record. A change is a new format.
_DICTIONARY: Final = (files("bridge.store") / "dictionary.txt").read_bytes()
_WINDOW, _MEMORY = 14, 7  # 16 KiB, the dictionary fits; the defaults cost half as much again and gain nothing
_PACKER: Final = zlib.compressobj(
    6, zlib.DEFLATED, _WINDOW, _MEMORY, zdict=_DICTIONARY
)  # copied, as it has read that
_CLASSES: Final[dict[str, type[Record]]] = {
    "interaction": Interaction,
    "incident": Incident,
    "peer": Peer,
    "bucket": Bucket,
    "quarantine": Quarantine,
    "notices": Notices,
    "endpoint": Endpoint,
    "delivery": Delivery,
    "fanout": Fanout,
    "token": Token,
    "triage": Triage,
    "approval": Approval,
    "mitigation": Mitigation,
    "listing": Listing,
    "sign_in": SignIn,
    "session": Session,
    "abuse": AbuseDraft,
    "feed": Feed,
    "feed_names": FeedNames,
}
_RETRY_SECONDS: Final = 5  # by then a worker of the newer release has had its chance
_BESIDE: Final = {"version", "original", "state", "state_at"}


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(_CLASSES[kind])


def prepare() -> None:
    """Build what reads and writes each kind of record, which else happens when the first of its kind comes."""
    for kind in _CLASSES:
        _adapter(kind)


def pack(text: bytes) -> bytes:
    """Compress, and say in which format."""
    packer = _PACKER.copy()
    return bytes((FORMAT,)) + packer.compress(text) + packer.flush()


def unpack(data: bytes) -> bytes:
    """Undo `pack`.

    Raises:
        FormatError: a newer release wrote this.
    """
    if data[:1] != bytes((FORMAT,)):
        raise FormatError(
            f"the store holds records of format {data[0] if data else 'unknown'}, this release reads up to {FORMAT}: "
            "install the release that wrote them",
            retry_after_seconds=_RETRY_SECONDS,
        )
    unpacker = zlib.decompressobj(zdict=_DICTIONARY)
    return unpacker.decompress(memoryview(data)[1:]) + unpacker.flush()


def fields(record: Record, *, kind: str, version: int) -> dict[str, bytes | str | int]:
    """The fields of the record's hash."""
    beside = _BESIDE if isinstance(record, Interaction) else {"version"}
    found: dict[str, bytes | str | int] = {
        "v": version,
        "d": pack(_adapter(kind).dump_json(record, exclude=beside)),
    }
    if isinstance(record, Interaction):
        found |= state_fields(record.state, record.state_at)
        if record.original is not None:
            found["o"] = pack(record.original)
    return found


def state_fields(state: InteractionState, at: datetime | None) -> dict[str, bytes | str | int]:
    """An interaction's state, which moves on without the record."""
    return {"s": str(state), "t": "" if at is None else at.isoformat()}


def decode(kind: str, found: Mapping[str, bytes | None]) -> Record | None:
    """The record from its fields; None if there is none, or not enough of it."""
    version, data = found.get("v"), found.get("d")
    if version is None or data is None:
        return None
    record: Record = _adapter(kind).validate_json(unpack(data))
    if not isinstance(record, Interaction):
        return replace(record, version=int(version))
    state, at, original = found.get("s"), found.get("t"), found.get("o")
    return replace(
        record,
        version=int(version),
        state=InteractionState(state.decode()) if state else record.state,
        state_at=datetime.fromisoformat(at.decode()) if at else None,
        original=None if original is None else unpack(original),
    )


def item_bytes(item: dict[str, Any]) -> bytes:
    """A lane's item; equal items are equal bytes."""
    return json.dumps(item, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
