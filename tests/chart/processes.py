"""Processes of ours, started with what the chart gives their containers, asked by HTTP."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chart.render import Rendered

LIMIT_S = 40.0
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@contextmanager
def running(arguments: list[str], env: dict[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`weighbridge` as a child with these variables alone; ended by SIGTERM, as the kubelet does."""
    command = [sys.executable, "-m", "weighbridge.cli", *arguments]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(log.parent), **env}
    with log.open("wb") as output, subprocess.Popen(command, env=environ, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def status(url: str) -> int | None:
    """The status of an answer; None while there is none."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None


def answered(
    container: dict[str, Any], ports: dict[int, int], process: "subprocess.Popen[bytes]", log: Path
) -> set[str]:
    """The paths of the container's probes once all are answered with 200. `ports`: of the container to those here."""
    named = {port["name"]: ports[port["containerPort"]] for port in container["ports"]}
    probes = [container[name]["httpGet"] for name in PROBES if name in container]
    deadline = time.monotonic() + LIMIT_S
    while [probe for probe in probes if status(f"http://127.0.0.1:{named[probe['port']]}{probe['path']}") != 200]:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return {probe["path"] for probe in probes}


def container_of(rendered: Rendered, name: str) -> dict[str, Any]:
    [container] = rendered.one("Deployment", name)["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container
