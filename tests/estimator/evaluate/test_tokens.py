"""Token estimates against counts of a tokenizer, here one that counts words."""

import gzip
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from estimator.evaluate.texts import read_texts, token_counts
from estimator.evaluate.tokens import APPLICATIONS, REPORTS, figures

TEXT = "the weight of a request is known before it runs "


class Words:
    """A tokenizer of one token a word."""

    @classmethod
    def from_str(cls, text: str) -> "Words":
        assert text == "{}"
        return cls()

    def no_truncation(self) -> None: ...

    def no_padding(self) -> None: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[str]:
        assert not add_special_tokens
        return text.split()


@pytest.fixture
def tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "tokenizers", SimpleNamespace(Tokenizer=Words))
    path = tmp_path / "words" / "tokenizer.json"
    path.parent.mkdir()
    path.write_text("{}")
    return path


def write_calls(folder: Path, calls: int) -> Path:
    (folder / "text").mkdir()
    rows = [json.dumps({"input": TEXT * (5 + number % 7)}) for number in range(calls)]
    for name in APPLICATIONS:
        (folder / "text" / name).write_bytes(gzip.compress("\n".join(rows).encode()))
    return folder


def test_each_application_has_an_error_at_first_and_one_after_reports(tokenizer: Path, tmp_path: Path) -> None:
    found = figures(write_calls(tmp_path, REPORTS + 50), tokenizer)
    assert [figure.high for figure in found] == [0.10, 0.03] * len(APPLICATIONS)
    first, later = found[:2]
    # Ten words a text, 48 characters: 12 by length, and after reports near 10.
    assert first.baselines == later.baselines == {"characters / 4": pytest.approx(0.2)}
    assert first.value > later.value
    assert later.met
    assert first.note == "counted by words/tokenizer.json"


def test_calls_that_are_too_few_are_an_error_not_a_figure_without_a_value(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few"):
        figures(write_calls(tmp_path, REPORTS), tokenizer)


def test_an_empty_text_counts_as_one_token(tokenizer: Path) -> None:
    assert token_counts(tokenizer, ["two words", ""]) == [2, 1]


def test_a_tokenizer_that_cannot_be_read_is_named(tokenizer: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.json: cannot be read"):
        token_counts(tokenizer.with_name("gone.json"), ["text"])


def test_without_the_package_the_error_names_it(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match=r"tokenizer\.json: needs the tokenizers package"):
        token_counts(tokenizer, ["text"])


@pytest.mark.parametrize("line", ["not json", "[]", '{"output": "text"}', '{"input": 3}'])
def test_a_line_without_text_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"input": "text"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"calls\.jsonl, line 2"):
        read_texts(path)


WHOLE = gzip.compress(b'{"input": "text"}\n' * 99)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(WHOLE[:-9], id="cut off"),
        pytest.param(WHOLE[:12] + b"\xff" * 9 + WHOLE[21:], id="overwritten"),
        pytest.param(WHOLE[:-8] + b"\0" * 8, id="another checksum"),
        pytest.param(b'{"input": "text"}\n', id="not compressed"),
    ],
)
def test_a_damaged_archive_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"calls\.jsonl\.gz: is not a whole gzip file"):
        read_texts(tmp_path / "calls.jsonl.gz")
