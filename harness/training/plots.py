"""Draw learning curves as the notebook's figures (Parts 5-7), in PNG, SVG or PDF."""

from __future__ import annotations

import io
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from harness.tasks.contract import AnyTask
from harness.training.curves import Curves

FIRST_STEPS = 1200  # the notebook's close-up shows these first steps
Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")
BY_KIND = "per-task"  # the figure of the series of whole prompts
_LOOK: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
         "axes.titlesize": "medium", "path.simplify_threshold": 0.5}  # fmt: skip
# Colours that colour-blind readers can distinguish (Okabe and Ito). Black is for the series that sums up the others.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


def figures_of(curves: Curves) -> dict[str, tuple[str, ...]]:
    """Return the name of each figure, with the series that it shows."""
    task, series = curves.task, curves.task.series
    whole = {**dict.fromkeys([f"all-{task.nouns.tokens}"], ("loss",)),
             f"per-{task.nouns.token}": (*task.answer_tokens, "loss")}  # fmt: skip
    if not series.whole:
        return whole
    places = tuple(series.places.values())
    of_kinds = zip(series.kinds, series.whole, strict=True)
    return {
        **whole,
        BY_KIND: series.whole,
        **{kind: (*(f"{kind}.{place}" for place in places), together) for kind, together in of_kinds},
        **{place: tuple(f"{kind}.{place}" for kind in series.kinds) for place in places},
    }


def card_figures(curves: Curves) -> tuple[str, ...]:
    """Return the names of the figures that a model card shows."""
    nouns = curves.task.nouns
    shown = (f"all-{nouns.tokens}", f"per-{nouns.token}", BY_KIND)
    return tuple(name for name in shown if name in figures_of(curves))


def draw(curves: Curves, figure: str, file_format: Format) -> bytes:
    """Return a figure file: the whole run and, if the run is longer, its first 1,200 steps; linear and log scale."""
    series = figures_of(curves)[figure]
    n_steps = len(curves.values)
    spans = [n_steps] if n_steps <= FIRST_STEPS else [n_steps, FIRST_STEPS]
    with mpl.rc_context(_LOOK):
        canvas = Figure(figsize=(12, 7))
        canvas.suptitle(f"{_title(figure, curves.task)}: loss of {curves.task.title} in training")
        last = series[-1] if figure in curves.task.series.kinds else ""
        axes = canvas.subplots(2, len(spans), sharex="col", squeeze=False)
        for column, steps in enumerate(spans):
            for row, scale in enumerate(("linear", "log")):
                ax = axes[row, column]
                _lines(ax, curves, series, steps, black=("loss", last))
                ax.set_yscale(scale)
                ax.set_ylabel(f"nats per {curves.task.nouns.token}" + (" (log)" if scale == "log" else ""))
                if row == 0:
                    ax.set_title("whole run" if column == 0 else f"first {steps:,} steps")
                else:
                    ax.set_xlabel("step")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        canvas.subplots_adjust(left=0.08, right=0.85, top=0.9, bottom=0.08, hspace=0.07, wspace=0.22)
        legend = canvas.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.855, 0.91), frameon=False)
        for line in legend.get_lines():
            line.set_linewidth(2.5)
        picture = save(canvas, file_format)
    return _with_a_palette(picture) if file_format == "png" else picture


def save(figure: Figure, file_format: Format, dpi: int = 100) -> bytes:
    """Return a figure as the bytes of a file, without a date: equal figures give equal bytes."""
    buffer = io.BytesIO()
    undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[file_format]
    with mpl.rc_context({"svg.hashsalt": "harness"}):
        figure.savefig(buffer, format=file_format, dpi=dpi, metadata=undated)
    return buffer.getvalue()


def _with_a_palette(png: bytes) -> bytes:
    """Return the picture in 64 colours: a third of the size, because model cards are in version control."""
    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def _lines(ax: Axes, curves: Curves, series: tuple[str, ...], steps: int, black: tuple[str, ...]) -> None:
    for index, name in enumerate(series):
        values = curves[name][:steps]
        if bool(values.isnan().all()):
            continue  # a series that can have no case
        colour = "black" if name in black else _COLOURS[index % len(_COLOURS)]
        style = "-" if index < len(_COLOURS) else "--"
        label = _label(name, curves.task)
        ax.plot(range(steps), values.numpy(), label=label, color=colour, linestyle=style, linewidth=0.6)


def _label(name: str, task: AnyTask) -> str:
    words = {"loss": f"all {task.nouns.tokens}", **task.series.labels}
    return words.get(name, name.replace(".", ", "))


def _title(figure: str, task: AnyTask) -> str:
    token, tokens = task.nouns.token, task.nouns.tokens
    words = {f"all-{tokens}": f"All {tokens}", f"per-{token}": f"Each answer {token}", BY_KIND: "Each sub-task"}
    if figure in words:
        return words[figure]
    return f"{figure} in each {token}" if figure in task.series.kinds else f"{figure} in each sub-task"
