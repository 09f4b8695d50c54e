"""The circuits of a layer → a picture: PNG, SVG or PDF."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness.exploring.circuits import Circuits
from harness.models.fixtures import Fixture
from harness.training.plots import Format, save

# Inches.
WIDTH, LEFT, RIGHT, HEAD, FOOT, NAME = 11, 0.45, 0.75, 0.6, 0.45, 0.3
ROW = 0.12  # height of a token's row
DPI = 120
COLOURS, CLIPPED = "RdBu_r", 99.5  # percentile of the absolute values that ends the colour scale
CAPTION = (
    "Columns: the neurons of the layer's MLP, by the token whose logit they raise most (below: how many). "
    "Rows: tokens. The heads share a colour scale."
)


def circuit_figure(fixture: Fixture, circuits: Circuits) -> Figure:
    """Return one figure of a layer: a heat map of each head's token-to-neuron product, and of neuron-to-logit."""
    neurons, logits = circuits.neurons.cpu().numpy(), circuits.logits.cpu().numpy().T
    order = by_token(logits)
    names, layer = fixture.task.vocabulary, circuits.layer
    side = ROW * len(names)
    height = HEAD + (len(neurons) + 1) * (NAME + side) + FOOT
    page = Figure(figsize=(WIDTH, height))
    title = f"Circuits of layer {layer} of {fixture.name}"
    page.text(0.15 / WIDTH, 1 - 0.22 / height, title, fontsize=11, weight="bold", va="center")
    page.text(0.15 / WIDTH, 1 - 0.47 / height, CAPTION, fontsize=7.5, va="center")
    rows = [(f"L{layer}H{head}: W_E·W_V·W_O·W_in", matrix, neurons) for head, matrix in enumerate(neurons)]
    rows += [(f"L{layer}M: (W_out·W_U)ᵀ", logits, logits)]
    for place, (name, matrix, alike) in enumerate(rows):
        low = height - HEAD - (place + 1) * (NAME + side)
        ax = page.add_axes((LEFT / WIDTH, low / height, (WIDTH - LEFT - RIGHT) / WIDTH, side / height))
        most = float(np.percentile(np.abs(alike), CLIPPED)) or 1.0
        scale = CenteredNorm(halfrange=most)
        ax.imshow(matrix[:, order], cmap=COLOURS, norm=scale, aspect="auto", interpolation="nearest")
        _label(ax, name, names)
        beside = page.add_axes(((WIDTH - RIGHT + 0.12) / WIDTH, low / height, 0.1 / WIDTH, side / height))
        beside.tick_params(labelsize=6.5, length=2, pad=2)
        bar = page.colorbar(ScalarMappable(scale, COLOURS), cax=beside, extend="both")
        bar.set_ticks([-most, 0, most], labels=[f"{-most:.2g}", "0", f"{most:.2g}"])
        bar.outline.set_visible(False)
        _mark(ax, logits, order, names, last=place == len(rows) - 1)
    return page


def draw_circuits(fixture: Fixture, circuits: Circuits, file_format: Format) -> bytes:
    """Return the picture file of a layer's circuits."""
    return save(circuit_figure(fixture, circuits), file_format, DPI)


def by_token(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the neurons' order, given their logits [vocab, d_mlp]: by the token they raise most, strongest first."""
    return np.lexsort((-logits.max(0), logits.argmax(0)))


def _label(ax: Axes, name: str, tokens: tuple[str, ...]) -> None:
    ax.set_title(name, fontsize=8, loc="left", pad=3)
    ax.set_yticks(range(len(tokens)), tokens)
    ax.set_xticks([])
    ax.tick_params(labelsize=6.5, length=0, pad=3)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _mark(
    ax: Axes, logits: NDArray[np.float32], order: NDArray[np.intp], names: tuple[str, ...], *, last: bool
) -> None:
    """Draw a line between the neurons of one token and the next; below the last picture, name each group's token."""
    raised = logits.argmax(0)[order]
    edges = np.concatenate(([0], np.flatnonzero(np.diff(raised)) + 1, [len(order)]))
    for left, right in pairwise(edges.tolist()):
        if left:
            ax.axvline(left - 0.5, color="black", linewidth=0.5)
        if last and right - left > len(order) / 80:  # a narrower group has no room for its name
            middle, bottom = (left + right - 1) / 2, len(names) - 0.5
            ax.annotate(f"{names[raised[left]]}\n({right - left})", (middle, bottom), (0, -3), va="top", ha="center",
                        fontsize=6.5, textcoords="offset points", annotation_clip=False)  # fmt: skip
