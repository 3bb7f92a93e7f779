"""Signing in to the console: a code through Prosody, or a link from the command line; then a session.

House rules: what a request does is the same for everybody, and the same amount of work; whether somebody is an admin is
found out by a worker, and while a session is in use asked again every few minutes. A session that ended by itself is
deleted by the next one that begins.
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
from bridge.pipeline.actors import BRIDGE, Actor, audits
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
    """Send the code to who asked for it, if a Prosody of ours names that JID as an admin; or look at a session again.

    Raises:
        UnavailableError: no Prosody could be asked; it is tried again while the code would still be good.
    """
    item = json.loads(items[0])
    if "session" in item:
        return Sent(1, await _ask_again(store, prosody, item["session"], hosts=hosts, now=now))
    asked = await _sign_in(store, str(item["id"]))
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
    admins = await _admins_of(prosody, list(hosts))
    if hosts and not admins:
        raise UnavailableError("no Prosody can say who is an admin", retry_after_seconds=2)
    found = {name: rules.role_for(who, hosts[name], listed) for name, listed in admins.items()}
    return {name: role for name, role in found.items() if role is not None}


async def _ask_again(
    store: Store, prosody: ProsodyClient, session_id: str, *, hosts: Mapping[str, Host], now: datetime
) -> Change:
    """End a session, or its part for a host, whose Prosody no longer names that person as an admin."""
    session = await session_of(store, session_id)
    if session is None:
        return Change()
    admins = await _admins_of(prosody, [name for name in session.hosts if name in hosts])
    kept = {
        name: role
        for name, role in session.hosts.items()
        if name not in admins or rules.role_for(session.who, hosts[name], admins[name]) is not None
    }
    if kept == session.hosts:
        return Change()
    _log.info("a session ends: no longer an admin", who=session.who, hosts=[*session.hosts.keys() - kept])
    lost = replace(session, hosts={name: role for name, role in session.hosts.items() if name not in kept})
    said = _audits(lost, "session.end", by=BRIDGE, now=now, more="no longer an admin")
    if not kept:
        return Change(drops=(session,), audits=said)
    return Change(puts=(Put(session, replace(session, hosts=kept)),), audits=said)


async def _admins_of(prosody: ProsodyClient, hosts: Sequence[str]) -> dict[str, list[str]]:
    """Whom each host's Prosody names as its admins; one that is away is left out."""
    answers = await asyncio.gather(*map(prosody.describe, hosts), return_exceptions=True)
    found: dict[str, list[str]] = {}
    for name, answer in zip(hosts, answers, strict=True):
        if isinstance(answer, UnavailableError):
            continue
        if isinstance(answer, BaseException):
            raise answer
        found[name] = _admins(answer)
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


def _audits(session: Session, action: str, *, by: Actor, now: datetime, more: str = "") -> tuple[Audit, ...]:
    detail = f"{session.who}: {more}" if more else session.who
    return audits(session.hosts, by, action, session.id, now=now, detail=detail)


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
    session = await session_of(store, session_id)
    if session is None or not rules.is_secret(secret, session.digest) or rules.is_over(session, now=now):
        return None
    return session


async def touch(store: Store, session: Session, *, now: datetime) -> None:
    """Note that somebody is still there, every few minutes; and have a worker see that it is still an admin."""
    if now - session.seen_at < rules.NOTED_EVERY:
        return
    item = {"id": f"{session.id}-{session.version}", "session": session.id}
    again = Append(queue=Queue.OUTGOING, lane=f"{LANE}:{session.id}", item=item)
    asked = (again,) if rules.is_jid(session.who) else ()
    try:
        await commit(store, Change(puts=(Put(session, replace(session, seen_at=now)),), appends=asked))
    except ConflictError:
        return  # another tab did, or it was ended


async def sessions(
    store: Store, *, now: datetime, limit: int = 200, before: tuple[int, str] | None = None
) -> tuple[list[Session], tuple[int, str] | None]:
    """Who is in, the last to end first; and where the next page begins, None: there is none."""
    rows = await load.page(store, keys.SESSIONS, limit=limit + 1, before=before)
    found = await _sessions(store, [member for member, _ in rows[:limit]])
    after = rows[limit - 1][::-1] if len(rows) > limit else None
    return [one for one in found if not rules.is_over(one, now=now)], after


async def end(store: Store, session: Session, *, by: Actor, now: datetime) -> None:
    """End a session, one's own or another."""
    for _ in range(_ATTEMPTS):
        current = await session_of(store, session.id)
        if current is None:
            return
        try:
            said = _audits(current, "session.end", by=by, now=now)
            await commit(store, Change(drops=(current,), audits=said))
        except ConflictError:
            continue
        return
    raise ConflictError("the session keeps changing; try again")


async def session_of(store: Store, session_id: str) -> Session | None:
    """The session of that id, over or not."""
    return next(iter(await _sessions(store, [session_id])), None)


async def _sessions(store: Store, ids: Sequence[str]) -> list[Session]:
    names = [keys.session(one) for one in ids]
    records = (await load.fetch(store, names=names)).records if names else {}
    return [one for one in records.values() if isinstance(one, Session)]


async def _sign_in(store: Store, sign_in_id: str) -> SignIn | None:
    name = keys.sign_in(sign_in_id)
    found = (await load.fetch(store, names=[name])).records[name]
    return found if isinstance(found, SignIn) else None
