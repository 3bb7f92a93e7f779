"""How long things take, as a histogram that every process adds to.

House rule: a stage is one of ours; nobody else chooses a label.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

Time = tuple["Stage", float]
"""How long one thing took, in seconds."""

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""Upper bounds in seconds; above the last is one more, without bound."""
METRIC: Final = "stage_seconds"
_SUM: Final = "stage_microseconds"


class Stage(StrEnum):
    """The way of what a peer sends, and how long it took from its arrival to there.

    `STORED`: from Prosody's request until the batch is stored. `DECIDED`: until a worker takes it up. `ANSWERED`: until
    its `result` goes to Prosody. `DELIVERED`: from the event until an endpoint took it at the first attempt.
    """

    STORED = "stored"
    DECIDED = "decided"
    ANSWERED = "answered"
    DELIVERED = "delivered"


def counts(times: Iterable[Time]) -> Mapping[tuple[str, ...], int]:
    """By how much to raise which counters."""
    found: Counter[tuple[str, ...]] = Counter()
    for stage, seconds in times:
        took = max(0.0, seconds)  # clocks of two machines may differ
        found[METRIC, stage, str(bisect_left(BUCKETS, took))] += 1
        found[_SUM, stage] += round(took * 1e6)
    return found


def histograms(counters: Mapping[tuple[str, ...], int]) -> dict[Stage, tuple[list[int], float]]:
    """Read the counters back: for each stage how many took up to each bound, and the sum in seconds."""
    found = {}
    for stage in Stage:
        counted = [counters.get((METRIC, stage, str(number)), 0) for number in range(len(BUCKETS) + 1)]
        up_to = [sum(counted[: number + 1]) for number in range(len(counted))]
        found[stage] = up_to, counters.get((_SUM, stage), 0) / 1e6
    return found
