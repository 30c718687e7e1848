"""`weighbridge autoscaler simulate TRACE...` as an operator calls it."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from weighbridge.autoscaler_command import register

SHORT = ("--hours", "0.05", "--speed", "1", "--max-replicas", "4")


def simulate(*words: str | Path) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["simulate", *map(str, words)], catch_exceptions=False)


def azure(path: Path, requests: int) -> Path:
    rows = [
        f"2023-11-16 18:{index // 60:02d}:{index % 60:02d},{300 + index},{20 + index % 50}" for index in range(requests)
    ]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    return path


def document(*words: str | Path) -> dict[str, Any]:
    result = simulate(*words, "--json")
    assert result.exit_code == 0, result.stderr
    read: dict[str, Any] = json.loads(result.stdout)
    return read


def test_all_rules_are_in_one_table() -> None:
    result = simulate("synthetic", *SHORT)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("synthetic: ")
    assert "1 to 4 replicas" in lines[0]
    for row in ("weighbridge │ one setting", "hpa         │ concurrency 70", "keda        │ waiting 5", "static "):
        assert row in result.stdout


def test_the_numbers_of_a_rule_as_json(tmp_path: Path) -> None:
    read = document(azure(tmp_path / "a.csv", 300), *SHORT, "--rule", "static", "--static-replicas", "2")
    (row,) = read["rows"]
    assert (row["rule"], row["knob"], row["value"]) == ("static", "given", 2.0)
    assert row["result"]["dropped"] == 0
    assert row["result"]["requests"] == read["workload"]["requests"] > 100
    assert row["result"]["replica_hours"] == pytest.approx(2 * 0.05, rel=0.1)


def test_tuning_adds_the_cheapest_knob_that_holds_the_goal(tmp_path: Path) -> None:
    read = document(azure(tmp_path / "a.csv", 300), *SHORT, "--rule", "static", "--tune", "--static-replicas", "4")
    given, tuned = read["rows"]
    assert (given["knob"], tuned["knob"]) == ("given", "tuned")
    assert tuned["held"]
    assert tuned["result"]["replica_hours"] < given["result"]["replica_hours"]


def test_a_setting_of_the_law_can_be_changed() -> None:
    shipped, given = (
        document("synthetic", *SHORT, "--rule", "weighbridge", *words)["rows"][0]
        for words in ((), ("--set", "utilization=0.1"))
    )
    assert (shipped["knob"], given["knob"]) == ("shipped", "given")
    assert given["result"]["replica_hours"] > shipped["result"]["replica_hours"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("nowhere.csv",), "nowhere.csv: No such file", id="missing"),
        pytest.param(("synthetic", "--config", "x.yaml"), "synthetic: is no recording", id="option of a recording"),
        pytest.param(("synthetic", "--gpu", "L4000"), "--gpu L4000: unknown GPU", id="gpu"),
        pytest.param(("synthetic", "--shares", "1:2"), "--shares 1:2: must be 1 numbers", id="shares"),
        pytest.param(("synthetic", "--set", "drains_s=1"), "--set drains_s=1: no such setting", id="setting"),
        pytest.param(
            ("synthetic", "--min-replicas", "5", "--max-replicas", "4"), "pool backtest: must hold", id="bounds"
        ),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(words: tuple[str, ...], message: str) -> None:
    result = simulate(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
