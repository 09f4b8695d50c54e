"""Counts and effect sizes of one experiment, before they are compared with a claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.engines.predictions import Outcome
from harness.tasks.answers import answers
from harness.tasks.positions import Positions
from harness.tasks.registry import task_of

EXAMPLES = 5


@dataclass(frozen=True)
class DigitCount:
    """Counts for one answer digit, over the questions whose clean run gets that digit right."""

    digit: str
    asked: int
    wrong: int
    excluded: int  # questions whose clean run gets the digit wrong; they tell nothing about the intervention
    true_logit_change: float  # mean change of the true digit's logit
    loss_change: float  # mean change of the digit's loss, nats


@dataclass(frozen=True)
class Example:
    """One prompt and what the model answered."""

    prompt: str
    answered: str  # as the task writes it
    tokens: tuple[str, ...]  # the same, token by token
    wrong: tuple[bool, ...]  # which of these tokens are wrong
    right: str  # the right answer, or the expected one
    case: str = ""
    node: str = ""  # which node broke it, where nodes were ablated one at a time
    source: str = ""  # of an interchange: where the value came from; `prompt` is the base


def example_of(
    prompt: str, answered: Sequence[int], truth: Sequence[int], layout: Positions, case: str = "", node: str = "",
    source: str = "",
) -> Example:  # fmt: skip
    """Return the example of a prompt, given the tokens that came out and those that were right."""
    return Example(
        prompt, layout.write_answer(answered), tuple(layout.vocabulary[token] for token in answered),
        tuple(a != b for a, b in zip(answered, truth, strict=True)), layout.write_answer(truth), case, node, source,
    )  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """Counts and effect sizes of one intervention on one question set."""

    n: int
    clean_accuracy: float  # fraction of questions with every digit right in the clean run
    clean_loss: float  # nats per answer digit, mean
    loss: float
    losses: Float[Tensor, " question"] = field(compare=False)  # nats per answer digit; `loss` is their mean
    digits: tuple[DigitCount, ...]
    patterns: dict[str, int]  # y/N pattern → questions, clean failures included; {} if one node at a time
    cases: dict[str, tuple[int, int]]  # case → (questions that broke, all questions)
    by_node: dict[str, int]  # node → questions it breaks; only if one node at a time
    examples: dict[str, tuple[Example, ...]]  # "A4" → questions where it broke, "A4 right" → where it did not
    detailed: bool = True  # False: counts and losses only, without patterns, cases and examples

    def as_dict(self) -> dict[str, Any]:
        """Return the measurement as JSON values, without the losses of single questions."""
        return {
            "n": self.n,
            "clean_accuracy": self.clean_accuracy,
            "clean_loss": self.clean_loss,
            "loss": self.loss,
            "digits": [vars(digit) for digit in self.digits],
            "patterns": self.patterns,
            "cases": {case: {"failed": failed, "asked": asked} for case, (failed, asked) in self.cases.items()},
            "by_node": self.by_node,
            "examples": {digit: [asdict(example) for example in rows] for digit, rows in self.examples.items()},
        }


@dataclass
class Tally:
    """Collects outcomes of one or more interventions on the same questions.

    With several interventions, a digit counts as wrong on a question if any of them makes it wrong; its effect sizes
    are the largest loss and the lowest logit. Digits that the clean run already gets wrong never count.
    """

    tokens: Int[Tensor, "question pos"]
    layout: Positions
    clean: Outcome

    def __post_init__(self) -> None:
        self.truth = answers(self.tokens, self.layout)
        self.excluded: Bool[Tensor, "question digit"] = self.clean.predicted != self.truth
        self.wrong = torch.zeros_like(self.excluded)
        self.loss, self.true_logit = self.clean.loss, self.clean.true_logit
        self.outcomes: list[tuple[str, Int[Tensor, "question digit"]]] = []
        self.by_node: dict[str, int] = {}

    def add(self, outcome: Outcome, node: str = "") -> None:
        """Count one more outcome; `node` names the intervention if there are several."""
        wrong = (outcome.predicted != self.truth) & ~self.excluded
        # Logit and loss are reduced separately: the logit at the largest loss would jump when rounding breaks a tie.
        self.true_logit = torch.minimum(self.true_logit, outcome.true_logit) if self.outcomes else outcome.true_logit
        self.loss = torch.maximum(self.loss, outcome.loss) if self.outcomes else outcome.loss
        self.wrong |= wrong
        self.outcomes.append((node, outcome.predicted.to(torch.uint8)))  # uint8 saves memory: there may be many
        if node and bool(wrong.any()):
            self.by_node[node] = int(wrong.any(1).sum())

    def finish(self, *, details: bool = True) -> Measurement:
        """Return the measurement; without any intervention, that of the clean run."""
        if not details:
            return self._counted({}, {}, {}, detailed=False)
        outcomes = self.outcomes or [("", self.clean.predicted)]
        cases = task_of(self.layout).cases_of(self.tokens)
        failing = self.wrong.any(1).tolist()
        one = outcomes[0][1] if len(outcomes) == 1 and not outcomes[0][0] else None
        patterns = Counter(pattern(row) for row in (one != self.truth).tolist()) if one is not None else Counter[str]()
        examples = {}
        for i, digit in enumerate(self.layout.answer_digits):
            examples[digit] = self._examples(self.wrong[:, i], i, cases)
            examples[f"{digit} right"] = self._examples(~(self.wrong | self.excluded)[:, i], i, cases)
        by_case: dict[str, tuple[int, int]] = {
            case: (sum(f for c, f in zip(cases, failing, strict=True) if c == case), cases.count(case))
            for case in sorted(filter(None, set(cases)))
        }
        return self._counted(dict(patterns.most_common()), by_case, examples, detailed=True)

    def _counted(
        self,
        patterns: dict[str, int],
        cases: dict[str, tuple[int, int]],
        examples: dict[str, tuple[Example, ...]],
        *,
        detailed: bool,
    ) -> Measurement:
        losses = self.loss.mean(1)
        return Measurement(
            n=len(self.tokens),
            clean_accuracy=float((~self.excluded.any(1)).double().mean()),
            clean_loss=float(self.clean.loss.mean()),
            loss=float(losses.mean()),
            losses=losses,
            digits=tuple(self._digit(i) for i in range(self.layout.n_answer)),
            patterns=patterns,
            cases=cases,
            by_node=self.by_node,
            examples=examples,
            detailed=detailed,
        )

    def _digit(self, i: int) -> DigitCount:
        kept = ~self.excluded[:, i]
        changes = [
            float((after - before)[kept, i].double().mean()) if bool(kept.any()) else 0.0
            for after, before in ((self.true_logit, self.clean.true_logit), (self.loss, self.clean.loss))
        ]
        name = self.layout.answer_digits[i]
        return DigitCount(name, int(kept.sum()), int(self.wrong[:, i].sum()), int((~kept).sum()), *changes)

    def _examples(self, rows: Bool[Tensor, " question"], i: int, cases: list[str]) -> tuple[Example, ...]:
        """Return the first few of these questions, each under the first intervention that breaks its digit `i`."""
        found = []
        for row in rows.nonzero().squeeze(1)[:EXAMPLES].tolist():
            outcomes = self.outcomes or [("", self.clean.predicted)]
            breaking = (pair for pair in outcomes if self.wrong[row, i] and pair[1][row, i] != self.truth[row, i])
            node, predicted = next(breaking, ("", outcomes[0][1]))
            prompt = task_of(self.layout).texts(self.tokens[row : row + 1])[0]
            answered, truth = predicted[row].tolist(), self.truth[row].tolist()
            found.append(example_of(prompt, answered, truth, self.layout, cases[row], node))
        return tuple(found)


def pattern(wrong: list[bool]) -> str:
    """Return a pattern like the notebook's ``yNyyyy``: y for a right digit, N for a wrong one, highest digit first."""
    return "".join("N" if digit else "y" for digit in wrong)
