"""How near a replayed vLLM run is to the recorded one, and its busy seconds to the shares of its tokens."""

from itertools import pairwise
from math import inf
from pathlib import Path

from estimator.calibrate import UNKNOWN, LearnRule, Period, learn, teaches
from estimator.choice import choose_step
from estimator.evaluate.figure import Figure
from estimator.evaluate.replay import Run, latency_ratio, read_run, replay
from estimator.price import Price, WeightSource, fitting_batch, price_from_step
from estimator.step import Step, step_model

RUN = "gpu/vllm_runs/RTX4090_Llama-3.1-8B"
PERIOD_S = 10.0
PLANNING_BATCH = 48
NEAR = (0.92, 1.08)
CONSERVED = (0.8, 1.25)
CONSERVED_AFTER_A_SCALAR = (0.97, 1.03)


def price_of(run: Run, step: Step, source: WeightSource) -> Price:
    """The price at the planning batch of 48, or what the run's KV cache holds of it."""
    return price_from_step(step, source=source, planning_batch=PLANNING_BATCH, kv_tokens=run.settings.kv_tokens)


def shares_s(price: Price, run: Run, at_s: float = inf) -> float:
    """Shares of every token that had been computed by `at_s`, tokens of a decode spread evenly over it."""
    total_s = 0.0
    for row in run.requests:
        if at_s >= row.first_token_at_s:
            decode_s = max(row.last_token_at_s - row.first_token_at_s, 1e-9)
            done = min(1.0, (at_s - row.first_token_at_s) / decode_s)
            tokens = 1 + done * (row.output_tokens - 1)
            total_s += price.prefill_s(input_tokens=row.input_tokens)
            total_s += price.decode_s(input_tokens=row.input_tokens, output_tokens=tokens)
    return total_s


def periods_of(price: Price, run: Run) -> list[Period]:
    """The run in whole periods of 10 s: the GPU was busy throughout, with what was scheduled and not yet ended."""
    start_s = run.requests[0].queued_at_s
    edges = [start_s + PERIOD_S * number for number in range(int(run.busy_s / PERIOD_S) + 1)]
    return [
        Period(
            busy_s=PERIOD_S,
            attributed_s=shares_s(price, run, after_s) - shares_s(price, run, before_s),
            sequences=sum(
                max(0.0, min(after_s, row.last_token_at_s) - max(before_s, row.scheduled_at_s)) for row in run.requests
            )
            / PERIOD_S,
        )
        for before_s, after_s in pairwise(edges)
    ]


def conserved_after_a_scalar(price: Price, run: Run) -> tuple[float, int]:
    """Attributed over busy seconds in the well-filled periods of the second half, by the first half's scalar; and how
    many such periods there are.

    Raises `ValueError` where there are none.
    """
    rule = LearnRule(planning_batch=fitting_batch(PLANNING_BATCH, kv_tokens=run.settings.kv_tokens))
    periods = periods_of(price, run)
    half = len(periods) // 2
    scalar = UNKNOWN
    for period in periods[:half]:
        scalar = learn(scalar, period, rule)
    rest = [period for period in periods[half:] if teaches(period, rule)]
    if not rest:
        raise ValueError("no period of the second half is well filled")
    attributed_s = scalar.ratio * sum(period.attributed_s for period in rest)
    return attributed_s / sum(period.busy_s for period in rest), len(rest)


def figures(folder: Path) -> list[Figure]:
    """Latencies of the replay over the recorded ones, and conservation. `folder` holds `gpu/`."""
    run = read_run(folder / RUN)
    choice = choose_step(run.architecture, run.accelerator)
    analytic = step_model(run.architecture, run.accelerator)
    ours, theirs = replay(run, choice.step), replay(run, analytic)
    name = f"{run.architecture.name} on one {run.accelerator.name}, {len(run.requests)} requests"
    found = [
        Figure(
            quantity="a recorded vLLM run, replayed",
            split=name,
            measure=f"simulated over recorded {latency} p{round(100 * ratio)}",
            value=latency_ratio(run, ours, latency, ratio),
            low=NEAR[0],
            high=NEAR[1],
            baselines={"analytic": latency_ratio(run, theirs, latency, ratio)},
            note=f"step times: {choice.source.value}; nothing is fitted to the run",
        )
        for latency in ("TTFT", "TPOT")
        for ratio in (0.5, 0.9)
    ]
    price, plain = price_of(run, choice.step, choice.source), price_of(run, analytic, WeightSource.ANALYTIC)
    found.append(
        Figure(
            quantity="conservation in a recorded vLLM run",
            split=name,
            measure="attributed over busy seconds",
            value=shares_s(price, run) / run.busy_s,
            low=CONSERVED[0],
            high=CONSERVED[1],
            baselines={"analytic": shares_s(plain, run) / run.busy_s},
            note="nothing is fitted to the run",
        )
    )
    value, periods = conserved_after_a_scalar(price, run)
    found.append(
        Figure(
            quantity="conservation in a recorded vLLM run",
            split=name,
            measure="attributed over busy seconds, one scalar learned",
            value=value,
            low=CONSERVED_AFTER_A_SCALAR[0],
            high=CONSERVED_AFTER_A_SCALAR[1],
            baselines={"analytic": conserved_after_a_scalar(plain, run)[0]},
            note=f"the scalar is learned in the first half; {periods} well-filled periods of 10 s in the second",
        )
    )
    return found
