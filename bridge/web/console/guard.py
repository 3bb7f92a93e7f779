"""What stands before every page: who asks, may they, and what the browser is allowed to do with the answer.

House rules: a GET changes nothing; a POST brings the token of its session; errors are pages; every answer has the
headers below, also those that nobody thought of.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

from aiohttp import web

from bridge import log
from bridge.errors import BridgeError, ConfigError, ConflictError, RefusedError, UnavailableError
from bridge.pipeline import sign_in
from bridge.pipeline.actors import Actor
from bridge.policy.sessions import Role, Session
from bridge.policy.sign_in import allowed
from bridge.store.connect import Store
from bridge.web.bodies import read_body
from bridge.web.console import cookies
from bridge.web.console.render import SAID, STATIC, render
from bridge.web.origin import origin
from bridge.web.state import SERVICE, Service

_log = log.get(__name__)

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """The answer is this page instead."""

    def __init__(self, status: HTTPStatus, title: str, text: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text


NOT_HERE: Final = Refusal(
    HTTPStatus.NOT_FOUND, "Not here", "There is nothing at this address, or it is not for you to see."
)


@dataclass(slots=True, kw_only=True)
class Visit:
    """One request of one browser.

    Attributes:
        session: None only on pages that are open to everybody.
        hosts: what this person may see, and as what.
        browser: the secret in the cookie that the tokens of forms are made from.
        origin: the browser's address.
    """

    request: web.Request
    service: Service
    now: datetime
    origin: str
    browser: str
    session: Session | None = None
    hosts: Mapping[str, Role]

    @property
    def store(self) -> Store:
        """Where the records are."""
        return self.service.store

    @property
    def actor(self) -> Actor:
        """Who this is, for the audit log."""
        return Actor(name=self.session.who if self.session else "nobody", origin=self.origin)

    def query(self, name: str) -> str:
        """What the address says after the question mark, at most 1000 characters of it."""
        return self.request.query.get(name, "").strip()[:1000]

    async def field(self, name: str) -> str:
        """What was typed into a field of the form."""
        value = (await self.request.post()).get(name, "")
        return value.strip() if isinstance(value, str) else ""

    async def fields(self, name: str) -> list[str]:
        """Everything that was chosen under one name."""
        return [one for one in (await self.request.post()).getall(name, []) if isinstance(one, str)]

    def host(self, name: str) -> str:
        """The host if this person may see it.

        Raises:
            Refusal: there is none such, or it is not theirs.
        """
        if name not in self.hosts:
            raise NOT_HERE
        return name

    def acting(self, name: str) -> str:
        """The host if this person may do something about it.

        Raises:
            Refusal: they may not.
        """
        if self.hosts[self.host(name)] is not Role.APPROVER:
            raise Refusal(
                HTTPStatus.FORBIDDEN, "Not for viewers", "You may look at everything here and change nothing."
            )
        return name

    def page(
        self, template: str, *, title: str, status: HTTPStatus = HTTPStatus.OK, **values: Any
    ) -> web.Response:
        """Write a page."""
        common = {
            "title": title,
            "path": self.request.path,
            "session": self.session,
            "hosts": self.hosts,
            "may_act": {name: role is Role.APPROVER for name, role in self.hosts.items()},
            "csrf": cookies.token(self.browser),
            "said": SAID.get(self.query("said")),
            "now": self.now,
        }
        body = render(template, common | values)
        return web.Response(text=body, status=status, content_type="text/html", charset="utf-8")

    def go(self, where: str) -> web.Response:
        """Send the browser to an address of ours as it stands, question mark and all."""
        return web.Response(
            status=HTTPStatus.SEE_OTHER, headers={"Location": quote(where, safe="/?&=%:+,;@~-._")}
        )

    def back(self, path: str, said: str = "", **query: str) -> web.Response:
        """Send the browser to a page that says so; `path` is one of ours, unquoted."""
        words = urlencode({"said": said, **query} if said else query)
        where = quote(path, safe="/") + (f"?{words}" if words else "")
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": where})


Handler = Callable[[Visit], Awaitable[web.Response]]


def get(path: str, handler: Handler, *, is_open: bool = False) -> web.RouteDef:
    """A page; `is_open`: also for people who are not signed in."""
    return web.get(path, _guarded(handler, is_open=is_open))


def post(path: str, handler: Handler, *, is_open: bool = False) -> web.RouteDef:
    """What a form does."""
    return web.post(path, _guarded(handler, is_open=is_open))


def _guarded(handler: Handler, *, is_open: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def guarded(request: web.Request) -> web.StreamResponse:
        return await _answer(request, handler, is_open=is_open)

    return guarded


async def _answer(request: web.Request, handler: Handler, *, is_open: bool) -> web.Response:
    """Ask the page, and make a page of whatever goes wrong."""
    is_new = not cookies.browser(request)
    visit = Visit(
        request=request,
        service=request.app[SERVICE],
        now=datetime.now(UTC),
        origin=origin(request),
        browser=cookies.browser(request) or cookies.new_browser(),
        hosts={},
    )
    try:
        response = await _admit(visit, handler, is_open=is_open)
    except Refusal as refusal:
        response = _error(visit, refusal.status, refusal.title, refusal.text)
    except BridgeError as error:
        response = _error(visit, *_worded(error))
    except web.HTTPException as error:
        response = _error(
            visit, HTTPStatus(error.status), error.reason, "Your browser sent what we do not take."
        )
    except Exception:  # noqa: BLE001 - an edge: whoever looks gets a page, whoever runs it the traceback
        _log.exception("a page failed: report this as a bug", path=request.path)
        response = _error(
            visit,
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "Our fault",
            "This page failed; the log of the service says why.",
        )
    if is_new and is_open:
        cookies.set_browser(response, visit)
    return response


async def _admit(visit: Visit, handler: Handler, *, is_open: bool) -> web.Response:
    """Find out who it is; a form must have come from a page of ours."""
    request = visit.request
    named = cookies.session(request)
    if named is not None:
        visit.session = await sign_in.find(visit.store, *named, now=visit.now)
    if visit.session is not None:
        visit.hosts = allowed(visit.session, visit.service.settings.hosts)
        visit.browser = named[1] if named else visit.browser
    if not is_open and not visit.hosts:
        return _not_signed_in(visit)
    if request.method == "POST":
        await _read_form(request)
        is_ours = request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
        if not is_ours or not cookies.is_token(await visit.field("csrf"), visit.browser):
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "Please try again",
                "This form is from another session, or your browser keeps no cookies. Nothing was changed.",
            )
    if visit.session is not None and "X-Live" not in request.headers:
        await sign_in.touch(visit.store, visit.session, now=visit.now)
    return await handler(visit)


async def _read_form(request: web.Request) -> None:
    """Read the form, once for all that ask for its fields; none of our pages has one with files."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPBadRequest(reason="That is no form")
    await read_body(request)
    try:
        await request.post()
    except (ValueError, LookupError) as error:  # no UTF-8, an unknown charset
        raise web.HTTPBadRequest(reason="That is no form") from error


def _not_signed_in(visit: Visit) -> web.Response:
    """Send them to the page where one signs in; first once around if they come from elsewhere.

    A browser that follows a link in a chat or a mail leaves our cookies at home (SameSite=Strict); asked again by a
    page of ours, it brings them.
    """
    request = visit.request
    if request.method == "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
        return visit.page("around.html", title="One moment")
    if request.method == "GET":
        return visit.back("/sign-in", **({} if request.path == "/" else {"next": request.path_qs}))
    return visit.back("/sign-in")


def _worded(error: BridgeError) -> tuple[HTTPStatus, str, str]:
    match error:
        case UnavailableError():
            return HTTPStatus.SERVICE_UNAVAILABLE, "Not reachable now", f"{error}. Try again in a moment."
        case ConflictError():
            return (
                HTTPStatus.CONFLICT,
                "Somebody was faster",
                f"{error}. Nothing was changed by you; look again.",
            )
        case ConfigError() | RefusedError():
            return HTTPStatus.UNPROCESSABLE_ENTITY, "That cannot be done", str(error)
        case _:
            return HTTPStatus.UNPROCESSABLE_ENTITY, "That cannot be done", str(error)


def _error(visit: Visit, status: HTTPStatus, title: str, text: str) -> web.Response:
    return visit.page("error.html", title=title, status=status, text=text, status_code=int(status))


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Give the headers to what no page of ours answers too, such as a method that nothing here takes (a signal)."""
    if request.path != "/api" and not request.path.startswith("/api/"):
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in STATIC:
        raise web.HTTPNotFound
    data, kind = STATIC[name]
    return web.Response(body=data, content_type=kind, charset="utf-8", headers=HEADERS | _FOREVER)


async def _unknown(_: Visit) -> web.Response:
    raise NOT_HERE


def routes() -> list[web.RouteDef]:
    """Return what belongs to no page: style and script, and the answer to what nobody knows."""
    return [web.get("/static/{name}", _static), get("/{path:(?!api/|docs).*}", _unknown)]
