"""Traffic, scaling, draining and discovery meet: real processes, real streams, pods that come and go."""

import asyncio
from pathlib import Path

import pytest

from backlog.records import PoolName
from backlog.store import Backlog
from tests.flows.cluster_story import PATIENCE_S, a_story, several
from tests.flows.conftest import until
from tests.kube.manifests import deployment

TOKENS = 900
"""Some two seconds of a stream."""
DOWN_SOON = {"average_s": 1.0, "window_s": 1.0, "warmup_s": 1.0, "down_every_s": 0.0, "miss_window_s": 5.0}


@pytest.mark.timeout(150)
async def test_from_eight_to_two_under_load_no_stream_is_cut(
    redis_url: str, redis_prefix: str, backlog: Backlog, tmp_path: Path
) -> None:
    async with a_story(
        tmp_path,
        deployment(replicas=8),
        redis_url=redis_url,
        redis_prefix=redis_prefix,
        low=2,
        high=8,
        # Long enough at eight for every replica to have streams.
        scaling={**DOWN_SOON, "warmup_s": 6.0},
        speed=1.0,
    ) as story:
        await story.ready(8)
        enough = asyncio.Event()
        users = asyncio.create_task(several(story, enough, tokens=TOKENS, streams=16), name="users")

        await until(lambda: story.replicas == 2 and len(story.pods.serving) == 2, limit_s=90.0)
        enough.set()
        counts = await users

        assert story.pods.cut == []
        assert len(counts) > 16
        assert set(counts) == {TOKENS}, "every stream came to its end"
        assert story.pods.stopped == 6
        decisions = await backlog.decisions(PoolName("chat"), 256)
        assert any(one.draining for one in decisions), "somebody was waited for"
        patches = [
            call.body["spec"]["replicas"] for call in story.server.made("patch", "deployments/scale") if call.body
        ]
        assert patches == sorted(patches, reverse=True), "it only went down"


@pytest.mark.timeout(120)
async def test_from_zero_requests_are_held_and_none_is_lost(redis_url: str, redis_prefix: str, tmp_path: Path) -> None:
    async with a_story(
        tmp_path,
        deployment(replicas=0),
        redis_url=redis_url,
        redis_prefix=redis_prefix,
        low=0,
        high=3,
        scaling={**DOWN_SOON, "cooldown_to_zero_s": 2.0},
        speed=20.0,
    ) as story:
        answers = await asyncio.gather(*(story.stream(40) for _ in range(30)))

        assert set(answers) == {40}
        assert story.replicas >= 1
        await until(lambda: story.replicas == 0 and not story.pods.serving, limit_s=PATIENCE_S)
        assert story.pods.cut == []
        assert await story.stream(10) == 10


@pytest.mark.timeout(120)
async def test_a_pod_that_dies_is_avoided_and_its_successor_is_used(
    redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    async with a_story(
        tmp_path,
        deployment(replicas=3),
        redis_url=redis_url,
        redis_prefix=redis_prefix,
        low=3,
        high=3,
        scaling=DOWN_SOON,
        speed=20.0,
    ) as story:
        await story.ready(3)
        [first, *_] = story.workload.ready()
        await story.pods.die(story.server.store.get("pods", first)["metadata"]["uid"])
        answers = await asyncio.gather(*(story.stream(20) for _ in range(20)))
        story.workload.fail(first)

        await until(lambda: len(story.pods.serving) == 3, limit_s=PATIENCE_S)
        await story.ready(3)

        assert set(answers) == {20}, "requests went to another replica"
        assert first not in story.workload.ready()
        assert story.replicas == 3
