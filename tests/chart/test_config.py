"""The configuration that the chart writes is one that Weighbridge reads, and holds no secret."""

from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.chart.configuration import FILES, VARIABLE, config, environment, text_of
from tests.chart.render import EXAMPLES, example, laid_over, render, render_example
from tests.redis_servers import start_redis
from weighbridge.config import load


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("component", ["gateway", "autoscaler"])
def test_the_configuration_passes_its_own_check(name: str, component: str, tmp_path: Path) -> None:
    rendered = render_example(name)
    file = tmp_path / FILES[component]
    file.write_text(text_of(rendered, FILES[component]), encoding="utf-8")
    env = environment(rendered, component)
    if name == "external-redis":
        env["WEIGHBRIDGE_REDIS_URL"] = "rediss://:secret@redis.example.com:6380/0"
    loaded = load(file, env).config
    assert set(loaded.pools) == set(example(name)["pools"])
    assert loaded.redis is not None
    assert set(loaded.tenants) == (set(example(name).get("tenants", ())) if component == "gateway" else set())


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("component", ["gateway", "autoscaler", "dashboard"])
def test_a_container_has_the_variables_that_its_configuration_names_and_no_other_secrets(
    name: str, component: str
) -> None:
    rendered = render_example(name)
    named = set(VARIABLE.findall(text_of(rendered, FILES[component])))
    assert set(environment(rendered, component)) - {"WEIGHBRIDGE_LOG_LEVEL", "WEIGHBRIDGE_REDIS_PASSWORD"} == named


def test_keys_of_tenants_and_model_servers_come_from_secrets_and_reach_only_the_gateway() -> None:
    rendered = render_example("ha")
    gateway = environment(rendered, "gateway")
    tenants = config(rendered)["tenants"]
    keys = {name: [gateway[VARIABLE.findall(key)[0]] for key in tenant["keys"]] for name, tenant in tenants.items()}
    assert keys == {"search": ["weighbridge-keys/search"], "batch": ["weighbridge-keys/batch"]}
    [variable] = VARIABLE.findall(config(rendered)["pools"]["chat"]["api_key"])
    assert gateway[variable] == "worker-key/key"
    redis = {"WEIGHBRIDGE_REDIS_PASSWORD", "WEIGHBRIDGE_REDIS_URL"}
    assert set(environment(rendered, "autoscaler")) == {"WEIGHBRIDGE_LOG_LEVEL", *redis}
    control = config(rendered, "control.yaml")
    assert "tenants" not in control
    assert "api_key" not in control["pools"]["chat"]


def test_digests_of_keys_stand_in_the_configuration_as_they_are() -> None:
    digest = "sha256:" + "0" * 64
    tenants = {"a": {"keys": [digest, {"secret": "s", "key": "k"}], "weight": 2, "limits": {"gpu_s_per_minute": 60}}}
    rendered = render(laid_over(example("simulated"), {"tenants": tenants}))
    assert config(rendered)["tenants"]["a"] == {
        "keys": [digest, "os.environ/WEIGHBRIDGE_TENANT_KEY_0_1"],
        "weight": 2,
        "limits": {"gpu_s_per_minute": 60},
    }


def test_large_numbers_keep_their_form() -> None:
    """Helm writes a million as 1e+06 in YAML, which a reader of YAML takes for text."""
    pool = {"kv_tokens": 1_000_000, "limits": {"max_waiting": 10_000_000}}
    rendered = render(laid_over(example("simulated"), {"pools": {"chat": pool}}))
    section = config(rendered)["pools"]["chat"]
    assert (section["kv_tokens"], section["limits"]["max_waiting"]) == (1_000_000, 10_000_000)
    worker = rendered.one("Deployment", "worker-chat")["spec"]["template"]["spec"]["containers"][0]
    assert "--kv-tokens=1000000" in worker["args"]


def test_a_pool_with_one_object_names_it() -> None:
    replicas = config(render_example("one-gpu-node"))["pools"]["chat"]["replicas"]
    target = {"kind": "Deployment", "namespace": "serving", "name": "wb-worker-chat", "port": 8000, "min": 0, "max": 1}
    assert replicas == {"kubernetes": target}


def test_a_pool_with_two_types_of_gpu_names_both_with_what_they_cost() -> None:
    rendered = render_example("two-gpu-types")
    targets = config(rendered)["pools"]["chat"]["replicas"]["kubernetes"]
    found = [(t["name"], t["gpu"], t["cost_per_gpu_hour"], t["min"], t["max"]) for t in targets]
    assert found == [("wb-worker-chat-h100", "H100", 3.9, 1, 2), ("wb-worker-chat-l40s", "L40S", 1.1, 0, 6)]
    existing = config(rendered)["pools"]["large"]["replicas"]["kubernetes"]
    assert (existing["kind"], existing["namespace"], existing["name"]) == ("LeaderWorkerSet", "models", "deepseek")


def test_a_resource_of_another_kind_is_named_in_full() -> None:
    resource = {"group": "ray.example", "version": "v1", "plural": "servers", "kind": "Server"}
    pool = {"models": ["m"], "gpu": "L4", "existing": {"name": "mine", "resource": resource}}
    target = config(render({"pools": {"p": pool}}))["pools"]["p"]["replicas"]["kubernetes"]
    assert target == {"namespace": "serving", "resource": resource, "name": "mine", "port": 8000, "min": 1, "max": 1}


def test_what_keda_owns_says_so_and_the_autoscaler_answers_keda() -> None:
    rendered = render_example("keda")
    assert config(rendered, "control.yaml")["pools"]["chat"]["replicas"]["kubernetes"]["owner"] == "keda"
    assert config(rendered, "control.yaml")["controller"]["keda"] == {"host": "0.0.0.0", "port": 4004}
    assert "keda" not in config(render_example("ha"), "control.yaml")["controller"]


@pytest.mark.parametrize("nodes", [pytest.param(True, id="allowed"), pytest.param(False, id="not allowed")])
def test_nodes_are_read_where_that_is_allowed(nodes: bool) -> None:
    rendered = render(laid_over(example("simulated"), {"rbac": {"nodes": nodes}}))
    assert config(rendered, "control.yaml")["controller"].get("read_nodes", False) is nodes
    assert (len(rendered.all("ClusterRole")) == 1) is nodes


def test_each_release_has_a_lease_of_its_own() -> None:
    lease = config(render_example("simulated", release="second"), "control.yaml")["controller"]["lease"]
    assert lease == {"name": "second-autoscaler", "duration_s": 15, "renew_deadline_s": 10, "retry_s": 2}


def test_a_process_restarts_when_its_configuration_changes() -> None:
    def annotations(changes: dict[str, Any]) -> dict[str, str]:
        rendered = render(laid_over(example("ha"), changes))
        return {
            component: rendered.one("Deployment", component)["spec"]["template"]["metadata"]["annotations"][
                "checksum/config"
            ]
            for component in ("gateway", "autoscaler")
        }

    before = annotations({})
    new_tenant = annotations({"tenants": {"new": {"keys": ["sha256:" + "1" * 64]}}})
    new_bound = annotations({"pools": {"chat": {"max": 9}}})
    assert new_tenant["gateway"] != before["gateway"]
    assert new_tenant["autoscaler"] == before["autoscaler"]
    assert new_bound["autoscaler"] != before["autoscaler"]


def test_the_bundled_redis_has_a_password_and_keeps_its_data() -> None:
    rendered = render_example("simulated")
    assert environment(rendered, "gateway")["WEIGHBRIDGE_REDIS_URL"] == "redis://:wb-redis-password@wb-redis:6379/0"
    assert len(rendered.one("Secret", "redis")["data"]["password"]) == 44
    assert rendered.one("StatefulSet", "redis")["spec"]["volumeClaimTemplates"]
    valkey = rendered.one("ConfigMap", "redis")["data"]["valkey.conf"]
    assert {"maxmemory-policy noeviction", "appendonly yes"} <= set(valkey.splitlines())


def test_a_password_that_is_given_is_used() -> None:
    bundled = {"passwordSecret": "mine", "passwordKey": "pw", "persistence": {"enabled": False}}
    rendered = render(laid_over(example("simulated"), {"redis": {"bundled": bundled}}))
    assert environment(rendered, "autoscaler")["WEIGHBRIDGE_REDIS_PASSWORD"] == "mine/pw"
    assert rendered.all("Secret") == ()
    assert "volumeClaimTemplates" not in rendered.one("StatefulSet", "redis")["spec"]


def test_an_existing_redis_is_used_instead_of_a_bundled_one() -> None:
    rendered = render_example("external-redis")
    env = {"WEIGHBRIDGE_LOG_LEVEL": "info", "WEIGHBRIDGE_REDIS_URL": "weighbridge-redis/url"}
    assert environment(rendered, "gateway") == env
    assert [item for item in rendered.objects if item["metadata"]["name"] == "wb-redis"] == []


def test_the_configuration_of_the_bundled_redis_is_one_that_a_server_reads(tmp_path: Path) -> None:
    text = render_example("one-gpu-node").one("ConfigMap", "redis")["data"]["valkey.conf"]
    lines = [line for line in text.splitlines() if line.partition(" ")[0] not in ("dir", "port", "protected-mode")]
    wanted = {
        "maxmemory": str(128 * 1024**2),
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
    }
    with start_redis(tmp_path, *lines, password="secret") as server:
        client = Redis.from_url(server.url, decode_responses=True)
        found = {name: client.config_get(name)[name] for name in wanted}
        client.close()
    assert found == wanted
