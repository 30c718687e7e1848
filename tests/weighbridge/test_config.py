"""A configuration file as an operator writes it: what it means, and every rule it can break, with the whole message."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from estimator.engine import Engine
from tests.weighbridge.configs import faults, read
from weighbridge.config import dump, load, parse
from weighbridge.config_errors import ConfigError
from weighbridge.config_fields import digest
from weighbridge.config_models import Config

LITELLM = """
model_list:
  - model_name: llama
    litellm_params:
      model: hosted_vllm/meta-llama/Llama-3.1-8B-Instruct
      api_base: http://10.0.0.1:8000/v1
      api_key: os.environ/REPLICA_KEY
      rpm: 60
  - model_name: llama
    litellm_params: {model: openai/meta-llama/Llama-3.1-8B-Instruct, api_base: "http://10.0.0.2:8000/v1/"}
    model_info: {id: two}
general_settings:
  master_key: os.environ/MASTER_KEY
  database_url: postgresql://user:secret@db/litellm
litellm_settings: {drop_params: true}
router_settings: {routing_strategy: least-busy}
"""
ENV = {"REPLICA_KEY": "sk-replica", "MASTER_KEY": "sk-master"}

POOL = "models: [m], architecture: llama-3.1-8b, gpu: L40S"
STATIC = "replicas: {static: ['http://a:1']}"


def test_a_litellm_file_becomes_one_static_pool_per_model_name() -> None:
    pool = read(LITELLM, ENV).config.pools["llama"]
    assert pool.models == ("llama",)
    assert pool.served_model == "meta-llama/Llama-3.1-8B-Instruct"
    assert pool.replicas.static is not None
    assert [(replica.url, replica.api_key) for replica in pool.replicas.static] == [
        ("http://10.0.0.1:8000", SecretStr("sk-replica")),
        ("http://10.0.0.2:8000", None),
    ]


def test_keys_that_are_not_needed_here_are_told_apart_from_those_that_are_missed() -> None:
    loaded = read(LITELLM, ENV)
    assert loaded.not_needed == ("litellm_settings.drop_params", "router_settings.routing_strategy")
    assert loaded.missed == ("model_list[].litellm_params.rpm", "general_settings.database_url")


def test_the_gpu_of_a_pool_made_from_model_list_is_assumed_and_said() -> None:
    loaded = read(LITELLM, ENV)
    assert loaded.config.pools["llama"].gpu == "H100"
    assert loaded.assumed_gpu == ("llama",)


def test_the_master_key_is_a_key_of_the_admin_tenant() -> None:
    assert read(LITELLM, ENV).config.tenants["admin"].keys == (digest("sk-master"),)


def test_a_pool_that_names_the_model_takes_its_entries_as_replicas() -> None:
    loaded = read(f"{LITELLM}\npools: {{chat: {{models: [llama, l8], gpu: L40S, planning_batch: 32}}}}", ENV)
    assert list(loaded.config.pools) == ["chat"]
    pool = loaded.config.pools["chat"]
    assert (pool.served_model, pool.planning_batch) == ("meta-llama/Llama-3.1-8B-Instruct", 32)
    assert pool.replicas.static is not None
    assert len(pool.replicas.static) == 2
    assert loaded.assumed_gpu == ()


def test_entries_of_a_pool_with_its_own_replicas_are_ignored_and_said() -> None:
    loaded = read(f"{LITELLM}\npools: {{chat: {{{POOL.replace('[m]', '[llama]')}, {STATIC}}}}}", ENV)
    assert "model_list[0] (pools.chat has its own replicas)" in loaded.missed
    assert loaded.config.pools["chat"].replicas.static is not None
    assert [replica.url for replica in loaded.config.pools["chat"].replicas.static] == ["http://a:1"]


def engines(*infos: str) -> str:
    """A model list of one pool `llama`, with these `model_info`."""
    entries = (
        f"- model_name: llama\n  litellm_params: {{model: openai/llama-3.1-8b, api_base: 'http://a:{port}'}}\n"
        f"  model_info: {info}\n"
        for port, info in enumerate(infos, 1)
    )
    return "model_list:\n" + "".join(entries)


@pytest.mark.parametrize(
    ("text", "engine"),
    [
        pytest.param(engines("{engine: sglang}"), Engine.SGLANG, id="named"),
        pytest.param(engines("{id: a}", "{engine: sglang}", "{engine: sglang}"), Engine.SGLANG, id="named by some"),
        pytest.param(engines("{id: a}"), Engine.VLLM, id="by default"),
        pytest.param(engines("null"), Engine.VLLM, id="nothing said"),
        pytest.param(engines("{engine: os.environ/ENGINE}"), Engine.TRTLLM, id="from the environment"),
        pytest.param(
            engines("{id: a}") + "pools: {llama: {gpu: L40S, engine: trtllm}}", Engine.TRTLLM, id="by the pool"
        ),
        pytest.param(
            engines("{engine: sglang}") + "pools: {llama: {gpu: L40S}}", Engine.SGLANG, id="for a pool of our own"
        ),
        pytest.param(
            engines("{engine: sglang}") + "pools: {llama: {gpu: L40S, engine: sglang}}", Engine.SGLANG, id="by both"
        ),
    ],
)
def test_the_engine_is_what_model_info_or_the_pool_says(text: str, engine: Engine) -> None:
    assert read(text, {"ENGINE": "trtllm"}).config.pools["llama"].engine is engine


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(
            engines("{engine: tgi}"),
            "model_list[0].model_info.engine = 'tgi': must be one of vllm, sglang, trtllm",
            id="unknown",
        ),
        pytest.param(engines("{engine: 7}"), "model_list[0].model_info.engine = 7: must be text", id="a number"),
        pytest.param(
            engines("{engine: vllm}", "{engine: sglang}"),
            "model_list[1].model_info.engine = 'sglang': differs from model_list[0] ('vllm'): a pool has one engine",
            id="two in one pool",
        ),
        pytest.param(
            engines("{engine: sglang}") + "pools: {llama: {gpu: L40S, engine: vllm}}",
            "model_list[0].model_info.engine = 'sglang': differs from pools.llama ('vllm'): a pool has one engine",
            id="not the pool's",
        ),
    ],
)
def test_engines_that_contradict_are_errors(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_environment_variables_of_litellm_fill_in_for_the_environment() -> None:
    text = (
        f"environment_variables: {{PORT: 5000}}\ngateway: {{port: os.environ/PORT}}\npools: {{a: {{{POOL}, {STATIC}}}}}"
    )
    assert read(text).config.gateway.port == 5000
    assert read(text, {"PORT": "6000"}).config.gateway.port == 6000


@pytest.mark.parametrize("name", ["config.json", "."])
def test_an_architecture_may_be_the_path_of_a_model_folder(tmp_path: Path, name: str) -> None:
    keys = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size")
    (tmp_path / "config.json").write_text(json.dumps(dict.fromkeys(keys, 8)))
    loaded = read(f"pools: {{a: {{gpu: L4, architecture: ./{name}, {STATIC}}}}}", directory=tmp_path)
    architecture = loaded.config.pools["a"].architecture
    assert isinstance(architecture, dict)
    assert architecture["num_hidden_layers"] == 8
    assert parse(dump(loaded.config), {}).config == loaded.config


def test_what_is_written_for_children_means_the_same() -> None:
    config = read(LITELLM, ENV).config
    assert parse(dump(config), {}).config == config


def test_secrets_are_in_no_representation() -> None:
    config = read(f"{LITELLM}\nredis: {{url: 'redis://:hunter2@r'}}\ntenants: {{t: {{keys: [sk-plain]}}}}", ENV).config
    for text in (repr(config), str(config), config.model_dump_json(), repr(config.model_dump())):
        assert not [secret for secret in ("sk-replica", "sk-master", "hunter2", "sk-plain") if secret in text]


@pytest.mark.parametrize(
    "url",
    [
        "unix:///run/redis.sock",
        "rediss://user:p%2Fw@r:6380/1?ssl_ca_certs=/etc/ca.pem",
        "redis+sentinel://:p@a:26379,b:26379/main/2?sentinel_password=q",
        "rediss+cluster://a:6379,b:6379",
    ],
)
def test_redis_may_be_one_server_a_sentinel_or_a_cluster(url: str) -> None:
    section = read(f"redis: {{url: '{url}'}}\n{pool()}").config.redis
    assert section is not None
    assert section.url.get_secret_value() == url


def test_a_plain_key_and_its_digest_are_the_same_key() -> None:
    plain, hashed = (
        read(f"tenants: {{t: {{keys: ['{key}']}}}}\n{pool()}").config for key in ("sk-one", digest("sk-one"))
    )
    assert plain == hashed


def test_null_switches_an_objective_off() -> None:
    config = read(f"pools: {{a: {{{POOL}, {STATIC}, slo: {{ttft_s: null}}}}}}").config
    assert config.pools["a"].slo.ttft_s is None
    assert parse(dump(config), {}).config == config


def test_kv_tokens_follow_from_the_gpu_unless_they_are_given() -> None:
    given = read(f"pools: {{a: {{{POOL}, {STATIC}, kv_tokens: 1000}}}}").config.pools["a"]
    computed = read(f"pools: {{a: {{{POOL}, {STATIC}}}}}").config.pools["a"]
    assert (given.kv_tokens, computed.kv_tokens) == (1000, 219078)


def pool(**changes: str) -> str:
    """A sound pool in flow style with some keys replaced."""
    keys = {
        "models": "[m]",
        "architecture": "llama-3.1-8b",
        "gpu": "L40S",
        "replicas": "{static: ['http://a:1']}",
        **changes,
    }
    return f"pools: {{chat: {{{', '.join(f'{key}: {value}' for key, value in keys.items() if value)}}}}}"


BAD_POOLS = {
    "no gpu": (pool(gpu=""), "pools.chat.gpu: is required"),
    "a variant that is not known": (
        pool(gpu="H100-PCI"),
        "pools.chat.gpu = 'H100-PCI': unknown GPU; did you mean 'H100-PCIe'?",
    ),
    "heads that are not divided": (
        pool(tensor_parallel="3"),
        "pools.chat.tensor_parallel = 3: does not divide the 32 attention heads of the model",
    ),
    "unknown gpu": (pool(gpu="L41S"), "pools.chat.gpu = 'L41S': unknown GPU; did you mean 'L40S'?"),
    "unknown architecture": (
        pool(architecture="llama-3.1-9b"),
        "pools.chat.architecture = 'llama-3.1-9b': no built-in model has this name; did you mean 'llama-3.1-8b'?",
    ),
    "architecture cannot be guessed": (
        pool(architecture=""),
        "pools.chat.architecture: is required: no built-in architecture is named 'm'",
    ),
    "architecture file is missing": (
        pool(architecture="/nowhere/config.json"),
        "pools.chat.architecture = '/nowhere/config.json': cannot be read: No such file or directory",
    ),
    "inline architecture lacks a key": (
        pool(architecture="{hidden_size: 8}"),
        "pools.chat.architecture = a mapping: config: num_hidden_layers is missing",
    ),
    "model does not fit": (
        pool(architecture="llama-3.1-70b"),
        "pools.chat.kv_tokens: the weights (141 GB) leave no room for KV cache on 1 x L40S; "
        "raise tensor_parallel, or set kv_tokens",
    ),
    "mistyped key": (
        pool(planing_batch="3"),
        "pools.chat.planing_batch = 3: unknown key; did you mean 'planning_batch'?",
    ),
    "mistyped secret": (
        pool(api_kye="hush"),
        "pools.chat.api_kye = [redacted]: unknown key; did you mean 'api_key'?",
    ),
    "not a number": (
        pool(planning_batch="many"),
        "pools.chat.planning_batch = 'many': must be a whole number",
    ),
    "no slots": (pool(max_in_flight=-1), "pools.chat.max_in_flight = -1: must be at least 1"),
    "a boolean is no number": (pool(planning_batch="yes"), "pools.chat.planning_batch = true: must be a number"),
    "not finite": (
        pool(limits="{max_wait_s: .inf}"),
        "pools.chat.limits.max_wait_s = inf: must be a number",
    ),
    "zero seconds": (pool(slo="{ttft_s: 0}"), "pools.chat.slo.ttft_s = 0: must be greater than 0"),
    "above the bound": (
        pool(limits="{externality: 2}"),
        "pools.chat.limits.externality = 2: must be at most 1",
    ),
    "model twice": (pool(models="[m, m]"), "pools.chat.models = a list: 'm' is listed twice"),
    "no model": (
        pool(models="[]"),
        "pools.chat.models = a list: must not be empty",
    ),
    "models is text": (pool(models="m", served_model="m"), "pools.chat.models = 'm': must be a list"),
    "wildcard": (
        pool(models="['*-*-*']", served_model="m"),
        "pools.chat.models[0] = '*-*-*': must be a model name without spaces, with at most 2 wildcards (*)",
    ),
    "served model is a wildcard": (
        pool(served_model="'*'"),
        "pools.chat.served_model = '*': must be a model name without spaces or wildcards",
    ),
    "nothing but wildcards": (
        pool(models="['*']"),
        "pools.chat.served_model: is required where all models have a wildcard",
    ),
    "another number of wildcards": (
        pool(served_as="{m: '*'}"),
        "pools.chat.served_as = a mapping: 'm' has another number of wildcards than '*'",
    ),
    "pool is text": ("pools: {chat: 3}", "pools.chat = 3: must be a mapping"),
    "no replicas": (pool(replicas=""), "pools.chat.replicas: is required"),
    "two kinds of replicas": (
        pool(replicas="{static: ['http://a:1'], processes: {}}"),
        "pools.chat.replicas = a mapping: must have exactly one of static, processes, kubernetes; "
        "it has static and processes",
    ),
    "mistyped kind of replicas": (
        pool(replicas="{process: {}}"),
        "pools.chat.replicas.process = a mapping: unknown key; did you mean 'processes'?",
    ),
    "no static replica": (
        pool(replicas="{static: []}"),
        "pools.chat.replicas.static = a list: must not be empty",
    ),
    "not a URL": (
        pool(replicas="{static: ['a:1']}"),
        "pools.chat.replicas.static[0] = 'a:1': must be http://host:port or https://host:port",
    ),
    "password in a URL": (
        pool(replicas="{static: ['http://me:hush@a:1']}"),
        "pools.chat.replicas.static[0] = 'http://[redacted]@a:1': must not hold a user or password; use api_key",
    ),
    "same address twice": (
        pool(replicas="{static: ['http://a:1', 'http://a:1/v1']}"),
        "pools.chat.replicas.static = a list: the url 'http://a:1' is listed twice",
    ),
    "max under min": (
        pool(replicas="{processes: {min: 3, max: 2}}"),
        "pools.chat.replicas.processes.max = 2: must be at least min (3)",
    ),
    "max defaults under min": (
        pool(replicas="{processes: {min: 3}}"),
        "pools.chat.replicas.processes.max: must be at least min (3)",
    ),
    "command without a port": (
        pool(replicas="{processes: {command: vllm serve m}}"),
        "pools.chat.replicas.processes.command = 'vllm serve m': must contain {port}",
    ),
    "command with an open quote": (
        pool(replicas="""{processes: {command: "vllm 'serve {port}"}}"""),
        'pools.chat.replicas.processes.command = "vllm \'serve {port}": '
        "cannot be split into words: no closing quotation",
    ),
    "simulated with a command": (
        pool(replicas="{processes: {command: 'x {port}', simulated: {speed: 2}}}"),
        "pools.chat.replicas.processes.simulated = a mapping: applies to the simulated model server; "
        "remove it or remove command",
    ),
    "unknown Kubernetes kind": (
        pool(replicas="{kubernetes: {name: llama, kind: Pod}}"),
        "pools.chat.replicas.kubernetes.kind = 'Pod': must be one of 'Deployment', 'StatefulSet' or 'LeaderWorkerSet'",
    ),
    "unknown Kubernetes kind in a list": (
        pool(replicas="{kubernetes: [{name: llama}, {name: other, kind: Pod}]}"),
        "pools.chat.replicas.kubernetes[1].kind = 'Pod': must be one of 'Deployment', 'StatefulSet' or "
        "'LeaderWorkerSet'",
    ),
    "mistyped key of a Kubernetes object": (
        pool(replicas="{kubernetes: {name: llama, prot: 8000}}"),
        "pools.chat.replicas.kubernetes.prot = 8000: unknown key; did you mean 'port'?",
    ),
    "Kubernetes object without a name": (
        pool(replicas="{kubernetes: {port: 8000}}"),
        "pools.chat.replicas.kubernetes.name: is required",
    ),
    "Kubernetes object twice": (
        pool(replicas="{kubernetes: [{name: llama}, {name: llama}]}"),
        "pools.chat.replicas.kubernetes = a list: Deployment default/llama is listed twice",
    ),
    "two Kubernetes objects under KEDA": (
        pool(replicas="{kubernetes: [{name: llama, owner: keda}, {name: other}]}"),
        "pools.chat.replicas.kubernetes = a list: owner keda takes one object: KEDA scales each object by itself",
    ),
    "scaling settings that contradict each other": (
        pool(autoscaler="{stale_after_s: 100, fallback_after_s: 50}"),
        "pools.chat.autoscaler: must hold together with the global section and the defaults: "
        "stale_after_s <= fallback_after_s",
    ),
    "advice for replicas that nobody else starts": (
        pool(replicas="{processes: {}}", autoscaler="{advisory: true}"),
        "pools.chat.autoscaler.advisory = true: a processes pool has only the replicas that the autoscaler starts, "
        "so it cannot be advised only",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD_POOLS.values(), ids=BAD_POOLS)
def test_a_bad_pool_is_named_by_key_value_and_rule(text: str, message: str) -> None:
    assert faults(text) == [message]


BAD_SECTIONS = {
    "mistyped section": ("poools: {}", "poools: unknown section; did you mean 'pools'?"),
    "port out of range": ("gateway: {port: 70000}", "gateway.port = 70000: must be at most 65535"),
    "ports that collide": (
        "gateway: {port: 4001}",
        "gateway.admin_port: must not be gateway.port",
    ),
    "unknown limit": (
        "gateway: {limits: {max_body: 3}}",
        "gateway.limits.max_body = 3: unknown key; did you mean 'max_body_bytes'?",
    ),
    "variable is not set": (
        "gateway: {port: os.environ/WB_PORT}",
        "gateway.port = os.environ/WB_PORT: the environment variable WB_PORT is not set",
    ),
    "variable holds no number": (
        "gateway: {port: os.environ/TEXT}",
        "gateway.port = os.environ/TEXT: must be a whole number",
    ),
    "redis scheme": (
        "redis: {url: 'http://:hush@r'}",
        "redis.url = 'http://[redacted]@r': must start with redis://, rediss://, unix://, redis+sentinel://, "
        "rediss+sentinel://, redis+cluster://, rediss+cluster://",
    ),
    "redis password that is not encoded": (
        "redis: {url: 'redis://:hu/sh@r'}",
        "redis.url = '[redacted]': must have '/', '?' and '@' in a user or password percent-encoded (%2F, %3F, %40)",
    ),
    "redis password as an option, and a port that is none": (
        "redis: {url: 'redis+sentinel://r:port/main?sentinel_password=hush'}",
        "redis.url = '[redacted]': must have a number from 1 to 65535 as the port of address 1",
    ),
    "sentinel without a master": (
        "redis: {url: 'redis+sentinel://r:26379'}",
        "redis.url = 'redis+sentinel://r:26379': must name the master: redis+sentinel://host:port/master_name",
    ),
    "tenant without keys": ("tenants: {t: {}}", "tenants.t.keys: is required"),
    "tenant with an empty key": (
        "tenants: {t: {keys: ['']}}",
        "tenants.t.keys[0] = [redacted]: must be a non-empty key of printable ASCII characters without spaces",
    ),
    "digest of the wrong length": (
        "tenants: {t: {keys: ['sha256:abc']}}",
        "tenants.t.keys[0] = [redacted]: must be sha256: and 64 hexadecimal digits",
    ),
    "key of two tenants": (
        f"tenants: {{t: {{keys: [sk-1]}}, u: {{keys: ['{digest('sk-1')}']}}}}",
        "tenants.u.keys[0] = [redacted]: is also tenants.t.keys[0]",
    ),
    "tenant name": (
        "tenants: {'a b': {keys: [k]}}",
        "tenants.a b = a mapping: must be 1 to 63 letters, digits, '.', '_' or '-', and start with a letter or a digit",
    ),
    "weight": ("tenants: {t: {keys: [k], weight: 0}}", "tenants.t.weight = 0: must be greater than 0"),
    "priority out of range": ("tenants: {t: {keys: [k], priority: 8}}", "tenants.t.priority = 8: must be less than 8"),
    "priority ceiling under the priority": (
        "tenants: {t: {keys: [k], priority: 5, max_priority: 4}}",
        "tenants.t.max_priority = 4: must be at least priority (5)",
    ),
    "priority ceiling under the default priority": (
        "tenants: {t: {keys: [k], max_priority: 2}}",
        "tenants.t.max_priority = 2: must be at least priority (3)",
    ),
    "limit of nothing": (
        "tenants: {t: {keys: [k], limits: {gpu_s_per_minute: 0}}}",
        "tenants.t.limits.gpu_s_per_minute = 0: must be greater than 0",
    ),
    "month under a day": (
        "tenants: {t: {keys: [k], limits: {gpu_s_per_day: 20, gpu_s_per_month: 10}}}",
        "tenants.t.limits.gpu_s_per_month = 10: must be at least gpu_s_per_day (20)",
    ),
    "unknown limit of a tenant": (
        "tenants: {t: {keys: [k], limits: {rpm: 60}}}",
        "tenants.t.limits.rpm = 60: unknown key; known: gpu_s_per_minute, concurrent_gpu_s, prefill_pace, "
        "gpu_s_per_day, gpu_s_per_month, money_per_day, money_per_month",
    ),
    "money without a price": (
        "tenants: {t: {keys: [k], limits: {money_per_day: 5}}}",
        "tenants.t.limits.money_per_day = 5: counts nothing until a pool has a price_per_gpu_hour",
    ),
    "scaling value": ("autoscaler: {utilization: 2}", "autoscaler.utilization = 2: must be at most 1"),
    "scaling key": (
        "autoscaler: {min_replicas: 2}",
        "autoscaler.min_replicas = 2: unknown key; did you mean 'fallback_replicas'?",
    ),
    "master key": (
        "general_settings: {master_key: ''}",
        "general_settings.master_key = [redacted]: "
        "must be a non-empty key of printable ASCII characters without spaces",
    ),
    "master key variable": (
        "general_settings: {master_key: os.environ/NONE}",
        "general_settings.master_key = os.environ/NONE: the environment variable NONE is not set",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD_SECTIONS.values(), ids=BAD_SECTIONS)
def test_a_bad_section_is_named_by_key_value_and_rule(text: str, message: str) -> None:
    assert faults(f"{text}\n{pool()}", {"TEXT": "abc"}) == [message]


def test_a_model_may_be_served_by_one_pool_only() -> None:
    text = f"pools: {{a: {{{POOL}, {STATIC}}}, b: {{{POOL}, {STATIC}}}}}"
    assert faults(text) == ["pools.b.models[0] = 'm': is already served by pools.a"]


def test_money_may_be_limited_once_a_pool_has_a_price() -> None:
    config = read(
        f"tenants: {{t: {{keys: [k], limits: {{money_per_month: 5}}}}}}\n{pool(price_per_gpu_hour='2')}"
    ).config
    assert config.tenants["t"].limits.money_per_month == 5
    assert config.pools["chat"].price_per_gpu_hour == 2


def test_a_price_must_be_positive() -> None:
    assert faults(pool(price_per_gpu_hour="0")) == ["pools.chat.price_per_gpu_hour = 0: must be greater than 0"]


def test_all_errors_come_at_once() -> None:
    text = """
general_settings: {master_key: os.environ/NONE}
model_list: [{model_name: x}]
pools:
  a: {models: [m], architecture: nope-1, gpu: L40S, replicas: {processes: {min: 2, max: 1}}}
  b: {models: [m], architecture: llama-3.1-8b, gpu: nope, replicas: {static: [3]}, autoscaler: {beta: -1}}
gateway: {port: x}
"""
    assert [fault.partition(":")[0].partition(" =")[0] for fault in faults(text)] == [
        "general_settings.master_key",
        "model_list[0].litellm_params",
        "pools.b.models[0]",
        "pools.a.architecture",
        "pools.a.replicas.processes.max",
        "pools.b.gpu",
        "pools.b.replicas.static[0]",
        "pools.b.autoscaler.beta",
        "gateway.port",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "(document): is empty", id="empty"),
        pytest.param("- a", "(document): must be a mapping of sections", id="a list"),
        pytest.param("{}", "pools: a pool or an entry in model_list is required", id="no pool"),
        pytest.param(
            "pools:\n  a: [1\nb: 2",
            "line 3, column 2: not valid YAML: while parsing a flow sequence: expected ',' or ']', but got ':'",
            id="syntax",
        ),
        pytest.param(
            "pools:\n  a: 1\n  a: 2",
            "line 3, column 3: not valid YAML: the key 'a' is already on line 2",
            id="a key twice",
        ),
        pytest.param("pools:\n\ta: 1", None, id="a tab"),
        pytest.param("a: *b", "line 1, column 4: not valid YAML: found undefined alias 'b'", id="no such alias"),
        pytest.param("a: \x01", "line 1: not valid YAML: a control character", id="control character"),
        pytest.param("a: &x [*x]", None, id="a list in itself"),
    ],
)
def test_text_that_is_not_a_document_is_refused_with_its_line(text: str, message: str | None) -> None:
    found = faults(text)
    assert len(found) == 1
    assert message is None or found == [message]


def test_a_syntax_error_does_not_quote_the_text() -> None:
    assert "sk-hush" not in faults("tenants: {t: {keys: [sk-hush, ]]}}")[0]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: 1 error\n  .file.: no such file or directory"):
        load(tmp_path / "none.yaml", {})
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(tmp_path / "latin.yaml", {})


def test_the_examples_are_sound() -> None:
    examples = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
    assert examples
    env = {name: f"value-of-{name}" for name in ("LITELLM_MASTER_KEY", "VLLM_API_KEY", "REDIS_PASSWORD", "TEAM_A_KEY")}
    for example in examples:
        assert isinstance(load(example, env).config, Config), example
