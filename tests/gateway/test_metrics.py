"""The exposition text is what Prometheus reads, under the names of the metric catalogue."""

import math
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from backlog.records import PoolView
from gateway.metrics import Live, Snapshots
from gateway.snapshot import PriceOrigin, SpillState, WorkerState, pool_state
from gateway.stats import LATENCY_EDGES_S
from tests.gateway.builders import POOL, decision, pool, view, weight
from tests.gateway.guests import Guest

CATALOGUE = {
    ("weighbridge_requests", "counter"): {"worker", "pool", "model", "outcome"},
    ("weighbridge_refused", "counter"): {"worker", "outcome"},
    ("weighbridge_retries", "counter"): {"worker", "pool"},
    ("weighbridge_dispatches", "counter"): {"worker", "pool", "path"},
    ("weighbridge_dispatches_out_of_order", "counter"): {"worker", "pool"},
    ("weighbridge_over_dispatches", "counter"): {"worker", "pool"},
    ("weighbridge_client_connections", "gauge"): {"worker"},
    ("weighbridge_backlog_age_seconds", "gauge"): {"worker"},
    ("weighbridge_backlog_tickets", "gauge"): {"worker", "pool"},
    ("weighbridge_backlog_work_seconds", "gauge"): {"worker", "pool"},
    ("weighbridge_backlog_oldest_age_seconds", "gauge"): {"worker", "pool"},
    ("weighbridge_input_tokens", "counter"): {"worker", "pool"},
    ("weighbridge_output_tokens", "counter"): {"worker", "pool"},
    ("weighbridge_gpu_seconds_predicted", "counter"): {"worker", "pool"},
    ("weighbridge_gpu_seconds", "counter"): {"worker", "pool", "tenant", "kind"},
    ("weighbridge_request_duration_seconds", "histogram"): {"worker", "pool"},
    ("weighbridge_time_to_first_token_seconds", "histogram"): {"worker", "pool"},
    ("weighbridge_time_per_output_token_seconds", "histogram"): {"worker", "pool"},
    ("weighbridge_queue_wait_seconds", "histogram"): {"worker", "pool"},
    ("weighbridge_estimate_error_ratio", "histogram"): {"worker", "pool"},
    ("weighbridge_wait_estimate_error_ratio", "histogram"): {"worker", "pool"},
    ("weighbridge_waits_without_estimate", "counter"): {"worker", "pool"},
    ("weighbridge_autoscaler_replicas", "gauge"): {"pool", "kind"},
    ("weighbridge_offered_load", "gauge"): {"pool"},
    ("weighbridge_price_info", "gauge"): {"pool", "source", "fit", "engine"},
    ("weighbridge_calibration_scalar", "gauge"): {"pool", "replica"},
    ("weighbridge_calibration_periods", "gauge"): {"pool", "replica"},
    ("weighbridge_calibration_drift", "gauge"): {"pool", "replica", "kind"},
    ("weighbridge_spilled", "counter"): {"worker", "pool", "reason"},
    ("weighbridge_spill_stayed", "counter"): {"worker", "pool", "reason"},
    ("weighbridge_spill_failures", "counter"): {"worker", "pool"},
    ("weighbridge_spill_money", "counter"): {"worker", "pool"},
    ("weighbridge_spill_in_flight", "gauge"): {"worker", "pool"},
}
SPILL = SpillState(
    model="azure/small",
    in_flight=2,
    answering=True,
    money=1.5,
    money_left=None,
    input_per_mtok=None,
    output_per_mtok=None,
    failures=3,
    spilled={"starting": 4},
    stayed={"cap": 5},
)


def worker(
    number: int = 0, *, model: str = "llama", tenant: str = "blue", latencies_s: Sequence[float] = ()
) -> WorkerState:
    """A worker that has served one request, lets one wait, and has seen `latencies_s`."""
    one = pool(replicas=1)
    one.stats.count(model, "served")
    one.stats.bill(tenant, "prefill", 0.25)
    one.stats.input_tokens, one.stats.output_tokens, one.stats.retries = 700, 130, 2
    one.stats.predicted_gpu_s = 0.75
    one.stats.waits_unknown = 6
    one.stats.dispatches, one.stats.out_of_order, one.stats.over_dispatches = {"leased": 9}, 3, 4
    one.stats.wait_error_ratio.observe(1.3)
    Guest(one, arrived_at_s=5.0, weight=weight(0.05, 0.1)).wait()
    for latency_s in latencies_s:
        one.stats.duration_s.observe(latency_s)
    return WorkerState(
        worker=f"host-{number}",
        number=number,
        draining=False,
        connections=3,
        backlog_age_s=0.05,
        backlog_error=None,
        refusals={"unauthorized": 4},
        pools={POOL: msgspec.structs.replace(pool_state(one, 7.5), spill=SPILL)},
    )


def scrape(workers: Sequence[WorkerState], views: Sequence[PoolView] = ()) -> dict[str, Metric]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshots(workers, views))
    text = generate_latest(registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_what_spills_is_counted_by_reason() -> None:
    families = scrape([worker(), worker(1)])
    at = {"worker": "1", "pool": POOL}
    assert value(families, "weighbridge_spilled_total", **at, reason="starting") == 4
    assert value(families, "weighbridge_spill_stayed_total", **at, reason="cap") == 5
    assert value(families, "weighbridge_spill_failures_total", **at) == 3
    assert value(families, "weighbridge_spill_money_total", **at) == 1.5
    assert value(families, "weighbridge_spill_in_flight", **at) == 2


def test_a_calibration_is_shown_once_by_the_worker_that_has_seen_most() -> None:
    behind, ahead = worker(), worker(1)
    replica = msgspec.structs.replace(
        ahead.pools[POOL].replicas[0], calibration=1.8, calibration_periods=9, calibration_drift="out-of-band"
    )
    pools = {POOL: msgspec.structs.replace(ahead.pools[POOL], replicas=[replica])}
    families = scrape([behind, msgspec.structs.replace(ahead, pools=pools), worker(2)])
    at = {"pool": POOL, "replica": "r0"}
    assert value(families, "weighbridge_calibration_scalar", **at) == 1.8
    assert value(families, "weighbridge_calibration_periods", **at) == 9
    assert value(families, "weighbridge_calibration_drift", **at, kind="out-of-band") == 1
    assert value(families, "weighbridge_calibration_drift", **at, kind="moving") == 0


def test_where_prices_are_from_is_said_once_for_workers_that_agree() -> None:
    families = scrape([worker(), worker(1)])
    (sample,) = families["weighbridge_price_info"].samples
    assert sample.value == 1
    assert sample.labels == {"pool": POOL, "source": "learned", "fit": "measured", "engine": "vllm"}


def test_a_worker_that_prices_otherwise_is_seen() -> None:
    one, other = worker(), worker(1)
    analytic = PriceOrigin(source="analytic", fit="", engine="vllm")
    pools = {POOL: msgspec.structs.replace(other.pools[POOL], price=analytic)}
    families = scrape([one, msgspec.structs.replace(other, pools=pools)])
    found = [(sample.labels["source"], sample.labels["fit"]) for sample in families["weighbridge_price_info"].samples]
    assert found == [("learned", "measured"), ("analytic", "")]


def test_names_types_and_labels_are_the_catalogue() -> None:
    families = scrape([worker(latencies_s=[0.1])], [view(decided=decision())])
    assert {(family.name, family.type) for family in families.values()} == set(CATALOGUE)
    for family in families.values():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == CATALOGUE[family.name, family.type], sample
        assert family.documentation


def test_values_are_those_of_the_snapshot() -> None:
    families = scrape([worker()], [view(decided=decision())])
    expected = {
        "weighbridge_requests_total": 1,
        "weighbridge_refused_total": 4,
        "weighbridge_retries_total": 2,
        "weighbridge_client_connections": 3,
        "weighbridge_backlog_age_seconds": 0.05,
        "weighbridge_backlog_tickets": 1,
        "weighbridge_backlog_work_seconds": 0.15,
        "weighbridge_backlog_oldest_age_seconds": 2.5,
        "weighbridge_input_tokens_total": 700,
        "weighbridge_output_tokens_total": 130,
        "weighbridge_gpu_seconds_predicted_total": 0.75,
        "weighbridge_gpu_seconds_total": 0.25,
        "weighbridge_waits_without_estimate_total": 6,
        "weighbridge_dispatches_total": 9,
        "weighbridge_dispatches_out_of_order_total": 3,
        "weighbridge_over_dispatches_total": 4,
        "weighbridge_wait_estimate_error_ratio_sum": 1.3,
        "weighbridge_wait_estimate_error_ratio_count": 1,
        "weighbridge_offered_load": 1.5,
    }
    assert {name: value(families, name) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "replicas"), [("desired", 3), ("recommended", 4), ("ready", 2), ("pending", 1), ("draining", 0)]
)
def test_replicas_come_from_the_last_decision(kind: str, replicas: int) -> None:
    families = scrape([], [view(decided=decision())])
    assert value(families, "weighbridge_autoscaler_replicas", pool=POOL, kind=kind) == replicas


def test_what_is_unknown_has_no_sample() -> None:
    families = scrape([], [view(decided=None), view(decided=decision(offered_load=None))])
    assert families["weighbridge_offered_load"].samples == []
    assert len(families["weighbridge_autoscaler_replicas"].samples) == 5
    assert families["weighbridge_requests"].samples == []


def test_workers_are_kept_apart() -> None:
    families = scrape([worker(0), worker(1)])
    assert value(families, "weighbridge_input_tokens_total", worker="0") == 700
    assert value(families, "weighbridge_input_tokens_total", worker="1") == 700


@given(st.lists(st.floats(0.0, 500.0), max_size=30))
def test_histograms_are_cumulative_and_complete(latencies_s: list[float]) -> None:
    samples = scrape([worker(latencies_s=latencies_s)])["weighbridge_request_duration_seconds"].samples
    buckets = {float(sample.labels["le"]): sample.value for sample in samples if sample.name.endswith("_bucket")}
    assert list(buckets) == [*LATENCY_EDGES_S, math.inf]
    for edge_s, count in buckets.items():
        assert count == sum(latency_s <= edge_s for latency_s in latencies_s)
    totals = {sample.name.rpartition("_")[2]: sample.value for sample in samples if "le" not in sample.labels}
    assert totals["count"] == len(latencies_s)
    assert totals["sum"] == pytest.approx(sum(latencies_s))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_model_and_tenant_name_survives_as_a_label(name: str) -> None:
    families = scrape([worker(model=name, tenant=name)])
    assert value(families, "weighbridge_requests_total", model=name) == 1
    assert value(families, "weighbridge_gpu_seconds_total", tenant=name) == 0.25


def test_a_live_collector_asks_at_each_scrape() -> None:
    states: list[WorkerState | None] = [None, None]
    live = Live(lambda: states.pop())
    assert list(live.collect()) == []
    states.append(worker())
    assert list(live.collect()) != []
