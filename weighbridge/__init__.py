"""Command line, configuration, and the processes put together."""
