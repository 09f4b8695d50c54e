"""What was counted in one experiment, before anything is compared with a claim."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from harness.addition import answers, cases_of, decode
from harness.hooked import Outcome
from harness.layout import Layout

EXAMPLES = 5


@dataclass(frozen=True)
class DigitCount:
    """One answer digit, over the questions whose clean run gets that digit right."""

    digit: str
    asked: int
    wrong: int
    excluded: int  # questions whose clean run gets the digit wrong; they say nothing about the intervention
    true_logit_change: float  # mean change of the true digit's logit
    loss_change: float  # mean change of the digit's loss, nats


@dataclass(frozen=True)
class Example:
    """One question under the intervention."""

    question: str
    answer: str
    pattern: str  # y right, N wrong, highest digit first
    case: str
    node: str = ""  # which node broke it, where nodes were ablated one at a time

    def __str__(self) -> str:
        by = f" by {self.node}" if self.node else ""
        return f"{self.question}={self.answer} {self.pattern} {self.case}{by}"


@dataclass(frozen=True)
class Measurement:
    """Counts and effect sizes of one intervention on one question set."""

    n: int
    clean_accuracy: float  # fraction of questions answered wholly right without the intervention
    clean_loss: float  # nats per answer digit, mean
    loss: float
    losses: tuple[float, ...]  # per question, nats per answer digit; the sample behind `loss`
    digits: tuple[DigitCount, ...]
    patterns: dict[str, int]  # y/N pattern → questions; clean failures are not taken out
    cases: dict[str, tuple[int, int]]  # case → (questions with a wrong digit, questions)
    by_node: dict[str, int]  # node → questions it breaks; one at a time only
    examples: dict[str, tuple[Example, ...]]  # digit → the first questions that broke it; "right" → that broke nothing

    def as_dict(self) -> dict[str, Any]:
        """Return the measurement as JSON values, without the single losses."""
        return {
            "n": self.n,
            "clean_accuracy": self.clean_accuracy,
            "clean_loss": self.clean_loss,
            "loss": self.loss,
            "digits": [vars(digit) for digit in self.digits],
            "patterns": self.patterns,
            "cases": {case: {"failed": failed, "asked": asked} for case, (failed, asked) in self.cases.items()},
            "by_node": self.by_node,
            "examples": {digit: [str(example) for example in rows] for digit, rows in self.examples.items()},
        }


@dataclass
class Tally:
    """Collects outcomes of one or more interventions on the same questions.

    Of several, a digit counts as wrong on a question if any of them makes it wrong, and its effect sizes
    are those of the largest loss.
    """

    tokens: Int[Tensor, "question pos"]
    layout: Layout
    clean: Outcome

    def __post_init__(self) -> None:
        self.truth = answers(self.tokens, self.layout)
        self.wrong = torch.zeros_like(self.truth, dtype=torch.bool)
        self.answer = self.clean.predicted.clone()
        self.breaker = [""] * len(self.tokens)
        self.loss: Tensor | None = None
        self.true_logit = self.clean.true_logit
        self.by_node: dict[str, int] = {}

    def add(self, outcome: Outcome, node: str = "") -> None:
        """Count one more outcome; `node` names the intervention where there are several."""
        wrong = outcome.predicted != self.truth
        broken = (wrong & ~self.wrong_when_clean()).any(1)
        for row in (broken & ~self.wrong.any(1)).nonzero().squeeze(1).tolist():
            self.answer[row] = outcome.predicted[row]
            self.breaker[row] = node
        if self.loss is None:
            self.loss, self.true_logit = outcome.loss, outcome.true_logit
            self.answer = torch.where(broken[:, None], self.answer, outcome.predicted)
        else:
            larger = outcome.loss > self.loss
            self.true_logit = torch.where(larger, outcome.true_logit, self.true_logit)
            self.loss = torch.where(larger, outcome.loss, self.loss)
        self.wrong |= wrong
        if node and bool(broken.any()):
            self.by_node[node] = int(broken.sum())

    def wrong_when_clean(self) -> Bool[Tensor, "question digit"]:
        """Return which digits the model gets wrong without any intervention."""
        return self.clean.predicted != self.truth

    def finish(self) -> Measurement:
        """Return what was counted; without any intervention that could change something, the clean run's counts."""
        if self.loss is None:
            self.add(self.clean)
        assert self.loss is not None
        excluded = self.wrong_when_clean()
        wrong = self.wrong & ~excluded
        losses = self.loss.mean(1)
        cases = cases_of(self.tokens, self.layout)
        failing = self.wrong.any(1).tolist()
        return Measurement(
            n=len(self.tokens),
            clean_accuracy=float((~excluded.any(1)).double().mean()),
            clean_loss=float(self.clean.loss.mean()),
            loss=float(losses.mean()),
            losses=tuple(losses.tolist()),
            digits=tuple(self._digit(i, wrong[:, i], excluded[:, i]) for i in range(self.layout.n_answer)),
            patterns=dict(Counter(pattern(row) for row in self.wrong.tolist()).most_common()),
            cases={
                case: (sum(f for c, f in zip(cases, failing, strict=True) if c == case), cases.count(case))
                for case in sorted(set(cases))
            },
            by_node=self.by_node,
            examples={
                name: tuple(self._example(row, cases[row]) for row in rows.nonzero().squeeze(1)[:EXAMPLES].tolist())
                for name, rows in (
                    *zip(self.layout.answer_digits, wrong.T, strict=True),
                    ("right", ~self.wrong.any(1)),
                )
            },
        )

    def _digit(self, i: int, wrong: Tensor, excluded: Tensor) -> DigitCount:
        assert self.loss is not None
        kept = ~excluded
        changes = [
            float((after - before)[kept, i].double().mean()) if bool(kept.any()) else 0.0
            for after, before in ((self.true_logit, self.clean.true_logit), (self.loss, self.clean.loss))
        ]
        name = self.layout.answer_digits[i]
        return DigitCount(name, int(kept.sum()), int(wrong.sum()), int(excluded.sum()), *changes)

    def _example(self, row: int, case: str) -> Example:
        question = self.layout.write_question(decode(self.tokens[row : row + 1], self.layout)[0])
        answer = self.answer[row]
        marks = pattern((answer != self.truth[row]).tolist())
        return Example(question, "".join(map(str, answer.tolist())), marks, case, self.breaker[row])


def pattern(wrong: list[bool]) -> str:
    """Return the notebook's ``yNyyyy``: y for a right digit, N for a wrong one, highest first."""
    return "".join("N" if digit else "y" for digit in wrong)
