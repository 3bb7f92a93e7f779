"""Token buckets: what one peer may send, and what all strangers together may.

House rule: a bucket that is not stored is full, and one that is full again need not be stored.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from bridge.errors import Condition, ErrorType, RefusedError, StanzaError
from bridge.policy.record import STRANGERS, Bucket


class Quotas(Protocol):
    """What the operator allows; see `[policy]`."""

    @property
    def quota_per_minute(self) -> float: ...  # noqa: D102
    @property
    def quota_burst(self) -> float: ...  # noqa: D102
    @property
    def quota_strangers_per_minute(self) -> float: ...  # noqa: D102
    @property
    def quota_strangers_burst(self) -> float: ...  # noqa: D102


class OverQuotaError(RefusedError):
    """The peer, or all strangers together, sent more than the quota; `seconds` until one more may come."""

    def __init__(self, name: str, *, seconds: int) -> None:
        whose = "all servers unknown to us together" if name == STRANGERS else "your server"
        text = f"{whose} sent more incidents than the quota allows; send it again in {seconds} s"
        super().__init__(StanzaError(ErrorType.WAIT, Condition.RESOURCE_CONSTRAINT, text))
        self.name = name
        self.seconds = seconds


def take_tokens(
    buckets: Mapping[str, Bucket], host: str, peer: str, quotas: Quotas, *, is_stranger: bool, now: datetime
) -> dict[str, Bucket]:
    """Take one token of a peer, and if it is a stranger one of all strangers'; returns the buckets to store.

    Raises:
        OverQuotaError: there is none; nothing was taken.
    """
    wanted = [(peer, quotas.quota_per_minute, quotas.quota_burst)]
    if is_stranger:
        wanted.append((STRANGERS, quotas.quota_strangers_per_minute, quotas.quota_strangers_burst))
    after = dict(buckets)
    for name, per_minute, burst in wanted:
        bucket = refill(after.get(name), host, name, per_minute=per_minute, burst=burst, now=now)
        if bucket.tokens < 1:
            raise OverQuotaError(name, seconds=max(1, round((1 - bucket.tokens) * 60 / per_minute)))
        after[name] = replace(bucket, tokens=bucket.tokens - 1)
    return after


def refill(
    bucket: Bucket | None, host: str, name: str, *, per_minute: float, burst: float, now: datetime
) -> Bucket:
    """Bring a bucket to `now`; one that is not stored is full. Time going backwards counts as no time passed."""
    ttl_seconds = int(burst * 60 / per_minute) + 60
    if bucket is None:
        return Bucket(host=host, name=name, tokens=burst, updated_at=now, ttl_seconds=ttl_seconds)
    elapsed = max(timedelta(0), now - bucket.updated_at)
    tokens = min(burst, bucket.tokens + elapsed.total_seconds() * per_minute / 60)
    return replace(bucket, tokens=tokens, updated_at=max(now, bucket.updated_at), ttl_seconds=ttl_seconds)
