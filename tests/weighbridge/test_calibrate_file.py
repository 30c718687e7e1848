"""The calibration file: written from points, read by a configuration, refused when it does not hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from estimator.calibrate_parts import DecodePoint, Fitted, PartScalars, PrefillPoint, predicted_s
from estimator.price import price_from_step
from tests.estimator.measured_points import CHUNK, HIDDEN, PRICE, STEP, points
from weighbridge.calibrate.file import LEAST_POINTS, judge, read_calibration, step_of, to_json
from weighbridge.config import Loaded, dump, parse
from weighbridge.config_errors import ConfigError
from weighbridge.wiring import gateway_settings

POOL = "models: [llama-3.1-8b], gpu: L40S, replicas: {static: ['http://a:1']}"


def measured() -> list[PrefillPoint | DecodePoint]:
    prefill, decode = points(HIDDEN, 0.004)
    return [*prefill, *decode]


def written(**changes: Any) -> str:
    result = judge(STEP, measured(), chunk_tokens=CHUNK)
    text = to_json(
        result,
        measured(),
        STEP,
        model="llama-3.1-8b",
        gpu="L40S",
        tensor_parallel=1,
        chunk_tokens=CHUNK,
        measured_at="2026-11-24T10:00:00+00:00",
    )
    return json.dumps(json.loads(text) | changes)


def load(folder: Path, text: str, pool: str = POOL) -> Loaded:
    (folder / "c.json").write_text(text)
    return parse(f"pools: {{p: {{{pool}, calibration: c.json}}}}", {}, source="c.yaml", directory=folder)


def test_errors_fall_on_points_that_the_fit_has_not_seen() -> None:
    result = judge(STEP, measured(), chunk_tokens=CHUNK)
    for errors in (result.prefill, result.decode):
        assert errors.before is not None
        assert errors.after is not None
        assert errors.before > 0.15
        assert errors.after < 0.03


def test_the_file_has_every_point_with_its_residual() -> None:
    document = json.loads(written())
    assert len(document["points"]) == len(measured())
    fitted = Fitted(scalars=PartScalars(**document["scalars"]), request_s=document["request_s"])
    for row, point in zip(document["points"], measured(), strict=True):
        residual = predicted_s(STEP, point, fitted, chunk_tokens=CHUNK) / row["seconds"] - 1.0
        assert row["residual_ratio"] == pytest.approx(residual, abs=1e-3)
    assert document["errors"]["decode"]["after"] < document["errors"]["decode"]["before"]


def test_too_few_points_are_no_evidence() -> None:
    with pytest.raises(ValueError, match=f"{LEAST_POINTS - 1} points are too few"):
        judge(STEP, measured()[: LEAST_POINTS - 1], chunk_tokens=CHUNK)


def test_a_pool_prices_by_its_file(tmp_path: Path) -> None:
    config = load(tmp_path, written()).config
    price = gateway_settings(config, redis_url="redis://r").pools[0].price()
    plain = PRICE.prefill_s(input_tokens=256)
    assert price.prefill_s(input_tokens=256) == pytest.approx(HIDDEN.prefill_linear * plain, rel=0.05)
    own = {"input_tokens": 4000, "output_tokens": 100}
    assert price.decode_kv_s(**own) == pytest.approx(HIDDEN.decode_kv * PRICE.decode_kv_s(**own), rel=0.1)


def test_a_configuration_with_a_file_does_not_need_it_again(tmp_path: Path) -> None:
    config = load(tmp_path, written()).config
    (tmp_path / "c.json").unlink()
    assert parse(dump(config), {}).config == config
    assert "points" not in dump(config)


def test_points_are_fitted_against_the_step_that_a_pool_is_priced_from() -> None:
    config = parse(f"pools: {{p: {{{POOL}, planning_batch: 48}}}}", {}).config
    pool = gateway_settings(config, redis_url="redis://r").pools[0]
    step: Any = step_of(pool.architecture, pool.accelerator, tensor_parallel=1)
    expected, price = price_from_step(step, source=pool.price().source, planning_batch=48), pool.price()
    assert price.prefill_s(input_tokens=900) == pytest.approx(expected.prefill_s(input_tokens=900))
    own = {"input_tokens": 900, "output_tokens": 200}
    assert price.decode_s(**own) == pytest.approx(expected.decode_s(**own))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(written(version=2), "has version 2, and this release reads 1", id="newer"),
        pytest.param(written()[:500], "is damaged: it is not JSON", id="truncated"),
        pytest.param("[]", "is not a calibration file", id="another file"),
        pytest.param(written(gpu=None), "is damaged: gpu", id="no GPU"),
        pytest.param(written(scalars={"prefill_linear": 1.0}), "is damaged: scalars must be", id="scalars missing"),
        pytest.param(
            written(scalars=dict.fromkeys(("prefill_linear", "prefill_attention", "decode_shared", "decode_kv"), 99)),
            "is damaged: prefill_linear is 99: it must be from 0.25 to 4",
            id="scalar out of bounds",
        ),
        pytest.param(written(gpu="H100"), "was measured with gpu H100, and this pool has L40S", id="another GPU"),
        pytest.param(written(tensor_parallel=2), "was measured with tensor_parallel 2", id="more GPUs"),
        pytest.param(written(step="1 2 3 4"), "was fitted against another price", id="another price"),
        pytest.param(written(model="qwen"), "was measured of model qwen", id="another model"),
    ],
)
def test_a_file_that_does_not_hold_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "pools.p.calibration = 'c.json': " in str(caught.value)
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_calibration(tmp_path / "none.json")


def test_a_home_folder_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"pools: {{p: {{{POOL}, calibration: '~nobody-here/c.json'}}}}", {})
    assert "pools.p.calibration = '~nobody-here/c.json': cannot be read: ~nobody-here is no home" in str(caught.value)
