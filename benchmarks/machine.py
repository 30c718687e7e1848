"""What the numbers were measured on."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from benchmarks.measurement import TargetName
from benchmarks.prerequisites import ROUTER_VERSIONS

QUIET_LOAD = 0.5
"""Above this load average, other programs were busy on the two cores before the run began."""


def cpu_model(cpuinfo: str) -> str:
    """The first `model name` of `/proc/cpuinfo`; "unknown" where the kernel does not give one."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else "unknown"


def first_version(text: str) -> str:
    """The first dotted number in what a program prints about itself."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return found.group(0) if found else "unknown"


def describe(targets: Iterable[TargetName]) -> dict[str, str]:
    """Names and values for the heading of the table and for the results file."""
    load_1min = os.getloadavg()[0]
    facts = {
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "load before": f"{load_1min:.2f}" + (" (not quiet: expect noise)" if load_1min > QUIET_LOAD else ""),
        "python": platform.python_version(),
        "wrk": _printed_version("wrk", "-v"),
    }
    for target in targets:
        if target is TargetName.NGINX:
            facts["nginx"] = _printed_version("nginx", "-v")
        elif target is TargetName.WEIGHBRIDGE:
            facts["weighbridge"] = (
                f"{version('weighbridge')} (uvloop {version('uvloop')}, httptools {version('httptools')})"
            )
        elif target in ROUTER_VERSIONS:
            facts[target.value] = ROUTER_VERSIONS[target]
    return facts


def _printed_version(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)  # wrk -v exits with 1, nginx -v writes to stderr
    return first_version(done.stderr + done.stdout)
