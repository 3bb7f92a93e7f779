"""Sign in by a code in chat or by a link from the command line; sign out."""

from http import HTTPStatus

from aiohttp import web

from bridge.errors import MalformedError
from bridge.pipeline import sign_in
from bridge.policy.sign_in import CODE_SECONDS, MAX_TRIES
from bridge.web.console import cookies
from bridge.web.console.guard import Refusal, Visit, get, post
from bridge.xmpp.jid import Jid

_WRONG = (
    f"That code is not right, or not good any more. A code is good for {CODE_SECONDS // 60} minutes and {MAX_TRIES} "
    "tries, in the browser that asked for it."
)
_MOST_JID = 3071  # RFC 7622 §3.1


async def show(visit: Visit) -> web.Response:
    """Ask who it is."""
    return visit.back("/") if visit.hosts else _form(visit)


def _form(
    visit: Visit, *, who: str = "", problem: str = "", status: HTTPStatus = HTTPStatus.OK
) -> web.Response:
    return visit.page(
        "sign_in.html",
        title="Sign in",
        who=who,
        problem=problem,
        next=_next(visit.query("next")),
        status=status,
    )


async def ask(visit: Visit) -> web.Response:
    """Let a code be sent; what the browser sees is the same for everybody."""
    typed = await visit.field("jid")
    where = _next(await visit.field("next"))
    try:
        jid = Jid.parse(typed[:_MOST_JID])
    except MalformedError:
        jid = None
    if jid is None or jid.local is None:
        return _form(
            visit,
            who=typed[:_MOST_JID],
            problem="That is not a JID such as romeo@example.org.",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    try:
        asked = await sign_in.ask(
            visit.store, jid.bare, browser=visit.browser, origin=visit.origin, now=visit.now
        )
    except sign_in.TooOftenError as error:
        minutes = max(1, round(error.seconds / 60))
        text = (
            f"Too many codes were asked for. Try again in {minutes} min, or type on the machine of the bridge: "
            "incident-bridge login-link"
        )
        return _form(visit, who=jid.bare, problem=text, status=HTTPStatus.TOO_MANY_REQUESTS)
    return visit.back("/sign-in/code", of=asked.id, who=jid.bare, next=where)


async def show_code(visit: Visit) -> web.Response:
    """Ask for the code."""
    return _code(visit, of=visit.query("of"), who=visit.query("who"), where=visit.query("next"))


def _code(
    visit: Visit, *, of: str, who: str, where: str, problem: str = "", status: HTTPStatus = HTTPStatus.OK
) -> web.Response:
    return visit.page(
        "code.html",
        title="Type the code",
        of=of,
        who=who,
        next=_next(where),
        problem=problem,
        minutes=CODE_SECONDS // 60,
        tries=MAX_TRIES,
        status=status,
    )


async def enter(visit: Visit) -> web.Response:
    """Sign in if the code is right."""
    of, who, where = await visit.field("of"), await visit.field("who"), await visit.field("next")
    begun = await sign_in.enter(
        visit.store,
        of[:64],
        browser=visit.browser,
        typed=(await visit.field("code"))[:64],
        keys_by_host=visit.service.keys,
        now=visit.now,
    )
    if begun is None:
        return _code(visit, of=of, who=who, where=where, problem=_WRONG, status=HTTPStatus.FORBIDDEN)
    response = visit.go(_next(where))
    cookies.set_session(response, visit.request, begun[0].id, begun[1])
    return response


async def show_link(visit: Visit) -> web.Response:
    """Show a button, so that whoever only looks at links uses none up."""
    return visit.page("link.html", title="Sign in")


async def follow_link(visit: Visit) -> web.Response:
    """Sign in by a link."""
    word = visit.request.match_info["word"]
    begun = await sign_in.follow_link(visit.store, word[:200], origin=visit.origin, now=visit.now)
    if begun is None:
        raise Refusal(
            HTTPStatus.FORBIDDEN,
            "This link is used up",
            "A link is good once, for five minutes. Make another with: incident-bridge login-link",
        )
    response = visit.back("/")
    cookies.set_session(response, visit.request, begun[0].id, begun[1])
    return response


async def sign_out(visit: Visit) -> web.Response:
    """End this session."""
    if visit.session is not None:
        await sign_in.end(visit.store, visit.session, by=visit.actor, now=visit.now)
    response = visit.back("/sign-in", "signed-out")
    cookies.forget_session(response, visit.request)
    return response


def _next(path: str) -> str:
    """Where to go afterwards: a path of this console, whatever the address says."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\", "/sign-")) and path.isprintable()
    return path if is_ours else "/"


def routes() -> list[web.RouteDef]:
    """Return the routes of signing in and out."""
    return [
        get("/sign-in", show, is_open=True),
        post("/sign-in", ask, is_open=True),
        get("/sign-in/code", show_code, is_open=True),
        post("/sign-in/code", enter, is_open=True),
        get("/sign-in/link/{word}", show_link, is_open=True),
        post("/sign-in/link/{word}", follow_link, is_open=True),
        post("/sign-out", sign_out),
    ]
