"""The `tokenizer` key of a pool: from a path in a file to counts in the gateway."""

import sys
from pathlib import Path

import pytest

from gateway.weigher import token_count
from tests.small_tokenizer import trained, write_tokenizer
from weighbridge.config import Loaded, dump, load, parse
from weighbridge.config_errors import ConfigError
from weighbridge.wiring import gateway_settings

POOL = "gpu: L40S, replicas: {static: ['http://a:1']}"
TEXT = "Attention grows with the square of the prompt."


def read(folder: Path, value: str) -> Loaded:
    (folder / "c.yaml").write_text(f"pools: {{llama-3.1-8b: {{{POOL}, tokenizer: {value}}}}}")
    return load(folder / "c.yaml", {})


@pytest.mark.parametrize("value", ["model/tokenizer.json", "./model"])
def test_a_path_is_relative_to_the_file_and_holds_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (tmp_path / "model").mkdir()
    write_tokenizer(tmp_path / "model")
    config = read(tmp_path, value).config
    monkeypatch.chdir("/")
    again = parse(dump(config), {}).config
    assert again == config
    (pool,) = gateway_settings(again, redis_url="redis://r").pools
    count = token_count(pool)
    assert count is not None
    assert count(TEXT) == len(trained().encode(TEXT).ids)


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokenizer(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(tmp_path, "'~/tokenizer.json'").config.pools["llama-3.1-8b"].tokenizer == f"{tmp_path}/tokenizer.json"


def test_a_pool_without_the_key_counts_nothing() -> None:
    config = parse(f"pools: {{llama-3.1-8b: {{{POOL}}}}}", {}).config
    assert token_count(gateway_settings(config, redis_url="redis://r").pools[0]) is None


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        pytest.param("none.json", "'none.json': cannot be read: No such file or directory", id="no file"),
        pytest.param("broken.json", "'broken.json': is not a tokenizer.json: EOF while parsing", id="broken JSON"),
        pytest.param(
            "'~nobody-here/t.json'", "'~nobody-here/t.json': cannot be read: ~nobody-here is no home", id="no user"
        ),
        pytest.param("3", "3: must be text (in quotes)", id="a number"),
        pytest.param("''", "must not be empty", id="no path"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_pool(tmp_path: Path, value: str, rule: str) -> None:
    (tmp_path / "broken.json").write_text('{"model": ')
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, value)
    assert "pools.llama-3.1-8b.tokenizer" in str(caught.value)
    assert rule in str(caught.value)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokenizer(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"tokenizer.*pip install 'weighbridge\[tokenizers\]'"):
        read(tmp_path, "tokenizer.json")


def test_a_file_that_is_gone_when_the_gateway_starts_is_named(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    config = read(tmp_path, "tokenizer.json").config
    (tmp_path / "tokenizer.json").unlink()
    (pool,) = gateway_settings(config, redis_url="redis://r").pools
    with pytest.raises(ValueError, match=rf"^pools.llama-3.1-8b.tokenizer {tmp_path}/tokenizer.json: cannot be read"):
        token_count(pool)
