"""Counts and effect sizes of one experiment, before they are compared with a claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.base.intervals import betting_interval
from harness.engines.predictions import Outcome
from harness.judging.verbs.metrics import Measured, success_rate, value_of
from harness.tasks.batch import Batch
from harness.tasks.contract import AnyTask
from harness.tasks.positions import Positions

EXAMPLES = 5


@dataclass(frozen=True)
class TokenCount:
    """Counts for one answer token, over the prompts whose clean run gets that token right."""

    token: str
    asked: int
    wrong: int
    excluded: int  # prompts whose clean run gets the token wrong; they tell nothing about the intervention
    true_logit_change: float  # mean change of the right token's logit
    loss_change: float  # mean change of the token's loss, nats
    distinct: int = 0  # different right answers among the prompts asked
    near_ties: int = 0  # prompts where another engine might answer another token, clean or under the intervention


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
    prompt: str, answered: Sequence[int], wrong: Sequence[bool], right: Sequence[int], task: Positions, case: str = "",
    node: str = "", source: str = "",
) -> Example:  # fmt: skip
    """Return the example of a prompt: the tokens that came out, which of them are wrong, and those that are right."""
    return Example(
        prompt, task.write_answer(answered), tuple(task.vocabulary[token] for token in answered), tuple(wrong),
        task.write_answer(right), case, node, source,
    )  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """Counts and effect sizes of one intervention on the same prompts."""

    n: int
    clean_accuracy: float  # fraction of prompts with every token right in the clean run
    clean_loss: float  # nats per answer token, mean
    loss: float
    losses: Float[Tensor, " prompt"] = field(compare=False)  # nats per answer token; `loss` is their mean
    tokens: tuple[TokenCount, ...]
    patterns: dict[str, int]  # y/N pattern → prompts, clean failures included; {} if one node at a time
    cases: dict[str, tuple[int, int]]  # case → (prompts that broke, all prompts)
    by_node: dict[str, int]  # node → prompts it breaks; only if one node at a time
    examples: dict[str, tuple[Example, ...]]  # token → prompts where it broke, "… right" → where it did not
    detailed: bool = True  # False: counts and losses only, without patterns, cases and examples
    near_ties: int = 0  # answer tokens of prompts, of those that the claim compares
    # Metrics that are asked for: of each prompt in the clean run, and under the intervention.
    metrics: Mapping[str, Measured] = field(default_factory=dict, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the measurement as JSON values, without the losses of single prompts."""
        return {
            "n": self.n,
            "clean_accuracy": self.clean_accuracy,
            "clean_loss": self.clean_loss,
            "loss": self.loss,
            "near_ties": self.near_ties,
            "tokens": [vars(token) for token in self.tokens],
            "patterns": self.patterns,
            "cases": {case: {"failed": failed, "asked": asked} for case, (failed, asked) in self.cases.items()},
            "by_node": self.by_node,
            "metrics": {name: one.as_dict() for name, one in self.metrics.items()},
            "examples": {token: [asdict(example) for example in rows] for token, rows in self.examples.items()},
        }


@dataclass
class Tally:
    """Collects outcomes of one or more interventions on the same prompts.

    With several interventions, a token counts as wrong on a prompt if any of them makes it wrong; its effect sizes
    are the largest loss and the lowest logit. Tokens that the clean run already gets wrong never count.
    """

    batch: Batch
    task: AnyTask
    clean: Outcome
    wanted: Sequence[str] = ()  # metrics

    def __post_init__(self) -> None:
        self.right = self.batch.right
        self.excluded: Bool[Tensor, "prompt answer"] = ~self.right.contains(self.clean.predicted)
        self.wrong = torch.zeros_like(self.excluded)
        self.near_tie = self.clean.near_tie
        self.loss, self.right_logit = self.clean.loss, self.clean.right_logit
        self.outcomes: list[tuple[str, Int[Tensor, "prompt answer"]]] = []
        self.by_node: dict[str, int] = {}
        self.metrics = {
            name: Measured(value, value) for name in self.wanted if (value := self._clean(name)) is not None
        }

    def _clean(self, metric: str) -> Tensor:
        if metric == "kl":
            return torch.zeros(len(self.batch), dtype=torch.float64)
        return value_of(metric, self.clean, self.batch)

    def add(self, outcome: Outcome, node: str = "") -> None:
        """Count one more outcome; `node` names the intervention if there are several."""
        wrong = ~self.right.contains(outcome.predicted) & ~self.excluded
        # Logit and loss are reduced separately: the logit at the largest loss would jump when rounding breaks a tie.
        logit = outcome.right_logit
        self.right_logit = torch.minimum(self.right_logit, logit) if self.outcomes else logit
        self.loss = torch.maximum(self.loss, outcome.loss) if self.outcomes else outcome.loss
        self.wrong |= wrong
        for name, before in self.metrics.items():  # of several interventions, that which moves it most
            value = value_of(name, outcome, self.batch)
            farther = (value - before.clean).abs() >= (before.after - before.clean).abs()
            self.metrics[name] = Measured(before.clean, value.where(farther, before.after))
        self.near_tie = self.near_tie | (outcome.near_tie & ~self.excluded)
        self.outcomes.append((node, outcome.predicted.to(self._small)))  # there may be many
        if node and bool(wrong.any()):
            self.by_node[node] = int(wrong.any(1).sum())

    @property
    def _small(self) -> torch.dtype:
        """The smallest type that holds every token of the vocabulary."""
        most = self.task.d_vocab - 1
        return next(kind for kind in (torch.uint8, torch.int16, torch.int32) if most <= torch.iinfo(kind).max)

    def finish(self, *, details: bool = True) -> Measurement:
        """Return the measurement; without any intervention, that of the clean run."""
        if not details:
            return self._counted({}, {}, {}, detailed=False)
        outcomes = self.outcomes or [("", self.clean.predicted)]
        cases = self.batch.cases()
        failing = self.wrong.any(1).tolist()
        one = outcomes[0][1] if len(outcomes) == 1 and not outcomes[0][0] else None
        rows = [] if one is None else (~self.right.contains(one)).tolist()
        patterns = Counter(pattern(row) for row in rows)
        examples = {}
        for i, token in enumerate(self.task.answer_tokens):
            examples[token] = self._examples(self.wrong[:, i], i, cases)
            examples[f"{token} right"] = self._examples(~(self.wrong | self.excluded)[:, i], i, cases)
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
        losses, tokens = self.loss.mean(1), tuple(self._token(i) for i in range(self.task.n_answer))
        return Measurement(
            n=len(self.batch),
            clean_accuracy=success_rate(self.clean, self.batch, self.task),
            clean_loss=float(self.clean.loss.mean()),
            loss=float(losses.mean()),
            losses=losses,
            tokens=tokens,
            patterns=patterns,
            cases=cases,
            by_node=self.by_node,
            examples=examples,
            detailed=detailed,
            near_ties=sum(token.near_ties for token in tokens),
            metrics=self.metrics,
        )

    def _token(self, i: int) -> TokenCount:
        kept = ~self.excluded[:, i]
        logit_change, loss_change = (
            float((after - before)[kept, i].double().mean()) if bool(kept.any()) else 0.0
            for after, before in ((self.right_logit, self.clean.right_logit), (self.loss, self.clean.loss))
        )
        name = self.task.answer_tokens[i]
        distinct = len(torch.unique(self.batch.answers[kept, i]))
        asked, wrong, near_ties = (int(where.sum()) for where in (kept, self.wrong[:, i], self.near_tie[:, i]))
        return TokenCount(name, asked, wrong, len(kept) - asked, logit_change, loss_change, distinct, near_ties)

    def _examples(self, rows: Bool[Tensor, " prompt"], i: int, cases: list[str]) -> tuple[Example, ...]:
        """Return the first few of these prompts, each under the first intervention that breaks its token `i`."""
        found = []
        for row in rows.nonzero().squeeze(1)[:EXAMPLES].tolist():
            outcomes = self.outcomes or [("", self.clean.predicted)]
            here = self.right[row : row + 1]
            breaking = (
                pair for pair in outcomes if self.wrong[row, i] and not here.contains(pair[1][row : row + 1])[0, i]
            )
            node, predicted = next(breaking, ("", outcomes[0][1]))
            answered, wrong = predicted[row], ~here.contains(predicted[row : row + 1])[0]
            prompt, right = self.batch[row : row + 1].texts()[0], self.batch.answers[row].tolist()
            found.append(example_of(prompt, answered.tolist(), wrong.tolist(), right, self.task, cases[row], node))
        return tuple(found)


def mean_loss(
    losses: Float[Tensor, " prompt"], cap: float | None, confidence: float | None
) -> tuple[float, float | None, float | None]:
    """Return the mean loss, and the ends of its interval, in nats per answer token.

    With a `cap` each prompt's loss counts as no more than that: a mean without bounds has no valid interval. The ends
    are None without a `confidence`, and for a census, which has no cap.
    """
    if cap is None:
        return float(losses.mean()), None, None
    capped = losses.double().clamp(max=cap)
    ends = (None, None) if confidence is None else betting_interval(capped.tolist(), confidence, cap)
    return float(capped.mean()), *ends


def pattern(wrong: list[bool]) -> str:
    """Return a pattern like the notebook's ``yNyyyy``: y for a right token, N for a wrong one, in their order."""
    return "".join("N" if token else "y" for token in wrong)
