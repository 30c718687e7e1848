"""Output-length predictions as figures: the scores of `estimator.length_report` beside what they shall reach."""

from collections.abc import Iterator
from pathlib import Path

from estimator.evaluate.figure import Figure
from estimator.length_report import scores
from estimator.length_score import LengthScore

COVERED = (0.88, 0.92)
ROUTES = "agents' calls"
REACH_ROUTES = 0.85
CHAT = "the conversation trace of Azure, 2023"
CALLS = "agents' calls of two applications"
JUDGED = "{} requests of the second half, each learned from after it is predicted"


def figures(folder: Path) -> list[Figure]:
    """Coverage and losses over a constant's. `folder` holds `traces/` and `text/`."""
    found = scores(folder)
    return [
        *_chat(found["azure"], found["azure, inputs all alike"]),
        *_calls(found[ROUTES], found[f"{ROUTES}, one route"]),
    ]


def _chat(score: LengthScore, unsized: LengthScore) -> Iterator[Figure]:
    note = JUDGED.format(score.requests)
    yield Figure(
        quantity="output length",
        split=CHAT,
        measure="P90 coverage",
        value=score.p90_coverage,
        low=COVERED[0],
        high=COVERED[1],
        baselines={"input sizes hidden": unsized.p90_coverage},
        note=note,
    )
    yield Figure(
        quantity="output length",
        split=CHAT,
        measure="P90 pinball loss over a constant's",
        value=score.p90_pinball_ratio,
        high=1.0,
        baselines={"input sizes hidden": unsized.p90_pinball_ratio},
        note=f"{note}; the constant is the first half's 90th percentile",
    )


def _calls(score: LengthScore, one_route: LengthScore) -> Iterator[Figure]:
    note = JUDGED.format(score.requests)
    for name, value, unrouted in (
        ("P50", score.p50_pinball_ratio, one_route.p50_pinball_ratio),
        ("P90", score.p90_pinball_ratio, one_route.p90_pinball_ratio),
    ):
        yield Figure(
            quantity="output length",
            split=f"{CALLS}, by route",
            measure=f"{name} pinball loss over a constant's",
            value=value,
            high=REACH_ROUTES,
            baselines={"one route": unrouted},
            note=note,
        )
    yield Figure(
        quantity="output length",
        split=f"{CALLS}, by route",
        measure="P90 coverage",
        value=score.p90_coverage,
        baselines={"one route": one_route.p90_coverage},
        note=f"{note}; no bound: both applications' outputs are longer in the second half",
    )
