"""Get what the benchmark needs onto this machine, or say what is missing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from benchmarks.measurement import TargetName
from benchmarks.processes import BenchmarkFailed

ROUTER_VERSIONS = {TargetName.VLLM_ROUTER: "0.1.17", TargetName.SGLANG_ROUTER: "0.3.2"}
APT_PACKAGES = {"nginx": "nginx", "wrk": "wrk", "gcc": "gcc libc6-dev", "taskset": "util-linux"}
C_SOURCES = Path(__file__).with_name("c")


def cores() -> tuple[int, int]:
    """(core for load generator and backend, core for the measured program)."""
    if not sys.platform.startswith("linux"):
        raise BenchmarkFailed("the benchmark pins processes to cores and reads /proc: it needs Linux")
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise BenchmarkFailed("the benchmark needs two CPU cores: one for the load, one for the measured program")
    return available[0], available[1]


def require_tools(names: Collection[str]) -> None:
    """Every name is on PATH afterwards; as root on Debian or Ubuntu, missing ones are installed with apt-get."""
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    packages = " ".join(APT_PACKAGES[name] for name in missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchmarkFailed(
            f"not on PATH: {', '.join(missing)}. On Debian or Ubuntu: sudo apt-get install {packages}"
        )
    print(f"installing {packages} with apt-get", flush=True)
    for argv in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages.split()]):
        _run(argv, f"could not install {packages}")
    if still := [name for name in missing if shutil.which(name) is None]:
        raise BenchmarkFailed(f"still not on PATH after apt-get install {packages}: {', '.join(still)}")


def compile_c(name: str, target: Path) -> Path:
    """`c/NAME.c` as an executable in the folder `target`, compiled when it is missing or older than its source."""
    source, binary = C_SOURCES / f"{name}.c", target / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        target.mkdir(parents=True, exist_ok=True)
        _run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(binary), str(source)], f"could not compile {source}")
    return binary


def install_router(target: TargetName, directory: Path) -> Path:
    """The `bin` folder of a virtual environment that holds the router's released wheel and nothing of ours."""
    requirement = f"{target}=={ROUTER_VERSIONS[target]}"
    stamp = directory / f".installed-{requirement}"
    if not stamp.exists():
        print(f"installing {requirement} into {directory}", flush=True)
        problem = f"could not install {requirement} (leave it out with --only)"
        _run([sys.executable, "-m", "venv", "--clear", str(directory)], problem)
        pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--only-binary", ":all:", requirement], problem)
        stamp.touch()
    return directory / "bin"


def _run(argv: list[str], problem: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BenchmarkFailed(f"{problem}: {(done.stderr or done.stdout).strip()[-2000:]}")
