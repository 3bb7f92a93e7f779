"""A form that is sent twice is done once: its page gave it a word, and what came of it is kept for a while.

House rule: the ids of what a form makes follow from the form, so that what was stored before a crash is found by
its repetition, for whatever stores once by its ids (`pipeline/originate`).
"""

import asyncio
import base64
import hashlib
import itertools
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from bridge.errors import ConflictError
from bridge.policy.change import Change, Forget, Remember
from bridge.store import load
from bridge.store.commit import StaleError, commit
from bridge.store.connect import Store
from bridge.web.console.guard import Visit

_KEPT_SECONDS: Final = 600
_IN_FLIGHT_SECONDS: Final = 60
_PATIENCE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_HOST: Final = ""  # no host's: a form belongs to a browser
_UNDER_WAY: Final = "?"
_DONE: Final = "="

NewId = Callable[[], str]


def word() -> str:
    """What a page gives its forms, as the field `once`; each time it is shown another."""
    return secrets.token_urlsafe(16)


async def once(visit: Visit, act: Callable[[NewId], Awaitable[str]]) -> str:
    """Do what a form asks for; where the same form was sent before, say only what came of it then.

    Args:
        visit: with the form.
        act: does it; gets what makes ids, and returns what to remember: a few ids in a line.

    Raises:
        ConflictError: the first is not done with yet.
    """
    name = await _name(visit)
    known = await _reserved(visit.store, name)
    if known is not None:
        return known
    try:
        made = await act(_ids(name))
    except BaseException:  # nothing came of it, so it may be sent again
        await commit(visit.store, Change(forgets=(Forget(host=_HOST, name=name),)))
        raise
    await commit(visit.store, _remembering(name, _DONE + made, seconds=_KEPT_SECONDS, is_new=False))
    return made


async def _name(visit: Visit) -> str:
    """What this form is known by: whose browser, which page, and everything that is in it."""
    form = await visit.request.post()
    typed = [f"{key}={value}" for key, value in form.items() if isinstance(value, str)]
    text = chr(0).join([visit.browser, visit.request.path, *typed]).replace("\r\n", "\n")
    return f"form {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:40]}"


async def _reserved(store: Store, name: str) -> str | None:
    """Reserve the form; returns what came of it where that was done before."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while True:
        kept = (await load.fetch(store, remembered=[(_HOST, name)])).remembered[(_HOST, name)]
        if kept is not None and kept.startswith(_DONE):
            return kept.removeprefix(_DONE)
        if kept is None:
            try:
                await commit(store, _remembering(name, _UNDER_WAY, seconds=_IN_FLIGHT_SECONDS, is_new=True))
            except StaleError:
                continue  # the same form, at the same time
            return None
        if asyncio.get_running_loop().time() > deadline:
            raise ConflictError("the same form was sent before and is being worked on")
        await asyncio.sleep(_POLL_SECONDS)


def _remembering(name: str, value: str, *, seconds: int, is_new: bool) -> Change:
    kept = Remember(host=_HOST, name=name, value=value, ttl_seconds=seconds, is_new=is_new)
    return Change(remembers=(kept,))


def _ids(name: str) -> NewId:
    """Ids that follow from the form, as `pipeline/ids` makes them."""
    numbers = itertools.count()

    def make() -> str:
        packed = f"{name} {next(numbers)}".encode()
        return base64.b32encode(hashlib.sha256(packed).digest()[:10]).decode().lower()

    return make
