"""Kernels of a GPU that was never measured: from those of others, and after a few points of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from estimator.dataset.columns import Floats
from estimator.evaluate import baselines
from estimator.evaluate.figure import Figure, Line, errors, median_mape
from estimator.evaluate.fit import factors
from estimator.evaluate.kernels import ENGINES
from estimator.kernels.model import Op
from estimator.train.fit import Form, Recipe, predict
from estimator.train.fitter import Done, Fitter
from estimator.train.samples import SampleSet, pool

POINTS: Mapping[Op, int] = MappingProxyType({Op.PREFILL: 17, Op.DECODE: 17, Op.MATMUL: 4})
"""Of fifty points of one model, those of each shape: a model has one shape of heads and four of dense layers."""
POINTS_PER_FACTOR = 4
KIND = "bfloat16"
FORMS = (Form.FULL, Form.PHYSICS)
DIES: Mapping[str, str] = MappingProxyType({"H200": "H100", "GB200": "B200", "B300": "B200", "GB300": "B200"})
"""GPUs that are left out together, because they have the same multiprocessors: by the first of them."""

NAMES: Mapping[Op, str] = MappingProxyType(
    {Op.PREFILL: "prefill attention", Op.DECODE: "decode attention", Op.MATMUL: "dense layers"}
)


def others(sets: Sequence[SampleSet], gpu: str, *, same_die: bool) -> SampleSet:
    """The sets of one op under one engine, of other GPUs than `gpu`, as one; with or without those of the same die.

    Raises `ValueError` without any.
    """
    far = [one for one in sets if one.gpu != gpu and (same_die or DIES.get(one.gpu, one.gpu) != DIES.get(gpu, gpu))]
    if not far:
        raise ValueError(f"no other GPU than {gpu}")
    (pooled,) = pool(far)
    return pooled


def corrected(estimated: Floats, one: SampleSet, points: int, seed: int) -> tuple[Floats, Floats]:
    """As a replica of one model is calibrated: for each shape a factor of the estimate, with enough points one of the
    roofline and a fixed time, fitted to `points` random rows of it.

    Estimates of the other rows, and what was measured there; shapes with fewer than twice as many rows are left out.
    Raises `ValueError` where no shape has enough.
    """
    rng = np.random.default_rng(seed)
    _, shape_of = np.unique(one.shapes, axis=0, return_inverse=True)
    parts = np.stack([estimated, one.roofline_s, np.full(len(one), 1e-5)], axis=1)[:, : points // POINTS_PER_FACTOR]
    estimates, measured = [], []
    for shape in range(int(shape_of.max()) + 1):
        rows = rng.permutation(np.flatnonzero(shape_of.reshape(-1) == shape))
        if len(rows) >= 2 * points:
            known, rest = rows[:points], rows[points:]
            said = parts[rest] @ factors(parts[known], one.latency_s[known])
            # Factors may be negative; no kernel takes less than the roofline says.
            estimates.append(np.maximum(said, one.roofline_s[rest]))
            measured.append(one.latency_s[rest])
    if not estimates:
        raise ValueError(f"{one.gpu} {one.engine} {one.op}: no shape has {2 * points} rows")
    return np.concatenate(estimates), np.concatenate(measured)


def line(one: SampleSet, said: Sequence[tuple[Floats, Floats]]) -> Line:
    """Of estimates and what was measured: ours, physics only, roofline."""
    ours, physics, roofline = (errors(estimated, measured) for estimated, measured in said)
    return Line(
        subject=f"{one.gpu} {one.engine}",
        rows=len(said[0][1]),
        ours=ours,
        baselines={baselines.PHYSICS: physics, baselines.ROOFLINE: roofline},
    )


def figures(sets: Sequence[SampleSet], recipe: Recipe, fits: Fitter, done: Done) -> Iterator[Figure]:
    """`sets` are those of `samples.collect`."""
    started = []
    for split, same_die in (("one GPU left out", True), ("one GPU left out, and all of its die", False)):
        for op in POINTS:
            groups = [
                [one for one in sets if (one.op, one.engine, one.kind) == (op, engine, KIND)] for engine in ENGINES
            ]
            tested = [one for group in groups for one in group]
            pooled = [others(group, one.gpu, same_die=same_die) for group in groups for one in group]
            train = [np.ones(len(one), dtype=np.bool_) for one in pooled]
            of_forms = [fits.start(pooled, train, replace(recipe, form=form)) for form in FORMS]
            started.append((split, op, tested, of_forms))
    for split, op, tested, of_forms in started:
        zero_shot, with_points = [], []
        for one, *fitted in zip(tested, *(of_form.result(done) for of_form in of_forms), strict=True):
            scored = one.where(one.scored)
            said = [predict(each, scored) for each in fitted] + [scored.roofline_s]
            zero_shot.append(line(one, [(estimated, scored.latency_s) for estimated in said]))
            with_points.append(line(one, [corrected(estimated, scored, POINTS[op], recipe.seed) for estimated in said]))
        yield median_mape(zero_shot, quantity=NAMES[op], split=split, high=0.20)
        yield median_mape(with_points, quantity=NAMES[op], split=f"{split}; 50 points of a model on it", high=0.10)
