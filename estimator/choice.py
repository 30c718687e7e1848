"""Which step model a replica gets: learned kernels where there are weights, else the analytic one, and why."""

from pathlib import Path
from typing import NamedTuple

from estimator.accelerator import Accelerator
from estimator.architecture import Architecture
from estimator.engine import Engine
from estimator.kernels.library import load_kernels
from estimator.learned_step import LearnedStep
from estimator.price import WeightSource
from estimator.step import Step, step_model


class Choice(NamedTuple):
    """A step model and where it comes from."""

    step: Step
    source: WeightSource
    fit: str
    """`measured` on this GPU, `relative` (a GPU of the same die), `pooled` over all GPUs; empty when analytic."""
    reason: str
    """Why there are no learned kernels; empty when there are."""


def choose_step(
    architecture: Architecture,
    accelerator: Accelerator,
    *,
    tensor_parallel: int = 1,
    engine: Engine = Engine.VLLM,
    folder: Path | None = None,
) -> Choice:
    """The step model to use. Damaged or missing weights (in `folder`, else those that ship) leave the analytic one.

    Raises `ValueError` when `tensor_parallel` is below 1 or does not divide the attention heads.
    """
    analytic = step_model(architecture, accelerator, tensor_parallel=tensor_parallel)
    try:
        kernels = load_kernels(accelerator, engine, folder)
        learned = LearnedStep(kernels, architecture, accelerator, tensor_parallel=tensor_parallel)
        # Coefficients that are not there show at the first call.
        learned.time_s(prefill_tokens=16, prefill_pairs=136.0, decode_sequences=1, decode_kv_tokens=16)
    except ValueError as error:
        return Choice(analytic, WeightSource.ANALYTIC, "", str(error))
    return Choice(learned, WeightSource.LEARNED, kernels.fit.value, "")
