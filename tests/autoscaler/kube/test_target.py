from typing import Any

import pytest

from autoscaler.kube.names import FIELD_MANAGER, PAUSED
from autoscaler.kube.pod import rfc3339
from autoscaler.kube.target import (
    DEPLOYMENT,
    LEADER_WORKER_SET,
    Foreign,
    Target,
    selector_from_scale,
    state_from_json,
)
from tests.autoscaler.kube.pods import NOON_S


def wrote(manager: str, at_s: float, **entry: Any) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": "Update",
        "time": rfc3339(at_s),
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
        **entry,
    }


def an_object(*managed: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata = {
        "name": "chat",
        "uid": "u",
        "creationTimestamp": rfc3339(NOON_S),
        "annotations": annotations,
        "managedFields": list(managed),
    }
    return {"metadata": metadata, "spec": {"replicas": 3, **spec}}


def test_where_a_target_is() -> None:
    target = Target(kind=LEADER_WORKER_SET, namespace="ml", name="big", port=8000)

    assert target.scale_path == "/apis/leaderworkerset.x-k8s.io/v1/namespaces/ml/leaderworkersets/big/scale"
    assert target.label == "LeaderWorkerSet ml/big"
    assert target.reference["apiVersion"] == "leaderworkerset.x-k8s.io/v1"


def test_replicas_that_nobody_set_are_one() -> None:
    assert state_from_json({"metadata": {"name": "chat"}}).replicas == 1


def test_a_custom_kind_has_the_replicas_of_its_scale() -> None:
    assert state_from_json(an_object(), scale_replicas=7).replicas == 7


@pytest.mark.parametrize(
    ("annotations", "paused"),
    [
        pytest.param(None, None, id="no annotations"),
        pytest.param({PAUSED: "false"}, None, id="switched off"),
        pytest.param({PAUSED: "upgrade"}, f"annotation {PAUSED}=upgrade", id="with a reason"),
        pytest.param({PAUSED: ""}, f"annotation {PAUSED}=", id="empty"),
    ],
)
def test_an_annotation_pauses(annotations: dict[str, str] | None, paused: str | None) -> None:
    assert state_from_json(an_object(annotations=annotations)).paused == paused


@pytest.mark.parametrize(
    ("managed", "foreign"),
    [
        pytest.param((), None, id="nobody wrote it"),
        pytest.param((wrote(FIELD_MANAGER, NOON_S + 60),), None, id="we wrote it"),
        pytest.param((wrote("helm", NOON_S + 1),), None, id="at its creation"),
        pytest.param((wrote("kubectl", NOON_S + 60),), Foreign(by="kubectl", at_s=NOON_S + 60), id="somebody else"),
        pytest.param((wrote("kubectl", NOON_S + 60), wrote(FIELD_MANAGER, NOON_S)), None, id="the same as ours"),
        pytest.param(
            (wrote("helm", NOON_S), wrote("hpa", NOON_S + 90, subresource="scale", fieldsV1={})),
            Foreign(by="hpa", at_s=NOON_S + 90),
            id="through scale, of a kind that keeps the number elsewhere",
        ),
        pytest.param((wrote("helm", NOON_S + 60, fieldsV1={"f:spec": {"f:paused": {}}}),), None, id="another field"),
    ],
)
def test_who_wrote_replicas_last(managed: tuple[dict[str, Any], ...], foreign: Foreign | None) -> None:
    assert state_from_json(an_object(*managed)).foreign == foreign


def test_the_selector_of_a_scale_is_its_labels() -> None:
    assert selector_from_scale({"status": {"selector": "app=chat,tier==gpu"}}) == {"app": "chat", "tier": "gpu"}


@pytest.mark.parametrize("selector", ["", "app in (a,b)", "app!=chat", "app"])
def test_a_selector_that_is_no_set_of_labels_is_refused(selector: str) -> None:
    with pytest.raises(ValueError, match="selector"):
        selector_from_scale({"status": {"selector": selector}})


def test_a_deployment_is_found_by_its_path() -> None:
    assert Target(kind=DEPLOYMENT, namespace="default", name="chat", port=1).collection == (
        "/apis/apps/v1/namespaces/default/deployments"
    )


def test_who_made_an_object_and_changes_something_else_of_it_overrides_nothing() -> None:
    """`helm upgrade` of a target that was never scaled: one time is kept for all that a manager owns."""

    def owned(time: str, replicas: int = 1) -> dict[str, Any]:
        entry = {"manager": "helm", "time": time, "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}}}
        made = {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [entry]}
        return {"metadata": made, "spec": {"replicas": replicas}}

    first = state_from_json(owned("2026-01-01T00:00:00Z"))
    upgraded = state_from_json(owned("2026-01-02T00:00:00Z"), before=first)

    assert upgraded.foreign is None
    assert state_from_json(owned("2026-01-02T00:00:00Z", 3), before=upgraded).foreign is not None
