"""Servers for the tests of deploy/: the system tests' lab, and the programs that load what operators copy."""

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.servers import fetch
from tests.system.conftest import authority, lab, network

__all__ = ["authority", "lab", "network"]


@pytest.fixture(scope="session")
def commands() -> Callable[[str], Path]:
    """The folder with the programs of a set of `deploy/packages`."""
    return functools.cache(fetch)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets."""
    made = Path(tempfile.mkdtemp(prefix="ib-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)
