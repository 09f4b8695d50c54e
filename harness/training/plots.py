"""Draw learning curves as the notebook's figures (Parts 5-7), in PNG, SVG or PDF."""

from __future__ import annotations

import io
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from harness.tasks.addition.curve_names import TASKS
from harness.training.curves import Curves

FIRST_STEPS = 1200  # the notebook's close-up shows these first steps
Format = Literal["png", "svg", "pdf"]
FORMATS: tuple[Format, ...] = ("png", "svg", "pdf")
CARD_FIGURES = ("all-digits", "per-digit", "per-task")
_LOOK: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
         "axes.titlesize": "medium", "path.simplify_threshold": 0.5}  # fmt: skip
# Colours that colour-blind readers can distinguish (Okabe and Ito). Black is for the series that sums up the others.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


def figures_of(curves: Curves) -> dict[str, tuple[str, ...]]:
    """Return the name of each figure, with the series that it shows."""
    columns = curves.layout.columns
    whole = {"all-digits": ("loss",), "per-digit": (*curves.layout.answer_digits, "loss")}
    if not columns:
        return whole
    return {
        **whole,
        "per-task": ("BA.all", "UC1.any", "US9.any"),
        **{
            task: (*(f"{task}.{column}" for column in columns), "BA.all" if task == "BA" else f"{task}.any")
            for task in TASKS
        },
        **{column: tuple(f"{task}.{column}" for task in TASKS) for column in columns},
    }


def draw(curves: Curves, figure: str, file_format: Format) -> bytes:
    """Return a figure file: the whole run and, if the run is longer, its first 1,200 steps; linear and log scale."""
    series = figures_of(curves)[figure]
    n_steps = len(curves.values)
    spans = [n_steps] if n_steps <= FIRST_STEPS else [n_steps, FIRST_STEPS]
    with mpl.rc_context(_LOOK):
        canvas = Figure(figsize=(12, 7))
        canvas.suptitle(f"{_title(figure)}: loss of {curves.layout.title} in training")
        axes = canvas.subplots(2, len(spans), sharex="col", squeeze=False)
        for column, steps in enumerate(spans):
            for row, scale in enumerate(("linear", "log")):
                ax = axes[row, column]
                _lines(ax, curves, series, steps, black=("loss", series[-1] if figure in TASKS else ""))
                ax.set_yscale(scale)
                ax.set_ylabel("nats per digit" + (" (log)" if scale == "log" else ""))
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
            continue  # no carry runs into D0: it has no UC1 and no US9
        colour = "black" if name in black else _COLOURS[index % len(_COLOURS)]
        style = "-" if index < len(_COLOURS) else "--"
        ax.plot(range(steps), values.numpy(), label=_label(name), color=colour, linestyle=style, linewidth=0.6)


def _label(name: str) -> str:
    words = {"loss": "all digits", "BA.all": "BA, all digits", "UC1.any": "UC1, any digit", "US9.any": "US9, any digit"}
    return words.get(name, name.replace(".", ", "))


def _title(figure: str) -> str:
    words = {"all-digits": "All digits", "per-digit": "Each answer digit", "per-task": "Each sub-task"}
    if figure in words:
        return words[figure]
    return f"{figure} in each digit" if figure in TASKS else f"{figure} in each sub-task"
