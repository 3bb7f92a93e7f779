"""How events reach endpoints: handed on to their lanes once, then delivered from there, several at a time.

House rules: an event goes out under its own id whenever it is tried, and the bytes signed are the bytes sent; an
attempt is known once it is committed, so one that was not is made again; nothing here waits for one endpoint on
behalf of another.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from bridge import log
from bridge.clients.endpoint import EndpointClient
from bridge.policy import deliver, lanes
from bridge.policy.change import Append, Change, Put, Queue, Sent
from bridge.policy.consumers import Attempt, Delivery, DeliveryState, Endpoint, Fanout, delivery_id
from bridge.policy.deliver import Tried
from bridge.policy.record import Interaction
from bridge.policy.stages import Stage
from bridge.store import keys, load
from bridge.store.connect import Store
from bridge.store.lanes import waiting
from bridge.webhooks.event import EventType, linked
from bridge.webhooks.signature import decode_secret, headers_for

_log = log.get(__name__)

AT_ONCE: Final = 8
_SLOW_MS: Final = 5000
_WEIGHT: Final = 0.25  # of the latest attempt in the mean; four quick ones make up for one that hung
_EVENTS_AT_ONCE: Final = 256
_APPENDS_AT_ONCE: Final = 4096  # the store does nothing else meanwhile; one event may take more
_MOST_ENDPOINTS: Final = 10_000
_MOST_WAITING: Final = (
    10_000  # for an endpoint that has been failing for long; as many as one `redeliver` queues
)
Call = Callable[[], Awaitable[Tried]]


@dataclass(slots=True)
class _Room:
    """How many more items may wait for each endpoint that has been failing for long; what finds no room is left.

    Attributes:
        free: by endpoint; one that is not here has room without end.
        left: the events that are not handed on, by endpoint: when the first happened, and how many.
    """

    free: dict[str, int]
    left: dict[str, tuple[str, int]] = field(default_factory=dict)

    def take(self, endpoint_id: str, event: Mapping[str, Any]) -> bool:
        """Take the room of one item; a test is asked for by somebody who waits, and always has room."""
        free = self.free.get(endpoint_id)
        if free is None or event["type"] == EventType.ENDPOINT_TEST:
            return True
        if free > 0:
            self.free[endpoint_id] = free - 1
            return True
        first, count = self.left.get(endpoint_id, (event["timestamp"], 0))
        self.left[endpoint_id] = (min(first, event["timestamp"]), count + 1)
        return False

    def counted(self) -> Change:
        """Say what is left, in the log and at /metrics."""
        for endpoint_id, (first, count) in self.left.items():
            command = f"incident-bridge deliveries redeliver --endpoint {endpoint_id} --since {first}"
            _log.error(
                "too much waits for an endpoint that fails: events are not queued for it; when it works again, "
                "deliver them by the command",
                endpoint=endpoint_id,
                count=count,
                command=command,
            )
        total = sum(count for _, count in self.left.values())
        return Change(counts=(("deliveries", "left"),) * total)


async def _room(store: Store, endpoints: Sequence[Endpoint], *, now: datetime) -> _Room:
    bounded = [one.id for one in endpoints if deliver.is_bounded(one, now=now)]
    return _Room(
        {
            one: max(0, _MOST_WAITING - await waiting(store, Queue.DELIVERIES, lanes.endpoint_lane(one)))
            for one in bounded
        }
    )


async def move(lane: str, items: Sequence[bytes]) -> Sent:
    """Move a lane's items to the queue of deliveries: the release before it queued them as `outgoing`."""
    appends = tuple(Append(queue=Queue.DELIVERIES, lane=lane, item=json.loads(item)) for item in items)
    return Sent(len(items), Change(appends=appends))


async def fan_out(store: Store, host: str, items: Sequence[bytes], *, now: datetime) -> Sent:
    """Hand the host's new events on to the lanes of the endpoints that want them; `items` only ring for that."""
    name = keys.fanout(host)
    found = (await load.fetch(store, names=[name])).records[name]
    before = found if isinstance(found, Fanout) else Fanout(host=host)
    events = await load.events(store, host, after=before.sequence, limit=_EVENTS_AT_ONCE)
    if not events:
        return Sent(len(items), Change())
    # After the events, so that whoever was added or enabled before one of them happened is found.
    endpoints = await endpoints_of(store, host)
    room = await _room(store, endpoints, now=now)
    appends: list[Append] = []
    reached = before.sequence
    for sequence, event in events:
        wanted = [one.id for one in endpoints if deliver.is_wanted(one, event, host=host)]
        if appends and len(appends) + len(wanted) > _APPENDS_AT_ONCE:
            break
        appends += [lanes.deliver(one, host, sequence) for one in wanted if room.take(one, event)]
        reached = sequence
    is_all = reached == events[-1][0] and len(events) < _EVENTS_AT_ONCE
    nobodys = min(
        (one.since.get(host, 0) for one in endpoints), default=0
    )  # from before any of them was added
    after = replace(before, sequence=max(reached, nobodys))
    put = Put(before if before.version else None, after)
    change = Change(puts=(put,), appends=tuple(appends)) + room.counted()
    return Sent(len(items) if is_all else 0, change)


async def endpoints_of(store: Store, host: str) -> list[Endpoint]:
    """The endpoints that get events of this host, the disabled ones too."""
    index = keys.endpoints(host)
    ids = (await load.newest(store, [index], limit=_MOST_ENDPOINTS))[index]
    records = (await load.fetch(store, names=[keys.endpoint(one) for one in ids])).records.values()
    return [one for one in records if isinstance(one, Endpoint)]


@dataclass(frozen=True, slots=True)
class Work:
    """One item of an endpoint's lane.

    Attributes:
        delivery: None: nothing is to be done, another item in hand is about the same one, or nothing is left of it.
        event: None: it is no longer kept.
    """

    delivery: Delivery | None
    event: Mapping[str, Any] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether there is something to deliver."""
        return self.delivery is not None and self.delivery.state is DeliveryState.PENDING


@dataclass(slots=True)
class Deliveries:
    """The deliveries of one endpoint's lane, while this worker has it.

    Attributes:
        public_url: where our links lead; "": they stay without a host.
        endpoint: as last loaded; None: it was removed, and its deliveries are dropped.
        endpoint_settled: as it will stand once the last `settle` is committed.
        work: what was loaded and not settled yet, by item.
        mean_ms: how long attempts take, the latest above all.
    """

    store: Store
    client: EndpointClient
    endpoint_id: str
    public_url: str
    clock: Callable[[], datetime]
    chance: Callable[[], float]
    endpoint: Endpoint | None = None
    endpoint_settled: Endpoint | None = None
    work: dict[bytes, Work] = field(default_factory=dict)
    mean_ms: float = 0

    @property
    def at_once(self) -> int:
        """How many attempts may be in flight: while the endpoint fails or is slow, one."""
        is_failing = self.endpoint is not None and self.endpoint.failing_since is not None
        return 1 if is_failing or self.mean_ms > _SLOW_MS else AT_ONCE

    async def prepare(self, items: Sequence[bytes]) -> Mapping[bytes, Call]:
        """Load what these items are about, and make of each an attempt; what needs none is ready at once."""
        await self.load(items)
        return {item: self._call(item) for item in items}

    async def load(self, items: Sequence[bytes]) -> None:
        """Load the endpoint, and the deliveries and events of these items.

        An item for which nothing was to be done stays so when it is loaded again: no attempt was made for it.
        """
        decoded = {item: json.loads(item) for item in items}
        idle = {item for item, one in self.work.items() if item in decoded and not one.is_pending}
        busy = {
            one.delivery.id
            for item, one in self.work.items()
            if one.delivery and one.is_pending and item not in decoded
        }
        wanted = {
            item: keys.delivery(delivery_id(self.endpoint_id, one["host"], one["sequence"]))
            for item, one in decoded.items()
        }
        own = keys.endpoint(self.endpoint_id)
        records = (await load.fetch(self.store, names=[own, *wanted.values()])).records
        endpoint = records[own]
        self.endpoint = endpoint if isinstance(endpoint, Endpoint) else None
        events = await self._events(decoded)
        for item, one in decoded.items():
            found = records[wanted[item]]
            delivery = found if isinstance(found, Delivery) else None
            event = events.get((one["host"], one["sequence"]))
            if delivery is None and event is not None:
                delivery = deliver.first(self.endpoint_id, event, host=one["host"], now=self.clock())
            is_twice = delivery is not None and delivery.id in busy
            work = Work(None if is_twice or item in idle else delivery, event)
            self.work[item] = work
            busy |= {work.delivery.id} if work.delivery and work.is_pending else set()

    async def _events(self, decoded: Mapping[bytes, Any]) -> Mapping[tuple[str, int], Mapping[str, Any]]:
        by_host: dict[str, list[int]] = {}
        for one in decoded.values():
            by_host.setdefault(one["host"], []).append(one["sequence"])
        found: dict[tuple[str, int], Mapping[str, Any]] = {}
        for host, sequences in by_host.items():
            for sequence, event in (await load.events_numbered(self.store, host, sequences)).items():
                found[host, sequence] = event
        return found

    def _call(self, item: bytes) -> Call:
        work = self.work[item]

        async def attempt() -> Tried:
            endpoint = self.endpoint  # as it is by now: it may wait behind others
            if endpoint is None or endpoint.disabled_reason is not None:
                return _not_tried
            if work.delivery is None or not work.is_pending or work.delivery.host not in endpoint.hosts:
                return _not_tried
            if work.event is None:
                lost = Attempt(at=self.clock(), duration_ms=0, error="the event is no longer kept")
                return Tried(attempt=lost, is_final=True)
            return await self._post(endpoint, work.event)

        return attempt

    async def _post(self, endpoint: Endpoint, event: Mapping[str, Any]) -> Tried:
        body = await self._body(endpoint, event)
        at = self.clock()
        headers = {**endpoint.headers, **_signed(endpoint, event["id"], body, now=at)}
        reply = await self.client.post(endpoint.url, body=body, headers=headers)
        self.mean_ms += _WEIGHT * (reply.duration_ms - self.mean_ms)
        attempt = Attempt(
            at=at, duration_ms=reply.duration_ms, status=reply.status, error=reply.error, answer=reply.answer
        )
        return Tried(attempt=attempt, retry_after_seconds=reply.retry_after_seconds)

    async def _body(self, endpoint: Endpoint, event: Mapping[str, Any]) -> bytes:
        data = linked(event["data"], self.public_url)
        if endpoint.includes_xml and "interaction_id" in data:
            data["xml"] = await self._xml(data["interaction_id"])
        envelope = {"type": event["type"], "timestamp": event["timestamp"], "data": data}
        return json.dumps(envelope, separators=(",", ":"), ensure_ascii=False).encode()

    async def _xml(self, interaction_id: str) -> str | None:
        name = keys.interaction(interaction_id)
        found = (await load.fetch(self.store, names=[name], originals=True)).records[name]
        is_kept = isinstance(found, Interaction) and found.original is not None
        return found.original.decode() if is_kept else None  # type: ignore[union-attr]  # is_kept says so

    def settle(self, done: Mapping[bytes, Tried]) -> Change:
        """Make of these attempts what is to be committed."""
        change = Change()
        before = after = self.endpoint
        for item, tried in done.items():
            delivery = self.work[item].delivery
            if after is None or before is None or delivery is None:
                continue
            if tried is _not_tried:
                if delivery.state is not DeliveryState.PENDING:
                    continue
                settled = deliver.undeliverable(delivery)
            else:
                after, settled, more = deliver.attempted(
                    after, delivery, tried, now=self.clock(), jitter=self.chance()
                )
                change += more + _timed(self.work[item], settled, now=self.clock())
                _tell(settled, tried)
            change += Change(puts=(Put(delivery if delivery.version else None, settled),))
        if before is None or after is None:
            return change
        self.endpoint_settled = before if before == after else replace(after, version=before.version + 1)
        return change + deliver.put(before, after)

    def forget(self, items: Sequence[bytes]) -> None:
        """Forget what was committed."""
        self.endpoint = self.endpoint_settled
        for item in items:
            self.work.pop(item, None)


_not_tried = Tried(attempt=Attempt(at=datetime.min, duration_ms=0))  # noqa: DTZ901 - never read


def _signed(endpoint: Endpoint, event_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
    """Sign with the secret, and while it is new with the old one too."""
    secrets = [endpoint.secret]
    if endpoint.old_secret and endpoint.old_secret_until and now < endpoint.old_secret_until:
        secrets.append(endpoint.old_secret)
    known = [decode_secret(one) for one in secrets]
    return headers_for(known, message_id=event_id, timestamp=int(now.timestamp()), body=body)


def _timed(work: Work, settled: Delivery, *, now: datetime) -> Change:
    """How long it took from the event, where the first attempt did it: the rest is the endpoint's time, not ours."""
    if work.event is None or settled.state is not DeliveryState.DELIVERED or settled.tries != 1:
        return Change()
    return Change(
        times=((Stage.DELIVERED, (now - datetime.fromisoformat(work.event["timestamp"])).total_seconds()),)
    )


def _tell(delivery: Delivery, tried: Tried) -> None:
    """Log one line for each attempt."""
    fields: dict[str, Any] = {
        "endpoint": delivery.endpoint_id,
        "delivery": delivery.id,
        "event": delivery.event_id,
        "type": delivery.event_type,
        "status": tried.attempt.status,
        "duration_ms": tried.attempt.duration_ms,
    }
    match delivery.state:
        case DeliveryState.DELIVERED:
            _log.info("delivered", **fields)
        case DeliveryState.PENDING:
            _log.warning(
                "a delivery failed and is tried again",
                reason=tried.attempt.error,
                next_at=str(delivery.next_at),
                **fields,
            )
        case DeliveryState.DEAD:
            _log.error(
                "a delivery is given up; when the endpoint works again: incident-bridge deliveries redeliver",
                reason=tried.attempt.error,
                **fields,
            )


async def dead(store: Store, endpoint_id: str, item: Mapping[str, Any]) -> Change:
    """Give up the delivery of an item over which workers die; one that was never stored stays in the stream only."""
    name = keys.delivery(delivery_id(endpoint_id, item["host"], item["sequence"]))
    found = (await load.fetch(store, names=[name])).records[name]
    if not isinstance(found, Delivery) or found.state is not DeliveryState.PENDING:
        return Change()
    return Change(puts=(Put(found, deliver.undeliverable(found)),))
