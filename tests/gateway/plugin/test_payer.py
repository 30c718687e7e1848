"""Who pays, by what LiteLLM knows of key and team."""

from typing import Any

import pytest

from gateway.plugin.payer import Payers, priority
from gateway.settings import TenantSettings
from tests.gateway.builders import tenant

SEARCH = TenantSettings(name="search", key_sha256=(), weight=3.0, priority=5, max_priority=6)
PAYERS = Payers((SEARCH,))


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        pytest.param({}, "anonymous", id="nothing is known"),
        pytest.param({"user_api_key_team_alias": "search"}, "search", id="the team is a tenant"),
        pytest.param({"user_api_key_team_id": "t-1", "user_api_key_alias": "search"}, "search", id="the key is one"),
        pytest.param(
            {"user_api_key_team_alias": "Team Ö!", "user_api_key_alias": "k"}, "Team", id="a team without settings"
        ),
        pytest.param({"user_api_key_alias": "k"}, "k", id="a key without a team"),
        pytest.param(
            {"user_api_key_metadata": {"weighbridge": {"tenant": "search"}}, "user_api_key_team_alias": "x"},
            "search",
            id="the key's metadata",
        ),
        pytest.param(
            {"user_api_key_team_metadata": {"weighbridge": {"tenant": "search"}}}, "search", id="the team's metadata"
        ),
        pytest.param({"user_api_key_metadata": {"weighbridge": {"tenant": 5}}}, "anonymous", id="not a name"),
        pytest.param({"user_api_key_team_alias": "!!!"}, "anonymous", id="nothing is left of the name"),
        pytest.param({"user_api_key_user_id": "default_user_id"}, "default_user_id", id="the user, last"),
    ],
)
def test_the_tenant_of_a_call(metadata: dict[str, Any], name: str) -> None:
    assert PAYERS.payer_of(metadata).name == name


def test_a_configured_tenant_brings_its_settings_and_others_have_defaults() -> None:
    assert PAYERS.payer_of({"user_api_key_team_alias": "search"}) is SEARCH
    assert PAYERS.payer_of({"user_api_key_team_alias": "other"}).weight == 1.0


@pytest.mark.parametrize(
    ("metadata", "headers", "expected"),
    [
        pytest.param({}, {}, 5, id="the tenant's own"),
        pytest.param({}, {"x-weighbridge-priority": "6"}, 6, id="asked for"),
        pytest.param({}, {"x-weighbridge-priority": "7"}, 6, id="over the ceiling"),
        pytest.param({}, {"x-weighbridge-priority": "urgent"}, 5, id="not a number"),
        pytest.param({}, {"x-weighbridge-priority": "1" * 5000}, 5, id="no number of any size"),
        pytest.param({}, {"x-weighbridge-priority": "²"}, 5, id="a digit that is none"),
        pytest.param(
            {"user_api_key_metadata": {"weighbridge": {"priority": 7}}}, {}, 7, id="the operator may say more"
        ),
        pytest.param({"user_api_key_team_metadata": {"weighbridge": {"priority": 9}}}, {}, 5, id="no such band"),
    ],
)
def test_priority(metadata: dict[str, Any], headers: dict[str, str], expected: int) -> None:
    assert priority(metadata, headers, SEARCH) == expected


def test_a_tenant_without_a_ceiling_gets_its_own_priority() -> None:
    assert priority({}, {"x-weighbridge-priority": "7"}, tenant()) == tenant().priority
