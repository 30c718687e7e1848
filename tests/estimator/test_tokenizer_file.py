"""`tokenizer.json` files as the `tokenizers` package writes them, and what cannot be used."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from estimator.tokenizer_file import load_tokenizer
from tests.small_tokenizer import trained, write_tokenizer

TEXT = "The weight of a request, in 2048 tokens: hängt davon ab 日本 🎉\n\n    def"
FULL = trained()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tokenizer(folder)
    return folder / "tokenizer.json"


@settings(max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_counts_are_the_tokenizers_own(file: Path, text: str) -> None:
    assert load_tokenizer(file)(text) == len(FULL.encode(text, add_special_tokens=False).ids)


def test_a_folder_is_read_as_its_tokenizer_json(file: Path) -> None:
    assert load_tokenizer(file.parent)(TEXT) == load_tokenizer(file)(TEXT) > 20


def test_truncation_padding_and_special_tokens_of_the_file_do_not_count(tmp_path: Path) -> None:
    tokenizer = trained()
    plain = len(tokenizer.encode(TEXT, add_special_tokens=False).ids)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(max_length=8)
    tokenizer.save(str(tmp_path / "truncating.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding(length=512)
    tokenizer.save(str(tmp_path / "padding.json"))
    for name in ("truncating.json", "padding.json"):
        assert load_tokenizer(tmp_path / name)(TEXT) == plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # The package words what follows.
        pytest.param(b"", "is not a tokenizer.json: EOF while parsing", id="empty"),
        pytest.param(b'{"hidden_size": 4096}', "is not a tokenizer.json: ", id="a config.json"),
        pytest.param(b"[" * 100_000, "is not a tokenizer.json: ", id="too deep"),
        pytest.param(
            b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}',
            "is not a tokenizer.json: Token `b` out of vocabulary",
            id="a merge of nothing",
        ),
        pytest.param(b"\xff\xfe", "is not a tokenizer.json: it is not text in UTF-8", id="not text"),
    ],
)
def test_a_bad_file_says_what_is_wrong_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        load_tokenizer(file)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^cannot be read: No such file or directory$"):
        load_tokenizer(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"^its tokenizer.json cannot be read: No such file or directory$"):
        load_tokenizer(tmp_path)


def test_a_file_beyond_all_vocabularies_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("estimator.tokenizer_file.MOST_BYTES", 100)
    (tmp_path / "tokenizer.json").write_bytes(b" " * 101)
    with pytest.raises(ValueError, match=r"is too large to be a tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_without_the_package_the_extra_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"pip install 'weighbridge\[tokenizers\]'"):
        load_tokenizer(file)


def test_the_gateway_loads_the_package_only_for_a_pool_that_has_a_file(file: Path) -> None:
    code = (
        "import sys, pathlib, gateway.worker, gateway.supervisor, weighbridge.config\n"
        "print('tokenizers' in sys.modules)\n"
        "from estimator.tokenizer_file import load_tokenizer\n"
        f"load_tokenizer(pathlib.Path({str(file)!r}))\n"
        "print('tokenizers' in sys.modules)"
    )
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    assert loaded == ["False", "True"]
