"""Which questions a description stands for: seeds → questions, exactly distributed, however rare.

A question's case and cascade length depend only on its columns' tri-cases (sum < 9, = 9, > 9). So a
question "uniform among those with …" is drawn as a path through a small automaton, weighted by how many
digit pairs each tri-case has (45, 10, 45), and then as digits within each column. No rejection: a
four-long cascade, 0.0045% of uniform questions, costs what any other question costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.addition import decode, encode, label, tokens_of
from harness.errors import HarnessError
from harness.layout import Layout, Question
from harness.question_sets import named_set
from harness.selection import TRI_CASES, NamedSet, QuestionList, Questions, Stratum, make_strata, next_states, shares
from harness.series import TASKS

_PAIRS = [
    torch.tensor([(x, y) for x in range(10) for y in range(10) if (x + y > 9) - (x + y < 9) == sign])
    for sign in (-1, 0, 1)  # in the order of TRI_CASES
]
ENRICHED = 0.5  # of the questions that pairs are drawn from
EXAMPLES, SEED = 3, 13  # of each class, and where they are drawn from
DRAWN = 64  # questions from which the examples of a class are taken
_WEIGHTS = torch.tensor([len(pairs) / 100 for pairs in _PAIRS], dtype=torch.float64)


def sample_uniform(
    layout: Layout,
    n: int,
    generator: torch.Generator,
    *,
    sum9_batch_share: float = 0.0,
    sum9_digit_share: float = 0.4,
    sum9_question_share: float = 0.0,
    cascade_share: float = 0.0,
    near_share: float = 0.0,
    double_share: float = 0.0,
) -> Int[Tensor, "question pos"]:
    """Return `n` questions with independent, uniform digits, as the notebook's generator draws a batch.

    With probability `sum9_batch_share` (the notebook: 2/5) the whole batch is enriched: `sum9_digit_share`
    of all its columns, chosen at random, are made to sum to 9 by changing one of the addends, the same
    addend for the whole batch. In `sum9_question_share` of the questions, each column is made to sum to 9 with
    a probability that is drawn, uniformly, for the question. In `cascade_share` of the questions a cascade is made:
    1 to n - 1 columns in a row sum to 9, any length and any place as likely as another; and in `near_share` of these
    the column below them sums to 8 or 10, as likely, where its other digit allows. In `double_share` of all columns
    both digits become 4, or both 5. Everything comes from `generator`.
    """
    digits = torch.randint(0, 10, (2, n, layout.n_digits), generator=generator)
    enriched, first = torch.rand(2, generator=generator).tolist()
    if enriched < sum9_batch_share:
        flat = digits.view(2, -1)
        chosen = torch.randperm(flat.shape[1], generator=generator)[: int(sum9_digit_share * flat.shape[1])]
        changed = int(first < 0.5)
        flat[changed, chosen] = 9 - flat[1 - changed, chosen]
    if sum9_question_share:
        enriched_too, probability, second = torch.rand(3, n, 1, generator=generator)
        nine = torch.rand(digits.shape[1:], generator=generator) < probability
        nine &= enriched_too < sum9_question_share
        _make_sums(digits, nine, torch.tensor(9), second < 0.5)
    if cascade_share:
        _make_cascades(digits, cascade_share, near_share, generator)
    if double_share:
        drawn = torch.rand(digits.shape[1:], generator=generator)
        digits = torch.where(drawn < double_share, torch.where(drawn < double_share / 2, 4, 5), digits)
    return tokens_of(digits[0], digits[1], layout)


def _make_cascades(
    digits: Int[Tensor, "addend question column"], share: float, near_share: float, generator: torch.Generator
) -> None:
    """Make, in `share` of the questions, columns in a row that sum to 9, and what stands below them."""
    _, n, n_digits = digits.shape
    length = torch.randint(1, n_digits, (n, 1), generator=generator)
    made, at, near, second = torch.rand(4, n, 1, generator=generator)
    below = (at * (n_digits - length)).long()  # the place of the column below, the units' is 0
    place = torch.arange(n_digits - 1, -1, -1)
    nines = (place > below) & (place <= below + length)
    chosen = (nines | ((place == below) & (near < near_share))) & (made < share)
    total = torch.where(nines, 9, torch.where(near < near_share / 2, 8, 10))
    _make_sums(digits, chosen, total, second < 0.5)


def _make_sums(
    digits: Int[Tensor, "addend question column"],
    chosen: Bool[Tensor, "question column"],
    total: Int[Tensor, "*question column"],
    second: Bool[Tensor, "question 1"],
) -> None:
    """Change the second addend of the chosen columns, or else the first, so that they sum to `total` if they can."""
    digits[1] = torch.where(chosen & second, (total - digits[0]).clamp(0, 9), digits[1])
    digits[0] = torch.where(chosen & ~second, (total - digits[1]).clamp(0, 9), digits[0])


def sample_strata(
    layout: Layout, strata: Sequence[Stratum], n: int, generator: torch.Generator
) -> Int[Tensor, "question pos"]:
    """Return `n` questions, as equally many of each stratum as can be (the first ones get the remainder)."""
    sizes = shares(n, len(strata))
    return torch.cat([_sample_stratum(layout, *part, generator) for part in zip(strata, sizes, strict=True)])


def _sample_stratum(
    layout: Layout, stratum: Stratum, n: int, generator: torch.Generator
) -> Int[Tensor, "question pos"]:
    """Return `n` questions drawn uniformly, with replacement, from those in `stratum`."""
    n_digits = layout.n_digits
    table, share = _automaton(n_digits, stratum)
    if n and not share:
        raise HarnessError.of("a stratum with questions", f"none with {stratum.name}", "drop a condition")
    digits = torch.empty(2, n, n_digits, dtype=torch.int64)
    state = torch.zeros(n, dtype=torch.int64)
    for place in range(n_digits):  # from the units up, as a carry runs
        probabilities, following = table[place]
        tri_case = torch.multinomial(probabilities[state], 1, generator=generator).squeeze(1)
        column = n_digits - 1 - place
        for index, pairs in enumerate(_PAIRS):
            rows = (tri_case == index).nonzero().squeeze(1)
            digits[:, rows, column] = pairs[torch.randint(len(pairs), (len(rows),), generator=generator)].T
        state = following[state, tri_case]
    return tokens_of(digits[0], digits[1], layout)


_Step = tuple[Tensor, Tensor]  # probabilities and next state, both [state, tri-case]


@cache
def _automaton(n_digits: int, stratum: Stratum) -> tuple[tuple[_Step, ...], float]:
    """Return, per column from the units up, how to draw its tri-case; and the stratum's share of all questions.

    A state is (length of the cascade that is running or -1, longest so far or -1). `weight[state]` is the
    probability that uniform columns from here on end in the stratum, computed from the top column down.
    """
    lengths = range(-1, n_digits)
    states = [(-1, -1), *((run, longest) for longest in lengths[1:] for run in lengths if run <= longest)]
    index = {state: i for i, state in enumerate(states)}
    # A cascade longer than the question is never reached; 0 only fills its place in the table.
    following = torch.tensor(
        [[index.get(next_states(state)[tri_case], 0) for tri_case in TRI_CASES] for state in states]
    )

    weight = torch.tensor([float(longest in stratum.longest) for _, longest in states], dtype=torch.float64)
    steps: list[_Step] = []
    for place in range(n_digits - 1, -1, -1):
        allowed = torch.tensor([float(case in stratum.columns[place]) for case in TRI_CASES], dtype=torch.float64)
        joint = weight[following] * (_WEIGHTS * allowed)
        weight = joint.sum(1)
        # States that cannot end in the stratum are never visited; multinomial only needs a valid row there.
        safe = torch.where(weight[:, None] > 0, joint / weight.clamp(min=1e-300)[:, None], 1 / 3)
        steps.append((safe, following))
    return tuple(reversed(steps)), float(weight[0])


def stratum_share(layout: Layout, stratum: Stratum) -> float:
    """Return the fraction of all questions that lie in `stratum`."""
    return _automaton(layout.n_digits, stratum)[1]


def tokens_for(questions: Questions, layout: Layout) -> Int[Tensor, "question pos"]:
    """Return the tokens of the questions that a spec asks for; a sample depends on nothing but its seed."""
    if isinstance(questions, NamedSet):
        return encode(named_set(questions.name, layout), layout)
    if isinstance(questions, QuestionList):
        return encode(questions.questions, layout)
    generator = torch.Generator().manual_seed(questions.seed)
    if not questions.strata:
        return sample_uniform(layout, questions.n, generator)
    return sample_strata(layout, [s for s in questions.strata if isinstance(s, Stratum)], questions.n, generator)


def example_questions(layout: Layout) -> dict[str, tuple[Question, ...]]:
    """Return three questions of each class that the layout has: BA, UC1 and US9, always the same.

    A question is BA where no digit uses a carry, UC1 where one does and none runs through a column that sums to 9,
    US9 where one does that, here through one column, two and three.
    """
    free = make_strata(layout, cases=["BA"])
    none = [Stratum("UC1", frozenset({0}), free[0].columns)]
    cascades = [Stratum("US9", frozenset({n}), free[0].columns) for n in range(1, min(layout.n_digits, EXAMPLES + 1))]
    found = {}
    for name, strata in zip(TASKS, (free, none, cascades), strict=True):
        if strata:
            tokens = sample_strata(layout, strata, DRAWN * len(strata), torch.Generator().manual_seed(SEED))
            # As many from each stratum, the shortest cascade first.
            tokens = tokens.reshape(len(strata), DRAWN, -1).transpose(0, 1).flatten(0, 1)
            tokens = tokens[_classes(tokens, layout)[name]][:EXAMPLES]
            if len(tokens):
                found[name] = tuple(decode(tokens, layout))
    return found


def _classes(tokens: Int[Tensor, "question pos"], layout: Layout) -> dict[str, Bool[Tensor, " question"]]:
    """Return which questions are of which class, by the labels of the notebook's generator."""
    labels = label(tokens, layout)
    uses, nine = labels.use_carry.any(1), labels.use_sum9.any(1)
    return dict(zip(TASKS, (~uses, uses & ~nine, nine), strict=True))
