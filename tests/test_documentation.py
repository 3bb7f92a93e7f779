"""README says what the code does: metrics, settings, commands."""

import argparse
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import metrics
from bridge.cli.main import parser
from bridge.config import (
    HostInput,
    PolicySettings,
    RetentionSettings,
    ServerSettings,
    StoreSettings,
    WebhookSettings,
    default_toml,
)
from bridge.policy.stages import Stage, counts
from bridge.webhooks.event import EventType

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "deploy/README.md", "prosody_module/mod_incident_bridge/README.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings() -> set[str]:
    sections = {
        "server": ServerSettings,
        "store": StoreSettings,
        "policy": PolicySettings,
        "retention": RetentionSettings,
        "webhooks": WebhookSettings,
    }
    found = {f"{name}.{key}" for name, section in sections.items() for key in section.model_fields}
    return found | {f'hosts."…".{key}' for key in HostInput.model_fields}


def test_every_setting_stands_in_the_readme_and_nothing_else() -> None:
    table = README.split("<!-- settings:")[1].split("\n\n")[0]
    names = r"`((?:server|store|policy|retention|webhooks|hosts)\.[^`]+)`"
    assert set(re.findall(names, table)) == settings()


def test_every_setting_stands_in_the_commented_default_configuration() -> None:
    keys = set(re.findall(r"^#?([a-z_]+) = ", default_toml(), re.MULTILINE))
    assert keys == {name.rsplit(".", 1)[1] for name in settings()}
    assert set(tomllib.loads(default_toml())) == {"server", "store", "policy", "retention", "webhooks"}


def commands(under: argparse.ArgumentParser, *words: str) -> Iterator[str]:
    inner = [one for one in under._actions if isinstance(one, argparse._SubParsersAction)]
    if not inner:
        yield " ".join(words)
    for group in inner:
        for name, one in group.choices.items():
            yield from commands(one, *words, name)


def test_every_command_stands_in_the_readme() -> None:
    written = re.findall(r"incident-bridge(?: --config \S+)? ([a-z-]+(?: [a-z-]+)?)", README)
    starts = {start for words in written for start in (words, words.split()[0])}
    assert {name for name in commands(parser()) if name not in starts} == set()


@pytest.mark.parametrize("words", re.findall(r"\| `incident-bridge ([^`]+)`", README))
def test_what_the_readme_says_to_type_can_be_typed(words: str) -> None:
    parser().parse_args(shlex.split(words))


TONIGHT = README.split("## Tonight, without any peer\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("words", re.findall(r"`incident-bridge ([^`]+)`", TONIGHT))
def test_what_works_tonight_can_be_typed(words: str) -> None:
    if words not in set(commands(parser())):  # named only, without what belongs to it
        parser().parse_args(shlex.split(words))


@pytest.mark.parametrize("path", READMES)
def test_every_setting_that_a_readme_names_is_one(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    sections = {name.partition(".")[0] for name in settings()} - {"hosts"}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)(?=[` ])", text))
    assert named <= settings()


def test_every_metric_stands_in_the_readme_and_nothing_else() -> None:
    table = README.split("<!-- metrics:")[1].split("\n\n")[0]
    written = set(re.findall(rf"`({metrics.PREFIX}[a-z_]+(?:\{{[a-z,]+\}})?)`", table))
    suffixes = [(metrics.COUNTERS, "_total"), (metrics.GAUGES, ""), (metrics.HISTOGRAMS, "")]
    real = set()
    for described, suffix in suffixes:
        for name, description in described.items():
            labels = "{" + ",".join(description.labels) + "}" if description.labels else ""
            real.add(metrics.PREFIX + name + suffix + labels)
    assert written == real


def test_every_type_of_event_stands_in_the_readme_and_nothing_else() -> None:
    table = README.split("<!-- events:")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z]+\.[a-z]+)`", table)) == {one.value for one in EventType}


@pytest.mark.parametrize("path", READMES[:2])
def test_every_command_in_a_block_of_a_readme_can_be_typed(path: str) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)
    typed = re.findall(r"^(?:\S*/)?incident-bridge ([^|>#\n]+)", "\n".join(blocks), re.MULTILINE)
    assert len(typed) > 2
    for words in typed:
        parser().parse_args(shlex.split(words))


@pytest.mark.parametrize("path", READMES)
def test_what_a_readme_points_to_is_there(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    targets = [one for one in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in one]
    for file, _, heading in (one.partition("#") for one in targets):
        found = (ROOT / path).parent / file if file else ROOT / path
        assert found.exists(), file
        if heading:
            assert heading in headings(found.read_text(encoding="utf-8")), f"{file}#{heading}"


def headings(text: str) -> set[str]:
    """What a link may name in a page, as the forges make it of its headings."""
    titles = re.findall(r"^#+ (.+)$|^(.+)\n=+$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", (one or two).lower()).replace(" ", "-") for one, two in titles}


def test_the_licence_that_the_readme_names_is_there() -> None:
    assert "MIT licence" in README
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_metrics_are_written_in_the_text_format_with_their_labels() -> None:
    counters = {("interactions", "report", "trusted"): 3, ("strange", "x"): 1}
    text = metrics.render(counters, [("store_durable", (), 1)]).decode()
    assert 'incident_bridge_interactions_total{kind="report",trust="trusted"} 3.0' in text
    assert "incident_bridge_store_durable 1.0" in text
    assert "# TYPE incident_bridge_refused_total counter" in text
    assert "strange" not in text


def test_a_histogram_counts_what_took_up_to_each_bound() -> None:
    text = metrics.render(counts([(Stage.STORED, took) for took in (-1, 0.005, 0.006, 4000)]), ()).decode()
    for end in (
        'bucket{le="0.005",stage="stored"} 2.0',
        'bucket{le="0.01",stage="stored"} 3.0',
        'bucket{le="3600.0",stage="stored"} 3.0',
        'bucket{le="+Inf",stage="stored"} 4.0',
        'count{stage="stored"} 4.0',
        'sum{stage="stored"} 4000.011',
        'count{stage="decided"} 0.0',
    ):
        assert f"incident_bridge_stage_seconds_{end}\n" in text


THREATS = README.split("<!-- threats:")[1].split("\n\n")[0].splitlines()[3:]
TESTS = {
    name
    for path in Path(__file__).parent.rglob("*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_every_threat_says_who_what_stops_it_and_which_tests_show_it(row: str) -> None:
    _, threat, who, what, _, tests, _ = (cell.strip() for cell in row.split("|"))

    assert threat
    assert who
    assert what
    named = re.findall(r"`(test_\w+)`", tests)
    assert named
    assert set(named) <= TESTS, set(named) - TESTS
