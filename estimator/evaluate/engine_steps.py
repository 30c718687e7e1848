"""Decode steps of real engines (TGI, IBM's LLM-Pilot traces): those that are compared, and what step models say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from estimator.accelerator import ACCELERATORS
from estimator.architecture import Architecture
from estimator.choice import choose_step
from estimator.dataset.columns import Floats, Mask
from estimator.dataset.table import EngineStep
from estimator.models import MODELS
from estimator.step import Step, step_model

STEPS = "gpu/llm_pilot_decode_steps.parquet"
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
class Loads:
    """The usable steps of one deployment under all loads. Seconds."""

    deployment: Deployment
    measured: Floats
    sequences: Floats
    learned: Floats
    """The learned step: GPU time."""
    analytic: Floats
    fitted: Mask
    """Steps that may be fitted to; the others are judged."""


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


def loads(deployment: Deployment, table: EngineStep) -> Loads:
    """The usable steps of `table`, which are those of one deployment."""
    shape, gpu = SHAPES[deployment.model], ACCELERATORS[GPUS[deployment.gpu]]
    table = table.where(usable(table))
    return Loads(
        deployment=deployment,
        measured=table.latency_s,
        sequences=table.sequences.astype(np.float64),
        learned=times_s(choose_step(shape, gpu, tensor_parallel=deployment.gpus).step, table),
        analytic=times_s(step_model(shape, gpu, tensor_parallel=deployment.gpus), table),
        fitted=np.isin(table.users, FITTED_USERS),
    )
