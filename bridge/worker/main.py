"""`incident-bridge worker QUEUE`: one RQ worker, which forks a process for each drain."""

import importlib

from bridge.config import Settings
from bridge.policy.change import Queue
from bridge.store import rq


def run_worker(settings: Settings, queue: Queue) -> int:
    """Work this queue until SIGTERM or SIGINT; what is in hand is handed over then.

    Args:
        settings: where the store is; a drain reads the settings again, from the same place.
        queue: the one queue of this process (RQ loses jobs of a worker that has two).

    Returns:
        The exit code.
    """
    importlib.import_module(rq.DRAIN.rpartition(".")[0])  # before the fork, so that a drain starts at once
    rq.work(settings.store_url(), queue)
    return 0
