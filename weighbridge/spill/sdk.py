"""LiteLLM's SDK behind a narrow face. The only module that loads it, and only when a process asks for it."""

import importlib
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.spill.arguments import Call

EXTRA = "pip install 'weighbridge[litellm]'"
LOCAL_PRICES = "LITELLM_LOCAL_MODEL_COST_MAP"
"""With it set the SDK takes its price list from its package instead of from the network."""
PER_MTOK = 1e6
OURS_TO_GUESS = frozenset({"provider_specific_fields"})
"""What the SDK adds to answers beside the fields of the OpenAI API."""
_OF_THE_REQUEST = frozenset({400, 413, 422})


class SdkMissing(Exception):
    """LiteLLM cannot be imported. The message says what to install."""


class ProviderFailed(Exception):
    """A hosted model did not answer. `of_the_request`: it would not on another try; another request may fare better."""

    def __init__(self, cause: str, *, of_the_request: bool) -> None:
        super().__init__(cause)
        self.cause = cause
        self.of_the_request = of_the_request


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """One pool's hosted model: its name for the SDK, and what the SDK is given with every call."""

    model: str
    params: Mapping[str, Any] = field(repr=False)
    input_per_mtok: float | None = None
    output_per_mtok: float | None = None


def load() -> Any:
    """The SDK, told to be quiet and to fetch nothing. Takes seconds. Raises `SdkMissing`."""
    os.environ.setdefault(LOCAL_PRICES, "True")  # noqa: TID251 (read while the SDK is imported)
    try:
        sdk: Any = importlib.import_module("litellm")
    except ImportError as error:
        raise SdkMissing(f"LiteLLM cannot be imported ({error}): {EXTRA}") from error
    sdk.suppress_debug_info = True
    sdk.telemetry = False
    return sdk


class Sdk:
    """Calls hosted models. Failures of any provider come out as `ProviderFailed`."""

    def __init__(self, sdk: Any) -> None:
        self._sdk = sdk

    def price(self, hosted: Hosted) -> tuple[float, float] | None:
        """Money per million tokens of input and of output: as configured, else as the SDK lists it; `None`: unknown."""
        if hosted.input_per_mtok is not None and hosted.output_per_mtok is not None:
            return hosted.input_per_mtok, hosted.output_per_mtok
        try:
            listed = self._sdk.get_model_info(hosted.model)
            prices = listed["input_cost_per_token"] * PER_MTOK, listed["output_cost_per_token"] * PER_MTOK
        except Exception:  # any type, by provider; what cannot be looked up is unknown
            return None
        return prices if all(price > 0.0 for price in prices) else None

    def unknown_provider(self, hosted: Hosted) -> str | None:
        """Why the SDK cannot call this model at all, if so."""
        try:
            self._sdk.get_llm_provider(
                hosted.model,
                custom_llm_provider=hosted.params.get("custom_llm_provider"),
                api_base=hosted.params.get("api_base"),
            )
        except Exception:  # its own type of error cannot be named before it is loaded
            return f"LiteLLM knows no provider for {hosted.model!r}; it begins with one, as in azure/gpt-4o-mini"
        return None

    async def complete(self, hosted: Hosted, call: Call, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The whole answer. Raises `ProviderFailed`."""
        answer = await self._call(hosted, call, arguments)
        return plain(answer.model_dump(exclude_none=True))

    async def stream(self, hosted: Hosted, call: Call, arguments: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The answer event by event. Raises `ProviderFailed`, also in the middle."""
        chunks = await self._call(hosted, call, arguments)
        try:
            async for chunk in chunks:
                yield plain(chunk.model_dump(exclude_none=True))
        except Exception as error:  # providers and their clients raise what they like
            raise _failed(error) from error

    async def _call(self, hosted: Hosted, call: Call, arguments: Mapping[str, Any]) -> Any:
        function = self._sdk.acompletion if call is Call.CHAT else self._sdk.atext_completion
        # The queue is what happens after a failure: the SDK shall not try again behind its back.
        given = {"max_retries": 0, "num_retries": 0, **hosted.params, **arguments, "model": hosted.model}
        try:
            return await function(**given)
        except Exception as error:  # providers and their clients raise what they like
            raise _failed(error) from error


def _failed(error: Exception) -> ProviderFailed:
    """By type and status only: messages of providers quote keys and prompts."""
    status = getattr(error, "status_code", None)
    cause = type(error).__name__ + (f" ({status})" if isinstance(status, int) else "")
    return ProviderFailed(cause, of_the_request=status in _OF_THE_REQUEST)


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer, or a chunk of one, as the OpenAI API has it: the chunk with the usage has no choices."""
    answer = {name: value for name, value in answer.items() if name not in OURS_TO_GUESS}
    choices = answer.get("choices")
    if isinstance(choices, list):
        answer["choices"] = choices = [_choice(choice) for choice in choices if isinstance(choice, dict)]
        if "usage" in answer and all(_says_nothing(choice) for choice in choices):
            answer["choices"] = []
    return answer


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in choice.items() if name not in OURS_TO_GUESS}
    for name in ("message", "delta"):
        if isinstance(kept.get(name), dict):
            kept[name] = {key: value for key, value in kept[name].items() if key not in OURS_TO_GUESS}
    kept.setdefault("finish_reason", None)
    return kept


def _says_nothing(choice: dict[str, Any]) -> bool:
    return choice.get("delta") == {} and choice.get("finish_reason") is None
