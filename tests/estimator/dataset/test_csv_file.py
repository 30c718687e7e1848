"""CSV files: columns as numbers, and what is wrong with a file by its name."""

from pathlib import Path

import pytest

from estimator.dataset.csv_file import CsvFile


def test_columns_are_converted_as_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("layer,tokens,us\nqkv,1,2.5\nact,4,nan\n")
    file = CsvFile(tmp_path / "t.csv")
    assert file.ints("tokens").tolist() == [1, 4]
    assert file.floats("us")[0] == 2.5
    with pytest.raises(ValueError, match=r"t\.csv: us"):
        file.ints("us")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "no header", id="empty"),
        pytest.param(b"a,b\n1\n", "1 values in row 1 for 2 columns", id="short row"),
        pytest.param(b"a,b\n\xff,2\n", "not CSV in UTF-8: .*byte 0xff", id="another encoding"),
        pytest.param(b"a\n" + b"1" * 200_000, "not CSV in UTF-8: field larger", id="no CSV"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"t\.csv: {said}"):
        CsvFile(tmp_path / "t.csv")
