"""Fits all sets of one op at once: a batched program over (sets, rows, terms) in torch, seeded."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from estimator.dataset.columns import Floats, Mask
from estimator.train.samples import SampleSet


class Form(StrEnum):
    """What is fitted; the second and third are baselines."""

    FULL = "physics-and-residual"
    PHYSICS = "physics-only"
    NETWORK = "network-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to fit.

    Sizes, rates, steps and terms were chosen without the rows that errors are quoted on: on a fifth of the shapes that
    are trained on, and on contexts up to 4096 tokens after a training on those up to 1024.
    """

    form: Form = Form.FULL
    steps: int = 3000
    """Of terms and residual together."""
    batch_rows: int = 256
    hidden: int = 24
    clip: float = 0.7
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    start: float = -4.0
    """Of each term's coefficient, before softplus: near zero, so that a term that nothing speaks for stays out."""
    physics_steps: int = 1500
    """Of the terms alone, before the residual joins."""
    physics_rate: float = 0.1
    physics_rate_joined: float = 3e-3
    residual_penalty: float = 2e-2
    """Of the squared residual: what physics can explain, physics shall."""
    apart_penalty: float = 0.1
    """The same where sizes go together that were never measured together: there physics alone shall speak."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Coefficients of one set, as float32 arrays: what a weights file holds, by the names in `kernels.weights`."""

    key: tuple[str, str, str, str]
    arrays: dict[str, NDArray[np.float32]]
    """`physics` (terms), `center`, `scale`, `low`, `high` (features), `w1` (hidden, features), `b1`, `w2`, `b2`, `w3`
    (1, hidden), `b3` (1), `clip` (1)."""


class NotFiniteError(ValueError):
    """A training sample that is not a positive finite number."""


def fit(sets: Sequence[SampleSet], train: Sequence[Mask] | None = None, recipe: Recipe | None = None) -> list[Fitted]:
    """Coefficients of each set, from the rows that `train` selects (all by default). Sets must be of one op.

    Raises `NotFiniteError` when a set holds a NaN, an infinity or a latency that is not positive, and `ValueError` when
    a set has no rows to train on.
    """
    recipe = recipe or Recipe()
    chosen = [one if train is None else one.where(train[index]) for index, one in enumerate(sets)]
    for one in chosen:
        check(one)
    torch.manual_seed(recipe.seed)
    data = _Stack.of(chosen)
    count, _, terms = data.ratios.shape
    features, hidden = data.inputs.shape[2], recipe.hidden
    generator = torch.Generator().manual_seed(recipe.seed)
    raw = torch.full((count, terms), recipe.start)
    if recipe.form == Form.NETWORK:
        raw = raw[:, :1]
    raw = raw.requires_grad_()
    # One network for all sets to start from: a set's result does not depend on which sets stand beside it.
    weights = [
        (torch.randn(outputs, inputs, generator=generator) / inputs**0.5 * gain).repeat(count, 1, 1).requires_grad_()
        for inputs, outputs, gain in ((features, hidden, 1.0), (hidden, hidden, 1.0), (hidden, 1, 0.1))
    ]
    biases = [torch.zeros(count, 1, outputs).requires_grad_() for outputs in (hidden, hidden, 1)]
    clip = 20.0 if recipe.form == Form.NETWORK else recipe.clip
    sizes = torch.tensor([len(one) for one in chosen]).unsqueeze(1)
    rows = torch.arange(count).unsqueeze(1)

    def minimise(parameters: list[dict[str, Any]], steps: int, with_residual: bool) -> None:
        optimizer = torch.optim.AdamW(parameters)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=[group["lr"] for group in parameters], total_steps=steps, pct_start=0.15
        )
        for _ in range(steps):
            # One draw for all sets, so that a set's rows do not depend on which sets stand beside it.
            index = (torch.rand(1, recipe.batch_rows, generator=generator) * sizes).long()
            ratios, inputs = data.ratios[rows, index], data.inputs[rows, index]
            if recipe.form == Form.NETWORK:
                ratios = data.plain[rows, index]
            error = torch.log(torch.einsum("snj,sj->sn", ratios, torch.nn.functional.softplus(raw)))
            penalty = torch.zeros(1)
            if with_residual:
                residual = _residual(inputs, weights, biases, clip)
                error = error + residual
                penalty = recipe.residual_penalty * residual.square()
                # Each feature from another row: sizes that go together in no measurement.
                columns = enumerate(inputs.unbind(2))
                apart = torch.stack([column.roll(shift, dims=1) for shift, column in columns], dim=2)
                penalty = penalty + recipe.apart_penalty * _residual(apart, weights, biases, clip).square()
            loss = torch.nn.functional.huber_loss(error, torch.zeros_like(error), delta=0.05, reduction="none") / 0.05
            if not with_residual:
                loss = loss * data.importance[rows, index]
            optimizer.zero_grad()
            # The mean over a set's rows, the sum over sets: each learns at its own pace.
            (loss + penalty).mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()

    if recipe.form != Form.NETWORK:
        minimise([{"params": [raw], "lr": recipe.physics_rate, "weight_decay": 0.0}], recipe.physics_steps, False)
    if recipe.form != Form.PHYSICS:
        groups = [
            {"params": [raw], "lr": recipe.physics_rate_joined, "weight_decay": 0.0},
            {"params": weights, "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
            {"params": biases, "lr": recipe.learning_rate, "weight_decay": 0.0},
        ]
        minimise(groups, recipe.steps, True)
    physics = torch.nn.functional.softplus(raw.detach())
    if recipe.form == Form.PHYSICS:
        with torch.no_grad():
            weights[2].zero_()
    return [
        Fitted(
            key=(one.gpu, one.engine, one.op.value, one.kind),
            arrays={
                "physics": physics[index].numpy(), "center": data.center[index], "scale": data.scale[index],
                "low": data.low[index], "high": data.high[index],
                "w1": weights[0][index].detach().numpy(), "b1": biases[0][index, 0].detach().numpy(),
                "w2": weights[1][index].detach().numpy(), "b2": biases[1][index, 0].detach().numpy(),
                "w3": weights[2][index].detach().numpy(), "b3": biases[2][index, 0].detach().numpy(),
                "clip": np.asarray([clip], dtype=np.float32),
            },
        )
        for index, one in enumerate(chosen)
    ]  # fmt: skip


def predict(fitted: Fitted, samples: SampleSet) -> Floats:
    """Seconds of each row, as `kernels.model.Coefficients.time_s` computes them one by one."""
    a = {name: array.astype(np.float64) for name, array in fitted.arrays.items()}
    z = np.clip((samples.features - a["center"]) / a["scale"], a["low"], a["high"])
    hidden = np.tanh(z @ a["w1"].T + a["b1"])
    hidden = np.tanh(hidden @ a["w2"].T + a["b2"])
    residual = a["clip"][0] * np.tanh((hidden @ a["w3"].T + a["b3"])[:, 0] / a["clip"][0])
    terms = samples.terms
    # A network alone has one coefficient: of a constant.
    base = terms @ a["physics"] if len(a["physics"]) == terms.shape[1] else a["physics"][0] * 1e-4
    return np.asarray(base * np.exp(residual), dtype=np.float64)


def check(one: SampleSet) -> None:
    name = " ".join(map(str, one.key))
    if not len(one):
        raise ValueError(f"{name}: no rows to train on")
    if not (np.isfinite(one.latency_s).all() and (one.latency_s > 0).all()):
        raise NotFiniteError(f"{name}: a latency is not a positive finite number")
    for what in ("terms", "features"):
        if not np.isfinite(getattr(one, what)).all():
            raise NotFiniteError(f"{name}: {what} that are not finite")


def _residual(
    inputs: torch.Tensor, weights: list[torch.Tensor], biases: list[torch.Tensor], clip: float
) -> torch.Tensor:
    hidden = inputs
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        hidden = torch.baddbmm(bias, hidden, weight.transpose(1, 2))
        if index < 2:
            hidden = torch.tanh(hidden)
    return clip * torch.tanh(hidden.squeeze(2) / clip)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Sets as one array each, padded to the longest; padding is never drawn."""

    ratios: torch.Tensor
    """(sets, rows, terms): term over measured time."""
    plain: torch.Tensor
    """(sets, rows, 1): 0.1 ms over measured time, the base of a network alone."""
    inputs: torch.Tensor
    importance: torch.Tensor
    """(sets, rows), 1 on average: terms alone are fitted to long rows first, as those tell how long contexts grow."""
    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, sets: Sequence[SampleSet]) -> "_Stack":
        longest = max(map(len, sets))
        ratios = np.ones((len(sets), longest, sets[0].terms.shape[1]), dtype=np.float32)
        plain = np.ones((len(sets), longest, 1), dtype=np.float32)
        inputs = np.zeros((len(sets), longest, sets[0].features.shape[1]), dtype=np.float32)
        importance = np.ones((len(sets), longest), dtype=np.float32)
        stats = []
        for index, one in enumerate(sets):
            center = one.features.mean(axis=0)
            scale = np.maximum(one.features.std(axis=0), 1e-3)
            z = (one.features - center) / scale
            stats.append((center, scale, z.min(axis=0), z.max(axis=0)))
            ratios[index, : len(one)] = one.terms / one.latency_s[:, None]
            plain[index, : len(one), 0] = 1e-4 / one.latency_s
            inputs[index, : len(one)] = z
            weight = np.sqrt(np.clip(one.latency_s / np.median(one.latency_s), 0.05, 50.0))
            importance[index, : len(one)] = weight / weight.mean()
        center, scale, low, high = (np.stack(column).astype(np.float32) for column in zip(*stats, strict=True))
        return cls(
            torch.from_numpy(ratios),
            torch.from_numpy(plain),
            torch.from_numpy(inputs),
            torch.from_numpy(importance),
            center,
            scale,
            low,
            high,
        )
