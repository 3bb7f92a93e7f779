"""Endpoints: where webhook events go, whether they get there, every attempt, and once more.

House rules: an endpoint is shown to whom one of its hosts is, and changed only by whom all of them are; its secret is
shown in the answer to the form that made it and nowhere else; what an endpoint answered is hostile text.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from bridge.errors import ConflictError
from bridge.pipeline import endpoints, redeliver
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Endpoint
from bridge.policy.sessions import Role
from bridge.policy.sign_in import digest, is_secret
from bridge.store import keys, load
from bridge.web.console import charts, find
from bridge.web.console.guard import NOT_HERE, Refusal, Visit, get, post
from bridge.web.console.once import once, word

_PER_PAGE: Final = 25
_LAST: Final = 12
_OF_AN_ENDPOINT: Final = (DeliveryState.DEAD, DeliveryState.PENDING)
STATES: Final = {
    "": "all",
    DeliveryState.DEAD.value: "given up",
    DeliveryState.PENDING.value: "waiting",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """How an endpoint stands.

    Attributes:
        mood: "good", "bad", "off" or "new", for the eye.
        text: the same in words.
        dead: deliveries given up; `pending`: those that are tried again.
        last: its newest deliveries, oldest first.
    """

    endpoint: Endpoint
    mood: str
    text: str
    dead: int
    pending: int
    last: tuple[Delivery, ...]
    picture: object


async def show_all(visit: Visit) -> web.Response:
    """List the endpoints, newest first, each with how it stands."""
    settings = visit.service.settings.webhooks
    index = await load.page(visit.store, keys.ENDPOINTS, limit=settings.max_endpoints)
    found = await find.records(visit.store, (keys.endpoint(member) for member, _ in index))
    mine = [one for one in found if isinstance(one, Endpoint) and _seen(visit, one)]
    start = _number(visit.query("from"))
    return visit.page(
        "endpoints.html",
        title="Endpoints",
        glances=await _glances(visit, mine[start : start + _PER_PAGE]),
        total=len(mine),
        is_first=start == 0,
        next_page=f"/endpoints?from={start + _PER_PAGE}" if start + _PER_PAGE < len(mine) else None,
        is_acting=Role.APPROVER in visit.hosts.values(),
        has_several_hosts=len(visit.hosts) > 1,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0  # noqa: PLR2004 - digits


def _seen(visit: Visit, one: Endpoint) -> list[str]:
    return [host for host in one.hosts if host in visit.hosts]


async def _glances(visit: Visit, shown: list[Endpoint]) -> list[Glance]:
    """Look at the newest deliveries of each, and count what failed."""
    indexes = [keys.deliveries(one.id) for one in shown]
    members = await load.newest(visit.store, indexes, limit=_LAST) if indexes else {}
    wanted = [keys.delivery(member) for index in indexes for member in members[index]]
    known = {one.id: one for one in await find.records(visit.store, wanted) if isinstance(one, Delivery)}
    failed = [keys.deliveries_with_state(one.id, state) for one in shown for state in _OF_AN_ENDPOINT]
    sizes = iter(await load.sizes(visit.store, failed) if failed else ())
    found = []
    for one, index in zip(shown, indexes, strict=True):
        last = [known[member] for member in reversed(members[index]) if member in known]
        last = [each for each in last if each.host in visit.hosts]
        mood, text = standing(one, last)
        states = [(each.state.value, _told(each)) for each in last]
        picture = charts.strip(states, title=f"The last {len(last)} deliveries, the newest at the right")
        found.append(
            Glance(endpoint=one, mood=mood, text=text, dead=next(sizes), pending=next(sizes),
                   last=tuple(last), picture=picture)
        )  # fmt: skip
    return found


def standing(one: Endpoint, last: list[Delivery]) -> tuple[str, str]:
    """How an endpoint stands: for the eye, and in words."""
    if one.disabled_reason is not None:
        return "off", "disabled"
    if one.failing_since is not None:
        return "bad", "failing"
    return ("good", "works") if last else ("new", "nothing delivered yet")


def _told(one: Delivery) -> str:
    return f"{one.event_type}: {outcome(one.attempts[-1]) if one.attempts else 'not tried yet'}"


def outcome(attempt: Attempt) -> str:
    """What came of an attempt: the status, or why there is none."""
    return str(attempt.status) if attempt.status is not None else attempt.error or "no answer"


async def known(visit: Visit) -> Endpoint:
    """Load the endpoint that the address names.

    Raises:
        Refusal: there is none, or none of its hosts is for this person to see.
    """
    found = await find.records(visit.store, [keys.endpoint(visit.request.match_info["id"])])
    if not found or not isinstance(found[0], Endpoint) or not _seen(visit, found[0]):
        raise NOT_HERE
    return found[0]


def is_own(visit: Visit, one: Endpoint) -> bool:
    """Whether this person may change it: may act for all of its hosts."""
    return all(visit.hosts.get(host) is Role.APPROVER for host in one.hosts)


async def own(visit: Visit) -> Endpoint:
    """Load the endpoint that the address names, in order to change it.

    Raises:
        Refusal: as `known`; or it gets events of a host too that this person may not act for.
    """
    found = await known(visit)
    if not is_own(visit, found):
        text = "It gets events of a host that you may not act for, so you may look at it and change nothing."
        raise Refusal(HTTPStatus.FORBIDDEN, "Not yours to change", text)
    return found


async def show(visit: Visit) -> web.Response:
    """Show an endpoint, and what was delivered to it."""
    return await page(visit, await known(visit))


async def page(
    visit: Visit, one: Endpoint, *, is_new: bool = False, is_rotated: bool = False
) -> web.Response:
    """Write an endpoint's page; with its secret where it was made just now."""
    state = visit.query("state") if visit.query("state") in STATES else ""
    before = find.cursor(visit.query("before"))
    index = keys.deliveries_with_state(one.id, DeliveryState(state)) if state else keys.deliveries(one.id)
    entries = await load.page(visit.store, index, limit=_PER_PAGE, before=before)
    found = await find.records(visit.store, (keys.delivery(member) for member, _ in entries))
    last = entries[-1] if len(entries) == _PER_PAGE else None
    [glance] = await _glances(visit, [one])
    return visit.page(
        "endpoint.html",
        title=one.description or one.url.partition("?")[0],
        endpoint=one,
        glance=glance,
        is_own=is_own(visit, one),
        deliveries=[each for each in found if isinstance(each, Delivery) and each.host in visit.hosts],
        outcome=outcome,
        states=STATES,
        state=state,
        is_first=before is None,
        next_page=last and f"/endpoints/{one.id}?state={state}&before={find.written((last[1], last[0]))}",
        most=redeliver.MOST_AT_ONCE,
        secret=one.secret if is_new or is_rotated else None,
        is_rotated=is_rotated,
        once=word(),
    )


async def rotate(visit: Visit) -> web.Response:
    """Make a new secret, and show it in this answer."""
    one = await own(visit)

    async def act(_: object) -> str:
        after = await endpoints.rotate(visit.store, one, actor=visit.actor, now=visit.now)
        return digest(after.secret)

    made = await once(visit, act)
    after = await endpoints.loaded(visit.store, one.id)
    if not is_secret(after.secret, made):  # the same form again, after somebody else rotated it
        raise ConflictError(f"endpoint {one.id} was given another secret since")
    return await page(visit, after, is_rotated=True)


async def enable(visit: Visit) -> web.Response:
    """Deliver again, from now on."""
    one = await endpoints.enable(visit.store, await own(visit), actor=visit.actor, now=visit.now)
    return visit.back(f"/endpoints/{one.id}", "endpoint-enabled")


async def disable(visit: Visit) -> web.Response:
    """Deliver nothing more."""
    one, reason = await own(visit), await visit.field("reason")
    await endpoints.disable(visit.store, one, reason=reason, actor=visit.actor, now=visit.now)
    return visit.back(f"/endpoints/{one.id}", "endpoint-disabled")


async def test(visit: Visit) -> web.Response:
    """Have a test delivered."""
    one = await own(visit)

    async def act(_: object) -> str:
        return await endpoints.send_test(visit.store, one, actor=visit.actor, now=visit.now)

    await once(visit, act)
    return visit.back(f"/endpoints/{one.id}", "endpoint-tested")


async def redeliver_one(visit: Visit) -> web.Response:
    """Deliver one event once more."""
    one = await own(visit)
    found = await find.records(visit.store, [keys.delivery(visit.request.match_info["delivery"])])
    if not found or not isinstance(found[0], Delivery) or found[0].endpoint_id != one.id:
        raise NOT_HERE
    delivery = found[0]

    async def act(_: object) -> str:
        return (await redeliver.redeliver(visit.store, delivery, actor=visit.actor, now=visit.now)).id

    await once(visit, act)
    return visit.back(f"/endpoints/{one.id}", "redelivered")


async def redeliver_many(visit: Visit) -> web.Response:
    """Deliver once more what failed, or a range."""
    one, which = await own(visit), await visit.field("which")
    since, until = _moment(await visit.field("since")), _moment(await visit.field("until"))
    if which not in {"failed", "all"} or (which == "all" and since is None):
        text = "Choose what failed, or everything since a time; say which time."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "Deliver what again?", text)

    async def act(_: object) -> str:
        queued = await redeliver.redeliver_many(
            visit.store,
            one,
            since=since,
            until=until,
            only_failed=which == "failed",
            actor=visit.actor,
            now=visit.now,
        )
        return str(queued)

    queued = int(await once(visit, act))
    return visit.back(f"/endpoints/{one.id}", "redelivered-many" if queued else "redelivered-none")


def _moment(text: str) -> datetime | None:
    """A time as a field of a form writes it, in UTC; None where nothing was typed.

    Raises:
        Refusal: it is none.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        title, words = "That is no time", "Write it like 2026-11-21T22:50; it is taken as UTC."
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, title, words) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


async def ask_to_remove(visit: Visit) -> web.Response:
    """Ask whether it is to go."""
    one = await own(visit)
    [glance] = await _glances(visit, [one])
    return visit.page("endpoint_remove.html", title="Remove this endpoint?", endpoint=one, glance=glance)


async def remove(visit: Visit) -> web.Response:
    """Remove it."""
    await endpoints.remove(visit.store, await own(visit), actor=visit.actor, now=visit.now)
    return visit.back("/endpoints", "endpoint-removed")


def routes() -> list[web.RouteDef]:
    """Return the routes of endpoints, but for adding and changing."""
    one = "/endpoints/{id:ep_[a-z2-7]+}"
    return [
        get("/endpoints", show_all),
        get(one, show),
        post(f"{one}/rotate", rotate),
        post(f"{one}/enable", enable),
        post(f"{one}/disable", disable),
        post(f"{one}/test", test),
        post(f"{one}/redeliver", redeliver_many),
        post(f"{one}/deliveries/{{delivery}}/redeliver", redeliver_one),
        get(f"{one}/remove", ask_to_remove),
        post(f"{one}/remove", remove),
    ]
