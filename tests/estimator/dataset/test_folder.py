"""Mixed batches and steps of engines: made-up files, and the real ones where the folder is on this machine."""

from pathlib import Path

import pytest

from estimator.dataset import llm_pilot, mixed_batches
from estimator.dataset.defect import Reason
from estimator.dataset.table import LayerTime, MixedAttention, SkewedAttention
from estimator.dataset.verdict import judge_table
from tests.estimator.dataset.gpu_folder import write_batches, write_steps

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "gpu"


def test_mixed_batches_become_four_tables_in_seconds(tmp_path: Path) -> None:
    write_batches(tmp_path / "RTX4090_llama")
    origins, (attention, dense, sequence, skewed) = zip(*mixed_batches.load(tmp_path), strict=True)
    assert {(origin.gpu, origin.engine, origin.version) for origin in origins} == {("RTX4090", "vllm", "0.19.0")}
    assert isinstance(attention, MixedAttention)
    assert attention.latency_s.tolist() == pytest.approx([12.5e-6])
    assert (attention.chunk_tokens.tolist(), attention.decode_tokens.tolist()) == ([16], [512])
    assert isinstance(dense, LayerTime)
    assert dense.layer.equal("act_fn").tolist() == [False, True]
    assert isinstance(sequence, LayerTime)
    assert sequence.latency_s.tolist() == pytest.approx([1e-3])
    assert isinstance(skewed, SkewedAttention)
    assert skewed.latency_at_longest_s.tolist() == pytest.approx([56e-6])


def test_mixed_batches_of_another_model_are_an_error(tmp_path: Path) -> None:
    write_batches(tmp_path / "RTX4090_other", model="other")
    with pytest.raises(ValueError, match=r"other; `demand\.MIXED_HEADS`"):
        list(mixed_batches.load(tmp_path))


def test_versions_of_mixed_batches_are_text(tmp_path: Path) -> None:
    write_batches(tmp_path / "RTX4090_llama")
    meta = tmp_path / "RTX4090_llama" / "meta.yaml"
    meta.write_text(meta.read_text().replace("0.19.0", "0.10"))
    assert {origin.version for origin, _ in mixed_batches.load(tmp_path)} == {"0.10"}


def test_mixed_batches_without_a_version_are_an_error(tmp_path: Path) -> None:
    write_batches(tmp_path / "RTX4090_llama")
    (tmp_path / "RTX4090_llama" / "meta.yaml").write_text("hardware: RTX4090\nmodel: Llama-3.1-8B\n")
    with pytest.raises(ValueError, match=r"meta\.yaml: no text under vllm_version"):
        list(mixed_batches.load(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("layer,tokens,time_us\nqkv,2,1\nqkv,1.5,3.0\n", "tokens: 1.5 in row 2 is not", id="a fraction"),
        pytest.param("layer,tokens,time_us\nqkv,nan,3.0\n", "tokens: nan in row 1 is not a whole", id="not a number"),
        pytest.param("layer,tokens,time_us\nqkv,1e99,3.0\n", r"tokens: 1e\+99 in row 1 is not a whole", id="too large"),
        pytest.param("layer,tokens,time_us\nqkv,many,3.0\n", "tokens: 'many' in row 1 is not a number", id="text"),
        pytest.param("layer,tokens,time_us\nqkv,1,\n", "time_us: '' in row 1 is not a number", id="nothing"),
        pytest.param("layer,tokens,time_us\nqkv,1\n", "2 values in row 1 for 3 columns", id="a short row"),
        pytest.param("layer,tokens\nqkv,1\n", "no column time_us", id="a missing column"),
        pytest.param("", "no header", id="an empty file"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_file_column_and_value(tmp_path: Path, text: str, message: str) -> None:
    write_batches(tmp_path / "RTX4090_llama")
    (tmp_path / "RTX4090_llama" / "dense.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"dense\.csv: {message}"):
        list(mixed_batches.load(tmp_path))


def test_a_time_that_is_not_a_number_is_read_and_dropped(tmp_path: Path) -> None:
    write_batches(tmp_path / "RTX4090_llama")
    (tmp_path / "RTX4090_llama" / "dense.csv").write_text("layer,tokens,time_us\nqkv,1.0,nan\nqkv,2,4.0\n")
    origin, dense = list(mixed_batches.load(tmp_path))[1]
    assert isinstance(dense, LayerTime)
    assert dense.tokens.tolist() == [1, 2]
    assert judge_table(origin, dense).kept.tolist() == [False, True]


def test_steps_of_engines_have_seconds_and_name_their_gpus(tmp_path: Path) -> None:
    write_steps(tmp_path / "steps.parquet")
    origin, table = llm_pilot.load(tmp_path / "steps.parquet")
    assert (origin.gpu, origin.engine) == ("A100/T4", "tgi")
    assert table.latency_s.tolist() == [0.02, 0.0]
    assert table.kv_tokens.tolist() == [99.5, 99.5]
    assert judge_table(origin, table).kept.tolist() == [True, False]


def test_the_real_mixed_batches_are_kept_but_for_decode_in_the_l2() -> None:
    if not FOLDER.is_dir():
        pytest.skip("the measured tables are not on this machine")
    seen = {}
    for origin, table in mixed_batches.load(FOLDER / "mixed_batches"):
        seen[origin.gpu, origin.op] = (len(table), dict(judge_table(origin, table).counts()))
    assert seen["RTX4090", "mixed_attention"] == (8643, {Reason.FITS_L2: 63})
    assert seen["RTXPRO6000", "mixed_attention"] == (19364, {Reason.FITS_L2: 102})
    for gpu in ("RTX4090", "RTXPRO6000"):
        assert seen[gpu, "dense_layer"] == (1368, {})
        assert seen[gpu, "sequence_layer"] == (80, {})
        assert seen[gpu, "skewed_attention"] == (13009, {})


def test_the_real_steps_of_engines_are_all_kept() -> None:
    if not FOLDER.is_dir():
        pytest.skip("the measured tables are not on this machine")
    origin, table = llm_pilot.load(FOLDER / "llm_pilot_decode_steps.parquet")
    assert (len(table), judge_table(origin, table).kept.all()) == (214_668, True)
