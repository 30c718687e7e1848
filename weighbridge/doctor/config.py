"""What a configuration as Weighbridge reads it says about a set-up. Pure."""

from collections.abc import Iterator

from gateway.names import is_pattern
from weighbridge.config import Loaded
from weighbridge.config_errors import ENVIRONMENT_PREFIX, ConfigError
from weighbridge.config_merge import DEFAULT_GPU
from weighbridge.config_models import Config, PoolSection
from weighbridge.doctor.finding import Finding, error, fine, unknown, warning
from weighbridge.doctor.replica import Asked
from weighbridge.wiring import kv_tokens


def check_unusable(failure: ConfigError) -> Iterator[Finding]:
    """Why a file is none that a gateway starts with; each problem says its rule."""
    for problem in failure.problems:
        value = problem.value or ""
        if value.startswith(ENVIRONMENT_PREFIX):
            change = f"export {value.removeprefix(ENVIRONMENT_PREFIX)}=VALUE   # any, where only the file is checked"
        else:
            change = f"correct {problem.path} in {failure.source}"
        yield error("configuration", str(problem), change)


def check_loaded(loaded: Loaded, *, plugin: bool) -> Iterator[Finding]:
    """Which models are weighed, what is assumed, what is passed by. `plugin`: LiteLLM serves what no pool does."""
    for name, pool in loaded.config.pools.items():
        yield fine("models", f"{', '.join(pool.models)}: weighed by pool {name}")
    passed = sorted({entry.model for entry in loaded.elsewhere})
    if passed:
        fate = "LiteLLM's own, passed through untouched" if plugin else "not served"
        yield fine("models", f"{', '.join(passed)}: {fate}")
    for problem in loaded.unpriced:
        yield warning("models", str(problem), "name its architecture under pools")
    for name in loaded.assumed_gpu:
        what = f"pool {name} is weighed for {DEFAULT_GPU}: its GPU is assumed"
        yield warning("gpu", what, f"pools:\n  {name}: {{gpu: NAME}}   # weighbridge gpus lists them")
    if loaded.missed and not plugin:
        yield warning(
            "litellm-keys", f"without effect here: {', '.join(loaded.missed)}", "remove them, or use the plugin"
        )
    if loaded.config.redis is None:
        what = "no redis.url: each process has a queue of its own"
        yield warning("redis", what, 'redis: {url: "redis://HOST:6379"}')


def may_be_empty(config: Config) -> bool:
    """Whether some pool may have no replica."""
    return any(_least(pool) == 0 for pool in config.pools.values())


def _least(pool: PoolSection) -> int:
    replicas = pool.replicas
    if replicas.processes is not None:
        return replicas.processes.min
    if replicas.kubernetes is not None:
        return sum(target.min or 0 for target in replicas.kubernetes)
    return len(replicas.static or ())


def static_replicas(config: Config) -> Iterator[Asked]:
    """The replicas that the file names."""
    for name, pool in config.pools.items():
        for replica in pool.replicas.static or ():
            secret = replica.api_key or pool.api_key
            key = None if secret is None else secret.get_secret_value()
            yield asked(config, name, name=replica.label, url=replica.url, api_key=key)


def asked(config: Config, pool_name: str, *, name: str, url: str, api_key: str | None) -> Asked:
    """A replica of a pool, with what the pool expects of it."""
    pool = config.pools[pool_name]
    names = {pool.served_as.get(model, pool.served_model) for model in pool.models}
    return Asked(
        pool=pool_name,
        name=name,
        url=url,
        served=tuple(sorted(model for model in names if not is_pattern(model))),
        kv_tokens=kv_tokens(pool),
        api_key=api_key,
    )


def unpublished(pool: str) -> Finding:
    what = f"no autoscaler has published the replicas of pool {pool} lately"
    return unknown("replica", what, "weighbridge autoscaler --config FILE")
