"""Workers: how model servers are started, checked, drained and kept inside; and KEDA's view of them."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from simulator.engine import Engine
from simulator.metrics import EngineCollector
from simulator.realtime import RealTimeEngine
from simulator.settings import simulator_settings
from tests.chart.render import CHART, EXAMPLES, Json, example, laid_over, render, render_example
from weighbridge.cli import app
from weighbridge.config_models import PoolSection

CHAT = {"models": ["llama"], "served_model": "org/llama", "gpu": "H100", "tensor_parallel": 2}
WEIGHTS = {"claim": "models", "path": "llama"}


def pod_of(pool: dict[str, Any], name: str = "worker-chat") -> Json:
    spec = render({"pools": {"chat": pool}}).one("Deployment", name)["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def worker_of(pool: dict[str, Any]) -> Json:
    [worker] = pod_of(pool)["containers"]
    assert isinstance(worker, dict)
    return worker


def workers(name: str) -> Iterator[Json]:
    for item in render_example(name).all("Deployment"):
        if item["metadata"]["labels"]["app.kubernetes.io/component"] == "worker":
            yield item


def test_vllm_is_started_for_a_gateway_in_front_of_it() -> None:
    worker = worker_of(
        {**CHAT, "prefill_chunk_tokens": 4096, "worker": {"weights": WEIGHTS, "extraArgs": ["--seed=1"]}}
    )
    assert worker["command"] == ["vllm", "serve", "/models/llama"]
    assert worker["args"] == [
        "--served-model-name=org/llama",
        "--host=0.0.0.0",
        "--port=8000",
        "--tensor-parallel-size=2",
        "--scheduling-policy=priority",
        "--enable-prefix-caching",
        "--enable-prompt-tokens-details",
        "--max-num-batched-tokens=4096",
        "--seed=1",
    ]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 2


def test_sglang_is_started_for_a_gateway_in_front_of_it() -> None:
    pool = {**CHAT, "engine": "sglang", "worker": {"weights": WEIGHTS, "gpuResource": "amd.com/gpu"}}
    worker = worker_of({**pool, "apiKeySecret": {"name": "s", "key": "k"}})
    assert worker["command"] == ["python3", "-m", "sglang.launch_server"]
    assert worker["args"] == [
        "--model-path=/models/llama",
        "--served-model-name=org/llama",
        "--host=0.0.0.0",
        "--port=8000",
        "--tensor-parallel-size=2",
        "--enable-priority-scheduling",
        "--enable-cache-report",
        "--enable-metrics",
        "--chunked-prefill-size=2048",
        "--api-key=$(SGLANG_API_KEY)",
    ]
    assert worker["resources"]["limits"]["amd.com/gpu"] == 2
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}
    assert {"name": "SGLANG_API_KEY", "valueFrom": secret} in worker["env"]


@pytest.mark.parametrize(
    ("engine", "option"),
    [
        pytest.param("vllm", "--max-num-batched-tokens", id="vLLM"),
        pytest.param("sglang", "--chunked-prefill-size", id="SGLang"),
    ],
)
def test_engines_prefill_in_chunks_as_large_as_the_prices_assume(engine: str, option: str) -> None:
    assumed = PoolSection.model_fields["prefill_chunk_tokens"].default
    assert f"{option}={assumed}" in worker_of({**CHAT, "engine": engine, "worker": {"weights": WEIGHTS}})["args"]


@pytest.mark.parametrize(
    "architecture", [pytest.param("llama-3.1-8b", id="name"), pytest.param({"hidden_size": 8}, id="config.json")]
)
def test_a_simulated_worker_runs_the_command_of_that_name(architecture: object) -> None:
    simulated = {"start_delay_s": 3, "speed": 2.5, "max_num_seqs": 8, "max_queue": 9}
    pool = {**CHAT, "architecture": architecture, "kv_tokens": 5000, "worker": {"simulated": simulated}}
    worker = worker_of(pool)
    assert "command" not in worker
    assert "nvidia.com/gpu" not in worker["resources"]["limits"]
    # Everything is understood, up to a port that does not exist.
    arguments = [part if not part.startswith("--port") else "--port=70000" for part in worker["args"]]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 2
    assert "--port" in answer.output
    assert "No such option" not in answer.output


@pytest.mark.parametrize("name", EXAMPLES)
def test_nobody_but_the_autoscaler_says_how_many_workers_there_are(name: str) -> None:
    assert [item["metadata"]["name"] for item in workers(name) if "replicas" in item["spec"]] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_workers_read_their_model_and_write_only_to_memory_and_scratch(name: str) -> None:
    for item in workers(name):
        pod = item["spec"]["template"]["spec"]
        [worker] = pod["containers"]
        read_only = {mount["mountPath"] for mount in worker["volumeMounts"] if mount.get("readOnly")}
        writable = {mount["mountPath"]: mount["name"] for mount in worker["volumeMounts"] if not mount.get("readOnly")}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {"name": "HF_HUB_OFFLINE", "value": "1"} in worker["env"]
        assert all(set(volumes[name]) == {"name", "emptyDir"} for name in writable.values())
        if worker["args"][0] == "simulate":
            continue
        assert "/models" in read_only
        assert set(writable) == {"/tmp", "/cache", "/dev/shm"}
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        assert volumes["weights"].get("persistentVolumeClaim", {"readOnly": True})["readOnly"] is True


def test_weights_can_be_an_image() -> None:
    pod = pod_of({**CHAT, "worker": {"weights": {"image": "r.example/llama:1"}}})
    assert {"name": "weights", "image": {"reference": "r.example/llama:1", "pullPolicy": "IfNotPresent"}} in pod[
        "volumes"
    ]
    assert pod["containers"][0]["command"] == ["vllm", "serve", "/models"]


@pytest.mark.parametrize(
    ("changes", "drain_s"),
    [
        pytest.param({}, 120, id="as long as the autoscaler waits"),
        pytest.param({"autoscaler": {"drain_deadline_s": 299.5}}, 300, id="as the pool says, rounded up"),
        pytest.param({"worker": {"drainSeconds": 900}}, 900, id="longer"),
    ],
)
def test_streams_have_time_to_end(changes: dict[str, Any], drain_s: int) -> None:
    pod = pod_of(laid_over({**CHAT, "worker": {"weights": WEIGHTS}}, changes))
    assert pod["terminationGracePeriodSeconds"] == drain_s + 30
    command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["python3", "/weighbridge/drain.py", "8000", str(drain_s)]


def test_loading_has_a_deadline_and_readiness_follows_health() -> None:
    worker = worker_of({**CHAT, "worker": {"weights": WEIGHTS, "startSeconds": 601}})
    startup, ready = worker["startupProbe"], worker["readinessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 605
    assert startup["httpGet"] == ready["httpGet"] == {"path": "/health", "port": "openai"}


def test_targets_share_a_worker_and_differ_where_they_say() -> None:
    chat = render_example("two-gpu-types")
    specs = {name: chat.one("Deployment", f"worker-chat-{name}")["spec"] for name in ("h100", "l40s")}
    pods = {name: spec["template"]["spec"] for name, spec in specs.items()}
    assert pods["h100"]["volumes"][-1] == pods["l40s"]["volumes"][-1]
    assert pods["l40s"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L40S"}
    assert pods["h100"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    selectors = [spec["selector"]["matchLabels"] for spec in specs.values()]
    assert selectors[0] != selectors[1]


@pytest.mark.parametrize("damaged", [pytest.param(False, id="whole"), pytest.param(True, id="damaged")])
def test_weights_are_compared_with_their_digests_before_they_are_served(tmp_path: Path, damaged: bool) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"other" if damaged else b"weights").hexdigest()
    checksums = [{"file": "model.safetensors", "sha256": digest}]
    rendered = render({"pools": {"chat": {**CHAT, "worker": {"weights": WEIGHTS, "checksums": checksums}}}})
    [verify] = rendered.one("Deployment", "worker-chat")["spec"]["template"]["spec"]["initContainers"]
    assert verify["workingDir"] == "/models/llama"
    *command, listed = verify["command"]
    assert listed == "/weighbridge/sha256"
    (tmp_path / "sha256").write_text(rendered.one("ConfigMap", "worker-chat-files")["data"]["sha256"], encoding="utf-8")
    answer = subprocess.run([*command, "sha256"], cwd=tmp_path, capture_output=True, timeout=10, check=False)
    assert (answer.returncode == 0) is not damaged


@contextmanager
def model_server(counts: list[str]) -> Iterator[tuple[int, list[str]]]:
    """A server of metrics: answers one text after the other, the last one for ever. Gives port and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = counts[min(len(asked), len(counts) - 1)].encode()
            asked.append(self.path)
            self.send_response(200)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def drain(port: int, *, deadline_s: float = 30, settle_s: float = 0) -> None:
    """The script, as it is in the chart, with short waits."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['main'](int(sys.argv[2]), *map(float, sys.argv[3:]))"
    command = [
        sys.executable,
        "-c",
        code,
        CHART / "files" / "drain.py",
        str(port),
        str(deadline_s),
        str(settle_s),
        "0.01",
    ]
    subprocess.run(command, check=True, timeout=20)


VLLM = 'vllm:num_requests_running{{model_name="m"}} {}\nvllm:num_requests_waiting{{model_name="m"}} {}\n'
SGLANG = 'sglang:num_running_reqs{{model_name="m"}} {}\nsglang:num_queue_reqs{{model_name="m"}} {}\n'


@pytest.mark.parametrize("engine", [pytest.param(VLLM, id="vLLM"), pytest.param(SGLANG, id="SGLang")])
def test_a_worker_ends_once_nothing_runs_and_nothing_waits_there(engine: str) -> None:
    with model_server([engine.format("2.0", "0.0"), engine.format("0.0", "1.0"), engine.format("0.0", "0.0")]) as (
        port,
        asked,
    ):
        drain(port)
        assert asked == ["/metrics"] * 3


def test_a_worker_that_is_idle_waits_until_gateways_have_heard() -> None:
    with model_server([VLLM.format(0, 0)]) as (port, asked):
        drain(port, settle_s=0.3)
        assert len(asked) > 1


def test_a_stream_that_does_not_end_is_waited_for_until_the_deadline() -> None:
    with model_server([VLLM.format(1, 0)]) as (port, asked):
        drain(port, deadline_s=0.3)
        assert asked


@pytest.mark.parametrize("text", [pytest.param("", id="nothing"), pytest.param("other_metric 0\n", id="no counts")])
def test_a_server_that_does_not_say_is_not_waited_for(text: str) -> None:
    with model_server([text]) as (port, asked):
        drain(port)
        assert len(asked) == 3


def test_a_server_that_is_gone_is_not_waited_for() -> None:
    with model_server([""]) as (port, asked):
        pass
    drain(port)
    assert asked == []


async def test_a_simulated_worker_is_understood_too() -> None:
    settings = simulator_settings(
        model="m", architecture="llama-3.1-8b", gpu="L40S", tensor_parallel=1, kv_tokens=4096, max_sequences=8,
        max_waiting=8, host="127.0.0.1", port=0, start_delay_s=0, speed=1, api_key=None,
    )  # fmt: skip
    realtime = RealTimeEngine(Engine(settings.engine, settings.steps), speed=1, clock=lambda: 0.0)
    registry = CollectorRegistry()
    registry.register(EngineCollector(realtime, "m"))
    with model_server([generate_latest(registry).decode()]) as (port, asked):
        drain(port)
        assert len(asked) == 1


def test_keda_scales_by_what_the_autoscaler_says_and_goes_down_at_once() -> None:
    rendered = render_example("keda")
    [scaled] = rendered.all("ScaledObject")
    spec = scaled["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "wb-worker-chat"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (0, 6, 0)
    [trigger] = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("external-push", "AverageValue")
    address = {"scalerAddress": "wb-autoscaler.serving.svc:4004", "pool": "chat"}
    assert trigger["metadata"] == address
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == 0
    ports = {port["name"]: port["port"] for port in rendered.one("Service", "autoscaler")["spec"]["ports"]}
    assert ports == {"metrics": 4002, "keda": 4004}
    assert "fallback" not in spec


def test_keda_can_fall_back() -> None:
    rendered = render(laid_over(example("keda"), {"keda": {"fallbackReplicas": 0}}))
    assert rendered.all("ScaledObject")[0]["spec"]["fallback"] == {
        "failureThreshold": 12,
        "replicas": 0,
        "behavior": "currentReplicasIfHigher",
    }
