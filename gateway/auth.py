"""Who is calling: an API key becomes a tenant. Keys are held and compared as SHA-256 digests only."""

import hashlib
from collections.abc import Iterable

from gateway.settings import TenantSettings

ANONYMOUS = "anonymous"
NOBODY = TenantSettings(name=ANONYMOUS, key_sha256=())


class Keys:
    """The tenants' keys. With no tenants configured every caller is `anonymous`."""

    __slots__ = ("_by_digest", "_by_name", "_open")

    def __init__(self, tenants: Iterable[TenantSettings]) -> None:
        known = list(tenants)
        # A tenant without a key locks everybody out rather than letting everybody in.
        self._open = not known
        self._by_digest = {bytes.fromhex(digest): tenant.name for tenant in known for digest in tenant.key_sha256}
        self._by_name = {tenant.name: tenant for tenant in known}

    def settings_of(self, tenant: str) -> TenantSettings:
        """The settings of a name that `tenant_of` gave; those of `anonymous` are the defaults."""
        return self._by_name.get(tenant, NOBODY)

    def tenant_of(self, authorization: bytes | None) -> str | None:
        """The tenant of an `Authorization` value (`Bearer KEY`), or `None` when it names nobody."""
        if self._open:
            return ANONYMOUS
        if authorization is None or authorization[:7].lower() != b"bearer ":
            return None
        # The look-up is by digest: how long it takes says nothing about any key that would match.
        return self._by_digest.get(hashlib.sha256(authorization[7:].strip()).digest())


def priority_of(tenant: TenantSettings, asked: int | None) -> int:
    """A request's priority: what it asks for, at most its tenant's ceiling; else its tenant's own."""
    if asked is None:
        return tenant.priority
    return min(asked, tenant.priority if tenant.max_priority is None else tenant.max_priority)
