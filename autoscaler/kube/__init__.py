"""Everything that speaks to a Kubernetes API server. Connecting needs the extra `kubernetes`; importing does not."""
