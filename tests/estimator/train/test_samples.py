"""Which measurements become samples: the newest version, the most measured kernel, rows that are not defects."""

from dataclasses import replace

import numpy as np

from estimator.dataset.columns import Labels, Origin
from estimator.dataset.table import LayerTime, Matmul
from estimator.kernels.model import Op
from estimator.train.samples import collect


def matmul(rows: int, latency_s: float, kernels: list[str] | None = None) -> Matmul:
    return Matmul(
        latency_s=np.full(rows, latency_s),
        tokens=np.arange(1, rows + 1),
        outputs=np.full(rows, 4096),
        inputs=np.full(rows, 4096),
        weight_type=Labels.of(["bfloat16"] * rows),
        kernel=Labels.of(kernels or ["default"] * rows),
    )


def origin(version: str) -> Origin:
    return Origin(source="made", gpu="H100", engine="sglang", version=version, op="gemm")


def test_a_newer_version_replaces_an_older_one_whatever_the_order() -> None:
    tables = [(origin("0.5.14"), matmul(40, 1e-3)), (origin("0.5.6.post2"), matmul(40, 2e-3))]
    for order in (tables, tables[::-1]):
        (one,) = collect(order)
        assert (one.source, set(one.latency_s)) == ("0.5.14 default", {1e-3})


def test_a_newer_version_that_only_fills_gaps_replaces_nothing() -> None:
    (one,) = collect([(origin("1.0"), matmul(40, 1e-3)), (origin("2.0"), matmul(5, 2e-3))])
    assert one.source == "1.0 default"


def test_the_kernel_that_was_measured_most_is_taken() -> None:
    (one,) = collect([(origin("1.0"), matmul(40, 1e-3, ["usual"] * 30 + ["rare"] * 10))])
    assert (one.key, len(one), one.source) == (("H100", "sglang", Op.MATMUL, "bfloat16"), 30, "1.0 usual")


def test_defects_are_left_out_and_rows_are_bounded() -> None:
    table = matmul(40, 1e-3)
    table.latency_s[:3] = [np.nan, 0.0, 1e-12]
    (one,) = collect([(origin("1.0"), table)])
    assert len(one) == 37
    (one,) = collect([(origin("1.0"), table)], rows=10)
    assert len(one) == 10


def layers(names: list[str], latency_s: float) -> LayerTime:
    return LayerTime(
        latency_s=np.full(len(names), latency_s), layer=Labels.of(names), tokens=np.arange(1, len(names) + 1)
    )


def test_the_output_projection_joins_the_dense_layers_of_its_folder() -> None:
    folder = Origin(source="mixed_batches", gpu="RTX4090", engine="vllm", version="0.19.0", op="dense_layer")
    tables = [
        (folder, layers(["o_proj", "down_proj", "layernorm"], 2e-4)),
        (replace(folder, op="sequence_layer"), layers(["lm_head", "lm_head", "sampler"], 1.2e-3)),
    ]
    for order in (tables, tables[::-1]):
        (one,) = collect(order)
        assert one.key == ("RTX4090", "vllm", Op.MATMUL, "bfloat16")
        assert one.source == "0.19.0 mixed_batches"
        found = sorted((*shape, latency_s) for shape, latency_s in zip(one.shapes.tolist(), one.latency_s, strict=True))
        assert found == [(4096, 4096, 2e-4), (4096, 14336, 2e-4), (128_256, 4096, 1.2e-3), (128_256, 4096, 1.2e-3)]


def test_layers_of_mixed_batches_replace_no_table_of_products_and_add_nothing_to_it() -> None:
    folder = Origin(source="mixed_batches", gpu="H100", engine="sglang", version="9.0", op="sequence_layer")
    (one,) = collect([(origin("1.0"), matmul(40, 1e-3)), (folder, layers(["lm_head"] * 40, 1.2e-3))])
    assert (one.source, len(one)) == ("1.0 default", 40)
