import json
from pathlib import Path

import pytest

from benchmarks.machine import cpu_model, first_version
from benchmarks.measurement import TargetName
from benchmarks.routers import plan_from_args
from benchmarks.targets import Site, gateway_config, launchers
from weighbridge.config import parse


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(
        directory=tmp_path,
        port=4000,
        side_port=4001,
        backend_port=9000,
        redis_url="unix:///tmp/redis.sock",
        bin=dict.fromkeys(TargetName, Path("/opt/bin")),
    )


def test_the_gateway_accepts_its_configuration_and_holds_nothing_back(site: Site) -> None:
    config = parse(json.dumps(gateway_config(site)), {}).config
    (pool,) = config.pools.values()
    assert [replica.url for replica in pool.replicas.static or ()] == ["http://127.0.0.1:9000"]
    assert (pool.limits.dispatch_prefill_s, pool.kv_tokens) == (10.0, 100_000_000)
    assert (config.gateway.port, config.gateway.admin_port, config.gateway.workers) == (4000, 4001, 1)


def test_every_target_but_the_direct_one_has_a_command_line_that_names_its_port(site: Site) -> None:
    commands = {name: launch(site) for name, launch in launchers(as_root=False).items()}
    assert set(commands) == set(TargetName) - {TargetName.DIRECT}
    for command in commands.values():
        written = "".join(
            path.read_text() for path in map(Path, command) if path.is_file() and path.is_relative_to(site.directory)
        )
        assert "4000" in " ".join(command) + written
        assert "9000" in " ".join(command) + written


@pytest.mark.parametrize(("as_root", "present"), [(True, True), (False, False)])
def test_nginx_keeps_its_user_only_where_it_may_choose(site: Site, as_root: bool, present: bool) -> None:
    launchers(as_root=as_root)[TargetName.NGINX](site)
    assert ("user root;" in (site.directory / "nginx.conf").read_text()) is present


def test_targets_keep_their_order_whatever_the_order_asked_for() -> None:
    assert plan_from_args(["--only", "nginx,direct"]).targets == (TargetName.DIRECT, TargetName.NGINX)
    assert plan_from_args([]).targets == tuple(TargetName)


def test_quick_runs_are_shorter_but_still_in_turn() -> None:
    quick, full = plan_from_args(["--quick"]), plan_from_args([])
    assert 2 <= quick.rounds <= full.rounds
    assert quick.throughput_s < full.throughput_s


@pytest.mark.parametrize("argv", [["--only", "envoy"], ["--rounds", "0"], ["--seconds", "-1"]])
def test_arguments_that_make_no_sense_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        plan_from_args(argv)
    assert refused.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_the_machine_is_described_by_what_it_says() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: AMD EPYC 9654\n") == "AMD EPYC 9654"
    assert cpu_model("Processor: ARM\n") == "unknown"
    assert first_version("nginx version: nginx/1.22.1") == "1.22.1"
    assert first_version("none") == "unknown"
