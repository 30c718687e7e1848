"""LiteLLM's own metrics and logs show which replica answered, and the price in GPU-seconds."""

import pytest

from tests.flows.conftest import until
from tests.litellm.conftest import Stand
from tests.litellm.proxy import Client

pytestmark = [pytest.mark.litellm, pytest.mark.timeout(180)]  # the first of them starts the proxies


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_log_record_has_the_replica_and_the_price(one: Stand, client: Client, stream: bool) -> None:
    name = f"priced-{'stream' if stream else 'whole'}"
    async with one.replicas("m") as replicas:
        answer = await client.chat(name, stream=stream)
        (record,) = await until(lambda: one.proxy.spent(name))
    (replica,) = [replica for replica in replicas if replica.served]
    fields = record["metadata"]["spend_logs_metadata"]
    assert record["status"] == "success"
    assert record["api_base"].startswith(replica.url)
    assert fields["weighbridge"]["replica"] == replica.name == answer.replica
    # The pool's price is one unit for a GPU-second.
    assert record["response_cost"] == pytest.approx(fields["weighbridge"]["gpu_seconds"], rel=0.01)
    assert record["response_cost"] > 0.0


async def test_metrics_count_by_the_replica_s_address(one: Stand, client: Client) -> None:
    async with one.replicas("m") as replicas:
        await client.chat("counted")
        (replica,) = [replica for replica in replicas if replica.served]

        async def counted() -> list[str]:
            async with client.session.get("/metrics/", headers={"authorization": "Bearer sk-team"}) as response:
                lines = (await response.text()).splitlines()
            return [line for line in lines if "_requests" in line and f'api_base="{replica.url}/v1' in line]

        assert await until(counted)
