"""Values that are wrong stop an installation: a typo in any section, and what does not go together."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from docs import chart
from tests.chart.render import CHART, RenderError, example, laid_over, render

SIMULATED = {"models": ["m"], "gpu": "L40S", "worker": {"simulated": {}}}
DIGEST = "sha256:" + "0" * 64


def schema() -> dict[str, Any]:
    document = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def sections(values: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every mapping in `values.yaml` whose keys are fixed."""
    yield prefix
    for key, value in values.items():
        if isinstance(value, dict) and value and "labels" not in key:
            yield from sections(value, (*prefix, key))


def defaults() -> dict[str, Any]:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


QUANTITIES = {"requests", "limits"}
FIXED = [path for path in sections(defaults()) if not path or path[-1] not in QUANTITIES]


@pytest.mark.parametrize("path", FIXED, ids=lambda path: ".".join(path) or "(top)")
def test_a_typo_in_any_section_is_refused(path: tuple[str, ...]) -> None:
    wrong: dict[str, Any] = {"tpyo": 1}
    for key in reversed(path):
        wrong = {key: wrong}
    with pytest.raises(RenderError, match="tpyo"):
        render(laid_over(example("simulated"), wrong))


@pytest.mark.parametrize(
    "pool",
    [
        pytest.param({"tpyo": 1}, id="pool"),
        pytest.param({"limits": {"tpyo": 1}}, id="limits of a pool"),
        pytest.param({"slo": {"tpyo": 1}}, id="objectives"),
        pytest.param({"autoscaler": {"tpyo": 1}}, id="scaling of a pool"),
        pytest.param({"worker": {"tpyo": 1}}, id="worker"),
        pytest.param({"worker": {"simulated": {"tpyo": 1}}}, id="simulated worker"),
        pytest.param({"worker": {"weights": {"claim": "c", "tpyo": 1}}}, id="weights"),
        pytest.param({"worker": {"checksums": [{"file": "f", "sha256": "0" * 64, "tpyo": 1}]}}, id="checksum"),
        pytest.param({"worker": {"resources": {"tpyo": {}}}}, id="resources of a worker"),
        pytest.param({"worker": {"tolerations": [{"tpyo": "x"}]}}, id="toleration"),
        pytest.param({"apiKeySecret": {"name": "n", "key": "k", "tpyo": 1}}, id="secret"),
    ],
)
def test_a_typo_in_a_pool_is_refused(pool: dict[str, Any]) -> None:
    with pytest.raises(RenderError, match="tpyo"):
        render({"pools": {"p": laid_over(SIMULATED, pool)}})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"tenants": {"t": {"keys": [DIGEST], "tpyo": 1}}}, id="tenant"),
        pytest.param({"tenants": {"t": {"keys": [DIGEST], "limits": {"tpyo": 1}}}}, id="limits of a tenant"),
        pytest.param({"tenants": {"t": {"keys": [{"secret": "s", "key": "k", "tpyo": 1}]}}}, id="key of a tenant"),
        pytest.param({"autoscaler_defaults": {"tpyo": 1}}, id="scaling of all pools"),
        pytest.param({"gateway": {"limits": {"tpyo": 1}}}, id="limits of the gateway"),
        pytest.param({"networkPolicy": {"clients": [{"tpyo": {}}]}}, id="peer"),
        pytest.param({"pools": {"q": {"gpu": "L4", "existing": {"name": "n", "tpyo": 1}}}}, id="existing object"),
        pytest.param({"pools": {"q": {"gpu": "L4", "targets": {"t": {"tpyo": 1}}}}}, id="target"),
    ],
)
def test_a_typo_in_a_map_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RenderError, match="tpyo"):
        render(laid_over(example("simulated"), changes))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        pytest.param({"pools": {"p": {"models": ["m"], "gpu": "L4"}}}, "pools", id="pool without replicas"),
        pytest.param({"pools": {"p": {"models": ["m"], "worker": {"simulated": {}}}}}, "gpu", id="pool without a GPU"),
        pytest.param(
            {"pools": {"p": laid_over(SIMULATED, {"existing": {"name": "x"}})}}, "pools", id="worker and existing"
        ),
        pytest.param({"pools": {"p": laid_over(SIMULATED, {"static": ["http://a"]})}}, "pools", id="worker and static"),
        pytest.param({"pools": {"P": SIMULATED}}, "invalid propertyName", id="upper case"),
        pytest.param({"pools": {"p" * 31: SIMULATED}}, "invalid propertyName", id="long name of a pool"),
        pytest.param(
            {"pools": {"p": laid_over(SIMULATED, {"min": 3, "max": 2})}}, "max .2. is below min .3.", id="bounds"
        ),
        pytest.param({"pools": {"p": laid_over(SIMULATED, {"limits": {"max_wait_s": 0}})}}, "max_wait_s", id="no wait"),
        pytest.param({"pools": {"p": laid_over(SIMULATED, {"owner": "me"})}}, "owner", id="owner"),
        pytest.param(
            {"pools": {"p": {"gpu": "L4", "models": ["m"], "worker": {}}}},
            "worker.weights is required",
            id="no weights",
        ),
        pytest.param(
            {"pools": {"p": {"gpu": "L4", "engine": "trtllm", "worker": {}}}},
            "no worker for engine trtllm",
            id="engine",
        ),
        pytest.param(
            {"pools": {"p": {"gpu": "L4", "worker": {"weights": {"claim": "c", "image": "i"}}}}},
            "weights",
            id="two sources",
        ),
        pytest.param(
            {"pools": {"p": laid_over(SIMULATED, {"worker": {"drainSeconds": 60}})}}, "at least", id="drain cut short"
        ),
        pytest.param(
            {"pools": {"p": laid_over(SIMULATED, {"owner": "keda"})}}, "needs networkPolicy.keda", id="deaf to KEDA"
        ),
        pytest.param(
            {
                "pools": {
                    "p": {"gpu": "L4", "owner": "keda", "targets": {"a": {}, "b": {}}, "worker": {"simulated": {}}}
                }
            },
            "has one target",
            id="KEDA and two targets",
        ),
        pytest.param(
            {"pools": {"p": {"gpu": "L4", "existing": {"name": "n", "kind": "StatefulSet", "resource": {}}}}},
            "existing",
            id="kind and resource",
        ),
        pytest.param(
            {"pools": {"p": laid_over(SIMULATED, {"worker": {"checksums": [{"file": "f", "sha256": "0" * 64}]}})}},
            "checksums are those of files in worker.weights",
            id="digests of nothing",
        ),
        pytest.param({"tenants": {"t": {"keys": ["sk-plain"]}}}, "keys", id="plain key"),
        pytest.param(
            {"monitoring": {"podMonitor": {"enabled": True}}}, "networkPolicy.prometheus", id="blind pod monitor"
        ),
        pytest.param(
            {"monitoring": {"serviceMonitor": {"enabled": True}}}, "networkPolicy.prometheus", id="blind monitor"
        ),
        pytest.param({"image": {"digest": "sha256:1"}}, "digest", id="digest"),
        pytest.param({"redis": {"bundled": {"maxMemory": "1 GB"}}}, "maxMemory", id="memory of Redis"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(changes: dict[str, Any], rule: str) -> None:
    base = {} if "pools" in changes else example("simulated")
    with pytest.raises(RenderError, match=rule):
        render(laid_over(base, changes))


def test_a_release_without_pools_is_refused() -> None:
    with pytest.raises(RenderError, match="at least one is required"):
        render({})


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object that lists properties."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def test_every_object_of_the_schema_is_closed() -> None:
    assert [
        sorted(node["properties"]) for node in objects(schema()) if node.get("additionalProperties") is not False
    ] == []


def test_every_value_is_in_the_schema_and_every_key_of_the_schema_is_a_value() -> None:
    """Helm's own `global` aside, and what Kubernetes has more of than the defaults say."""

    def compare(values: dict[str, Any], node: dict[str, Any], path: str) -> None:
        if "$ref" in node:
            node = schema()["$defs"][node["$ref"].rpartition("/")[2]]
        if "properties" not in node or not values:
            return
        assert set(values) == set(node["properties"]) - {"global"}, path
        for key, value in values.items():
            if isinstance(value, dict):
                compare(value, node["properties"][key], f"{path}.{key}")

    compare(defaults(), schema(), "values")


def test_every_value_and_every_key_of_a_pool_has_a_comment() -> None:
    assert [key for key, _, text in chart.values() if not text] == []
    for name in ("existing", "pool", "target", "tenant", "weights", "worker"):
        properties = schema()["$defs"][name]["properties"]
        assert [key for key, value in properties.items() if not value.get("description")] == [], name


def test_keys_of_the_configuration_are_keys_of_the_chart() -> None:
    definitions = schema()["$defs"]
    for name, section in chart.SECTIONS.items():
        assert set(definitions[name]["properties"]) == set(section.model_fields)
    assert set(chart.PoolSection.model_fields) - chart.OF_THE_CHART <= set(definitions["pool"]["properties"])
