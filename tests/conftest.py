"""What all tests share: where things are, and that measurements and long tests run only where they are wanted."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.servers import INSIDE, bring_loopback_up

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --bench, --long and what goes with it."""
    parser.addoption(
        "--bench", action="store_true", help="run the measurements in tests/bench, and nothing else"
    )
    parser.addoption("--long", action="store_true", help="run the long tests as well, such as chaos")
    parser.addoption(
        "--long-minutes", type=float, default=20.0, metavar="MINUTES", help="for how long each of them (20)"
    )
    parser.addoption("--seed", type=int, metavar="NUMBER", help="repeat the chaos of this seed")


def pytest_configure() -> None:
    """Make loopback work where `tests/run` needed a network namespace."""
    if INSIDE in os.environ:
        bring_loopback_up()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where another check of `tests/run` failed."""
    if os.environ.get("INCIDENT_BRIDGE_FAILED_CHECKS") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat which other checks failed, where the eye is at the end."""
    if failed := os.environ.get("INCIDENT_BRIDGE_FAILED_CHECKS"):
        terminalreporter.section("also failed, see above", red=True)
        terminalreporter.line(failed)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep measurements and tests apart: a busy machine must not fail a test. Leave out what is long."""
    wants_bench, wants_long = config.getoption("--bench"), config.getoption("--long")
    left_out = [
        item
        for item in items
        if ("bench" in item.keywords) is not wants_bench or ("long" in item.keywords and not wants_long)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Leave what was imported out of all later garbage collections, which makes them quick."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _leaks_nothing() -> Iterator[None]:
    """Find what the tests of a file left open while it still can be told which file it was."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of collected data beside the checkout; only what needs it is skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the data in ../shared, which is not here")
    return folder


@pytest.fixture(scope="session")
def cache_folder() -> Path:
    """Where fetched things live between runs (the same rule as `deploy/packages`)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(os.environ.get("INCIDENT_BRIDGE_CACHE") or Path(base) / "prosody-incident-bridge")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
