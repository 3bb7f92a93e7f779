"""A job can only drain, whatever somebody wrote into the store."""

import json
import zlib
from datetime import UTC, datetime

import pytest

from bridge.policy.change import Queue
from bridge.store import rq
from bridge.store.connect import Store


async def _job(store: Store) -> rq.SafeJob:
    await rq.wake(store, {Queue.INCIDENTS: "d1"})
    [job] = rq.job_queue(Queue.INCIDENTS, store.jobs).jobs
    assert isinstance(job, rq.SafeJob)
    return job


async def test_a_job_names_the_drain_and_two_words(store: Store) -> None:
    job = await _job(store)

    assert (job.func_name, tuple(job.args), job.kwargs) == (rq.DRAIN, ("incidents", "d1"), {})
    assert job.result_ttl == 0


@pytest.mark.parametrize("name", ["os.system", "subprocess.getoutput", "bridge.worker.jobs.asyncio.run"])
async def test_another_function_is_refused(store: Store, name: str) -> None:
    job = await _job(store)
    data = zlib.compress(json.dumps([name, None, ["true"], {}]).encode())
    await store.redis.hset(job.key, "data", data)

    planted = rq.SafeJob.fetch(job.id, connection=store.jobs, serializer=job.serializer)

    with pytest.raises(PermissionError, match=name):
        planted.perform()


async def test_planted_callbacks_and_webhooks_are_dropped(store: Store) -> None:
    job = await _job(store)
    planted = {
        "success_callback_name": "os.system",
        "failure_callback_name": "os.system",
        "stopped_callback_name": "os.system",
        "webhooks": json.dumps([{"url": "http://127.0.0.1:9/"}]),
        "dependency_ids": "x",
        "group_id": "g",
        "last_heartbeat": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    await store.redis.hset(job.key, mapping=planted)

    read = rq.SafeJob.fetch(job.id, connection=store.jobs, serializer=job.serializer)

    assert read.success_callback is None
    assert read.failure_callback is None
    assert read.stopped_callback is None
    assert not getattr(read, "webhooks", None)
    assert not read.dependency_ids
    assert read.group_id is None
