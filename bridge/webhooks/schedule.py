"""When a delivery that failed is tried again (DESIGN §7, the example of Standard Webhooks 1.0)."""

_MINUTE = 60
_HOUR = 3600

# Seconds before the first attempt, the second and so on; some 75 hours from the first to the last.
DELAYS_SECONDS = (
    0,
    5,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
MAX_RETRY_AFTER_SECONDS = 24 * _HOUR
_JITTER = 0.1


def delay_seconds(tries: int, *, jitter: float, retry_after_seconds: float | None = None) -> float | None:
    """Say how long to wait after a failed attempt.

    Args:
        tries: how many attempts were made; 0 before the first.
        jitter: random, in [0, 1); it spreads the delay over ±10 %.
        retry_after_seconds: what the endpoint asked for. The delay is not shorter than that, up to 24 h of it,
            and spread over the 10 % above, lest everything that waits for one endpoint comes back at once.

    Returns:
        Seconds, or None: the attempts are used up.
    """
    if tries >= len(DELAYS_SECONDS):
        return None
    delay = DELAYS_SECONDS[tries] * (1 - _JITTER + 2 * _JITTER * jitter)
    if retry_after_seconds is None or not retry_after_seconds > 0:  # not above 0: NaN too
        return delay
    asked = min(retry_after_seconds, MAX_RETRY_AFTER_SECONDS)
    return max(delay, asked * (1 + _JITTER * jitter))
