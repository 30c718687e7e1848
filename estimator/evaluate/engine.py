"""Whole decode steps of real engines (TGI, the traces of IBM's LLM-Pilot) beside the learned step.

In each deployment (a model on a number of GPUs) what is fitted is fitted to some loads, and errors are those at others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from estimator.accelerator import ACCELERATORS
from estimator.choice import choose_step
from estimator.dataset import llm_pilot
from estimator.dataset.columns import Floats
from estimator.dataset.table import EngineStep
from estimator.evaluate.engine_steps import GPUS, SHAPES, STEPS, Deployment, Loads, deployments, loads, times_s, usable
from estimator.evaluate.engine_time import ENGINE, FORMS, LEAST_ESTIMATE_S, from_others
from estimator.evaluate.figure import Figure, Line, errors, median_mape
from estimator.evaluate.fit import factors
from estimator.step import step_model

REACH = 0.08


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Steps of one deployment that nothing was fitted to. Seconds."""

    deployment: Deployment
    measured: Floats
    estimates: Mapping[str, Floats]


SCALAR, FIXED, SEQUENCE = "one scalar", "a scalar, a fixed time", "a scalar, a time per sequence"
ANALYTIC, CONSTANT, LINEAR = "analytic, one scalar", "constant", "linear in the batch"


def judge(steps: Loads) -> Judged:
    """Estimates of the steps that are held out. Raises `ValueError` where too few are left to fit to."""
    ones, rows = np.ones(len(steps.measured)), steps.fitted
    parts = {
        SCALAR: (steps.learned,),
        FIXED: (steps.learned, ones),
        SEQUENCE: (steps.learned, steps.sequences),
        ANALYTIC: (steps.analytic,),
        CONSTANT: (ones,),
        LINEAR: (ones, steps.sequences),
    }
    found = {}
    for name, columns in parts.items():
        matrix = np.stack(columns, axis=1)
        estimated = matrix @ factors(matrix[rows], steps.measured[rows])
        # A fixed time may be fitted below zero; a step is never that short.
        found[name] = np.maximum(estimated[~rows], LEAST_ESTIMATE_S)
    return Judged(deployment=steps.deployment, measured=steps.measured[~rows], estimates=found)


def judge_all(found: Sequence[Loads]) -> list[Judged]:
    """As `judge`, with what one scalar and the engine's time from other models say. Needs two models or more."""
    shared = {name: from_others(found, form) for name, form in FORMS.items()}
    return [
        replace(one, estimates={**one.estimates, **{name: every[index] for name, every in shared.items()}})
        for index, one in enumerate(map(judge, found))
    ]


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
    judged = judge_all([loads(deployment, steps) for deployment, steps in deployments(table)])
    quantity = "whole decode steps"
    return [
        median_mape(
            lines(judged, ENGINE, [name for name in FORMS if name != ENGINE]),
            quantity=f"{quantity}, {ENGINE}",
            split="by model",
            high=REACH,
            note="a deployment has one scalar, of GPU time; a time for each sequence is from the other models",
        ),
        median_mape(
            lines(judged, SCALAR, (ANALYTIC, CONSTANT, LINEAR)),
            quantity=quantity,
            split="by model",
            high=REACH,
            note="TGI takes time for each sequence of a step, which no scalar of GPU time makes up",
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
        ),
        median_mape(
            alone(table),
            quantity=f"{quantity} of one sequence, nothing fitted",
            split="by model, one A100",
            high=REACH,
            note="taken for the A100 with 40 GB, as it serves no model with 40 GB of weights",
        ),
    ]
