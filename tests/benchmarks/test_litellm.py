"""The table of what the plugin adds to a LiteLLM call."""

from benchmarks.litellm import report


def test_a_row_has_both_sides_and_the_median_of_pairs_not_the_difference_of_medians() -> None:
    without_ms, with_ms = [10.0, 20.0, 60.0], [11.0, 29.0, 62.0]
    row = report("whole", without_ms, with_ms)
    kind, *figures = [cell.strip() for cell in row.strip("|").split("|")]
    assert kind == "whole"
    assert (figures[0], figures[2]) == ("20.00", "29.00")
    assert figures[4] == "+2.00"
