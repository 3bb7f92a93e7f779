"""When a failed delivery is tried again."""

import math

from hypothesis import given
from hypothesis import strategies as st

from bridge.webhooks.schedule import DELAYS_SECONDS, MAX_RETRY_AFTER_SECONDS, delay_seconds

JITTER = st.floats(0, 1, exclude_max=True)


def test_the_schedule_is_the_one_of_standard_webhooks() -> None:
    hours = [0, 5 / 3600, 5 / 60, 0.5, 2, 5, 10, 14, 20, 24]
    delays = [delay_seconds(tries, jitter=0.5) for tries in range(10)]
    assert [round(delay or 0) for delay in delays] == [round(hour * 3600) for hour in hours]


def test_after_the_tenth_attempt_it_is_given_up() -> None:
    assert delay_seconds(9, jitter=0) is not None
    assert delay_seconds(10, jitter=0) is None
    assert delay_seconds(10, jitter=0, retry_after_seconds=60) is None


@given(st.integers(1, 9), JITTER)
def test_jitter_spreads_a_delay_over_ten_percent_to_both_sides(tries: int, jitter: float) -> None:
    delay = delay_seconds(tries, jitter=jitter)
    assert delay is not None
    assert 0.9 <= delay / DELAYS_SECONDS[tries] <= 1.1


@given(st.integers(1, 9), JITTER, st.floats())
def test_an_endpoint_can_ask_for_a_longer_delay_up_to_a_day(tries: int, jitter: float, asked: float) -> None:
    delay = delay_seconds(tries, jitter=jitter, retry_after_seconds=asked)
    own = delay_seconds(tries, jitter=jitter)
    assert delay is not None
    assert own is not None
    assert own <= delay <= 1.1 * MAX_RETRY_AFTER_SECONDS
    if not math.isnan(asked):
        assert delay >= min(asked, MAX_RETRY_AFTER_SECONDS)


def test_an_endpoint_cannot_ask_for_a_shorter_delay() -> None:
    assert delay_seconds(3, jitter=0.5, retry_after_seconds=1) == 1800
    assert delay_seconds(3, jitter=0.5, retry_after_seconds=-1e9) == 1800
