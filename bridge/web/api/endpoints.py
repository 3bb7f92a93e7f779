"""`endpoints`: where webhook events go, and which.

House rule: an endpoint is shown to whom one of its hosts is, and changed only by whom all of them are.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bridge.pipeline import endpoints, redeliver
from bridge.pipeline.endpoints import EndpointDraft, Permitted, draft_of
from bridge.policy.consumers import Delivery, DeliveryState, Endpoint, Scope
from bridge.policy.record import Record
from bridge.store import keys, load
from bridge.web.api import paging
from bridge.web.api.deliveries import DeliveryItem, DeliveryPage, may
from bridge.web.api.endpoint_models import (
    DeliveriesQuery,
    EndpointNew,
    EndpointPage,
    EndpointPatch,
    EndpointSecret,
    EndpointView,
    Reason,
    RedeliverBody,
    Redelivered,
    TestSent,
)
from bridge.web.api.model import PageQuery
from bridge.web.api.router import PREFIX, Answer, Call, Route, invalid, not_found
from bridge.web.problems import ProblemError

TAG: Final = "endpoints"


def permitted(call: Call) -> Permitted:
    """What the configuration and the token permit."""
    settings = call.service.settings.webhooks
    return Permitted(
        hosts=call.hosts,
        allow_http=settings.allow_http,
        allow_networks=settings.allow_networks,
        max_endpoints=settings.max_endpoints,
    )


async def known_endpoint(call: Call) -> Endpoint:
    """Load the endpoint that the path names; 404 where the caller sees none of its hosts."""
    name = keys.endpoint(call.path["id"])
    found = (await load.fetch(call.store, names=[name])).records[name]
    if not isinstance(found, Endpoint) or not any(may(call.token, host) for host in found.hosts):
        raise not_found("endpoint")
    return found


async def own_endpoint(call: Call) -> Endpoint:
    """Load an endpoint in order to change it; 403 where it concerns a host that the caller may not see."""
    found = await known_endpoint(call)
    return _own(call, found)


def _own(call: Call, found: Endpoint) -> Endpoint:
    if not all(may(call.token, host) for host in found.hosts):
        raise ProblemError("forbidden", "it gets events of a host too that this token may not see")
    return found


async def secret_again(call: Call, kept: Mapping[str, Any]) -> str:
    """Find the secret of an endpoint that was answered before."""
    return _own(call, await endpoints.loaded(call.store, kept["id"])).secret


async def list_endpoints(call: Call) -> Answer:
    """A page of endpoints."""
    of = paging.fingerprint("endpoints", call.token.hosts)

    def is_wanted(one: Record) -> bool:
        return isinstance(one, Endpoint) and any(may(call.token, host) for host in one.hosts)

    found, last = await paging.records(
        call.store,
        [keys.ENDPOINTS],
        keys.endpoint,
        is_wanted,
        limit=call.query.limit,
        before=paging.position(call.query.cursor, of=of),
    )
    items = tuple(EndpointView.of(one, call) for one in found if isinstance(one, Endpoint))
    return Answer(body=EndpointPage(items=items, next=last and paging.following(last, of=of)))


async def add_endpoint(call: Call) -> Answer:
    """Add an endpoint."""
    given = call.body.model_dump(exclude_unset=True)
    secret = given.pop("secret", None)
    draft = EndpointDraft(**{"hosts": call.hosts, **given})
    added = await endpoints.add(
        call.store,
        draft,
        actor=call.actor,
        now=call.now,
        permitted=permitted(call),
        secret=secret,
        new_id=call.new_id,
    )
    _own(call, added)  # a repeat may find it as somebody else has made it
    return Answer(
        body=EndpointSecret.of(added, call, secret=added.secret),
        headers={"Location": f"{PREFIX}/endpoints/{added.id}"},
    )


async def show_endpoint(call: Call) -> Answer:
    """One endpoint."""
    return Answer(body=EndpointView.of(await known_endpoint(call), call))


async def change_endpoint(call: Call) -> Answer:
    """Change what is given."""
    known = await own_endpoint(call)
    given = call.body.model_dump(exclude_unset=True)
    draft = replace(draft_of(known), **given)
    after = await endpoints.change(
        call.store, known, draft, actor=call.actor, now=call.now, permitted=permitted(call)
    )
    return Answer(body=EndpointView.of(after, call))


async def remove_endpoint(call: Call) -> Answer:
    """Remove an endpoint."""
    await endpoints.remove(call.store, await own_endpoint(call), actor=call.actor, now=call.now)
    return Answer()


async def rotate_secret(call: Call) -> Answer:
    """Make a new secret."""
    after = await endpoints.rotate(call.store, await own_endpoint(call), actor=call.actor, now=call.now)
    return Answer(body=EndpointSecret.of(after, call, secret=after.secret))


async def enable_endpoint(call: Call) -> Answer:
    """Deliver again."""
    after = await endpoints.enable(call.store, await own_endpoint(call), actor=call.actor, now=call.now)
    return Answer(body=EndpointView.of(after, call))


async def disable_endpoint(call: Call) -> Answer:
    """Deliver nothing more."""
    after = await endpoints.disable(
        call.store, await own_endpoint(call), reason=call.body.reason, actor=call.actor, now=call.now
    )
    return Answer(body=EndpointView.of(after, call))


async def send_test(call: Call) -> Answer:
    """Have a test delivered."""
    event_id = await endpoints.send_test(
        call.store, await own_endpoint(call), actor=call.actor, now=call.now, new_id=call.new_id
    )
    return Answer(body=TestSent(event_id=event_id))


async def list_deliveries(call: Call) -> Answer:
    """A page of the deliveries to an endpoint."""
    endpoint, query = await known_endpoint(call), call.query
    state: DeliveryState | None = query.state
    of = paging.fingerprint("deliveries", endpoint.id, state)
    if state in {None, DeliveryState.DELIVERED}:
        index = keys.deliveries(endpoint.id)
    else:
        index = keys.deliveries_with_state(endpoint.id, state)

    def is_wanted(one: Record) -> bool:
        return isinstance(one, Delivery) and may(call.token, one.host) and state in {None, one.state}

    found, last = await paging.records(
        call.store,
        [index],
        keys.delivery,
        is_wanted,
        limit=query.limit,
        before=paging.position(query.cursor, of=of),
    )
    items = tuple(DeliveryItem.of(one) for one in found if isinstance(one, Delivery))
    return Answer(body=DeliveryPage(items=items, next=last and paging.following(last, of=of)))


async def redeliver_range(call: Call) -> Answer:
    """Deliver a range again."""
    body: RedeliverBody = call.body
    if body.since and body.until and body.until < body.since:
        raise invalid("until", "lies before since")
    queued = await redeliver.redeliver_many(
        call.store,
        await own_endpoint(call),
        since=body.since,
        until=body.until,
        only_failed=body.only_failed,
        actor=call.actor,
        now=call.now,
    )
    return Answer(body=Redelivered(queued=queued))


def _route(method: Any, end: str, handler: Any, summary: str, **more: Any) -> Route:
    scope = Scope.READ if method == "GET" else Scope.WRITE
    return Route(
        method=method,
        path=f"/endpoints{end}",
        scope=scope,
        handler=handler,
        summary=summary,
        tag=TAG,
        **more,
    )


ROUTES: Final = (
    _route(
        "GET", "", list_endpoints, "List endpoints, the newest first", query=PageQuery, answer=EndpointPage
    ),
    _route(
        "POST",
        "",
        add_endpoint,
        "Add an endpoint; answers its secret",
        description="It gets what happens from now on. The secret is shown in this answer only.",
        body=EndpointNew,
        answer=EndpointSecret,
        status=201,
        secret=secret_again,
    ),
    _route("GET", "/{id}", show_endpoint, "One endpoint", answer=EndpointView),
    _route(
        "PATCH",
        "/{id}",
        change_endpoint,
        "Change an endpoint",
        description="Of a host that it did not have it gets what happens from now on.",
        body=EndpointPatch,
        answer=EndpointView,
    ),
    _route(
        "DELETE",
        "/{id}",
        remove_endpoint,
        "Remove an endpoint",
        description="What waits for it is dropped.",
        status=204,
    ),
    _route(
        "POST",
        "/{id}/test",
        send_test,
        "Deliver a test event",
        description="An `endpoint.test`, to this endpoint only, whatever its filters.",
        answer=TestSent,
        status=202,
    ),
    _route(
        "POST",
        "/{id}/rotate-secret",
        rotate_secret,
        "Make a new secret; answers it",
        description="Deliveries are signed with the secret before too, for 24 hours.",
        answer=EndpointSecret,
        secret=secret_again,
    ),
    _route(
        "POST",
        "/{id}/enable",
        enable_endpoint,
        "Deliver to an endpoint again",
        description="What happens from now on; what it missed is delivered by `redeliver`.",
        answer=EndpointView,
    ),
    _route(
        "POST",
        "/{id}/disable",
        disable_endpoint,
        "Deliver nothing more to an endpoint",
        body=Reason,
        answer=EndpointView,
    ),
    _route(
        "GET",
        "/{id}/deliveries",
        list_deliveries,
        "List the deliveries to an endpoint, the newest first",
        query=DeliveriesQuery,
        answer=DeliveryPage,
    ),
    _route(
        "POST",
        "/{id}/redeliver",
        redeliver_range,
        "Deliver again what failed, or a range",
        description=f"The oldest first, at most {redeliver.MOST_AT_ONCE} at once.",
        body=RedeliverBody,
        answer=Redelivered,
        status=202,
    ),
)
