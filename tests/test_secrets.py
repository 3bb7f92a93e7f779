"""Secrets are compared in constant time and leave no core dump; each dependency says why it is here."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECRET = re.compile(r"secret|signature|token|digest|password|seal|csrf")
HARMLESS = {"bridge/iodef/write.py: digest(again) != digest(tree)"}  # whether a document says what it should


def compared(path: Path) -> Iterator[str]:
    """Every comparison with == or != in which something is called like a secret."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
            sides = [one for one in (node.left, *node.comparators) if not isinstance(one, ast.Constant)]
            if any(SECRET.search(ast.unparse(side).rpartition(".")[2]) for side in sides):
                yield f"{path.relative_to(ROOT)}: {ast.unparse(node)}"


def test_secrets_are_compared_in_the_same_time_wherever_they_differ() -> None:
    found = {one for path in (ROOT / "bridge").rglob("*.py") for one in compared(path)}

    assert found == HARMLESS, "what is secret goes through hmac.compare_digest"


def test_what_runs_leaves_no_core_dump_even_where_its_shell_would() -> None:
    script = (
        "import resource\n"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
        "from bridge.cli.services import leave_no_core\n"
        "leave_no_core()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "0\n"


PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
OBVIOUS = {"pytest", "pytest-aiohttp", "pytest-asyncio", "ruff", "mypy", "import-linter", "types-lxml"}


def dependencies() -> dict[str, str]:
    """What pyproject asks for: each requirement with the rest of its line."""
    project = tomllib.loads(PYPROJECT)
    extras = project["project"]["optional-dependencies"].values()
    asked = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    asked += [one for extra in extras for one in extra if not one.startswith("prosody-incident-bridge")]
    return {one: PYPROJECT.partition(f'"{one}"')[2].partition("\n")[0] for one in asked}


def test_every_dependency_says_why_it_is_here_and_from_which_release_on() -> None:
    for one, rest in dependencies().items():
        name = re.split(r"[\[<>=]", one)[0]
        assert ">=" in one, one
        assert name in OBVIOUS or re.search(r"# .{6,}|]  # .{6,}", rest), f"{one} gives no reason"


def test_what_runs_at_an_operator_s_is_bounded_above() -> None:
    project = tomllib.loads(PYPROJECT)["project"]
    for one in [*project["dependencies"], *project["optional-dependencies"]["embedded"]]:
        assert re.search(r",<\d+$", one), one
