"""The end of a request that a hosted model answered, or was asked to: tokens and money, and no GPU-seconds."""

from typing import TYPE_CHECKING

import structlog

from backlog.account import NO_USAGE, Usage
from gateway.outcome import HTTP, Fault, Outcome

if TYPE_CHECKING:
    from gateway.overflow import Overflow
    from gateway.scheduled import Scheduled
    from gateway.spill import Spill

_log = structlog.get_logger()


def settle_spilled(
    ended: "Scheduled", spill: "Spill", overflow: "Overflow", outcome: Outcome, now_s: float, *, ran: bool
) -> None:
    """Account for it, once. `ran`: the provider has been asked, so it is paid.

    Its tenant's GPU-seconds of the queue's order are given back; nothing is learned of replicas, nor of tokens, which
    another tokenizer has counted.
    """
    pool, stats = ended.pool, ended.pool.stats
    stats.count(ended.parsed.model, outcome.value)
    stats.duration_s.observe(now_s - ended.arrived_at_s)
    booked = used(ended) if ran else NO_USAGE
    price = overflow.price
    if price is not None and booked != NO_USAGE:
        money = price.money(booked.spilled_input_tokens, booked.spilled_output_tokens)
        booked += Usage(spilled_money=money)
    overflow.ended(spill, booked.spilled_money, now_s)
    if ended.context.bookkeeper is not None:
        ended.context.bookkeeper.settled(ended.account, booked, ended.charge)
    if ended.charged_gpu_s:
        payer = ended.payer
        pool.outbox.sent(payer.name, ended.priority, payer.weight, -ended.charged_gpu_s)
    if HTTP[outcome].fault in (Fault.REPLICA, Fault.GATEWAY):
        _log.warning(
            "request failed",
            request_id=ended.request_id.decode("latin-1"),
            pool=pool.settings.name,
            outcome=outcome.value,
            replica=overflow.provider.name,
        )


def used(ended: "Scheduled") -> Usage:
    """Tokens as the provider reports them, else as they are estimated: the input, and what was seen of the output.

    An answer that does not stream shows nothing before its end, and a provider may bill it when nobody reads it.
    """
    reported, weight = ended.reported, ended.weight
    output_tokens = ended.output_tokens if ended.parsed.streams else round(weight.output_tokens_p50)
    if reported is None or reported.input_tokens == 0:
        return Usage(spilled_requests=1, spilled_input_tokens=weight.input_tokens, spilled_output_tokens=output_tokens)
    return Usage(
        spilled_requests=1,
        spilled_input_tokens=reported.input_tokens,
        spilled_output_tokens=reported.output_tokens,
    )
