"""The Lua that runs inside Redis, one file per step. Multi-key reads and changes happen only here."""

from importlib.resources import files


def load(*names: str) -> str:
    """The named `.lua` files as one script, in order: later ones see the locals of earlier ones."""
    folder = files(__name__)
    return "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
