"""What an autoscaler process needs before it starts, and what it says when that is not there."""

import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.redis_servers import free_port
from weighbridge.config import parse
from weighbridge.config_controller import ControllerSection, KedaSection
from weighbridge.scaling import run, scaler_of
from weighbridge.wiring import ScaledPool, scaled_pools

POOL = "{models: [m], architecture: llama-3.1-8b, gpu: L40S, replicas: {REPLICAS}}"
KUBERNETES = POOL.replace("REPLICAS", "kubernetes: {name: llama}")
STATIC = POOL.replace("REPLICAS", "static: ['http://127.0.0.1:9']")


def pools(pool: str) -> tuple[ScaledPool, ...]:
    return scaled_pools(parse(f"pools: {{chat: {pool}}}", {}).config)


def refused(pool: str, **controller: Any) -> str:
    """Why it does not start."""
    section = ControllerSection(port=free_port(), **controller)
    with capture_logs() as logs:
        status = run(
            pools(pool), redis_url="redis://127.0.0.1:1", redis_prefix="wb", controller=section, run_directory=None
        )
    assert status == 2
    [entry] = [entry for entry in logs if entry["event"] == "cannot start"]
    return str(entry["cause"])


def test_without_the_kubernetes_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{}")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "kubernetes.aio", None)
    assert "pip install 'weighbridge[kubernetes]'" in refused(KUBERNETES)


def test_without_grpc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "autoscaler.keda.server", None)
    assert "pip install 'weighbridge[keda]'" in refused(STATIC, keda=KedaSection(port=free_port()))


def test_a_port_of_keda_that_is_taken_is_named() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weighbridge.scaling.check_keda", lambda: pytest.fail("ports are looked at first"))
        assert "cannot listen on 192.0.2.1:4004" in refused(STATIC, keda=KedaSection(host="192.0.2.1"))


def test_a_pool_in_kubernetes_has_no_scaler_without_a_cluster() -> None:
    with pytest.raises(ValueError, match="no cluster is open"):
        scaler_of(pools(KUBERNETES)[0], lambda: 0.0, None)
