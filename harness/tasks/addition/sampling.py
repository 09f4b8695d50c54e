"""Draws addition questions from seeds, exactly uniform among those that a description allows, even rare ones.

A question's case and cascade length depend only on its columns' tri-cases (sum < 9, = 9, > 9). So a question
"uniform among those with …" is drawn in two steps. The first draws a path through a small automaton, weighted by the
number of digit pairs of each tri-case (45, 10, 45). The second draws digits within each column. Nothing is rejected:
a cascade of length four (0.0045% of uniform questions) costs as much as any other question.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.base.errors import HarnessError
from harness.tasks.addition.arithmetic import decode, encode, label, tokens_of
from harness.tasks.addition.layout import Layout, Question
from harness.tasks.addition.question_sets import named_set
from harness.tasks.addition.series import SUBTASKS
from harness.tasks.addition.strata import TRI_CASES, Stratum, make_strata, next_states
from harness.tasks.questions import NamedSet, QuestionList, Questions, shares

_PAIRS = [
    torch.tensor([(x, y) for x in range(10) for y in range(10) if (x + y > 9) - (x + y < 9) == sign])
    for sign in (-1, 0, 1)  # in the order of TRI_CASES
]
ENRICHED = 0.5  # share of enriched questions among those that pairs are drawn from
EXAMPLES, SEED = 3, 13  # example questions of each class, and the seed that draws them
DRAWN = 64  # questions drawn from each stratum, from which the examples are taken
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
) -> Int[Tensor, "prompt pos"]:
    """Return `n` questions with independent, uniform digits, as the notebook's generator draws a batch.

    The shares change some of these questions. All random numbers come from `generator`.

    * `sum9_batch_share` (the notebook: 2/5): the probability that the whole batch is enriched. Then `sum9_digit_share`
      of all its columns, chosen at random, are made to sum to 9. The same addend is changed in the whole batch.
    * `sum9_question_share`: in this share of the questions, each column is made to sum to 9 with a probability that is
      drawn uniformly for the question.
    * `cascade_share`: in this share of the questions, 1 to `n_digits` - 1 columns in a row are made to sum to 9. All
      lengths are equally likely, and so are all places.
    * `near_share`: in this share of the cascades, the column below sums to 8 or 10 (equally likely), where its other
      digit allows that.
    * `double_share`: in this share of all columns, both digits become 4, or both 5.
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
    digits: Int[Tensor, "addend prompt column"], share: float, near_share: float, generator: torch.Generator
) -> None:
    """Change `digits` in place: make cascades in `share` of the questions, and set the column below in `near_share`."""
    _, n, n_digits = digits.shape
    length = torch.randint(1, n_digits, (n, 1), generator=generator)
    made, at, near, second = torch.rand(4, n, 1, generator=generator)
    below = (at * (n_digits - length)).long()  # place of the column below the cascade; the units have place 0
    place = torch.arange(n_digits - 1, -1, -1)
    nines = (place > below) & (place <= below + length)
    chosen = (nines | ((place == below) & (near < near_share))) & (made < share)
    total = torch.where(nines, 9, torch.where(near < near_share / 2, 8, 10))
    _make_sums(digits, chosen, total, second < 0.5)


def _make_sums(
    digits: Int[Tensor, "addend prompt column"],
    chosen: Bool[Tensor, "prompt column"],
    total: Int[Tensor, "*prompt column"],
    second: Bool[Tensor, "prompt 1"],
) -> None:
    """Make the chosen columns sum to `total`, if they can: change the second addend where `second`, else the first."""
    digits[1] = torch.where(chosen & second, (total - digits[0]).clamp(0, 9), digits[1])
    digits[0] = torch.where(chosen & ~second, (total - digits[1]).clamp(0, 9), digits[0])


def sample_strata(
    layout: Layout, strata: Sequence[Stratum], n: int, generator: torch.Generator
) -> Int[Tensor, "prompt pos"]:
    """Return `n` questions, equally many from each stratum (the first strata get the remainder)."""
    sizes = shares(n, len(strata))
    return torch.cat([_sample_stratum(layout, *part, generator) for part in zip(strata, sizes, strict=True)])


def _sample_stratum(layout: Layout, stratum: Stratum, n: int, generator: torch.Generator) -> Int[Tensor, "prompt pos"]:
    """Return `n` questions drawn uniformly, with replacement, from those in `stratum`."""
    n_digits = layout.n_digits
    table, share = _automaton(n_digits, stratum)
    if n and not share:
        raise HarnessError.of("a stratum with questions", f"none with {stratum.name}", "drop a condition")
    digits = torch.empty(2, n, n_digits, dtype=torch.int64)
    state = torch.zeros(n, dtype=torch.int64)
    for place in range(n_digits):  # from the units up, in the direction of the carry
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

    A state is (length of the running cascade or -1, longest so far or -1). `weight[state]` is the probability that
    uniform columns from here on end in the stratum. It is computed from the top column down.
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


def tokens_for(questions: Questions, layout: Layout) -> Int[Tensor, "prompt pos"]:
    """Return the tokens of the questions that a spec asks for; a sample is determined by its seed."""
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

    BA: no digit uses a carry. UC1: a digit uses a carry, and no carry runs through a column that sums to 9.
    US9: a carry runs through such columns; the examples have one, two and three of them.
    """
    free = make_strata(layout, cases=["BA"])
    none = [Stratum("UC1", frozenset({0}), free[0].columns)]
    cascades = [Stratum("US9", frozenset({n}), free[0].columns) for n in range(1, min(layout.n_digits, EXAMPLES + 1))]
    found = {}
    for name, strata in zip(SUBTASKS, (free, none, cascades), strict=True):
        if strata:
            tokens = sample_strata(layout, strata, DRAWN * len(strata), torch.Generator().manual_seed(SEED))
            # Take the strata in turn, the shortest cascade first.
            tokens = tokens.reshape(len(strata), DRAWN, -1).transpose(0, 1).flatten(0, 1)
            tokens = tokens[_classes(tokens, layout)[name]][:EXAMPLES]
            if len(tokens):
                found[name] = tuple(decode(tokens, layout))
    return found


def _classes(tokens: Int[Tensor, "prompt pos"], layout: Layout) -> dict[str, Bool[Tensor, " prompt"]]:
    """Return, for each class, which questions belong to it, by the labels of the notebook's generator."""
    labels = label(tokens, layout)
    uses, nine = labels.use_carry.any(1), labels.use_sum9.any(1)
    return dict(zip(SUBTASKS, (~uses, uses & ~nine, nine), strict=True))
