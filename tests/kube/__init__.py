"""A Kubernetes API server for tests, in memory and over real HTTP, and a cluster of simulated pods behind it.

    async with FakeServer() as server:                       # tests/kube/server.py
        server.store.put("apps/v1", "deployments", deployment("chat", replicas=2))
        api = server.api()                                   # a KubeApi that speaks to it
        server.faults.next(2, verb="get", status=500)        # tests/kube/faults.py
        server.calls                                         # what was asked, and how it was answered
        async with Workload(server.store) as workload: ...   # tests/kube/workload.py: replicas become pods

`tests/kube/cluster.py` has the fixture `cluster`: this server, or the real one that KUBECONFIG names.
"""
