"""The `spill` section of a pool: the hosted model that answers what would wait too long, and what it may cost."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, Secret, SerializationInfo, field_validator
from pydantic_core.core_schema import ValidationInfo

from weighbridge.config_errors import Problem, dotted
from weighbridge.config_fields import REVEAL, Count, ModelName, Number, Positive, SecondsOrZero, Section
from weighbridge.config_litellm_entry import Elsewhere

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


PER_MTOK = 1e6
PRICES = ("input_price_per_mtok", "output_price_per_mtok")
COSTS = ("input_cost_per_token", "output_cost_per_token")
"""The same of an entry of `model_list`, in LiteLLM's words and per token."""
OF_THE_ROUTER = frozenset(
    {
        "budget_duration", "litellm_credential_name", "max_budget", "max_parallel_requests", "order", "rpm", "tags",
        "tpm", "weight",
    }
)  # fmt: skip
"""Keys of an entry that say how LiteLLM's router uses it, and nothing to a call."""


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


def put_entries(pools: Mapping[str, Any], entries: Iterable[Elsewhere]) -> list[Problem]:
    """Where a pool's hosted model is a `model_name` of `model_list`, put what that entry says in its place.

    Of several entries with one name the first is taken. What the pool itself says wins.
    """
    by_name: dict[str, Elsewhere] = {}
    for entry in entries:
        by_name.setdefault(entry.model, entry)
    problems = []
    for name, pool in pools.items():
        spill = pool.get("spill") if isinstance(pool, dict) else None
        model = spill.get("model") if isinstance(spill, dict) else None
        found = by_name.get(model) if isinstance(model, str) else None
        if not isinstance(spill, dict) or found is None:
            continue
        if found.unset:
            rule = f"is {dotted(found.path)}, which needs variables that are not set: {', '.join(found.unset)}"
            problems.append(Problem(path=f"pools.{name}.spill.model", value=repr(model), rule=rule))
            continue
        pool["spill"] = _from_entry(found, spill)
    return problems


def _from_entry(entry: Elsewhere, spill: Mapping[str, Any]) -> dict[str, Any]:
    costs = [entry.params.get(key) for key in COSTS]
    prices = {}
    if not spill.keys() & set(PRICES) and all(isinstance(cost, int | float) for cost in costs):
        prices = {key: float(cost) * PER_MTOK for key, cost in zip(PRICES, costs, strict=True) if cost is not None}
    of_calls = {key: value for key, value in entry.params.items() if key not in {"model", *COSTS, *OF_THE_ROUTER}}
    own = spill.get("params")
    params = {**of_calls, **own} if isinstance(own, dict) else own if own is not None else of_calls
    return {**prices, **spill, "model": entry.params["model"], "params": params}


def spill_without_a_tenant(tenants: Mapping[str, Any], pools: Any) -> list[Problem]:
    """A hosted model that nobody may use."""
    if any(isinstance(tenant, dict) and tenant.get("spill") not in (None, False) for tenant in tenants.values()):
        return []
    return [
        Problem(path=f"pools.{name}.spill", value=None, rule="spills nothing until a tenant has spill: true")
        for name, pool in (pools.items() if isinstance(pools, dict) else ())
        if isinstance(pool, dict) and pool.get("spill") is not None
    ]
