"""Which scores of output lengths are figures, and what they shall reach."""

from pathlib import Path

import pytest

from estimator.evaluate import length
from estimator.length_score import LengthScore

DATA = Path(__file__).parents[4] / "shared/data"


def score_of(**changed: float) -> LengthScore:
    plain = {"p50_coverage": 0.5, "p90_coverage": 0.9, "p50_pinball_ratio": 0.8, "p90_pinball_ratio": 0.8}
    return LengthScore(requests=100, **(plain | changed))


def met(monkeypatch: pytest.MonkeyPatch, **changed: LengthScore) -> list[bool]:
    names = {"azure": "azure", "unsized": "azure, inputs all alike", "calls": "agents' calls"}
    scores = {name: score_of() for name in (*names.values(), "agents' calls, one route")}
    scores |= {names[name]: score for name, score in changed.items()}
    monkeypatch.setattr(length, "scores", lambda _: scores)
    return [figure.met for figure in length.figures(Path())]


def test_good_scores_meet_every_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert met(monkeypatch) == [True] * 5


@pytest.mark.parametrize("coverage", [0.879, 0.921])
def test_a_quantile_that_covers_too_few_or_too_many_misses(coverage: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert met(monkeypatch, azure=score_of(p90_coverage=coverage)) == [False, True, True, True, True]


def test_a_loss_above_the_constants_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    assert met(monkeypatch, azure=score_of(p90_pinball_ratio=1.01)) == [True, False, True, True, True]


def test_routes_must_be_worth_15_percent_and_their_coverage_has_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    poor = score_of(p50_pinball_ratio=0.86, p90_pinball_ratio=0.86, p90_coverage=0.5)
    assert met(monkeypatch, calls=poor) == [True, True, False, False, True]


def test_what_is_hidden_is_a_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    met(monkeypatch, unsized=score_of(p90_coverage=0.7, p90_pinball_ratio=0.99))
    coverage, loss, *_ = length.figures(Path())
    assert (coverage.value, dict(coverage.baselines)) == (0.9, {"input sizes hidden": 0.7})
    assert (loss.value, dict(loss.baselines)) == (0.8, {"input sizes hidden": 0.99})


@pytest.mark.skipif(not (DATA / "traces").is_dir(), reason=f"no traces below {DATA}")
def test_real_lengths_meet_every_bound() -> None:
    assert [figure.met for figure in length.figures(DATA)] == [True] * 5
