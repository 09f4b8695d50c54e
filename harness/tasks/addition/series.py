"""The sub-tasks by which learning curves divide the losses of addition. Imports no torch until losses are divided.

With five digits the series are::

    BA.all  UC1.any  US9.any           loss by kind of question: no carry used; carry used but no US9; some US9
    BA.D4 … BA.D0  UC1.D4 …  US9.D4 …  loss per digit and sub-task; each digit of a question is in exactly one

No carry runs into D0, so UC1.D0 and US9.D0 have no case. Source: the notebook, Parts 3 and 5-7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import MeasurementError, Problem
from harness.tasks.addition.layout import Layout
from harness.tasks.contract import LossSeries

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

SUBTASKS = ("BA", "UC1", "US9")


def series_of(layout: Layout) -> LossSeries:
    """Return the series of a layout; the highest digit is only the last carry, and has none of its own."""
    return LossSeries(
        kinds=SUBTASKS,
        whole=("BA.all", "UC1.any", "US9.any"),
        places=dict(zip(layout.answer_tokens[1:], layout.columns, strict=True)),
        never=frozenset(f"{kind}.D0" for kind in SUBTASKS[1:]),
        labels={"BA.all": "BA, all digits", "UC1.any": "UC1, any digit", "US9.any": "US9, any digit"},
    )


def divided(
    tokens: Int[Tensor, "step question pos"], losses: Float[Tensor, "step question digit"], layout: Layout
) -> tuple[Float[Tensor, "step series"], Float[Tensor, "step series"]]:
    """Return the mean loss of each series in each step, in nats (nan where it has no case), and its number of cases.

    Raises:
        MeasurementError: a digit is in no sub-task or in two.
    """
    import torch

    from harness.tasks.addition.arithmetic import label

    steps, questions, _ = losses.shape
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
    sums = (torch.cat([over_digits, of_columns.repeat(1, 1, len(SUBTASKS))], dim=-1) * member).sum(1)
    return torch.where(cases > 0, sums / cases, torch.nan), cases


def check_partition(member: Tensor, n_digits: int) -> None:
    """Check that each digit, in every question and step, is in exactly one sub-task.

    Raises:
        MeasurementError: a digit is in no sub-task or in two.
    """
    if not bool((member.reshape(*member.shape[:-1], len(SUBTASKS), n_digits).sum(-2) == 1).all()):
        raise MeasurementError(Problem("each digit in one of BA, UC1 and US9", "one in none or in two", "report this"))
