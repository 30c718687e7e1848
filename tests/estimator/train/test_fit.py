"""Training on small made sets: recovers physics, repeats itself by its seed, refuses what is not a number."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the [train] extra")

from estimator.kernels import basis
from estimator.kernels.call import MatmulCall
from estimator.kernels.model import Op
from estimator.kernels.weights import read_card, read_sets
from estimator.train.files import data_sha256, note_name, write
from estimator.train.fit import Form, NotFiniteError, fit, predict
from estimator.train.samples import SampleSet, pool
from tests.estimator.train.products import GPU, QUICK, ROWS, samples


def error(predicted: np.ndarray, one: SampleSet) -> float:
    return float(np.abs(predicted / one.latency_s - 1).mean())


def test_physics_and_residual_learn_what_was_made() -> None:
    one = samples()
    train = np.arange(ROWS) % 4 > 0
    (fitted,) = fit([one], [train], replace(QUICK, steps=1000))
    held_out = one.where(~train)
    assert error(predict(fitted, held_out), held_out) < 0.03


def test_physics_alone_has_no_residual() -> None:
    one = samples()
    (fitted,) = fit([one], recipe=replace(QUICK, form=Form.PHYSICS, steps=1000))
    assert not fitted.arrays["w3"].any()
    assert predict(fitted, one) == pytest.approx(one.terms @ fitted.arrays["physics"])
    assert error(predict(fitted, one), one) < 0.1


def test_a_network_alone_has_no_physics_and_does_not_extrapolate() -> None:
    one = samples()
    short = one.latency_s < np.median(one.latency_s)
    network, both = (fit([one], [short], replace(QUICK, form=form, steps=800))[0] for form in (Form.NETWORK, Form.FULL))
    beyond = one.where(~short)
    assert len(network.arrays["physics"]) == 1
    assert error(predict(both, beyond), beyond) < 0.5 * error(predict(network, beyond), beyond)


def test_where_nobody_measured_the_residual_is_held_down() -> None:
    one = samples()
    # Waves that physics cannot tell, so that there is something to learn.
    one = replace(one, latency_s=one.latency_s * np.exp(0.5 * np.sin(2.0 * one.features[:, 1])))
    apart = replace(
        one, features=np.stack([np.roll(column, shift) for shift, column in enumerate(one.features.T)], axis=1)
    )
    sizes = []
    for penalty in (0.0, 3.0):
        (fitted,) = fit([one], recipe=replace(QUICK, apart_penalty=penalty))
        base = one.terms @ fitted.arrays["physics"]
        sizes.append(float(np.abs(np.log(predict(fitted, apart) / base)).mean()))
    free, held = sizes
    assert held < 0.7 * free


def test_the_same_seed_gives_the_same_bits_whatever_stands_beside() -> None:
    one, other = samples(), samples("A100-80", seed=5)
    alone, beside = fit([one], recipe=QUICK)[0], fit([one, other], recipe=QUICK)[0]
    again, reseeded = fit([one], recipe=QUICK)[0], fit([one], recipe=replace(QUICK, seed=1))[0]
    for name, array in alone.arrays.items():
        assert array.tobytes() == again.arrays[name].tobytes()
        assert array == pytest.approx(beside.arrays[name], rel=1e-3, abs=1e-3)
    assert alone.arrays["w1"].tobytes() != reseeded.arrays["w1"].tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_a_latency_that_is_no_time_is_refused(value: float) -> None:
    one = samples()
    latency_s = one.latency_s.copy()
    latency_s[7] = value
    with pytest.raises(NotFiniteError, match="H100 vllm matmul bfloat16: a latency is not"):
        fit([replace(one, latency_s=latency_s)], recipe=QUICK)


@pytest.mark.parametrize("field", ["terms", "features"])
def test_a_feature_that_is_not_finite_is_refused(field: str) -> None:
    one = samples()
    array = getattr(one, field).copy()
    array[3, 0] = np.nan
    with pytest.raises(NotFiniteError, match=f"{field} that are not finite"):
        fit([replace(one, **{field: array})], recipe=QUICK)


def test_a_set_without_rows_is_refused() -> None:
    one = samples()
    with pytest.raises(ValueError, match="no rows to train on"):
        fit([one], [np.zeros(ROWS, dtype=np.bool_)], QUICK)


def test_inference_without_numpy_gives_what_training_evaluates(tmp_path: Path) -> None:
    one = samples()
    fitted = fit([one], recipe=QUICK)
    write(tmp_path, fitted, {}, {note_name(one.key): {}})
    sets = read_sets(tmp_path, "h100-vllm.safetensors", read_card(tmp_path))
    call = MatmulCall(tokens=777, outputs=4096, inputs=2048)
    found = basis.matmul(GPU, call)
    row = replace(one.where(np.asarray([0])), terms=np.asarray([found.terms]), features=np.asarray([found.features]))
    assert sets[Op.MATMUL, "bfloat16"].time_s(found) == pytest.approx(predict(fitted[0], row)[0], rel=1e-5)


def test_pooling_gives_each_gpu_an_equal_share() -> None:
    (pooled,) = pool([samples(), samples("B200", seed=2)], rows=200)
    assert (pooled.gpu, len(pooled), pooled.source) == ("pooled", 200, "H100, B200")


def test_the_hash_changes_with_any_number() -> None:
    one = samples()
    changed = one.latency_s.copy()
    changed[0] *= 1.0001
    assert data_sha256([one]) == data_sha256([samples()])
    assert data_sha256([one]) != data_sha256([replace(one, latency_s=changed)])
