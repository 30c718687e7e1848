"""Asks a Python interpreter which LiteLLM it has, without importing it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from weighbridge.doctor.version import Installed

LIMIT_S = 30.0
QUESTION = """
import importlib.metadata as metadata, importlib.util as util, json, os, sys
sys.path[:] = [entry for entry in sys.path if entry]
try:
    version = metadata.version("litellm")
except metadata.PackageNotFoundError:
    version = None
spec = util.find_spec("gateway")
places = list(spec.submodule_search_locations or ()) if spec else []
plugin = any(os.path.exists(os.path.join(place, "litellm_plugin.py")) for place in places)
print(json.dumps([version, plugin]))
"""


def proxy_python(named: Path | None) -> Path:
    """The interpreter that is named, else that beside the `litellm` on the PATH, else this one."""
    if named is not None:
        return named
    command = shutil.which("litellm")
    if command is not None:
        beside = Path(command).resolve().parent / "python"
        if beside.exists():
            return beside
    return Path(sys.executable)


def ask_interpreter(python: Path) -> Installed:
    """What is installed there. An interpreter that does not answer is told by `failure`."""
    name = str(python)
    try:
        done = subprocess.run([name, "-c", QUESTION], capture_output=True, text=True, timeout=LIMIT_S, check=True)
        version, plugin = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Installed(python=name, failure="does not answer")
    except subprocess.CalledProcessError as error:
        return Installed(python=name, failure=f"ended with status {error.returncode}")
    except OSError as error:
        return Installed(python=name, failure=(error.strerror or str(error)).lower())
    except (ValueError, TypeError):
        return Installed(python=name, failure="is no Python interpreter")
    return Installed(python=name, litellm=version, plugin=plugin)
