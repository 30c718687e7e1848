"""`python -m weighbridge.spill`: what `weighbridge spill` does."""

import typer

from weighbridge.spill.command import spill_command

typer.run(spill_command)
