"""A command run in this process as an operator calls it, and the `config.json` of Llama 3.1 8B for it."""

from collections.abc import Callable
from typing import Any

import typer
from click.testing import Result
from typer.testing import CliRunner

CONFIG: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def invoke(register: Callable[[typer.Typer], None], *words: str) -> Result:
    """The result of the only command of an app; what it raises is raised here."""
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, list(words), catch_exceptions=False)
