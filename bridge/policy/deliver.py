"""What becomes of a webhook delivery after an attempt (DESIGN §7): delivered, tried again, given up, or worse.

House rules: pure; jitter and time come in; an endpoint's record changes only where its standing does, so that
deliveries that succeed write nothing but themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from bridge.policy import lanes
from bridge.policy.change import Change, Event, Put, Timer
from bridge.policy.consumers import MAX_ATTEMPTS_KEPT, Attempt, Delivery, DeliveryState, Endpoint, delivery_id
from bridge.webhooks.event import SCHEMA, EventType
from bridge.webhooks.schedule import delay_seconds
from bridge.webhooks.subscription import wants

BOUND_AFTER: Final = timedelta(hours=1)
DISABLE_AFTER: Final = timedelta(days=5)
TELL_AFTER: Final = timedelta(hours=6)
TELL_EVERY: Final = timedelta(days=1)
GONE: Final = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One attempt as it was made.

    Attributes:
        retry_after_seconds: what the endpoint asked for.
        is_final: no attempt could ever succeed (the event is no longer kept).
    """

    attempt: Attempt
    retry_after_seconds: float | None = None
    is_final: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the endpoint took it: any 2xx, and nothing else."""
        return self.attempt.status is not None and 200 <= self.attempt.status < 300  # noqa: PLR2004


def is_wanted(endpoint: Endpoint, event: Mapping[str, Any], *, host: str) -> bool:
    """Whether an event of `host` goes to this endpoint; a test goes to the one it is for, whatever its filters."""
    if endpoint.disabled_reason is not None or host not in endpoint.hosts:
        return False
    data = event["data"]
    if data["sequence"] <= endpoint.since.get(host, 0):
        return False
    if event["type"] == EventType.ENDPOINT_TEST:
        return bool(data["endpoint_id"] == endpoint.id)
    return wants(endpoint.types, endpoint.peers, endpoint.severities, endpoint.quarantined, event)


def is_bounded(endpoint: Endpoint, *, now: datetime) -> bool:
    """Whether an endpoint has been failing for so long that what waits for it may not grow without end."""
    return endpoint.failing_since is not None and now - endpoint.failing_since > BOUND_AFTER


def first(endpoint_id: str, event: Mapping[str, Any], *, host: str, now: datetime) -> Delivery:
    """Make the record of a delivery that was not tried before."""
    sequence = event["data"]["sequence"]
    return Delivery(
        id=delivery_id(endpoint_id, host, sequence),
        endpoint_id=endpoint_id,
        host=host,
        event_id=event["id"],
        event_type=event["type"],
        sequence=sequence,
        created_at=now,
    )


def attempted(
    endpoint: Endpoint, delivery: Delivery, tried: Tried, *, now: datetime, jitter: float
) -> tuple[Endpoint, Delivery, Change]:
    """Note one attempt.

    Args:
        endpoint: as it stands.
        delivery: as it stands; version 0 if it was not stored yet.
        tried: what was done.
        now: when it ended.
        jitter: a random number from 0 to 1.

    Returns:
        Both as they stand now, and what else is to be written (not the records themselves).
    """
    attempts = (*delivery.attempts, tried.attempt)[-MAX_ATTEMPTS_KEPT:]
    after = replace(delivery, attempts=attempts, tries=delivery.tries + 1, next_at=None)
    if tried.is_success:
        healthy = endpoint if endpoint.failing_since is None else _healthy(endpoint)
        return healthy, replace(after, state=DeliveryState.DELIVERED), _count("delivered")
    failing, change = _failed(endpoint, delivery.host, tried, now=now)
    delay = delay_seconds(after.tries, jitter=jitter, retry_after_seconds=tried.retry_after_seconds)
    if delay is None or tried.is_final or failing.disabled_reason is not None:
        return failing, replace(after, state=DeliveryState.DEAD), change + _count("dead")
    after = replace(after, state=DeliveryState.PENDING, next_at=now + timedelta(seconds=delay))
    return failing, after, change + Change(timers=(retry(after),)) + _count("failed")


def retry(delivery: Delivery) -> Timer:
    """Set the timer of a pending delivery's next attempt; a later one replaces it.

    Raises:
        ValueError: it has no next attempt.
    """
    if delivery.next_at is None:
        raise ValueError(f"delivery {delivery.id} is not pending")
    nonce = f"-{delivery.version + 1}"
    append = lanes.deliver(delivery.endpoint_id, delivery.host, delivery.sequence, nonce=nonce)
    return Timer(name=f"delivery:{delivery.id}", due_at=delivery.next_at, append=append)


def undeliverable(delivery: Delivery) -> Delivery:
    """Give up a delivery whose endpoint is disabled, without an attempt; it can be delivered anew."""
    return replace(delivery, state=DeliveryState.DEAD, next_at=None)


def disable(endpoint: Endpoint, reason: str, *, host: str, now: datetime) -> tuple[Endpoint, Change]:
    """Send an endpoint nothing more, and tell operators and other endpoints why."""
    after = replace(endpoint, disabled_reason=reason, disabled_at=now)
    text = (
        f"Webhook endpoint {endpoint.id} is disabled: {reason}. When it works again: "
        f"incident-bridge endpoints enable {endpoint.id}, then incident-bridge deliveries redeliver"
    )
    event_id = f"{endpoint.id}-disabled-{endpoint.version + 1}"
    data = {
        "schema": SCHEMA,
        "event_id": event_id,
        "host": host,
        "endpoint_id": endpoint.id,
        "reason": reason,
    }
    event = Event(host=host, id=event_id, type=EventType.ENDPOINT_DISABLED, timestamp=now, data=data)
    return after, Change(events=(event,), appends=(lanes.tell(host, text, item_id=f"{event_id}-told"),))


def put(before: Endpoint, after: Endpoint) -> Change:
    """Write the endpoint if its standing changed."""
    return Change() if before == after else Change(puts=(Put(before, after),))


def _healthy(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, failing_since=None, told_at=None)


def _failed(endpoint: Endpoint, host: str, tried: Tried, *, now: datetime) -> tuple[Endpoint, Change]:
    """Note that an endpoint failed: it is disabled where it says so or does for days, and told of on the way."""
    if endpoint.disabled_reason is not None or tried.is_final:
        return endpoint, Change()
    since = endpoint.failing_since or now
    failing = replace(endpoint, failing_since=since)
    if tried.attempt.status == GONE:
        return disable(failing, "it answered 410 Gone", host=host, now=now)
    if now - since >= DISABLE_AFTER:
        reason = f"every delivery has failed since {since:%Y-%m-%d %H:%M} UTC"
        return disable(failing, reason, host=host, now=now)
    is_due = now - since >= TELL_AFTER and (failing.told_at is None or now - failing.told_at >= TELL_EVERY)
    if not is_due:
        return failing, Change()
    text = (
        f"Webhook endpoint {endpoint.id} has been failing since {since:%Y-%m-%d %H:%M} UTC; it is disabled "
        f"after {DISABLE_AFTER.days} days. To see why: incident-bridge deliveries list {endpoint.id} --failed"
    )
    told = lanes.tell(host, text, item_id=f"{endpoint.id}-failing-{endpoint.version + 1}")
    return replace(failing, told_at=now), Change(appends=(told,))


def _count(outcome: str) -> Change:
    return Change(counts=(("deliveries", outcome),))
