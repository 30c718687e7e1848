from datetime import date

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


def test_the_accounts_share_a_slot_and_meet_no_key_of_a_pool_called_tenants() -> None:
    accounts = [
        keys.usage_key("wb", date(2026, 11, 24)),
        keys.spent_stem("wb") + "2026-11-24",
        keys.bucket_stem("wb") + "blue",
        keys.booked_key("wb", "w1"),
    ]
    assert {hash_tag(key) for key in accounts} == {"tenants"}
    pool = [name("wb", PoolName("tenants")) for name in (*keys.POOL_KEYS, keys.decisions_key)]
    kinds = {key.split(":")[2] for key in pool}
    assert not kinds & {key.split(":")[2] for key in accounts}


def test_a_day_of_usage_is_the_stem_and_the_day() -> None:
    assert keys.usage_key("wb", date(2026, 3, 1)) == keys.usage_stem("wb") + "2026-03-01"


@pytest.mark.parametrize(("prefix", "pool"), [("wb", ""), ("wb", "a{b"), ("wb", "a}b"), ("w{b", "a"), ("w}b", "a")])
def test_a_name_that_would_break_the_hash_tag_is_refused(prefix: str, pool: str) -> None:
    with pytest.raises(ValueError):
        keys.workers_key(prefix, PoolName(pool))
