"""The `spill` section of a pool: the hosted model that answers what would wait too long, and what it may cost."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, Secret, SerializationInfo, field_validator
from pydantic_core.core_schema import ValidationInfo

from weighbridge.config_errors import Problem
from weighbridge.config_fields import REVEAL, Count, ModelName, Number, Positive, SecondsOrZero, Section

OF_THE_REQUEST = frozenset({"messages", "model", "prompt", "stream", "stream_options"})
"""What a call takes from the client's request, so that it cannot be set for all of them."""


def _params(value: Secret[dict[str, Any]]) -> Secret[dict[str, Any]]:
    taken = sorted(OF_THE_REQUEST & value.get_secret_value().keys())
    if taken:
        raise ValueError(f"must not have {', '.join(taken)}: the request says it, and `model` is a key of its own")
    return value


def _revealed(value: Secret[dict[str, Any]], info: SerializationInfo) -> dict[str, Any]:
    params = value.get_secret_value()
    return params if (info.context or {}).get(REVEAL) else dict.fromkeys(params, str(value))


Params = Annotated[
    Secret[dict[str, Any]], AfterValidator(_params), PlainSerializer(_revealed, return_type=dict[str, Any])
]
"""Any of them may be a secret, whatever it is called."""


class SpillSection(Section):
    """Where requests go that would wait too long for a replica, and within what limits."""

    model: ModelName
    """The hosted model as LiteLLM names it (`azure/gpt-4o-mini`), or a `model_name` of `model_list`."""
    params: Params = Field(default_factory=lambda: Secret(dict[str, Any]()))
    """What LiteLLM's SDK is given with each call: `api_key`, `api_base`, `api_version`, `timeout` and so on."""
    input_price_per_mtok: Annotated[Number, Field(ge=0)] | None = None
    """Money per million input tokens. Default: as LiteLLM's price list has it, in USD."""
    output_price_per_mtok: Annotated[Annotated[Number, Field(ge=0)] | None, Field(validate_default=True)] = None
    after_wait_s: SecondsOrZero = 5.0
    """A request spills when its predicted wait is longer, or once it has waited this long."""
    while_starting: bool = True
    """While no replica is ready, requests spill at once."""
    money_per_day: Positive
    """The most that a day of UTC may cost, over all workers."""
    max_in_flight: Count = 100
    """Requests that one gateway may have at the hosted model at once."""
    premium: Positive | None = None
    """The most times that a request may cost as tokens what it costs as GPU-seconds."""

    @field_validator("output_price_per_mtok")
    @classmethod
    def _both_prices(cls, value: float | None, info: ValidationInfo) -> float | None:
        if "input_price_per_mtok" in info.data and (value is None) != (info.data["input_price_per_mtok"] is None):
            raise ValueError("input_price_per_mtok and output_price_per_mtok must be given together")
        return value


def spill_without_a_tenant(tenants: Mapping[str, Any], pools: Any) -> list[Problem]:
    """A hosted model that nobody may use."""
    if any(isinstance(tenant, dict) and tenant.get("spill") not in (None, False) for tenant in tenants.values()):
        return []
    return [
        Problem(path=f"pools.{name}.spill", value=None, rule="spills nothing until a tenant has spill: true")
        for name, pool in (pools.items() if isinstance(pools, dict) else ())
        if isinstance(pool, dict) and pool.get("spill") is not None
    ]
