"""What the autoscaler may do in Kubernetes, rule by rule."""

from typing import Any

import pytest

from tests.chart.render import EXAMPLES, example, laid_over, render, render_example

Rule = tuple[str, str, frozenset[str], frozenset[str]]
"""API group, resource, names (none: all) and verbs."""

ELECTION: set[Rule] = {
    ("coordination.k8s.io", "leases", frozenset(), frozenset({"create"})),
    ("coordination.k8s.io", "leases", frozenset({"wb-autoscaler"}), frozenset({"get", "update"})),
    ("", "configmaps", frozenset(), frozenset({"create"})),
    ("", "configmaps", frozenset({"weighbridge-status"}), frozenset({"get", "patch"})),
}
OBSERVING: set[Rule] = {
    ("", "pods", frozenset(), frozenset({"list", "watch", "patch"})),
    ("", "events", frozenset(), frozenset({"create", "patch"})),
    ("autoscaling", "horizontalpodautoscalers", frozenset(), frozenset({"list"})),
}


def rules(role: dict[str, Any]) -> set[Rule]:
    """One rule for each resource of a role. A role with a rule twice fails."""
    found = [
        (group, resource, frozenset(rule.get("resourceNames", ())), frozenset(rule["verbs"]))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]
    assert len(set(found)) == len(found)
    return set(found)


def scaled(
    resource: str, name: str, *, group: str = "apps", verbs: frozenset[str] = frozenset({"get", "patch"})
) -> set[Rule]:
    return {
        (group, resource, frozenset({name}), frozenset({"list", "watch"})),
        (group, f"{resource}/scale", frozenset({name}), verbs),
    }


def test_it_may_scale_the_workers_of_its_pools_by_name_and_nothing_else() -> None:
    rendered = render_example("ha")
    workers = scaled("deployments", "wb-worker-chat") | scaled("deployments", "wb-worker-embeddings")
    assert rules(rendered.one("Role", "autoscaler")) == workers | OBSERVING | ELECTION
    assert len(rendered.all("Role")) == 1


def test_each_namespace_gets_a_role_for_what_is_scaled_there() -> None:
    rendered = render_example("two-gpu-types")
    assert {role["metadata"]["namespace"] for role in rendered.all("Role")} == {"serving", "models"}
    elsewhere = scaled("leaderworkersets", "deepseek", group="leaderworkerset.x-k8s.io") | OBSERVING
    assert rules(rendered.one("Role", "autoscaler", "models")) == elsewhere
    here = scaled("deployments", "wb-worker-chat-h100") | scaled("deployments", "wb-worker-chat-l40s")
    assert rules(rendered.one("Role", "autoscaler", "serving")) == here | OBSERVING | ELECTION


@pytest.mark.parametrize(
    ("existing", "group", "resource"),
    [
        pytest.param({}, "apps", "deployments", id="deployment"),
        pytest.param({"kind": "StatefulSet"}, "apps", "statefulsets", id="stateful set"),
        pytest.param(
            {"kind": "LeaderWorkerSet"}, "leaderworkerset.x-k8s.io", "leaderworkersets", id="leader worker set"
        ),
        pytest.param(
            {"resource": {"group": "ray.example", "version": "v1", "plural": "servers", "kind": "Server"}},
            "ray.example",
            "servers",
            id="anything with scale",
        ),
    ],
)
def test_existing_objects_of_any_kind_can_be_scaled(existing: dict[str, Any], group: str, resource: str) -> None:
    pool = {"models": ["m"], "gpu": "L4", "existing": {"name": "mine", **existing}}
    found = rules(render({"pools": {"p": pool}}).one("Role", "autoscaler"))
    assert found == scaled(resource, "mine", group=group) | OBSERVING | ELECTION


def test_what_keda_owns_is_read_and_never_scaled() -> None:
    found = rules(render_example("keda").one("Role", "autoscaler"))
    assert found == scaled("deployments", "wb-worker-chat", verbs=frozenset({"get"})) | OBSERVING | ELECTION


def test_without_anything_to_scale_it_may_only_lead() -> None:
    assert rules(render_example("external-redis").one("Role", "autoscaler")) == ELECTION


def test_nodes_are_read_only_where_it_is_asked_for() -> None:
    assert rules(render_example("ha").one("ClusterRole", "nodes")) == {("", "nodes", frozenset(), frozenset({"get"}))}
    assert render_example("simulated").all("ClusterRole") == ()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_role_is_bound_to_the_service_account_of_the_autoscaler_alone(name: str) -> None:
    rendered = render_example(name)
    account = [{"kind": "ServiceAccount", "name": "wb-autoscaler", "namespace": "serving"}]
    for kind in ("Role", "ClusterRole"):
        roles = {(role["metadata"].get("namespace"), role["metadata"]["name"]) for role in rendered.all(kind)}
        bindings = rendered.all(f"{kind}Binding")
        assert {(b["metadata"].get("namespace"), b["roleRef"]["name"]) for b in bindings} == roles
        assert all(binding["subjects"] == account and binding["roleRef"]["kind"] == kind for binding in bindings)
    assert len(rendered.all("ServiceAccount")) == 1


def test_roles_can_be_left_to_somebody_else() -> None:
    rendered = render(laid_over(example("ha"), {"rbac": {"create": False}}))
    assert [o["kind"] for o in rendered.objects if o["apiVersion"].startswith("rbac.")] == []
