"""Never two leaders, whatever networks, clocks and schedulers do."""

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.autoscaler.kube.lease_world import DURATION_S, RETRY_S, Fate, Node, World

CONTENDERS = 3
LONGEST_S = 40.0
whose = st.sampled_from(["leader's", "a follower's", "another's"])
short_s = st.floats(0.0, 0.5)
passing_s = st.floats(0.5, 20.0)
fates = st.builds(
    Fate,
    there_s=st.one_of(short_s, st.floats(0.0, 20.0)),
    back_s=st.one_of(short_s, st.floats(0.0, 6.0)),
    lost=st.booleans(),
    answer_lost=st.booleans(),
)


class Election(RuleBasedStateMachine):
    """Three processes that want one lease; one that ends or dies is replaced. After each rule time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(ahead_s=st.lists(st.floats(-1e6, 1e6), min_size=CONTENDERS, max_size=CONTENDERS))
    def begin(self, ahead_s: list[float]) -> None:
        for number, ahead in enumerate(ahead_s):
            self.world.add(ahead_s=ahead, rate=(0.95, 1.0, 1.05)[number])
        self.go(2 * RETRY_S)

    @rule(seconds=passing_s, fates=st.lists(fates, min_size=1, max_size=30))
    def bad_network(self, seconds: float, fates: list[Fate]) -> None:
        self.world.fates = iter(fates)
        self.go(seconds)

    @rule(who=whose, seconds=st.floats(5.0, LONGEST_S), passing_s=passing_s)
    def cut_off(self, who: str, seconds: float, passing_s: float) -> None:
        self.world.cut_off(self.node(who), seconds)
        self.go(passing_s)

    @rule(who=whose, seconds=st.floats(1.0, LONGEST_S), passing_s=passing_s)
    def paused(self, who: str, seconds: float, passing_s: float) -> None:
        self.world.pause(self.node(who), seconds)
        self.go(passing_s)

    @rule(who=whose, seconds=st.one_of(st.floats(1.0, 30.0), st.floats(-30.0, -1.0)), passing_s=st.floats(0.0, 3.0))
    def clock_jumps(self, who: str, seconds: float, passing_s: float) -> None:
        self.world.jump(self.node(who), seconds)
        self.never_two()
        self.go(passing_s)

    @rule(who=whose, in_order=st.booleans(), passing_s=passing_s)
    def ended_and_replaced(self, who: str, in_order: bool, passing_s: float) -> None:
        node = self.node(who)
        (self.world.stop if in_order else self.world.kill)(node)
        self.world.add(ahead_s=node.clock.ahead_s, rate=node.clock.rate)
        self.go(passing_s)

    @invariant()
    def never_two(self) -> None:
        leaders = self.world.leaders()
        assert len(leaders) <= 1, f"{leaders} at {self.world.now_s}"

    def teardown(self) -> None:
        """Once the network works and nobody pauses, there is one leader soon."""
        if self.world.nodes:
            self.world.fates = iter(())
            self.go(LONGEST_S)
            self.go(2 * DURATION_S + 2 * RETRY_S)
            assert len(self.world.leaders()) == 1

    def go(self, seconds: float) -> None:
        self.world.run(seconds, self.never_two)

    def node(self, who: str) -> Node:
        """Any of those that take part, by what it is now."""
        leaders = self.world.leaders()
        others = [node for node in self.world.nodes if node.contending and node not in leaders]
        if who == "leader's":
            return (leaders + others)[0]
        return others[0 if who == "a follower's" else -1]


class TestElection(Election.TestCase):  # type: ignore[misc]
    # Shrinking a history of some thousand events takes minutes, and rarely makes it shorter.
    settings: Any = settings(
        max_examples=100,
        stateful_step_count=20,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )
