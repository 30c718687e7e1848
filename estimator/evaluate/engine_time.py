"""The time that an engine takes for each sequence of a step besides the GPU's work, learned from other models' steps.

It is taken as a property of the engine: what is fitted in a deployment that is judged is one scalar.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from estimator.dataset.columns import Floats
from estimator.evaluate.engine_steps import SHAPES, Deployment, Loads
from estimator.evaluate.fit import factors

LEAST_ESTIMATE_S = 1e-3
"""No estimate of a step is shorter, whatever its factors are."""

Share = Callable[[Deployment], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the engine's time grows with, and what a deployment's scalar multiplies."""

    share: Share = lambda _: 1.0
    """The part of a sequence's time that depends on the deployment: seconds per sequence are it times one number."""
    whole: bool = False
    """Whether the scalar multiplies the engine's time too, or the GPU's alone."""


ENGINE = "one scalar, the engine's time per sequence from other models"
FORMS: Mapping[str, Form] = MappingProxyType(
    {
        ENGINE: Form(),
        "the scalar on the whole step": Form(whole=True),
        "time per sequence and layer": Form(share=lambda deployment: float(SHAPES[deployment.model].layers)),
        "time per sequence and GPU": Form(share=lambda deployment: 1.0 / deployment.gpus),
        "time per sequence and entry of the vocabulary": Form(
            share=lambda deployment: float(SHAPES[deployment.model].vocab)
        ),
    }
)


def own_s(loads: Loads) -> float:
    """Seconds per sequence of one deployment, fitted together with its scalar of GPU time."""
    parts = np.stack((loads.learned, loads.sequences), axis=1)
    return float(factors(parts[loads.fitted], loads.measured[loads.fitted])[1])


def shared_s(own: Mapping[Deployment, float], form: Form) -> float:
    """The number that, times their shares, has the least mean relative error over deployments. Seconds.

    Raises `ValueError` for no deployments.
    """
    shares = np.asarray([[form.share(deployment)] for deployment in own]).reshape(-1, 1)
    return float(factors(shares, np.asarray(list(own.values())))[0])


def estimates(loads: Loads, form: Form, shared: float) -> Floats:
    """Seconds of the judged steps, after one scalar fitted to the others."""
    engine = shared * form.share(loads.deployment) * loads.sequences
    scaled, added = (loads.learned + engine, 0.0 * engine) if form.whole else (loads.learned, engine)
    rows = loads.fitted
    (scalar,) = factors(scaled[rows, None], loads.measured[rows], added[rows])
    # The engine's time alone may exceed what was fitted to, and the scalar fall below zero; a step is never that short.
    return np.asarray(np.maximum((scalar * scaled + added)[~rows], LEAST_ESTIMATE_S), dtype=np.float64)


def from_others(found: Sequence[Loads], form: Form) -> list[Floats]:
    """Seconds of the judged steps of each deployment; the engine's time is from all other models. In order."""
    own = {loads.deployment: own_s(loads) for loads in found}
    models = {loads.deployment.model for loads in found}
    shared = {model: shared_s(_without(own, model), form) for model in models}
    return [estimates(loads, form, shared[loads.deployment.model]) for loads in found]


def _without(own: Mapping[Deployment, float], model: str) -> dict[Deployment, float]:
    return {deployment: seconds for deployment, seconds in own.items() if deployment.model != model}
