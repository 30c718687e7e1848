"""A LiteLLM `config.yaml` as it is: which of its models are served, under which names, and what is said of the rest."""

from pathlib import Path

import pytest

from tests.weighbridge.configs import AZURE, LLAMA, entry, faults, listed, read
from weighbridge.config import Loaded, dump, load, parse
from weighbridge.config_errors import ConfigError
from weighbridge.config_fields import digest
from weighbridge.config_report import lines


def urls(loaded: Loaded, pool: str) -> list[str]:
    return [replica.url for replica in loaded.config.pools[pool].replicas.static or ()]


def test_two_names_of_one_server_share_a_pool() -> None:
    loaded = read(listed(entry("llama"), entry("chat")))
    assert loaded.config.pools["llama"].models == ("llama", "chat")
    assert list(loaded.config.pools) == ["llama"]


def test_the_same_model_on_other_servers_is_another_pool() -> None:
    other = LLAMA.replace("a:1", "b:1")
    assert list(read(listed(entry("llama"), entry("chat", other))).config.pools) == ["llama", "chat"]


@pytest.mark.parametrize(
    ("first", "second", "own", "expected"),
    [
        pytest.param("4", "4", None, 4, id="all entries agree"),
        pytest.param("os.environ/N", "4", None, 4, id="from the environment"),
        pytest.param("4", "5", None, None, id="they do not"),
        pytest.param("4", "null", None, None, id="one says nothing"),
        pytest.param("0", "0", None, None, id="0 is no bound"),
        pytest.param("4", "4", 9, 9, id="the pool has its own"),
    ],
)
def test_what_servers_run_at_once_is_what_the_pool_gives_each(
    first: str, second: str, own: int | None, expected: int | None
) -> None:
    servers = [
        f"{{model: hosted_vllm/llama-3.1-8b, api_base: 'http://{host}:1', max_parallel_requests: {most}}}"
        for host, most in (("a", first), ("b", second))
    ]
    pools = "" if own is None else f"pools: {{m: {{models: [m], gpu: L40S, max_in_flight: {own}}}}}\n"
    loaded = read(listed(*(entry("m", server) for server in servers)) + pools, {"N": "4"})
    assert loaded.config.pools["m"].max_in_flight == expected
    assert not [line for line in lines(loaded) if "max_parallel_requests" in str(line)]


@pytest.mark.parametrize("written", ["many", "-1", "true", "2.5"])
def test_what_a_server_runs_at_once_is_a_whole_number(written: str) -> None:
    (fault,) = faults(listed(entry("m", LLAMA.replace("}", f", max_parallel_requests: {written}}}"))))
    assert fault.startswith("model_list[0].litellm_params.max_parallel_requests = ")
    assert fault.endswith("must be a whole number, at least 0")


@pytest.mark.parametrize(
    ("params", "served", "url", "key"),
    [
        pytest.param(
            "{model: hosted_vllm/o/llama-3.1-8b, api_base: 'http://a/v1'}", "o/llama-3.1-8b", "http://a", None
        ),
        pytest.param("{model: openai/llama-3.1-8b, base_url: 'http://a', api_key: k}", "llama-3.1-8b", "http://a", "k"),
        pytest.param(
            "{model: llama-3.1-8b, custom_llm_provider: openai, api_base: 'http://a'}", "llama-3.1-8b", "http://a", None
        ),
        pytest.param("{model: custom_openai/llama-3.1-8b, api_base: 'http://a'}", "llama-3.1-8b", "http://a", None),
        pytest.param("{model: hosted_vllm/llama-3.1-8b}", "llama-3.1-8b", "http://env", "env-key"),
        pytest.param(
            "{model: hosted_vllm/llama-3.1-8b, litellm_credential_name: c}", "llama-3.1-8b", "http://cred", "ck"
        ),
        pytest.param(
            "{model: hosted_vllm/llama-3.1-8b, litellm_credential_name: c, api_key: own}",
            "llama-3.1-8b",
            "http://cred",
            "own",
        ),
    ],
    ids=["hosted_vllm", "base_url", "provider", "custom_openai", "environment", "credential", "own first"],
)
def test_a_server_is_found_as_litellm_finds_it(params: str, served: str, url: str, key: str | None) -> None:
    env = {"CK": "ck"} if "env" not in url else {"HOSTED_VLLM_API_BASE": "http://env", "HOSTED_VLLM_API_KEY": "env-key"}
    credentials = "credential_list: [{credential_name: c, credential_values: {api_base: 'http://cred', api_key: ck}}]\n"
    pool = read(listed(entry("m", params)) + credentials, env).config.pools["m"]
    assert pool.served_model == served
    assert pool.replicas.static is not None
    (replica,) = pool.replicas.static
    assert replica.url == url
    assert (replica.api_key and replica.api_key.get_secret_value()) == key


def test_a_credential_that_is_not_there_is_an_error() -> None:
    text = listed(entry("m", LLAMA.replace("}", ", litellm_credential_name: vlm}")))
    text += "credential_list: [{credential_name: vllm, credential_values: {}}]\n"
    assert faults(text) == [
        "model_list[0].litellm_params.litellm_credential_name = 'vlm': no such credential; did you mean 'vllm'?"
    ]


@pytest.mark.parametrize(
    ("params", "info", "why"),
    [
        pytest.param(AZURE, "{}", "is of the provider azure", id="azure"),
        pytest.param("{model: gpt-4o}", "{}", "names no provider", id="no provider"),
        pytest.param(
            "{model: openai/gpt-4o}",
            "{}",
            "has no api_base of its own, so it is of the provider openai itself",
            id="openai",
        ),
        pytest.param(
            "{model: openai/gpt-4o, api_base: 'https://api.openai.com/v1'}",
            "{}",
            "has no api_base of its own, so it is of the provider openai itself",
            id="openai by its address",
        ),
        pytest.param(
            LLAMA, "{mode: rerank}", "has the mode rerank; served are chat, completion, embedding, responses", id="mode"
        ),
        pytest.param(LLAMA, "{blocked: true}", "is blocked", id="blocked"),
    ],
)
def test_what_others_serve_is_passed_over_and_told_to_who_asks(params: str, info: str, why: str) -> None:
    loaded = read(listed(entry("llama"), entry("other", params, info)))
    assert list(loaded.config.pools) == ["llama"]
    (other,) = loaded.elsewhere
    assert (other.model, other.why) == ("other", why)
    assert f"not served here: other (model_list[1] {why})" in list(lines(loaded))
    assert loaded.config.elsewhere == {"other": f"it is in the configuration, and {why}"}


def test_a_model_of_others_keeps_its_parameters_with_the_variables_that_are_set() -> None:
    text = listed(entry("llama"), entry("gpt", AZURE))
    (with_key,) = read(text, {"AZURE_KEY": "secret"}).elsewhere
    assert with_key.params["api_key"] == "secret"
    assert "secret" not in repr(with_key)
    (without,) = read(text).elsewhere
    assert (without.unset, "api_key" in without.params) == (("AZURE_KEY",), False)


def test_a_group_of_own_and_hosted_entries_is_served_by_the_own() -> None:
    loaded = read(listed(entry("llama"), entry("llama", AZURE)))
    assert urls(loaded, "llama") == ["http://a:1"]
    assert loaded.config.elsewhere == {}


def test_nothing_to_serve_is_an_error_that_names_every_entry() -> None:
    found = faults(listed(entry("gpt", AZURE), entry("odd", LLAMA.replace("llama-3.1-8b", "odd-9"))))
    assert found[0].startswith(
        "model_list[0].litellm_params.model: is of the provider azure; own servers have an api_base"
    )
    assert found[1].startswith("model_list[1].litellm_params.model = 'odd-9': no built-in architecture has this name")
    assert len(found) == 2


def test_a_model_without_an_architecture_leaves_the_others_served() -> None:
    loaded = read(listed(entry("llama"), entry("odd", LLAMA.replace("llama-3.1-8b", "odd-9"))))
    assert list(loaded.config.pools) == ["llama"]
    assert loaded.config.elsewhere["odd"].startswith("no pool can price it; add one")
    assert [problem.path for problem in loaded.unpriced] == ["model_list[1].litellm_params.model"]


def test_base_model_prices_a_name_that_is_not_known() -> None:
    loaded = read(listed(entry("odd", LLAMA.replace("llama-3.1-8b", "odd-9"), "{base_model: qwen2.5-7b}")))
    pool = loaded.config.pools["odd"]
    assert (pool.architecture, pool.served_model) == ("qwen2.5-7b", "odd-9")


def test_a_base_model_that_is_not_built_in_is_missed() -> None:
    loaded = read(listed(entry("llama", info="{base_model: azure/gpt-4}")))
    assert loaded.missed == ("model_list[].model_info.base_model: azure/gpt-4 (no built-in architecture)",)


def test_an_id_names_a_replica_unless_two_have_it() -> None:
    loaded = read(listed(entry("m", info="{id: one}"), entry("m", LLAMA.replace("a:1", "b:1"))))
    assert [replica.label for replica in loaded.config.pools["m"].replicas.static or ()] == ["one", "b:1"]
    loaded = read(listed(entry("m", info="{id: one}"), entry("m", LLAMA.replace("a:1", "b:1"), "{id: one}")))
    assert [replica.label for replica in loaded.config.pools["m"].replicas.static or ()] == ["a:1", "b:1"]


@pytest.mark.parametrize(
    ("settings", "not_needed", "missed"),
    [
        pytest.param(
            "router_settings: {routing_strategy: x, fallbacks: [{a: [b]}]}",
            ["router_settings.routing_strategy"],
            ["router_settings.fallbacks"],
            id="router",
        ),
        pytest.param(
            "litellm_settings: {cache: false, callbacks: [gateway.litellm_plugin.handler]}",
            ["litellm_settings.cache", "litellm_settings.callbacks"],
            [],
            id="off, and our own plugin",
        ),
        pytest.param(
            "litellm_settings: {cache: true, callbacks: [prometheus]}",
            [],
            ["litellm_settings.cache", "litellm_settings.callbacks"],
            id="on, and another's",
        ),
        pytest.param(
            "general_settings: {cancel_on_disconnect: true, custom_auth: a.b}",
            ["general_settings.cancel_on_disconnect"],
            ["general_settings.custom_auth"],
            id="general",
        ),
        pytest.param("guardrails: [{guardrail_name: x}]\nprompts: []", [], ["guardrails"], id="whole sections"),
        pytest.param("router_settings: {what_is_this: 1}", [], ["router_settings.what_is_this"], id="not known"),
    ],
)
def test_keys_are_not_needed_or_missed(settings: str, not_needed: list[str], missed: list[str]) -> None:
    loaded = read(listed(entry("llama")) + settings)
    assert (list(loaded.not_needed), list(loaded.missed)) == (not_needed, missed)


def test_an_alias_is_another_name_of_a_model_and_may_be_hidden() -> None:
    aliases = "{fast: llama, secret: {model: llama, hidden: true}, gpt: {model: hosted, hidden: false}}"
    loaded = read(listed(entry("llama"), entry("hosted", AZURE)) + f"router_settings: {{model_group_alias: {aliases}}}")
    pool = loaded.config.pools["llama"]
    assert (pool.models, pool.hidden) == (("llama", "fast", "secret"), ("secret",))
    assert set(loaded.config.elsewhere) == {"hosted", "gpt"}
    assert loaded.missed == ()


@pytest.mark.parametrize(
    ("aliases", "missed"),
    [
        pytest.param("{fast: nobody}", "fast (no model is named nobody)", id="of nothing"),
        pytest.param("{llama: llama}", "llama (pools.llama serves a model of that name)", id="a model's name"),
        pytest.param("{z: fast, fast: llama}", "z (no model is named fast)", id="of an alias"),
    ],
)
def test_an_alias_that_leads_nowhere_is_missed(aliases: str, missed: str) -> None:
    loaded = read(listed(entry("llama")) + f"router_settings: {{model_group_alias: {aliases}}}")
    assert loaded.missed == (f"router_settings.model_group_alias.{missed}",)


@pytest.mark.parametrize(
    ("settings", "place", "url"),
    [
        pytest.param(
            "router_settings: {redis_host: r, redis_port: 6380, redis_password: os.environ/PW}",
            "router_settings.redis_host",
            "redis://:p%40ss@r:6380/0",
            id="router",
        ),
        pytest.param(
            "litellm_settings: {cache_params: {type: redis, url: 'rediss://c'}}",
            "litellm_settings.cache_params.url",
            "rediss://c",
            id="cache",
        ),
        pytest.param(
            "litellm_settings: {cache_params: {host: c, ssl: true, username: u, password: p}}",
            "litellm_settings.cache_params.host",
            "rediss://u:p@c:6379/0",
            id="cache over TLS",
        ),
        pytest.param(
            "general_settings: {coordination_redis: {host: g}}\nrouter_settings: {redis_host: r}",
            "general_settings.coordination_redis.host",
            "redis://g:6379/0",
            id="the workers' first",
        ),
        pytest.param("litellm_settings: {cache_params: {type: s3, host: c}}", None, None, id="no redis"),
        pytest.param(
            "redis: {url: 'redis://own'}\nrouter_settings: {redis_host: r}", None, "redis://own", id="our own"
        ),
    ],
)
def test_litellms_redis_is_used_where_there_is_none_of_our_own(
    settings: str, place: str | None, url: str | None
) -> None:
    loaded = read(listed(entry("llama")) + settings, {"PW": "p@ss"})
    assert loaded.redis_named_by == place
    redis = loaded.config.redis
    assert (None if redis is None else redis.url.get_secret_value()) == url


def test_the_master_key_may_be_litellms_own_variable() -> None:
    env = {"LITELLM_MASTER_KEY": "sk-env"}
    assert read(listed(entry("llama")), env).config.tenants["admin"].keys == (digest("sk-env"),)
    own = "pools: {p: {models: [llama-3.1-8b], gpu: H100, replicas: {static: ['http://a:1']}}}"
    assert read(own, env).config.tenants == {}


def test_environment_variables_may_name_variables() -> None:
    text = listed(entry("llama", LLAMA.replace("'http://a:1'", "os.environ/BASE")))
    loaded = read(
        f"{text}environment_variables: {{BASE: os.environ/OTHER, NONE: os.environ/UNSET}}", {"OTHER": "http://o"}
    )
    assert urls(loaded, "llama") == ["http://o"]


def test_litellms_own_variables_are_those_of_the_file_before_the_environments() -> None:
    text = listed(entry("llama", "{model: hosted_vllm/llama-3.1-8b}"))
    text += "environment_variables: {HOSTED_VLLM_API_BASE: 'http://file', LITELLM_MASTER_KEY: sk-file}"
    loaded = read(text, {"HOSTED_VLLM_API_BASE": "http://env", "LITELLM_MASTER_KEY": "sk-env"})
    assert urls(loaded, "llama") == ["http://file"]
    assert loaded.config.tenants["admin"].keys == (digest("sk-file"),)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder / "main.yaml"


def test_included_files_add_to_lists_and_replace_the_rest(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main=listed(entry("a")) + "include: [sub/one.yaml]\ngeneral_settings: {master_key: first}\n",
        sub__one=listed(entry("b", LLAMA.replace("a:1", "b:1"))) + "include: [two.yaml, ../main.yaml]\n",
        sub__two=listed(entry("c", LLAMA.replace("a:1", "c:1")))
        + "general_settings: {master_key: second}\ninclude: [one.yaml]",
    )
    config = load(main, {}).config
    assert list(config.pools) == ["a", "b", "c"]
    assert config.tenants["admin"].keys == (digest("second"),)


def test_a_nested_include_may_lie_beside_the_first_file(tmp_path: Path) -> None:
    main = write(tmp_path, main="include: [sub/one.yaml]", sub__one="include: [two.yaml]", two=listed(entry("a")))
    assert list(load(main, {}).config.pools) == ["a"]


@pytest.mark.parametrize(
    ("include", "message"),
    [
        pytest.param("include: none.yaml", "main.yaml: 1 error\n  include: must be a list of file paths", id="text"),
        pytest.param(
            "include: [none.yaml]",
            "none.yaml: 1 error\n  (include of main.yaml): no such file or directory",
            id="missing",
        ),
        pytest.param(
            "include: [bad.yaml]", "bad.yaml: 1 error\n  (document): must be a mapping of sections", id="a list"
        ),
    ],
)
def test_an_include_that_cannot_be_read_is_an_error_with_its_file(tmp_path: Path, include: str, message: str) -> None:
    main = write(tmp_path, main=f"{listed(entry('a'))}{include}", bad="- 1")
    with pytest.raises(ConfigError) as caught:
        load(main, {})
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_an_included_file_may_say_nothing(tmp_path: Path) -> None:
    main = write(tmp_path, main=f"{listed(entry('a'))}include: [empty.yaml]", empty="# nothing")
    assert list(load(main, {}).config.pools) == ["a"]


def test_what_children_of_a_process_read_is_the_same_configuration() -> None:
    text = listed(
        entry("llama"),
        entry("gpt", AZURE),
        entry("support-*", "{model: hosted_vllm/*, api_base: 'http://b'}", "{base_model: phi-4}"),
    )
    text += "router_settings: {model_group_alias: {x: {model: llama, hidden: true}}, redis_host: r}"
    config = read(text).config
    assert parse(dump(config), {}).config == config
