"""Whatever happens to pods, no pod with requests is taken by what we write, and the fleet ends where it should."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from autoscaler.kube.intent import Intent, adopt, follow, head_for, marked, marks, replicas_now
from autoscaler.kube.pod import Pod
from autoscaler.kube.target import TargetState
from backlog.records import PoolView, ReplicaState
from tests.autoscaler.builders import record, report, running, share, view
from tests.autoscaler.kube.pods import NOON_S, a_pod


class Cluster(RuleBasedStateMachine):
    """A ReplicaSet with its own idea of an order, a gateway worker, and an autoscaler that heads for some number."""

    by_ordinal = False

    @initialize(replicas=st.integers(0, 6))
    def start(self, replicas: int) -> None:
        self.now_s, self.number = NOON_S, 0
        self.pods: dict[str, Pod] = {}
        self.busy: set[str] = set()
        self.replicas = self.wanted = replicas
        self.reconcile()
        for uid in list(self.pods):
            self.make_ready(uid)
        self.intent: Intent = adopt(self.state, self.pods, None, by_ordinal=self.by_ordinal, now_s=self.now_s)

    @property
    def state(self) -> TargetState:
        return TargetState(uid="u", replicas=self.replicas)

    def reconcile(self) -> set[str]:
        """What a ReplicaSet does; returns the pods that it took."""
        while len(self.pods) < self.replicas:
            self.number += 1
            pod = a_pod(f"p-{self.number}", ready=False, created_at_s=self.now_s)
            self.pods[pod.uid] = pod
        taken = set()
        while len(self.pods) > self.replicas:
            victim = min(
                self.pods.values(),
                # Among equals the one that our own order would take last.
                key=lambda pod: (
                    pod.ready,
                    pod.deletion_cost,
                    -(pod.ready_at_s or 0),
                    -pod.created_at_s,
                    -int(pod.name[2:]),
                ),
            )
            taken.add(victim.uid)
            del self.pods[victim.uid]
        return taken

    def make_ready(self, uid: str) -> None:
        self.pods[uid] = replace(self.pods[uid], ready=True, ready_at_s=self.now_s)

    def seen(self) -> PoolView:
        loads = running(**{self.pods[uid].name: share() for uid in self.busy if uid in self.pods})
        listed = tuple(
            record(self.pods[uid].name, ReplicaState.DRAINING) for uid in self.intent.exits if uid in self.pods
        )
        return view(report(running=loads), at_s=self.now_s, replicas=listed)

    @rule(wanted=st.integers(0, 7), blind=st.booleans())
    def decide(self, wanted: int, blind: bool) -> None:
        self.wanted = wanted
        seen = None if blind else self.seen()
        work = {self.pods[uid].name: (1.0, 1) for uid in self.busy if uid in self.pods}
        self.intent = head_for(self.intent, wanted, self.pods, seen, work, by_ordinal=self.by_ordinal, now_s=self.now_s)

    @rule()
    def look(self) -> None:
        """Three times: a replica is believed to be idle from a worker's second report on."""
        for _ in range(3):
            self.now_s += 1
            self.intent = follow(
                self.intent,
                self.state,
                self.pods,
                self.seen(),
                by_ordinal=self.by_ordinal,
                deadline_s=1e9,
                now_s=self.now_s,
            )

    @rule(wanted=st.integers(0, 4))
    def drain(self, wanted: int) -> None:
        for uid in self.pods:
            self.make_ready(uid)
        self.decide(wanted, False)
        self.look()

    @rule()
    def write_marks(self) -> None:
        for mark in marks(self.intent, self.pods):
            self.pods[mark.pod.uid] = marked(self.pods[mark.pod.uid], mark)

    @rule()
    def write_replicas(self) -> None:
        busy = frozenset(self.pods[uid].name for uid in self.busy if uid in self.pods)
        number = replicas_now(self.intent, self.state, self.pods, by_ordinal=self.by_ordinal, busy=busy)
        if number != self.replicas:
            self.replicas = number
            self.intent = replace(self.intent, written=number)
            before = dict(self.pods)
            for uid in self.reconcile():
                assert uid not in self.busy, "a pod with requests was taken"
                assert not before[uid].ready or uid in self.intent.exits, "a pod that serves was taken"

    @precondition(lambda self: any(not pod.ready for pod in self.pods.values()))
    @rule(data=st.data())
    def becomes_ready(self, data: st.DataObject) -> None:
        self.make_ready(data.draw(st.sampled_from([uid for uid, pod in self.pods.items() if not pod.ready])))

    @precondition(lambda self: bool(self.pods))
    @rule(data=st.data())
    def fails(self, data: st.DataObject) -> None:
        """With its requests, or a probe alone: then they go on."""
        uid = data.draw(st.sampled_from(list(self.pods)))
        self.pods[uid] = replace(self.pods[uid], ready=False, ready_at_s=None)
        if data.draw(st.booleans()):
            self.busy.discard(uid)

    @precondition(lambda self: bool(self.pods))
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(list(self.pods)))
        del self.pods[uid]
        self.busy.discard(uid)
        self.reconcile()

    @rule(data=st.data())
    def request_arrives(self, data: st.DataObject) -> None:
        usable = [uid for uid, pod in self.pods.items() if pod.ready and uid not in self.intent.exits]
        self.busy |= set(data.draw(st.sampled_from([usable, usable[:1], usable[-1:]])))

    @rule()
    def requests_end(self) -> None:
        self.busy.clear()

    @rule(replicas=st.integers(0, 7))
    def somebody_else_sets(self, replicas: int) -> None:
        self.replicas = replicas
        self.busy -= self.reconcile()

    @rule()
    def another_leader(self) -> None:
        self.write_marks()
        self.intent = adopt(self.state, self.pods, self.seen(), by_ordinal=self.by_ordinal, now_s=self.now_s)

    def teardown(self) -> None:
        if not hasattr(self, "intent"):
            return
        self.requests_end()
        for _ in range(12):
            for uid in [uid for uid, pod in self.pods.items() if not pod.ready]:
                self.make_ready(uid)
            self.look()
            self.decide(self.wanted, False)
            self.write_marks()
            self.write_replicas()
            self.reconcile()
        assert len(self.pods) == self.wanted
        assert self.intent.exits == {}
        assert all(pod.draining_since_s is None for pod in self.pods.values())


class StatefulCluster(Cluster):
    """A StatefulSet with parallel pods: by number from the top; a number that died is made again."""

    by_ordinal = True

    def reconcile(self) -> set[str]:
        numbers = {pod.ordinal: uid for uid, pod in self.pods.items()}
        taken = {uid for number, uid in numbers.items() if number >= self.replicas}
        for uid in taken:
            del self.pods[uid]
        for number in range(self.replicas):
            if number not in numbers:
                self.number += 1
                uid = f"uid-{self.number}"
                self.pods[uid] = a_pod(f"p-{number}", uid=uid, ready=False, created_at_s=self.now_s)
        return taken


TestStatefulCluster = StatefulCluster.TestCase
TestStatefulCluster.settings = settings(max_examples=100, stateful_step_count=30)
TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=100, stateful_step_count=30)
