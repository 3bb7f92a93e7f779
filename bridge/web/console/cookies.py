"""What a browser carries: its session, before that a secret of its own; and the tokens that forms are known by.

House rules: cookies are HttpOnly and SameSite=Strict, and Secure where the console is reached by https; a token is
made from the secret in the cookie, so none is stored.
"""

import base64
import hmac
import secrets
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.policy.sign_in import CODE_SECONDS, LONGEST
from bridge.web.state import SERVICE

if TYPE_CHECKING:
    from bridge.web.console.guard import Visit

_SESSION: Final = "ib_session"
_BROWSER: Final = "ib_browser"
_BROWSER_SECONDS: Final = 4 * CODE_SECONDS
_MOST: Final = 200


def _is_secure(request: web.Request) -> bool:
    return request.app[SERVICE].settings.server.public_url.startswith("https:")


def _name(request: web.Request, name: str) -> str:
    """With https a name that no other host of the domain can set (RFC 6265bis §4.1.3.2)."""
    return f"__Host-{name}" if _is_secure(request) else name


def session(request: web.Request) -> tuple[str, str] | None:
    """The session's id and secret, as the browser says."""
    session_id, _, secret = request.cookies.get(_name(request, _SESSION), "")[:_MOST].partition(".")
    return (session_id, secret) if session_id and secret else None


def browser(request: web.Request) -> str:
    """The secret of a browser that is not signed in; "" if it has none."""
    return request.cookies.get(_name(request, _BROWSER), "")[:_MOST]


def new_browser() -> str:
    """Make such a secret."""
    return secrets.token_urlsafe(32)


def set_browser(response: web.StreamResponse, visit: "Visit") -> None:
    """Give the browser its secret."""
    _set(response, visit.request, _BROWSER, visit.browser, seconds=_BROWSER_SECONDS)


def set_session(response: web.StreamResponse, request: web.Request, session_id: str, secret: str) -> None:
    """Sign the browser in; the secret from before is worth nothing any more."""
    _set(response, request, _SESSION, f"{session_id}.{secret}", seconds=int(LONGEST.total_seconds()))
    _delete(response, request, _BROWSER)


def forget_session(response: web.StreamResponse, request: web.Request) -> None:
    """Sign the browser out."""
    _delete(response, request, _SESSION)


def _set(response: web.StreamResponse, request: web.Request, name: str, value: str, *, seconds: int) -> None:
    response.set_cookie(
        _name(request, name),
        value,
        max_age=seconds,
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="Strict",
    )


def _delete(response: web.StreamResponse, request: web.Request, name: str) -> None:
    secure = _is_secure(request)
    response.del_cookie(_name(request, name), path="/", secure=secure, httponly=True, samesite="Strict")


def token(browser_secret: str) -> str:
    """The token of this browser's forms."""
    made = hmac.digest(browser_secret.encode(), b"incident-bridge form", "sha256")
    return base64.urlsafe_b64encode(made).decode()


def is_token(text: str, browser_secret: str) -> bool:
    """Whether a form came from a page that we gave this browser."""
    return hmac.compare_digest(text.encode(), token(browser_secret).encode())
