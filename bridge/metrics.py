"""Everything /metrics shows, in one table; counters live in the store, so they count what every process did.

House rule: no label that a stranger can choose.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.policy import stages

PREFIX = "incident_bridge_"


@dataclass(frozen=True, slots=True)
class Description:
    """What one metric counts and by which labels."""

    text: str
    labels: tuple[str, ...] = ()


COUNTERS = {
    "interactions": Description("Interactions stored.", ("kind", "trust")),
    "repeats": Description("Repeats answered and not stored again.", ("trust",)),
    "refused": Description("Interactions refused, by the condition the peer was told.", ("condition",)),
    "incidents": Description("Editions of incidents written.", ("status", "trust")),
    "stanzas": Description("Stanzas handed to Prosody: sent, dropped or error.", ("outcome",)),
    "inquiries": Description("Inquiries decided: answered or not-found.", ("outcome",)),
    "sendings": Description("What came of interactions of ours.", ("kind", "outcome")),
    "approvals": Description("Requests decided about, and what operators did unasked.", ("outcome",)),
    "mitigations": Description("What came of mitigations.", ("type", "outcome")),
    "deliveries": Description(
        "Attempts to deliver an event to an endpoint: delivered, failed (tried again) or dead; and events left.",
        ("outcome",),
    ),
    "abuse": Description(
        "Reports of users: counted, beyond, left-out, repeated, over-quota or full; drafts of them sent, dismissed or "
        "acted on; drafts and addresses evicted.",
        ("outcome",),
    ),
    "feeds": Description("Readings of lists of others: changed, unchanged or failed.", ("outcome",)),
    "retired": Description("Incidents deleted because their time was over.", ("from",)),
    "set_aside": Description("Items set aside because their workers died.", ("queue",)),
}
GAUGES = {
    "lanes": Description("Lanes that hold work.", ("queue",)),
    "lane_items": Description("Items waiting in lanes.", ("queue",)),
    "lane_oldest_seconds": Description(
        "How long the longest waiting lane could have been taken.", ("queue",)
    ),
    "worker_seen_seconds": Description(
        "Seconds since a worker of the queue was seen; -1: never.", ("queue",)
    ),
    "store_used_bytes": Description("Memory the store uses."),
    "store_max_bytes": Description("Memory the store may use."),
    "store_replicas": Description("Replicas that follow the store."),
    "store_durable": Description("1 if the store keeps what it acknowledged through a power cut, else 0."),
}
HISTOGRAMS = {
    stages.METRIC: Description(
        "Seconds from the arrival of what a peer sent until a stage; and from an event until it is delivered.",
        ("stage",),
    ),
}

Sample = tuple[str, tuple[str, ...], float]


def render(counters: Mapping[tuple[str, ...], int], gauges: Iterable[Sample]) -> bytes:
    """Write the text exposition format.

    Args:
        counters: as the store has them: by name without prefix and label values.
        gauges: (name without prefix, label values, value).
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(counters, tuple(gauges)))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, counters: Mapping[tuple[str, ...], int], gauges: tuple[Sample, ...]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Yield every described metric, also those that have no sample yet."""
        for name, description in COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + name, description.text, labels=description.labels)
            for key, count in self._counters.items():
                if key[0] == name and len(key) == 1 + len(description.labels):
                    counter.add_metric(key[1:], count)
            yield counter
        for name, description in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(PREFIX + name, description.text, labels=description.labels)
            for stage, (up_to, seconds) in stages.histograms(self._counters).items():
                bounds = [*map(str, stages.BUCKETS), "+Inf"]
                histogram.add_metric([stage], list(zip(bounds, up_to, strict=True)), seconds)
            yield histogram
        for name, description in GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, description.text, labels=description.labels)
            for other, labels, value in self._gauges:
                if other == name:
                    gauge.add_metric(labels, value)
            yield gauge
