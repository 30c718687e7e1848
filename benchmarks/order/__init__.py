"""What the order of the shared queue does, measured on virtual time: `python -m benchmarks.order`."""
