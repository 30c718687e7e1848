"""How wide commands print: as wide as the terminal, and wide enough for whole lines where there is none."""

import sys

PIPED_CHARACTERS = 160


def width() -> int | None:
    """Characters of a line on standard output; `None`, which is a console's own width, on a terminal."""
    return None if sys.stdout.isatty() else PIPED_CHARACTERS
