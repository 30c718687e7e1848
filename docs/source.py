"""Fields of a dataclass with their types, defaults and the docstrings under them, read from its source."""

import ast
import inspect
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`kind` and `default` as written; `default` is empty for a required field, `text` where nothing is documented."""

    name: str
    kind: str
    default: str
    text: str


def documented_fields(cls: type) -> list[Field]:
    """The fields of `cls` in their order. A string after a field documents it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    fields: list[Field] = []
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            fields.append(
                Field(name=node.target.id, kind=ast.unparse(node.annotation), default=_default(node), text=_text(after))
            )
    return fields


def _default(node: ast.AnnAssign) -> str:
    """The default as code; that of a `field(...)` call is its `default` or what its `default_factory` gives."""
    value = node.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "field":
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in value.keywords}
        return given.get("default") or (f"{given['default_factory']}()" if "default_factory" in given else "")
    return "" if value is None else ast.unparse(value)


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""
