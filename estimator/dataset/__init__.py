"""Measured times of real GPUs as documented numpy tables, without rows that no engine reproduces; `[train]` extra."""
