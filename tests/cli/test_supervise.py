"""A tree of processes starts in order, restarts who dies, and stops in the other order."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from bridge.cli.supervise import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Child,
    Running,
    Tree,
    watched_signals,
)
from bridge.errors import ConfigError


@dataclass
class Process:
    """A process that ends when the test says so."""

    name: str
    log: list[str]
    pid: int = 0
    code: int | None = None
    listens: bool = True

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.log.append(f"terminate {self.name}")
        if self.listens and self.code is None:
            self.code = 0

    def kill(self) -> None:
        self.log.append(f"kill {self.name}")
        self.code = -9


@dataclass
class World:
    """Children that note what happens to them."""

    log: list[str] = field(default_factory=list)
    alive: dict[str, Process] = field(default_factory=dict)
    fails: bool = False

    def child(self, name: str, level: int) -> Child:
        def start() -> Running:
            if self.fails:
                raise ConfigError("it cannot start")
            self.log.append(f"start {name}")
            self.alive[name] = Process(name, self.log)
            return self.alive[name]

        def bury(running: Running) -> None:
            self.log.append(f"bury {name}")

        return Child(name=name, start=start, bury=bury, level=level, patience_seconds=0.0)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def tree(world: World) -> Tree:
    started = Tree([world.child("store", 0), world.child("serve", 1)])
    started.start(now=0.0)
    return started


def test_children_start_in_order_and_stop_in_the_other(world: World, tree: Tree) -> None:
    tree.stop()

    assert world.log == [
        "start store",
        "start serve",
        "terminate serve",
        "bury serve",
        "terminate store",
        "bury store",
    ]


def test_children_of_one_level_stop_together(world: World) -> None:
    tree = Tree([world.child("a", 1), world.child("b", 1)])
    tree.start(now=0.0)

    tree.stop()

    assert world.log[2:4] == ["terminate a", "terminate b"]


def test_a_child_that_does_not_listen_is_killed(world: World, tree: Tree) -> None:
    world.alive["serve"].listens = False

    tree.stop()

    assert "kill serve" in world.log
    assert world.log[-2:] == ["terminate store", "bury store"]


def test_what_a_dead_child_held_is_given_back_before_it_starts_again(world: World, tree: Tree) -> None:
    world.alive["store"].code = -9

    tree.look_after(now=1.0)
    tree.look_after(now=9.0)

    assert world.log[2:] == ["bury store", "start store"]


def test_a_dead_child_is_started_again_after_a_pause(world: World, tree: Tree) -> None:
    world.alive["serve"].code = -9

    assert [(child.name, code) for child, code in tree.look_after(now=1.0)] == [("serve", -9)]
    tree.look_after(now=1.0 + FIRST_PAUSE_SECONDS / 2)
    assert world.log.count("start serve") == 1
    tree.look_after(now=1.0 + FIRST_PAUSE_SECONDS)
    assert world.log.count("start serve") == 2
    assert world.log.count("start store") == 1


def deaths(world: World, tree: Tree, *, count: int, life_seconds: float) -> list[float]:
    """How long the child waits for each of its starts."""
    pauses, now = [], 0.0
    for _ in range(count):
        now += life_seconds
        world.alive["serve"].code = 1
        tree.look_after(now=now)
        start_at = tree.children[1].start_at
        pauses.append(start_at - now)
        now = start_at
        tree.look_after(now=now)
    return pauses


def test_the_pause_doubles_while_a_child_keeps_dying_and_has_a_limit(world: World, tree: Tree) -> None:
    pauses = deaths(world, tree, count=9, life_seconds=0.1)

    assert pauses[:3] == pytest.approx([0.5, 1.0, 2.0])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_SECONDS)


def test_a_child_that_lived_well_waits_only_briefly(world: World, tree: Tree) -> None:
    assert deaths(world, tree, count=4, life_seconds=60.0) == pytest.approx([FIRST_PAUSE_SECONDS] * 4)


def test_a_restart_that_fails_is_tried_again(world: World, tree: Tree) -> None:
    world.alive["store"].code = 1
    tree.look_after(now=1.0)
    world.fails = True
    tree.look_after(now=2.0)
    world.fails = False

    tree.look_after(now=10.0)

    assert world.log.count("start store") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_wait_and_is_named(number: signal.Signals) -> None:
    before: Callable[..., object] | int | None = signal.getsignal(number)

    with watched_signals() as wait:
        signal.raise_signal(number)
        assert wait(5.0) == {number}
        assert wait(0.0) == set()

    assert signal.getsignal(number) is before
