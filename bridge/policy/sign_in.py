"""Who may sign in to the console, with which code, how often and for how long (DESIGN §11).

House rules: whoever may not is treated exactly as somebody who may, up to the code that never comes; a code is made
from the secret shared with Prosody, so whoever reads the store does not learn it.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from bridge.errors import MalformedError
from bridge.policy.quota import refill
from bridge.policy.record import Bucket
from bridge.policy.sessions import Role, Session, SignIn
from bridge.xmpp.jid import Jid

CODE_SECONDS: Final = 300
LINK_SECONDS: Final = 300
MAX_TRIES: Final = 5
IDLE: Final = timedelta(hours=12)
LONGEST: Final = timedelta(days=7)
NOTED_EVERY: Final = timedelta(minutes=5)  # how exactly `Session.seen_at` is kept
LIMITS: Final = "sign-in"  # what stands for the host in the names of the buckets
_PER_JID = (0.1, 3.0)  # a minute, and at once
_PER_ADDRESS = (1.0, 10.0)
_TOGETHER = (30.0, 100.0)


class Admitting(Protocol):
    """Who of the host's admins may sign in; see `[hosts]` in the configuration."""

    @property
    def admins(self) -> Collection[str]: ...  # noqa: D102
    @property
    def viewers(self) -> Collection[str]: ...  # noqa: D102


def digest(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret(text: str, stored: str) -> bool:
    """Whether a text is the secret of this digest; in constant time."""
    return hmac.compare_digest(digest(text), stored)


def role_for(who: str, host: Admitting, prosody_admins: Collection[str]) -> Role | None:
    """What an admin of a host's Prosody may do in the console; None: nothing.

    Args:
        who: a bare JID, prepared.
        host: the operator's lists; where both are empty, every admin may do everything.
        prosody_admins: as Prosody names them.
    """
    if who not in {_bare(one) for one in prosody_admins}:
        return None
    return configured_role(who, host)


def configured_role(who: str, host: Admitting) -> Role | None:
    """What the operator's lists allow an admin; None: nothing."""
    if who in host.viewers:
        return Role.VIEWER
    return Role.APPROVER if not host.admins or who in host.admins else None


def _bare(text: str) -> str:
    try:
        return Jid.parse(text).bare
    except MalformedError:
        return ""


def via(who: str, hosts: Mapping[str, Role]) -> str:
    """The host whose Prosody sends the code: the admin's own server if it is one of them."""
    domain = who.rpartition("@")[2]
    return domain if domain in hosts else next(iter(hosts))


def mixed(keys: Mapping[str, Sequence[bytes]], hosts: Collection[str]) -> list[bytes]:
    """The keys of a code that is good for all of these hosts, the one in use first.

    Each is made of a secret of every host, so that whoever holds that of one makes no code for the others; a host with
    fewer secrets than another adds its last one.
    """
    each = [keys[host] for host in sorted(hosts) if keys.get(host)]
    most = max(map(len, each), default=0)
    return [_mixed([one[min(n, len(one) - 1)] for one in each]) for n in range(most)]


def _mixed(keys: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in keys)).digest()


def code(key: bytes, sign_in: SignIn) -> str:
    """The six digits, made from secrets of the hosts that they are good for."""
    made_from = f"incident-bridge sign-in {sign_in.id} {sign_in.who}".encode()
    number = int.from_bytes(hmac.digest(key, made_from, "sha256")[:8], "big")
    return f"{number % 1_000_000:06d}"


def code_text(sign_in: SignIn, digits: str) -> str:
    """The message with the code."""
    hosts = ", ".join(sign_in.hosts)
    return (
        f"{digits} is your code to sign in to the incident bridge of {hosts}.\n"
        f"It was asked for from {sign_in.origin or 'an unknown address'}, and is good for "
        f"{CODE_SECONDS // 60} minutes in that browser only. If that was not you, do nothing and tell nobody the code."
    )


def is_right(typed: str, sign_in: SignIn, keys: Sequence[bytes], *, now: datetime) -> bool:
    """Whether the code is the one that was sent, in time and not too often; the same work whether it was sent or not.

    Args:
        typed: what somebody typed; spaces do not matter.
        sign_in: with this try counted.
        keys: those that its hosts accept now, see `mixed`; any, where no code was sent.
        now: the time.
    """
    digits = "".join(typed.split())
    matches = [hmac.compare_digest(digits.encode(), code(key, sign_in).encode()) for key in keys]
    return any(matches) and bool(sign_in.via) and sign_in.tries <= MAX_TRIES and now < sign_in.expires_at


def limits(who: str, origin: str) -> dict[str, tuple[float, float]]:
    """The buckets of one who asks for a code, by name: (a minute, at once)."""
    return {f"jid {who}": _PER_JID, f"address {_network(origin)}": _PER_ADDRESS, "all": _TOGETHER}


def _network(origin: str) -> str:
    """What one person has: an address, or with IPv6 a network of 2^64 of them."""
    try:
        address = ipaddress.ip_address(origin)
    except ValueError:
        return origin
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))  # noqa: PLR2004


def spend(
    buckets: Mapping[str, Bucket | None], who: str, origin: str, *, now: datetime
) -> tuple[list[Bucket], float]:
    """Take one from each bucket; (what to store, 0), or ([], seconds) until one more may be asked for."""
    after: list[Bucket] = []
    seconds = 0.0
    for name, (per_minute, burst) in limits(who, origin).items():
        bucket = refill(buckets.get(name), LIMITS, name, per_minute=per_minute, burst=burst, now=now)
        if bucket.tokens < 1:
            seconds = max(seconds, (1 - bucket.tokens) * 60 / per_minute)
        after.append(replace(bucket, tokens=bucket.tokens - 1))
    return ([], seconds) if seconds else (after, 0.0)


def is_jid(who: str) -> bool:
    """Whether somebody signed in as an admin of a Prosody, and not by a link from the command line."""
    return "@" in who


def is_over(session: Session, *, now: datetime) -> bool:
    """Whether a session ended by itself."""
    return now >= session.expires_at or now - session.seen_at >= IDLE


def allowed(session: Session, hosts: Mapping[str, Admitting]) -> dict[str, Role]:
    """What a session is good for now: what it was made for, less what the configuration has taken back since."""
    found: dict[str, Role] = {}
    for host, role in session.hosts.items():
        if host not in hosts:
            continue
        limit = configured_role(session.who, hosts[host]) if is_jid(session.who) else role
        if limit is not None:
            found[host] = Role.VIEWER if Role.VIEWER in (role, limit) else role
    return found
