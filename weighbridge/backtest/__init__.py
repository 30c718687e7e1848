"""Scaling rules compared on recorded requests: replicas, gateway and rule in one process, on virtual time."""
