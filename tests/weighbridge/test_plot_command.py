"""`weighbridge plot` as an operator calls it, and the values that it draws."""

import json
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import Result

from estimator.accelerator import ACCELERATORS
from estimator.engine import Engine
from estimator.models import MODELS
from tests.weighbridge.commands import CONFIG, invoke
from weighbridge import plot_figure
from weighbridge.plot_command import register
from weighbridge.plot_series import LEAST_TOKENS, Series, input_lengths, longest_input, series_of
from weighbridge.weigh_pool import capacity_of, pool_of
from weighbridge.weigh_report import weighed
from weighbridge.wiring import command_line

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ONE = ("--model", "llama-3.1-8b", "--gpu", "h100-sxm")


def plot(*words: str) -> Result:
    return invoke(register, *words)


def line(model: str, gpu: str, *, gpus: int = 1, output_tokens: int = 256, most_input_tokens: int = 32_768) -> Series:
    architecture, accelerator = MODELS[model], ACCELERATORS[gpu]
    capacity = capacity_of(architecture, accelerator, gpus)
    pool = pool_of(architecture, accelerator, tensor_parallel=gpus, engine=Engine.VLLM, capacity=capacity)
    return series_of(
        pool.price(), model=model, gpu=gpu, output_tokens=output_tokens, most_input_tokens=most_input_tokens
    )


def size_of(picture: Path) -> tuple[int, int]:
    content = picture.read_bytes()
    assert content.startswith(SIGNATURE)
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Series]:
    """The series of the pictures that are drawn from here on; the pictures are not."""
    found: list[Series] = []
    monkeypatch.setattr(plot_figure, "draw", lambda series, path, **options: found.extend(series))
    return found


@pytest.mark.parametrize(
    ("model", "gpu", "gpus"),
    [
        ("llama-3.1-8b", "H100", 1),
        ("gemma-3-27b", "L40S", 2),
        ("qwen3-30b-a3b", "MI300X", 1),
        ("llama-3.1-8b", "L4", 1),
    ],
)
def test_a_longer_input_never_weighs_less(model: str, gpu: str, gpus: int) -> None:
    series = line(model, gpu, gpus=gpus)
    assert all(before <= after for before, after in pairwise(series.gpu_s))
    assert series.gpu_s[-1] > 5 * series.gpu_s[0]


def test_each_point_is_what_weigh_says() -> None:
    architecture, accelerator = MODELS["qwen3-32b"], ACCELERATORS["H100"]
    capacity = capacity_of(architecture, accelerator, 2)
    pool = pool_of(architecture, accelerator, tensor_parallel=2, engine=Engine.VLLM, capacity=capacity)
    series = line("qwen3-32b", "H100", gpus=2, output_tokens=100, most_input_tokens=8192)
    for index in (0, 17, len(series.input_tokens) - 1):
        request = weighed(pool, input_tokens=series.input_tokens[index], cached_tokens=0, output_tokens=100)
        assert series.gpu_s[index] == request.weight.gpu_s
        assert series.parts[index] == request.parts
        assert series.attention_ratios[index] == request.parts.attention_ratio
    assert (series.gpus, series.origin) == (2, "learned (measured)")


@pytest.mark.parametrize("most", [256, 257, 5_000, 131_072, 10_000_000])
def test_lengths_rise_evenly_from_the_least_to_the_most(most: int) -> None:
    lengths = input_lengths(most)
    assert (lengths[0], lengths[-1]) == (LEAST_TOKENS, most)
    ratios = [after / before for before, after in pairwise(lengths)]
    assert min(ratios) > 1.0
    assert max(ratios) < 1.06


def test_less_than_an_octave_is_no_line() -> None:
    with pytest.raises(ValueError, match="at least 256 tokens, not 255"):
        input_lengths(255)


def test_a_line_ends_where_the_context_or_the_kv_cache_is_full() -> None:
    model = MODELS["llama-3.1-8b"]
    assert longest_input(model, kv_capacity_tokens=10**6, output_tokens=72) == 131_000
    assert longest_input(model, kv_capacity_tokens=40_000, output_tokens=100) == 39_900


@pytest.mark.parametrize("form", [(), ("--parts",)], ids=["attention", "parts"])
def test_a_picture_is_written_over_the_one_before(tmp_path: Path, form: tuple[str, ...]) -> None:
    picture = tmp_path / "weights.png"
    picture.write_bytes(b"old")
    result = plot("--model", "llama-3.1-8b", "--model", "qwen3-8b", *ONE, "--gpu", "l4", *form, "-o", str(picture))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"written: {picture}\n"
    assert size_of(picture) == (1200, 800)


def test_there_is_a_line_for_each_model_on_each_gpu(tmp_path: Path, drawn: list[Series]) -> None:
    words = ("--model", "llama-3.1-8b", "--model", "qwen3-8b", "--gpu", "h100", "--gpu", "L4", "--gpu", "h100-sxm")
    assert plot(*words, "-o", str(tmp_path / "p.png")).exit_code == 0
    assert [(one.model, one.gpu) for one in drawn] == [
        ("llama-3.1-8b", "H100"), ("llama-3.1-8b", "L4"), ("qwen3-8b", "H100"), ("qwen3-8b", "L4"),
    ]  # fmt: skip
    # The L4 has a KV cache of 42,131 tokens beside the first model.
    assert [one.input_tokens[-1] for one in drawn[:2]] == [131_072 - 256, 42_131 - 256]


def test_options_reach_the_lines(tmp_path: Path, drawn: list[Series]) -> None:
    to = ("-o", str(tmp_path / "p.png"))
    for words in ((), ("--max-context", "4096"), ("--output-tokens", "1"), ("--engine", "sglang"), ("--tp", "2"),
                  ("--kv-tokens", "8192")):  # fmt: skip
        assert plot(*ONE, *words, *to).exit_code == 0
    plain, short, prefill, other, two, small = drawn
    assert short.input_tokens[-1] == 4096
    assert prefill.parts[0].decode_linear_gpu_s == 0.0
    assert other.gpu_s != plain.gpu_s
    assert two.gpus == 2
    assert small.input_tokens[-1] == 8192 - 256


def test_a_config_json_is_drawn_as_the_model_of_its_name(tmp_path: Path, drawn: list[Series]) -> None:
    file = tmp_path / "$_odd" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(CONFIG))
    words = ("--model", str(file), *ONE, "--max-context", "2048", "-o", str(tmp_path / "p.png"))
    assert plot(*words).exit_code == 0
    assert [one.model for one in drawn] == [str(file), "llama-3.1-8b"]
    assert drawn[0].gpu_s == drawn[1].gpu_s


def test_a_name_is_drawn_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "$x_{" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps(CONFIG))
    picture = tmp_path / "p.png"
    result = plot("--model", str(file), "--gpu", "H100", "--max-context", "256", "--parts", "-o", str(picture))
    assert (result.exit_code, result.stderr) == (0, "")
    assert size_of(picture) == (1200, 800)


OPTIONS = {
    "unknown model": (
        ("--model", "llama-3.1-9b"),
        "--model llama-3.1-9b: no built-in model has this name, nor is it a file; did you mean 'llama-3.1-8b'?",
    ),
    "unknown GPU": (("--gpu", "h1000"), "--gpu h1000: unknown GPU; did you mean 'H100'?"),
    "weights do not fit": (
        ("--model", "llama-3.1-70b"),
        "--tp 1: the weights of llama-3.1-70b (141.1 GB) leave no room for KV cache on 1 x H100; raise --tp, take a "
        "larger GPU or give --kv-tokens",
    ),
    "heads are not divided": (("--tp", "3"), "--tp 3: does not divide the 32 heads of llama-3.1-8b"),
    "no GPU": (("--tp", "0"), "--tp 0: must be at least 1"),
    "no line": (("--max-context", "255"), "--max-context 255: must be at least 256"),
    "negative output": (("--output-tokens", "-1"), "--output-tokens -1: must be at least 0"),
    "no KV cache": (("--kv-tokens", "0"), "--kv-tokens 0: must be at least 1"),
    "the answer fills the context": (
        ("--output-tokens", "131000"),
        "--output-tokens 131000: leaves no room for 256 input tokens in the context of llama-3.1-8b or the KV cache of "
        "1 x H100",
    ),
    "too many GPUs": (
        tuple(word for name in ("L4", "L40S", "A10", "H200") for word in ("--gpu", name)),
        "--gpu: 5 are given, and one picture shows at most 4",
    ),
    "too many models": (
        tuple(word for name in list(MODELS)[:7] for word in ("--model", name)),
        "--model: 7 are given, and one picture shows at most 6",
    ),
    "too many panels": (
        ("--parts", "--model", "qwen3-8b", "--model", "qwen3-4b", "--gpu", "H200", "--gpu", "B200"),
        "--model and --gpu: 9 lines, and one picture shows at most 6",
    ),
    "not a PNG": (("-o", "weights.pdf"), "--output weights.pdf: must end in .png"),
    "no folder": (("-o", "none/weights.png"), "--output none/weights.png: its folder does not exist"),
}


@pytest.mark.parametrize(("words", "message"), OPTIONS.values(), ids=OPTIONS)
def test_a_bad_option_is_named_in_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = plot(*ONE, "-o", "p.png", *words)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{message}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    picture = tmp_path / "folder.png"
    picture.mkdir()
    result = plot(*ONE, "--max-context", "256", "-o", str(picture))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"--output {picture}: cannot be written: Is a directory\n"


def test_without_matplotlib_the_extra_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        f"sys.argv = ['weighbridge', 'plot', *{ONE!r}, '-o', {str(tmp_path / 'p.png')!r}]\n"
        "from weighbridge.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "plot needs matplotlib: pip install 'weighbridge[train]'\n"


def test_the_command_is_one_of_weighbridge_and_needs_no_display(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    command = command_line("plot", *ONE, "--max-context", "1024", "-o", str(picture))
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert size_of(picture) == (1200, 800)


def test_the_command_line_loads_no_matplotlib() -> None:
    code = "import sys, weighbridge.cli, weighbridge.plot_command; print(*sys.modules)"
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    assert {"matplotlib", "numpy"} & set(loaded) == set()
