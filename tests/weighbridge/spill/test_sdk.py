"""What the SDK is told and how its answers and failures come out, with one that remembers in its place."""

import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from weighbridge.spill.arguments import Call
from weighbridge.spill.sdk import LOCAL_PRICES, Hosted, ProviderFailed, Sdk, SdkMissing, load, plain

HOSTED = Hosted(model="azure/small", params={"api_key": "secret", "timeout": 9})
LISTED = {"azure/small": (1.5e-7, 6e-7), "azure/free": (0.0, 0.0), "azure/odd": (1e-6, None)}


class Failed(Exception):
    def __init__(self, status_code: int | None) -> None:
        super().__init__("Incorrect API key sk-hush, prompt was: hello")
        self.status_code = status_code


class Answer:
    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self, *, exclude_none: bool) -> dict[str, Any]:
        assert exclude_none
        return self.fields


class Remembering:
    """As much of the SDK as is used."""

    def __init__(self, *, chunks: int = 2, failure: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._chunks = chunks
        self._failure = failure

    async def acompletion(self, **given: Any) -> Any:
        return self._answer("chat", given)

    async def atext_completion(self, **given: Any) -> Any:
        return self._answer("text", given)

    def get_model_info(self, model: str) -> dict[str, float | None]:
        per_input, per_output = LISTED[model]
        return {"input_cost_per_token": per_input, "output_cost_per_token": per_output}

    def get_llm_provider(self, model: str, custom_llm_provider: str | None, api_base: str | None) -> None:
        if not model.startswith("azure/") and custom_llm_provider is None:
            raise Failed(400)

    def _answer(self, kind: str, given: dict[str, Any]) -> Any:
        self.calls.append((kind, given))
        if given.get("stream"):
            return self._stream()
        if self._failure is not None:
            raise self._failure
        return Answer(id="x", provider_specific_fields={})

    async def _stream(self) -> AsyncIterator[Answer]:
        for number in range(self._chunks):
            yield Answer(n=number)
        if self._failure is not None:
            raise self._failure


async def test_parameters_go_with_each_call_and_the_request_cannot_change_them() -> None:
    sdk = Remembering()
    answer = await Sdk(sdk).complete(HOSTED, Call.CHAT, {"messages": [], "n": 2})
    assert answer == {"id": "x"}
    assert sdk.calls == [
        (
            "chat",
            {
                "model": "azure/small",
                "api_key": "secret",
                "timeout": 9,
                "messages": [],
                "n": 2,
                "max_retries": 0,
                "num_retries": 0,
            },
        )
    ]


async def test_completions_have_a_call_of_their_own() -> None:
    sdk = Remembering()
    events = [event async for event in Sdk(sdk).stream(HOSTED, Call.COMPLETIONS, {"prompt": "x", "stream": True})]
    assert events == [{"n": 0}, {"n": 1}]
    assert sdk.calls[0][0] == "text"


@pytest.mark.parametrize(
    ("error", "cause", "of_the_request"),
    [
        pytest.param(Failed(400), "Failed (400)", True, id="bad request"),
        pytest.param(Failed(422), "Failed (422)", True, id="unprocessable"),
        pytest.param(Failed(401), "Failed (401)", False, id="key"),
        pytest.param(Failed(404), "Failed (404)", False, id="deployment"),
        pytest.param(Failed(429), "Failed (429)", False, id="quota"),
        pytest.param(Failed(None), "Failed", False, id="no status"),
        pytest.param(ValueError("sk-hush"), "ValueError", False, id="any other"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
async def test_failures_say_their_type_and_status_and_nothing_of_the_message(
    error: Exception, cause: str, of_the_request: bool, streams: bool
) -> None:
    sdk = Sdk(Remembering(failure=error))

    async def ask() -> None:
        if streams:
            assert [event async for event in sdk.stream(HOSTED, Call.CHAT, {"stream": True})] == []
        else:
            await sdk.complete(HOSTED, Call.CHAT, {})

    with pytest.raises(ProviderFailed) as caught:
        await ask()
    assert (caught.value.cause, caught.value.of_the_request) == (cause, of_the_request)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("hosted", "price"),
    [
        pytest.param(HOSTED, (0.15, 0.6), id="listed"),
        pytest.param(
            Hosted(model="azure/small", params={}, input_per_mtok=0.0, output_per_mtok=2.0), (0.0, 2.0), id="own"
        ),
        pytest.param(Hosted(model="azure/free", params={}), None, id="listed as nothing"),
        pytest.param(Hosted(model="azure/odd", params={}), None, id="half listed"),
        pytest.param(Hosted(model="azure/unheard-of", params={}), None, id="not listed"),
    ],
)
def test_a_price_is_configured_or_listed_or_unknown(hosted: Hosted, price: tuple[float, float] | None) -> None:
    assert Sdk(Remembering()).price(hosted) == (None if price is None else pytest.approx(price))


def test_a_model_without_a_provider_cannot_be_called() -> None:
    sdk = Sdk(Remembering())
    assert sdk.unknown_provider(HOSTED) is None
    assert "knows no provider for 'small'" in str(sdk.unknown_provider(Hosted(model="small", params={})))
    assert sdk.unknown_provider(Hosted(model="small", params={"custom_llm_provider": "openai"})) is None


def test_the_chunk_with_the_usage_has_no_choices_and_others_keep_theirs() -> None:
    says_nothing = {"index": 0, "delta": {}, "provider_specific_fields": None}
    usage = {"prompt_tokens": 7}
    assert plain({"choices": [says_nothing], "usage": usage}) == {"choices": [], "usage": usage}
    ends = {"index": 0, "delta": {}, "finish_reason": "stop"}
    assert plain({"choices": [ends], "usage": usage})["choices"] == [ends]
    whole = {"index": 0, "message": {"content": "a", "provider_specific_fields": {}}, "finish_reason": "stop"}
    assert plain({"choices": [whole], "usage": usage})["choices"][0]["message"] == {"content": "a"}


def test_the_sdk_is_quiet_and_fetches_no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    sdk = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "litellm", sdk)  # type: ignore[arg-type]
    monkeypatch.setenv(LOCAL_PRICES, "set before")
    monkeypatch.delenv(LOCAL_PRICES)
    assert load() is sdk
    assert (sdk.telemetry, sdk.suppress_debug_info, os.environ[LOCAL_PRICES]) == (False, True, "True")


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCAL_PRICES, "True")
    monkeypatch.setitem(sys.modules, "litellm", None)  # type: ignore[arg-type]
    with pytest.raises(SdkMissing, match=r"pip install 'weighbridge\[litellm\]'"):
        load()
