"""What the rendered chart gives its processes: their configuration, and their environment."""

import json
import re
from typing import Any

from tests.chart.render import Rendered

VARIABLE = re.compile(r"os\.environ/(\w+)")
FILES = {"gateway": "gateway.yaml", "autoscaler": "control.yaml", "dashboard": "control.yaml"}


def text_of(rendered: Rendered, file: str) -> str:
    text = rendered.one("ConfigMap", "config")["data"][file]
    assert isinstance(text, str)
    return text


def config(rendered: Rendered, file: str = "gateway.yaml") -> dict[str, Any]:
    document = json.loads(text_of(rendered, file))
    assert isinstance(document, dict)
    return document


def environment(rendered: Rendered, component: str) -> dict[str, str]:
    """What the kubelet would set, with `NAME/KEY` for what comes from a Secret."""
    found: dict[str, str] = {}
    for entry in rendered.one("Deployment", component)["spec"]["template"]["spec"]["containers"][0]["env"]:
        secret = entry.get("valueFrom", {}).get("secretKeyRef")
        value = f"{secret['name']}/{secret['key']}" if secret else entry["value"]
        found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]].replace("/", "-"), value)
    return found
