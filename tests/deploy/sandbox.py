"""Start a program under what a unit forbids: system calls, new privileges, memory that is written and then run.

    python tests/deploy/sandbox.py SYSTEMD_ANALYZE UNIT PROGRAM [ARGUMENT …]

Only what a process can forbid itself; systemd also hides files, devices and other processes. libseccomp is the
library with which systemd itself does it.
"""

import ctypes
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM = 1


def settings(unit: Path) -> list[tuple[str, str]]:
    """Read a unit's settings, in order, without its sections."""
    lines = re.findall(r"^([A-Z]\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
    return [(key, value.strip()) for key, value in lines]


def groups(analyze: str) -> dict[str, set[str]]:
    """Read systemd's groups of system calls; their members may be groups."""
    told = subprocess.run([analyze, "syscall-filter"], capture_output=True, text=True, check=True).stdout
    found: dict[str, set[str]] = {}
    for line in told.splitlines():
        if line.startswith("@"):
            found[line.strip()] = members = set()
        elif (word := line.strip()) and not word.startswith("#"):
            members.add(word)
    return found


def expand(word: str, known: dict[str, set[str]]) -> set[str]:
    """Return the system calls of a group, or the one that is named."""
    if not word.startswith("@"):
        return {word}
    return set().union(*(expand(each, known) for each in known[word]))


def allowed(unit: Path, analyze: str) -> set[str]:
    """Return the system calls that the unit's SystemCallFilter= lines leave."""
    known = groups(analyze)
    left = expand("@default", known)
    for key, value in settings(unit):
        if key == "SystemCallFilter":
            named = set().union(*(expand(word, known) for word in value.removeprefix("~").split()))
            left = left - named if value.startswith("~") else left | named
    return left | {"execve"}  # by which the program is started; systemd sees to that, too


def confine(calls: set[str]) -> None:
    """Forbid everything else from here on."""
    libc, seccomp = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ERRNO | EPERM))
    for name in sorted(calls):
        if (number := seccomp.seccomp_syscall_resolve_name(name.encode())) >= 0:  # below: not on this machine
            seccomp.seccomp_rule_add(context, ALLOW, number, 0)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)  # Linux 6.3 and newer
    assert seccomp.seccomp_load(context) == 0


if __name__ == "__main__":
    if ("LimitCORE", "0") in settings(Path(sys.argv[2])):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    confine(allowed(Path(sys.argv[2]), sys.argv[1]))
    os.execv(sys.argv[3], sys.argv[3:])
