"""Made-up matrix products as samples, whose times are known sums of terms."""

from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from estimator.kernels import basis
from estimator.kernels.call import MatmulCall
from estimator.kernels.model import Op
from estimator.kernels.terms import Peaks
from estimator.train.fit import Recipe
from estimator.train.samples import SampleSet

GPU = Peaks(flops_per_s=1e15, memory_bytes_per_s=3e12, multiprocessors=132.0, l2_bytes=5e7)
QUICK = Recipe(steps=300, batch_rows=128, physics_steps=300, hidden=16)
ROWS = 400


def samples(gpu: str = "H100", seed: int = 0) -> SampleSet:
    """Matrix products that take 1.3 times their FLOPs, 1.2 times their weights and 3 µs."""
    rng = np.random.default_rng(seed)
    calls = [
        MatmulCall(tokens=tokens, outputs=128 * outputs, inputs=128 * inputs)
        for tokens, outputs, inputs in np.exp(rng.uniform(0, [9, 4, 4], (ROWS, 3))).astype(int).tolist()
    ]
    found = [basis.matmul(GPU, call) for call in calls]
    terms = np.asarray([one.terms for one in found])
    return SampleSet(
        gpu=gpu, engine="vllm", op=Op.MATMUL, kind="bfloat16", source="made",
        latency_s=1.3 * terms[:, 0] + 1.2 * terms[:, 4] + 3e-6, terms=terms,
        features=np.asarray([one.features for one in found]),
        shapes=np.asarray([(call.outputs, call.inputs) for call in calls]),
        roofline_s=np.asarray([one.roofline for one in found]), tokens=np.asarray([call.tokens for call in calls]),
        context_tokens=np.zeros(ROWS, dtype=np.int64), scored=np.ones(ROWS, dtype=np.bool_),
    )  # fmt: skip


class AtOnce(Executor):
    """Runs what is submitted to it before it returns, in this process."""

    def submit(self, fn: Any, /, *arguments: Any, **named: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future
