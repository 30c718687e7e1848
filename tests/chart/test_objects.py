"""Every example, as objects: valid for the oldest and the newest Kubernetes, named within bounds, and locked down."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.chart.render import (
    CHART,
    EXAMPLES,
    NEWEST,
    OLDEST,
    POD_OWNERS,
    RenderError,
    example,
    laid_over,
    lint,
    notes,
    render,
    render_example,
)

GOLDEN = Path(__file__).parent / "golden" / "selectors.json"
CUSTOM_KINDS = frozenset({"PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"})
"""Kinds that Kubernetes has no schema of."""
NEWER_THAN_OLDEST = frozenset({"two-gpu-types"})
"""Examples with image volumes, which Kubernetes has since 1.31."""
LONGEST_RELEASE = "r" + "x" * 52
LONG_NAMES = laid_over(
    example("two-gpu-types"),
    {
        "pools": {
            "p" * 30: {
                "gpu": "L40S",
                "models": ["m"],
                "worker": {"simulated": {}},
                "targets": {"t" * 20: {}, "u" * 20: {}},
            }
        },
    },
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_finds_nothing_to_complain_of(name: str) -> None:
    assert "0 chart(s) failed" in lint(example(name))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_objects_are_valid(name: str, version: str) -> None:
    if version == OLDEST and name in NEWER_THAN_OLDEST:
        version = "1.31.0"
    rendered = render_example(name, kubernetes=version)
    for item in rendered.objects:
        if item["kind"] not in CUSTOM_KINDS:
            kubernetes_validate.validate(item, version.removesuffix(".0"), strict=True)


def test_a_kubernetes_that_is_too_old_is_refused() -> None:
    with pytest.raises(RenderError, match="kubeVersion"):
        render_example("simulated", kubernetes="1.28.15")


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_object_is_there_twice(name: str) -> None:
    rendered = render_example(name)
    keys = Counter((o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in rendered.objects)
    assert [key for key, count in keys.items() if count > 1] == []


def test_names_and_labels_fit_where_release_pools_and_targets_have_the_longest_names() -> None:
    rendered = render(LONG_NAMES, release=LONGEST_RELEASE)
    names = [item["metadata"]["name"] for item in rendered.objects]
    assert max(map(len, names)) <= 63
    assert len({(o["kind"], o["metadata"]["name"]) for o in rendered.all("Deployment")}) == 7
    for item in rendered.objects:
        labels = [
            item["metadata"]["labels"],
            item.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}),
        ]
        assert [value for label in labels for value in label.values() if len(value) > 63] == []
        # Its pods are labeled with `NAME-<digest of 10>`.
        assert item["kind"] != "StatefulSet" or len(item["metadata"]["name"]) <= 52
    for _, container in rendered.containers():
        assert len(container["name"]) <= 63


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_container_has_resources_and_no_rights(name: str) -> None:
    rendered = render_example(name)
    for label, container in rendered.containers():
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), label
        assert "memory" in resources["limits"], label
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, label


@pytest.mark.parametrize("name", EXAMPLES)
def test_pods_run_as_nobody_and_only_the_autoscaler_has_a_token(name: str) -> None:
    for owner, pod in render_example(name).pods():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        if owner == "wb-autoscaler":
            assert pod["serviceAccountName"] == "wb-autoscaler"
        else:
            assert pod["automountServiceAccountToken"] is False, owner
            assert "serviceAccountName" not in pod


@pytest.mark.parametrize("name", EXAMPLES)
def test_mounts_have_volumes_and_volumes_have_sources(name: str) -> None:
    rendered = render_example(name)
    maps = {item["metadata"]["name"]: item["data"] for item in rendered.all("ConfigMap")}
    for item in rendered.objects:
        if item["kind"] not in POD_OWNERS:
            continue
        pod = item["spec"]["template"]["spec"]
        claims = {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", ())}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= set(volumes) | claims
        for volume in volumes.values():
            if "configMap" in volume:
                data = maps[volume["configMap"]["name"]]
                assert {entry["key"] for entry in volume["configMap"].get("items", ())} <= set(data)


@pytest.mark.parametrize("name", EXAMPLES)
def test_selectors_find_pods_of_the_release(name: str) -> None:
    """Of Services, disruption budgets, network policies and monitors: each finds what it is for."""
    rendered = render_example(name)
    pods = [item["spec"]["template"]["metadata"]["labels"] for item in rendered.objects if item["kind"] in POD_OWNERS]
    services = [item["metadata"]["labels"] for item in rendered.all("Service")]
    for item in rendered.objects:
        spec = item.get("spec", {})
        selector = spec.get("selector") if item["kind"] == "Service" else spec.get("selector", {}).get("matchLabels")
        if item["kind"] == "NetworkPolicy":
            selector = spec["podSelector"]["matchLabels"]
        if selector is None or (item["kind"] in ("NetworkPolicy", "PodMonitor") and name == "external-redis"):
            continue
        candidates = services if item["kind"] == "ServiceMonitor" else pods
        assert any(selector.items() <= labels.items() for labels in candidates), (
            item["kind"],
            item["metadata"]["name"],
        )


def selectors(name: str) -> dict[str, Any]:
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["spec"]["selector"]["matchLabels"]
        for item in render_example(name).objects
        if item["kind"] in POD_OWNERS
    }


@pytest.mark.parametrize("name", ["ha", "two-gpu-types"])
def test_selectors_are_those_of_earlier_charts(name: str) -> None:
    """A Deployment's selector cannot be changed: an upgrade would fail. Extend the file, never change a line of it."""
    assert selectors(name) == json.loads(GOLDEN.read_text(encoding="utf-8"))[name]


def test_a_chart_of_another_version_restarts_nothing(tmp_path: Path) -> None:
    """Loading a model takes minutes: pods change when what they run changes."""
    other = tmp_path / "weighbridge"
    shutil.copytree(CHART, other)
    text = (other / "Chart.yaml").read_text(encoding="utf-8")
    (other / "Chart.yaml").write_text(text.replace("version: 0.1.0\n", "version: 9.9.9\n", 1), encoding="utf-8")

    def templates(**options: Any) -> dict[str, Any]:
        rendered = render_example("ha", **options)
        return {
            item["metadata"]["name"]: item["spec"]["template"]
            for item in rendered.objects
            if item["kind"] in POD_OWNERS
        }

    assert templates(chart=other) == templates()
    assert (
        render_example("ha", chart=other)
        .one("Service", "gateway")["metadata"]["labels"]["helm.sh/chart"]
        .endswith("9.9.9")
    )


def test_processes_that_serve_survive_evictions_and_lost_nodes() -> None:
    rendered = render_example("ha")
    assert rendered.one("HorizontalPodAutoscaler", "gateway")["spec"]["minReplicas"] == 3
    assert "replicas" not in rendered.one("Deployment", "gateway")["spec"]
    assert rendered.one("Deployment", "autoscaler")["spec"]["replicas"] == 2
    for component in ("gateway", "autoscaler"):
        assert rendered.one("PodDisruptionBudget", component)["spec"]["maxUnavailable"] == 1
        spread = rendered.one("Deployment", component)["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [entry["topologyKey"] for entry in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_one_autoscaler_is_enough_where_nothing_is_scaled() -> None:
    assert render_example("external-redis").one("Deployment", "autoscaler")["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("limits", "grace_s"),
    [
        pytest.param({}, 45, id="30 s unless configured"),
        pytest.param({"drain_s": 61.5}, 77, id="as configured, rounded up"),
    ],
)
def test_the_gateway_has_time_to_drain(limits: dict[str, float], grace_s: int) -> None:
    rendered = render(laid_over(example("simulated"), {"gateway": {"limits": limits}}))
    pod = rendered.one("Deployment", "gateway")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == grace_s
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert pod["containers"][0]["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "openai"}


def test_the_operator_page_can_be_left_out() -> None:
    assert render_example("simulated").one("Service", "dashboard")["spec"]["ports"][0]["targetPort"] == "page"
    rendered = render(laid_over(example("simulated"), {"dashboard": {"enabled": False}}))
    assert [item["kind"] for item in rendered.objects if item["metadata"]["name"] == "wb-dashboard"] == []


def test_the_image_is_pinned_by_digest_where_one_is_given() -> None:
    digest = "sha256:" + "a" * 64
    rendered = render(laid_over(example("simulated"), {"image": {"repository": "r.example/wb", "digest": digest}}))
    images = {container["image"] for _, container in rendered.containers()}
    assert images == {f"r.example/wb@{digest}", "docker.io/valkey/valkey:8.1"}


def test_helm_prints_the_next_three_commands() -> None:
    text = notes(example("one-gpu-node"))
    commands = [line.strip() for line in text.splitlines() if line.startswith("   ") and line.strip()]
    assert commands[0] == ("kubectl --namespace serving rollout status deployment/wb-gateway deployment/wb-autoscaler")
    assert commands[1] == "kubectl --namespace serving port-forward service/wb-gateway 4000:80"
    assert commands[2].startswith('curl http://127.0.0.1:4000/v1/chat/completions -H "authorization: Bearer $KEY"')
    body = commands[3].removeprefix("-d ").strip("'")
    assert json.loads(body)["model"] == "llama"
    assert "There are no tenants" not in text
    assert "There are no tenants" in notes(example("simulated"))
