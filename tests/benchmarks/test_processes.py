import os
import sys

import pytest

from benchmarks.processes import BenchmarkFailed, Stat, cpu_s, json_object, stat_from_text, tree_of


def test_a_command_name_may_contain_spaces_and_parentheses() -> None:
    text = "42 (nginx: (w) 7 S) S 17 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5 6 7"
    assert stat_from_text(text) == Stat(parent=17, cpu_ticks=124)


def test_a_tree_holds_all_descendants_and_nobody_else() -> None:
    stats = {pid: Stat(parent=parent, cpu_ticks=1) for pid, parent in {1: 0, 10: 1, 11: 10, 12: 11, 20: 1}.items()}
    assert tree_of(10, stats) == {10, 11, 12}


def test_the_tree_of_a_process_that_is_gone_is_empty() -> None:
    assert tree_of(99, {10: Stat(parent=99, cpu_ticks=1)}) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cpu_time_of_a_living_process_is_close_to_what_it_says_itself() -> None:
    own = os.times()
    assert cpu_s(os.getpid()) >= own.user + own.system - 0.05


@pytest.mark.parametrize("text", ["", "[1]", "{"], ids=["nothing", "an array", "cut off"])
def test_a_tool_that_prints_no_object_fails_the_run(text: str) -> None:
    with pytest.raises(BenchmarkFailed):
        json_object(text)
