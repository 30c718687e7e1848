"""The scheduler behind LiteLLM's hooks: what each hook means for a call. It knows no class of LiteLLM.

A call is weighed, queued and placed where LiteLLM asks which deployment to use, and LiteLLM sends it. That it has ended
is known from the task in which LiteLLM makes its attempts; for a stream from whoever reads it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog

from gateway.outcome import HTTP, Fault, Refusal
from gateway.plugin import told
from gateway.plugin.answer import read_item, usage_of
from gateway.plugin.body import kind_of, read_call
from gateway.plugin.calls import Calls
from gateway.plugin.deployment import Deployment, deployment_of, is_ours
from gateway.plugin.failure import failure_of
from gateway.plugin.payer import Payers, priority
from gateway.plugin.visit import Visit
from gateway.pool import Pool
from gateway.scheduler import Scheduler
from gateway.settings import GatewaySettings
from gateway.snapshot import WorkerState
from gateway.usage import Usage

_log = structlog.get_logger()
FORGET_S = 10.0


class Front:
    """One LiteLLM worker's scheduler and its calls. It starts with the first call, on the loop that runs then."""

    def __init__(
        self, settings: GatewaySettings, *, clock: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        self.calls = Calls()
        self._settings = settings
        self._clock = clock
        self._wall_clock = wall_clock
        self._payers = Payers(settings.tenants)
        self._templates: dict[str, Deployment] = {}
        self._scheduler: Scheduler | None = None
        self._forgot_at_s = 0.0

    def start(self) -> Scheduler:
        """The scheduler, running. Call it on the event loop that serves."""
        if self._scheduler is None:
            self._scheduler = Scheduler(
                self._settings,
                number=0,
                clock=self._clock,
                wall_clock=self._wall_clock,
                check_time=self._check_time,
            )
            self._scheduler.start()
            pools = [pool.settings.name for pool in self._scheduler.context.pools]
            _log.info("litellm plugin ready", worker=self._scheduler.worker, pools=pools)
        return self._scheduler

    def snapshot(self) -> WorkerState | None:
        """This worker's state for metrics; `None` before its first call."""
        return None if self._scheduler is None else self._scheduler.snapshot()

    async def stop(self) -> None:
        """End the scheduler, book what was used, and withdraw from Redis."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            await scheduler.stop()
            await scheduler.leave()

    # Which deployment

    async def place(
        self, model: str, offered: Sequence[Deployment], messages: object, call: Mapping[str, Any]
    ) -> Sequence[Deployment]:
        """The deployments that LiteLLM may use: one, or those offered where the model is not ours.

        Waits for room. Raises `Refusal`. `call` is what LiteLLM calls `request_kwargs`.
        """
        context = self.start().context
        pool = context.find_pool(model)
        request = call.get("proxy_server_request") or {}
        url = request.get("url")
        kind = kind_of(urlsplit(str(url)).path if url else None, messages=messages is not None)
        if pool is None or kind is None:
            return offered
        visit = self._visit(pool, kind, model, messages, call)
        ours = next((deployment for deployment in offered if is_ours(deployment)), None)
        if ours is not None:
            self._templates[model] = ours
        try:
            replica = await visit.place()
        except Refusal as refusal:
            hosted = [deployment for deployment in offered if not is_ours(deployment)]
            if hosted and HTTP[refusal.outcome].fault is Fault.CAPACITY:
                return hosted
            raise
        served = context.served(model).name
        return [deployment_of(replica, pool.settings, model, offered, self._templates.get(model), served=served)]

    def _visit(self, pool: Pool, kind: str, model: str, messages: object, call: Mapping[str, Any]) -> Visit:
        """A call's visit to a model group: the one of its attempt before, or its first."""
        context, task = self.start().context, asyncio.current_task()
        number = context.next_number()
        call_id = str(call.get("litellm_call_id") or f"call-{number:x}")
        known = self.calls.find(call_id, model, task)
        if known is not None:
            # LiteLLM asks again only after a failure, also where no hook has told of one.
            if known.flight is not None:
                known.attempt_failed(failure_of(RuntimeError()))
            return known
        request = call.get("proxy_server_request") or {}
        metadata = {**(call.get("litellm_metadata") or {}), **(call.get("metadata") or {})}
        body = request.get("body") or call
        if messages is not None and kind != "/completions":
            # What guardrails and hooks have made of it. Completions have none: LiteLLM makes one of the prompt.
            body = {**body, "messages": messages}
        payer = self._payers.payer_of(metadata)
        visit = Visit(
            context,
            pool=pool,
            parsed=read_call(kind, model, body, context.sizer_of, streams=call.get("stream") is True),
            payer=payer,
            priority=priority(metadata, request.get("headers") or {}, payer),
            call_id=call_id,
            model=model,
            arrived_at_s=self._clock(),
            salt=number,
            task=task,
        )
        self.calls.add(call_id, visit)
        for other in self.calls.others(call_id, visit):
            other.given_up()
        if task is not None:
            task.add_done_callback(lambda ended: self._task_ended(call_id, ended))
        return visit

    # How it ended

    def _task_ended(self, call_id: str, task: "asyncio.Task[Any]") -> None:
        """LiteLLM makes no further attempt: it has an answer, a stream, or nothing, or its client has left."""
        for visit in self.calls.made_in(call_id, task):
            visit.task = None  # it holds the answer
            if visit.settled:
                continue
            if task.cancelled():
                visit.client_gone()
                continue
            error = task.exception()
            if error is not None and visit.flight is not None:
                visit.attempt_failed(failure_of(error))
            if error is not None or visit.flight is None:
                visit.given_up()
            elif hasattr(task.result(), "__aiter__"):
                self.calls.hand_over(visit, self._clock())
            else:
                visit.served(usage_of(task.result()))

    def answered(self, call_id: str, response: object) -> None:
        """An attempt has brought a response, or a stream that has begun."""
        visit = self.calls.flying(call_id, asyncio.current_task())
        if visit is not None and not hasattr(response, "__aiter__"):
            visit.served(usage_of(response))

    def failed(self, call_id: str, error: BaseException) -> None:
        """An attempt has failed."""
        visit = self.calls.flying(call_id, asyncio.current_task())
        if visit is None:
            return
        if visit.first_token_at_s is not None:
            visit.broke()
        else:
            visit.attempt_failed(failure_of(error))

    async def relay(self, call_id: str, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Hand on a stream item by item, and note its first token, its usage and its end."""
        visit = self.calls.flying(call_id)
        if visit is not None:
            self.calls.taken_over(visit)
        whole = False
        try:
            async for item in stream:
                if visit is None or visit.settled:
                    # In the middle of a stream LiteLLM may have gone on with another deployment.
                    visit = self.calls.flying(call_id)
                if visit is not None:
                    output, usage = read_item(item)
                    visit.read(output=output, usage=usage)
                yield item
            whole = True
        except Exception:
            if visit is not None:
                visit.broke()
            raise
        finally:
            if visit is not None and not visit.settled:
                if whole:
                    visit.served(None)
                else:
                    visit.client_gone()
            close = getattr(stream, "aclose", None)
            if not whole and close is not None:
                await close()

    # What is told of it

    def headers(self, call_id: str) -> dict[str, str]:
        """Response headers of a call that was weighed."""
        visit = self.calls.last(call_id)
        return {} if visit is None else told.headers(visit)

    def priced(self, call_id: str, usage: Usage | None) -> tuple[float | None, dict[str, Any]]:
        """Money of a call that a replica answered, and fields for the spend log; `(None, {})` for any other."""
        visit = self.calls.last(call_id)
        if visit is None:
            return None, {}
        if usage is None or visit.replica is None or visit.failure is not None:
            return None, told.spend(visit, None)
        gpu_s, money = told.price(visit, usage)
        return money, told.spend(visit, gpu_s)

    def weighed(self, call_id: str) -> bool:
        """Whether a call is known here."""
        return self.calls.last(call_id) is not None

    def _check_time(self, now_s: float) -> None:
        for visit in self.calls.abandoned(now_s):
            visit.client_gone()
        if now_s - self._forgot_at_s >= FORGET_S:
            self._forgot_at_s = now_s
            self.calls.forget(now_s)
