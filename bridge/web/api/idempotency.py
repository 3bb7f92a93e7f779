"""`Idempotency-Key`: a POST that is repeated with the same key is done once and answered twice.

How far it goes: an answer is kept for 24 hours under (token, key). The key also determines the ids of what the
request makes (`Call.new_id`), so where the service dies between the effect and keeping its answer, the repeat finds
what was stored under these ids instead of doing it again, for whatever stores once by its ids (`pipeline/originate`,
`endpoints.add`). A secret is not kept with the answer: it is found again (`Route.secret`).
A request that failed keeps nothing: it may be repeated with the same key.
"""

import base64
import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bridge.pipeline.ids import new_id as random_id
from bridge.policy.change import Change, Forget, Remember
from bridge.store import load
from bridge.store.commit import StaleError, commit
from bridge.store.connect import Store
from bridge.web.problems import FieldError, ProblemError

HEADER: Final = "Idempotency-Key"
KEPT_SECONDS: Final = 86_400
IN_FLIGHT_SECONDS: Final = 60
_MOST_CHARACTERS: Final = 255
_HOST: Final = ""  # no host's: a key belongs to a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of one token, and what it was used for."""

    name: str
    request: str

    def new_id(self) -> Callable[[], str]:
        """Ids that follow from the key: the same in every repetition."""
        numbers = itertools.count()

        def make() -> str:
            seed = f"{self.name} {self.request} {next(numbers)}".encode()
            return base64.b32encode(hashlib.sha256(seed).digest()[:10]).decode().lower()

        return make


def ids(key: Key | None) -> Callable[[], str]:
    """How this request makes ids."""
    return random_id if key is None else key.new_id()


def read(text: str | None, *, token_id: str, method: str, path: str, body: bytes) -> Key | None:
    """Read the header; None if there is none.

    Raises:
        ProblemError: it is not 1 to 255 printable ASCII characters.
    """
    if text is None:
        return None
    if not 0 < len(text) <= _MOST_CHARACTERS or not (text.isascii() and text.isprintable()):
        detail = f"must be 1 to {_MOST_CHARACTERS} printable ASCII characters"
        raise ProblemError("bad-request", f"{HEADER} {detail}", errors=(FieldError(HEADER, detail),))
    name = hashlib.sha256(f"{token_id} {text}".encode()).hexdigest()[:40]
    request = hashlib.sha256(f"{method} {path}\n".encode() + body).hexdigest()[:40]
    return Key(name=f"idempotency {name}", request=request)


async def begin(store: Store, key: Key) -> dict[str, Any] | None:
    """Reserve the key; returns what was answered where that was done before.

    Raises:
        ProblemError: 422 where it was used for another request, 409 where that one is under way.
    """
    reserve = _remember(key, {"request": key.request}, seconds=IN_FLIGHT_SECONDS, is_new=True)
    while True:
        found = (await load.fetch(store, remembered=[(_HOST, key.name)])).remembered[(_HOST, key.name)]
        if found is not None:
            return _answered(key, json.loads(found))
        try:
            await commit(store, Change(remembers=(reserve,)))
        except StaleError:
            continue  # somebody reserved it meanwhile
        return None


def _answered(key: Key, kept: dict[str, Any]) -> dict[str, Any]:
    if kept["request"] != key.request:
        detail = "was used for another request within the last 24 hours; take a new one"
        raise ProblemError("key-reused", f"{HEADER} {detail}", errors=(FieldError(HEADER, detail),))
    if "status" not in kept:
        raise ProblemError(
            "busy", "the request with this key is under way; ask again", headers={"Retry-After": "1"}
        )
    return kept


async def keep(store: Store, key: Key, answer: dict[str, Any]) -> None:
    """Keep what was answered: {status, headers, body}."""
    kept = _remember(key, {"request": key.request, **answer}, seconds=KEPT_SECONDS, is_new=False)
    await commit(store, Change(remembers=(kept,)))


async def release(store: Store, key: Key) -> None:
    """Give the key back: the request did nothing."""
    await commit(store, Change(forgets=(Forget(host=_HOST, name=key.name),)))


def _remember(key: Key, value: dict[str, Any], *, seconds: int, is_new: bool) -> Remember:
    return Remember(host=_HOST, name=key.name, value=json.dumps(value), ttl_seconds=seconds, is_new=is_new)
