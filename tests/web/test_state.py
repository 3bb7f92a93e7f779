"""When the service says that it is not ready, and why."""

from typing import Any

import pytest

from bridge.config import Settings, StoreSettings
from bridge.policy.change import Queue
from bridge.store.connect import Durability
from bridge.store.load import LaneHealth, StoreHealth
from bridge.web.state import Service

LANES = {queue: LaneHealth(lanes=0, items=0, oldest_ready_age_seconds=None) for queue in Queue}


def service(*, seen: float | None = 1.0, used_bytes: int = 0, looked: bool = True) -> Service:
    store: Any = None
    made = Service(
        settings=Settings(store=StoreSettings(max_bytes=1000)),
        store=store,
        durability=Durability(mode="disk", problems=(), fix=()),
        keys={},
    )
    if looked:
        made.health = StoreHealth(
            used_bytes=used_bytes,
            max_bytes=None,
            workers_seen=dict.fromkeys(Queue, seen),
            lanes=LANES,
            counters={},
            set_aside=0,
        )
    return made


def test_with_a_store_and_workers_it_is_ready() -> None:
    assert service().reasons() == []


@pytest.mark.parametrize("seen", [None, 31.0])
def test_without_a_worker_it_says_which_to_start(seen: float | None) -> None:
    assert [word for reason in service(seen=seen).reasons() for word in reason.split()[-1:]] == list(Queue)


def test_a_full_store_is_not_ready_but_still_takes_what_others_answer_us() -> None:
    full = service(used_bytes=950)
    assert "store.max_bytes" in full.reasons()[0]
    assert full.unattended() == []
    assert service(used_bytes=949).reasons() == []


def test_until_the_first_look_it_is_starting() -> None:
    assert service(looked=False).reasons() == ["the service is starting"]
    assert service(looked=False).fill == 1.0
