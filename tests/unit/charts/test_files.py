"""Dashboard, alerts and their page: every metric in them is one that the code has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from ostiary_console.counts import Counts as ConsoleCounts
from ostiary_gateway.admin.metrics import registry
from ostiary_gateway.counters import Counters
from ostiary_operator.metrics import Metrics
from ostiary_operator.pulse import Pulse
from ostiary_store.exports import metrics as exports
from ostiary_store.service.counts import Counts
from ostiary_store.service.counts import registry as store_registry

ROOT = Path(__file__).parents[3]
FILES = ROOT / "charts" / "ostiary" / "files"
METRIC = re.compile(r"\b(?:ostiary|process)_[a-z0-9_]+")
NO_METRICS = {"ostiary_dev_gateway"}
"""Labels that look like metrics."""


def expressions() -> list[str]:
    alerts = yaml.safe_load((FILES / "alerts.yaml").read_text())
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    found = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    for panel in dashboard["panels"]:
        found += [target["expr"] for target in panel.get("targets", ())]
    return found


def exposed() -> set[str]:
    """Names of all series that gateways, the operator and the store can expose."""
    operator = Metrics()
    operator.watch(Pulse(["Connection"]), queue=lambda: (0, 0), objects=dict, polls=dict)
    store = store_registry(Counts(tasks={"upkeep": (True, 0)}), "0")
    registries = (registry(Counters(), "0"), operator.registry, store)
    text = "".join(generate_latest(each).decode() for each in registries)
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {name} if kind != "histogram" else {f"{name}_{part}" for part in ("bucket", "count", "sum")}
    # What a pod, or the store, adds is looked up at its scrape; a full cluster's test reads it there.
    gateway = ROOT / "gateway"
    names |= {each.name for each in (*exports.gauges(()), *ConsoleCounts().metrics())}
    for path in (gateway / "ostiary_gateway" / "feed" / "pod.py", gateway / "ostiary_store" / "upkeep.py"):
        names |= set(re.findall(r'Gauge\(\s*"(ostiary_\w+)"', path.read_text()))
    return names


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_reads_metrics_that_there_are(expression: str) -> None:
    read = set(METRIC.findall(expression)) - NO_METRICS
    assert read
    assert read <= exposed()


def test_every_alert_has_its_runbook() -> None:
    alerts = yaml.safe_load((FILES / "alerts.yaml").read_text())
    named = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    assert re.findall(r"^## (Ostiary\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE) == named


def test_panels_have_titles_and_numbers_of_their_own() -> None:
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] for panel in panels)
