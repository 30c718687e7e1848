"""Labels, rows of tables, and what an origin says about engine versions."""

import numpy as np
import pytest

from estimator.dataset.columns import Labels
from tests.estimator.dataset.tables import attention, origin


def test_labels_keep_their_text() -> None:
    labels = Labels.of(["fa3", "triton", "fa3"])
    assert len(labels) == 3
    assert labels.equal("fa3").tolist() == [True, False, True]
    assert labels.equal("unheard of").tolist() == [False, False, False]
    assert labels[np.array([False, True, True])].equal("fa3").tolist() == [False, True]


def test_labels_become_numbers_by_name() -> None:
    assert Labels.of(["fp8", "bfloat16"]).numbers({"fp8": 8.0, "bfloat16": 16.0}).tolist() == [8.0, 16.0]


def test_a_label_without_a_number_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="no number for \\['fp6'\\]"):
        Labels.of(["fp8", "fp6"]).numbers({"fp8": 8.0})


def test_columns_of_different_length_are_no_table() -> None:
    with pytest.raises(ValueError, match="columns differ in length"):
        attention([1.0, 2.0], heads=[32])


def test_a_mask_selects_rows_of_every_column() -> None:
    table = attention([1.0, 2.0, 3.0], kernel=["a", "b", "c"], heads=[1, 2, 3]).where(np.array([True, False, True]))
    assert (len(table), table.heads.tolist(), table.latency_s.tolist()) == (2, [1, 3], [1.0, 3.0])
    assert table.kernel.equal("c").tolist() == [False, True]


def test_rows_have_equal_shapes_if_all_but_their_latency_is_equal() -> None:
    shapes = attention([1.0, 2.0, 3.0], kernel=["a", "a", "b"]).shapes()
    assert shapes[0].tolist() == shapes[1].tolist() != shapes[2].tolist()


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        pytest.param({}, False, id="rows that say no version"),
        pytest.param({"versions_measured": ("1",)}, False, id="its own rows"),
        pytest.param({"versions_measured": ("1", "2")}, True, id="rows of another version among its own"),
        pytest.param({"versions_measured": ("2",)}, True, id="rows of another version"),
        pytest.param({"borrowed_from": "2"}, True, id="filled up from another version"),
        pytest.param({"lent_to": ("2",)}, True, id="fills up another version"),
    ],
)
def test_tables_shared_between_versions_are_marked(changes: dict[str, object], shared: bool) -> None:
    assert origin(**changes).shared_between_versions is shared
