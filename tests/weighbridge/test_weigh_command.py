"""`weighbridge weigh` as an operator calls it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from backlog.records import PoolName
from estimator.accelerator import ACCELERATORS
from estimator.models import MODELS
from gateway.settings import PoolSettings
from tests.weighbridge.commands import CONFIG, invoke
from weighbridge.weigh_command import register
from weighbridge.wiring import command_line

LONG = ("--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--input-tokens", "32768", "--output-tokens", "256")
SHORT = ("--input-tokens", "100", "--output-tokens", "10")
PARTS = ("prefill_linear_gpu_s", "prefill_attention_gpu_s", "decode_linear_gpu_s", "decode_attention_gpu_s")


def weigh(*words: str) -> Result:
    return invoke(register, *words)


def weighed(*words: str) -> dict[str, Any]:
    result = weigh(*words, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def test_the_table_has_the_parts_their_sum_and_what_was_weighed() -> None:
    result = weigh(*LONG, "--price-per-gpu-hour", "2.5")
    assert result.exit_code == 0, result.stderr
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert [line.split("  ")[0] for line in lines] == [
        "part", "prefill linear", "prefill attention", "decode linear", "decode attention", "total", "",
        "request", "replica", "KV held", "money", "source",
    ]  # fmt: skip
    numbers = [float(line[18:].split()[0]) for line in lines[1:6]]
    assert sum(numbers[:4]) == pytest.approx(numbers[4], abs=3e-6)
    assert lines[7:] == [
        "request  32,768 tokens in (0 cached), 256 out",
        "replica  llama-3.1-8b on 1 x H100",
        "KV held  33,024 tokens, 4.329 GB: 7.3% of the replica's 455,008",
        f"money    {numbers[4] / 3600 * 2.5:.4g} at 2.5 per GPU-hour",
        "source   learned (measured), at a planning batch of 256",
    ]


@pytest.mark.parametrize("cached", [0, 20_000])
@pytest.mark.parametrize(("model", "gpus"), [("llama-3.1-8b", 1), ("gemma-3-27b", 2), ("qwen3-30b-a3b", 1)])
def test_the_weight_is_the_one_that_a_gateway_bills(model: str, gpus: int, cached: int) -> None:
    words = ("--model", model, "--gpu", "H100", "--tp", str(gpus), "--price-per-gpu-hour", "2")
    got = weighed(*words, "--input-tokens", "32768", "--cached-tokens", str(cached), "--output-tokens", "256")
    pool = PoolSettings(
        name=PoolName("p"),
        models=(model,),
        served_model=model,
        architecture=MODELS[model],
        accelerator=ACCELERATORS["H100"],
        tensor_parallel=gpus,
        kv_capacity_tokens=got["kv_capacity_tokens"],
        price_per_gpu_hour=2.0,
    )
    weight = pool.price().used(input_tokens=32_768, cached_tokens=cached, output_tokens=256)
    assert got["gpu_s"] == weight.gpu_s
    assert got["money"] == pool.money(weight.gpu_s)
    assert got["kv_tokens"] == 33_024
    assert (got["source"], got["fit"]) == ("learned", "measured")
    assert sum(got[part] for part in PARTS) == pytest.approx(got["gpu_s"], rel=1e-12)
    attention = got["prefill_attention_gpu_s"] + got["decode_attention_gpu_s"]
    assert got["attention_ratio"] == pytest.approx(attention / got["gpu_s"])


def test_kv_bytes_are_those_of_all_gpus() -> None:
    assert weighed(*LONG)["kv_bytes"] == 33_024 * 131_072
    # 8 KV heads on 16 GPUs: each is held twice.
    assert weighed(*LONG, "--tp", "16")["kv_bytes"] == 2 * 33_024 * 131_072


def test_a_small_kv_footprint_is_shown_in_megabytes() -> None:
    assert "KV held  110 tokens, 14.418 MB: 0.0% of" in weigh(*LONG[:4], *SHORT).stdout


def test_a_planning_batch_beyond_the_kv_cache_is_said_to_be_lower() -> None:
    words = ("--model", "llama-3.1-8b", "--gpu", "L4", *SHORT)
    assert weighed(*words, "--planning-batch", "100")["planning_batch"] == 36
    eight = weighed(*words, "--planning-batch", "8")
    assert eight["planning_batch"] == 8
    assert eight["decode_linear_gpu_s"] > weighed(*words, "--planning-batch", "36")["decode_linear_gpu_s"]


def test_without_a_planning_batch_one_is_chosen() -> None:
    words = ("--model", "llama-3.1-8b", "--gpu", "L4", *SHORT)
    assert 1 < weighed(*words)["planning_batch"] <= 36


def test_the_engine_decides_which_kernels_are_priced() -> None:
    words = (*LONG, "--planning-batch", "48")
    weights = {engine: weighed(*words, "--engine", engine)["gpu_s"] for engine in ("vllm", "sglang", "trtllm")}
    assert len(set(weights.values())) == 3


def test_the_prefill_chunk_of_the_pool_counts() -> None:
    assert weighed(*LONG, "--prefill-chunk-tokens", "256")["gpu_s"] > weighed(*LONG)["gpu_s"]


def test_a_whole_prefix_hit_with_one_token_weighs_nothing() -> None:
    words = ("--model", "llama-3.1-8b", "--gpu", "H100", "--input-tokens", "9", "--cached-tokens", "9")
    result = weigh(*words, "--output-tokens", "1")
    assert result.exit_code == 0
    assert "nothing to compute" in result.stdout
    assert weighed(*words, "--output-tokens", "0")["gpu_s"] == 0.0


def test_money_without_a_price_is_unknown() -> None:
    assert weighed(*LONG)["money"] is None
    assert "unknown without --price-per-gpu-hour" in weigh(*LONG).stdout


def test_a_config_json_weighs_what_the_model_of_its_name_does(config: Path) -> None:
    config.write_text(json.dumps(CONFIG))
    got = weighed("--model", str(config), *LONG[2:])
    assert got.pop("model") == str(config)
    named = weighed(*LONG)
    assert got == {name: value for name, value in named.items() if name != "model"}


def test_a_folder_that_is_named_like_a_model_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "llama-3.1-8b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 16}))
    assert weighed("--model", str(folder), *LONG[2:])["kv_bytes"] == 33_024 * 131_072 // 2


def test_a_known_kv_cache_takes_the_place_of_the_estimate() -> None:
    words = ("--model", "llama-3.1-70b", "--gpu", "H100", *SHORT, "--kv-tokens", "20000")
    assert weighed(*words)["kv_capacity_tokens"] == 20_000
    assert weighed(*words, "--planning-batch", "48")["planning_batch"] == 17


def test_a_folder_and_a_file_of_any_name_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, file in (("org/[m]", "org/[m]/config.json"), ("plain", "plain")):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(CONFIG))
        assert f"replica  {folder} on 1 x H100\n" in re.sub(" +\n", "\n", weigh("--model", folder, *LONG[2:]).stdout)


OPTIONS = {
    "no input": (("--input-tokens", "0"), "--input-tokens 0: must be at least 1"),
    "negative input": (("--input-tokens", "-5"), "--input-tokens -5: must be at least 1"),
    "absurd input": (("--input-tokens", "9" * 400), f"--input-tokens {'9' * 119}…: must be at most 100,000,000"),
    "negative output": (("--output-tokens", "-1"), "--output-tokens -1: must be at least 0"),
    "absurd output": (("--output-tokens", "100000001"), "--output-tokens 100000001: must be at most 100,000,000"),
    "beyond the context": (
        ("--output-tokens", "98305"),
        "--input-tokens 32768 and --output-tokens 98305: together 131,073 tokens, more than the context of "
        "llama-3.1-8b (131,072)",
    ),
    "negative cached": (("--cached-tokens", "-1"), "--cached-tokens -1: must be at least 0"),
    "more cached than input": (
        ("--cached-tokens", "32769"),
        "--cached-tokens 32769: must be at most --input-tokens (32768)",
    ),
    "no GPU": (("--tp", "0"), "--tp 0: must be at least 1"),
    "too many GPUs": (("--tp", "65"), "--tp 65: must be at most 64"),
    "heads are not divided": (("--tp", "3"), "--tp 3: does not divide the 32 heads of llama-3.1-8b"),
    "no batch": (("--planning-batch", "0"), "--planning-batch 0: must be at least 1"),
    "no chunk": (("--prefill-chunk-tokens", "15"), "--prefill-chunk-tokens 15: must be at least 16"),
    "free": (("--price-per-gpu-hour", "0"), "--price-per-gpu-hour 0: must be a number greater than 0"),
    "price is no number": (
        ("--price-per-gpu-hour", "nan"),
        "--price-per-gpu-hour nan: must be a number greater than 0",
    ),
    "price has no end": (("--price-per-gpu-hour", "inf"), "--price-per-gpu-hour inf: must be a number greater than 0"),
    "unknown GPU": (("--gpu", "h1000"), "--gpu h1000: unknown GPU; did you mean 'H100'?"),
    "a variant that is not known": (("--gpu", "h100-pci"), "--gpu h100-pci: unknown GPU; did you mean 'H100-PCIe'?"),
    "no GPU's name": (("--gpu", ""), f"--gpu '': unknown GPU; known: {', '.join(ACCELERATORS)}"),
    "unknown model": (
        ("--model", "llama-3.1-9b"),
        "--model llama-3.1-9b: no built-in model has this name, nor is it a file; did you mean 'llama-3.1-8b'?",
    ),
    "a model like no other": (
        ("--model", "@@@"),
        "--model @@@: no built-in model has this name, nor is it a file; `weighbridge models` lists them",
    ),
    "no model's name": (
        ("--model", ""),
        "--model '': no built-in model has this name, nor is it a file; `weighbridge models` lists them",
    ),
    "two lines": (
        ("--model", "@\n@"),
        "--model @?@: no built-in model has this name, nor is it a file; `weighbridge models` lists them",
    ),
    "a name too long for a path": (
        ("--model", "@" * 5000),
        f"--model {'@' * 119}…: no built-in model has this name, nor is it a file; `weighbridge models` lists them",
    ),
    "weights do not fit": (
        ("--model", "llama-3.1-70b"),
        "--tp 1: the weights of llama-3.1-70b (141.1 GB) leave no room for KV cache on 1 x H100; raise --tp, take a "
        "larger GPU or give --kv-tokens",
    ),
    "request does not fit": (
        ("--gpu", "L4", "--input-tokens", "60000"),
        "--input-tokens and --output-tokens: 60,256 tokens of KV cache, more than the 42,131 that 1 x L4 holds beside "
        "llama-3.1-8b; raise --tp or take a larger GPU",
    ),
}


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
@pytest.mark.parametrize(("words", "message"), OPTIONS.values(), ids=OPTIONS)
def test_a_bad_option_is_named_in_one_line(words: tuple[str, ...], message: str, form: tuple[str, ...]) -> None:
    result = weigh(*LONG, *words, *form)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{message}\n")


FILES = {
    "not JSON": (b'{"a":', "is not JSON: Expecting value: line 1 column 6 (char 5)"),
    "empty": (b"", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
    "not text": (b"\xff\xfe", "is not JSON: it is not text in UTF-8"),
    "too deep": (b"[" * 200_000, "is not JSON that can be read"),
    "number too long": (b'{"a": ' + b"1" * 5000 + b"}", "is not JSON that can be read"),
    "a list": (b"[1]", "must be a JSON object, as a HuggingFace config.json is"),
    "a key is missing": (b"{}", "num_hidden_layers is missing"),
    "a bad value": (
        json.dumps(CONFIG | {"num_hidden_layers": -3}).encode(),
        "num_hidden_layers must be an integer of at least 1, not -3",
    ),
    "attention that is not modeled": (
        json.dumps(CONFIG | {"index_topk": 2048}).encode(),
        "not supported: sparse attention (index_topk)",
    ),
    "sizes beyond all models": (
        json.dumps(CONFIG | {"num_hidden_layers": 10**400}).encode(),
        "num_hidden_layers must be at most 4,096",
    ),
    "too large": (b" " * 10_000_001, "is too large to be a config.json"),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_a_bad_config_json_is_named_in_one_line(config: Path, content: bytes, message: str) -> None:
    config.write_bytes(content)
    result = weigh("--model", str(config), "--gpu", "H100", *SHORT)
    shown = str(config) if len(str(config)) <= 120 else str(config)[:119] + "…"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"--model {shown}: {message}\n")


def test_the_form_of_a_gpu_counts() -> None:
    module, card = weighed(*LONG, "--gpu", "h100-sxm"), weighed(*LONG, "--gpu", "NVIDIA H100 PCIe")
    assert (module["gpu"], card["gpu"]) == ("H100", "H100-PCIe")
    assert card["gpu_s"] > 1.2 * module["gpu_s"]


def test_the_context_of_a_config_json_is_a_bound(config: Path) -> None:
    config.write_text(json.dumps(CONFIG | {"max_position_embeddings": 8192}))
    result = weigh("--model", str(config), *LONG[2:])
    assert result.exit_code == 2
    assert f"more than the context of {config} (8,192)" in result.stderr


def test_a_config_json_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = weigh("--model", "none/config.json", "--gpu", "H100", *SHORT)
    assert result.stderr == "--model none/config.json: cannot be read: No such file or directory\n"
    assert result.exit_code == 2
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    result = weigh("--model", "model", "--gpu", "H100", *SHORT)
    assert result.stderr == "--model model: its config.json cannot be read: No such file or directory\n"
    assert result.exit_code == 2


def test_the_how_to_shows_what_is_printed() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/weigh-a-request.md").read_text(encoding="utf-8")
    shown = re.search(r"```sh\nweighbridge weigh (.+?)\n```\n\n```text\n(.+?)```", page, re.DOTALL)
    assert shown is not None
    assert [line.rstrip() for line in weigh(*shown[1].split()).stdout.splitlines()] == shown[2].splitlines()


def test_the_command_is_one_of_weighbridge() -> None:
    command = command_line("weigh", *LONG, "--json")
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["gpu"] == "H100"


def test_the_command_line_loads_no_heavy_library() -> None:
    code = "import sys, weighbridge.cli, weighbridge.weigh_command, weighbridge.catalog_command; print(*sys.modules)"
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    assert {"torch", "pandas", "litellm", "numpy"} & set(loaded) == set()
