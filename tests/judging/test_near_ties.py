"""Near-ties: answer tokens whose two largest logits another engine or machine may order otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy_model import forward
from tiny import make_recipe, random_weights, read_claim, write_tiny

from harness.engines.predictions import FEW_TOKENS, NEAR_TIE, margin_of
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.judging.verbs.patch import interchange_of
from harness.reporting.failure import failure_text
from harness.reporting.page import render
from harness.reporting.report import markdown, terminal_table
from harness.reporting.summary import near_ties, shown_verdict
from harness.tasks.questions import QuestionList

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"n_digits": 1, "n_layers": 1}
ALL = [f"{a}+{b}" for a in range(10) for b in range(10)]
ASKED = f"questions: [{', '.join(ALL)}]\ngate: 0\n"
ABLATE = f"ablate: S3-S4L0M\nmethod: zero\n{ASKED}"


def leaning():
    """Return random weights of a model that prefers 0 a little, and so is right now and then."""
    found = random_weights(make_recipe(**SMALL), seed=10)
    found["unembed.b_U"][0] += 1
    return found


@pytest.fixture(scope="module")
def weights():
    """The same, but the model cannot tell 3 from 4: wherever one of them has the largest logit, so has the other."""
    found = leaning()
    for name in ("unembed.W_U", "unembed.b_U"):
        found[name][..., 4] = found[name][..., 3]
    return found


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory, weights):
    path = tmp_path_factory.mktemp("fixtures")
    write_tiny(path, "ties", weights=weights, **SMALL)
    write_tiny(path, "clear", weights=leaning(), **SMALL)
    return path


@pytest.fixture(params=["cone", "hooks"])
def bench(request):
    return Workbench("cpu", request.param)


@pytest.fixture
def result_of(tmp_path, fixtures, bench):
    return lambda text, fixture="ties": judge(read_claim(tmp_path, text, fixtures, fixture), bench)


def by_hand(result, weights, cut=None):
    """Return which answer digits of all questions are near-ties and which are right, by a model written out again."""
    task = result.hypothesis.shape.task
    tokens = task.batch_for(QuestionList(tuple(map(task.read_question, ALL)))).tokens.numpy()
    logits = forward(weights, tokens, interventions=cut).logits[:, -3:-1]
    second, largest = np.moveaxis(np.sort(logits, -1)[..., -2:], -1, 0)
    return largest - second < 1e-4, logits.argmax(-1) == tokens[:, -2:]


def test_the_margin_is_the_largest_logit_less_the_second_largest():
    draw = torch.Generator().manual_seed(1)
    for size in (2, 3, 13, FEW_TOKENS, FEW_TOKENS + 1, 300):
        logits = torch.randint(0, 50, (40, 3, size), generator=draw) / 8  # some of them equal
        ordered = torch.sort(logits, dim=-1).values
        assert torch.equal(margin_of(logits), ordered[..., -1] - ordered[..., -2])
    assert margin_of(torch.zeros(4, 2, 1)).tolist() == [[torch.inf] * 2] * 4


def test_an_ablation_counts_near_ties_of_the_clean_run_and_under_the_intervention(result_of, weights):
    result = result_of(f"{ABLATE}expect: {{fails: [], may_fail: [A1]}}")
    cut = {(step, 0, "mlp", 0): np.zeros((1, 8)) for step in (3, 4)}
    (before, right), (after, _) = by_hand(result, weights), by_hand(result, weights, cut)
    expected = (before | (after & right)).sum(0)
    assert (before.sum(0) < expected).all()
    assert expected.max() < 100
    assert [count.near_ties for count in result.measurement.tokens] == expected.tolist()
    assert result.measurement.near_ties == result.measurement.as_dict()["near_ties"] == expected[1]  # A1 may fail
    whole = result_of(f"{ABLATE}expect: {{fails: []}}").measurement
    assert whole.near_ties == expected.sum()
    assert result_of(f"{ABLATE}expect: {{fails: []}}", "clear").measurement.near_ties == 0


@pytest.mark.parametrize(("answer", "digits"), [("whole", [0, 1]), ("[A0]", [1])])
def test_an_answer_counts_near_ties_among_the_digits_that_must_be_right(result_of, weights, answer, digits):
    asked = f"answer: {answer}\n{ASKED.replace('gate: 0', '')}expect: "
    result = result_of(f"{asked}{{accuracy_at_most: 0.9}}")
    ties = int(by_hand(result, weights)[0][:, digits].sum())
    assert result.measurement.as_dict()["by_fixture"]["ties"]["near_ties"] == near_ties(record_of(result)) == ties > 0
    assert (
        near_ties(record_of(result_of(f"{asked}{{loss_above: 0.1}}"))) == 0
    )  # a loss does not depend on which is larger


def test_an_interchange_counts_near_ties_of_both_questions_and_of_what_is_compared(tmp_path, fixtures, bench):
    text = "patch: {node: S3L0M, variable: D0.T1, digits: [A1]}\npairs: {n: 700, seed: 2}\ngate: 0"
    claim = read_claim(tmp_path, text, fixtures, "ties")
    (found,) = bench.answer([interchange_of(claim)])
    assert claim.intact == ()
    ties = 0
    for donors, outcome, compared in (
        (found.drawn.differing, found.differing[0], (0,)), (found.drawn.agreeing, found.agreeing, (0, 1)),
    ):  # fmt: skip
        for base, source in enumerate(donors.tolist()):
            for i in range(2) if source >= 0 else ():
                clean = min(float(found.base.margin[base, i]), float(found.source.margin[source, i]))
                ties += clean < NEAR_TIE or (i in compared and float(outcome.margin[base, i]) < NEAR_TIE)
    assert judge(claim, bench).measurement.as_dict()["near_ties"] == ties > 0


def test_every_report_tells_of_them_beside_the_verdict(result_of):
    record = record_of(result_of(f"{ABLATE}expect: {{fails: []}}")) | {"options": []}
    n = record["measurement"]["near_ties"]
    assert n > 1
    beside = f"({n} near-ties)"
    assert shown_verdict(record).endswith(beside)
    for text in (terminal_table([record]), markdown([record]), render([record])):
        assert beside in text
    assert f"· {n} near-ties" in failure_text(record)
    one = record | {"measurement": record["measurement"] | {"near_ties": 1}}
    assert shown_verdict(one).endswith("(1 near-tie)")
    clear = record_of(result_of(f"{ABLATE}expect: {{fails: []}}", "clear")) | {"options": []}
    assert "near-tie" not in shown_verdict(clear) + failure_text(clear)


def test_of_several_runs_they_are_those_of_all(tmp_path, fixtures):
    text = f"fixtures: [ties, clear]\n{ABLATE}expect: {{fails: [], at_least: 1/2}}"
    record = record_of(judge(read_claim(tmp_path, text, fixtures, "ties"), Workbench("cpu")))
    each = {name: run["measurement"]["near_ties"] for name, run in record["measurement"]["by_run"].items()}
    assert near_ties(record) == each["ties"] + each["clear"] > each["clear"] == 0
