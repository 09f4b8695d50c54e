"""Claims that nobody thought about, of a model whose every question can be asked: how often is a false one supported?"""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness.engines import cone, interventions
from harness.judging.evaluation import gather, judge
from harness.models.fixtures import load_fixture
from harness.specs.fixtures.files import FixtureRef
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import reach
from harness.specs.parsing import DEFAULT_REFERENCE
from harness.specs.spec_files import load_file
from harness.tasks.addition.layout import Question
from harness.tasks.questions import QuestionList

RATES = [0.05, 0.1, 0.2, 0.3, 0.4, 0.43, 0.45, 0.47, 0.6, 0.85, 0.9, 0.92]


@dataclass
class Alarms:
    """What came of the claims, beside the truth."""

    asked: int = 0
    supported: int = 0
    false_alarms: int = 0  # supported, and not true
    false_refusals: int = 0  # refuted, and true
    claims_with_intervals: int = 0
    covered: int = 0  # claims all of whose intervals hold the truth

    def check(self):
        assert self.false_alarms <= 0.01 * self.asked
        assert self.false_refusals <= 0.01 * self.asked
        assert self.claims_with_intervals > 0.8 * self.asked
        # What they say: all of a claim's together, in 99 of 100.
        assert self.covered >= 0.99 * self.claims_with_intervals


def true_rates(name, fixtures, bench):
    """Return, by an exhaustive census, how often each digit fails when a node is cut with the claims' own means.

    Of the questions whose digit the clean run gets right, as a claim counts them.
    """
    fixture = load_fixture(name, fixtures, "cpu")
    every = range(10**fixture.task.n_digits)
    batch = fixture.task.batch_for(QuestionList(tuple(Question(x, y) for x in every for y in every)))
    truth = batch.answers
    live = [node for node in all_nodes(fixture.shape) if reach([node], fixture.shape)]
    means = bench.means(FixtureRef(name, fixtures), DEFAULT_REFERENCE)
    keys = [(node, method) for node in live for method in ("mean", "zero")]
    changes = [
        interventions.mean([node], means) if method == "mean" else interventions.zero({node: fixture.width(node)})
        for node, method in keys
    ]
    clean, *outcomes = cone.run(fixture, batch, [interventions.CLEAN, *changes])
    right = clean.predicted == truth
    return {
        key: (((outcome.predicted != truth) & right).double().sum(0) / right.sum(0)).tolist()
        for key, outcome in zip(keys, outcomes, strict=True)
    }


# Claims share forty seeds, and so their clean runs.
def ask_random_claims(tmp_path, fixtures, name, n, bench, *, digits, gate=0.99):
    """Return what came of `n` random claims about one node each."""
    rates, rng, found = true_rates(name, fixtures, bench), random.Random(20261125), Alarms()
    asked, texts = [], []
    for i in range(n):
        node, method = rng.choice(list(rates))
        possible = [d for d in digits if d in reach([node], load_fixture(name, fixtures, "cpu").shape)]
        fails = rng.sample(possible, rng.randint(0, min(2, len(possible))))
        rate = rng.choice(RATES)
        asked.append((node, method, fails, rate))
        texts.append(
            f"  - id: c{i}\n    claim: c\n    ablate: {node}\n    method: {method}\n    gate: {gate}\n"
            f"    questions: {{n: {rng.choice([900, 1500])}, seed: {rng.randrange(40)}}}\n"
            f"    expect: {{fails: [{', '.join(fails)}]{f', fail_rate: {rate}' if fails else ''}}}\n"
        )
    claims = []
    for i in range(0, n, 200):
        path = tmp_path / f"{i}.yaml"
        path.write_text(f"version: 1\nfixture: {name}\nhypotheses:\n{''.join(texts[i : i + 200])}", "utf-8")
        claims += load_file(path, fixtures, path.name)
    gather(claims, bench)
    for (node, method, fails, rate), claim in zip(asked, claims, strict=True):
        result = judge(claim, bench)
        truth = dict(zip(digits, rates[node, method], strict=True))
        true = all(truth[d] > rate if d in fails else truth[d] < 0.01 for d in digits)
        found.asked += 1
        found.supported += result.verdict == "supported"
        found.false_alarms += result.verdict == "supported" and not true
        found.false_refusals += result.verdict == "refuted" and true
        rows = [row for row in result.comparisons if row.low is not None]
        if rows:
            found.claims_with_intervals += 1
            found.covered += all(row.low <= truth[row.subject] <= row.high for row in rows)
    return found
