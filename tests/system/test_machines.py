"""Service, workers, store and Prosodys on machines of their own: what was answered outlives the store's primary."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.servers import ROOT, namespace_command
from tests.system.machines import FAULTS

RECOVERY_SECONDS = 10  # 5 where nothing else runs; the figure is printed
MOST_SECONDS = 120


@pytest.mark.parametrize("fault", FAULTS)
def test_with_the_primary_lost_nothing_answered_is(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real network between them where `unshare` is allowed; else loopback, and it says so."""
    alone = namespace_command()
    program = [sys.executable, "-m", "tests.system.machines", str(tmp_path), fault]
    command = [*alone, *program] if alone else [*program, "--loopback"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=MOST_SECONDS
    )
    assert done.returncode == 0, done.stderr[-8000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        where = "in network namespaces" if alone else "on LOOPBACK ONLY (unshare -rn is not allowed here)"
        print(f"\nprimary {fault}, {where}: {found}")

    assert found["lost"] == found["lost_client"] == found["doubled"] == []
    assert found["unanswered"] == 0
    assert found["answered"] > 150
    assert found["told_client"] > 50
    assert found["silence"] < RECOVERY_SECONDS
