"""Learning curves: the loss of each training step, per answer token and per series of the task.

One row per step. Losses are means over the step's batch, in nats. The columns are::

    step  loss  right           the mean loss over all answer tokens; the share of prompts wholly right
    TOKEN …                     the loss of each answer token, under its name
    SERIES …                    the loss of each of the task's series, if it divides its losses
    SERIES.cases …              the number of cases of each series

If a series has no case in a step, it repeats its last value there, and its ``.cases`` is 0. Before its first case
it is empty. A series that can have no case stays empty.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import FixtureError, MeasurementError, Problem
from harness.tasks.contract import AnyTask

FINAL_STEPS = 5  # a final loss is a mean over this many steps


@dataclass
class Recorder:
    """Collects the results of training steps as tensors, and computes the rows of many steps at a time.

    The tensors stay on their device until then, so the training loop never waits for a number.
    """

    task: AnyTask
    rows: list[Float[Tensor, "step column"]] = field(default_factory=list)
    _pending: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def record(
        self,
        tokens: Int[Tensor, "prompt pos"],
        losses: Float[Tensor, "prompt answer"],
        right: Float[Tensor, " prompt"],
    ) -> None:
        """Store one step: its questions (on the CPU), the loss of each token, and whether all tokens were right."""
        if self._pending and len(self._pending[0][0]) != len(tokens):  # only steps of equal size can be stacked
            self.flush()
        self._pending.append((tokens, losses.detach(), right))

    def flush(self) -> Float[Tensor, "step column"]:
        """Compute, keep and return the rows of the steps since the last flush.

        Raises:
            MeasurementError: a loss is not finite.
        """
        if not self._pending:
            return torch.empty(0, len(self.task.curve_columns), dtype=torch.float64)
        tokens, losses, right = (torch.stack(column) for column in zip(*self._pending, strict=True))
        self._pending.clear()
        before = self.rows[-1][-1] if self.rows else None
        found = rows_of(tokens, losses.cpu().double(), right.cpu().double(), self.task, before)
        self.rows.append(found)
        return found

    def table(self) -> Float[Tensor, "step column"]:
        """Return all rows so far."""
        self.flush()
        empty = torch.empty(0, len(self.task.curve_columns), dtype=torch.float64)
        return torch.cat([empty, *self.rows])


def rows_of(
    tokens: Int[Tensor, "step prompt pos"],
    losses: Float[Tensor, "step prompt answer"],
    right: Float[Tensor, "step prompt"],
    task: AnyTask,
    before: Float[Tensor, " column"] | None = None,
) -> Float[Tensor, "step column"]:
    """Return the rows of some steps. `before` is the row before them; a series without a case repeats its value.

    Raises:
        MeasurementError: a loss is not finite, or the task divides it wrongly.
    """
    if not bool(torch.isfinite(losses).all()):
        raise MeasurementError(Problem("finite losses", "nan or infinity", "lower the learning rate"))
    per_token = losses.mean(1)
    own = [per_token.mean(1, keepdim=True), right.mean(1, keepdim=True), per_token]
    series, cases = _by_series(tokens, losses, task, before)
    return torch.cat([*own, series, cases], dim=1)


def _by_series(
    tokens: Tensor, losses: Tensor, task: AnyTask, before: Tensor | None
) -> tuple[Float[Tensor, "step series"], Float[Tensor, "step series"]]:
    """Return each series' mean loss (its last value if it has no case), and its number of cases."""
    if not task.series.names:
        return losses.new_empty(len(losses), 0), losses.new_empty(len(losses), 0)
    series, cases = task.divided(tokens, losses)
    held = torch.full_like(series[0], torch.nan) if before is None else before[2 + task.n_answer :][: series.shape[1]]
    for row in series:
        torch.where(row.isnan(), held, row, out=row)
        held = row
    return series, cases


@dataclass(frozen=True)
class Curves:
    """The learning curves of a training run."""

    task: AnyTask
    values: Float[Tensor, "step column"]

    def __getitem__(self, name: str) -> Float[Tensor, " step"]:
        """Return the column called `name`."""
        return self.values[:, self.task.curve_columns.index(name)]

    def final(self, name: str) -> float:
        """Return the mean of the last five steps, in nats per token; nan if there was never a case."""
        return float(self[name][-FINAL_STEPS:].nanmean())

    def cases(self, kind: str) -> int:
        """Return the number of answer tokens of this kind in the whole run."""
        return sum(int(self[f"{kind}.{place}.cases"].sum()) for place in self.task.series.places.values())


def final_losses(curves: Curves) -> list[dict[str, str]]:
    """Return a table of final losses. Rows: all answer tokens together, then each. Columns: overall, then each kind.

    In the row of all tokens, the kinds are those of whole prompts.
    """

    def shown(name: str) -> str:
        value = curves.final(name)
        return "" if value != value else f"{value:.2g}"  # noqa: PLR0124 - nan

    task, series = curves.task, curves.task.series
    noun = task.nouns.token
    whole = dict(zip(series.kinds, series.whole, strict=True))
    rows = [{noun: "all", "loss": shown("loss")} | {kind: shown(name) for kind, name in whole.items()}]
    for token in task.answer_tokens:
        place = series.places.get(token)
        by_kind = {kind: shown(f"{kind}.{place}") for kind in series.kinds} if place else {}
        rows.append({noun: token, "loss": shown(token)} | by_kind)
    return rows


def task_shares(curves: Curves) -> str:
    """Return a sentence that says how often each kind came up in training; empty if the task has none."""
    kinds = curves.task.series.kinds
    if not kinds:
        return ""
    cases = {kind: curves.cases(kind) for kind in kinds}
    total = max(1, sum(cases.values()))
    shares = ", ".join(f"{n:,} {kind} ({n / total:.1%})" for kind, n in cases.items())
    return f"Of {total:,} {curves.task.nouns.tokens}, each in one sub-task: {shares}."


def to_csv_gz(curves: Curves) -> bytes:
    """Return the curves as gzipped CSV with five significant digits; equal curves give equal bytes."""
    names = curves.task.curve_columns
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *names])
    counts = [name.endswith(".cases") for name in names]
    for step, row in enumerate(curves.values.tolist()):
        shown = (
            str(int(value)) if count else "" if value != value else f"{value:.5g}"  # noqa: PLR0124 - nan
            for value, count in zip(row, counts, strict=True)
        )
        writer.writerow([step, *shown])
    return gzip.compress(text.getvalue().encode(), mtime=0)


def read_curves(path: Path, task: AnyTask) -> Curves:
    """Return the curves in a ``training.csv.gz``.

    Raises:
        FixtureError: there is no such file, or its content does not fit this task.
    """
    try:
        rows = list(csv.reader(gzip.decompress(path.read_bytes()).decode().splitlines()))
        heads = ["step", *task.curve_columns]
        if not rows or rows[0] != heads or any(len(row) != len(heads) for row in rows):
            raise ValueError("other columns")
        if not all(math.isfinite(float(cell)) for row in rows[1:] for cell in row if cell):
            raise ValueError("a loss that is not finite")
        values = [[float(cell or "nan") for cell in row[1:]] for row in rows[1:]]
        return Curves(task, torch.tensor(values, dtype=torch.float64).reshape(len(values), len(heads) - 1))
    except FileNotFoundError:
        fix = "only `harness train` records some"
        raise FixtureError(Problem("learning curves", "no such file", fix, str(path))) from None
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise FixtureError(
            Problem("learning curves as `harness train` writes them", str(error), "restore them", str(path))
        ) from None
