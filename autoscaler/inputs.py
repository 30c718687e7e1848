"""What a decision rests on, in words, for whoever asks why. Pure."""

from collections.abc import Callable
from typing import Any

from autoscaler.observation import NO_TREND, Fleet, Known, Misses, Observation, Unknown, Work
from backlog.records import InputRecord


def inputs_of(observation: Observation) -> tuple[InputRecord, ...]:
    """Each input as read, with its age, or why it is not known."""
    inputs = [
        _input("work", observation.work, _work),
        _input("offered load", observation.offered_load, _load),
        _input("misses", observation.misses, _misses),
    ]
    if observation.earlier_load != NO_TREND:
        inputs.insert(2, _input("earlier load", observation.earlier_load, _load))
    return (*inputs, InputRecord(name="replicas", value=_fleet(observation.fleet), age_s=None))


def _input(name: str, read: "Known[Any] | Unknown", words: Callable[[Any], str]) -> InputRecord:
    match read:
        case Known(value=value, age_s=age_s):
            return InputRecord(name=name, value=words(value), age_s=age_s)
        case Unknown(cause=cause, age_s=age_s):
            return InputRecord(name=name, value=None, age_s=age_s, cause=cause)


def _work(work: Work) -> str:
    partial = "; some reports are too old to count" if work.partial else ""
    return (
        f"{work.waiting} waiting with {work.waiting_gpu_s:.1f} GPU-s, {work.in_flight} running; "
        f"prefill backlog {work.backlog_s:.1f} s, {work.kv_tokens} KV tokens{partial}"
    )


def _load(load: float) -> str:
    return f"{load:.2f} erlangs"


def _misses(misses: Misses) -> str:
    return f"{misses.ttft_ratio:.1%} TTFT, {misses.tpot_ratio:.1%} TPOT of {misses.settled} settled"


def _fleet(fleet: Fleet) -> str:
    text = f"{fleet.desired} told to run: {fleet.ready} ready, {fleet.pending} pending, {fleet.draining} draining"
    if fleet.unschedulable:
        text += f"; {fleet.unschedulable} without room"
    if fleet.override is not None:
        text += f"; {fleet.override.by} set {fleet.override.replicas}"
    if fleet.paused is not None:
        text += f"; paused: {fleet.paused}"
    return text
