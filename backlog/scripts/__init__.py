"""The Lua that runs inside Redis, one file per step. Multi-key reads and changes happen only here."""

from dataclasses import dataclass, field
from hashlib import sha1
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """One script as Redis knows it: by its text, and by the SHA-1 of its text once it has run."""

    text: str = field(repr=False)
    sha: str
    repeatable: bool = True
    """Whether it may run a second time in the same row, after a server that did not know another script of it."""


def script(*names: str, repeatable: bool = True) -> Script:
    """The named `.lua` files as one script, in order: later ones see the locals of earlier ones."""
    folder = files(__name__)
    text = "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
    return Script(text=text, sha=sha1(text.encode(), usedforsecurity=False).hexdigest(), repeatable=repeatable)
