"""Attention patterns → pictures: PNG, SVG or PDF, a grid of layers × heads for each question."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from harness.base.errors import HarnessError
from harness.exploring.attention import AttentionMap
from harness.models.fixtures import Fixture
from harness.specs.nodes import Node, reach
from harness.training.plots import Format, save

# Inches. A step's row is as high as its label, so a longer question makes a larger picture.
ROW, LEAST = 0.135, 1.5  # height of a step's row; smallest side of a pattern
LEFT, RIGHT, GAP = 0.85, 0.5, 0.12  # margins left and right of a row of patterns; gap between patterns
LEAST_WIDTH = 6.2  # of the page: its title and the colour scale are side by side
# Heights: page header; title of a question; head names of a layer; gap between layers; space below a question.
HEAD, TITLE, NAMES, BETWEEN, FOOT = 0.7, 0.36, 0.2, 0.1, 0.6
DPI = 120
MOST_PIXELS = 32_000  # largest height of a picture: viewers refuse more
COLOURS = "BuPu"  # light means little, dark means much; also in grey, and for colour-blind readers
ANSWER, UNREAD, LINE = "#D55E00", "#AAAAAA", "#E4E4E4"
CAPTION = (
    "A row is the step that looks, a column the step that it looks at; each row sums to 1. "
    "Orange: a step that predicts an answer {token}. Grey: a step where nothing reads what the layer's heads add."
)


def attention_figure(fixture: Fixture, maps: Sequence[AttentionMap]) -> Figure:
    """Return one figure with all `maps`, one below the other; all share one colour scale, 0 to 1.

    Raises:
        HarnessError: there are no maps, or more than one picture can hold.
    """
    if not maps:
        raise HarnessError.of("at least 1 question in a picture", "0", "ask one")
    most = max(1, int((MOST_PIXELS / DPI - HEAD) / _height(maps)))
    if len(maps) > most:
        fix = "ask for the mean over them, or make several pictures"
        raise HarnessError.of(f"1 to {most} questions in a picture", str(len(maps)), fix)
    side, shape = _side(maps), fixture.shape
    width = max(LEAST_WIDTH, LEFT + shape.n_heads * (side + GAP) - GAP + RIGHT)
    height = HEAD + len(maps) * _height(maps)
    page = Figure(figsize=(width, height))
    _header(page, fixture)
    top = height - HEAD
    for shown in maps:
        page.text(LEFT / width, (top - 0.22) / height, shown.title, fontsize=9, weight="bold", va="center")
        top -= TITLE
        for layer in range(len(shown.layers)):
            top -= NAMES + side
            for head in range(shape.n_heads):
                left = LEFT + head * (side + GAP)
                ax = page.add_axes((left / width, top / height, side / width, side / height))
                _draw(ax, shown, fixture, layer, head)
            top -= BETWEEN
        top -= FOOT - BETWEEN
    return page


def draw_attention(fixture: Fixture, maps: Sequence[AttentionMap], file_format: Format) -> bytes:
    """Return the picture file of `maps`; a PDF has one page per map.

    Raises:
        HarnessError: there are no maps, or more than one picture can hold.
    """
    if file_format != "pdf" or len(maps) < 2:
        return save(attention_figure(fixture, maps), file_format, DPI)
    buffer = io.BytesIO()
    with PdfPages(buffer, metadata={"CreationDate": None}) as pages:
        for shown in maps:
            pages.savefig(attention_figure(fixture, [shown]))
    return buffer.getvalue()


def _side(maps: Sequence[AttentionMap]) -> float:
    """Return the side length of a pattern, in inches."""
    return max(LEAST, ROW * max(len(shown.labels) for shown in maps))


def _height(maps: Sequence[AttentionMap]) -> float:
    """Return the height of a question's grid, in inches."""
    return TITLE + len(maps[0].layers) * (NAMES + _side(maps) + BETWEEN) + FOOT - BETWEEN


def _header(page: Figure, fixture: Fixture) -> None:
    """Write the title and caption of the page, and draw its colour scale."""
    width, height = page.get_size_inches()
    title = f"Attention patterns of {fixture.name}"
    page.text(0.15 / width, 1 - 0.2 / height, title, fontsize=11, weight="bold", va="center")
    lines = textwrap.fill(CAPTION.format(token=fixture.task.nouns.token), int((width - 0.3) * 17.5))
    page.text(0.15 / width, 1 - 0.38 / height, lines, fontsize=7, va="top", linespacing=1.3)
    ax = page.add_axes(((width - 1.95) / width, 1 - 0.18 / height, 1.7 / width, 0.08 / height), label="scale")
    scale = page.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), cax=ax, orientation="horizontal")
    scale.set_ticks([0, 0.5, 1], labels=["0", "0.5", "1"])
    scale.outline.set_visible(False)
    ax.tick_params(length=0, pad=1, labelsize=6.5)


def _draw(ax: Axes, shown: AttentionMap, fixture: Fixture, place: int, head: int) -> None:
    """Draw a head's pattern in the layer that comes `place`th: query steps run down, key steps run to the right.

    Future key steps stay blank.
    """
    layer = shown.layers[place]
    shape, steps, predicting = fixture.shape, len(shown.labels), shown.predicting.values()
    values = np.ma.masked_array(shown.pattern[place, head].numpy(), mask=np.triu(np.ones((steps, steps), bool), 1))
    ax.pcolormesh(values, cmap=COLOURS, vmin=0, vmax=1, edgecolors=LINE, linewidth=0.4)
    ax.set(xlim=(0, steps), ylim=(steps, 0), aspect="equal")
    ax.set_title(f"L{layer}H{head}", fontsize=8, pad=3)
    for spine in ax.spines.values():
        spine.set_color(LINE)
    for edge in (min(predicting), max(predicting) + 1):  # the rows between the two lines predict the answer
        ax.axhline(edge, color=ANSWER, linewidth=0.7)
    centres = np.arange(steps) + 0.5
    ax.tick_params(length=0, pad=2, labelsize=6.5)
    below, beside = place == len(shown.layers) - 1, head == 0
    ax.set_xticks(centres, shown.labels if below else [], rotation=90)
    ax.set_yticks(centres, [f"{label}  S{step}" for step, label in enumerate(shown.labels)] if beside else [])
    for step, label in enumerate(ax.get_yticklabels() if beside else []):
        read = reach([Node(step, layer, "head", head)], shape)
        label.set_color(ANSWER if step in predicting else "black" if read else UNREAD)
    if head == shape.n_heads - 1:
        for token, step in shown.predicting.items():
            ax.annotate(f"→ {token}", (steps, step + 0.5), (3, 0), textcoords="offset points", color=ANSWER,
                        fontsize=6.5, va="center", annotation_clip=False)  # fmt: skip
