"""Series of weights drawn into a PNG with matplotlib (`[train]` extra), without a display."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from weighbridge.plot_series import GPUS_AT_ONCE, LEAST_TOKENS, MODELS_AT_ONCE, Series

WIDTH_PIXELS, HEIGHT_PIXELS = 1200, 800
PIXELS_PER_INCH = 110
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000")[:MODELS_AT_ONCE]
"""One per model; told apart by people who are color-blind (Okabe and Ito)."""
DASHES = ("solid", (0, (6, 2)), (0, (1, 1.4)), (0, (7, 2, 1.2, 2)))[:GPUS_AT_ONCE]
"""One per GPU."""
PARTS = {
    "prefill linear": "#9ecae1",
    "prefill attention": "#2171b5",
    "decode linear": "#fdbe85",
    "decode attention": "#d94701",
}
"""In the order of `estimator.parts.Parts`. Blue is prefill, orange decode; attention is the darker one of each."""
NAME_CHARACTERS = 40
KIBI = 1024
EDGE_RATIO = 0.9
"""A longest input above this part of a power of two leaves the axis to end at the power, with its name."""


def draw(series: Sequence[Series], path: Path, *, output_tokens: int, parts: bool = False) -> None:
    """Write a PNG of `WIDTH_PIXELS` x `HEIGHT_PIXELS`, over a file that is there.

    Above: GPU-seconds by input tokens, both on logarithmic axes. Below: the share of attention, or with `parts` the
    shares of all four parts, one panel per line. Raises `OSError` when the file cannot be written.
    """
    # A user's own matplotlibrc does not change what is legible here; a name is text, whatever `$` is in it.
    with rc_context({**rcParamsDefault, "font.size": 9.0, "text.parse_math": False}):
        figure = Figure(
            figsize=(WIDTH_PIXELS / PIXELS_PER_INCH, HEIGHT_PIXELS / PIXELS_PER_INCH),
            dpi=PIXELS_PER_INCH,
            layout="constrained",
        )
        answer = f"{output_tokens:,} output token{'' if output_tokens == 1 else 's'}"
        grid = figure.add_gridspec(2, len(series) if parts else 1, height_ratios=(3, 2))
        upper = figure.add_subplot(grid[0, :])
        _draw_weights(upper, series)
        if parts:
            upper.set_xlabel(_length_label(series))
            _draw_parts(figure, [figure.add_subplot(grid[1, column]) for column in range(len(series))], series)
        else:
            _draw_attention(figure.add_subplot(grid[1, 0], sharex=upper), series)
            upper.tick_params(labelbottom=False)
        handles, labels = upper.get_legend_handles_labels()
        # The title is the legend's: layouts keep a figure's own title and an outside legend in the same place.
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncol=2,
            handlelength=3.6,
            frameon=False,
            title=f"Weight of one request by its input tokens: nothing cached, {answer}",
            title_fontsize=12,
        )
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png")


def _draw_weights(axes: Axes, series: Sequence[Series]) -> None:
    _draw_lines(axes, series, [one.gpu_s for one in series])
    axes.set_yscale("log")
    seconds = [value for one in series for value in one.gpu_s]
    few_decades = max(seconds) < 200.0 * min(seconds)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few_decades else (1.0,)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("weight (GPU-seconds)")


def _draw_attention(axes: Axes, series: Sequence[Series]) -> None:
    _draw_lines(axes, series, [one.attention_ratios for one in series])
    _percent_axis(axes)
    axes.set_ylabel("attention (% of weight)")
    axes.set_xlabel(_length_label(series))


def _draw_lines(axes: Axes, series: Sequence[Series], values: Sequence[Sequence[float]]) -> None:
    models = list(dict.fromkeys(one.model for one in series))
    gpus = list(dict.fromkeys(one.gpu for one in series))
    most = _most_tokens(series)
    for one, heights in zip(series, values, strict=True):
        color = COLORS[models.index(one.model)]
        axes.plot(
            one.input_tokens,
            heights,
            color=color,
            linestyle=DASHES[gpus.index(one.gpu)],
            linewidth=1.8,
            label=f"{one.gpus} x {one.gpu}, {_short(one.model)}: {one.origin}",
        )
        if one.input_tokens[-1] < most:
            axes.plot(one.input_tokens[-1], heights[-1], color=color, marker="o", markersize=5)
    _length_axis(axes, most, octaves=1)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)


def _draw_parts(figure: Figure, panels: Sequence[Axes], series: Sequence[Series]) -> None:
    most = _most_tokens(series)
    for axes, one in zip(panels, series, strict=True):
        shares = [[part / sum(parts) for part in parts] for parts in one.parts]
        axes.stackplot(one.input_tokens, *zip(*shares, strict=True), colors=list(PARTS.values()), labels=list(PARTS))
        axes.set_title(f"{one.gpus} x {one.gpu}\n{_short(one.model, NAME_CHARACTERS // 2)}", fontsize=9)
        _length_axis(axes, most, octaves=2 if len(panels) < 4 else 3)
        _percent_axis(axes)
        axes.set_xlabel("input tokens")
        axes.tick_params(labelleft=axes is panels[0])
    panels[0].set_ylabel("part (% of weight)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(PARTS), frameon=False)


def _length_axis(axes: Axes, most: int, *, octaves: int) -> None:
    """A binary logarithm from the least tokens to `most`, or to the power of two just above; named every `octaves`."""
    power = 1 << (most - 1).bit_length()
    edge = power if most > EDGE_RATIO * power else most
    axes.set_xscale("log", base=2)
    axes.set_xlim(LEAST_TOKENS, edge)
    exponents = range(LEAST_TOKENS.bit_length() - 1, edge.bit_length(), octaves)
    axes.xaxis.set_major_locator(FixedLocator([2.0**exponent for exponent in exponents]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _length(value)))


def _percent_axis(axes: Axes) -> None:
    axes.set_ylim(0.0, 1.0)
    axes.yaxis.set_major_locator(FixedLocator([0.0, 0.25, 0.5, 0.75, 1.0]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _length(tokens: float) -> str:
    return (
        f"{tokens:.0f}"
        if tokens < KIBI
        else f"{tokens / KIBI:.0f}k"
        if tokens < KIBI**2
        else f"{tokens / KIBI**2:.0f}M"
    )


def _length_label(series: Sequence[Series]) -> str:
    label = "input tokens (1k = 1,024)"
    if min(one.input_tokens[-1] for one in series) < _most_tokens(series):
        label += "; at a dot the replica's KV cache or the model's context is full"
    return label


def _most_tokens(series: Sequence[Series]) -> int:
    return max(one.input_tokens[-1] for one in series)


def _short(name: str, most: int = NAME_CHARACTERS) -> str:
    """A name, or the end of a path that is longer."""
    return name if len(name) <= most else "…" + name[1 - most :]
