"""Width of output: a terminal's own, and one that cuts no line where there is none."""

import io
import sys

import pytest

from weighbridge.terminal import PIPED_CHARACTERS, width


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert width() is None


def test_a_pipe_has_a_width_that_does_not_depend_on_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "20")
    assert width() == PIPED_CHARACTERS
