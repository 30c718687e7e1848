"""Choose the replica for a request: least harm in that replica's own seconds. Pure.

The score (policy study, section 2) is what the request would wait for, what it would suffer, and what it would do to
those already there:

    score = outstanding prefill - progress + own uncached prefill
          + 1.5 x KV-read seconds of one step x (1 + tokens ahead / chunk)
          + in_flight x (1 ms + mu x (own prefill + own KV-read seconds))

A bare "least predicted TTFT" halves capacity: idle replicas tie, the first gets all work, and decode piles up there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from estimator.price import Weight

INTERFERENCE = 1.5
PER_REQUEST_S = 0.001
MOST_PROGRESS_RATIO = 0.9
OVERFLOW_FIXED_S = 1.0
OVERFLOW_S = 30.0


@dataclass(slots=True, kw_only=True)
class Load:
    """What is in flight on one replica, over all gateways. Seconds are the replica's own."""

    name: str
    in_flight: int = 0
    prefill_s: float = 0.0
    prefill_tokens: int = 0
    kv_tokens: int = 0
    remaining_gpu_s: float = 0.0
    progressed_at_s: float = 0.0
    """When a first token last came back, or when the outstanding prefill began."""
    ratio: float = 1.0
    """Seconds that this replica takes for one second of its price."""
    scale: float = 1.0
    """`ratio` over the pool's: weights have that in them already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PickRule:
    """A pool's constants of the score and of admission."""

    kv_read_s_per_token: float
    kv_capacity_tokens: int
    prefill_chunk_tokens: int
    externality: float
    dispatch_prefill_s: float
    max_in_flight: int | None = None
    """Requests that one replica runs at once; `None`: it says no number."""


class Pick(NamedTuple):
    """The chosen replica's name, its score, and what each part contributed, in seconds."""

    replica: str
    score_s: float
    ahead_s: float
    interference_s: float
    crowd_s: float
    overflow_s: float


def ahead_s(load: Load, now_s: float) -> float:
    """Outstanding prefill less what the replica has done since its last first token, at most 90 % of it."""
    outstanding_s = load.prefill_s * load.scale
    if outstanding_s <= 0.0:
        return 0.0
    progress_s = min(max(now_s - load.progressed_at_s, 0.0), MOST_PROGRESS_RATIO * outstanding_s)
    return outstanding_s - progress_s


def has_room(load: Load, weight: Weight, rule: PickRule, now_s: float) -> bool:
    """Whether the replica may be given the request now."""
    return has_room_for(load, weight.kv_tokens, rule, now_s)


def has_room_for(load: Load, kv_tokens: int, rule: PickRule, now_s: float) -> bool:
    """Whether the replica may be given a request of this footprint: a slot is free, its KV fits, little prefill ahead.

    An empty replica always has room: a request larger than its KV cache is for the model server to refuse.
    """
    if load.in_flight <= 0:
        return True
    if rule.max_in_flight is not None and load.in_flight >= rule.max_in_flight:
        return False
    if load.kv_tokens + kv_tokens > rule.kv_capacity_tokens:
        return False
    return ahead_s(load, now_s) <= rule.dispatch_prefill_s


def until_room_gpu_s(load: Load, kv_tokens: int, rule: PickRule, now_s: float, *, gpus: int) -> float:
    """GPU-seconds that a replica does before it has room for a request of this footprint; 0 when it has room now.

    Prefill over the limit is done first. KV tokens are taken to come free in proportion to the work in flight, none of
    which is done yet as far as is known: a replica with 1000 tokens too many of 50,000 and 10 GPU-seconds in flight has
    room after 0.2. A request that is larger than the KV cache waits for all of it. So with slots: one of 4 comes free
    when a quarter of the work in flight is done.
    """
    if has_room_for(load, kv_tokens, rule, now_s):
        return 0.0
    prefill_gpu_s = max(ahead_s(load, now_s) - rule.dispatch_prefill_s, 0.0) * gpus
    excess_tokens = max(load.kv_tokens + kv_tokens - rule.kv_capacity_tokens, 0)
    freed_ratio = min(excess_tokens / max(load.kv_tokens, 1), 1.0)
    if rule.max_in_flight is not None:
        ended_ratio = (load.in_flight + 1 - rule.max_in_flight) / load.in_flight
        freed_ratio = max(freed_ratio, min(ended_ratio, 1.0))
    return max(prefill_gpu_s, freed_ratio * load.remaining_gpu_s * load.scale)


def interference_s(load: Load, rule: PickRule) -> float:
    """What the decodes on a replica cost a request, whatever it is."""
    step_kv_s = load.kv_tokens * rule.kv_read_s_per_token * load.ratio
    return INTERFERENCE * step_kv_s * (1.0 + load.prefill_tokens / rule.prefill_chunk_tokens)


def crowd_s(weight: Weight, rule: PickRule) -> float:
    """What a request costs each one that is on the replica already."""
    return PER_REQUEST_S + rule.externality * (weight.prefill_s + weight.decode_kv_s)


def score(load: Load, weight: Weight, rule: PickRule, now_s: float) -> Pick:
    """The score of one replica, with its parts. Over `crowd_s` it is a line, which is what a claim offers."""
    wait_s = ahead_s(load, now_s)
    suffered_s = interference_s(load, rule)
    done_s = load.in_flight * crowd_s(weight, rule) * load.scale
    excess = load.kv_tokens + weight.kv_tokens - rule.kv_capacity_tokens
    overflow_s = OVERFLOW_FIXED_S + OVERFLOW_S * excess / rule.kv_capacity_tokens if excess > 0 else 0.0
    return Pick(
        replica=load.name,
        score_s=wait_s + weight.prefill_s * load.scale + suffered_s + done_s + overflow_s,
        ahead_s=wait_s,
        interference_s=suffered_s,
        crowd_s=done_s,
        overflow_s=overflow_s,
    )


def pick(loads: Sequence[Load], weight: Weight, rule: PickRule, now_s: float, *, salt: int = 0) -> Pick | None:
    """The replica with the least score among those with room; `None` when none has room.

    The order of `loads` does not matter: equal scores are decided by a hash of `salt` (the request) and the name.
    """
    best: Pick | None = None
    for load in loads:
        if not has_room(load, weight, rule, now_s):
            continue
        candidate = score(load, weight, rule, now_s)
        if (
            best is None
            or candidate.score_s < best.score_s
            or (candidate.score_s == best.score_s and _tie(candidate, salt) < _tie(best, salt))
        ):
            best = candidate
    return best


def _tie(candidate: Pick, salt: int) -> tuple[int, str]:
    """FNV-1a over the salt and the name: stable across processes, unlike `hash`.

    The last lines are Murmur3's finalizer. Without it names that differ in their last byte (r0, r1, ...) keep their
    order under most salts, and some replicas win four times as many ties as others.
    """
    mixed = 2166136261 ^ (salt & 0xFFFFFFFF)
    for byte in candidate.replica.encode():
        mixed = ((mixed ^ byte) * 16777619) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    mixed ^= mixed >> 16
    return mixed, candidate.replica
