"""`weighbridge usage` as an operator calls it, on a real Redis."""

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import typer
from click.testing import Result
from redis import Redis
from typer.testing import CliRunner

from backlog import keys
from weighbridge.usage_command import BadDay, parse_day, register
from weighbridge.wiring import command_line

FIRST, SECOND = "2026-11-01", "2026-11-02"
BOOKED = {
    FIRST: {
        "blue chat org/[m] requests": 2,
        "blue chat org/[m] input_tokens": 1500,
        "blue chat org/[m] cached_tokens": 500,
        "blue chat org/[m] output_tokens": 80,
        "blue chat org/[m] prefill_gpu_s": 1.25,
        "blue chat org/[m] decode_gpu_s": 2.5,
        "blue chat org/[m] money": 0.0125,
        "blue chat small requests": 5,
    },
    SECOND: {"blue chat org/[m] requests": 1, "red chat org/[m] requests": 4},
}
HEADER = (
    "day,tenant,pool,model,requests,input_tokens,cached_tokens,output_tokens,prefill_gpu_s,decode_gpu_s,money,"
    "spilled_requests,spilled_input_tokens,spilled_output_tokens,spilled_money"
)
NOW = datetime(2026, 11, 24, 5, 30, tzinfo=UTC)


@pytest.fixture
def place(redis_url: str, redis_prefix: str) -> Iterator[list[str]]:
    """Options that lead to a Redis with what `BOOKED` says."""
    with Redis.from_url(redis_url) as client:
        for day, fields in BOOKED.items():
            key = keys.usage_key(redis_prefix, date.fromisoformat(day))
            client.hset(key, mapping=fields)
            client.expire(key, 60)
        yield ["--redis", redis_url, "--prefix", redis_prefix]


def usage(*words: str) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner(env={"WEIGHBRIDGE_REDIS": None}).invoke(app, list(words), catch_exceptions=False)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]


def test_the_table_has_each_tenant_by_model_and_the_totals(place: list[str]) -> None:
    result = usage(*place, "--since", FIRST, "--until", SECOND)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].strip() == "2026-11-01 to 2026-11-02 (UTC)"
    rows = [cells(line) for line in lines if "│" in line]
    assert rows == [
        ["blue", "org/[m]", "3", "1,500", "500", "80", "1.25", "2.50", "0.0125"],
        ["blue", "small", "5", "0", "0", "0", "0.00", "0.00", "0.0000"],
        ["blue", "total", "8", "1,500", "500", "80", "1.25", "2.50", "0.0125"],
        ["red", "org/[m]", "4", "0", "0", "0", "0.00", "0.00", "0.0000"],
        ["total", "", "12", "1,500", "500", "80", "1.25", "2.50", "0.0125"],
    ]


def test_one_tenant_with_one_model_needs_no_total(place: list[str]) -> None:
    result = usage(*place, "--since", FIRST, "--until", SECOND, "--tenant", "red")
    assert [cells(line)[0] for line in result.stdout.splitlines() if "│" in line] == ["red"]


def test_csv_has_a_header_and_a_line_per_day_tenant_and_model(place: list[str]) -> None:
    result = usage(*place, "--since", FIRST, "--until", SECOND, "--csv")
    assert result.stdout.splitlines() == [
        HEADER,
        "2026-11-01,blue,chat,org/[m],2,1500,500,80,1.25,2.5,0.0125,0,0,0,0.0",
        "2026-11-01,blue,chat,small,5,0,0,0,0.0,0.0,0.0,0,0,0,0.0",
        "2026-11-02,blue,chat,org/[m],1,0,0,0,0.0,0.0,0.0,0,0,0,0.0",
        "2026-11-02,red,chat,org/[m],4,0,0,0,0.0,0.0,0.0,0,0,0,0.0",
    ]


def test_what_hosted_models_answered_has_columns_of_its_own(place: list[str]) -> None:
    spilled = {
        "spilled_requests": 7,
        "spilled_input_tokens": 900,
        "spilled_output_tokens": 134,
        "spilled_money": 0.0625,
    }
    with Redis.from_url(place[1]) as client:
        key = keys.usage_key(place[3], date.fromisoformat(SECOND))
        client.hset(key, mapping={f"red chat org/[m] {name}": number for name, number in spilled.items()})
    result = usage(*place, "--since", SECOND, "--until", SECOND)
    rows = [cells(line) for line in result.stdout.splitlines() if "│" in line]
    assert [row[-3:] for row in rows] == [["0", "0", "0.0000"], *[["7", "1,034", "0.0625"]] * 2]


def test_json_says_the_same_as_csv(place: list[str]) -> None:
    words = (*place, "--since", FIRST, "--until", SECOND)
    listed = json.loads(usage(*words, "--json").stdout)
    lines = list(csv.DictReader(io.StringIO(usage(*words, "--csv").stdout)))
    assert [{name: str(value) for name, value in row.items()} for row in listed] == lines


def test_days_that_are_not_asked_for_are_left_out(place: list[str]) -> None:
    result = usage(*place, "--since", SECOND, "--until", SECOND, "--csv")
    assert {line.partition(",")[0] for line in result.stdout.splitlines()} == {"day", SECOND}


def test_nothing_booked_is_said_and_is_no_error(place: list[str]) -> None:
    words = (*place, "--since", "2026-10-01", "--until", "2026-10-02")
    result = usage(*words)
    assert (result.exit_code, result.stdout) == (0, "nothing was booked from 2026-10-01 to 2026-10-02 (UTC)\n")
    assert usage(*words, "--csv").stdout.splitlines() == [HEADER]
    assert json.loads(usage(*words, "--json").stdout) == []


def test_a_configuration_leads_to_its_redis_and_prefix(place: list[str], tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    pool = "pools: {p: {models: [m], architecture: llama-3.1-8b, gpu: L4, replicas: {static: ['http://127.0.0.1:9']}}}"
    file.write_text(f"{pool}\nredis: {{url: '{place[1]}', prefix: {place[3]}}}")
    command = command_line("usage", "-c", str(file), "--since", FIRST, "--until", FIRST, "--csv")
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 3


def test_a_configuration_without_a_redis_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "pools: {p: {models: [m], architecture: llama-3.1-8b, gpu: L4, replicas: {static: ['http://127.0.0.1:9']}}}"
    )
    result = usage("-c", str(file))
    assert result.exit_code == 2
    assert result.stderr == (
        f"{file}: redis.url is required; or --redis URL, which is unix://LOGS/redis/redis.sock under `up`\n"
    )


def test_a_bad_configuration_is_a_mistake(tmp_path: Path) -> None:
    result = usage("-c", str(tmp_path / "none.yaml"))
    assert result.exit_code == 2
    assert "no such file or directory" in result.stderr


MISTAKES = {
    "no Redis": ((), "say where Redis is: --config FILE or --redis URL"),
    "no URL of Redis": (("--redis", "http://a:1"), "redis: must start with redis://"),
    "no day": (
        ("--redis", "redis://a", "--since", "yesterday"),
        "--since yesterday: must be a day like 2026-11-01, or a time ago like 7d or 24h",
    ),
    "no such day": (("--redis", "redis://a", "--until", "2026-02-30"), "--until 2026-02-30: must be a day like"),
    "days the wrong way round": (
        ("--redis", "redis://a", "--since", SECOND, "--until", FIRST),
        "--since 2026-11-02 is after --until 2026-11-01",
    ),
    "two formats": (("--redis", "redis://a", "--csv", "--json"), "--csv and --json exclude each other"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_with_2_and_says_what_is_right(words: tuple[str, ...], message: str) -> None:
    result = usage(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)


def test_a_redis_that_is_away_ends_with_1(tmp_path: Path) -> None:
    result = usage("--redis", f"unix://{tmp_path}/none.sock")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Redis is away: ")


@pytest.mark.parametrize(
    ("text", "day"),
    [
        (None, NOW.date()),
        ("2026-11-01", date(2026, 11, 1)),
        ("0d", NOW.date()),
        ("7d", date(2026, 11, 17)),
        ("5h", NOW.date()),
        ("6h", date(2026, 11, 23)),
        ("24h", date(2026, 11, 23)),
        ("99999d", (NOW - timedelta(days=99999)).date()),
    ],
)
def test_a_day_or_a_time_ago_is_a_day(text: str | None, day: date) -> None:
    assert parse_day(text, NOW, "--since") == day


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-7d", "7 d", "1.5d", "7w", "999999d", "2026-11", "2026-13-01", "0000-01-01"]
)
def test_anything_else_is_not_a_day(text: str) -> None:
    with pytest.raises(BadDay):
        parse_day(text, NOW, "--since")


def test_the_first_day_of_all_is_a_day_like_any_other(place: list[str]) -> None:
    assert usage(*place, "--since", "0001-01-01", "--until", "0001-01-02").exit_code == 0
