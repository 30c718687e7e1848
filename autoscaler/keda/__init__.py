"""What KEDA asks for, where KEDA owns the number of replicas: the gRPC service that its external-push trigger calls."""
