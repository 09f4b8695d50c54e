"""The same from Python, for notebooks; and the tally behind every measurement."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from paths import FIXTURE, FIXTURES

import harness
from harness.engines.predictions import Outcome
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.measurement import Tally
from harness.reporting.words import example_line
from harness.tasks.addition.arithmetic import encode
from harness.tasks.addition.layout import Question
from harness.tasks.addition.task import Addition

SPEC = f"""\
version: 1
fixture: {FIXTURE}
hypotheses:
  - id: s12
    claim: S12 makes <A4>.
    ablate: S12L0H0+H1
    reference: varied
    questions: simple_us9
    expect: {{fails: [A4]}}
  - id: one-at-a-time
    claim: No head of S12 to S17 breaks anything.
    ablate: S12-S17L0H0+H1+H2
    one_at_a_time: true
    reference: varied
    questions: simple_us9
    expect: {{fails: []}}
  - id: resampled
    claim: c
    ablate: S16L0
    method: resample
    seed: 5
    reference: varied
    questions: simple_us9
    expect: {{fails: [A0]}}
"""


@pytest.fixture(scope="module")
def hypotheses(tmp_path_factory):
    path = tmp_path_factory.mktemp("specs") / "s.yaml"
    path.write_text(SPEC, "utf-8")
    return harness.load_hypotheses(path, FIXTURES)


@pytest.fixture(scope="module")
def bench():
    return Workbench("cpu")


@pytest.fixture(scope="module")
def results(hypotheses, bench):
    return [harness.judge(hypothesis, bench) for hypothesis in hypotheses]


def test_a_result_is_frozen_and_has_a_verdict_and_a_frame(results):
    first = results[0]
    assert first.verdict == "supported"
    assert list(first.to_frame()["subject"]) == ["A5", "A4", "A3", "A2", "A1", "A0"]
    assert first.to_frame().set_index("subject").loc["A4", "finding"] == "holds"
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.verdict = "refuted"


def test_a_notebook_shows_a_table_with_the_claim_escaped(results):
    shown = results[0]._repr_html_()
    assert "S12 makes &lt;A4&gt;." in shown
    assert "<table" in shown


@pytest.mark.slow
def test_one_at_a_time_counts_what_any_node_breaks(results, hypotheses, bench):
    together = results[1]
    assert together.verdict == "refuted"
    singles = {}
    for node in together.hypothesis.nodes:
        single = dataclasses.replace(hypotheses[1], nodes=(node,), one_at_a_time=False)
        singles[str(node)] = judge(single, bench).measurement
    broken = {name: m.n - m.patterns.get("yyyyyy", 0) for name, m in singles.items()}
    assert together.measurement.patterns == {}
    assert together.measurement.by_node == {name: n for name, n in broken.items() if n}
    for digit in together.measurement.tokens:
        wrong = [d.wrong for m in singles.values() for d in m.tokens if d.token == digit.token]
        assert max(wrong) <= digit.wrong <= sum(wrong)
    assert together.measurement.loss >= max(m.loss for m in singles.values())
    assert together.measurement.examples["A3"][0].node in broken


@pytest.mark.slow
def test_results_do_not_depend_on_order_or_on_what_was_judged_before(results, hypotheses):
    other = Workbench("cpu", chunk=7)
    for hypothesis, before in reversed(list(zip(hypotheses, results, strict=True))):
        again = judge(hypothesis, other)
        assert again.verdict == before.verdict
        assert again.measurement.patterns == before.measurement.patterns
        assert again.measurement.by_node == before.measurement.by_node
        assert [(d.wrong, d.asked) for d in again.measurement.tokens] == [
            (d.wrong, d.asked) for d in before.measurement.tokens
        ]
        assert again.measurement.loss == pytest.approx(before.measurement.loss, abs=1e-5)


def test_the_seed_decides_the_donors(hypotheses, bench):
    losses = [
        judge(dataclasses.replace(hypotheses[2], seed=seed), bench).measurement.losses.tolist() for seed in (5, 5, 6)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_fixture_is_a_model_to_work_with():
    fixture = harness.load_fixture(FIXTURE, FIXTURES, "cpu")
    logits = fixture.model(encode([Question(15508, 14500)], fixture.task))
    assert logits.shape == (1, 18, 13)
    assert logits[0, 11:17].argmax(-1).tolist() == [0, 3, 0, 0, 0, 8]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'judgement'"):
        _ = harness.judgement
    assert set(harness.__all__) <= {name for name in harness.__all__ if getattr(harness, name) is not None}


LAYOUT = Addition(1)


def lines(examples):
    return [example_line(dataclasses.asdict(example)) for example in examples]


def outcome(rows, losses, margins=1.0):
    predicted, losses = torch.tensor(rows), torch.tensor(losses, dtype=torch.float64)
    logits = torch.zeros(*predicted.shape, 1)
    margins = torch.as_tensor(margins).expand(predicted.shape)
    return Outcome(predicted, logits, logits[..., :0], losses, losses, margins)


def test_failures_of_the_clean_run_are_taken_out_of_digits_and_left_in_patterns():
    prompts = LAYOUT.encode([Question(1, 2), Question(5, 6), Question(4, 4)])  # 03, 11, 08
    clean = outcome([[0, 3], [1, 7], [0, 8]], [[0.0, 0.0], [0.0, 2.0], [0.0, 0.0]])  # 5+6: A0 wrong already
    tally = Tally(prompts, LAYOUT, clean)
    tally.add(outcome([[1, 3], [0, 7], [0, 8]], [[3.0, 0.0], [1.0, 2.0], [0.0, 0.0]]))
    m = tally.finish()
    assert m.clean_accuracy == pytest.approx(2 / 3)
    assert {d.token: (d.wrong, d.asked, d.excluded) for d in m.tokens} == {"A1": (2, 3, 0), "A0": (0, 2, 1)}
    assert m.patterns == {"Ny": 1, "NN": 1, "yy": 1}
    assert m.cases == {"BA": (1, 2), "MC1": (1, 1)}
    assert m.tokens[0].loss_change == pytest.approx(4 / 3)
    assert lines(m.examples["A1"]) == ["1+2=13 Ny BA", "5+6=07 NN MC1"]
    assert lines(m.examples["A1 right"]) == ["4+4=08 yy BA"]
    assert lines(m.examples["A0 right"]) == ["1+2=13 Ny BA", "4+4=08 yy BA"]


def test_near_ties_are_counted_where_another_engine_might_answer_otherwise():
    """In the clean run, or under an intervention where the clean run is right."""
    prompts = LAYOUT.encode([Question(1, 2), Question(5, 6), Question(4, 4)])  # 03, 11, 08
    near, clear = 0.99e-4, 1e-4
    clean = outcome([[0, 3], [1, 7], [0, 8]], [[0.0, 0.0]] * 3, [[near, clear], [clear, clear], [clear, near]])
    tally = Tally(prompts, LAYOUT, clean)
    assert tally.finish().near_ties == 2
    tally.add(outcome([[0, 3], [1, 7], [0, 8]], [[0.0, 0.0]] * 3, [[near, near], [clear, near], [clear, clear]]), "S0")
    tally.add(outcome([[0, 3], [1, 7], [0, 8]], [[0.0, 0.0]] * 3, [[clear, near], [clear, clear], [near, clear]]), "S1")
    m = tally.finish()
    assert {d.token: d.near_ties for d in m.tokens} == {"A1": 2, "A0": 2}  # not A0 of 5+6, wrong before
    assert (m.near_ties, m.as_dict()["near_ties"]) == (4, 4)


def test_several_interventions_are_counted_together():
    prompts = LAYOUT.encode([Question(1, 2), Question(5, 6), Question(4, 4)])
    tally = Tally(prompts, LAYOUT, outcome([[0, 3], [1, 1], [0, 8]], [[0.0, 0.0]] * 3))
    tally.add(outcome([[0, 3], [0, 1], [0, 8]], [[0.0, 0.1], [1.0, 0.0], [0.0, 0.0]]), "S0")
    tally.add(outcome([[0, 4], [0, 1], [0, 8]], [[0.2, 1.0], [0.5, 0.0], [0.0, 0.0]]), "S1")
    tally.add(outcome([[0, 3], [1, 1], [0, 8]], [[0.0, 0.0]] * 3), "S2")
    m = tally.finish()
    assert m.by_node == {"S0": 1, "S1": 2}
    assert m.patterns == {}  # a union of patterns is no pattern
    assert m.losses == pytest.approx([0.6, 0.5, 0.0])
    assert lines(m.examples["A0"])[0] == "1+2=04 yN BA by S1"
    assert lines(m.examples["A1"])[0] == "5+6=01 Ny MC1 by S0"


def test_an_example_of_a_digit_is_of_the_node_that_broke_that_digit():
    prompts = LAYOUT.encode([Question(1, 2)])
    tally = Tally(prompts, LAYOUT, outcome([[0, 3]], [[0.0, 0.0]]))
    tally.add(outcome([[1, 3]], [[1.0, 0.0]]), "S0")
    tally.add(outcome([[0, 9]], [[0.0, 1.0]]), "S1")
    m = tally.finish()
    assert lines(m.examples["A1"]) == ["1+2=13 Ny BA by S0"]
    assert lines(m.examples["A0"]) == ["1+2=09 yN BA by S1"]


def test_a_clean_failure_is_nobodys_example():
    prompts = LAYOUT.encode([Question(1, 2)])
    tally = Tally(prompts, LAYOUT, outcome([[1, 3]], [[1.0, 0.0]]))
    tally.add(outcome([[1, 4]], [[1.0, 1.0]]), "S0")
    m = tally.finish()
    assert m.examples["A1"] == m.examples["A1 right"] == ()
    assert lines(m.examples["A0"]) == ["1+2=14 NN BA by S0"]


def test_without_a_bench_changed_weights_are_not_judged_by_the_old_ones(tmp_path):
    import shutil

    shutil.copytree(FIXTURES / FIXTURE, tmp_path / "fixtures" / FIXTURE)
    path = tmp_path / "s.yaml"
    path.write_text(
        SPEC.split("  - id: one-at-a-time", maxsplit=1)[0].replace("reference: varied", "method: zero"), "utf-8"
    )
    (h,) = harness.load_hypotheses(path, tmp_path / "fixtures")
    first = judge(h)
    assert judge(h).measurement == first.measurement
    weights = tmp_path / "fixtures" / FIXTURE / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(harness.FixtureError, match="expected weights of sha256"):
        judge(h)
