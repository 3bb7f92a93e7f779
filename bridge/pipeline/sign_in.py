"""Signing in to the console: a code through Prosody, or a link from the command line; then a session.

House rules: what a request does is the same for everybody, and the same amount of work; whether somebody is an admin is
found out by a worker. A session that ended by itself is deleted by the next one that begins.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from bridge import log
from bridge.clients.prosody import Host as Reached
from bridge.clients.prosody import ProsodyClient, keys_of
from bridge.errors import BridgeError, ConflictError, UnavailableError, UnsupportedError
from bridge.pipeline.actors import Actor, audits
from bridge.pipeline.ids import new_id
from bridge.policy import sign_in as rules
from bridge.policy.change import Append, Audit, Change, Put, Queue, Sent
from bridge.policy.record import Bucket
from bridge.policy.sessions import Role, Session, SignIn
from bridge.store import keys, load
from bridge.store.commit import commit
from bridge.store.connect import Store

_log = log.get(__name__)

LANE: Final = "sign-in"
_ATTEMPTS: Final = 10
_SWEPT: Final = 20
_TTL_SECONDS: Final = 900


class Host(Reached, rules.Admitting, Protocol):
    """One `[hosts]` table of the configuration."""


class TooOftenError(BridgeError):
    """Too many codes were asked for; `seconds` until one more may be."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many codes were asked for")
        self.seconds = seconds


async def ask(store: Store, who: str, *, browser: str, origin: str, now: datetime) -> SignIn:
    """Let a worker send a code to `who`, if that is an admin.

    Args:
        store: where to.
        who: a bare JID, prepared.
        browser: the secret in its cookie.
        origin: its address.
        now: the time.

    Raises:
        TooOftenError: nothing is sent.
    """
    asked = SignIn(
        id=new_id(),
        digest=rules.digest(browser),
        who=who,
        origin=origin,
        created_at=now,
        expires_at=now + timedelta(seconds=rules.CODE_SECONDS),
        ttl_seconds=_TTL_SECONDS,
    )
    lane = Append(queue=Queue.OUTGOING, lane=f"{LANE}:{asked.id}", item={"id": asked.id})
    names = {name: keys.bucket(rules.LIMITS, name) for name in rules.limits(who, origin)}
    for attempt in range(1, _ATTEMPTS + 1):
        records = (await load.fetch(store, names=list(names.values()))).records
        found = {name: records[key] for name, key in names.items()}
        before = {name: one if isinstance(one, Bucket) else None for name, one in found.items()}
        after, seconds = rules.spend(before, who, origin, now=now)
        if seconds:
            raise TooOftenError(seconds)
        puts = [Put(before[bucket.name], bucket) for bucket in after]
        try:
            await commit(store, Change(puts=(*puts, Put(None, asked)), appends=(lane,)))
            break
        except ConflictError:
            if attempt == _ATTEMPTS:
                raise
    return asked


async def send_code(
    store: Store, prosody: ProsodyClient, items: Sequence[bytes], *, hosts: Mapping[str, Host], now: datetime
) -> Sent:
    """Send the code to who asked for it, if a Prosody of ours names that JID as an admin.

    Raises:
        UnavailableError: no Prosody could be asked; it is tried again while the code would still be good.
    """
    asked = await _sign_in(store, str(json.loads(items[0])["id"]))
    if asked is None or asked.via or now >= asked.expires_at:
        return Sent(1, Change())
    granted = await _roles(prosody, asked.who, hosts)
    if not granted:
        _log.info("nobody who may sign in asked for a code", who=asked.who, origin=asked.origin)
        return Sent(1, Change())
    sent = replace(asked, hosts=granted, via=rules.via(asked.who, granted))
    secrets_of = {name: keys_of(hosts[name]) for name in granted}
    digits = rules.code(rules.mixed(secrets_of, granted)[0], sent)
    try:
        told = await prosody.notify(
            sent.via, rules.code_text(sent, digits), to=(sent.who,), webhook_id=f"c-{sent.id}"
        )
    except UnsupportedError as error:
        _log.error("no code can be sent; use incident-bridge login-link", host=sent.via, reason=str(error))
        told = []
    _log.info("code sent" if told else "code not sent", who=sent.who, origin=sent.origin, host=sent.via)
    return Sent(1, Change(puts=(Put(asked, sent),) if told else ()))


async def _roles(prosody: ProsodyClient, who: str, hosts: Mapping[str, Host]) -> dict[str, Role]:
    """For which hosts somebody may sign in, and as what; a Prosody that is away grants nothing."""
    answers = await asyncio.gather(*map(prosody.describe, hosts), return_exceptions=True)
    found: dict[str, Role] = {}
    for (name, host), answer in zip(hosts.items(), answers, strict=True):
        if isinstance(answer, BaseException):
            if not isinstance(answer, UnavailableError):
                raise answer
            continue
        role = rules.role_for(who, host, _admins(answer))
        if role is not None:
            found[name] = role
    if not found and answers and all(isinstance(one, UnavailableError) for one in answers):
        raise UnavailableError("no Prosody can say who is an admin", retry_after_seconds=2)
    return found


def _admins(description: Mapping[str, Any]) -> list[str]:
    admins = description.get("admins")
    return [str(one) for one in admins] if isinstance(admins, list) else []


async def enter(
    store: Store,
    sign_in_id: str,
    *,
    browser: str,
    typed: str,
    keys_by_host: Mapping[str, Sequence[bytes]],
    now: datetime,
) -> tuple[Session, str] | None:
    """Begin a session if the code is right; returns it with its secret, None if not.

    Args:
        store: where to.
        sign_in_id: what was asked for.
        browser: the secret in the cookie.
        typed: the code as typed.
        keys_by_host: the secrets that each host accepts.
        now: the time.
    """
    for _ in range(_ATTEMPTS):
        asked = await _sign_in(store, sign_in_id)
        if asked is None or asked.is_link or not rules.is_secret(browser, asked.digest):
            return None
        tried = replace(asked, tries=asked.tries + 1)
        accepted = rules.mixed(keys_by_host, asked.hosts or keys_by_host)
        try:
            if not rules.is_right(typed, tried, accepted, now=now):
                if tried.tries <= rules.MAX_TRIES:
                    await commit(store, Change(puts=(Put(asked, tried),)))
                return None
            return await _begin(store, asked, now=now)
        except ConflictError:
            continue  # another try was faster; this one is counted behind it
    return None


async def make_link(
    store: Store, who: str, hosts: Mapping[str, Role], *, now: datetime
) -> tuple[SignIn, str]:
    """Make a link that signs in once; returns what its path ends with."""
    secret = secrets.token_urlsafe(32)
    made = SignIn(
        id=new_id(),
        digest=rules.digest(secret),
        who=who,
        hosts=hosts,
        is_link=True,
        created_at=now,
        expires_at=now + timedelta(seconds=rules.LINK_SECONDS),
        ttl_seconds=rules.LINK_SECONDS,
    )
    await commit(store, Change(puts=(Put(None, made),)))
    return made, f"{made.id}.{secret}"


async def follow_link(store: Store, word: str, *, origin: str, now: datetime) -> tuple[Session, str] | None:
    """Begin a session by a link; None if it is unknown, used or too old."""
    link_id, _, secret = word.partition(".")
    link = await _sign_in(store, link_id)
    if link is None or not link.is_link or now >= link.expires_at:
        return None
    if not rules.is_secret(secret, link.digest):
        return None
    try:
        return await _begin(store, link, origin=origin, now=now)
    except ConflictError:
        return None  # used meanwhile


async def _begin(
    store: Store, asked: SignIn, *, now: datetime, origin: str | None = None
) -> tuple[Session, str]:
    """Make a session of what was asked for, which is thereby used up."""
    secret = secrets.token_urlsafe(32)
    session = Session(
        id=new_id(),
        digest=rules.digest(secret),
        who=asked.who,
        hosts=asked.hosts,
        created_at=now,
        seen_at=now,
        expires_at=now + rules.LONGEST,
        origin=asked.origin if origin is None else origin,
    )
    said = _audits(session, "session.begin", by=Actor(session.who, session.origin), now=now)
    await commit(store, Change(puts=(Put(None, session),), drops=(asked,), audits=said))
    await _sweep(store, now=now)
    return session, secret


def _audits(session: Session, action: str, *, by: Actor, now: datetime) -> tuple[Audit, ...]:
    return audits(session.hosts, by, action, session.id, now=now, detail=session.who)


async def _sweep(store: Store, *, now: datetime) -> None:
    """Delete sessions that ended by themselves; what fails now is done next time."""
    ended = await load.older(store, keys.SESSIONS, than=now, limit=_SWEPT)
    for session in await _sessions(store, ended):
        try:
            await commit(store, Change(drops=(session,)))
        except ConflictError:
            continue


async def find(store: Store, session_id: str, secret: str, *, now: datetime) -> Session | None:
    """The session of a cookie; None if there is none such, or it ended."""
    session = await _session(store, session_id)
    if session is None or not rules.is_secret(secret, session.digest) or rules.is_over(session, now=now):
        return None
    return session


async def touch(store: Store, session: Session, *, now: datetime) -> None:
    """Note that somebody is still there, every few minutes."""
    if now - session.seen_at < rules.NOTED_EVERY:
        return
    try:
        await commit(store, Change(puts=(Put(session, replace(session, seen_at=now)),)))
    except ConflictError:
        return  # another tab did, or it was ended


async def sessions(store: Store, *, now: datetime) -> list[Session]:
    """Everybody who is in, the last to end first."""
    members = (await load.newest(store, [keys.SESSIONS], limit=200))[keys.SESSIONS]
    return [one for one in await _sessions(store, members) if not rules.is_over(one, now=now)]


async def end(store: Store, session: Session, *, by: Actor, now: datetime) -> None:
    """End a session, one's own or another."""
    for _ in range(_ATTEMPTS):
        current = await _session(store, session.id)
        if current is None:
            return
        try:
            said = _audits(current, "session.end", by=by, now=now)
            await commit(store, Change(drops=(current,), audits=said))
        except ConflictError:
            continue
        return
    raise ConflictError("the session keeps changing; try again")


async def _session(store: Store, session_id: str) -> Session | None:
    return next(iter(await _sessions(store, [session_id])), None)


async def _sessions(store: Store, ids: Sequence[str]) -> list[Session]:
    names = [keys.session(one) for one in ids]
    records = (await load.fetch(store, names=names)).records if names else {}
    return [one for one in records.values() if isinstance(one, Session)]


async def _sign_in(store: Store, sign_in_id: str) -> SignIn | None:
    name = keys.sign_in(sign_in_id)
    found = (await load.fetch(store, names=[name])).records[name]
    return found if isinstance(found, SignIn) else None
