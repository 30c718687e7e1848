"""A pool with a tokenizer weighs requests by exact counts of their text, from the body to the header."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from estimator.tokens import TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST
from gateway.openai import Endpoint, parse
from gateway.weigher import Weigher
from tests.flows.conftest import StartGateway, pool_settings, post
from tests.flows.scripted import answer, replica
from tests.gateway.builders import pool
from tests.small_tokenizer import trained, write_tokenizer

SYSTEM, QUESTION = "You weigh requests; answer in GPU-seconds.", "Was wiegt die 2048er Anfrage? 日本 🎉"
TOOLS = [{"type": "function", "function": {"name": "weigh", "parameters": {"type": "object"}}}]
TOKENIZER = trained()


def counted(*texts: str) -> int:
    return sum(len(TOKENIZER.encode(text, add_special_tokens=False).ids) for text in texts)


@pytest.fixture
def weigher(tmp_path: Path) -> Weigher:
    write_tokenizer(tmp_path)
    return pool(tokenizer=tmp_path / "tokenizer.json").weigher


def estimate(weigher: Weigher, endpoint: Endpoint, **fields: Any) -> int:
    body = msgspec.json.encode({"model": "m", **fields})
    return weigher.weigh(parse(endpoint, body, lambda model: weigher.sizer), ("route",)).input_tokens


def test_the_estimate_of_a_prompt_is_its_exact_count(weigher: Weigher) -> None:
    fixed = round(TOKENS_PER_REQUEST)
    assert estimate(weigher, Endpoint.COMPLETIONS, prompt=QUESTION) == counted(QUESTION) + fixed
    assert estimate(weigher, Endpoint.EMBEDDINGS, input=[SYSTEM, QUESTION]) == counted(SYSTEM, QUESTION) + fixed


def test_the_estimate_of_a_chat_is_its_exact_count_and_the_template(weigher: Weigher) -> None:
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}, {"type": "text", "text": "x"}]},
    ]
    tools = msgspec.json.encode(TOOLS).decode()
    expected = counted(SYSTEM, QUESTION, "x", tools) + 2 * TOKENS_PER_MESSAGE + TOKENS_PER_REQUEST
    assert estimate(weigher, Endpoint.CHAT, messages=messages, tools=TOOLS) == expected


def test_a_reported_count_teaches_what_the_template_adds(weigher: Weigher) -> None:
    def body(words: int) -> bytes:
        return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": QUESTION * words}]})

    def parsed(words: int) -> Any:
        return parse(Endpoint.CHAT, body(words), lambda model: weigher.sizer)

    for words in (1, 3, 2, 5, 4, 6, 3, 1, 2, 5):
        weigher.learn(parsed(words), ("route",), counted(QUESTION * words) + 40, 10)
        weigher.study()
    assert weigher.weigh(parsed(8), ("route",)).input_tokens == pytest.approx(counted(QUESTION * 8) + 40, abs=2)


async def test_the_weight_that_a_client_sees_is_that_of_the_exact_count(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path)
    body = msgspec.json.encode({"model": "m", "input": QUESTION})
    weights = {}
    async with replica(answer) as one:
        for tokenizer in (None, tmp_path / "tokenizer.json"):
            async with start_gateway([one.url], tokenizer=tokenizer) as gateway:
                wire = await gateway.connect()
                wire.send(post("/v1/embeddings", body))
                response = await wire.response()
            assert response.status == 200
            weights[tokenizer] = response.headers["x-weighbridge-gpu-seconds"]
    price = pool_settings([]).price()
    exact_s = price.prefill_s(input_tokens=counted(QUESTION) + round(TOKENS_PER_REQUEST))
    assert float(weights[tmp_path / "tokenizer.json"]) == pytest.approx(exact_s, rel=0.01)
    assert weights[None] != weights[tmp_path / "tokenizer.json"]


async def test_a_worker_does_not_start_with_a_file_that_is_gone(start_gateway: StartGateway, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pools\.p\.tokenizer .*none\.json: cannot be read"):
        async with start_gateway(["http://127.0.0.1:9"], tokenizer=tmp_path / "none.json"):
            pass
