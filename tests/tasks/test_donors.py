"""Donors and pairs: each prompt and each base has its own partner, drawn alike and independently."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from harness.base.errors import MeasurementError
from harness.tasks.addition.layout import Question
from harness.tasks.addition.task import Addition
from harness.tasks.addition.variables import read_variable
from harness.tasks.donors import draw_donors
from harness.tasks.pairs import draw_pairs
from harness.tasks.questions import PairSample, QuestionList, Sample

TASK = Addition(2)
SMALL = Addition(1)


def test_a_donor_is_another_prompt_and_depends_only_on_the_seed():
    prompts = TASK.encode([Question(1, 2), Question(3, 4), Question(1, 2)] * 50)
    listed = QuestionList((Question(1, 2), Question(3, 4), Question(5, 6), Question(1, 2)))
    donors = draw_donors(prompts, listed, 7, TASK)
    assert not (prompts.tokens == donors.tokens).all(1).any()
    assert torch.equal(donors.tokens, draw_donors(prompts, listed, 7, TASK).tokens)
    assert not torch.equal(donors.tokens, draw_donors(prompts, listed, 8, TASK).tokens)
    assert set(donors.texts()[1::3]) == {"01+02", "05+06"}


def test_donors_of_a_list_are_drawn_as_often_as_they_stand_there():
    prompts = TASK.encode([Question(9, 9)] * 4000)
    found = Counter(
        draw_donors(prompts, QuestionList((Question(1, 2), Question(3, 4), Question(1, 2))), 1, TASK).texts()
    )
    assert abs(found["01+02"] - 4000 * 2 / 3) < 4 * (4000 * 2 / 9) ** 0.5


def test_a_rare_donor_is_found_where_nearly_all_are_the_prompt_itself():
    listed = QuestionList((*[Question(1, 2)] * 999, Question(3, 4)))
    donors = draw_donors(TASK.encode([Question(1, 2)] * 3), listed, 0, TASK)
    assert donors.texts() == ["03+04"] * 3


def test_a_prompt_without_another_donor_is_an_error():
    only = QuestionList((Question(1, 2),) * 3)
    told = "^expected a donor other than the question itself, found none in the reference; name a larger reference$"
    for questions in ([Question(1, 2)] * 3, [Question(3, 4), Question(1, 2)]):  # one is enough
        with pytest.raises(MeasurementError, match=told):
            draw_donors(TASK.encode(questions), only, 0, TASK)


def test_donors_of_a_sample_are_its_population_whatever_its_size_and_its_strata():
    """All 100 questions of one digit alike; and of two strata half each, in no order that prompts could share."""
    prompts = SMALL.encode([Question(9, 9)] * 9900)
    found = Counter(draw_donors(prompts, Sample(3, 5), 0, SMALL).texts())
    assert len(found) == 99
    assert max(abs(count - 100) for count in found.values()) < 5 * 10
    strata = TASK.strata(TASK.where_keys(case=["BA", "MC1"]), "case")
    cases = draw_donors(TASK.encode([Question(99, 1)] * 1000), Sample(10, 5, strata), 0, TASK).cases()
    assert Counter(cases[:500])["BA"] in range(190, 311)
    assert Counter(cases) == {"BA": 500, "MC1": 500}


def test_every_base_has_its_own_sources():
    """An adversary saw sources of pairs that agree used up to 17 times: such pairs are no independent trials."""
    variable = read_variable("D0.tricase", TASK)
    drawn = draw_pairs(PairSample(1000, 0), variable, ("A1",), TASK)
    used = torch.cat([drawn.differing, drawn.agreeing])
    assert len(torch.unique(used)) == 2000 == len(drawn.sources)
    values = TASK.value_of(variable, drawn.sources)
    base = TASK.value_of(variable, drawn.bases)
    assert torch.equal(values[drawn.agreeing], base)
    assert not (values[drawn.differing] == base).any()


def test_sources_that_agree_are_drawn_alike_given_the_value():
    """Compared with another way to draw them: from a long row of varied prompts, all that have the value."""
    variable = read_variable("D0.tricase", SMALL)
    drawn = draw_pairs(PairSample(6000, 3), variable, ("A1",), SMALL)
    base, other = SMALL.value_of(variable, drawn.bases), SMALL.varied(60_000, torch.Generator().manual_seed(99))
    long = SMALL.value_of(variable, other)
    for value in torch.unique(base).tolist():
        found = Counter(drawn.sources[drawn.agreeing[base == value]].texts())
        expected = Counter(other[long == value].texts())
        n, m = sum(found.values()), sum(expected.values())
        chi2 = sum(
            (found[text] - n * count / m) ** 2 / (n * count / m * (1 + n / m)) for text, count in expected.items()
        )
        freedom = len(expected) - 1
        assert chi2 < freedom + 5 * (2 * freedom) ** 0.5
        assert set(found) <= set(expected)
