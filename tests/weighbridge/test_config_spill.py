"""The `spill` section: what is asked for, what it becomes in each process, and that nobody sees its secrets."""

from typing import Any

import pytest

from gateway.spill import SpillSettings, TokenPrice
from weighbridge.config import dump, parse
from weighbridge.config_errors import ConfigError
from weighbridge.spill.sdk import Hosted
from weighbridge.wiring import gateway_settings, hosted_models

ENV = {"AZURE": "secret-of-azure"}
POOL = "gpu: L40S, replicas: {static: ['http://a:1']}"
PARAMS = "params: {api_key: os.environ/AZURE, extra_headers: {x-secret: open-sesame}, timeout: 30}"


def text(spill: str, *, pool: str = POOL, tenants: str = "{t: {keys: [k], spill: true}, u: {keys: [l]}}") -> str:
    return f"pools: {{llama-3.1-8b: {{{pool}, spill: {{{spill}}}}}}}\ntenants: {tenants}"


def test_each_process_gets_its_part() -> None:
    config = parse(text(f"model: azure/small, {PARAMS}, money_per_day: 20"), ENV).config
    settings = gateway_settings(config, redis_url="redis://r")
    assert settings.pools[0].spill == SpillSettings(model="azure/small", money_per_day=20.0)
    assert [tenant.spill for tenant in settings.tenants] == [True, False]
    params = {"api_key": "secret-of-azure", "extra_headers": {"x-secret": "open-sesame"}, "timeout": 30}
    assert hosted_models(config) == {"llama-3.1-8b": Hosted(model="azure/small", params=params)}


def test_prices_and_limits_are_taken_over() -> None:
    pool = f"{POOL}, price_per_gpu_hour: 1.5"
    spill = (
        "model: azure/small, money_per_day: 1, input_price_per_mtok: 0, output_price_per_mtok: 2, after_wait_s: 0, "
        "while_starting: false, max_in_flight: 3, premium: 4"
    )
    config = parse(text(spill, pool=pool), {}).config
    assert gateway_settings(config, redis_url="redis://r").pools[0].spill == SpillSettings(
        model="azure/small",
        price=TokenPrice(input_per_mtok=0.0, output_per_mtok=2.0),
        after_wait_s=0.0,
        while_starting=False,
        money_per_day=1.0,
        max_in_flight=3,
        premium=4.0,
    )
    assert hosted_models(config)["llama-3.1-8b"].output_per_mtok == 2.0


def test_a_pool_without_the_section_has_no_hosted_model() -> None:
    config = parse(f"pools: {{llama-3.1-8b: {{{POOL}}}}}", {}).config
    assert hosted_models(config) == {}
    assert gateway_settings(config, redis_url="redis://r").pools[0].spill is None


def test_parameters_are_secrets_but_for_the_process_that_needs_them() -> None:
    config = parse(text(f"model: azure/small, {PARAMS}, money_per_day: 20"), ENV).config
    for shown in (repr(config), str(hosted_models(config)), config.model_dump_json(), repr(gateway_settings)):
        assert "secret-of-azure" not in shown
        assert "open-sesame" not in shown
    assert parse(dump(config), {}).config == config


LITELLM = """
model_list:
  - model_name: small
    litellm_params:
      model: azure/gpt-small
      api_key: os.environ/AZURE
      api_base: https://a.example
      rpm: 10
      input_cost_per_token: 0.000002
      output_cost_per_token: 0.000004
  - model_name: small
    litellm_params: {model: openai/other, api_key: k}
"""


def test_a_model_name_of_the_model_list_stands_for_its_entry() -> None:
    spill = "model: small, money_per_day: 20, params: {timeout: 9}"
    config = parse(text(spill) + LITELLM, ENV).config
    assert hosted_models(config)["llama-3.1-8b"] == Hosted(
        model="azure/gpt-small",
        params={"api_key": "secret-of-azure", "api_base": "https://a.example", "timeout": 9},
        input_per_mtok=2.0,
        output_per_mtok=4.0,
    )
    assert parse(dump(config), {}).config == config


def test_what_the_pool_says_of_prices_and_parameters_wins_over_the_entry() -> None:
    prices = "input_price_per_mtok: 7, output_price_per_mtok: 8"
    spill = f"model: small, money_per_day: 20, {prices}, params: {{api_key: mine}}"
    hosted = hosted_models(parse(text(spill) + LITELLM, ENV).config)["llama-3.1-8b"]
    assert (hosted.input_per_mtok, hosted.output_per_mtok) == (7.0, 8.0)
    assert hosted.params["api_key"] == "mine"


def test_an_entry_whose_variables_are_not_set_cannot_be_called() -> None:
    with pytest.raises(ConfigError, match=r"model_list\[0\], which needs variables that are not set: AZURE"):
        parse(text("model: small, money_per_day: 20") + LITELLM, {})


SPILL = "model: azure/small, money_per_day: 20"
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no cap": ({"spill": "model: azure/small"}, "spill.money_per_day: is required"),
    "no model": ({"spill": "money_per_day: 1"}, "spill.model: is required"),
    "a cap of nothing": (
        {"spill": "model: azure/small, money_per_day: 0"},
        "money_per_day = 0: must be greater than 0",
    ),
    "half a price": ({"spill": f"{SPILL}, input_price_per_mtok: 1"}, "must be given together"),
    "a premium over nothing": ({"spill": f"{SPILL}, premium: 3"}, "the pool has no price_per_gpu_hour"),
    "what requests say": (
        {"spill": f"{SPILL}, params: {{messages: [], stream: true}}"},
        "must not have messages, stream",
    ),
    "parameters as text": ({"spill": f"{SPILL}, params: sk-secret"}, "spill.params"),
    "an unknown key": ({"spill": f"{SPILL}, after_s: 1"}, "after_wait_s"),
    "nobody may": ({"spill": SPILL, "tenants": "{t: {keys: [k]}}"}, "spills nothing until a tenant has spill: true"),
    "no tenants": ({"spill": SPILL, "tenants": "{}"}, "spills nothing until a tenant has spill: true"),
}


@pytest.mark.parametrize(("written", "rule"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(written: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text(**written), ENV)
    assert rule in str(caught.value)
    assert "sk-secret" not in str(caught.value)
