"""The store of the stories' tests."""

from tests.pipeline.conftest import server, store

__all__ = ["server", "store"]
