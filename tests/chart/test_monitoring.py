"""Alerts fire when they should, lead to a page that exists, and name metrics that exist; so do dashboards."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.families import autoscaler_families, families
from tests.chart.helm import promtool
from tests.chart.render import CHART, ROOT, example, laid_over, render, render_example

ALERTS = CHART / "files" / "alerts.yaml"
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
METRIC = re.compile(r"\bweighbridge_[a-z_]+\b")


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    rules = group["rules"]
    assert isinstance(rules, list)
    return rules


def series() -> set[str]:
    """Names of all series that the processes have."""
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^\| `(\w+)` \|", reference, re.MULTILINE))
    known = [*families(), *autoscaler_families()]
    assert {family.name for family in known if family.kind == "gauge"} <= names
    histograms = {family.name for family in known if family.kind == "histogram"}
    return names | {f"{name}{suffix}" for name in histograms for suffix in ("_bucket", "_count", "_sum")}


def test_rules_are_valid() -> None:
    answer = subprocess.run(
        [promtool(), "check", "rules", ALERTS], capture_output=True, text=True, timeout=30, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_alerts_fire_and_stay_quiet_as_they_should(tmp_path: Path) -> None:
    for path in (ALERTS, Path(__file__).parent / "alerts.test.yaml"):
        shutil.copy(path, tmp_path)
    command = [promtool(), "test", "rules", "alerts.test.yaml"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_alert_is_tested_to_fire() -> None:
    document = yaml.safe_load((Path(__file__).parent / "alerts.test.yaml").read_text(encoding="utf-8"))
    fired = {
        case["alertname"] for test in document["tests"] for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_leads_to_a_section_that_exists(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].removeprefix("RUNBOOKS/").partition("#")
    headings = re.findall(r"^#+ +(.+)$", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["for"]


def test_the_table_of_operations_and_the_rules_are_about_the_same_metrics() -> None:
    table = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Worth an alert")[2]
    in_table = [set(METRIC.findall(row)) for row in table.partition("\n## ")[0].splitlines() if row.startswith("| ")][
        1:
    ]
    rows = {name.removesuffix("_count").removesuffix("_bucket") for names in in_table for name in names}
    in_rules = {re.sub("_(bucket|count|sum)$", "", name) for rule in alerts() for name in METRIC.findall(rule["expr"])}
    assert rows == in_rules
    # The row of expired requests names outcomes of the row above it, and no metric.
    assert len(alerts()) == len(in_table)


def test_rules_name_metrics_that_exist() -> None:
    assert {name for rule in alerts() for name in METRIC.findall(rule["expr"])} <= series()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_metrics_that_exist(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    expressions += [variable["definition"] for variable in board["templating"]["list"] if "definition" in variable]
    assert len(expressions) > 5
    assert {name for expression in expressions for name in METRIC.findall(expression)} <= series()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_queries_of_a_dashboard_are_valid(path: Path, tmp_path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    rules = [
        {"record": "dashboard:query", "expr": target["expr"].replace("$pool", ".+"), "labels": {"panel": str(number)}}
        for number, panel in enumerate(board["panels"])
        for target in panel.get("targets", ())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    command = [promtool(), "check", "rules", "--lint=none", file]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_of_a_dashboard_have_a_place_of_their_own(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    names = {variable["name"] for variable in board["templating"]["list"]}
    assert {one or two for one, two in re.findall(r"\$(?:\{(\w+)\}|([a-z]\w*))", json.dumps(board["panels"]))} <= names
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert grid["x"] + grid["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_chart_ships_rules_dashboards_and_monitors_when_asked() -> None:
    rendered = render(laid_over(example("ha"), {"monitoring": {"rules": {"runbookBase": "https://runbooks.example/"}}}))
    [rule] = rendered.all("PrometheusRule")
    urls = [alert["annotations"]["runbook_url"] for alert in rule["spec"]["groups"][0]["rules"]]
    assert "https://runbooks.example/operations.md#redis-away" in urls
    assert [alert["expr"] for alert in rule["spec"]["groups"][0]["rules"]] == [alert["expr"] for alert in alerts()]
    boards = [m for m in rendered.all("ConfigMap") if m["metadata"]["labels"].get("grafana_dashboard") == "1"]
    texts = {key: text for board in boards for key, text in board["data"].items()}
    assert {f"weighbridge-{path.name}" for path in DASHBOARDS} == set(texts)
    assert all(
        json.loads(texts[f"weighbridge-{p.name}"]) == json.loads(p.read_text(encoding="utf-8")) for p in DASHBOARDS
    )
    assert len(rendered.all("ServiceMonitor")) == 2
    assert rendered.all("PodMonitor")[0]["spec"]["podMetricsEndpoints"][0]["port"] == "openai"
    assert not {"PrometheusRule", "ServiceMonitor", "PodMonitor"} & {
        o["kind"] for o in render_example("simulated").objects
    }


def test_monitors_name_ports_that_services_and_pods_have() -> None:
    rendered = render_example("ha")
    for monitor in rendered.all("ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        [service] = [s for s in rendered.all("Service") if selector.items() <= s["metadata"]["labels"].items()]
        assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
