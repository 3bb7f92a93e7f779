"""A process that does not outlive the one that started it.

Run as a program (`parent.py SIGNAL PARENT PROGRAM ARGUMENT…`) it turns into PROGRAM: the parent may have threads, and
then no Python may run between its fork and the exec (`preexec_fn` can hang for ever there).
House rule: nothing but the standard library, and no lookup after a fork.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PRCTL: Final = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def signal_when_parent_dies(number: int, *, parent: int | None = None) -> None:
    """Ask the kernel for this signal at the death of the thread that started this process; Linux only.

    Args:
        number: the signal.
        parent: the parent's process id, if known; should it be dead already, the signal comes at once.
    """
    if _PRCTL is None:
        return
    _PRCTL(_PR_SET_PDEATHSIG, int(number))
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def dying_with_us(program: list[str], number: signal.Signals) -> list[str]:
    """The command line that runs this program so that it gets the signal when this thread ends."""
    return [sys.executable, "-I", "-S", __file__, str(int(number)), str(os.getpid()), *program]


if __name__ == "__main__":
    signal_when_parent_dies(int(sys.argv[1]), parent=int(sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606 the program that our own command line names
