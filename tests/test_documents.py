"""Documents say what is there: links, commands, generated pages, and one entry for everything that needs one."""

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from autoscaler.law import StepName
from docs import generate
from docs.families import autoscaler_families, families
from gateway.outcome import Outcome
from weighbridge.config_autoscaler import AutoscalerSection, ScheduleSection
from weighbridge.config_controller import ControllerSection, KedaSection, LeaseSection
from weighbridge.config_models import (
    GatewaySection,
    LimitsSection,
    PoolLimitsSection,
    PoolSection,
    RedisSection,
    SloSection,
    TenantLimitsSection,
    TenantSection,
)

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "estimator", "autoscaler", "backlog", "dashboard", "simulator", "weighbridge")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users)/\w")


def tracked() -> list[str]:
    """Paths of the files in version control; those on disk where there is no git."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return [str(path.relative_to(ROOT)) for path in ROOT.glob("[!.]*/**/*.*") if path.is_file()]
    return [path for path in listing.split("\0") if path and (ROOT / path).is_file()]


DOCUMENTS = [path for path in tracked() if path.endswith(".md")]


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchors(document: str) -> set[str]:
    """The names that headings get on GitHub."""
    headings = re.findall(r"^#+ +(.+)$", CODE_BLOCK.sub("", document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def modules() -> Iterator[tuple[str, str]]:
    """(package, module below it) of every module that holds code."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT / package).with_suffix("").parts
            if parts[-1] == "__init__":
                continue
            yield package, ".".join(parts)


def log_events() -> dict[str, str]:
    """Constant messages of warnings and errors -> a file that logs them."""
    events: dict[str, str] = {}
    for path in chain.from_iterable((ROOT / package).rglob("*.py") for package in PACKAGES):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("warning", "error", "exception")
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("log", "_log")
            ):
                message = node.args[0]
                assert isinstance(message, ast.Constant), f"{path}:{node.lineno} logs a message that is not constant"
                events[message.value] = str(path.relative_to(ROOT))
    return events


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: str) -> None:
    broken = []
    for link in LINK.findall(CODE_BLOCK.sub("", text_of(path))):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        file = (ROOT / path).parent / target if target else ROOT / path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken, f"{path}: {broken}"


def test_generated_pages_are_up_to_date() -> None:
    assert generate.differences() == "", "run `python -m docs.generate`"


def test_every_outcome_has_a_meaning_and_advice() -> None:
    operations = text_of("docs/operations.md").partition("## Outcomes")[2].partition("\n## ")[0]
    assert set(generate.MEANINGS) == set(Outcome)
    assert [outcome.value for outcome in Outcome if f"`{outcome.value}`" not in operations] == []


def test_every_scaling_step_is_explained() -> None:
    operations = text_of("docs/operations.md")
    assert [step.value for step in StepName if f"| `{step.value}` |" not in operations] == []


def test_every_warning_and_error_has_an_entry() -> None:
    operations = text_of("docs/operations.md")
    assert {event: path for event, path in log_events().items() if f"| `{event}` |" not in operations} == {}


def test_metrics_in_documents_exist() -> None:
    known = {family.name for family in (*families(), *autoscaler_families())}
    known |= {f"{name}_total" for name in known}
    named = set(re.findall(r"\bweighbridge_\w+", "".join(text_of(path) for path in DOCUMENTS)))
    assert named <= known


@pytest.mark.parametrize(
    "section",
    [
        AutoscalerSection, GatewaySection, LimitsSection, PoolLimitsSection, PoolSection, RedisSection, ScheduleSection,
        SloSection, TenantLimitsSection, TenantSection, ControllerSection, KedaSection, LeaseSection,
    ],
)  # fmt: skip
def test_every_configuration_key_is_documented(section: type) -> None:
    words = set(re.findall(r"\w+", text_of("docs/configuration.md")))
    assert set(section.model_fields) - words == set()  # type: ignore[attr-defined]


def test_every_module_is_in_the_map() -> None:
    parts = text_of("ARCHITECTURE.md").partition("## Modules")[2].partition("\n## ")[0].split("\n### ")
    for package, module in modules():
        part = next(part for part in parts if f"`{package}`" in part.partition("\n")[0])
        assert {f"`{module}`", f"`{package}.{module}`"} & set(re.findall(r"`[^`]+`", part)), f"{package}.{module}"


def test_the_map_marks_the_modules_that_the_contract_keeps_pure() -> None:
    contract = ConfigParser()
    contract.read(ROOT / ".importlinter")
    pure = set(contract["importlinter:contract:pure"]["source_modules"].split())
    pure = {name for package, module in modules() for name in (f"{package}.{module}",) if {name, package} & pure}
    marked = set()
    package = ""
    for line in text_of("ARCHITECTURE.md").splitlines():
        if heading := re.match(r"### `(\w+)`", line):
            package = heading[1]
        for name in re.findall(r"`([\w.]+)` ○", line):
            marked.add(name if name.startswith(("backlog.", "estimator.")) else f"{package}.{name}")
    assert marked == pure


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    for path in (*DOCUMENTS, ".ci/run"):
        code = re.findall(r"`make ([a-z]+)|^ *make ([a-z]+)", text_of(path), re.MULTILINE)
        named = {one or other for one, other in code}
        assert named <= targets, f"{path}: {named - targets}"


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^ *(make \w+)$", text_of(".ci/run"), re.MULTILINE)
    assert sorted(commands) == ["make check", "make test"]
    assert "```sh\nmake test\n```" in text_of("README.md")
    assert "```sh\nmake demo\n```" in text_of("README.md")
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("folder", ["docs", "docs/decisions", "docs/how-to", "docs/reference"])
def test_every_page_is_in_the_table_of_contents(folder: str) -> None:
    linked = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in LINK.findall(text_of("docs/README.md"))}
    pages = {page.resolve() for page in (ROOT / folder).glob("*.md") if page.name != "README.md"}
    assert pages - linked == set()


def test_decision_records_are_numbered_without_gaps() -> None:
    numbers = sorted(int(page.name[:4]) for page in (ROOT / "docs/decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {}
    for path in tracked():
        try:
            text = text_of(path)
        except UnicodeDecodeError:
            continue
        if match := MACHINE_PATH.search(text):
            found[path] = match[0]
    assert found == {}


def test_every_dependency_is_pinned_within_its_range() -> None:
    pins = {
        canonicalize_name(requirement.name): requirement.specifier
        for line in text_of("constraints.txt").splitlines()
        if line and not line.startswith("#")
        for requirement in [Requirement(line)]
    }
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["embedded"], *extras["train"], *extras["dev"]):
        requirement = Requirement(line)
        version = str(pins[canonicalize_name(requirement.name)]).removeprefix("==")
        assert requirement.specifier.contains(version), f"{line}: pinned {version}"
