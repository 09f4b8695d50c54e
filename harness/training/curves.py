"""Learning curves: the loss of each training step, per answer digit and per sub-task (notebook, Parts 3 and 5-7).

One row per step. Losses are means over the step's batch, in nats. With five digits the columns are::

    step  loss  right                  the mean loss over all digits; the share of questions wholly right
    A5 … A0                            loss per answer digit
    BA.all  UC1.any  US9.any           loss by kind of question: no carry used; carry used but no US9; some US9
    BA.D4 … BA.D0  UC1.D4 …  US9.D4 …  loss per digit and sub-task; each digit of a question is in exactly one
    BA.all.cases … US9.D0.cases        the number of cases

If a series has no case in a step, it repeats its last value there, and its ``.cases`` is 0. Before its first case
it is empty. A series that can have no case (no carry runs into D0) stays empty.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.base.errors import FixtureError, MeasurementError, Problem
from harness.tasks.addition.arithmetic import label
from harness.tasks.addition.curve_names import TASKS, column_names, series_names
from harness.tasks.addition.layout import Layout
from harness.tasks.positions import Positions

FINAL_STEPS = 5  # a final loss is a mean over this many steps


@dataclass
class Recorder:
    """Collects the results of training steps as tensors, and computes the rows of many steps at a time.

    The tensors stay on their device until then, so the training loop never waits for a number.
    """

    layout: Positions
    rows: list[Float[Tensor, "step column"]] = field(default_factory=list)
    _pending: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def record(
        self,
        tokens: Int[Tensor, "question pos"],
        losses: Float[Tensor, "question digit"],
        right: Float[Tensor, " question"],
    ) -> None:
        """Store one step: its questions (on the CPU), the loss of each digit, and whether all digits were right."""
        if self._pending and len(self._pending[0][0]) != len(tokens):  # only steps of equal size can be stacked
            self.flush()
        self._pending.append((tokens, losses.detach(), right))

    def flush(self) -> Float[Tensor, "step column"]:
        """Compute, keep and return the rows of the steps since the last flush.

        Raises:
            MeasurementError: a loss is not finite.
        """
        if not self._pending:
            return torch.empty(0, len(column_names(self.layout)), dtype=torch.float64)
        tokens, losses, right = (torch.stack(column) for column in zip(*self._pending, strict=True))
        self._pending.clear()
        before = self.rows[-1][-1] if self.rows else None
        found = rows_of(tokens, losses.cpu().double(), right.cpu().double(), self.layout, before)
        self.rows.append(found)
        return found

    def table(self) -> Float[Tensor, "step column"]:
        """Return all rows so far."""
        self.flush()
        empty = torch.empty(0, len(column_names(self.layout)), dtype=torch.float64)
        return torch.cat([empty, *self.rows])


def rows_of(
    tokens: Int[Tensor, "step question pos"],
    losses: Float[Tensor, "step question digit"],
    right: Float[Tensor, "step question"],
    layout: Positions,
    before: Float[Tensor, " column"] | None = None,
) -> Float[Tensor, "step column"]:
    """Return the rows of some steps. `before` is the row before them; a series without a case repeats its value.

    Raises:
        MeasurementError: a loss is not finite, or a digit is in no sub-task or in two.
    """
    if not bool(torch.isfinite(losses).all()):
        raise MeasurementError(Problem("finite losses", "nan or infinity", "lower the learning rate"))
    per_digit = losses.mean(1)
    own = [per_digit.mean(1, keepdim=True), right.mean(1, keepdim=True), per_digit]
    series, cases = _by_task(tokens, losses, layout, before)
    return torch.cat([*own, series, cases], dim=1)


def _by_task(
    tokens: Tensor, losses: Tensor, layout: Positions, before: Tensor | None
) -> tuple[Float[Tensor, "step series"], Float[Tensor, "step series"]]:
    """Return each series' mean loss (its last value if it has no case), and its number of cases."""
    steps, questions, _ = losses.shape
    if not layout.columns:
        return losses.new_empty(steps, 0), losses.new_empty(steps, 0)
    assert isinstance(layout, Layout)  # only addition has columns
    labels = label(tokens.flatten(0, 1), layout)
    carry, nine = (part.reshape(steps, questions, -1) for part in (labels.use_carry, labels.sum9))
    of_columns = losses[..., 1:]  # one digit per column; the highest digit is only the last carry
    digitwise = torch.cat([~carry, carry & ~nine, carry & nine], dim=-1)
    check_partition(digitwise, layout.n_digits)
    any_carry, any_nine = carry.any(-1), (carry & nine).any(-1)
    whole = torch.stack([~any_carry, any_carry & ~any_nine, any_nine], dim=-1)
    over_digits = torch.stack([of_columns.mean(-1), losses.mean(-1), losses.mean(-1)], dim=-1)  # as in the notebook
    member = torch.cat([whole, digitwise], dim=-1).double()
    cases = member.sum(1)
    sums = (torch.cat([over_digits, of_columns.repeat(1, 1, len(TASKS))], dim=-1) * member).sum(1)
    series = torch.where(cases > 0, sums / cases, torch.nan)
    held = torch.full_like(series[0], torch.nan) if before is None else before[2 + layout.n_answer :][: series.shape[1]]
    for row in series:
        torch.where(row.isnan(), held, row, out=row)
        held = row
    return series, cases


def check_partition(member: Tensor, n_digits: int) -> None:
    """Check that each digit, in every question and step, is in exactly one sub-task.

    Raises:
        MeasurementError: a digit is in no sub-task or in two.
    """
    if not bool((member.reshape(*member.shape[:-1], len(TASKS), n_digits).sum(-2) == 1).all()):
        raise MeasurementError(Problem("each digit in one of BA, UC1 and US9", "one in none or in two", "report this"))


@dataclass(frozen=True)
class Curves:
    """The learning curves of a training run."""

    layout: Positions
    values: Float[Tensor, "step column"]

    def __getitem__(self, name: str) -> Float[Tensor, " step"]:
        """Return the column called `name`."""
        return self.values[:, column_names(self.layout).index(name)]

    def final(self, name: str) -> float:
        """Return the mean of the last five steps, in nats per digit; nan if there was never a case."""
        return float(self[name][-FINAL_STEPS:].nanmean())

    def cases(self, task: str) -> int:
        """Return the number of digits with this sub-task in the whole run."""
        return sum(int(self[f"{task}.{column}.cases"].sum()) for column in self.layout.columns)


def final_losses(curves: Curves) -> list[dict[str, str]]:
    """Return a table of final losses. Rows: all digits together, then each digit. Columns: overall, then each sub-task.

    In the row of all digits, the sub-tasks are kinds of questions (``BA.all``, ``UC1.any``, ``US9.any``): see the
    module docstring.
    """

    def shown(name: str) -> str:
        value = curves.final(name)
        return "" if value != value else f"{value:.2g}"  # noqa: PLR0124 - nan

    whole = dict(zip(TASKS, series_names(curves.layout), strict=False))
    rows = [{"digit": "all", "loss": shown("loss")} | {task: shown(name) for task, name in whole.items()}]
    columns = curves.layout.columns
    for digit, column in zip_longest(reversed(curves.layout.answer_digits), reversed(columns)):
        by_task = {task: shown(f"{task}.{column}") for task in TASKS} if column else {}
        rows.insert(1, {"digit": digit, "loss": shown(digit)} | by_task)
    return rows


def task_shares(curves: Curves) -> str:
    """Return a sentence that says how often each sub-task came up in training; empty if there are no sub-tasks."""
    if not curves.layout.columns:
        return ""
    cases = {task: curves.cases(task) for task in TASKS}
    total = max(1, sum(cases.values()))
    shares = ", ".join(f"{n:,} {task} ({n / total:.1%})" for task, n in cases.items())
    return f"Of {total:,} digits, each in one sub-task: {shares}."


def to_csv_gz(curves: Curves) -> bytes:
    """Return the curves as gzipped CSV with five significant digits; equal curves give equal bytes."""
    names = column_names(curves.layout)
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


def read_curves(path: Path, layout: Positions) -> Curves:
    """Return the curves in a ``training.csv.gz``.

    Raises:
        FixtureError: there is no such file, or its content does not fit this layout.
    """
    try:
        rows = list(csv.reader(gzip.decompress(path.read_bytes()).decode().splitlines()))
        heads = ["step", *column_names(layout)]
        if not rows or rows[0] != heads or any(len(row) != len(heads) for row in rows):
            raise ValueError("other columns")
        if not all(math.isfinite(float(cell)) for row in rows[1:] for cell in row if cell):
            raise ValueError("a loss that is not finite")
        values = [[float(cell or "nan") for cell in row[1:]] for row in rows[1:]]
        return Curves(layout, torch.tensor(values, dtype=torch.float64).reshape(len(values), len(heads) - 1))
    except FileNotFoundError:
        fix = "only `harness train` records some"
        raise FixtureError(Problem("learning curves", "no such file", fix, str(path))) from None
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise FixtureError(
            Problem("learning curves as `harness train` writes them", str(error), "restore them", str(path))
        ) from None
