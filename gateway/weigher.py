"""What a pool's requests weigh, from their size and from what their routes have shown."""

from collections.abc import Callable

from estimator.length import LengthModel, OutputLength
from estimator.price import Price, Weight
from estimator.tokenizer_file import load_tokenizer
from estimator.tokens import EXACT, TYPICAL, TokenRoutes
from estimator.tokens_exact import ExactSizer
from estimator.tokens_text import NO_TEXT, Sizer, typical_size
from gateway.calibration import Calibration, scaled
from gateway.openai import ParsedRequest
from gateway.settings import PoolSettings

NO_OUTPUT = OutputLength(mean=0.0, p50=0.0, p90=0.0)
LESSONS_PER_TICK = 8
"""Reports learned from in one tick of 20 ms; at 400 a second more would teach the same and cost some 5 % of a core."""

Route = tuple[object, ...]
"""Tenant, model, and last the request's shape."""


def token_count(settings: PoolSettings) -> Callable[[str], int] | None:
    """Counts the tokens of a text with the pool's tokenizer; `None` without one. Reads its file: half a second.

    Raises `ValueError` that names the pool and the file when it cannot be used.
    """
    if settings.tokenizer is None:
        return None
    try:
        return load_tokenizer(settings.tokenizer)
    except ValueError as error:
        raise ValueError(f"pools.{settings.name}.tokenizer {settings.tokenizer}: {error}") from None


class Weigher:
    """Token factors and output lengths by route, corrected by what model servers report.

    `count` tells the tokens of a text by the model's own tokenizer; without it they are estimated.
    """

    def __init__(self, price: Price, calibration: Calibration, *, count: Callable[[str], int] | None = None) -> None:
        self.sizer: Sizer = typical_size if count is None else ExactSizer(count)
        """Sizes the text of the requests to be weighed here."""
        self._price = price
        self._calibration = calibration
        self._tokens = TokenRoutes(TYPICAL if count is None else EXACT)
        self._lengths = LengthModel()
        self._lessons: list[tuple[ParsedRequest, Route, int, int]] = []

    def weigh(self, request: ParsedRequest, route: Route) -> Weight:
        """The request's weight, at the speed that the pool's replicas have shown."""
        weight = self._priced(request, route)
        ratio = self._calibration.ratio
        return weight if ratio == 1.0 else scaled(weight, ratio)

    def _priced(self, request: ParsedRequest, route: Route) -> Weight:
        input_tokens = self._input_tokens(request, route)
        if request.choices == 0:
            return self._price.weigh(input_tokens=input_tokens, output=NO_OUTPUT)
        output = self._lengths.predict(
            route, request.max_output_tokens, input_tokens=input_tokens, group=_group(request, route)
        )
        if request.choices > 1:
            many = request.choices
            # Each choice reads its own KV, so the squares add up; the input is held once.
            output = OutputLength(
                output.mean * many, output.p50 * many, output.p90 * many, mean_square=output.mean_square * many
            )
        return self._price.weigh(input_tokens=input_tokens, output=output)

    def learn(self, request: ParsedRequest, route: Route, input_tokens: int, output_tokens: int) -> None:
        """Note what a model server reported, to be studied at the next tick. Those that broke off must not come here.

        One that reached its `max_output_tokens` teaches that its output is at least that long.
        """
        if len(self._lessons) < LESSONS_PER_TICK:
            self._lessons.append((request, route, input_tokens, output_tokens))

    def study(self) -> None:
        """Correct the estimates by the reports since the last tick."""
        for request, route, input_tokens, output_tokens in self._lessons:
            if request.known_tokens == 0 and input_tokens > 0:
                self._tokens.observe(request.endpoint, route, request.size, input_tokens)
            if request.choices == 1 and output_tokens > 0:
                cap = request.max_output_tokens
                # By the estimate, not by the report: the next such request is looked up by its estimate.
                estimated = self._input_tokens(request, route)
                cut = cap is not None and output_tokens >= cap
                self._lengths.observe(
                    route, output_tokens, input_tokens=estimated, group=_group(request, route), cut=cut
                )
        self._lessons.clear()

    def _input_tokens(self, request: ParsedRequest, route: Route) -> int:
        if request.size != NO_TEXT or request.known_tokens == 0:
            return request.known_tokens + self._tokens.estimate(request.endpoint, route, request.size)
        return request.known_tokens


def _group(request: ParsedRequest, route: Route) -> tuple[object, ...]:
    """Of routes that differ in their shapes alone: system prompts that hold a date or a name are never seen twice."""
    return (request.endpoint, *route[:-1])
