"""The section of the autoscaler process: defaults, and times that leave each other room."""

import pytest

from weighbridge.config import ConfigError, parse
from weighbridge.config_controller import ControllerSection, KedaSection, LeaseSection
from weighbridge.scaling_cluster import boot_clock, identity_of

POOL = "pools: {chat: {models: [m], architecture: phi-4, gpu: H100, replicas: {static: ['http://127.0.0.1:9']}}}"


def section(text: str) -> ControllerSection:
    return parse(f"{POOL}\ncontroller: {text}", {}).config.controller


def test_defaults() -> None:
    assert parse(POOL, {}).config.controller == ControllerSection(
        host="127.0.0.1", port=4002, identity=None, lease=LeaseSection(), keda=None
    )
    assert section("{keda: {}}").keda == KedaSection(host="127.0.0.1", port=4004)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{lease: {duration_s: 10, renew_deadline_s: 10}}", "renew_deadline_s + retry_s <= duration_s"),
        ("{lease: {retry_s: 9}}", "2 x retry_s <= renew_deadline_s"),
        ("{lease: {durations_s: 10}}", "duration_s"),
        ("{port: 0}", "port"),
    ],
    ids=["no margin", "one try", "a typo", "no port"],
)
def test_what_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(text)
    assert message in str(caught.value)


def test_two_processes_of_one_host_are_two() -> None:
    controller = ControllerSection()
    assert identity_of(controller) != identity_of(controller)
    assert identity_of(ControllerSection(identity="pod-1")).startswith("pod-1_")


def test_the_clock_of_the_lead_goes_on() -> None:
    clock = boot_clock()
    assert clock() <= clock()
