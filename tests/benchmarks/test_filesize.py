import pytest

from benchmarks.filesize import limit_for, median_source_lines, offenders


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        pytest.param("gateway/pick.py", 400, id="source"),
        pytest.param("backlog/scripts/exchange.lua", 400, id="script"),
        pytest.param("tests/gateway/test_pick.py", 600, id="test"),
        pytest.param("gateway/tests.py", 400, id="a source file that is only named like tests"),
        pytest.param("README.md", None, id="prose has no budget"),
        pytest.param("benchmarks/c/drain.c", None, id="C has no budget"),
    ],
)
def test_the_budget_depends_on_kind_and_place(path: str, limit: int | None) -> None:
    assert limit_for(path) == limit


def test_a_file_at_its_limit_passes_and_one_line_more_does_not() -> None:
    lines = {"a/at.py": 400, "a/over.py": 401, "tests/at.py": 600, "tests/over.py": 601, "notes.md": 9000}
    assert offenders(lines) == [("tests/over.py", 601, 600), ("a/over.py", 401, 400)]


def test_the_median_is_over_source_files_that_are_not_empty() -> None:
    assert median_source_lines({"a.py": 100, "b.py": 50, "__init__.py": 0, "tests/test_a.py": 600}) == 75
    assert median_source_lines({}) == 0
