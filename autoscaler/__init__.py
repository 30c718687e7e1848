"""Observe the backlog, decide how many replicas, apply, publish the decision with its reasons."""
