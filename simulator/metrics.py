"""The engine's state under vLLM's metric names, read when scraped so that steps pay nothing for it."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from simulator.realtime import RealTimeEngine

_LABELS = ("model_name", "engine")


class EngineCollector(Collector):
    """Yields the families of one server, labelled `model_name` and `engine="0"` as vLLM does."""

    def __init__(self, realtime: RealTimeEngine, model: str) -> None:
        self._realtime = realtime
        self._labels = (model, "0")

    def collect(self) -> Iterator[Metric]:
        engine, totals = self._realtime.engine, self._realtime.engine.totals
        yield self._gauge("num_requests_running", "Requests in the batch.", engine.running)
        yield self._gauge("num_requests_waiting", "Requests waiting for a place in the batch.", engine.waiting)
        yield self._gauge("kv_cache_usage_perc", "Part of the KV blocks in use, from 0 to 1.", engine.kv_used_ratio)
        yield self._counter("prompt_tokens", "Input tokens processed.", totals.input_tokens)
        yield self._counter("generation_tokens", "Output tokens produced.", totals.output_tokens)
        yield self._counter("num_preemptions", "Requests that lost their KV blocks.", totals.preemptions)
        yield self._counter(
            "prefix_cache_queries", "Tokens looked up in the prefix cache.", totals.prefix_queried_tokens
        )
        yield self._counter("prefix_cache_hits", "Tokens found in the prefix cache.", totals.prefix_hit_tokens)
        finished = CounterMetricFamily(
            "vllm:request_success", "Requests that ended.", labels=(*_LABELS, "finished_reason")
        )
        for reason, count in self._realtime.finished.items():
            finished.add_metric((*self._labels, reason), count)
        yield finished
        latencies = self._realtime.latencies
        for name, text, histogram in (
            ("time_to_first_token_seconds", "Arrival to first output token.", latencies.first_token),
            ("inter_token_latency_seconds", "Time between output tokens.", latencies.inter_token),
            ("e2e_request_latency_seconds", "Arrival to last output token.", latencies.end_to_end),
        ):
            family = HistogramMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            family.add_metric(self._labels, histogram.cumulative(), histogram.total)
            yield family
        config = GaugeMetricFamily(
            "vllm:cache_config_info",
            "KV cache layout.",
            labels=(*_LABELS, "block_size", "num_gpu_blocks", "enable_prefix_caching"),
        )
        layout = (str(engine.kv.block_tokens), str(engine.kv.blocks), str(engine.settings.prefix_cache))
        config.add_metric((*self._labels, *layout), 1)
        yield config
        yield GaugeMetricFamily(
            "simulator_lag_seconds",
            "How late the latest step was delivered: the host is too slow.",
            self._realtime.lag_s,
        )

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._labels, value)
        return family


def registry_of(realtime: RealTimeEngine, model: str) -> CollectorRegistry:
    """A registry of its own: two servers in one process do not meet."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(realtime, model))
    return registry
