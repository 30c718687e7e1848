"""Replays and conservation of recorded runs: made-up ones, and the one of vLLM."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from estimator.choice import choose_step
from estimator.evaluate import run as evaluation
from estimator.evaluate.replay import Run, latency_ratio, read_run, replay
from estimator.evaluate.run import conserved_after_a_scalar, figures, periods_of, price_of, shares_s
from estimator.price import Price, WeightSource
from estimator.step import step_model

DATA = Path(__file__).parents[4] / "shared/data"
needs_run = pytest.mark.skipif(not (DATA / evaluation.RUN).is_dir(), reason=f"no recorded run below {DATA}")


def write_run(folder: Path, rows: list[dict[str, Any]], **changed: Any) -> Path:
    meta = {
        "model": "meta-llama/Llama-3.1-8B",
        "engine_kwargs": {"max_model_len": 4096, "max_num_batched_tokens": 2048, "max_num_seqs": 256},
        "kv_cache": {"num_kv_tokens": 41_408, "enable_prefix_caching": True},
        "hardware": {"device_name": "NVIDIA GeForce RTX 4090"},
    }
    (folder / "meta.json").write_text(json.dumps(meta | changed))
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def row(
    name: str, *, queued: float, first: float, last: float, inputs: int = 500, outputs: int = 101
) -> dict[str, Any]:
    times = {"queued_ts": queued, "scheduled_ts": queued, "first_token_ts": first, "last_token_ts": last}
    return {"request_id": name, "input_toks": inputs, "output_toks": outputs, **times}


@pytest.fixture
def two(tmp_path: Path) -> Run:
    rows = [row("b", queued=101.0, first=103.0, last=113.0), row("a", queued=100.0, first=102.0, last=120.0)]
    return read_run(write_run(tmp_path, rows))


@pytest.fixture
def price(two: Run) -> Price:
    return price_of(two, step_model(two.architecture, two.accelerator), WeightSource.ANALYTIC)


def test_a_run_is_read_in_order_of_arrival_with_its_own_limits(two: Run) -> None:
    assert [one.request_id for one in two.requests] == ["a", "b"]
    assert (two.settings.kv_tokens, two.settings.max_context_tokens) == (41_408, 4096)
    assert (two.architecture.name, two.accelerator.name) == ("llama-3.1-8b", "RTX4090")
    assert two.busy_s == 20.0


@pytest.mark.parametrize(
    "changed", [{"model": "acme/unheard-of-9b"}, {"hardware": {"device_name": "Abacus"}}], ids=["model", "gpu"]
)
def test_a_run_of_what_is_not_registered_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not registered"):
        read_run(write_run(tmp_path, [row("a", queued=0.0, first=1.0, last=2.0)], **changed))


ONE = row("a", queued=0.0, first=1.0, last=2.0)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        pytest.param("meta.json", '{"model": ', "is not JSON", id="a meta file that is cut off"),
        pytest.param("meta.json", "[]", "is not JSON of the form", id="a list"),
        pytest.param("meta.json", '{"model": "x", "hardware": {}}', "no device_name", id="no GPU"),
        pytest.param("requests.jsonl", "", "has no requests", id="no requests"),
        pytest.param("requests.jsonl", json.dumps(ONE) + "\n{", "line 2: is not JSON", id="a line that is cut off"),
        pytest.param("requests.jsonl", b"\xff\n", "line 1: is not JSON", id="another encoding"),
        pytest.param("requests.jsonl", "3", "line 1: is not JSON of the form", id="a number"),
        pytest.param("requests.jsonl", '{"request_id": "a"}', "line 1: no input_toks", id="no tokens"),
        pytest.param(
            "requests.jsonl", json.dumps(ONE | {"queued_ts": None}), "line 1: queued_ts is None, not", id="no instant"
        ),
    ],
)
def test_a_damaged_recording_names_its_file(tmp_path: Path, file: str, content: str | bytes, said: str) -> None:
    folder = write_run(tmp_path, [ONE])
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=rf"{re.escape(file)}.*{said}"):
        read_run(folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"engine_kwargs": {"max_model_len": 4096}}, "no max_num_batched_tokens", id="a limit is missing"),
        pytest.param({"kv_cache": {"num_kv_tokens": "8k"}}, "num_kv_tokens is '8k', not a number", id="text"),
        pytest.param({"hardware": None}, "is not JSON of the form", id="null"),
        pytest.param({"model": 3}, "is not JSON of the form", id="a model that is a number"),
    ],
)
def test_a_meta_file_without_what_is_needed_names_it(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=rf"meta\.json: {said}"):
        read_run(write_run(tmp_path, [ONE], **changed))


def test_a_replay_ends_every_request_at_its_length(two: Run) -> None:
    done = replay(two, step_model(two.architecture, two.accelerator))
    assert {name: one.output_tokens for name, one in done.items()} == {"a": 101, "b": 101}
    # Alone on the GPU, both decode at the speed of a nearly empty batch: some 17 ms a token, not 100.
    assert latency_ratio(two, done, "TPOT", 0.5) < 0.25


def test_a_preempted_request_finds_its_own_prompt_where_the_run_had_a_prefix_cache(tmp_path: Path) -> None:
    # Three outgrow the KV cache together: the last to come is preempted and starts again when the first has ended.
    rows = [row(name, queued=0.0, first=1.0, last=2.0, inputs=4000 // 3, outputs=900) for name in "abc"]
    ended_s = {}
    for cached in (True, False):
        run = read_run(write_run(tmp_path, rows, kv_cache={"num_kv_tokens": 4800, "enable_prefix_caching": cached}))
        done = replay(run, step_model(run.architecture, run.accelerator))
        assert sum(one.preemptions for one in done.values()) > 0
        ended_s[cached] = max(one.finished_at_s for one in done.values())
    assert ended_s[True] < ended_s[False]


def test_a_request_that_the_simulated_engine_refuses_is_an_error(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, [row("a", queued=0.0, first=1.0, last=2.0, inputs=5000)]))
    with pytest.raises(ValueError, match=r"a was served .* refused"):
        replay(run, step_model(run.architecture, run.accelerator))


def test_shares_grow_from_the_first_token_to_the_last(two: Run, price: Price) -> None:
    whole = [price.used(input_tokens=500, output_tokens=101)] * 2
    assert shares_s(price, two, 101.9) == 0.0
    assert shares_s(price, two, 102.0) == pytest.approx(whole[0].prefill_s)
    assert shares_s(price, two) == pytest.approx(sum(one.prefill_s + one.decode_s for one in whole))


def test_periods_hold_what_ran_in_them(two: Run, price: Price) -> None:
    first, second = periods_of(price, two)
    # From 100 to 110 both run, the second from 101; from 110 on one of them for 3 s.
    assert first.sequences == pytest.approx(1.9)
    assert second.sequences == pytest.approx(1.3)
    assert first.attributed_s + second.attributed_s == pytest.approx(shares_s(price, two))


def test_a_run_that_leaves_the_gpu_nearly_empty_has_no_conservation(two: Run, price: Price) -> None:
    with pytest.raises(ValueError, match="well filled"):
        conserved_after_a_scalar(price, two)


@pytest.mark.parametrize("slower", [1.0, 0.5, 2.0])
def test_a_scalar_of_the_first_half_closes_an_even_run_however_wrong_the_price(slower: float, tmp_path: Path) -> None:
    # Eighty periods of 10 s. Nobody's context grows by much in a run of so few tokens, so that every period is alike.
    rows = [row(f"r{number}", queued=0.0, first=0.0, last=800.0, outputs=101) for number in range(40)]
    run = read_run(write_run(tmp_path, rows))
    price = price_of(run, step_model(run.architecture, run.accelerator), WeightSource.ANALYTIC)
    busy_s = shares_s(price, run) - shares_s(price, run, 0.0)
    wrong = replace(price, decode_token_s=price.decode_token_s * slower * run.busy_s / busy_s)
    ratio, periods = conserved_after_a_scalar(wrong, run)
    assert periods == 40
    assert ratio == pytest.approx(1.0, rel=0.03)


@needs_run
@pytest.mark.parametrize("source", list(WeightSource))
def test_shares_add_up_to_the_time_that_the_gpu_was_busy(source: WeightSource) -> None:
    run = read_run(DATA / evaluation.RUN)
    analytic = step_model(run.architecture, run.accelerator)
    choice = choose_step(run.architecture, run.accelerator)
    price = price_of(run, analytic if source is WeightSource.ANALYTIC else choice.step, source)
    assert 0.8 < shares_s(price, run) / run.busy_s < 1.25
    ratio, periods = conserved_after_a_scalar(price, run)
    # The last period is not filled: what it attributes is meant to be less than the time that it takes.
    assert periods == len(periods_of(price, run)) - len(periods_of(price, run)) // 2 - 1
    assert 0.97 < ratio < 1.03


@needs_run
def test_figures_of_the_run_are_learned_with_the_analytic_step_beside(tmp_path: Path) -> None:
    found = figures(DATA)
    assert len(found) == 6
    assert all(0.85 < figure.value < 1.15 and set(figure.baselines) == {"analytic"} for figure in found)
    assert all(0.8 < figure.baselines["analytic"] < 1.05 for figure in found)
