"""The chart as Kubernetes objects: `render(values)` runs the real `helm template`, once per different input."""

import copy
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.chart.helm import helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "weighbridge"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
OLDEST, NEWEST = "1.29.0", "1.37.0"
"""Versions of Kubernetes that are tested: the oldest that the chart accepts, and the newest."""

Json = dict[str, Any]
POD_OWNERS = frozenset({"Deployment", "StatefulSet"})


class RenderError(Exception):
    """What helm says of values that it refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The objects of one release."""

    objects: tuple[Json, ...]

    def all(self, kind: str) -> tuple[Json, ...]:
        return tuple(item for item in self.objects if item["kind"] == kind)

    def one(self, kind: str, name: str, namespace: str | None = None) -> Json:
        """The object of this kind whose name is `name`, or ends in `-name`."""
        found = [
            item
            for item in self.all(kind)
            if (item["metadata"]["name"] == name or item["metadata"]["name"].endswith(f"-{name}"))
            and namespace in (None, item["metadata"].get("namespace"))
        ]
        assert len(found) == 1, f"{kind} {name}: {[item['metadata']['name'] for item in found]} of {len(self.objects)}"
        return found[0]

    def pods(self) -> Iterator[tuple[str, Json]]:
        """Name of the owner and spec of each pod template."""
        for item in self.objects:
            if item["kind"] in POD_OWNERS:
                yield item["metadata"]["name"], item["spec"]["template"]["spec"]

    def containers(self) -> Iterator[tuple[str, Json]]:
        """`owner/container` and the container, those that run first included."""
        for owner, pod in self.pods():
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                yield f"{owner}/{container['name']}", container


def example(name: str) -> Json:
    """The values of `examples/NAME.yaml`."""
    values = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def laid_over(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Json:
    """Values with others over them, as helm lays them."""
    result = copy.deepcopy(dict(values))
    for key, value in changes.items():
        old = result.get(key)
        result[key] = laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def render(
    values: Mapping[str, Any],
    *,
    release: str = "wb",
    namespace: str = "serving",
    kubernetes: str = NEWEST,
    chart: Path = CHART,
) -> Rendered:
    """The objects that an installation makes. Raises `RenderError` where helm refuses the values."""
    rendered = _render(json.dumps(values, sort_keys=True), release, namespace, kubernetes, str(chart))
    return Rendered(objects=copy.deepcopy(rendered))


def render_example(name: str, **options: Any) -> Rendered:
    return render(example(name), **options)


def notes(values: Mapping[str, Any]) -> str:
    """What helm prints after an installation."""
    command = ["install", "wb", CHART, "--namespace", "serving", "--dry-run=client", "--output", "json"]
    answer = json.loads(_run(json.dumps(values), command))
    return str(answer["info"]["notes"])


def lint(values: Mapping[str, Any]) -> str:
    """What `helm lint --strict` prints. Raises `RenderError` where it finds anything."""
    return _run(json.dumps(values), ["lint", CHART, "--strict"])


@cache
def _render(values: str, release: str, namespace: str, kubernetes: str, chart: str) -> tuple[Json, ...]:
    command = ["template", release, chart, "--namespace", namespace, "--kube-version", kubernetes]
    return tuple(item for item in yaml.load_all(_run(values, command), Loader=yaml.CSafeLoader) if item)


def _run(values: str, command: list[str | Path]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "values.json"
        file.write_text(values, encoding="utf-8")
        # Of its own: a user's plug-ins, repositories and kubeconfig have no part in this.
        env = {"HOME": folder, "PATH": "/usr/bin:/bin", "HELM_NO_PLUGINS": "1"}
        answer = subprocess.run(
            [helm(), *command, "--values", file], capture_output=True, text=True, env=env, timeout=50, check=False
        )
    if answer.returncode:
        raise RenderError(answer.stderr + answer.stdout)
    return answer.stdout
