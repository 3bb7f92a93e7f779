"""What the commands about consumers share: who types, which endpoint is meant, and how a delivery is told.

House rules: a secret is printed where it is made and nowhere else; what an endpoint answered is hostile text.
"""

import os
import pwd
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.cli.arguments import UsageError
from bridge.cli.output import count, moment
from bridge.cli.stored import NotFoundError, hosts_of, members, records
from bridge.config import Settings
from bridge.errors import MalformedError
from bridge.pipeline.actors import Actor
from bridge.pipeline.endpoints import Permitted
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Endpoint
from bridge.store import keys
from bridge.store.connect import Store
from bridge.webhooks.event import plain

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def actor() -> Actor:
    """Who types."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        name = str(os.getuid())
    return Actor(f"cli:{name}")


def permitted(settings: Settings) -> Permitted:
    """What the configuration permits endpoints to be."""
    hooks = settings.webhooks
    return Permitted(
        hosts=hosts_of(settings, None),
        allow_http=hooks.allow_http,
        allow_networks=hooks.allow_networks,
        max_endpoints=hooks.max_endpoints,
    )


def misused(error: MalformedError) -> UsageError:
    """Say of what was typed what a story found wrong with it."""
    return UsageError(f"{error.path}: {error.rule}" if error.path else error.rule)


def time_of(text: str) -> datetime:
    """Read `2026-11-21T12:00:00Z`, `2026-11-21` (UTC), or how long ago: `90m`, `2h`, `3d`.

    Raises:
        UsageError: it is none of these.
    """
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(
            f"'{text}' is no time; write 2026-11-21T12:00:00Z, or how long ago: 90m, 2h, 3d"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def all_endpoints(store: Store) -> list[Endpoint]:
    """Load every endpoint, newest first."""
    names = [keys.endpoint(member) async for page in members(store, keys.ENDPOINTS) for member in page]
    return [one for one in await records(store, names) if isinstance(one, Endpoint)]


async def one_endpoint(store: Store, start: str) -> Endpoint:
    """Return the one endpoint whose id begins so, with or without its `ep_`.

    Raises:
        NotFoundError: there is none, or several.
    """
    wanted = "ep_" + start.strip().casefold().removeprefix("ep_")
    found = [one for one in await all_endpoints(store) if one.id.startswith(wanted)]
    exact = [one for one in found if one.id == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise NotFoundError(
            f"no endpoint's id begins with {wanted}; to see them: incident-bridge endpoints list"
        )
    ids = "\n".join(f"  {one.id}  {one.url}" for one in found[:10])
    raise NotFoundError(f"{count(len(found), 'endpoint')} begin with {wanted}; type more of the id:\n{ids}")


async def one_delivery(store: Store, start: str) -> Delivery:
    """Return the one delivery whose id begins so; a whole id is found without a search.

    Raises:
        NotFoundError: there is none, or several.
    """
    wanted = start.strip().casefold()
    exact = [one for one in await records(store, [keys.delivery(wanted)]) if isinstance(one, Delivery)]
    if exact:
        return exact[0]
    ids: list[str] = []
    async for page in members(store, keys.DELIVERIES):
        ids += [member for member in page if wanted and member.startswith(wanted)]
        if len(ids) > 1:
            raise NotFoundError(f"several deliveries begin with {wanted}; type more of the id")
    found = await records(store, [keys.delivery(one) for one in ids])
    if not found or not isinstance(found[0], Delivery):
        raise NotFoundError(
            f"no delivery's id begins with {wanted}; to see them: incident-bridge deliveries list"
        )
    return found[0]


def state_of(endpoint: Endpoint) -> str:
    """How an endpoint stands, in a few words."""
    if endpoint.disabled_reason is not None:
        return f"disabled {moment(endpoint.disabled_at)}: {endpoint.disabled_reason}"
    if endpoint.failing_since is not None:
        return f"failing since {moment(endpoint.failing_since)}"
    return "enabled"


def outcome(attempt: Attempt) -> str:
    """What came of an attempt: the status, or why there is none."""
    return str(attempt.status) if attempt.status is not None else attempt.error or "no answer"


def standing(delivery: Delivery) -> str:
    """How far a delivery got, in a few words."""
    match delivery.state:
        case DeliveryState.DELIVERED:
            return "delivered"
        case DeliveryState.DEAD:
            return "given up"
        case DeliveryState.PENDING:
            return f"again at {moment(delivery.next_at)}" if delivery.tries else "waits"


def plain_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """What a program is told of an endpoint: all but its secrets and the values of its headers."""
    shown: dict[str, Any] = plain(endpoint)
    for secret in ("secret", "old_secret", "version"):
        del shown[secret]
    shown["headers"] = sorted(endpoint.headers)
    shown["is_enabled"] = endpoint.disabled_reason is None
    return shown


def plain_delivery(delivery: Delivery) -> dict[str, Any]:
    """What a program is told of a delivery."""
    shown: dict[str, Any] = plain(delivery)
    del shown["version"]
    return shown


def delivery_rows(deliveries: Sequence[Delivery]) -> list[tuple[object, ...]]:
    """The rows of a table under `DELIVERY_TITLES`."""
    return [
        (
            one.id,
            one.event_type,
            one.sequence,
            len(one.attempts),
            outcome(one.attempts[-1]) if one.attempts else None,
            one.attempts[-1].at if one.attempts else one.created_at,
            standing(one),
        )
        for one in deliveries
    ]


DELIVERY_TITLES = ("DELIVERY", "EVENT", "SEQUENCE", "ATTEMPTS", "LAST", "WHEN", "NOW")
