"""Any configuration survives being written for a child process and read back."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.accelerator import ACCELERATORS
from weighbridge.config import dump, parse
from weighbridge.config_errors import ConfigError, did_you_mean, suggestion
from weighbridge.config_fields import digest
from weighbridge.config_models import Config

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).filter(
    lambda key: not key.startswith(("sha256:", "os.environ/"))
)
seconds = st.floats(0.01, 1e6)


def some(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with any of these keys."""
    return st.fixed_dictionaries({}, optional=values)


@st.composite
def bounds(draw: st.DrawFn) -> dict[str, int]:
    low = draw(st.integers(0, 8))
    return {"min": low, "max": draw(st.integers(max(1, low), 16))}


urls = st.builds("http://10.0.0.{}:{}/v1".format, st.integers(0, 9), st.integers(1, 65535))
static = st.lists(urls, min_size=1, max_size=3, unique=True)
processes = st.builds(
    lambda limits, extra: {**limits, **extra},
    bounds(),
    st.one_of(
        # A list of its own for each document: the test below puts junk into documents.
        some(command=st.just("vllm serve m --port {port}") | st.builds(lambda: ["run", "{port}", "with space"])),
        some(simulated=some(start_delay_s=st.floats(0, 100), speed=seconds, max_queue=st.integers(1, 99))),
    ),
)
replicas = st.one_of(
    st.builds(lambda value: {"static": value}, static),
    st.builds(lambda value: {"processes": value}, processes),
    st.builds(lambda name, limits: {"kubernetes": {"name": name, **limits}}, names, bounds()),
)
scaling = some(
    utilization=st.floats(0.1, 1),
    beta=st.floats(0, 5),
    drain_s=seconds,
    window_s=st.floats(0, 1e5),
    up_max=st.integers(1, 9),
    cold_start_s=seconds,
)


allowances = some(
    priority=st.integers(0, 3),
    max_priority=st.integers(3, 7),
    limits=some(
        gpu_s_per_minute=seconds,
        concurrent_gpu_s=seconds,
        prefill_pace=seconds,
        gpu_s_per_day=st.floats(1, 10),
        gpu_s_per_month=st.floats(10, 100),
    ),
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    pools = {}
    for number, name in enumerate(draw(st.lists(names, min_size=1, max_size=3, unique=True))):
        required = {
            "models": [f"model-{number}", f"org/alias-{number}"],
            "architecture": "qwen2.5-0.5b",
            "gpu": draw(st.sampled_from(sorted(ACCELERATORS))),
            "replicas": draw(replicas),
        }
        optional = some(
            served_model=st.just("org/Served"),
            tensor_parallel=st.sampled_from([1, 2, 7]),
            planning_batch=st.integers(1, 512),
            kv_tokens=st.integers(1, 10**7),
            max_in_flight=st.none() | st.integers(1, 512),
            api_key=keys,
            price_per_gpu_hour=seconds,
            limits=some(max_waiting=st.integers(0, 10**6), max_wait_s=seconds, externality=st.floats(0, 1)),
            slo=some(ttft_s=st.none() | seconds, tpot_s=st.none() | seconds),
            autoscaler=scaling,
        )
        pools[name] = {**required, **draw(optional)}
        if "kubernetes" not in pools[name]["replicas"] and draw(st.booleans()):
            bounded = pools[name]["replicas"].get("processes")
            floor = 1 if bounded is None else bounded["max"]
            office = {"cron": "0 8 * * mon-fri", "timezone": "Asia/Kolkata", "duration_s": 3600, "min": floor}
            pools[name]["autoscaler"] = {**pools[name].get("autoscaler", {}), "schedules": [office]}
    tenant_keys = iter(draw(st.lists(keys, min_size=3, max_size=3, unique=True)))
    tenants = {
        name: {"keys": [next(tenant_keys)], "weight": draw(seconds), **draw(allowances)}
        for name in draw(st.lists(names, max_size=3, unique=True))
    }
    rest = some(
        autoscaler=scaling,
        gateway=some(port=st.integers(5000, 60000), workers=st.integers(1, 64), limits=some(drain_s=seconds)),
        redis=st.builds(lambda key: {"url": f"redis://:{key}@r:6379/0", "prefix": "p"}, st.sampled_from(["s3", "x"])),
    )
    return {"pools": pools, "tenants": tenants, **draw(rest)}


@settings(max_examples=60, deadline=None)
@given(documents())
def test_reading_what_was_written_gives_an_equal_configuration(document: dict[str, Any]) -> None:
    config = Config.model_validate(_complete(document))
    again = parse(dump(config), {})
    assert again.config == config
    assert (again.not_needed, again.missed, again.assumed_gpu) == ((), (), ())


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    """What `parse` fills in before it checks."""
    pools = {name: {"served_model": pool["models"][0], **pool} for name, pool in document["pools"].items()}
    return {**document, "pools": pools}


LITELLM: dict[str, Any] = {
    "model_list": [
        {
            "model_name": "l",
            "litellm_params": {"model": "hosted_vllm/llama-3.1-8b", "api_base": "http://a:1", "api_key": "k"},
        }
    ],
    "general_settings": {"master_key": "sk-m"},
}
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("os.environ/NONE")
junk = scalars | st.lists(scalars, max_size=2) | st.dictionaries(names, scalars, max_size=2)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in _paths(item, (*path, key)))]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_document_with_junk_anywhere_is_read_or_refused_with_reasons(data: st.DataObject) -> None:
    document = {**data.draw(documents()), **json.loads(json.dumps(LITELLM))}
    path = data.draw(st.sampled_from(_paths(document)[1:]))
    place = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = data.draw(junk)
    with suppress(ConfigError):
        assert parse(json.dumps(document), {}).config.pools


@given(st.lists(names, min_size=1, unique=True))
def test_a_suggestion_is_a_known_word(words: list[str]) -> None:
    assert suggestion(words[0], words) is not None
    assert did_you_mean("~", words).startswith("known: ")


@given(keys)
def test_a_digest_is_stable_and_does_not_show_the_key(key: str) -> None:
    assert digest(key) == digest(key)
    assert len(digest(key)) == len("sha256:") + 64
