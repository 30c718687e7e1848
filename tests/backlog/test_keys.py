import pytest

from backlog import keys
from backlog.records import PoolName, WorkerId

POOL = PoolName("meta-llama/Llama-3.1-8B")


def every_key(prefix: str, pool: PoolName) -> list[str]:
    return [
        keys.worker_key(prefix, pool, WorkerId("host:1/é}")),
        keys.workers_key(prefix, pool),
        keys.replicas_key(prefix, pool),
        keys.decision_key(prefix, pool),
        keys.decisions_key(prefix, pool),
    ]


def hash_tag(key: str) -> str:
    """As Redis Cluster finds it: between the first opening brace and the first closing brace after it."""
    opening = key.index("{")
    return key[opening + 1 : key.index("}", opening)]


def test_all_keys_of_a_pool_share_its_hash_tag() -> None:
    assert {hash_tag(key) for key in every_key("wb", POOL)} == {POOL}


def test_keys_of_different_kinds_pools_and_prefixes_never_meet() -> None:
    pools = [PoolName("a"), PoolName("a:workers"), PoolName("a:worker:b")]
    seen = [key for prefix in ("wb", "wb:x") for pool in pools for key in every_key(prefix, pool)]
    assert len(set(seen)) == len(seen)


def test_a_worker_key_is_the_stem_and_the_worker() -> None:
    assert keys.worker_key("wb", POOL, WorkerId("w1")) == keys.worker_key_stem("wb", POOL) + "w1"


@pytest.mark.parametrize(("prefix", "pool"), [("wb", ""), ("wb", "a{b"), ("wb", "a}b"), ("w{b", "a"), ("w}b", "a")])
def test_a_name_that_would_break_the_hash_tag_is_refused(prefix: str, pool: str) -> None:
    with pytest.raises(ValueError):
        keys.workers_key(prefix, PoolName(pool))
