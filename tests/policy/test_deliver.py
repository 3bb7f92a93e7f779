"""What becomes of deliveries and of the endpoints they go to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.policy import deliver
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Endpoint, QuarantineFilter
from bridge.policy.deliver import Tried, attempted, is_wanted
from bridge.webhooks.schedule import DELAYS_SECONDS

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
ENDPOINT = Endpoint(
    id="ep_a",
    url="https://example.org/",
    hosts=("a.test",),
    secret="whsec_",
    created_at=NOW,
    since={"a.test": 4},
    version=3,
)
EVENT: dict[str, Any] = {
    "id": "e1",
    "type": "incident.reported",
    "data": {"sequence": 5, "peer": {"domain": "b.test", "quarantined": False}},
}
DELIVERY = deliver.first("ep_a", EVENT, host="a.test", now=NOW)


def tried(status: int | None = None, **more: Any) -> Tried:
    return Tried(attempt=Attempt(at=NOW, duration_ms=3, status=status), **more)


def test_any_2xx_is_a_success_and_touches_nothing_but_the_delivery() -> None:
    for status in (200, 204, 299):
        endpoint, delivery, change = attempted(ENDPOINT, DELIVERY, tried(status), now=NOW, jitter=0.5)
        assert delivery.state is DeliveryState.DELIVERED
        assert endpoint == ENDPOINT
        assert not change.timers
        assert not change.puts


@pytest.mark.parametrize("status", [None, 199, 301, 304, 400, 404, 429, 500, 503])
def test_everything_else_is_tried_again_by_the_schedule(status: int | None) -> None:
    endpoint, delivery, change = attempted(ENDPOINT, DELIVERY, tried(status), now=NOW, jitter=0.5)

    assert delivery.state is DeliveryState.PENDING
    assert delivery.next_at == NOW + timedelta(seconds=DELAYS_SECONDS[1])
    assert [timer.due_at for timer in change.timers] == [delivery.next_at]
    assert endpoint.failing_since == NOW
    assert endpoint.disabled_reason is None


def test_after_the_whole_schedule_a_delivery_is_dead() -> None:
    delivery, endpoint = DELIVERY, ENDPOINT
    now = NOW
    for count in range(1, len(DELAYS_SECONDS) + 1):
        endpoint, delivery, _ = attempted(endpoint, delivery, tried(500), now=now, jitter=0.5)
        assert len(delivery.attempts) == count
        now = delivery.next_at or now
    assert delivery.state is DeliveryState.DEAD
    assert delivery.next_at is None
    assert now - NOW == timedelta(seconds=sum(DELAYS_SECONDS))


def test_410_disables_the_endpoint_at_once_and_tells_operators_and_other_endpoints() -> None:
    endpoint, delivery, change = attempted(ENDPOINT, DELIVERY, tried(410), now=NOW, jitter=0)

    assert endpoint.disabled_reason == "it answered 410 Gone"
    assert delivery.state is DeliveryState.DEAD
    assert [event.type for event in change.events] == ["endpoint.disabled"]
    assert [append.item["text"][:23] for append in change.appends] == ["Webhook endpoint ep_a i"]


def test_an_endpoint_that_fails_for_five_days_is_told_of_daily_and_then_disabled() -> None:
    endpoint, told = ENDPOINT, []
    for hours in range(0, 121, 3):
        now = NOW + timedelta(hours=hours)
        before = endpoint
        endpoint, _, change = attempted(endpoint, DELIVERY, tried(503), now=now, jitter=0)
        told += [hours for _ in change.appends]
        endpoint = replace(endpoint, version=before.version + (endpoint != before))
    assert told == [6, 30, 54, 78, 102, 120]
    assert endpoint.disabled_reason is not None


def test_one_success_ends_the_failure() -> None:
    failing, _, _ = attempted(ENDPOINT, DELIVERY, tried(503), now=NOW, jitter=0)

    healthy, _, _ = attempted(failing, DELIVERY, tried(200), now=NOW + timedelta(days=4), jitter=0)

    assert healthy == ENDPOINT


def test_an_event_that_is_gone_is_the_bridges_fault_and_not_the_endpoints() -> None:
    endpoint, delivery, _ = attempted(ENDPOINT, DELIVERY, tried(is_final=True), now=NOW, jitter=0)

    assert endpoint == ENDPOINT
    assert delivery.state is DeliveryState.DEAD


@given(st.lists(st.sampled_from([None, 200, 301, 410, 429, 500]), max_size=40), st.floats(0, 1))
def test_a_delivery_is_always_delivered_or_pending_with_a_time_or_dead(
    statuses: list[int | None], jitter: float
) -> None:
    endpoint, delivery, now = ENDPOINT, DELIVERY, NOW
    for status in statuses:
        endpoint, delivery, change = attempted(endpoint, delivery, tried(status), now=now, jitter=jitter)
        assert (delivery.next_at is not None) == (delivery.state is DeliveryState.PENDING)
        assert len(change.timers) == (delivery.state is DeliveryState.PENDING)
        assert delivery.attempts[-1].status == status
        now += timedelta(hours=1)


def test_the_items_of_two_attempts_differ_and_the_timer_of_the_second_replaces_the_first() -> None:
    _, first, one = attempted(ENDPOINT, DELIVERY, tried(500), now=NOW, jitter=0)
    _, _, two = attempted(ENDPOINT, replace(first, version=1), tried(500), now=NOW, jitter=0)

    assert one.timers[0].name == two.timers[0].name
    assert one.timers[0].append.item["id"] != two.timers[0].append.item["id"]


def test_an_endpoint_gets_what_its_filters_say_and_nothing_from_before_it_was_added() -> None:
    def wanted(endpoint: Endpoint, **data: Any) -> bool:
        return is_wanted(endpoint, {**EVENT, "data": {**EVENT["data"], **data}}, host="a.test")

    assert wanted(ENDPOINT)
    assert not wanted(ENDPOINT, sequence=4)
    assert not is_wanted(ENDPOINT, EVENT, host="other.test")
    assert not wanted(replace(ENDPOINT, disabled_reason="gone"))
    assert not wanted(replace(ENDPOINT, types=("request.received",)))
    assert not wanted(replace(ENDPOINT, peers=("c.test",)))
    assert not wanted(ENDPOINT, peer={"domain": "b.test", "quarantined": True})
    only = replace(ENDPOINT, quarantined=QuarantineFilter.ONLY)
    assert wanted(only, peer={"domain": "b.test", "quarantined": True})
    assert not wanted(only)


def test_a_test_goes_to_its_endpoint_whatever_the_filters_say() -> None:
    event = {"id": "t", "type": "endpoint.test", "data": {"sequence": 9, "endpoint_id": "ep_a"}}
    picky = replace(ENDPOINT, types=("request.received",), quarantined=QuarantineFilter.ONLY)

    assert is_wanted(picky, event, host="a.test")
    assert not is_wanted(replace(picky, id="ep_b"), event, host="a.test")


def test_only_a_pending_delivery_has_a_timer() -> None:
    with pytest.raises(ValueError, match="not pending"):
        deliver.retry(replace(DELIVERY, next_at=None))
    assert isinstance(DELIVERY, Delivery)
