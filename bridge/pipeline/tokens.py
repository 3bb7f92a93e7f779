"""API tokens: made, found by what a client shows, revoked.

House rules: the token itself is shown once, by `create`; the store holds its SHA-256, which is safe because the token
has 256 random bits. Unknown, revoked and expired look the same from outside.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from bridge.errors import ConfigError, ConflictError, MalformedError
from bridge.log import visible
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.ids import new_id, new_token_secret
from bridge.policy.change import Change, Put
from bridge.policy.consumers import Scope, Token
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

MAX_TOKENS = 1000
FORGOTTEN_AFTER = timedelta(days=30)
_MAX_NAME = 100
_MAX_TEXT = 200
_PREFIX = "ib"
_TRIES = 10


async def create(
    store: Store,
    *,
    name: str,
    scopes: Sequence[Scope],
    hosts: Sequence[str],
    expires_at: datetime | None,
    actor: Actor,
    now: datetime,
) -> tuple[Token, str]:
    """Make a token; the text that a client shows is returned here and never again.

    Args:
        store: where to.
        name: for people and the audit log; no two tokens that work have the same.
        scopes: what it may do.
        hosts: names of configured hosts; empty: all, those added later too.
        expires_at: None: never.
        actor: who makes it.
        now: the time.

    Raises:
        MalformedError: the path names the argument.
        ConfigError: a working token is called so already, or there are too many.
    """
    name = _check_name(name)
    if not scopes:
        raise MalformedError("scopes", f"a token needs at least one of {', '.join(Scope)}")
    if expires_at is not None and expires_at <= now:
        raise MalformedError("expires_at", "lies in the past")
    others = await all_tokens(store)
    gone = tuple(other for other in others if _ended_before(other, now - FORGOTTEN_AFTER))
    if len(others) - len(gone) >= MAX_TOKENS:
        raise ConfigError(
            f"there are {MAX_TOKENS} tokens, which is the most; one that was revoked or expired counts for "
            f"{FORGOTTEN_AFTER.days} days"
        )
    if any(other.name == name and is_good(other, now=now) for other in others):
        raise ConfigError(f'a token called "{name}" exists; revoke it first, or take another name')
    token_id = new_id()
    text = f"{_PREFIX}_{token_id}_{new_token_secret()}"
    token = Token(
        id=token_id,
        name=name,
        digest=_digest(text),
        scopes=tuple(scope for scope in Scope if scope in scopes),
        created_at=now,
        hosts=tuple(dict.fromkeys(hosts)),
        expires_at=expires_at,
    )
    detail = f"{name}: {' '.join(token.scopes)}"
    entries = audits(token.hosts, actor, "token.create", token.id, now=now, detail=detail)
    await commit(store, Change(puts=(Put(None, token),), drops=gone, audits=entries))
    return replace(token, version=1), text


async def revoke(store: Store, token: Token, *, actor: Actor, now: datetime) -> Token:
    """Make a token worthless, at once and for ever; one that was revoked before stays as it is.

    Raises:
        ConflictError: its record changes faster than it can be written.
    """
    for _ in range(_TRIES):
        if token.revoked_at is not None:
            return token
        after = replace(token, revoked_at=now)
        entries = audits(token.hosts, actor, "token.revoke", token.id, now=now, detail=token.name)
        try:
            await commit(store, Change(puts=(Put(token, after),), audits=entries))
        except ConflictError:
            token = await _load(store, token.id) or token
            continue
        return replace(after, version=token.version + 1)
    raise ConflictError(f"token {token.id} changes faster than it can be written; try again")


async def find(store: Store, text: str, *, now: datetime) -> Token | None:
    """Return the token that a client showed; None if it is unknown, revoked or expired, or no token at all."""
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    if len(text) > _MAX_TEXT or prefix != _PREFIX or not token_id.isalnum() or not secret:
        return None
    token = await _load(store, token_id)
    expected = token.digest if token is not None else _digest("")  # the same work for one that is not there
    is_it = hmac.compare_digest(_digest(text), expected)
    return token if token is not None and is_it and is_good(token, now=now) else None


def is_good(token: Token, *, now: datetime) -> bool:
    """Whether a token is neither revoked nor expired."""
    return token.revoked_at is None and (token.expires_at is None or now < token.expires_at)


def _ended_before(token: Token, moment: datetime) -> bool:
    return any(end is not None and end < moment for end in (token.revoked_at, token.expires_at))


async def all_tokens(store: Store) -> list[Token]:
    """Load every token, newest first; those that no longer work too."""
    members = await load.page(store, keys.TOKENS, limit=MAX_TOKENS)
    names = [keys.token(member) for member, _ in members]
    found = (await load.fetch(store, names=names)).records if names else {}
    return [token for name in names if isinstance(token := found[name], Token)]


async def _load(store: Store, token_id: str) -> Token | None:
    name = keys.token(token_id)
    found = (await load.fetch(store, names=[name])).records[name]
    return found if isinstance(found, Token) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _check_name(text: str) -> str:
    name = text.strip()
    if not name or len(name) > _MAX_NAME or visible(name) != name:
        raise MalformedError("name", f"is 1 to {_MAX_NAME} visible characters, such as mail-alerts")
    return name
