"""Tables of measurements to sets of samples: one set per GPU, engine, kernel and type of numbers."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from estimator.dataset import demand
from estimator.dataset.columns import Columns, Floats, Ints, Labels, Mask, Origin
from estimator.dataset.defect import Reason
from estimator.dataset.table import Attention, Experts, Latent, LayerTime, Matmul, MixedAttention
from estimator.dataset.verdict import judge_table
from estimator.hardware import HARDWARE, Hardware
from estimator.kernels import attention_terms, basis, terms
from estimator.kernels.call import WeightType
from estimator.kernels.model import Op
from estimator.kernels.terms import Basis, Peaks
from estimator.train.columns import NumpyMathematics

_NUMPY = NumpyMathematics()
LAUNCH_BOUND_RATIO = 0.05
"""Decode rows whose KV fits the L2 are kept where reading it from memory would take less than this part of the time:
there the L2 flatters nothing, and the floor of a launch is what they tell."""
_BALANCES = ("power_law_1.01", "power_law_1.2", "balanced")
_KV_TYPES = ("bfloat16", "fp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Measurements that share coefficients, `n` of them."""

    gpu: str
    """`pooled` for a set over several GPUs."""
    engine: str
    op: Op
    kind: str
    """Type of the KV cache, or of the weights."""
    source: str
    """Engine version and kernel that were measured."""
    latency_s: Floats
    terms: Floats
    """(n, terms of the op), seconds."""
    features: Floats
    """(n, features of the op)."""
    shapes: Ints
    """(n, some): what `unseen_shapes` splits by. Head shape, (outputs, inputs), or sizes of the experts."""
    roofline_s: Floats
    """(n,): at the peaks, a baseline."""
    tokens: Ints
    """(n,): what a baseline that is linear in tokens knows: new ones of all sequences; in decode, those of contexts."""
    context_tokens: Ints
    """(n,): what `longer_contexts` splits by. 0 where an op has no context."""
    scored: Mask
    """(n,): rows that errors are counted on. Launch-bound decodes are trained on, not scored."""

    def __len__(self) -> int:
        return len(self.latency_s)

    @property
    def key(self) -> tuple[str, str, Op, str]:
        return self.gpu, self.engine, self.op, self.kind

    def where(self, rows: Mask | Ints) -> "SampleSet":
        return replace(
            self, latency_s=self.latency_s[rows], terms=self.terms[rows], features=self.features[rows],
            shapes=self.shapes[rows], roofline_s=self.roofline_s[rows], tokens=self.tokens[rows],
            context_tokens=self.context_tokens[rows], scored=self.scored[rows],
        )  # fmt: skip


def collect(tables: Iterable[tuple[Origin, Columns]], *, rows: int = 8000, seed: int = 0) -> list[SampleSet]:
    """One set per GPU, engine, op and kind, of the newest version and its most measured kernel, at most `rows` each.

    A100 decode under TensorRT-LLM is left out: a quarter of it beats the memory, so the rest is not to be trusted.
    """
    found: dict[tuple[str, str, Op, str], SampleSet] = {}
    versions: dict[tuple[str, str, Op, str], tuple[int, ...]] = {}
    for origin, table in tables:
        if (origin.gpu, origin.engine, origin.op) == ("A100-80", "trtllm", "generation_attention"):
            continue
        for one in _sets(origin, table, rows, seed):
            if isinstance(table, LayerTime) and one.key in found and found[one.key].source == one.source:
                # The dense layers and the output projection of one folder are one set.
                found[one.key] = join([found[one.key], one])
                continue
            # A newer version replaces an older one, unless it only fills gaps; mixed batches replace nothing.
            if one.key in found and (
                isinstance(table, MixedAttention | LayerTime)
                or _numbers(origin.version) < versions[one.key]
                or len(one) < len(found[one.key]) // 4
            ):
                continue
            found[one.key] = one
            versions[one.key] = _numbers(origin.version)
    return [found[key] for key in sorted(found)]


def _numbers(version: str) -> tuple[int, ...]:
    """`0.5.14` is newer than `0.5.6.post2`."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def pool(sets: Iterable[SampleSet], *, rows: int = 24000, seed: int = 0) -> list[SampleSet]:
    """Per engine, op and kind one set over all GPUs, each with an equal share of at most `rows`."""
    groups: dict[tuple[str, Op, str], list[SampleSet]] = {}
    for one in sets:
        groups.setdefault((one.engine, one.op, one.kind), []).append(one)
    return [_pooled(members, rows, seed) for _, members in sorted(groups.items())]


def _pooled(members: list[SampleSet], rows: int, seed: int) -> SampleSet:
    parts = [_thinned(one, rows // len(members), seed) for one in members]
    return replace(join(parts), gpu="pooled", source=", ".join(one.gpu for one in parts))


def join(parts: Sequence[SampleSet]) -> SampleSet:
    """Rows of several sets of one op, one after the other, under the names of the first."""
    return replace(
        parts[0],
        latency_s=np.concatenate([one.latency_s for one in parts]),
        terms=np.concatenate([one.terms for one in parts]),
        features=np.concatenate([one.features for one in parts]),
        shapes=np.concatenate([one.shapes for one in parts]),
        roofline_s=np.concatenate([one.roofline_s for one in parts]),
        tokens=np.concatenate([one.tokens for one in parts]),
        context_tokens=np.concatenate([one.context_tokens for one in parts]),
        scored=np.concatenate([one.scored for one in parts]),
    )


def _thinned(one: SampleSet, rows: int, seed: int) -> SampleSet:
    if len(one) <= rows:
        return one
    return one.where(np.sort(np.random.default_rng(seed).permutation(len(one))[:rows]))


def _sets(origin: Origin, table: Columns, rows: int, seed: int) -> Iterator[SampleSet]:
    gpu = HARDWARE[origin.gpu]
    verdict = judge_table(origin, table)
    match table:
        case Attention():
            kv_s = demand.attention_kv_bytes(table) / gpu.memory_bytes_per_s
            launch_bound = verdict.because(Reason.FITS_L2) & (kv_s < LAUNCH_BOUND_RATIO * table.latency_s)
            for kind in _KV_TYPES:
                typed = table.kv_type.equal(kind)
                decode = (table.new_tokens == 1) & (table.cached_tokens > 0)
                for op, phase in ((Op.PREFILL, table.new_tokens > 1), (Op.DECODE, decode)):
                    kept = verdict.kept & typed & phase
                    if not kept.any():
                        continue
                    label, main = _most_measured(kept, table.kernel, table.arithmetic)
                    floor = launch_bound & typed & phase & main
                    chosen = _choose(kept & main, floor, rows, seed)
                    yield _attention(origin, gpu, op, kind, label, table.where(chosen), verdict.kept[chosen])
        case Latent():
            alone = table.projections.equal("none")
            for kind in _KV_TYPES:
                typed = table.kv_type.equal(kind) & alone
                decode = (table.new_tokens == 1) & (table.cached_tokens > 0)
                for op, phase in ((Op.LATENT_PREFILL, ~decode), (Op.LATENT_DECODE, decode)):
                    kept = verdict.kept & typed & phase
                    if not kept.any():
                        continue
                    kv_s = demand.latent_kv_bytes(table) / gpu.memory_bytes_per_s
                    launch_bound = verdict.because(Reason.FITS_L2) & (kv_s < LAUNCH_BOUND_RATIO * table.latency_s)
                    label, main = _most_measured(kept, table.kernel, table.arithmetic)
                    chosen = _choose(kept & main, launch_bound & typed & phase & main, rows, seed)
                    yield _latent(origin, gpu, op, kind, label, table.where(chosen), verdict.kept[chosen])
        case Matmul():
            for kind in WeightType:
                kept = verdict.kept & table.weight_type.equal(kind)
                if kept.any():
                    label, main = _most_measured(kept, table.kernel)
                    chosen = _choose(kept & main, np.zeros_like(kept), rows, seed)
                    yield _matmul(origin, gpu, kind, label, table.where(chosen))
        case Experts():
            balance = next(name for name in _BALANCES if (verdict.kept & table.balance.equal(name)).any())
            for kind in WeightType:
                kept = verdict.kept & table.weight_type.equal(kind) & table.balance.equal(balance)
                for gated in (True, False):
                    some = kept & (table.gated == gated)
                    if some.any():
                        _, main = _most_measured(some, table.kernel)
                        kept &= ~some | main
                if kept.any():
                    label, _ = _most_measured(kept, table.kernel)
                    chosen = _choose(kept, np.zeros_like(kept), rows, seed)
                    yield _experts(origin, gpu, kind, label, table.where(chosen))
        case MixedAttention():
            alone = (table.chunk_tokens == 0) | (table.decodes == 0)
            yield from _sets(origin, _unmixed(table.where(alone)), rows, seed)
            yield _mixed(origin, gpu, table.where(_choose(verdict.kept, np.zeros_like(verdict.kept), rows, seed)))
        case LayerTime():
            yield from _layers(origin, gpu, table, rows, seed)
        case _:
            return


def _most_measured(kept: Mask, *labels: Labels) -> tuple[str, Mask]:
    """The combination of labels that most kept rows have: its text, and the rows that have it."""
    codes = np.stack([label.codes for label in labels], axis=1)
    distinct, counts = np.unique(codes[kept], axis=0, return_counts=True)
    most = distinct[np.argmax(counts)]
    text = " ".join(label.names[code] for label, code in zip(labels, most, strict=True))
    return text, np.all(codes == most, axis=1)


def _choose(kept: Mask, floor: Mask, rows: int, seed: int) -> Ints:
    """At most `rows` kept rows, drawn evenly, and at most a fifth as many launch-bound ones."""
    rng = np.random.default_rng(seed)
    main = rng.permutation(np.flatnonzero(kept))[:rows]
    extra = rng.permutation(np.flatnonzero(floor))[: len(main) // 5]
    return np.sort(np.concatenate([main, extra]))


def _floats(values: Ints) -> Floats:
    return values.astype(np.float64)


def _peaks(gpu: Hardware, bits: int) -> Peaks:
    return Peaks(
        flops_per_s=gpu.flops_per_s[bits],
        memory_bytes_per_s=gpu.memory_bytes_per_s,
        multiprocessors=float(gpu.multiprocessors),
        l2_bytes=gpu.l2_bytes,
    )


def _set(
    origin: Origin,
    op: Op,
    kind: str,
    label: str,
    table: Columns,
    found: Basis,
    shapes: Ints,
    tokens: Ints,
    context: Ints,
    scored: Mask,
) -> SampleSet:
    return SampleSet(
        gpu=origin.gpu, engine=origin.engine, op=op, kind=kind, source=f"{origin.version} {label}".strip(),
        latency_s=table.latency_s, terms=np.stack(found.terms, axis=1), features=np.stack(found.features, axis=1),
        shapes=shapes, roofline_s=found.roofline, tokens=tokens, context_tokens=context, scored=scored,
    )  # fmt: skip


def _attention(
    origin: Origin, gpu: Hardware, op: Op, kind: str, label: str, table: Attention, scored: Mask
) -> SampleSet:
    sizes = {
        "sequences": _floats(table.sequences), "cached_tokens": _floats(table.cached_tokens),
        "heads": _floats(table.heads), "kv_heads": _floats(table.kv_heads), "head_size": _floats(table.head_size),
        "window_tokens": _floats(table.window_tokens), "kv_bytes": demand.stored_bytes(table.kv_type),
    }  # fmt: skip
    peaks = _peaks(gpu, 16)
    found = (
        attention_terms.decode(_NUMPY, peaks, **sizes)
        if op == Op.DECODE
        else attention_terms.prefill(_NUMPY, peaks, new_tokens=_floats(table.new_tokens), **sizes)
    )
    context = table.context_tokens()
    tokens = table.sequences * (context if op == Op.DECODE else table.new_tokens)
    return _set(origin, op, kind, label, table, found, table.head_shapes(), tokens, context, scored)


def _latent(origin: Origin, gpu: Hardware, op: Op, kind: str, label: str, table: Latent, scored: Mask) -> SampleSet:
    sizes = {
        "sequences": _floats(table.sequences), "cached_tokens": _floats(table.cached_tokens),
        "heads": _floats(table.heads), "kv_bytes": demand.stored_bytes(table.kv_type),
    }  # fmt: skip
    peaks = _peaks(gpu, 16)
    found = (
        basis.latent_decode(_NUMPY, peaks, **sizes)
        if op == Op.LATENT_DECODE
        else basis.latent_prefill(_NUMPY, peaks, new_tokens=_floats(table.new_tokens), **sizes)
    )
    shapes, context = table.heads[:, None], table.cached_tokens + table.new_tokens
    tokens = table.sequences * (context if op == Op.LATENT_DECODE else table.new_tokens)
    return _set(origin, op, kind, label, table, found, shapes, tokens, context, scored)


def _matmul(origin: Origin, gpu: Hardware, kind: WeightType, label: str, table: Matmul) -> SampleSet:
    found = terms.matmul(
        _NUMPY, _peaks(gpu, kind.arithmetic_bits), tokens=_floats(table.tokens), outputs=_floats(table.outputs),
        inputs=_floats(table.inputs), weight_bytes=kind.stored_bytes, operand_bytes=kind.arithmetic_bits / 8.0,
    )  # fmt: skip
    shapes = np.stack([table.outputs, table.inputs], axis=1)
    none, every = np.zeros_like(table.tokens), np.ones(len(table), dtype=np.bool_)
    return _set(origin, Op.MATMUL, kind, label, table, found, shapes, table.tokens, none, every)


def _experts(origin: Origin, gpu: Hardware, kind: WeightType, label: str, table: Experts) -> SampleSet:
    found = terms.experts(
        _NUMPY, _peaks(gpu, kind.arithmetic_bits), tokens=_floats(table.tokens), hidden=_floats(table.hidden),
        intermediate=_floats(table.intermediate), experts=_floats(table.experts),
        experts_per_token=_floats(table.experts_per_token), tensor_parallel=_floats(table.tensor_parallel),
        expert_parallel=_floats(table.expert_parallel), matrices=np.where(table.gated, 3.0, 2.0),
        weight_bytes=kind.stored_bytes, operand_bytes=kind.arithmetic_bits / 8.0,
    )  # fmt: skip
    shapes = np.stack([table.hidden, table.intermediate, table.experts_per_token, table.experts], axis=1)
    none, every = np.zeros_like(table.tokens), np.ones(len(table), dtype=np.bool_)
    return _set(origin, Op.EXPERTS, kind, label, table, found, shapes, table.tokens, none, every)


def _mixed(origin: Origin, gpu: Hardware, table: MixedAttention) -> SampleSet:
    one = np.ones(len(table))
    found = attention_terms.mixed(
        _NUMPY, _peaks(gpu, 16), chunk_tokens=_floats(table.chunk_tokens), cached_tokens=_floats(table.cached_tokens),
        decodes=_floats(table.decodes), decode_tokens=_floats(table.decode_tokens), heads=demand.MIXED_HEADS * one,
        kv_heads=demand.MIXED_KV_HEADS * one, head_size=demand.MIXED_HEAD_SIZE * one, window_tokens=0.0 * one,
        kv_bytes=2.0 * one,
    )  # fmt: skip
    context = np.maximum(
        np.where(table.chunk_tokens > 0, table.chunk_tokens + table.cached_tokens, 0), table.decode_tokens
    )
    shapes = np.stack([table.chunk_tokens, table.cached_tokens, table.decodes], axis=1)
    tokens = table.chunk_tokens + table.decodes
    every = np.ones(len(table), dtype=np.bool_)
    return _set(origin, Op.MIXED, "bfloat16", "mixed_batches", table, found, shapes, tokens, context, every)


# (outputs, inputs) of the matrix products in mixed batches: Llama-3.1-8B's, on one GPU.
_LAYERS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "qkv_proj": (6144, 4096), "o_proj": (4096, 4096), "gate_up_proj": (28672, 4096), "down_proj": (4096, 14336),
        "lm_head": (128_256, 4096),
    }
)  # fmt: skip


def _layers(origin: Origin, gpu: Hardware, table: LayerTime, rows: int, seed: int) -> Iterator[SampleSet]:
    """The dense layers and the output projection of mixed batches as matrix products."""
    sizes = np.asarray([_LAYERS.get(name, (0, 0)) for name in table.layer.names], dtype=np.int64)[table.layer.codes]
    chosen = _choose(sizes[:, 0] > 0, np.zeros(len(table), dtype=np.bool_), rows, seed)
    part, sizes = table.where(chosen), sizes[chosen]
    kernel = Labels(np.zeros(len(part), dtype=np.int32), ("dense_layer",))
    weights = Labels(np.zeros(len(part), dtype=np.int32), (WeightType.BF16.value,))
    matmul = Matmul(
        latency_s=part.latency_s, tokens=part.tokens, outputs=sizes[:, 0], inputs=sizes[:, 1], weight_type=weights,
        kernel=kernel,
    )  # fmt: skip
    yield _matmul(origin, gpu, WeightType.BF16, "mixed_batches", matmul)


def _unmixed(table: MixedAttention) -> Attention:
    """Batches with only a chunk or only decoding sequences, as plain attention."""
    decode = table.chunk_tokens == 0
    rows = len(table)
    bf16 = Labels(np.zeros(rows, dtype=np.int32), ("bfloat16",))
    return Attention(
        latency_s=table.latency_s, sequences=np.where(decode, table.decodes, 1),
        new_tokens=np.where(decode, 1, table.chunk_tokens),
        cached_tokens=np.where(decode, table.decode_tokens - 1, table.cached_tokens),
        heads=np.full(rows, demand.MIXED_HEADS), kv_heads=np.full(rows, demand.MIXED_KV_HEADS),
        head_size=np.full(rows, demand.MIXED_HEAD_SIZE), window_tokens=np.zeros(rows, dtype=np.int64), arithmetic=bf16,
        kv_type=bf16, kernel=Labels(np.zeros(rows, dtype=np.int32), ("mixed_batches",)),
    )  # fmt: skip
