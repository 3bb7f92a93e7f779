"""The one job there is: drain a queue. It runs in a process of its own, forked by the worker.

House rules: a job is one `asyncio.run` with connections of its own; whatever the store holds decides what is
done, the job's two arguments only say where.
"""

import asyncio
import contextlib
import os
import random
import resource
import signal
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, assert_never

import aiohttp

from bridge import config
from bridge.clients.endpoint import EndpointClient
from bridge.clients.prosody import ProsodyClient, keys_of
from bridge.pipeline import feed_read, mitigate, persons, publish
from bridge.pipeline.deliver_events import Deliveries, fan_out, move
from bridge.pipeline.process import process
from bridge.pipeline.recover import set_aside
from bridge.pipeline.send_stanzas import send_stanzas
from bridge.pipeline.sign_in import LANE as SIGN_IN
from bridge.pipeline.sign_in import send_code
from bridge.policy.change import Queue, Sent
from bridge.store import lanes, rq
from bridge.store.commit import Lease
from bridge.store.connect import Store, close, open_store
from bridge.worker.incidents import IncidentStories, drain_incidents
from bridge.worker.outgoing import GOODBYE_SECONDS, CourseKind, LaneKind, OutgoingStories, drain_outgoing

CONNECTIONS_AT_MOST: Final = 4096
_GIVE_WAY: Final = 15  # nice(2): with all cores busy, peers and operators come before other programs
END_SECONDS: Final = (
    GOODBYE_SECONDS + 5
)  # a drain told to end; with a store that is away it would go on and on


def drain(queue: str, drain_id: str) -> None:
    """Drain one queue; called by RQ.

    Args:
        queue: its name.
        drain_id: under which the job was reserved.
    """
    asyncio.run(_drain(Queue(queue), drain_id, config.load_settings()))


async def _drain(queue: Queue, drain_id: str, settings: config.Settings) -> None:
    stop = asyncio.Event()

    def end() -> None:
        stop.set()
        last_resort = threading.Timer(END_SECONDS, os._exit, (1,))
        last_resort.daemon = True
        last_resort.start()

    asyncio.get_running_loop().add_signal_handler(rq.STOP_SIGNAL, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {rq.STOP_SIGNAL})
    store = await open_store(settings.store_url())
    try:
        await _work(store, queue, drain_id, settings, stop)
    except BaseException:
        await lanes.hand_over(store, queue, drain_id)
        raise
    finally:
        await close(store)
        signal.pthread_sigmask(signal.SIG_BLOCK, {rq.STOP_SIGNAL})


async def _work(
    store: Store, queue: Queue, drain_id: str, settings: config.Settings, stop: asyncio.Event
) -> None:
    match queue:
        case Queue.INCIDENTS:
            decisions = IncidentStories(partial(process, rules=settings.policy), set_aside)
            await drain_incidents(store, drain_id, stop, decisions)
        case Queue.OUTGOING:
            async with aiohttp.ClientSession() as session:
                prosody = ProsodyClient(settings.hosts, session)
                await drain_outgoing(store, queue, drain_id, stop, _outgoing(store, prosody, settings))
        case Queue.DELIVERIES:
            give_way()
            raise_open_files()
            hooks = settings.webhooks
            async with EndpointClient(
                allow_networks=hooks.allow_networks,
                allow_http=hooks.allow_http,
                timeout_seconds=hooks.timeout_seconds,
                max_connections=CONNECTIONS_AT_MOST,
            ) as client:
                await drain_outgoing(store, queue, drain_id, stop, _deliveries(store, client, settings))
        case _:
            assert_never(queue)


def give_way() -> None:
    """Come after other work on this machine, where the system lets us say so; events are delivered all the same."""
    with contextlib.suppress(PermissionError):
        os.nice(_GIVE_WAY)


def raise_open_files() -> None:
    """Allow this process as many open files as the system lets it: each call to an endpoint is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 2 * CONNECTIONS_AT_MOST) if hard != resource.RLIM_INFINITY else 2 * CONNECTIONS_AT_MOST
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _outgoing(store: Store, prosody: ProsodyClient, settings: config.Settings) -> OutgoingStories:
    keys_by_host = {name: keys_of(host) for name, host in settings.hosts.items()}
    days = settings.policy.answer_page_days
    link = persons.links(settings.server.public_url, keys_by_host, days=days)

    async def send(lane: str, items: Sequence[bytes]) -> Sent:
        host = lane.partition(":")[2]
        return await send_stanzas(
            store, prosody, host, items, patience=settings.policy, now=datetime.now(UTC), link=link
        )

    async def approvals(lane: str, items: Sequence[bytes]) -> Sent:  # noqa: ARG001 - a Call
        return await mitigate.work(store, prosody, items, rules=settings.policy, now=datetime.now(UTC))

    async def lists(lane: str, items: Sequence[bytes]) -> Sent:  # noqa: ARG001 - a Call
        return await publish.work(store, prosody, items, hosts=settings.hosts, now=datetime.now(UTC))

    async def node(lane: str, items: Sequence[bytes]) -> Sent:  # noqa: ARG001 - a Call
        return await feed_read.read_node(store, prosody, items, now=lambda: datetime.now(UTC))

    async def sign_in(lane: str, items: Sequence[bytes]) -> Sent:  # noqa: ARG001 - a Call
        return await send_code(store, prosody, items, hosts=settings.hosts, now=datetime.now(UTC))

    kinds: dict[str, LaneKind | CourseKind] = {
        "host": LaneKind(call=send, items_per_call=64),
        "approval": LaneKind(call=approvals, items_per_call=1),
        "lists": LaneKind(call=lists, items_per_call=64),
        "feed": LaneKind(call=node, items_per_call=64),
        SIGN_IN: LaneKind(call=sign_in, items_per_call=1),
        "events": LaneKind(call=move, items_per_call=64),
        "endpoint": LaneKind(call=move, items_per_call=64),
    }
    return OutgoingStories(kinds=kinds, set_aside=partial(_set_aside, store))


def _deliveries(store: Store, client: EndpointClient, settings: config.Settings) -> OutgoingStories:
    async def fan(lane: str, items: Sequence[bytes]) -> Sent:
        return await fan_out(store, lane.partition(":")[2], items, now=datetime.now(UTC))

    def deliver(lane: str) -> Deliveries:
        return Deliveries(
            store=store,
            client=client,
            endpoint_id=lane.partition(":")[2],
            public_url=settings.server.public_url,
            clock=lambda: datetime.now(UTC),
            chance=random.random,  # jitter, no secret
        )

    async def page(lane: str, items: Sequence[bytes]) -> Sent:  # noqa: ARG001 - a Call
        return await feed_read.read_page(store, client, items, now=lambda: datetime.now(UTC))

    kinds: dict[str, LaneKind | CourseKind] = {
        "events": LaneKind(call=fan, items_per_call=64),
        "feed": LaneKind(call=page, items_per_call=64),
        "endpoint": CourseKind(open=deliver),
    }
    return OutgoingStories(kinds=kinds, set_aside=partial(_set_aside, store))


async def _set_aside(store: Store, lease: Lease) -> None:
    await set_aside(store, lease, now=datetime.now(UTC))
