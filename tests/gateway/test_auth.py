"""Keys become tenants; only a gateway without tenants is open."""

import hashlib

import pytest

from gateway.auth import ANONYMOUS, NOBODY, Keys, priority_of
from gateway.settings import TenantSettings


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


KEYS = Keys(
    [
        TenantSettings(name="blue", key_sha256=(digest("sk-b1"), digest("sk-b2"))),
        TenantSettings(name="red", key_sha256=(digest("sk-r"),)),
        TenantSettings(name="idle", key_sha256=()),
    ]
)


@pytest.mark.parametrize(
    ("authorization", "tenant"),
    [
        pytest.param(b"Bearer sk-b1", "blue", id="a key"),
        pytest.param(b"Bearer sk-b2", "blue", id="a second key of one tenant"),
        pytest.param(b"Bearer sk-r", "red", id="another tenant"),
        pytest.param(b"bearer sk-r", "red", id="scheme in lower case"),
        pytest.param(b"Bearer   sk-r ", "red", id="spaces around the key"),
        pytest.param(b"Bearer sk-x", None, id="unknown key"),
        pytest.param(b"Bearer SK-R", None, id="key in another case"),
        pytest.param(b"Bearer ", None, id="no key after the scheme"),
        pytest.param(b"Bearer", None, id="scheme alone"),
        pytest.param(b"Basic sk-r", None, id="another scheme"),
        pytest.param(b"sk-r", None, id="no scheme"),
        pytest.param(digest("sk-r").encode(), None, id="the digest"),
        pytest.param(b"Bearer " + digest("sk-r").encode(), None, id="the digest as a key"),
        pytest.param(b"", None, id="empty"),
        pytest.param(None, None, id="no header"),
    ],
)
def test_who_is_calling(authorization: bytes | None, tenant: str | None) -> None:
    assert KEYS.tenant_of(authorization) == tenant


@pytest.mark.parametrize("authorization", [None, b"Bearer anything", b"Basic x"])
def test_without_tenants_everybody_is_anonymous(authorization: bytes | None) -> None:
    assert Keys([]).tenant_of(authorization) == ANONYMOUS


def test_a_tenant_has_its_settings_and_nobody_has_the_defaults() -> None:
    blue = TenantSettings(name="blue", key_sha256=(digest("sk-b1"),), priority=5)
    assert Keys([blue]).settings_of("blue") == blue
    assert Keys([]).settings_of(ANONYMOUS) == NOBODY == TenantSettings(name=ANONYMOUS, key_sha256=())


def test_tenants_without_any_key_let_nobody_in() -> None:
    keys = Keys(tenant for tenant in [TenantSettings(name="idle", key_sha256=())])
    assert keys.tenant_of(None) is None
    assert keys.tenant_of(b"Bearer x") is None


@pytest.mark.parametrize(
    ("priority", "ceiling", "asked", "given"),
    [
        pytest.param(3, None, None, 3, id="none asked for"),
        pytest.param(3, 6, None, 3, id="none asked for under a ceiling"),
        pytest.param(3, 6, 5, 5, id="more, under the ceiling"),
        pytest.param(3, 6, 7, 6, id="more than the ceiling"),
        pytest.param(3, None, 4, 3, id="more without a ceiling of its own"),
        pytest.param(3, 6, 0, 0, id="less"),
        pytest.param(0, None, 7, 0, id="a tenant of the lowest priority"),
    ],
)
def test_a_request_gets_the_priority_it_asks_for_up_to_its_tenants_ceiling(
    priority: int, ceiling: int | None, asked: int | None, given: int
) -> None:
    tenant = TenantSettings(name="t", key_sha256=(), priority=priority, max_priority=ceiling)
    assert priority_of(tenant, asked) == given
