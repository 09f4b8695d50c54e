"""The verbs that cut nothing: `answer`, `attend` and `learn`, measured and judged."""

from __future__ import annotations

import dataclasses
import math
import random
import shutil

import numpy as np
import pytest
import torch
from asking import answers
from paths import FIXTURES
from tiny import make_recipe, pin_bytes, random_weights, read_claim, write_tiny

from harness.base.errors import FixtureError, MeasurementError, SpecError
from harness.base.intervals import exact_interval, mean_interval_within
from harness.engines import cone
from harness.engines import hooks as hooked
from harness.engines.interventions import CLEAN
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.judging.verbs.learn import learned_at
from harness.models.fixtures import fixture_of, load_fixture
from harness.reporting.failure import failure_text
from harness.reporting.summary import tokens_seen
from harness.specs.fixtures.files import CURVES, WEIGHTS
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import reach, read_nodes
from harness.tasks.addition.task import Addition
from harness.tasks.questions import Sample
from harness.training.curves import Curves, read_curves, to_csv_gz

ONE_LAYER = "add_d5_l1_h3"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    """Return a directory of models: two of the same task that answer at random, and one for another."""
    path = tmp_path_factory.mktemp("fixtures")
    for seed, name in enumerate(("one", "two")):
        write_tiny(path, name, weights=random_weights(make_recipe(), seed))
    write_tiny(path, "longer", n_digits=3, weights=random_weights(make_recipe(n_digits=3)))
    (path / "broken").mkdir()
    (path / "broken" / "recipe.yaml").write_text("version: 1\n", "utf-8")
    return path


def read(tmp_path, text, fixtures, fixture="one"):
    return read_claim(tmp_path, text, fixtures, fixture)


def refused(tmp_path, text, fixtures):
    with pytest.raises(SpecError) as caught:
        read(tmp_path, text, fixtures)
    return str(caught.value).splitlines()


# Bounds and intervals.


def test_the_bernstein_interval_covers_and_has_a_width_without_any_spread():
    draw = random.Random(5)
    for mean in (0.02, 0.5, 0.98):
        covered = 0
        for _ in range(300):
            low, high = mean_interval_within([float(draw.random() < mean) for _ in range(400)], 0.95, 1)
            covered += low <= mean <= high
        assert covered >= 0.95 * 300
    low, high = mean_interval_within([0.0] * 1000, 0.99, 2)
    assert high == -low == pytest.approx(7 * 2 * math.log(400) / (3 * 999))
    assert mean_interval_within([0.5], 0.99, 1) == (-math.inf, math.inf)


def test_the_bernstein_interval_is_its_formula():
    values = [0.1, 0.4, 0.4, 0.9]
    half = math.sqrt(2 * np.var(values, ddof=1) * math.log(4 / 0.05) / 4) + 7 * math.log(4 / 0.05) / (3 * 3)
    assert mean_interval_within(values, 0.95, 1) == pytest.approx((0.45 - half, 0.45 + half))


# answer


def by_brute_force(name, sample, fixtures=FIXTURES, digit=None, free=False):
    """Return how many of the questions the reference engine answers right."""
    fixture = load_fixture(name, fixtures, "cpu")
    prompts = fixture.task.batch_for(sample)
    predicted = hooked.generate(fixture, prompts) if free else hooked.run(fixture, prompts, [CLEAN])[0].predicted
    right = predicted == answers(prompts.tokens, fixture.task)
    return int((right.all(1) if digit is None else right[:, fixture.task.answer_tokens.index(digit)]).sum())


@pytest.mark.parametrize(
    ("expect", "verdict"),
    [
        ("{accuracy_at_least: 0.5, loss_above: 2}", "refuted"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("{accuracy_at_least: 0.5}", "supported"),
                ("{accuracy_at_least: 0.99}", "refuted"),
                ("{accuracy_at_most: 0.99}", "supported"),
                ("{accuracy_at_most: 0.5}", "refuted"),
                ("{accuracy_at_least: 0.5, accuracy_at_most: 0.99}", "supported"),
                ("{loss_below: 2}", "supported"),
                ("{loss_below: 0.05}", "refuted"),
                ("{loss_above: 0.0001}", "supported"),
            )
        ),
    ],
)
def test_how_well_a_model_answers(tmp_path, expect, verdict):
    claim = read(
        tmp_path, f"answer: whole\nquestions: {{n: 600, seed: 4, where: {{cascade: 3}}}}\nexpect: {expect}", FIXTURES,
        ONE_LAYER,
    )  # fmt: skip
    result = judge(claim, Workbench("cpu"))
    assert result.verdict == verdict
    assert result.engine == "cone"
    right = by_brute_force(ONE_LAYER, claim.questions)
    assert 300 < right < 580
    for row in result.comparisons:
        if row.subject == "whole":
            assert (row.k, row.n) == (right, 600)
            assert (row.low, row.high) == exact_interval(right, 600, 1 - 0.01 / claim.comparisons)
        else:
            assert row.subject == "loss"
            assert row.low < row.value < row.high


@pytest.mark.slow
@pytest.mark.parametrize("free", [False, True])
def test_each_digit_by_itself_teacher_forced_and_free_running(tmp_path, free):
    text = f"answer: [A5, A4]\nfree_running: {str(free).lower()}\nquestions: {{n: 300, seed: 4, where: {{cascade: 4}}}}"
    claim = read(tmp_path, f"{text}\nexpect: {{accuracy_at_most: 0.999}}", FIXTURES, ONE_LAYER)
    for engine in ("cone", "hooks"):
        rows = judge(claim, Workbench("cpu", engine)).comparisons
        assert [row.subject for row in rows] == ["A5", "A4"]
        for row in rows:
            right = by_brute_force(ONE_LAYER, claim.questions, digit=row.subject, free=free)
            assert (row.k, row.n) == (right, 300)


def test_a_census_has_no_interval_and_must_hold_as_it_is(tmp_path, fixtures):
    claim = read(tmp_path, "answer: whole\nquestions: [1+1, 50+50]\nexpect: {accuracy_at_most: 0.5}", fixtures)
    result = judge(claim, Workbench("cpu"))
    right = by_brute_force("one", claim.questions, fixtures)
    assert result.verdict == ("supported" if right < 2 else "refuted")
    assert result.comparisons[0].low is None


def test_a_group_is_judged_fixture_by_fixture_and_all_must_hold(tmp_path, fixtures):
    text = "answer: whole\nfixtures: {names}\nquestions: {{n: 400}}\nexpect: {{accuracy_at_most: 0.9}}"
    claim = read(tmp_path, text.format(names='"[ot][nw][eo]"'), fixtures)
    assert claim.group == ("one", "two")
    assert claim.comparisons == 2
    result = judge(claim, Workbench("cpu"))
    assert [(row.fixture, row.subject) for row in result.comparisons] == [("one", "whole"), ("two", "whole")]
    assert list(result.weights) == ["one", "two"]
    for row, name in zip(result.comparisons, claim.group, strict=True):
        right = by_brute_force(name, claim.questions, fixtures)
        assert (row.k, row.n) == (right, 400)
        assert (row.low, row.high) == exact_interval(right, 400, 1 - 0.01 / 2)
    assert result.verdict == "supported"


@pytest.mark.slow
def test_a_gain_is_taken_question_by_question(tmp_path, fixtures):
    text = "answer: [A0]\nfixtures: one\nthan: [two]\nquestions: {n: 5000}\nexpect: {gain_at_most: 0.5}"
    claim = read(tmp_path, text, fixtures)
    result = judge(claim, Workbench("cpu"))
    (row,) = result.comparisons
    one, two = (by_brute_force(name, claim.questions, fixtures, digit="A0") for name in ("one", "two"))
    assert one != two
    assert row.value == pytest.approx((one - two) / 5000)
    assert row.low < row.value < row.high
    assert (result.verdict, row.finding) == ("vacuous", "holds")  # neither answers anything
    assert set(result.weights) == {"one", "two"}
    swapped = judge(dataclasses.replace(claim, group=("two",), than=("one",)), Workbench("cpu")).comparisons[0]
    assert swapped.value == pytest.approx(-row.value)
    itself = judge(dataclasses.replace(claim, than=("one",), at_most=0.001), Workbench("cpu"))
    assert itself.comparisons[0].value == 0
    assert itself.verdict == "inconclusive"  # 5,000 questions cannot show that there is no gain of a thousandth


def test_where_there_is_no_room_for_a_gain_none_can_be_denied(tmp_path):
    text = "answer: [A0]\nthan: add_d5_l2_h3\nquestions: {n: 200}\nexpect: {gain_at_most: 0.1}"
    claim = read(tmp_path, text, FIXTURES, ONE_LAYER)
    with pytest.raises(
        MeasurementError, match=r"expected a gain that could exceed 0.1, found add_d5_l2_h3 right on 100"
    ):
        judge(claim, Workbench("cpu"))


@pytest.mark.slow
def test_what_is_shown_of_it(tmp_path):
    claim = read(
        tmp_path, "answer: whole\nsource: post\nquestions: {n: 600, seed: 4, where: {cascade: 3}}\n"
        "expect: {accuracy_at_least: 0.99}", FIXTURES, ONE_LAYER,
    )  # fmt: skip
    record = record_of(judge(claim, Workbench("cpu")))
    right = by_brute_force(ONE_LAYER, claim.questions)
    assert tokens_seen(record).startswith(f"whole {right}/600 (")
    text = failure_text(record)
    assert text.startswith(
        f"REFUTED: c\npost · {ONE_LAYER} · answers · clean · 600 × cascade 3, seed 4 (sample of 600)\n"
    )
    assert "questions that decided it:\n" in text
    shown = text.split("decided it:\n")[1].splitlines()[0].split()
    assert "N" in shown[1]
    assert "right ≥ 99%" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("answer: [A7]\nquestions: {n: 99}\nexpect: {accuracy_at_least: 0.1}",
         "s.yaml:6:14: expected an answer digit A2 to A0, found A7; write one of A0, A1, A2"),
        ("answer: whole\nfixtures: three\nquestions: {n: 99}\nexpect: {accuracy_at_least: 0.1}",
         "s.yaml:7:15: expected fixtures in FIXTURES, found three; write one of broken, longer, one, two"),
        ("answer: whole\nfixtures: [one, 'l*']\nquestions: {n: 99}\nexpect: {accuracy_at_least: 0.1}",
         "s.yaml:7:21: expected fixtures for 2 digits, found longer, of 3 digits; drop it"),
        ("answer: whole\nquestions: {n: 99}\nexpect: {accuracy_at_least: 0.9999}",
         "s.yaml:7:20: expected n of at least 52981, or the claim cannot be settled, found 99; write n: 52981 or more"),
        ("answer: whole\nquestions: {n: 99}\nexpect: {accuracy_at_least: 1.0}",
         "s.yaml:8:13: expected rates between 0 and 1 for a sample, found one that no sample can show; change the rate"),
        ("answer: whole\nquestions: {n: 99}\nexpect: {accuracy_at_least: 0.5, accuracy_at_most: 0.4}",
         "s.yaml:8:13: expected the lower bound below the upper one, found 0.5 and 0.4; swap them, or leave one out"),
        ("answer: whole\nquestions: {n: 99}\nexpect: {loss_above: 0.5, loss_below: 0.4}",
         "s.yaml:8:26: expected loss_above less than loss_below, found 0.5 and 0.4; swap them"),
        ("answer: whole\nquestions: {n: 1}\nexpect: {loss_below: 0.4}",
         "s.yaml:7:20: expected n of at least 36, or the claim cannot be settled, found 1; write n: 36 or more"),
        ("answer: whole\nquestions: varied\nexpect: {accuracy_at_least: 0}",
         "s.yaml:8:33: expected a number more than 0, found 0; correct `accuracy_at_least`"),
        ("answer: whole\nquestions: varied\nexpect: {accuracy_at_most: 1}",
         "s.yaml:8:32: expected a number less than 1, found 1; correct `accuracy_at_most`"),
        ("answer: whole\nthan: two\nquestions: varied\nexpect: {gain_at_least: -1}",
         "s.yaml:9:29: expected a number more than -1, found -1; correct `gain_at_least`"),
        ("answer: whole\nthan: two\nquestions: varied\nexpect: {gain_at_most: 1}",
         "s.yaml:9:28: expected a number less than 1, found 1; correct `gain_at_most`"),
        ("answer: whole\nfixtures: [one, two]\nthan: t*\nquestions: varied\nexpect: {gain_at_least: 0.1}",
         "s.yaml:8:11: expected other fixtures than those that are compared with them, found two; drop it"),
        ("answer: whole\nthan: two\nquestions: {n: 20}\nexpect: {gain_at_least: 0.1}",
         "s.yaml:8:20: expected n of at least 33, or the claim cannot be settled, found 20; write n: 33 or more"),
        ("answer: [A0]\nfixtures: '{x}'\nquestions: varied\nexpect: {accuracy_at_least: 0.1}",
         "s.yaml:4:5: expected `each`, whose rows fill in {x}, found no such key; add it, or drop the braces"),
        ("answer: [A0]\nfixtures: broken\nquestions: varied\nexpect: {accuracy_at_least: 0.1}",
         "s.yaml:7:15: expected "),
        ("attend: {node: S5L0H0, to: [3]}\nquestions: {n: 99}\nexpect: {mass_at_least: 0.5}",
         "s.yaml:6:33: expected a step S0 to S8 or a token D1 to A0, found 3; name a step or token of the layout"),
        ("attend: {node: S5L0H0, to: [D1]}\nquestions: {n: 20}\nexpect: {mass_at_least: 0.8}",
         "s.yaml:7:20: expected n of at least 71, or the claim cannot be settled, found 20; write n: 71 or more"),
        ("attend: {node: S5L0H0, to: [D1]}\nquestions: {n: 99}\nexpect: {mass_at_least: 1.0}",
         "s.yaml:8:13: expected rates between 0 and 1 for a sample, found one that no sample can show; change the rate"),
        ("learn: {first: [A0], before: [US9.D0], below: 0.1}\nfixtures: [one]\nexpect: {share_above: 0.001}",
         "s.yaml:6:35: expected a loss of the learning curves, found US9.D0; did you mean 'US9.D1'?"),
        ("learn: {first: [A0], before: [A1], below: 0.1}\nfixtures: [one]\nexpect: {share_above: 0}",
         "s.yaml:8:27: expected a number more than 0, found 0; correct `share_above`"),
        ("answer: whole\nmethod: zero\nquestions: {n: 99}\nexpect: {accuracy_at_least: 0.1}",
         "s.yaml:7:5: expected a known key, found method; known keys: answer, claim, expect, fixtures, free_running, id, "
         "questions, recorded, source, survivors, tags, than, xfail"),
        ("answer: whole\nablate: S3\nquestions: {n: 99}\nexpect: {accuracy_at_least: 0.1}",
         "s.yaml:6:5: expected one of ablate, keep, patch, answer, attend, learn, found ablate and answer; write a claim each"),
        ("attend: {node: S5L0, to: [D1]}\nquestions: {n: 99}\nexpect: {mass_at_least: 0.5}",
         "s.yaml:6:20: expected heads of one step, like S12L0H0, found S5L0; name some"),
        ("attend: {node: S2L1H0, to: [D1]}\nquestions: {n: 99}\nexpect: {mass_at_least: 0.5}",
         "s.yaml:6:20: expected a head that something reads, found S2L1H0, which reaches no digit; name another"),
        ("attend: {node: S5L0H0, to: [D1, A1]}\nquestions: {n: 99}\nexpect: {mass_at_least: 0.5}",
         "s.yaml:6:37: expected steps up to S5, which S5L0H0 can see, found A1; drop it"),
        ("attend: {node: S5L0H0, to: [D9]}\nquestions: {n: 99}\nexpect: {mass_at_least: 0.5}",
         "s.yaml:6:33: expected a step S0 to S8 or a token D1 to A0, found D9; name a step or token of the layout"),
        ("learn: {first: [A0], before: [A7], below: 0.1}\nexpect: {share_above: 0.001}",
         "s.yaml:6:35: expected a loss of the learning curves, found A7; write one of A0, A1, A2, BA.D0, BA.D1, BA.all, UC1.D1, UC1.any, US9.D1, US9.any, loss"),
        ("learn: {first: [A0], before: [A1], below: 0.1}\nfixtures: [one, two]",
         "s.yaml:7:15: expected at least 8 training runs, or the claim cannot be settled, found 2; name more, or claim a "
         "smaller share"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path, fixtures, text, problem):
    first = refused(tmp_path, text, fixtures)[0]
    assert first.startswith(problem.replace("FIXTURES", str(fixtures)))
    assert problem.endswith("expected ") or first == problem.replace("FIXTURES", str(fixtures))


# attend


@pytest.mark.slow
def test_both_engines_see_the_same_attention():
    recipe = make_recipe(n_layers=3)
    fixture = fixture_of("tiny", recipe, "0" * 64, random_weights(recipe), torch.device("cpu"))
    prompts = fixture.task.batch_for(Sample(11, 1))
    for node in all_nodes(fixture.shape):
        if node.kind == "head" and reach([node], fixture.shape):
            (outcome, found), (expected_outcome, expected) = (
                engine.attention(fixture, prompts, [node], 4) for engine in (cone, hooked)
            )
            assert outcome.predicted.tolist() == expected_outcome.predicted.tolist()
            found, expected = found[node], expected[node]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(found.sum(2), torch.ones(11, 1))
            assert not found[:, :, node.step + 1 :].any()


def test_attention_to_some_steps_is_the_sum_of_theirs(tmp_path, fixtures):
    text = 'attend: {{node: S5L0H1, to: [D1, D0, "D\'0"]}}\nquestions: {{n: 600}}\ngate: 0\nexpect: {{{bound}}}'
    fixture = load_fixture("one", fixtures, "cpu")
    (node,) = read_nodes("S5L0H1", fixture.shape)
    prompts = fixture.task.batch_for(Sample(600, 0))
    mass = float(hooked.attention(fixture, prompts, [node])[1][node][:, 0, [0, 1, 4]].sum(1).double().mean())
    assert mass + 0.15 < 0.5  # a head that looks everywhere alike looks at three of six steps half of the time
    for bound, verdict in (  # what that one meets too is vacuous
        (f"mass_at_least: {mass - 0.15:.3f}", "vacuous"), (f"mass_at_least: {mass + 0.15:.3f}", "refuted"),
        (f"mass_at_most: {mass + 0.15:.3f}", "supported"), (f"mass_at_most: {mass:.3f}", "inconclusive"),
        ("mass_at_most: 0.6", "vacuous"),
    ):  # fmt: skip
        result = judge(read(tmp_path, text.format(bound=bound), fixtures), Workbench("cpu"))
        assert result.verdict == verdict
        assert result.comparisons[0].value == pytest.approx(mass, abs=1e-5)
        assert sum(result.measurement.by_step.values()) == pytest.approx(1, abs=1e-3)


def test_a_model_that_cannot_answer_is_not_asked_where_it_looks(tmp_path, fixtures):
    text = "attend: {node: S5L0H1, to: [D1]}\nquestions: {n: 200}\nexpect: {mass_at_least: 0.1}"
    with pytest.raises(MeasurementError, match=r"expected a clean accuracy of at least 0\.99 on these questions"):
        judge(read(tmp_path, text, fixtures), Workbench("cpu"))


# learn


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ([1.0] * 30 + [0.0] * 30, 48),  # the mean of 20 is below 0.1 once 19 of them are 0
        ([0.0] * 60, 19), ([1.0] * 60, None), ([0.0] * 40 + [1.0] * 20, None),
        ([1.0] * 20 + [0.0] * 30 + [1.0] + [0.0] * 29, 38), ([0.0] * 19, None), ([math.nan] * 20 + [0.0] * 20, 39),
    ],
)  # fmt: skip
def test_a_series_is_learned_when_it_stays_below(losses, step):
    found = learned_at(torch.tensor(losses, dtype=torch.float64), 0.1)
    assert found == step


STEPS = 300


def runs(path, orders):
    """Write fixtures whose A0 falls at the step given first and A2 at the other; return their names."""
    layout = Addition(2)
    names = layout.curve_columns
    for i, (first, second) in enumerate(orders):
        write_tiny(path, f"run{i}", steps=STEPS, weights=random_weights(make_recipe(steps=STEPS), seed=i))
        values = torch.zeros(STEPS, len(names), dtype=torch.float64)
        for name, step in (("A0", first), ("A2", second)):
            values[:step, names.index(name)] = 1
        values[0, names.index("A1")] = i  # no two runs are the same
        (path / f"run{i}" / CURVES).write_bytes(to_csv_gz(Curves(layout, values)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("orders", "share", "verdict"),
    [
        ([(50, 100)] * 8, 0.5, "supported"), ([(50, 100)] * 7 + [(100, 50)], 0.5, "inconclusive"),
        ([(100, 50)] * 8, 0.5, "refuted"), ([(50, 50)] * 8, 0.5, "refuted"), ([(50, 300)] * 8, 0.5, "supported"),
        ([(300, 50)] * 8, 0.5, "refuted"), ([(50, 100)] * 8, 0.4, "supported"),
    ],
)  # fmt: skip
def test_the_order_of_learning_over_training_runs(tmp_path, orders, share, verdict):
    runs(tmp_path, orders)
    text = f"learn: {{first: [A0], before: [A2], below: 0.1}}\nfixtures: run*\nexpect: {{share_above: {share}}}"
    result = judge(read(tmp_path, text, tmp_path, "run0"), Workbench("cpu"))
    held = sum(first < second for first, second in orders)
    assert (result.comparisons[0].k, result.comparisons[0].n) == (held, 8)
    assert (result.comparisons[0].low, result.comparisons[0].high) == exact_interval(held, 8, 0.99)
    assert result.verdict == verdict
    assert tokens_seen(record_of(result)) == f"runs {held}/8 ({100 * held / 8:g}%)"
    assert "runs" in failure_text(record_of(result))


def test_curves_of_fewer_steps_than_the_recipes_are_refused(tmp_path):
    runs(tmp_path, [(50, 100)] * 8)
    path = tmp_path / "run5" / CURVES
    curves = read_curves(path, Addition(2))
    path.write_bytes(to_csv_gz(Curves(Addition(2), curves.values[:-1])))
    text = "learn: {first: [A0], before: [A2], below: 0.1}\nfixtures: run*"
    with pytest.raises(FixtureError, match=r"run5.*expected the curves of 300 steps, found 299"):
        judge(read(tmp_path, text, tmp_path, "run0"), Workbench("cpu"))


def test_a_run_under_two_names_is_an_error(tmp_path):
    runs(tmp_path, [(50, 100)] * 8)
    (tmp_path / "run6" / CURVES).write_bytes((tmp_path / "run2" / CURVES).read_bytes())
    text = "learn: {first: [A0], before: [A2], below: 0.1}\nfixtures: run*"
    with pytest.raises(
        MeasurementError, match=r"each training run once, found the curves of run2 again, as those of run6"
    ):
        judge(read(tmp_path, text, tmp_path, "run0"), Workbench("cpu"))


def test_the_same_weights_with_other_curves_are_one_run_too(tmp_path):
    runs(tmp_path, [(50, 100)] * 8)
    pin_bytes(tmp_path / "run6", (tmp_path / "run2" / WEIGHTS).read_bytes())
    text = "learn: {first: [A0], before: [A2], below: 0.1}\nfixtures: run*"
    with pytest.raises(MeasurementError, match=r"found the weights of run2 again, as those of run6"):
        judge(read(tmp_path, text, tmp_path, "run0"), Workbench("cpu"))


def test_curves_of_another_run_than_the_pinned_one_are_refused(tmp_path):
    names = [f"quick_d5_l2_s{i}" for i in range(8)]
    for name in names:
        shutil.copytree(FIXTURES / name, tmp_path / name)
    text = 'learn: {first: [A0], before: [A1], below: 0.1}\nfixtures: "quick_d5_l2_s*"'
    assert judge(read(tmp_path, text, tmp_path, names[0]), Workbench("cpu")).comparisons[0].n == 8
    (tmp_path / names[3] / CURVES).write_bytes((tmp_path / names[4] / CURVES).read_bytes())
    with pytest.raises(FixtureError, match=r"quick_d5_l2_s3.*expected learning curves of sha256 \w+, found sha256"):
        judge(read(tmp_path, text, tmp_path, names[0]), Workbench("cpu"))


def test_imported_weights_have_no_learning_curves(tmp_path):
    runs(tmp_path, [(50, 100)] * 8)
    (tmp_path / "run3" / CURVES).unlink()
    text = "learn: {first: [A0], before: [A2], below: 0.1}\nfixtures: run*"
    with pytest.raises(FixtureError, match=r"run3.*expected learning curves, found no such file"):
        judge(read(tmp_path, text, tmp_path, "run0"), Workbench("cpu"))
