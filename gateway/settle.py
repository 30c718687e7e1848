"""Replace a request's estimate by what was used: statistics, the tenant's bill, the models' lessons, one log line."""

from typing import TYPE_CHECKING

import structlog

from backlog.account import NO_USAGE, Usage
from gateway.outcome import HTTP, Fault, Outcome

if TYPE_CHECKING:
    from gateway.pool import Pool
    from gateway.scheduled import Scheduled

_log = structlog.get_logger()
LONG_PROMPT_TOKENS = 4096
LONG_PROMPT_FACTOR = 1.5


def settle(ended: "Scheduled", outcome: Outcome, now_s: float, *, ran: bool) -> None:
    """Account for one ended request. Called exactly once. `ran`: a replica has worked on it, so it is billed."""
    pool, parsed, weight = ended.pool, ended.parsed, ended.weight
    stats = pool.stats
    stats.count(parsed.model, outcome.value)
    stats.duration_s.observe(now_s - ended.arrived_at_s)
    usage = ended.reported
    input_tokens, output_tokens, cached_tokens = weight.input_tokens, ended.output_tokens, 0
    if usage is not None:
        input_tokens, output_tokens, cached_tokens = usage.input_tokens, usage.output_tokens, usage.cached_tokens
    billed_gpu_s, booked = 0.0, NO_USAGE
    if ran and outcome is not Outcome.REPLICA_REFUSED:
        stats.queue_wait_s.observe(ended.queue_wait_s)
        stats.predicted_gpu_s += weight.gpu_s
        cached_tokens = min(cached_tokens, input_tokens)
        prefill_s, decode_s = shares_s(pool, input_tokens, output_tokens, cached_tokens)
        if ended.replica is not None:
            ended.replica.meter.settled_s += prefill_s + decode_s
        gpu_s_per_s = pool.price.gpus * pool.fleet.calibration.ratio
        prefill_gpu_s, decode_gpu_s = gpu_s_per_s * prefill_s, gpu_s_per_s * decode_s
        stats.bill(ended.payer.name, "prefill", prefill_gpu_s)
        stats.bill(ended.payer.name, "decode", decode_gpu_s)
        billed_gpu_s = prefill_gpu_s + decode_gpu_s
        booked = Usage(
            requests=1,
            input_tokens=input_tokens,
            cached_tokens=cached_tokens,
            output_tokens=output_tokens,
            prefill_gpu_s=prefill_gpu_s,
            decode_gpu_s=decode_gpu_s,
            money=pool.settings.money(billed_gpu_s),
        )
        stats.input_tokens += input_tokens
        stats.output_tokens += output_tokens
        if usage is not None and outcome is Outcome.SERVED:
            if weight.gpu_s > 0.0:
                stats.estimate_ratio.observe(billed_gpu_s / weight.gpu_s)
            pool.weigher.learn(parsed, ended.route, usage.input_tokens, usage.output_tokens)
    if ended.context.bookkeeper is not None:
        ended.context.bookkeeper.settled(ended.account, booked, ended.charge)
    if ended.charged_gpu_s != billed_gpu_s:
        # In the queue's order the tenant pays what was used, not what was estimated.
        payer = ended.payer
        pool.outbox.sent(payer.name, ended.priority, payer.weight, billed_gpu_s - ended.charged_gpu_s)
    if ended.first_token_at_s is not None and parsed.streams:
        _measure(ended, output_tokens, now_s)
    if HTTP[outcome].fault in (Fault.REPLICA, Fault.GATEWAY):
        _log.warning(
            "request failed",
            request_id=ended.request_id.decode("latin-1"),
            pool=pool.settings.name,
            outcome=outcome.value,
            replica=ended.replica.name if ended.replica is not None else None,
        )


def shares_s(pool: "Pool", input_tokens: int, output_tokens: int, cached_tokens: int) -> tuple[float, float]:
    """Seconds of prefill and of decode on one replica, uncalibrated, for tokens that were used."""
    price = pool.price
    prefill_s = price.prefill_s(input_tokens=input_tokens, cached_tokens=cached_tokens)
    return prefill_s, price.decode_s(input_tokens=input_tokens, output_tokens=output_tokens)


def used_gpu_s(pool: "Pool", input_tokens: int, output_tokens: int, cached_tokens: int) -> float:
    """What those tokens are billed as."""
    gpu_s_per_s = pool.price.gpus * pool.fleet.calibration.ratio
    return gpu_s_per_s * sum(shares_s(pool, input_tokens, output_tokens, cached_tokens))


def _measure(ended: "Scheduled", output_tokens: int, now_s: float) -> None:
    """TTFT and TPOT of a stream, and whether they were within the pool's SLOs."""
    pool, first_at_s = ended.pool, ended.first_token_at_s
    assert first_at_s is not None
    ttft_s = first_at_s - ended.arrived_at_s
    pool.stats.ttft_s.observe(ttft_s)
    tpot_s = (now_s - first_at_s) / (output_tokens - 1) if output_tokens > 1 else None
    if tpot_s is not None:
        pool.stats.tpot_s.observe(tpot_s)
    ttft_slo_s, tpot_slo_s = pool.settings.ttft_slo_s, pool.settings.tpot_slo_s
    if ttft_slo_s is not None and ended.weight.input_tokens > LONG_PROMPT_TOKENS:
        # A long prompt cannot start within two seconds on any replica: its own prefill is granted (policy study).
        ttft_slo_s += LONG_PROMPT_FACTOR * ended.weight.prefill_s
    pool.measured(
        ttft_missed=ttft_slo_s is not None and ttft_s > ttft_slo_s,
        tpot_missed=tpot_slo_s is not None and tpot_s is not None and tpot_s > tpot_slo_s,
    )
