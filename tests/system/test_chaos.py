"""Whatever dies, hangs, fills up or is cut off, under load: nothing acknowledged is lost, and nothing happens twice."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from deploy.servers import Authority, free_network
from tests.system.chaos import Chaos, schedule
from tests.system.chaos_count import Figures
from tests.system.servers import Lab

SEED = 3539  # within its first 12 faults every part is killed, alone and with all others
SECONDS = 40
LONG_ROUNDS = 2


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed given by `--seed`, else always the same."""
    given: int | None = request.config.getoption("--seed")
    return SEED if given is None else given


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print to the terminal whatever becomes of the test."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="")

    return tell


async def run(lab: Lab, seed: int, say: Callable[[str], None], **more: Any) -> Figures:
    """Play one seed and tell the figures."""
    say(f"chaos, to be repeated with --seed {seed}")
    async with Chaos.started(lab, seed=seed) as chaos:  # what happens is printed, and shown if it fails
        if chaos.disk is None:
            say("WITHOUT a full disk: no file system in a mount namespace is allowed here (unshare -rm)")
        found = await chaos.play(**more)
        say(found.line())
        assert found.faulty == {}, lab.logs()
        return found


def test_a_seed_always_makes_the_same_faults() -> None:
    assert schedule(7, rounds=2) == schedule(7, rounds=2) != schedule(8, rounds=2)


async def test_whatever_dies_nothing_acknowledged_is_lost_and_nothing_happens_twice(
    lab: Lab, seed: int, say: Callable[[str], None]
) -> None:
    found = await run(lab, seed, say, seconds=SECONDS)
    assert set(found.acknowledged) == {"report", "request", "inquiry"}
    assert found.faults > 5


@pytest.mark.long
async def test_seed_after_seed_until_the_time_is_over(
    request: pytest.FixtureRequest, authority: Authority, say: Callable[[str], None]
) -> None:
    given: int | None = request.config.getoption("--seed")
    ends_at = time.monotonic() + 60 * request.config.getoption("--long-minutes")
    seed = int(time.time()) if given is None else given
    while time.monotonic() < ends_at:
        lab = Lab(free_network(os.getpid() + 30), authority)
        await run(lab, seed, say, rounds=LONG_ROUNDS, seconds=ends_at - time.monotonic())
        seed += 1
