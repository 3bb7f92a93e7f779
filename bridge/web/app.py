"""The service process: three listeners and one watch over the store.

House rule: what is published (API, console) and what only Prosody may reach (ingest) never share a listener.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bridge import log
from bridge.clients.prosody import keys_of
from bridge.config import Address, Settings
from bridge.errors import ConfigError, ConflictError, UnavailableError
from bridge.pipeline import feed_read, publish, reconcile
from bridge.pipeline.abuse import forget_drafts
from bridge.pipeline.retain import empty_quarantine, forget_deliveries, trim_events
from bridge.policy.change import Change
from bridge.store import lanes, load
from bridge.store.commit import commit
from bridge.store.connect import check_durability, close, open_store
from bridge.web import health, ingest, lists
from bridge.web.api import table
from bridge.web.console import site
from bridge.web.problems import problems
from bridge.web.state import SERVICE, Service, end_streams
from bridge.webhooks.signature import MAX_BODY_BYTES

_log = log.get(__name__)

WATCH_SECONDS = 1.0
STORE_PATIENCE_SECONDS = 3.0
SWEEP_SECONDS = 60.0
LISTS_SECONDS = 3.0
_TIMER_ROUNDS = 50  # an endpoint that is down may have thousands; nobody else's are to wait for them
_MAX_LINE_BYTES = 65_536
_http_log = logging.getLogger("bridge.web.http")  # aiohttp's


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings):
        await stop.wait()
    return 0


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Service]:
    """Open the store and the listeners; everything is closed again when the block ends."""
    store = await open_store(settings.store_url(), patience_seconds=STORE_PATIENCE_SECONDS)
    try:
        durability = await check_durability(store, durability=settings.store.durability)
        service = Service(
            settings=settings,
            store=store,
            durability=durability,
            keys={name: keys_of(host) for name, host in settings.hosts.items()},
        )
        async with contextlib.AsyncExitStack() as stack:
            for address, add in _listeners(settings):
                await stack.enter_async_context(_listening(service, address, add))
            await look(service)
            for task in (watch(service), sweep(service), compare(service), keep_lists(service)):
                stack.push_async_callback(_end, asyncio.create_task(task))
            yield service
    finally:
        await close(store)


def _listeners(settings: Settings) -> list[tuple[Address, Callable[[web.Application], object]]]:
    return [
        (settings.server.ingest_listen, lambda app: app.add_routes(ingest.routes())),
        (settings.server.listen, _publish),
        (settings.server.metrics_listen, lambda app: app.router.add_get("/metrics", health.show_metrics)),
    ]


def _publish(app: web.Application) -> None:
    app.add_routes(table.routes())
    app.add_routes(lists.routes())
    site.add(app)


@contextlib.asynccontextmanager
async def _listening(
    service: Service, address: Address, add: Callable[[web.Application], object]
) -> AsyncIterator[None]:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[problems])
    app[SERVICE] = service
    app.add_routes(health.routes())
    add(app)
    app.on_shutdown.append(end_streams)
    # Longer than Prosody keeps an idle connection, so that it never writes into one that we just closed.
    # A query may hold the longest address there is, written in percent.
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_http_log,
        keepalive_timeout=300,
        shutdown_timeout=5,
        max_line_size=_MAX_LINE_BYTES,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror}; change [server] or stop what listens there"
        ) from error
    try:
        yield
    finally:
        await runner.cleanup()


def _without_bytes(record: logging.LogRecord) -> bool:
    """Say of what is not HTTP only that it came; aiohttp would show it, a token in it too, however long it is."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.msg, record.args, record.exc_info = f"not HTTP: {type(record.exc_info[1]).__name__}", (), None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


_http_log.addFilter(_without_bytes)


async def watch(service: Service) -> None:
    """Once a second: move due timers, start drains that nobody started, look at the store's health."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            await look(service)
        except Exception as error:  # noqa: BLE001 - an edge: the service must not go on unwatched
            service.problem, service.health = f"the watch failed ({error}); see the log", None
            _log.exception("the watch over the store failed; it goes on: report this as a bug")


async def sweep(service: Service) -> None:
    """Once a minute: delete what is too old; beside the watch, which must not wait where there is much of it."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            await sweep_once(service)
        except Exception:  # noqa: BLE001 - an edge: nothing would ever be deleted again
            _log.exception("what is too old could not be deleted; it goes on: report this as a bug")
        await asyncio.sleep(SWEEP_SECONDS)


async def sweep_once(service: Service) -> None:
    """Empty the hosts' quarantines of what is too old; delete deliveries and events that are."""
    store, kept, now = service.store, service.settings.retention, datetime.now(UTC)
    await _tried(forget_deliveries(store, days=kept.deliveries_days, now=now))
    for host in service.settings.hosts:
        await _tried(publish.forget_listings(store, host, now=now))
        await _tried(trim_events(store, host, days=kept.events_days, now=now))
        await _tried(forget_drafts(store, host, days=kept.abuse_days, now=now))
        days = kept.quarantine_days
        count = await _tried(empty_quarantine(store, host, days=days, now=now))
        if count:
            _log.info("quarantine emptied of what is too old", host=host, incidents=count, days=days)


async def compare(service: Service) -> None:
    """At the start and every few minutes: let a worker compare what is in force with what each Prosody has."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            await reconcile.begin(service.store, tuple(service.settings.hosts), now=datetime.now(UTC))
        except UnavailableError:
            continue  # it is begun once the store is back
        except Exception:  # noqa: BLE001 - an edge: what is undone by hand would never be noticed again
            _log.exception("mitigations could not be compared; it goes on: report this as a bug")
        await asyncio.sleep(reconcile.EVERY_SECONDS)


async def keep_lists(service: Service) -> None:
    """Every few seconds: let workers bring published lists up to date where they changed, and read others' lists."""
    while True:
        await asyncio.sleep(LISTS_SECONDS)
        try:
            await publish.begin(service.store, service.settings.hosts, now=datetime.now(UTC))
            await feed_read.begin(service.store, service.settings.hosts, now=datetime.now(UTC))
        except UnavailableError:
            continue  # it is done once the store is back
        except Exception:  # noqa: BLE001 - an edge: no list would ever change again
            _log.exception("lists could not be compared or read; it goes on: report this as a bug")


async def _tried(work: Awaitable[int]) -> int:
    """How much was done; the next sweep finds the rest again."""
    try:
        return await work
    except (ConflictError, UnavailableError):
        return 0


async def look(service: Service) -> None:
    """Do one round of the watch; a store that is away makes the service not ready until it is back."""
    try:
        for _ in range(_TIMER_ROUNDS):
            if await lanes.sweep_timers(service.store) < lanes.TIMERS_AT_ONCE:
                break
        await lanes.recover(service.store)
        times, service.times = service.times, []
        if times:
            await commit(service.store, Change(times=tuple(times)))
        health_now = await load.health(service.store)
    except UnavailableError as error:
        if service.health is not None:
            _log.error(
                "the store does not answer; incidents are answered wait until it does", reason=str(error)
            )
        service.problem = f"the store does not answer ({error}); see its log, or: incident-bridge check"
        service.health = None
        return
    if service.health is None:
        _log.info("the store answers")
    service.health = health_now


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
