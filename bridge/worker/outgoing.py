"""The drain of `outgoing` and of `deliveries`: a task for each lane, so that one that hangs delays nobody else.

House rules: calls to one lane's target never overlap; a task is never cancelled, it is told to give up, and then
gives its lane back; a lease is renewed only while its task lives, and known by its token.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from bridge import log
from bridge.errors import ConflictError, UnavailableError
from bridge.policy.change import Change, Queue, Sent
from bridge.store import lanes
from bridge.store.commit import Lease, StaleError, commit, finished
from bridge.store.connect import Store
from bridge.worker.bell import Bell

_log = log.get(__name__)

DEATHS_ALONE: Final = 5  # then the items are set aside
SHIFT_SECONDS: Final = 20  # with nothing in hand
LONGEST_SHIFT_SECONDS: Final = 600
GOODBYE_SECONDS: float = 5  # how long calls in flight may go on once the drain ends
LANES_AT_MOST: Final = 4096  # one that hangs holds its place for 15 s
_RETRY_SECONDS: Final = 1
_UNKNOWN_SECONDS: Final = 5
_STALE_TRIES: Final = 5
_COMPLAIN_SECONDS: Final = 60


class Call(Protocol):
    """Carry out these items of a lane, from the first, as many as one call takes; at least one.

    `UnavailableError`: nothing was carried out, or it does no harm to do it again.
    """

    def __call__(self, lane: str, items: Sequence[bytes]) -> Awaitable[Sent]: ...  # noqa: D102


class Course(Protocol):
    """The work on one lane's items, each by a call of its own, several at once; made anew for each lease.

    Attributes:
        at_once: how many calls may be in flight now.
    """

    @property
    def at_once(self) -> int: ...  # noqa: D102

    def prepare(self, items: Sequence[bytes]) -> Awaitable[Mapping[bytes, Callable[[], Awaitable[Any]]]]:
        """Load what these items need, and return the call for each."""

    def load(self, items: Sequence[bytes]) -> Awaitable[None]:
        """Load anew what these items need, after somebody else changed it."""

    def settle(self, done: Mapping[bytes, Any]) -> Change:
        """Say what is to be committed about the results of these calls."""

    def forget(self, items: Sequence[bytes]) -> None:
        """Forget these, they are committed."""


class SetAside(Protocol):
    """Commit that the one item of this lease is given up, visibly."""

    def __call__(self, lease: Lease) -> Awaitable[None]: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneKind:
    """How the lanes whose name begins with this kind's word and a colon are worked.

    Attributes:
        items_per_call: how many items go into one call.
    """

    call: Call
    items_per_call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseKind:
    """How lanes are worked whose items need no order: `open` starts the work on one of them."""

    open: Callable[[str], Course]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingStories:
    """What is done with items; handed in by `jobs`. `kinds` is keyed by the word before the colon in a lane's name."""

    kinds: Mapping[str, LaneKind | CourseKind]
    set_aside: SetAside


@dataclass(slots=True)
class _Held:
    lease: Lease
    task: asyncio.Task[None]
    give_up: asyncio.Event


@dataclass(slots=True)
class _Hand:
    """The lanes in this drain's hand, by token.

    Attributes:
        must_empty: the drain ends, or a lane waits that is to be tried alone: lanes are given back after the call
            in flight.
    """

    store: Store
    queue: Queue
    drain: str
    must_empty: bool = False
    held: dict[str, _Held] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    complaints: dict[str, tuple[str, float]] = field(default_factory=dict)

    def add(self, lease: Lease, task: asyncio.Task[None], give_up: asyncio.Event) -> None:
        self.held[lease.token] = _Held(lease, task, give_up)
        task.add_done_callback(lambda _: self._remove(lease.token))

    def _remove(self, token: str) -> None:
        del self.held[token]
        self.changed.set()

    def complain(self, lane: str, reason: str) -> None:
        """Log that a call is put off: once, and again when the reason changes or a minute has passed."""
        now = asyncio.get_running_loop().time()
        known, since = self.complaints.get(lane, ("", 0.0))
        if known != reason or now - since > _COMPLAIN_SECONDS:
            self.complaints[lane] = (reason, now)
            _log.warning("a call is put off until this is mended", lane=lane, reason=reason)

    def living(self) -> list[Lease]:
        return [each.lease for each in self.held.values() if not each.task.done()]


async def drain_outgoing(
    store: Store, queue: Queue, drain: str, stop: asyncio.Event, stories: OutgoingStories
) -> None:
    """Take lanes and start a task for each, until there is nothing to do for a while, or `stop`, or the shift ends."""
    hand = _Hand(store, queue, drain)
    renewing = asyncio.create_task(_renew(hand))
    stopping = asyncio.create_task(stop.wait())
    try:
        async with Bell(store, queue) as bell:
            is_finished = await _admit(hand, stories, bell, stopping, renewing)
        if not is_finished:
            await _say_goodbye(hand, seconds=GOODBYE_SECONDS)
            await lanes.hand_over(store, queue, drain)
    finally:
        await _say_goodbye(hand, seconds=0)
        renewing.cancel()
        stopping.cancel()
        await asyncio.gather(renewing, stopping, return_exceptions=True)


async def _admit(
    hand: _Hand,
    stories: OutgoingStories,
    bell: Bell,
    stopping: asyncio.Task[bool],
    renewing: asyncio.Task[None],
) -> bool:
    """Admit lanes; True: this drain ended, False: it must hand over."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    while not stopping.done():
        age = loop.time() - started_at
        if age > LONGEST_SHIFT_SECONDS or (age > SHIFT_SECONDS and not hand.held):
            return False
        if renewing.done():
            renewing.result()  # raises what ended it
        hand.changed.clear()
        if await _take(hand, stories):
            continue
        changed = asyncio.create_task(hand.changed.wait())
        rang = await bell.wait((stopping, renewing, changed))
        changed.cancel()
        if not rang and not hand.held and await lanes.finish(hand.store, hand.queue, hand.drain):
            return True
    return False


async def _take(hand: _Hand, stories: OutgoingStories) -> bool:
    """Take what there is room for; returns whether it is worth while to take again at once."""
    room = LANES_AT_MOST - len(hand.held)
    if room <= 0:
        return False
    taken = await lanes.take(
        hand.store, hand.queue, hand.drain, max_lanes=min(room, 64), is_idle=not hand.held
    )
    for lease in taken.leases:
        _start(hand, lease, stories)
    hand.must_empty = taken.more and not taken.leases
    return bool(taken.leases) and taken.more and not taken.alone


def _start(hand: _Hand, lease: Lease, stories: OutgoingStories) -> None:
    for each in hand.held.values():
        if each.lease.lane == lease.lane:
            each.give_up.set()  # its lease ran out and came back to us
    give_up = asyncio.Event()
    task = asyncio.create_task(_work_lane(hand, lease, stories, give_up))
    hand.add(lease, task, give_up)


async def _work_lane(hand: _Hand, lease: Lease, stories: OutgoingStories, give_up: asyncio.Event) -> None:
    """Work one lane until it is empty, its target is away, or `give_up`; then it is given back."""
    try:
        story = stories.kinds.get(lease.lane.partition(":")[0])
        if story is None:  # a newer release queued it, whose workers take it when its turn comes again
            hand.complain(lease.lane, "this release does not know such work: update this worker")
            await lanes.release(hand.store, lease, delay_seconds=_UNKNOWN_SECONDS)
        elif lease.deaths_alone >= DEATHS_ALONE:
            await stories.set_aside(lease)
        else:
            match story:
                case LaneKind() as kind:
                    await _call_and_commit(hand, lease, kind, give_up)
                case CourseKind() as kind:
                    await Run(hand, lease, kind.open(lease.lane), give_up).run()
    except UnavailableError as error:
        delay_seconds = error.retry_after_seconds
        hand.complain(lease.lane, str(error))
        await lanes.release(hand.store, lease, delay_seconds=delay_seconds)
    except ConflictError:
        await lanes.release(hand.store, lease, delay_seconds=_RETRY_SECONDS)
    except Exception:  # noqa: BLE001 a worker is an edge: the lane is tried again, and in the end set aside
        _log.exception("a lane failed", lane=lease.lane, tries=lease.tries)
        await lanes.release_failed(hand.store, lease, delay_seconds=_RETRY_SECONDS)


async def _call_and_commit(hand: _Hand, lease: Lease, kind: LaneKind, give_up: asyncio.Event) -> None:
    items = lease.items[: kind.items_per_call]
    while items and not give_up.is_set():
        sent = await _unless(give_up, kind.call(lease.lane, items))
        if sent is None:
            break
        keep = None if hand.must_empty else kind.items_per_call
        done = finished(lease, items[: sent.count])
        committed = await commit(hand.store, sent.change, leases=(done,), keep=keep)
        if keep is None:
            return
        items = committed.next_items[0]
    if items:
        await lanes.release(hand.store, lease)


@dataclass(slots=True)
class Run:
    """One lease of a lane whose items are worked several at once; results are committed together as they come.

    Attributes:
        ready: items that may be called, in order.
        flights: the calls in flight.
        done: results not committed yet.
        settling: the commit in flight; it brings the next items.
        is_over: the lane was given back with the last commit.
    """

    hand: _Hand
    lease: Lease
    course: Course
    give_up: asyncio.Event
    ready: dict[bytes, Callable[[], Awaitable[Any]]] = field(default_factory=dict)
    flights: dict[asyncio.Future[Any], bytes] = field(default_factory=dict)
    done: dict[bytes, Any] = field(default_factory=dict)
    settling: asyncio.Task[None] | None = None
    is_over: bool = False

    async def run(self) -> None:
        """Work until the lane is empty, or it must be given back."""
        giving_up = asyncio.create_task(self.give_up.wait())
        try:
            self.ready.update(await self.course.prepare(self.lease.items))
            while not self.is_over and not self.give_up.is_set():
                self._start()
                waiting = {*self.flights, *((self.settling,) if self.settling else ())}
                if not waiting:
                    break
                await asyncio.wait({*waiting, giving_up}, return_when=asyncio.FIRST_COMPLETED)
                self._collect()
        finally:
            for task in (giving_up, *self.flights):
                task.cancel()
            settling = (self.settling,) if self.settling else ()  # it ends by itself, soon
            await asyncio.gather(giving_up, *self.flights, *settling, return_exceptions=True)
        if not self.is_over:
            await lanes.release(self.hand.store, self.lease)

    def _start(self) -> None:
        """Start what may be in flight, and a commit if there is something to commit."""
        room = 0 if self.hand.must_empty else self.course.at_once - len(self.flights)
        for item in list(self.ready)[: max(0, room)]:
            self.flights[asyncio.ensure_future(self.ready.pop(item)())] = item
        if self.done and self.settling is None:
            done, self.done = self.done, {}
            self.settling = asyncio.create_task(self._settle(done))

    def _collect(self) -> None:
        for task in [task for task in self.flights if task.done()]:
            self.done[self.flights.pop(task)] = task.result()
        if self.settling is not None and self.settling.done():
            settling, self.settling = self.settling, None
            settling.result()

    async def _settle(self, done: Mapping[bytes, Any]) -> None:
        """Commit these results, and take up the lane's next items."""
        items = tuple(done)
        for left in reversed(range(_STALE_TRIES)):
            try:
                keep = (
                    None
                    if self.hand.must_empty and not self.flights
                    else lanes.RULES[self.hand.queue].items_per_lane
                )
                lease = finished(self.lease, items)
                committed = await commit(
                    self.hand.store, self.course.settle(done), leases=(lease,), keep=keep
                )
                break
            except StaleError:
                if not left:
                    raise
                await self.course.load(items)
        self.course.forget(items)
        self.is_over = keep is None or committed.left[0] == 0
        known = {*self.ready, *self.flights.values(), *self.done}
        following = [item for item in committed.next_items[0] if item not in known]
        if not self.is_over:  # also where nothing new came: what all of them depend on may have changed
            self.ready.update(await self.course.prepare(following))


async def _unless(give_up: asyncio.Event, call: Awaitable[Sent]) -> Sent | None:
    """The call's result; None if it was given up before."""
    calling = asyncio.ensure_future(call)
    giving_up = asyncio.create_task(give_up.wait())
    try:
        await asyncio.wait({calling, giving_up}, return_when=asyncio.FIRST_COMPLETED)
        return calling.result() if calling.done() else None
    finally:
        giving_up.cancel()
        if not calling.done():
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)


async def _renew(hand: _Hand) -> None:
    """Renew the leases of tasks that live; a lost one is told to give up."""
    while True:
        await asyncio.sleep(lanes.RENEW_SECONDS)
        lost = await lanes.renew(hand.store, hand.queue, hand.drain, hand.living())
        for token in lost & hand.held.keys():
            hand.held[token].give_up.set()


async def _say_goodbye(hand: _Hand, *, seconds: float) -> None:
    """Let calls in flight end, then have the rest given up; their items are tried again under the same ids."""
    hand.must_empty = True
    tasks = [each.task for each in hand.held.values()]
    if tasks and seconds:
        await asyncio.wait(tasks, timeout=seconds)
    for each in list(hand.held.values()):
        each.give_up.set()
    await asyncio.gather(*tasks, return_exceptions=True)
