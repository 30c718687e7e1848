"""Whether a request leaves the queue for a hosted model: the wait, the money, the tenant and the cap, in one decision.

Money is in one currency: that of token prices and of `price_per_gpu_hour`. Nothing here is a reason by being unknown:
an unknown wait is not long, and a price or a rest of the cap that is unknown is never spent.
"""

from dataclasses import dataclass
from enum import StrEnum

from estimator.price import Weight

PER_MTOK = 1e6


class Why(StrEnum):
    """What made a request spill. The value is the metric label."""

    STARTING = "starting"
    PREDICTED = "predicted-wait"
    WAITED = "waited"


class WhyNot(StrEnum):
    """What kept a request in the queue."""

    TENANT = "tenant"
    REQUEST = "request"
    TRIED = "tried"
    OWN_LIMIT = "own-limit"
    SHORT_WAIT = "short-wait"
    PROVIDER = "provider"
    IN_FLIGHT = "in-flight"
    PRICE = "price"
    PREMIUM = "premium"
    CAP_UNKNOWN = "cap-unknown"
    CAP = "cap"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """Money per million tokens."""

    input_per_mtok: float
    output_per_mtok: float

    def money(self, input_tokens: float, output_tokens: float) -> float:
        return (input_tokens * self.input_per_mtok + output_tokens * self.output_per_mtok) / PER_MTOK


@dataclass(frozen=True, slots=True, kw_only=True)
class SpillSettings:
    """When and to what a pool spills."""

    model: str
    """The hosted model, by the name that LiteLLM knows it under (`azure/gpt-4o-mini`)."""
    price: TokenPrice | None = None
    """`None`: as LiteLLM lists it, which the spill process says."""
    after_wait_s: float = 5.0
    """A request spills when its predicted wait is longer, or once it has waited this long."""
    while_starting: bool = True
    """While no replica is ready requests spill at once."""
    money_per_day: float
    """Most that a day of UTC may cost over all workers, by predicted tokens until a request has ended."""
    max_in_flight: int = 100
    """Requests that one gateway may have at the provider at once."""
    premium: float | None = None
    """The most times that a request may cost as tokens what it costs as GPU-seconds; `None`: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of one request and its pool at one instant."""

    tenant: str
    allowed: bool
    """The tenant may spill."""
    spillable: bool
    """A hosted model could answer it: it is text in and text out, and not token ids or embeddings."""
    tries: int
    """How often the provider has failed on it."""
    held: bool
    """It waits for a limit of its own tenant, whatever the pool has room for."""
    ready: int | None
    """Replicas of the pool; `None`: nobody has said yet which there are."""
    predicted_wait_s: float | None
    """Of a request that arrives; `None`: unknown, or it waits already."""
    waited_s: float | None
    """Of a request that waits; `None`: it has just arrived."""
    answering: bool
    """The provider has not failed lately."""
    in_flight: int
    most_in_flight: int
    """Of this worker's requests."""
    price: TokenPrice | None
    gpu_money: float | None
    """What the request costs on a replica; `None`: the pool has no price."""
    money_left: float | None
    """Of the day's cap, as far as this worker may spend it; `None`: unknown."""


@dataclass(frozen=True, slots=True)
class Spill:
    """It goes to the hosted model."""

    why: Why
    reason: str
    reserved: float
    """Money, by its predicted 90th percentile of output tokens: charged to the cap until what it cost is known."""


@dataclass(frozen=True, slots=True)
class Stay:
    """It waits for a replica."""

    why: WhyNot
    reason: str


MOST_TRIES = 2
"""A request on which the provider has failed this often waits for a replica."""


def decide(weight: Weight, situation: Situation, settings: SpillSettings) -> Spill | Stay:
    """Whether one request spills now, and why. It never spills over what is left of the cap.

    For example a wait of 12.3 s where 5 s are allowed, with prices known: `wait 12.3 s > 5 s; 0.0021 as tokens, 0.0004
    as GPU-seconds`.
    """
    barred = _barred(situation)
    if barred is not None:
        return barred
    need = _need(situation, settings)
    if isinstance(need, Stay):
        return need
    why, reason = need
    if not situation.answering:
        return Stay(WhyNot.PROVIDER, f"{settings.model} has failed lately")
    if situation.in_flight >= situation.most_in_flight:
        return Stay(WhyNot.IN_FLIGHT, f"{situation.in_flight} requests are at the provider already")
    if situation.price is None:
        return Stay(WhyNot.PRICE, f"the price of {settings.model} is not known")
    expected = situation.price.money(weight.input_tokens, weight.output_tokens_p50)
    reserved = max(situation.price.money(weight.input_tokens, weight.output_tokens_p90), expected)
    compared = f"{expected:.4g} as tokens, {_shown(situation.gpu_money)} as GPU-seconds"
    over = _over_premium(expected, situation.gpu_money, settings.premium)
    if over is not None:
        return Stay(WhyNot.PREMIUM, f"{compared}: {over}")
    if situation.money_left is None:
        return Stay(WhyNot.CAP_UNKNOWN, "what was spent today is not known")
    if not reserved <= situation.money_left:
        left = max(situation.money_left, 0.0)
        return Stay(WhyNot.CAP, f"up to {reserved:.4g} would go over the {left:.4g} left of {settings.money_per_day:g}")
    return Spill(why, f"{reason}; {compared}", reserved)


def _barred(situation: Situation) -> Stay | None:
    """What holds however long the wait is."""
    if not situation.allowed:
        return Stay(WhyNot.TENANT, f"tenant {situation.tenant} may not spill")
    if not situation.spillable:
        return Stay(WhyNot.REQUEST, "only text for chat and completions spills")
    if situation.tries >= MOST_TRIES:
        return Stay(WhyNot.TRIED, f"the provider has failed {situation.tries} times on it")
    if situation.held:
        return Stay(WhyNot.OWN_LIMIT, f"tenant {situation.tenant} is at a limit of its own")
    return None


def _need(situation: Situation, settings: SpillSettings) -> tuple[Why, str] | Stay:
    """Why the request should not wait, in words, or that it can."""
    limit_s, waited_s, predicted_s = settings.after_wait_s, situation.waited_s, situation.predicted_wait_s
    if settings.while_starting and situation.ready == 0:
        return Why.STARTING, "no replica is ready"
    if waited_s is not None and waited_s >= limit_s:
        return Why.WAITED, f"waited {waited_s:.1f} s of {limit_s:g} s"
    if predicted_s is None:
        return Stay(WhyNot.SHORT_WAIT, "how long it will wait is not known")
    if predicted_s > limit_s:
        return Why.PREDICTED, f"wait {predicted_s:.1f} s > {limit_s:g} s"
    return Stay(WhyNot.SHORT_WAIT, f"wait {predicted_s:.1f} s <= {limit_s:g} s")


def _over_premium(expected: float, gpu_money: float | None, premium: float | None) -> str | None:
    """Why tokens are too dear beside GPU-seconds. Without a price of either there is nothing to be sure of."""
    if premium is None:
        return None
    if gpu_money is None:
        return "what it costs as GPU-seconds is not known"
    return f"more than {premium:g} times" if expected > premium * gpu_money else None


def _shown(money: float | None) -> str:
    return "unknown" if money is None else f"{money:.4g}"


def most_in_flight(settings: SpillSettings, workers: int) -> int:
    """What one of a gateway's workers may have at the provider."""
    return max(1, settings.max_in_flight // max(1, workers))
