"""A LiteLLM proxy as a process of its own, from `.venv-litellm`, and a client of it.

It starts in some seconds, so tests share one where they can. It reaches nothing outside this machine. `config` is what
its `config.yaml` holds, the plugin's sections among it.
"""

import json
import os
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from backlog.child import spawn_blocking, stop_blocking
from tests.redis_servers import missing

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".venv-litellm" / "bin" / "litellm"
KEY = "sk-team"
OWN_SECTIONS = ("pools", "redis")
PLUGIN = "gateway.litellm_plugin.handler"
SPEND_LOG = "tests.litellm.spend_log.handler"
START_S = 150.0
_PROMPT = {"model": "m", "messages": [{"role": "user", "content": "#it"}], "max_tokens": 100}
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", _PROMPT),
    "completions": ("/v1/completions", {"model": "m", "prompt": "#it", "max_tokens": 100}),
    "messages": ("/v1/messages", _PROMPT),
    "responses": ("/v1/responses", {"model": "m", "input": "#it", "max_output_tokens": 100}),
}
"""Paths of what generates, and a body for each, by name."""


@dataclass(frozen=True, slots=True)
class Group:
    """A model group and its replicas' ports. `pool` changes the pool that schedules it; `None`: LiteLLM alone does."""

    ports: Sequence[int]
    pool: Mapping[str, Any] | None = None


def configuration(
    groups: Mapping[str, Group],
    *,
    redis: Mapping[str, Any] | None = None,
    callbacks: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    router: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `config.yaml` holds. With `redis`, the plugin and a pool for each group that has one.

    `settings` and `router` change LiteLLM's `litellm_settings` and `router_settings`.
    """
    plugin = redis is not None
    config: dict[str, Any] = {
        "model_list": [deployment(name, port) for name, group in groups.items() for port in group.ports],
        "litellm_settings": {
            "telemetry": False,
            "callbacks": [*([PLUGIN] if plugin else []), *callbacks],
            **(settings or {}),
        },
        "router_settings": {"disable_cooldowns": True, **(router or {})},
        "general_settings": {
            "cancel_on_disconnect": True,
            "custom_auth": "tests.litellm.custom_auth.user_api_key_auth",
        },
    }
    if plugin:
        config["redis"] = dict(redis)
        config["pools"] = {name: _pool(group) for name, group in groups.items() if group.pool is not None}
    return config


def _pool(group: Group) -> dict[str, Any]:
    static = [{"name": f"r{index}", "url": f"http://127.0.0.1:{port}"} for index, port in enumerate(group.ports)]
    return {
        "architecture": "llama-3.1-8b",
        "gpu": "L40S",
        "price_per_gpu_hour": 3600.0,  # one unit of money for a GPU-second
        "replicas": {"static": static},
        **(group.pool or {}),
    }


def deployment(group: str, port: int) -> dict[str, Any]:
    """An entry of `model_list`."""
    params = {"model": "hosted_vllm/llama-3.1-8b", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "none"}
    return {"model_name": group, "litellm_params": params}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got. `text` is whole, also of a stream."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def replica(self) -> str | None:
        """The replica that the scheduler chose, by its header."""
        return self.headers.get("x-weighbridge-replica")

    @property
    def error(self) -> str:
        return str(json.loads(self.text)["error"]["message"])


class Proxy:
    """A running LiteLLM proxy."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, folder: Path, workers: int) -> None:
        self.process = process
        self.port = port
        self.log = folder / "log"
        self.spend_log = folder / "spend"
        self.workers = workers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def starts(self) -> int:
        """Workers that have begun to serve so far, those that are gone too."""
        return self.log.read_bytes().count(b"Application startup complete")

    def worker_pids(self) -> list[int]:
        """Of the processes that serve: with one worker the proxy itself, else its children."""
        if self.workers == 1:
            return [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def spent(self, name: str) -> list[dict[str, Any]]:
        """What LiteLLM logged of the calls whose prompts hold `#name`."""
        lines = self.spend_log.read_text().splitlines() if self.spend_log.exists() else []
        return [record for record in map(json.loads, lines) if f"#{name}'" in record["prompt"]]

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Client"]:
        """A client whose requests each have a connection of their own."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(self.url, connector=connector) as session:
            yield Client(session)


@dataclass(frozen=True, slots=True)
class Client:
    session: aiohttp.ClientSession

    async def chat(self, name: str, *, key: str = KEY, **body: Any) -> Answer:
        """One chat call with the prompt `#name`."""
        return await self.post("/v1/chat/completions", chat_body(name, **body), key=key)

    async def post(self, path: str, body: Mapping[str, Any], *, key: str = KEY) -> Answer:
        async with self.session.post(path, json=body, headers=authorization(key)) as response:
            return Answer(response.status, response.headers, await response.text())

    @asynccontextmanager
    async def open(self, name: str, *, key: str = KEY, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A stream whose head has come. Leaving the context closes its connection."""
        fields = chat_body(name, stream=True, **body)
        response = await self.session.post("/v1/chat/completions", json=fields, headers=authorization(key))
        try:
            yield response
        finally:
            response.close()


def chat_body(name: str, **body: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": f"#{name}"}], "max_tokens": 100, **body}


def authorization(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@contextmanager
def litellm_proxy(
    config: Mapping[str, Any], folder: Path, port: int, *, workers: int = 1, own_file: bool = False
) -> Iterator[Proxy]:
    """Run it until the block ends. Starts at once; `ready` waits for it, so that several start side by side.

    `own_file`: the plugin's sections are not in LiteLLM's file but in one of their own.
    """
    if not PROGRAM.exists():
        missing("no LiteLLM proxy: `make .venv-litellm/.installed`")
    env = _environment(folder, workers)
    file = folder / "config.yaml"
    if own_file:
        own = folder / "weighbridge.yaml"
        own.write_text(yaml.safe_dump({key: config[key] for key in OWN_SECTIONS}))
        env["WEIGHBRIDGE_CONFIG"] = str(own)
        config = {key: value for key, value in config.items() if key not in OWN_SECTIONS}
    file.write_text(yaml.safe_dump(dict(config)))
    options = ["--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers)]
    options += ["--timeout_worker_healthcheck", "20"]  # uvicorn kills workers that have not begun to serve by then
    with (folder / "log").open("wb") as log:
        process = spawn_blocking([str(PROGRAM), *options], env=env, cwd=folder, stdout=log, stderr=log)
    proxy = Proxy(process, port, folder, workers)
    try:
        yield proxy
    finally:
        stop_blocking(process, grace_s=0.0)


def ready(proxy: Proxy, *, starts: int | None = None) -> Proxy:
    """Wait until it serves and so many workers have started in its life: by default all of them, once."""
    deadline_s = time.monotonic() + START_S
    while not (_answers(proxy) and proxy.starts() >= (starts or proxy.workers)):
        assert proxy.process.poll() is None, proxy.log.read_text()
        assert time.monotonic() < deadline_s, f"LiteLLM did not start: {proxy.log.read_text()}"
        time.sleep(0.05)
    return proxy


def _answers(proxy: Proxy) -> bool:
    try:
        with urllib.request.urlopen(f"{proxy.url}/health/liveliness", timeout=5.0) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _environment(folder: Path, workers: int) -> dict[str, str]:
    """Nothing of the caller's: no keys, no proxies. The checkout's own code comes first."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(32)}",
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_OFFLINE": "1",
        # LiteLLM makes it where several workers count; else it would be one for all proxies of the machine.
        **({"PROMETHEUS_MULTIPROC_DIR": str(folder / "prometheus")} if workers > 1 else {}),
        "SPEND_LOG": str(folder / "spend"),
    }


def kill(pid: int) -> None:
    """`kill -9`."""
    os.kill(pid, signal.SIGKILL)
