"""Whole decode steps of real engines (TGI, the traces of IBM's LLM-Pilot) beside the learned step.

In each deployment (a model on a number of GPUs) what is fitted is fitted to some loads, and errors are those at others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from estimator.accelerator import ACCELERATORS
from estimator.architecture import Architecture
from estimator.choice import choose_step
from estimator.dataset import llm_pilot
from estimator.dataset.columns import Floats, Mask
from estimator.dataset.table import EngineStep
from estimator.evaluate.figure import Figure, Line, errors, median_mape
from estimator.evaluate.fit import factors
from estimator.models import MODELS
from estimator.step import Step, step_model

STEPS = "gpu/llm_pilot_decode_steps.parquet"
REACH = 0.08
FITTED_USERS = (1, 4, 16, 64)
"""Numbers of clients that are fitted to; the others (2, 8, 32, 128) are judged."""
LEAST_S = 0.010
"""Latencies are whole milliseconds: at 10 ms rounding is 2.5 % of it in the mean, below it would weigh more."""
WAITED = 2.0
"""A step of more than this times the median of steps with as many clients and sequences held something else too: the
trace has steps of up to 98 s without any prefill.
"""
GPUS = {"A100": "A100-40", "H100": "H100"}
"""Names in the trace, and what they are taken for. A single A100 serves no model whose weights take 40 GB."""


def _plain(name: str, layers: int, heads: int, kv_heads: int, head_dim: int, vocab: int) -> Architecture:
    """A feed-forward block of two matrices, four times as wide as the hidden size."""
    hidden = heads * head_dim
    return Architecture(
        name=name,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        intermediate=4 * hidden,
        vocab=vocab,
        gated=False,
    )


SHAPES: Mapping[str, Architecture] = {
    "llama-7b": replace(MODELS["llama-2-7b"], name="llama-7b"),
    "llama-13b": replace(MODELS["llama-2-13b"], name="llama-13b"),
    "bigcode/starcoder": _plain("starcoder", 40, 48, 1, 128, 49_152),
    "EleutherAI/gpt-neox-20b": _plain("gpt-neox-20b", 44, 64, 64, 96, 50_432),
    "ibm/mpt-7b-instruct2": _plain("mpt-7b", 32, 32, 32, 128, 50_432),
    "Salesforce/codegen2-16B": _plain("codegen2-16b", 34, 24, 24, 256, 51_200),
}
"""By the trace's names. Its other models (T5) have an encoder, which no `Architecture` describes."""


class Deployment(NamedTuple):
    model: str
    gpu: str
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Steps of one deployment that nothing was fitted to. Seconds."""

    deployment: Deployment
    measured: Floats
    estimates: Mapping[str, Floats]


SCALAR, FIXED, SEQUENCE = "one scalar", "a scalar, a fixed time", "a scalar, a time per sequence"
ANALYTIC, CONSTANT, LINEAR = "analytic, one scalar", "constant", "linear in the batch"


def deployments(table: EngineStep) -> Iterator[tuple[Deployment, EngineStep]]:
    """The steps of each deployment of a model and a GPU that are known here, in the order of their names."""
    for model in sorted(set(table.model.names) & set(SHAPES)):
        for gpu in sorted(set(table.gpu.names) & set(GPUS)):
            rows = table.model.equal(model) & table.gpu.equal(gpu)
            for gpus in np.unique(table.gpus[rows]).tolist():
                yield Deployment(model, gpu, gpus), table.where(rows & (table.gpus == gpus))


def usable(table: EngineStep) -> Mask:
    """Steps of one deployment that only decoded, took at least 10 ms and did not wait for something else."""
    plain: Mask = table.prefills == 0
    waited = np.zeros(len(table), dtype=np.bool_)
    for users, sequences in np.unique(np.stack([table.users[plain], table.sequences[plain]], axis=1), axis=0):
        alike = plain & (table.users == users) & (table.sequences == sequences)
        waited |= alike & (table.latency_s > WAITED * np.median(table.latency_s[alike]))
    return plain & ~waited & (table.latency_s >= LEAST_S)


def times_s(step: Step, table: EngineStep) -> Floats:
    """What a step model says of each step."""
    return np.asarray(
        [
            step.time_s(prefill_tokens=0, prefill_pairs=0.0, decode_sequences=sequences, decode_kv_tokens=kv_tokens)
            for sequences, kv_tokens in zip(table.sequences.tolist(), table.kv_tokens.astype(int).tolist(), strict=True)
        ]
    )


def judge(deployment: Deployment, table: EngineStep) -> Judged:
    """Estimates of the usable steps that are held out. Raises `ValueError` where none are left on one side."""
    shape, gpu = SHAPES[deployment.model], ACCELERATORS[GPUS[deployment.gpu]]
    table = table.where(usable(table))
    fitted = np.isin(table.users, FITTED_USERS)
    learned = times_s(choose_step(shape, gpu, tensor_parallel=deployment.gpus).step, table)
    analytic = times_s(step_model(shape, gpu, tensor_parallel=deployment.gpus), table)
    ones, sequences = np.ones(len(table)), table.sequences.astype(np.float64)
    parts = {
        SCALAR: (learned,),
        FIXED: (learned, ones),
        SEQUENCE: (learned, sequences),
        ANALYTIC: (analytic,),
        CONSTANT: (ones,),
        LINEAR: (ones, sequences),
    }
    estimates = {}
    for name, columns in parts.items():
        matrix = np.stack(columns, axis=1)
        estimated = matrix @ factors(matrix[fitted], table.latency_s[fitted])
        # A fixed time may be fitted below zero; a step is never that short.
        estimates[name] = np.maximum(estimated[~fitted], 1e-3)
    return Judged(deployment=deployment, measured=table.latency_s[~fitted], estimates=estimates)


def lines(judged: Sequence[Judged], ours: str, baselines: Sequence[str] = ()) -> list[Line]:
    """One line a model, over all its deployments."""
    found = []
    for model in dict.fromkeys(one.deployment.model for one in judged):
        of_model = [one for one in judged if one.deployment.model == model]
        measured = np.concatenate([one.measured for one in of_model])
        said = {
            name: errors(np.concatenate([one.estimates[name] for one in of_model]), measured)
            for name in (ours, *baselines)
        }
        others = {name: said[name] for name in baselines}
        found.append(Line(subject=SHAPES[model].name, rows=len(measured), ours=said[ours], baselines=others))
    return found


def alone(table: EngineStep) -> list[Line]:
    """Steps of one sequence on one A100, with nothing fitted, so that all clients are judged; a line a model."""
    found = []
    for deployment, steps in deployments(table):
        if (deployment.gpu, deployment.gpus) == ("A100", 1):
            steps = steps.where(usable(steps) & (steps.sequences == 1))
            shape, gpu = SHAPES[deployment.model], ACCELERATORS[GPUS[deployment.gpu]]
            ours = errors(times_s(choose_step(shape, gpu).step, steps), steps.latency_s)
            analytic = errors(times_s(step_model(shape, gpu), steps), steps.latency_s)
            found.append(Line(subject=shape.name, rows=len(steps), ours=ours, baselines={"analytic": analytic}))
    return found


def figures(folder: Path) -> list[Figure]:
    """Errors of decode steps, by what is fitted per deployment. `folder` holds `gpu/`."""
    _, table = llm_pilot.load(folder / STEPS)
    judged = [judge(deployment, steps) for deployment, steps in deployments(table)]
    quantity = "whole decode steps"
    return [
        median_mape(
            lines(judged, SCALAR, (ANALYTIC, CONSTANT, LINEAR)),
            quantity=quantity,
            split="by model",
            high=REACH,
            note="TGI takes 0.4-1.9 ms more for each sequence of a step, which no scalar of GPU time makes up",
        ),
        median_mape(
            lines(judged, FIXED),
            quantity=f"{quantity}, {FIXED}",
            split="by model",
            note="no bound: it shows that what is missing is not the same for every step",
        ),
        median_mape(
            lines(judged, SEQUENCE, (LINEAR,)),
            quantity=f"{quantity}, {SEQUENCE}",
            split="by model",
            high=REACH,
            note="steps with equal clients, sequences and KV cache scatter by 5 % in the mean",
        ),
        median_mape(
            alone(table),
            quantity=f"{quantity} of one sequence, nothing fitted",
            split="by model, one A100",
            high=REACH,
            note="taken for the A100 with 40 GB, as it serves no model with 40 GB of weights",
        ),
    ]
