"""Dashboard and alert rules: names and labels are the real ones, and Prometheus' own tool reads and tries them.

Grafana itself does not run here: that it shows the dashboard is not tested.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from bridge import metrics

SUFFIXES = ("_bucket", "_sum", "_count")
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}


def expressions(root: Path) -> Iterator[str]:
    rules = yaml.safe_load((root / "deploy/grafana/alerts.yaml").read_text())
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])
    for panel in panels(root):
        yield from (target["expr"] for target in panel.get("targets", ()))


def panels(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((root / "deploy/grafana/dashboard.json").read_text())["panels"]
    return found


def known() -> dict[str, set[str]]:
    """Every metric with its labels, as /metrics writes them."""
    tables = {
        name: table for name, table in vars(metrics).items() if name.isupper() and isinstance(table, dict)
    }
    found = {}
    for name, table in tables.items():
        suffixes = {"COUNTERS": ("_total",), "GAUGES": ("",)}.get(name, SUFFIXES)
        for metric, description in table.items():
            for suffix in suffixes:
                found[metrics.PREFIX + metric + suffix] = set(description.labels)
    return found


def used(expression: str) -> set[str]:
    return set(re.findall(rf"\b{metrics.PREFIX}\w+", expression))


def test_every_metric_named_is_a_real_one_with_these_labels(root: Path) -> None:
    real = known()

    for expression in expressions(root):
        names = used(expression)
        assert names <= real.keys(), expression
        labels = set(re.findall(r"(\w+)\s*=~?\s*\"", expression))
        labels |= {
            label
            for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
            for label in group.split(", ")
        }
        allowed = LABELS_OF_PROMETHEUS.union(*(real[name] for name in names))
        assert labels <= allowed, expression


def test_the_dashboard_shows_every_metric(root: Path) -> None:
    shown = {
        name for panel in panels(root) for target in panel.get("targets", ()) for name in used(target["expr"])
    }

    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in known()} - bare == set()


def test_panels_lie_beside_each_other_and_not_on_each_other(root: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(root):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels(root)}) == len(panels(root))


def test_prometheus_reads_the_rules_and_they_alert_when_they_should(
    root: Path, commands: Callable[[str], Path]
) -> None:
    promtool = commands("prometheus") / "promtool"

    for words in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")):
        done = subprocess.run(
            [promtool, *words], cwd=root / "deploy/grafana", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_the_dashboard_s_expressions(
    root: Path, commands: Callable[[str], Path], tmp_path: Path
) -> None:
    variables = {"$__rate_interval": "5m", "$__range": "6h", "$instance": ".*"}
    rules = []
    for number, expression in enumerate(expressions(root)):
        for name, value in variables.items():
            expression = expression.replace(name, value)  # noqa: PLW2901
        rules.append({"record": f"panel_{number}", "expr": expression})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    words = [commands("prometheus") / "promtool", "check", "rules", tmp_path / "rules.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
