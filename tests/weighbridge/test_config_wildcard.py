"""Wildcards of LiteLLM's `model_list`: which names they stand for, who serves them, and what is said of the rest."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.weighbridge.configs import AZURE, LLAMA, entry, faults, listed, read
from weighbridge.config import Loaded
from weighbridge.config_ask import ask_server
from weighbridge.config_report import lines
from weighbridge.config_wildcard import NO_PRICE, ServerModel, ServerSilent, Wildcard

ANY = "{model: 'hosted_vllm/*', api_base: 'http://w:1'}"
UNEQUAL = "has another number of wildcards in model_name than in litellm_params.model"
LAB = (
    ServerModel(name="qwen2.5-7b", root="/models/qwen"),
    ServerModel(name="sql", root="/adapters/sql", parent="qwen2.5-7b"),
    ServerModel(name="chat", root="meta-llama/Llama-3.1-8B-Instruct"),
    ServerModel(name="odd-9"),
)


class Servers:
    """Model servers by address, and who was asked."""

    def __init__(self, **models: Sequence[ServerModel]) -> None:
        self.models = {f"http://{name}:1": listed for name, listed in models.items()}
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, url: str, api_key: str | None) -> Sequence[ServerModel]:
        self.asked.append((url, api_key))
        if url not in self.models:
            raise ServerSilent("connection refused")
        return self.models[url]


def pools(loaded: Loaded) -> dict[str, tuple[tuple[str, ...], str, dict[str, str]]]:
    return {name: (pool.models, pool.served_model, pool.served_as) for name, pool in loaded.config.pools.items()}


@pytest.mark.parametrize(
    ("name", "params", "info", "expected"),
    [
        pytest.param(
            "support-*",
            ANY,
            "{base_model: phi-4}",
            (("support-*",), "phi-4", {"support-*": "*"}),
            id="by its base model",
        ),
        pytest.param("gpt-*", LLAMA, "{}", (("gpt-*",), "llama-3.1-8b", {}), id="by a served name without a wildcard"),
        pytest.param(
            "*", ANY, "{base_model: hosted_vllm/phi-4}", (("*",), "phi-4", {"*": "*"}), id="everything, with a provider"
        ),
    ],
)
def test_a_wildcard_with_a_known_architecture_serves_every_name(
    name: str, params: str, info: str, expected: tuple[object, ...]
) -> None:
    servers = Servers()
    loaded = read(listed(entry(name, params, info)), ask=servers)
    assert list(pools(loaded).values()) == [expected]
    assert loaded.wildcards == (Wildcard(pattern=name, every=True),)
    assert f"wildcard {name}: every name that matches" in list(lines(loaded))
    assert servers.asked == []
    assert loaded.config.elsewhere == {}


def test_a_pool_may_have_the_wildcard_among_its_models() -> None:
    own = "pools: {lab: {models: ['hosted_vllm/*'], architecture: phi-4, gpu: L40S}}"
    loaded = read(listed(entry("hosted_vllm/*", ANY)) + own, ask=Servers())
    assert loaded.config.pools["lab"].served_as == {"hosted_vllm/*": "*"}
    assert loaded.config.pools["lab"].replicas.static is not None
    assert loaded.wildcards[0].every


def test_a_wildcard_gives_its_server_to_pools_whose_names_match() -> None:
    own = "pools: {lab: {models: [hosted_vllm/mine], architecture: phi-4, gpu: L40S}}"
    loaded = read(listed(entry("hosted_vllm/*", ANY)) + own)
    assert pools(loaded) == {"lab": (("hosted_vllm/mine",), "mine", {})}
    assert loaded.wildcards[0].names == ("hosted_vllm/mine",)


def test_a_server_is_asked_what_it_serves() -> None:
    servers = Servers(w=LAB)
    loaded = read(listed(entry("lab/*", ANY.replace("}", ", api_key: k}"))), ask=servers)
    assert servers.asked == [("http://w:1", "k")]
    assert pools(loaded) == {
        "lab-qwen2.5-7b": (("lab/qwen2.5-7b", "lab/sql"), "qwen2.5-7b", {"lab/sql": "sql"}),
        "lab-chat": (("lab/chat",), "chat", {}),
    }
    assert [pool.architecture for pool in loaded.config.pools.values()] == ["qwen2.5-7b", "llama-3.1-8b"]
    assert loaded.wildcards[0].unpriced == ("lab/odd-9",)
    assert loaded.config.elsewhere == {"lab/odd-9": NO_PRICE, "lab/*": NO_PRICE}


def test_servers_of_one_wildcard_that_list_the_same_model_are_replicas_of_one_pool() -> None:
    both = listed(entry("*", ANY), entry("*", ANY.replace("w:1", "v:1")))
    loaded = read(both, ask=Servers(w=LAB[:1], v=LAB[:1]))
    replicas = loaded.config.pools["qwen2.5-7b"].replicas.static or ()
    assert [replica.url for replica in replicas] == ["http://w:1", "http://v:1"]


def test_a_name_of_its_own_goes_before_a_wildcard() -> None:
    text = listed(entry("*", ANY), entry("qwen2.5-7b", LLAMA), entry("chat", AZURE))
    loaded = read(text, ask=Servers(w=LAB[:3]))
    assert pools(loaded)["qwen2.5-7b"] == (("qwen2.5-7b",), "llama-3.1-8b", {})
    assert loaded.wildcards[0].names == ("sql",)


def test_a_model_listed_under_a_name_of_its_own_and_by_the_same_server_shares_a_pool() -> None:
    text = listed(entry("mine", ANY.replace("*", "qwen2.5-7b")), entry("hosted_vllm/*", ANY))
    loaded = read(text, ask=Servers(w=LAB[:1]))
    assert pools(loaded) == {"mine": (("mine", "hosted_vllm/qwen2.5-7b"), "qwen2.5-7b", {})}


def test_a_silent_server_leaves_the_rest_served_and_is_named() -> None:
    loaded = read(listed(entry("llama"), entry("*", ANY)), ask=Servers())
    assert list(loaded.config.pools) == ["llama"]
    assert loaded.wildcards[0].silent == ("http://w:1 (connection refused)",)
    assert "wildcard *: covers nothing; no list of models from http://w:1 (connection refused)" in list(lines(loaded))


def test_a_wildcard_that_covers_nothing_is_an_error_where_nothing_else_is_served() -> None:
    assert faults(listed(entry("*", ANY)), ask=Servers()) == [
        "model_list (*): the wildcard * covers nothing that has an architecture: name it in a pool; no answer from "
        "http://w:1 (connection refused)"
    ]


def test_an_alias_may_name_what_a_wildcard_matches() -> None:
    text = listed(entry("support-*", ANY.replace("/*", "/s-*"), "{base_model: phi-4}"))
    loaded = read(f"{text}router_settings: {{model_group_alias: {{help: support-de}}}}")
    assert pools(loaded) == {"support": (("support-*", "help"), "phi-4", {"support-*": "s-*", "help": "s-de"})}


@pytest.mark.parametrize(
    ("name", "model", "why"),
    [
        pytest.param("a-*-*-*", "*", "has more than 2 wildcards", id="too many"),
        pytest.param("a-*-*", "*", UNEQUAL, id="fewer"),
        pytest.param("plain", "*", UNEQUAL, id="none"),
    ],
)
def test_a_wildcard_that_cannot_be_filled_is_passed_over(name: str, model: str, why: str) -> None:
    loaded = read(listed(entry("llama"), entry(name, ANY.replace("*", model))))
    assert [one.why for one in loaded.elsewhere] == [why]


@contextmanager
def server(answer: Callable[[str, str | None], tuple[int, bytes]]) -> Iterator[str]:
    """Its address. `answer` is called with the path and the authorization."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path, self.headers["authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, name="models")
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_a_server_lists_its_models_below_its_path_with_its_key() -> None:
    seen = []

    def answer(path: str, authorization: str | None) -> tuple[int, bytes]:
        seen.append((path, authorization))
        row = {"id": "m", "object": "model", "root": "/w", "parent": None}
        return 200, json.dumps({"object": "list", "data": [row]}).encode()

    with server(answer) as url:
        assert ask_server(f"{url}/team", "sk-1") == (ServerModel(name="m", root="/w"),)
    assert seen == [("/team/v1/models", "Bearer sk-1")]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        pytest.param(401, b"{}", "answered 401", id="no key"),
        pytest.param(200, b"<html>", "did not answer with a list of models", id="not JSON"),
        pytest.param(200, b'{"data": [{}]}', "did not answer with a list of models", id="no id"),
        pytest.param(200, b"[]", "did not answer with a list of models", id="not a list"),
        pytest.param(200, b'{"data": ["m"]}', "did not answer with a list of models", id="a name alone"),
    ],
)
def test_a_server_that_does_not_list_models_is_silent(status: int, body: bytes, message: str) -> None:
    with server(lambda path, authorization: (status, body)) as url, pytest.raises(ServerSilent, match=message):
        ask_server(url, None)


def test_a_server_that_is_not_there_is_silent() -> None:
    with server(lambda path, authorization: (200, b"")) as url:
        pass
    with pytest.raises(ServerSilent, match="refused"):
        ask_server(url, None)
