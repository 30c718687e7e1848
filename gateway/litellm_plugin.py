"""What LiteLLM loads: `litellm_settings.callbacks: ["gateway.litellm_plugin.handler"]`.

The only file that knows LiteLLM's classes. It translates hooks, and decides nothing. Argument names are LiteLLM's: it
calls by keyword.
"""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger
from prometheus_client import REGISTRY

from gateway.metrics import Live
from gateway.outcome import HTTP, Refusal, error_object
from gateway.plugin.answer import usage_of
from gateway.plugin.front import Front
from weighbridge.litellm_plugin import front_of_process


def _exception(refusal: Refusal) -> HTTPException:
    """With what LiteLLM's retries look at: a request that was refused is not asked for again.

    Its headers come from `async_post_call_response_headers_hook`, as those of answers do.
    """
    exception = HTTPException(HTTP[refusal.outcome].status, error_object(refusal))
    exception.num_retries = 0
    return exception


class Handler(CustomLogger):  # type: ignore[misc]
    """LiteLLM's hooks."""

    def __init__(self, front: Front) -> None:
        super().__init__()
        self._front = front

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: list[Any] | None,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: object = None,
    ) -> list[dict[str, Any]]:
        """Waits until the scheduler has a replica for the call, and returns it."""
        try:
            return list(await self._front.place(model, healthy_deployments, messages, request_kwargs or {}))
        except Refusal as refusal:
            raise _exception(refusal) from None

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: object) -> dict[str, Any] | None:
        """LiteLLM drops vLLM's `priority` from the body: it goes in again."""
        asked = ((kwargs.get("proxy_server_request") or {}).get("body") or {}).get("priority")
        if type(asked) is not int or not self._front.weighed(_call_id(kwargs)):
            return None
        return {**kwargs, "extra_body": {**(kwargs.get("extra_body") or {}), "priority": asked}}

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: object, call_type: object
    ) -> None:
        """An attempt has its answer."""
        self._front.answered(_call_id(request_data), response)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: dict[str, Any],
        exception: Exception,
        call_type: object,
        fallback_depth: int | None = None,
    ) -> None:
        """An attempt has failed; LiteLLM may make another."""
        self._front.failed(_call_id(request_data), exception)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: object, response: AsyncIterator[Any], request_data: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Every item of a stream passes here."""
        async for item in self._front.relay(_call_id(request_data), response):
            yield item

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: object,
        response: object,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, object] | None = None,
    ) -> dict[str, str] | None:
        """The gateway's response headers."""
        return self._front.headers(_call_id(data)) or None

    async def async_logging_hook(
        self, kwargs: dict[str, Any], result: object, call_type: str
    ) -> tuple[dict[str, Any], object]:
        """LiteLLM's logs show the price in GPU-seconds, where a self-hosted model has cost nothing."""
        record = kwargs.get("standard_logging_object") or {}
        money, fields = self._front.priced(_call_id(kwargs), usage_of(result))
        if money is not None:
            kwargs["response_cost"] = record["response_cost"] = money
        if fields:
            for holder in (record, kwargs.get("litellm_params") or {}):
                metadata = holder.get("metadata")
                if isinstance(metadata, dict):
                    metadata["spend_logs_metadata"] = {
                        **(metadata.get("spend_logs_metadata") or {}),
                        "weighbridge": fields,
                    }
        return kwargs, result


def _call_id(data: dict[str, Any]) -> str:
    return str(data.get("litellm_call_id") or "")


def _load() -> Handler:
    """What the gateway measures is served where LiteLLM serves its own metrics."""
    front = front_of_process()
    REGISTRY.register(Live(front.snapshot))
    return Handler(front)


handler = _load()
