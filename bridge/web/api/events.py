"""`events`: the same events as webhooks, for consumers that cannot be reached; by pages, or as they happen.

House rules: the cursor is the event's `sequence`, so whoever keeps the last one loses nothing within retention, and
is told what retention took; what a filter leaves out moves the cursor too.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from bridge import log
from bridge.errors import UnavailableError
from bridge.pipeline import tokens
from bridge.policy.consumers import QuarantineFilter, Scope, Token
from bridge.store import keys, load
from bridge.web.api.model import Domain, Out, Query
from bridge.web.api.router import Answer, Call, Route, invalid
from bridge.web.problems import FieldError, ProblemError
from bridge.web.streams import Feed
from bridge.webhooks.event import EventType, linked
from bridge.webhooks.subscription import wants

_log = log.get(__name__)

TAG: Final = "events"
STREAM: Final = "text/event-stream"
NOW: Final = "now"
_AT_ONCE: Final = 100
_MOST_PAGES: Final = 10
_MOST_BYTES: Final = 4 * 1024 * 1024
_RETRY_MILLISECONDS: Final = 5000
_NUMBER: Final = r"[0-9]{1,15}"


class EventsQuery(Query):
    """Which events, from where on."""

    host: Domain | None = Field(default=None, description="Whose; needed where the token sees several.")
    after: Annotated[str, Field(pattern=f"^(now|{_NUMBER})$")] | None = Field(
        default=None,
        description="`next` of the answer before, or the `sequence` of the last event you have; 0: from the first "
        "ever; `now`: what happens from now on. Left out: from the oldest that is kept.",
    )
    limit: int = Field(default=50, ge=1, le=200, description="At most so many; there may be fewer.")
    type: EventType | None = None
    peer: Domain | None = Field(default=None, description="Only what concerns this server.")
    quarantined: QuarantineFilter = Field(
        default=QuarantineFilter.EXCLUDE, description="What strangers sent, as with endpoints."
    )
    wait_seconds: int = Field(
        default=0,
        ge=0,
        le=60,
        description="If there is nothing, wait so long for something; not for streams.",
    )

    def wants(self, event: dict[str, Any]) -> bool:
        """Whether this event is asked for."""
        types = () if self.type is None else (self.type,)
        peers = () if self.peer is None else (self.peer,)
        return wants(types, peers, (), self.quarantined, event)


class EventView(Out):
    """An event, as a webhook has it in its body, with its id."""

    id: str = Field(description="What a delivery has as `webhook-id`.")
    type: str
    timestamp: datetime
    data: dict[str, Any] = Field(description="See `/api/v1/schemas`.")


class Missed(Out):
    """Events that are no longer kept, by their `sequence`."""

    first: int = Field(alias="from")
    last: int = Field(alias="to")


class EventPage(Out):
    """Events, the oldest first."""

    events: tuple[EventView, ...]
    next: int = Field(description="Give it as `after` to go on.")
    more: bool = Field(description="Whether there is more already.")
    missed: Missed | None = Field(description="What came after `after` and is no longer kept.")


@dataclass(slots=True)
class _Reading:
    """Events as they are read.

    Attributes:
        after: the sequence of the last one looked at.
        is_all: nothing newer was there.
    """

    after: int
    events: list[tuple[int, str, str]]
    missed: tuple[int, int] | None = None
    is_all: bool = False

    def skip_to(self, sequence: int) -> None:
        """Note which came in between and are no longer kept."""
        if sequence > self.after + 1:
            first = self.after + 1 if self.missed is None else self.missed[0]
            self.missed, self.after = (first, sequence - 1), sequence - 1


async def _read(call: Call, host: str, after: int) -> _Reading:
    """Read the next events that are asked for; as many as are asked for, unless they are large or hard to find."""
    query: EventsQuery = call.query
    reading, size = _Reading(after=after, events=[]), 0
    for _ in range(_MOST_PAGES):
        rows = await load.events(call.store, host, after=reading.after, limit=_AT_ONCE)
        if not rows:
            reading.skip_to((await load.event_bounds(call.store, host))[0])
        for sequence, event in rows:
            reading.skip_to(sequence)
            reading.after = sequence
            if query.wants(event):
                event["data"] = linked(event["data"], call.service.settings.server.public_url)
                text = json.dumps(event, separators=(",", ":"))
                reading.events.append((sequence, event["type"], text))
                size += len(text)
            if len(reading.events) >= query.limit or size > _MOST_BYTES:
                return reading
        if len(rows) < _AT_ONCE:
            reading.is_all = True
            return reading
    return reading


async def _start(call: Call, host: str, *, is_stream: bool) -> int:
    """After which event to begin."""
    given, field, kind = call.query.after, "after", "invalid-query"
    last_id = call.request.headers.get("Last-Event-ID", "").strip()
    if is_stream and last_id:
        if not (last_id.isascii() and last_id.isdigit() and len(last_id) <= 15):  # noqa: PLR2004 - as `after`
            detail = "is not the id of an event of this stream"
            raise ProblemError(
                "bad-request",
                f"Last-Event-ID: {detail}",
                errors=(FieldError("Last-Event-ID", detail),),
            )
        given, field, kind = last_id, "Last-Event-ID", "bad-request"
    oldest, newest = await load.event_bounds(call.store, host)
    if given is None:
        return oldest - 1
    if given == NOW:
        return newest
    if int(given) > newest:
        raise invalid(
            field,
            f"is newer than the newest event of {host} ({newest}), so it is from another host or another store; "
            "begin anew without it",
            kind=kind,
        )
    return int(given)


async def _is_good(call: Call) -> bool:
    """Whether the token is neither revoked nor expired meanwhile."""
    name = keys.token(call.token.id)
    found = (await load.fetch(call.store, names=[name])).records[name]
    return isinstance(found, Token) and tokens.is_good(found, now=datetime.now(UTC))


def _is_over(call: Call) -> bool:
    """Whether the service ends, or nobody reads any more."""
    transport = call.request.transport
    return call.service.streams.is_closing or transport is None or transport.is_closing()


@contextlib.contextmanager
def _place(call: Call) -> Iterator[None]:
    settings = call.service.settings.server
    with call.service.streams.place(
        call.token.id, most=settings.event_connections, most_per_token=settings.event_connections_per_token
    ):
        yield


async def list_events(call: Call) -> Answer | web.StreamResponse:
    """Events after a cursor, or a stream of them."""
    host = call.one_host(call.query.host, kind="invalid-query")
    accepted = call.request.headers.get("Accept", "").casefold()
    is_head = call.request.method == "HEAD"
    is_stream = not is_head and any(one.partition(";")[0].strip() == STREAM for one in accepted.split(","))
    after = await _start(call, host, is_stream=is_stream)
    if is_stream:
        with _place(call):
            return await _stream(call, host, after)
    reading = await _read(call, host, after)
    if call.query.wait_seconds and not is_head and not (reading.events or reading.missed):
        with _place(call):
            reading = await _wait(call, host, reading.after)
    return Answer(raw=_page(reading))


def _page(reading: _Reading) -> bytes:
    missed = reading.missed and {"from": reading.missed[0], "to": reading.missed[1]}
    rest = json.dumps({"next": reading.after, "more": not reading.is_all, "missed": missed})
    events = ",".join(text for _, _, text in reading.events)
    return f'{{"events":[{events}],{rest[1:]}'.encode()


async def _wait(call: Call, host: str, after: int) -> _Reading:
    """Read until there is something, or it took long enough."""
    streams, clock = call.service.streams, asyncio.get_running_loop().time
    end = clock() + call.query.wait_seconds
    async with streams.listening(call.store, host) as feed:
        while True:
            await feed.wait(after, max(0.0, min(end - clock(), streams.pace.check_seconds)))
            if not await _is_good(call):
                raise ProblemError("unauthorized", "the token was revoked or expired while it waited")
            reading = await _read(call, host, after)
            if reading.events or reading.missed or clock() >= end or _is_over(call):
                return reading
            after = reading.after


@dataclass(slots=True)
class _Out:
    """A stream to one consumer.

    Attributes:
        wrote_at: when it last took something.
    """

    response: web.StreamResponse
    write_seconds: float
    wrote_at: float = 0.0

    async def write(self, text: str) -> None:
        """Write, and wait until it is on its way."""
        async with asyncio.timeout(self.write_seconds):
            await self.response.write(text.encode())
        self.wrote_at = asyncio.get_running_loop().time()


async def _stream(call: Call, host: str, after: int) -> web.StreamResponse:
    """Server-sent events until the consumer goes, its token is no longer good, or the service ends."""
    streams = call.service.streams
    headers = {
        "Content-Type": STREAM,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Accel-Buffering": "no",
    }
    response = web.StreamResponse(headers=headers)
    try:
        async with streams.listening(call.store, host) as feed:
            await response.prepare(call.request)
            await _send_all(call, host, after, feed, _Out(response, streams.pace.write_seconds))
    except ConnectionError:
        pass  # it went
    except TimeoutError:
        _log.info("a stream of events is dropped: its reader takes nothing", token=call.token.name, host=host)
        if call.request.transport is not None:
            call.request.transport.abort()
    except UnavailableError as error:
        _log.warning("a stream of events ends: the store does not answer", reason=str(error), host=host)
    except Exception:  # noqa: BLE001 - an edge: a stream that has begun cannot answer with a problem
        _log.exception("a stream of events failed; report this as a bug", host=host)
    return response


async def _send_all(call: Call, host: str, after: int, feed: Feed, out: _Out) -> None:
    streams, clock = call.service.streams, asyncio.get_running_loop().time
    pace, checked_at = streams.pace, clock()
    await out.write(f"retry: {_RETRY_MILLISECONDS}\n\n")
    while not _is_over(call):
        reading = await _read(call, host, after)
        if reading.missed:
            first, last = reading.missed
            await out.write(f'id: {last}\nevent: missed\ndata: {{"from":{first},"to":{last}}}\n\n')
        for sequence, event_type, text in reading.events:
            await out.write(f"id: {sequence}\nevent: {event_type}\ndata: {text}\n\n")
        after = reading.after
        if reading.is_all:
            await feed.wait(after, max(0.0, checked_at + pace.check_seconds - clock()))
        if clock() - checked_at >= pace.check_seconds:
            newest = (await load.event_bounds(call.store, host))[1]
            if newest < after or not await _is_good(call):
                return  # another store, or not for this token any more; whoever comes again is told
            checked_at = clock()
        if clock() - out.wrote_at >= pace.keep_alive_seconds:
            await out.write(f": keep-alive\nid: {after}\n\n")


ROUTES: Final = (
    Route(
        method="GET",
        path="/events",
        scope=Scope.READ,
        handler=list_events,
        summary="Events after a cursor, the oldest first; or a stream of them",
        description="The same events as webhooks. Keep `next` and give it as `after`: within `retention.events_days` "
        "nothing is lost, and what was is told in `missed`. With `wait_seconds` the answer comes when something "
        "happens. With `Accept: text/event-stream` they come as server-sent events: `id` is the `sequence`, `event` "
        "the type, `Last-Event-ID` is honoured before `after`; an event `missed` tells `{from, to}`. Connections that "
        "wait are few (`server.event_connections`): 429 or 503 beyond.",
        tag=TAG,
        query=EventsQuery,
        answer=EventPage,
        is_stream=True,
    ),
)
