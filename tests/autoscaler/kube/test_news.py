"""What is worth an Event: changes that were made, and the beginning of states."""

from typing import Any

import pytest

from autoscaler.kube.news import EventReason, Moment, news
from autoscaler.observation import Fleet, Override
from backlog.records import DecisionRecord
from tests.autoscaler.decisions import decision

OVERRIDE = Override(by="kubectl-scale", replicas=5, at_s=900.0)


def moment(
    *, changed: DecisionRecord | None = None, step: str = "law", rivals: tuple[str, ...] = (), **fleet: Any
) -> Moment:
    values: dict[str, Any] = {"desired": 3, "ready": 3, "pending": 0, "draining": 0}
    return Moment(record=decision(3, 3, step=step), fleet=Fleet(**(values | fleet)), changed=changed, rivals=rivals)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(moment(), moment(), [], id="nothing happened"),
        pytest.param(
            moment(), moment(changed=decision(3, 5)),
            [(EventReason.SCALED_UP, "3 -> 5 replicas: offered load 2.00")], id="replicas were added",
        ),
        pytest.param(
            moment(changed=decision(3, 5)), moment(changed=decision(5, 4, at_s=1100.0)),
            [(EventReason.SCALED_DOWN, "5 -> 4 replicas: offered load 2.00")], id="a replica was removed",
        ),
        pytest.param(moment(changed=decision(3, 5)), moment(changed=decision(3, 5)), [], id="a change is told once"),
        pytest.param(None, moment(changed=decision(3, 5)), [], id="a new leader tells no old change"),
        pytest.param(
            moment(), moment(step="unknown"), [(EventReason.SCALING_HELD, "offered load 2.00")], id="data is missing"
        ),
        pytest.param(moment(step="unknown"), moment(step="unknown"), [], id="data is still missing"),
        pytest.param(
            moment(), moment(paused="release night"),
            [(EventReason.PAUSED, "scaling is paused: release night")], id="somebody paused the pool",
        ),
        pytest.param(
            None, moment(paused="release night"),
            [(EventReason.PAUSED, "scaling is paused: release night")], id="a new leader tells a state",
        ),
        pytest.param(
            moment(unschedulable=1), moment(unschedulable=2, desired=6),
            [(EventReason.UNSCHEDULABLE, "no room for 2 of 6 replicas; no more are ordered until there is")],
            id="another pod finds no node",
        ),
        pytest.param(moment(unschedulable=2), moment(unschedulable=1), [], id="one pod has found a node"),
        pytest.param(
            moment(), moment(override=OVERRIDE),
            [(EventReason.MANUAL_OVERRIDE, "kubectl-scale set 5 replicas, which is respected for a while")],
            id="somebody set the number",
        ),
        pytest.param(moment(override=OVERRIDE), moment(override=OVERRIDE), [], id="the number is still theirs"),
        pytest.param(
            moment(), moment(rivals=("HorizontalPodAutoscaler chat",)),
            [(EventReason.ANOTHER_WRITER, "the number of replicas is also written by HorizontalPodAutoscaler chat")],
            id="an autoscaler of somebody else",
        ),
    ],
)  # fmt: skip
def test_news(before: Moment | None, now: Moment, expected: list[tuple[EventReason, str]]) -> None:
    assert [(item.reason, item.message) for item in news(before, now)] == expected
