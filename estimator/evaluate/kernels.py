"""Kernels on head shapes and contexts that training has not seen, beside the baselines, per GPU and engine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from estimator.dataset.columns import Mask
from estimator.dataset.split import EmptySideError, longer_contexts, unseen_shapes
from estimator.evaluate import baselines
from estimator.evaluate.figure import Figure, Line, errors, median_mape
from estimator.kernels.model import Op
from estimator.train.fit import Form, Recipe, predict
from estimator.train.fitter import Done, Fitter
from estimator.train.samples import SampleSet

GPUS = ("A100-80", "H100", "H200", "B200", "L40S")
ENGINES = ("vllm", "sglang")
TEST_RATIO = 0.2
LIMIT_TOKENS = 4096


def judged(sets: Sequence[SampleSet], train: Sequence[Mask], recipe: Recipe, fits: Fitter, done: Done) -> list[Line]:
    """Errors on scored rows that are not in `train`, ours and of each baseline, a line a set. Sets are of one op."""
    started = {form: fits.start(sets, train, replace(recipe, form=form)) for form in Form}
    fitted = {form: of_form.result(done) for form, of_form in started.items()}
    found = []
    for index, (one, rows) in enumerate(zip(sets, train, strict=True)):
        test = ~rows & one.scored
        held_out = one.where(test)
        measured = held_out.latency_s
        learned = {form: errors(predict(fitted[form][index], held_out), measured) for form in Form}
        found.append(
            Line(
                subject=f"{one.gpu} {one.engine} {one.kind}",
                rows=len(held_out),
                ours=learned[Form.FULL],
                baselines={
                    baselines.PHYSICS: learned[Form.PHYSICS],
                    baselines.NETWORK: learned[Form.NETWORK],
                    baselines.TOKENS: errors(baselines.linear_s(one, rows)[test], measured),
                    baselines.ROOFLINE: errors(baselines.roofline_s(held_out), measured),
                },
            )
        )
    return found


def of_op(sets: Sequence[SampleSet], op: Op) -> list[SampleSet]:
    """The sets of an op on the GPUs and engines that figures are about."""
    return [one for one in sets if one.op == op and one.gpu in GPUS and one.engine in ENGINES]


def by_shape(sets: Sequence[SampleSet]) -> tuple[list[SampleSet], list[Mask]]:
    """The sets with enough shapes, and the rows of each to train on."""
    return _split(sets, lambda one: unseen_shapes(one.shapes, TEST_RATIO).train)


def by_context(sets: Sequence[SampleSet]) -> tuple[list[SampleSet], list[Mask]]:
    """The sets with contexts on both sides of 4096 tokens, and the rows of each to train on."""
    return _split(sets, lambda one: longer_contexts(one.context_tokens, LIMIT_TOKENS).train)


def _split(sets: Sequence[SampleSet], train_of: Callable[[SampleSet], Mask]) -> tuple[list[SampleSet], list[Mask]]:
    kept, masks = [], []
    for one in sets:
        try:
            train = train_of(one)
        except EmptySideError:
            continue
        if (~train & one.scored).any() and (train & one.scored).any():
            kept.append(one)
            masks.append(train)
    return kept, masks


def figures(sets: Sequence[SampleSet], recipe: Recipe, fits: Fitter, done: Done) -> Iterator[Figure]:
    """Attention and dense layers; `sets` are those of `samples.collect`."""
    for quantity, op, of_shapes, of_contexts in (
        ("prefill attention", Op.PREFILL, 0.03, 0.05),
        ("decode attention, KV cache beyond the L2", Op.DECODE, 0.03, 0.05),
        ("dense layers", Op.MATMUL, 0.07, None),
    ):
        chosen = of_op(sets, op)
        kept, train = by_shape(chosen)
        if not kept:
            continue
        split = "shapes that training has not seen"
        lines = judged(kept, train, recipe, fits, done)
        yield median_mape(lines, quantity=quantity, split=split, high=of_shapes)
        plain = [line for line in lines if line.subject.endswith("bfloat16")]
        if plain:
            yield median_mape(plain, quantity=f"{quantity} in bf16", split=split, high=of_shapes)
        kept, train = by_context(chosen)
        if kept:
            split = f"contexts above {LIMIT_TOKENS} tokens, trained on shorter ones"
            lines = judged(kept, train, recipe, fits, done)
            yield median_mape(lines, quantity=quantity, split=split, high=of_contexts)
