"""A process that does not outlive the one that started it."""

import ctypes
import os
import sys
from signal import Signals
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def signal_when_parent_dies(number: Signals, *, parent: int | None = None) -> None:
    """Ask the kernel for this signal at the death of the thread that started this process; Linux only.

    Args:
        number: the signal.
        parent: the parent's process id, if known; should it be dead already, the signal comes at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)
