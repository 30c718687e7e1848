"""Who may talk to whom: network policies as a function from two pods and a port to an answer."""

from typing import Any

import pytest

from tests.chart.render import EXAMPLES, Rendered, example, laid_over, render, render_example

PROMETHEUS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
KEDA = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]
PROXIES = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "proxies"}}}]
STRANGER = {"app": "stranger"}


def labels_of(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "weighbridge",
        "app.kubernetes.io/instance": "wb",
        "app.kubernetes.io/component": component,
    }


def heard(rendered: Rendered, component: str, port: int, *, labels: dict[str, str], namespace: str = "serving") -> bool:
    """Whether a pod with `labels` in `namespace` reaches `port` of a pod of `component`."""
    policies = [
        policy["spec"]
        for policy in rendered.all("NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels_of(component).items()
    ]
    assert policies
    rules = [rule for policy in policies for rule in policy["ingress"]]
    return any(
        port in [entry["port"] for entry in rule["ports"]]
        and ("from" not in rule or any(_is(peer, labels, namespace) for peer in rule["from"]))
        for rule in rules
    )


def _is(peer: dict[str, Any], labels: dict[str, str], namespace: str) -> bool:
    of_namespace = peer.get("namespaceSelector", {}).get("matchLabels", {"kubernetes.io/metadata.name": "serving"})
    of_pod = peer.get("podSelector", {}).get("matchLabels", {})
    return of_namespace == {"kubernetes.io/metadata.name": namespace} and of_pod.items() <= labels.items()


@pytest.mark.parametrize(
    ("component", "port", "labels", "namespace", "answer"),
    [
        pytest.param("worker", 8000, labels_of("gateway"), "serving", True, id="gateway to worker"),
        pytest.param("worker", 8000, labels_of("autoscaler"), "serving", False, id="autoscaler to worker"),
        pytest.param("worker", 8000, labels_of("worker"), "serving", False, id="worker to worker"),
        pytest.param("worker", 8000, STRANGER, "serving", False, id="stranger to worker"),
        pytest.param("worker", 8000, labels_of("gateway"), "other", False, id="gateway of another namespace to worker"),
        pytest.param("worker", 8000, STRANGER, "monitoring", True, id="Prometheus to worker"),
        pytest.param("redis", 6379, labels_of("gateway"), "serving", True, id="gateway to Redis"),
        pytest.param("redis", 6379, labels_of("autoscaler"), "serving", True, id="autoscaler to Redis"),
        pytest.param("redis", 6379, labels_of("dashboard"), "serving", True, id="dashboard to Redis"),
        pytest.param("redis", 6379, labels_of("worker"), "serving", False, id="worker to Redis"),
        pytest.param("redis", 6379, STRANGER, "monitoring", False, id="Prometheus to Redis"),
        pytest.param("gateway", 4000, STRANGER, "serving", True, id="client to gateway"),
        pytest.param("gateway", 4001, STRANGER, "serving", False, id="client to the admin port"),
        pytest.param("gateway", 4001, STRANGER, "monitoring", True, id="Prometheus to the admin port"),
        pytest.param("dashboard", 4003, STRANGER, "serving", False, id="stranger to the operator page"),
        pytest.param("dashboard", 4003, STRANGER, "proxies", True, id="proxy with a login to the operator page"),
        pytest.param("autoscaler", 4002, STRANGER, "monitoring", True, id="Prometheus to autoscaler"),
        pytest.param("autoscaler", 4004, STRANGER, "keda", True, id="KEDA to autoscaler"),
        pytest.param("autoscaler", 4004, STRANGER, "serving", False, id="stranger to autoscaler"),
    ],
)
def test_only_those_who_must_are_heard(
    component: str, port: int, labels: dict[str, str], namespace: str, answer: bool
) -> None:
    peers = {"prometheus": PROMETHEUS, "keda": KEDA, "dashboard": PROXIES}
    rendered = render(laid_over(example("keda"), {"networkPolicy": peers}))
    assert heard(rendered, component, port, labels=labels, namespace=namespace) is answer


@pytest.mark.parametrize("component", ["worker", "redis"])
def test_workers_and_redis_have_no_way_out(component: str) -> None:
    policy = render_example("ha").one("NetworkPolicy", component)["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []


@pytest.mark.parametrize("component", ["gateway", "autoscaler"])
def test_gateway_and_autoscaler_may_go_out(component: str) -> None:
    """To replicas and an API server whose addresses no selector finds."""
    assert render_example("ha").one("NetworkPolicy", component)["spec"]["policyTypes"] == ["Ingress"]


def test_nobody_scrapes_until_somebody_is_named() -> None:
    rendered = render_example("simulated")
    assert not heard(rendered, "gateway", 4001, labels=STRANGER, namespace="monitoring")
    assert rendered.one("NetworkPolicy", "autoscaler")["spec"]["ingress"] == []


def test_clients_can_be_limited() -> None:
    rendered = render_example("external-redis")
    assert heard(rendered, "gateway", 4000, labels=STRANGER, namespace="apps")
    assert not heard(rendered, "gateway", 4000, labels=STRANGER, namespace="serving")


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_pod_has_a_policy(name: str) -> None:
    rendered = render_example(name)
    selected = [policy["spec"]["podSelector"]["matchLabels"] for policy in rendered.all("NetworkPolicy")]
    for item in rendered.objects:
        if item["kind"] in ("Deployment", "StatefulSet"):
            labels = item["spec"]["template"]["metadata"]["labels"]
            assert any(selector.items() <= labels.items() for selector in selected), item["metadata"]["name"]


def test_policies_can_be_left_to_somebody_else() -> None:
    assert render(laid_over(example("simulated"), {"networkPolicy": {"enabled": False}})).all("NetworkPolicy") == ()
