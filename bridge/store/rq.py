"""RQ as this project uses it: a few queues, one kind of job, nothing else of what RQ can do.

House rules: a job names a function and two words, never a document; no Retry, no scheduler, no `unique`; only
the function in `ALLOWED` ever runs, whatever stands in the store.
"""

import asyncio
import gc
import os
import signal
import uuid
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from rq import Queue as JobQueue
from rq import Worker
from rq.job import Job

from bridge import log
from bridge.errors import StoreConfigError, UnavailableError
from bridge.policy.change import Queue
from bridge.store import codec
from bridge.store.connect import PATIENCE_SECONDS, Script, Store, job_connection, script_text
from bridge.store.parent import signal_when_parent_dies
from bridge.store.place import read, shown

_log = log.get(__name__)

DRAIN: Final = "bridge.worker.jobs.drain"
ALLOWED: Final = frozenset({DRAIN})
STOP_SIGNAL: Final = signal.SIGUSR1  # to the process that drains: hand over
WORKER_SEEN_SECONDS: Final = 40  # a worker shows itself every 15 s while idle, every 10 s while it drains
_FORGET_WORKER_SECONDS: Final = 86400
_JOB_TIMEOUT_SECONDS: Final = 900  # above the longest drain (600 s) and its end
_FAILED_JOB_SECONDS: Final = 3600
_ENQUEUE_SECONDS: Final = 1
_TTL_SECONDS: Final = 30  # an idle worker blocks for 15 s less
# With Sentinel: blocks for 2 s, and a primary that is frozen or cut off holds it up for 4 s.
_SHORT_TTL_SECONDS: Final = 17
_SHORT_PATIENCE_SECONDS: Final = 4


class SafeJob(Job):
    """A job that runs only what we allow; RQ itself would run any function, and call any URL, named in the store."""

    @property
    def func(self) -> Any:
        """The allowed function."""
        if self.func_name not in ALLOWED:
            raise PermissionError(f"a job may not call {self.func_name!r}")
        return super().func

    def restore(self, raw_data: dict[bytes, Any]) -> Any:
        """Read the job, without the fields that make RQ call something else."""
        for name in (
            b"success_callback_name",
            b"failure_callback_name",
            b"stopped_callback_name",
            b"webhooks",
            b"dependency_ids",
            b"group_id",
        ):
            raw_data.pop(name, None)
        return super().restore(raw_data)


def job_queue(queue: Queue, connection: redis.Redis) -> JobQueue:
    """RQ's queue of this name."""
    return JobQueue(str(queue), connection=connection, serializer="json", job_class=SafeJob)


def list_key(store: Store, queue: Queue) -> str:
    """The key of RQ's list of waiting jobs; only its length is ever asked."""
    key: str = job_queue(queue, store.jobs).key
    return key


def new_drain() -> str:
    """A name for a drain that nobody has used yet."""
    return uuid.uuid4().hex


async def wake(store: Store, drains: dict[Queue, str]) -> None:
    """Enqueue one job for each queue, under the drain id that a script reserved.

    What is committed stays committed if this fails: `recover` then enqueues within a second or so.
    """
    for queue, drain in drains.items():
        try:
            async with asyncio.timeout(_ENQUEUE_SECONDS):
                await asyncio.to_thread(_enqueue, store, queue, drain)
        except (redis.exceptions.RedisError, TimeoutError) as error:
            _log.warning("a job could not be enqueued, recover will", queue=queue, error=str(error))


def _enqueue(store: Store, queue: Queue, drain: str) -> None:
    job_queue(queue, store.jobs).enqueue(
        DRAIN,
        str(queue),
        drain,
        job_id=f"drain-{drain}",
        job_timeout=_JOB_TIMEOUT_SECONDS,
        result_ttl=0,
        failure_ttl=_FAILED_JOB_SECONDS,
        description=f"drain {queue}",
    )


class DrainWorker(Worker):
    """RQ's forking worker for one queue: shows itself, and passes a wish to stop on to the process that drains."""

    log_result_lifespan = False

    @property
    def connection_timeout(self) -> int:
        """What RQ would raise the connection's timeout to; `_worker` knows better."""
        return self.dequeue_timeout

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Tell RQ, and ourselves, that this worker lives."""
        super().heartbeat(timeout, pipeline=pipeline)
        show = self.connection.register_script(script_text("seen"))
        show(args=[self.queues[0].name, self.name, _FORGET_WORKER_SECONDS * 1000])

    def execute_job(self, job: Any, queue: Any) -> None:
        """Have everything that reads and writes records ready before the fork, for this drain and all after it."""
        codec.prepare()
        super().execute_job(job, queue)

    def register_death(self) -> None:
        """Take this worker off both lists; it goes off them by itself if the store is gone first."""
        try:
            self.connection.zrem(f"ib:workers:{self.queues[0].name}", self.name)
            super().register_death()  # type: ignore[no-untyped-call] # RQ has no types here
        except redis.exceptions.RedisError as error:
            _log.info("the store did not hear of this worker's end", worker=self.name, error=str(error))

    def request_stop(self, signum: Any, frame: Any) -> None:
        """End, without the patience for a store that is away: it may have gone for good, and we are awaited."""
        self.connection.set_retry(Retry(NoBackoff(), 1))
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call] # RQ has no types here

    def handle_warm_shutdown_request(self) -> None:
        """Ask the drain to hand over; RQ waits for its end."""
        if self.horse_pid:
            try:
                os.kill(self.horse_pid, STOP_SIGNAL)
            except ProcessLookupError:
                return

    def setup_work_horse_signals(self) -> None:
        """Should the worker die, the drain hands over soon instead of living on alone."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call] # RQ has no types here
        signal_when_parent_dies(STOP_SIGNAL)


def work(url: str, queue: Queue) -> None:
    """Be a worker of this queue until SIGTERM or SIGINT.

    Raises:
        UnavailableError: the store does not answer; the supervisor starts a worker again.
        StoreConfigError: it refuses us.
    """
    # Blocked here and unblocked by the drain once it listens: a signal in between waits instead of killing it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {STOP_SIGNAL})
    for script in Script:
        script_text(script)
    gc.freeze()  # what is loaded now is shared with every drain, as long as nobody's collector touches it
    try:
        _worker(url, queue).work(logging_level="WARNING", with_scheduler=False)
    except redis.exceptions.AuthenticationError as error:
        raise StoreConfigError(
            f"the store at {shown(url)} refuses the name or password in store.url"
        ) from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise UnavailableError(f"the store at {shown(url)} does not answer: {error}") from error


def _worker(url: str, queue: Queue) -> DrainWorker:
    has_sentinels = bool(read(url).sentinels)
    connection = job_connection(url, seconds=_SHORT_PATIENCE_SECONDS if has_sentinels else PATIENCE_SECONDS)
    return DrainWorker(
        [job_queue(queue, connection)],
        connection=connection,
        job_class=SafeJob,
        serializer="json",
        worker_ttl=_SHORT_TTL_SECONDS if has_sentinels else _TTL_SECONDS,
        maintenance_interval=60,
        job_monitoring_interval=10,
        log_job_description=False,
    )
