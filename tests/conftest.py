"""What all tests share: where things are, and that measurements run by themselves."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --bench."""
    parser.addoption(
        "--bench", action="store_true", help="run the measurements in tests/bench, and nothing else"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep measurements and tests apart: a busy machine must not fail a test."""
    wants_bench = config.getoption("--bench")
    left_out = [item for item in items if ("bench" in item.keywords) is not wants_bench]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


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
