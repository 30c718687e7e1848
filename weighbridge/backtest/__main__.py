"""`python -m weighbridge.backtest`: the command by itself."""

import typer

from weighbridge.backtest.command import simulate_command

if __name__ == "__main__":
    typer.run(simulate_command)
