"""What follows from code in the Helm chart: its README, and the configuration's sections in `values.schema.json`.

The README is written from the comments of `values.yaml` and the descriptions of the schema. The schema's sections are
those of `weighbridge.config_models`: a key of the configuration is a key of the chart. `python -m docs.generate` writes
both.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from weighbridge.config_models import (
    AutoscalerSection,
    LimitsSection,
    PoolLimitsSection,
    PoolSection,
    SloSection,
    TenantLimitsSection,
)

CHART = Path(__file__).parents[1] / "helm" / "weighbridge"
SECTIONS: Mapping[str, type[BaseModel]] = {
    "autoscalerSection": AutoscalerSection,
    "poolLimitsSection": PoolLimitsSection,
    "sloSection": SloSection,
    "gatewayLimitsSection": LimitsSection,
    "tenantLimitsSection": TenantLimitsSection,
}
POOL_SECTIONS = {"limits": "poolLimitsSection", "slo": "sloSection", "autoscaler": "autoscalerSection"}
OF_THE_CHART = frozenset({"api_key", "calibration", "replicas", "spill", "tokenizer"})
"""Keys of a pool that the chart has in a form of its own, or not: two are files, and its image has no LiteLLM."""
CONFIGURATION = "[As in the configuration](../../docs/configuration.md#pools)"
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""Pydantic writes the short names where a validator of its own stands before the bound."""


def schema() -> str:
    """`values.schema.json`: as it is, with the configuration's sections as they are in code."""
    document = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    definitions = document["$defs"]
    for name, section in SECTIONS.items():
        definitions[name] = _inlined(section.model_json_schema())
    properties = definitions["pool"]["properties"]
    for name in [name for name in properties if properties[name].get("description") == CONFIGURATION]:
        del properties[name]
    generated = _inlined(PoolSection.model_json_schema())["properties"]
    for name in PoolSection.model_fields:
        if name not in OF_THE_CHART:
            of_section = {"$ref": f"#/$defs/{POOL_SECTIONS[name]}"} if name in POOL_SECTIONS else generated[name]
            properties[name] = {**of_section, "description": CONFIGURATION}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _inlined(model: dict[str, Any]) -> dict[str, Any]:
    """A model's schema without references, titles, defaults and descriptions."""
    definitions = model.get("$defs", {})

    def plain(value: Any, *, names: bool = False) -> Any:
        """`names`: the keys are those of values, not of a schema."""
        if isinstance(value, list):
            return [plain(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value and not names:
            return plain(definitions[value["$ref"].rpartition("/")[2]])
        dropped = () if names else ("title", "default", "description", "$defs")
        return {
            key if names else BOUNDS.get(key, key): plain(item, names=key == "properties")
            for key, item in value.items()
            if key not in dropped
        }

    found = plain(model)
    assert isinstance(found, dict)
    return found


def readme() -> str:
    """`README.md` of the chart."""
    definitions = json.loads(schema())["$defs"]
    examples = sorted((CHART / "examples").glob("*.yaml"))
    listed = "".join(f"| [`{path.name}`](examples/{path.name}) | {_first_comment(path)} |\n" for path in examples)
    return (
        "# Weighbridge\n\n"
        "Gateway, autoscaler, operator page, Redis and GPU workers. "
        "[How to install it](../../docs/how-to/install-with-helm.md).\n\n"
        "## Examples\n\n| values | what |\n| --- | --- |\n" + listed + "\n## Pools\n\n"
        "`pools` is a map from a name (at most 30 lower-case letters, digits and `-`) to the keys below. One of "
        "`worker`, `existing`, `targets` and `static` says where its replicas are.\n\n"
        + _properties(definitions["pool"])
        + "\n## Workers\n\n`pools.*.worker` and `pools.*.targets.*.worker`.\n\n"
        + _properties(definitions["worker"])
        + "\n`weights` has:\n\n"
        + _properties(definitions["weights"])
        + "\n## Targets\n\n`pools.*.targets` is a map from a name to:\n\n"
        + _properties(definitions["target"])
        + "\n## Existing objects\n\n`pools.*.existing` and `pools.*.targets.*.existing`.\n\n"
        + _properties(definitions["existing"])
        + "\n## Tenants\n\n`tenants` is a map from a name to the keys below "
        + "([meanings](../../docs/configuration.md#tenants)).\n\n"
        + _properties(definitions["tenant"])
        + "\n## Values\n\n| key | default | meaning |\n| --- | --- | --- |\n"
        + "".join(f"| `{key}` | `{default}` | {text} |\n" for key, default, text in values())
    )


def values() -> Iterator[tuple[str, str, str]]:
    """Dotted key, default and comment of each value in `values.yaml` that has no values below it of their own."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _values(root, text.splitlines(), "")


def _values(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            # Where a comment stands above the whole, it is about the whole.
            comment = _comment_above(lines, key.start_mark.line)
            if not comment:
                yield from _values(value, lines, f"{path}.")
                continue
        default = yaml.SafeLoader("").construct_document(value)
        yield path, json.dumps(default, ensure_ascii=False), _comment_above(lines, key.start_mark.line)


def _comment_above(lines: list[str], line: int) -> str:
    """The comment lines directly above `line`, as one paragraph; empty without any."""
    found: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.append(lines[line].strip().lstrip("#").strip())
    return " ".join(reversed(found))


def _properties(definition: Mapping[str, Any]) -> str:
    rows = sorted(
        definition["properties"].items(), key=lambda row: (row[1].get("description") == CONFIGURATION, row[0])
    )
    required = definition.get("required", ())
    lines = ["| key | meaning |\n| --- | --- |\n"]
    for name, value in rows:
        text = value.get("description", "")
        lines.append(f"| `{name}` | {'Required. ' if name in required else ''}{text} |\n")
    return "".join(lines)


def _first_comment(path: Path) -> str:
    """The comment that a file begins with, without its commands."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        if not line.startswith("#   "):
            found.append(line.removeprefix("# "))
    return " ".join(found)


def pages() -> dict[Path, str]:
    """Every file that follows from others, with its content."""
    header = "<!-- Written by `python -m docs.generate`. Edit values.yaml or values.schema.json, then run it. -->\n"
    return {CHART / "values.schema.json": schema(), CHART / "README.md": header + readme()}
