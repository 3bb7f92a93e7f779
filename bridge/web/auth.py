"""Who calls the API: bearer tokens, what they may do, and on which hosts.

House rules: what a token may not see does not exist for it; a token is never logged, only its name.
"""

from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from bridge.pipeline import tokens
from bridge.pipeline.actors import Actor
from bridge.policy.consumers import Scope, Token
from bridge.web.origin import origin
from bridge.web.problems import ProblemError
from bridge.web.state import Service

_REALM = 'Bearer realm="incident-bridge"'
_MOST_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls.

    Attributes:
        hosts: the configured hosts that the token is good for, in the order of the configuration.
    """

    token: Token
    actor: Actor
    hosts: tuple[str, ...]


async def authenticate(request: web.Request, service: Service, *, now: datetime) -> Caller:
    """Find out who calls.

    Raises:
        ProblemError: 401; it says no more of a token than that it is not good.
    """
    given = request.headers.getall("Authorization", [])
    if not given:
        raise ProblemError(
            "unauthorized",
            "send the header Authorization: Bearer ib_…; a token is made with: incident-bridge tokens create",
            headers={"WWW-Authenticate": _REALM},
        )
    scheme, _, text = given[0].partition(" ")
    text = text.strip()
    token = None
    if len(given) == 1 and scheme.casefold() == "bearer" and text.isascii() and len(text) <= _MOST_BYTES:
        token = await tokens.find(service.store, text, now=now)
    if token is None:
        raise ProblemError(
            "unauthorized",
            "this is not a token, or it is revoked or expired",
            headers={"WWW-Authenticate": f'{_REALM}, error="invalid_token"'},
        )
    hosts = tuple(host for host in service.settings.hosts if not token.hosts or host in token.hosts)
    actor = Actor(name=f"token:{token.name}", origin=origin(request))
    return Caller(token=token, actor=actor, hosts=hosts)


def has(token: Token, scope: Scope) -> bool:
    """Whether the token may do this: every token may read, `admin` may do all."""
    return scope is Scope.READ or scope in token.scopes or Scope.ADMIN in token.scopes


def require(token: Token, scope: Scope) -> None:
    """See that the token `has` this scope.

    Raises:
        ProblemError: 403.
    """
    if has(token, scope):
        return
    raise ProblemError(
        "forbidden",
        f"this needs the scope {scope}; the token has: {', '.join(token.scopes) or 'none'}",
        headers={"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
    )
