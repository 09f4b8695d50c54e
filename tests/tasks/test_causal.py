"""The causal model of addition, against plain integers and against questions that really have the value."""

from __future__ import annotations

import itertools

import pytest
import torch

from harness.base.errors import HarnessError
from harness.tasks.addition.causal import answers_with, value_of
from harness.tasks.addition.task import Addition
from harness.tasks.addition.variables import KINDS, Variable, read_variable

LAYOUT = Addition(3)
SUMS = torch.tensor(list(itertools.product(range(19), repeat=3)))  # of all three-digit questions: 6,859
VARIABLES = [
    Variable(column, kind) for column in range(3) for kind in KINDS if column or kind not in ("sum9", "carry_in")
] + [Variable(column, "T", level) for column in range(3) for level in range(1, column + 2)]


def digits_of(sums):
    """Return the digits of the answer to a question with these column sums, by plain arithmetic."""
    return [int(digit) for digit in f"{sum(s * 10**i for i, s in enumerate(reversed(sums))):04d}"]


def value_in_words(variable, sums):
    """Return the variable's value on one question, from its definition."""
    column = len(sums) - 1 - variable.column
    own, below = sums[column], sum(s * 10**i for i, s in enumerate(reversed(sums[column + 1 :])))
    if variable.kind == "T":
        seen = sums[column + 1 : column + variable.level]
        return own + sum(s * 10**i for i, s in enumerate(reversed(seen))) // 10 ** len(seen)
    return {
        "base_add": own % 10, "carry": own // 10, "sum9": own == 9, "tricase": (own > 9) - (own < 9) + 1,
        "carry_in": below // 10**variable.column,
    }[variable.kind]  # fmt: skip


@pytest.mark.parametrize("variable", VARIABLES, ids=str)
def test_the_value_is_the_definition_s(variable):
    assert value_of(variable, SUMS).tolist() == [int(value_in_words(variable, sums)) for sums in SUMS.tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("variable", VARIABLES, ids=str)
def test_overwriting_with_its_own_value_changes_nothing(variable):
    found = answers_with(variable, value_of(variable, SUMS), SUMS)
    assert found.tolist() == [digits_of(sums) for sums in SUMS.tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("column", range(3))
def test_a_column_s_sum_overwritten_is_the_question_with_that_column(column):
    for value in range(19):
        other = SUMS.clone()
        other[:, 2 - column] = value
        found = answers_with(Variable(column, "T", 1), torch.full((len(SUMS),), value), SUMS)
        assert found.tolist() == [digits_of(sums) for sums in other.tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("column", range(3))
def test_a_tri_case_overwritten_changes_what_is_above_as_such_a_column_would_and_its_own_digit_never(column):
    place = 2 - column
    for value, standing_for in ((0, 0), (1, 9), (2, 10)):
        other = SUMS.clone()
        other[:, place] = standing_for
        found = answers_with(Variable(column, "tricase"), torch.full((len(SUMS),), value), SUMS)
        real = torch.tensor([digits_of(sums) for sums in other.tolist()])
        clean = torch.tensor([digits_of(sums) for sums in SUMS.tolist()])
        assert torch.equal(found[:, : place + 1], real[:, : place + 1])
        assert torch.equal(found[:, place + 1 :], clean[:, place + 1 :])


@pytest.mark.parametrize("column", [1, 2])
def test_a_carry_overwritten_is_the_question_whose_lower_columns_make_it(column):
    place = 2 - column
    for value in (0, 1):
        other = SUMS.clone()
        other[:, place + 1 :] = 0
        other[:, place + 1] = 10 * value
        found = answers_with(Variable(column, "carry_in"), torch.full((len(SUMS),), value), SUMS)
        real = torch.tensor([digits_of(sums) for sums in other.tolist()])
        assert torch.equal(found[:, : place + 2], real[:, : place + 2])


def test_carry_and_sum9_are_the_two_halves_of_the_tri_case():
    for column, (carry, nine) in itertools.product(range(1, 3), ((0, 0), (0, 1), (1, 0))):
        place = 2 - column
        kept = SUMS[SUMS[:, place] == 9] if nine else SUMS[SUMS[:, place] != 9]
        whole = answers_with(Variable(column, "tricase"), torch.full((len(kept),), nine + 2 * carry), kept)
        assert torch.equal(answers_with(Variable(column, "carry"), torch.full((len(kept),), carry), kept), whole)
        made = SUMS[(SUMS[:, place] >= 10) == bool(carry)]
        whole = answers_with(Variable(column, "tricase"), torch.full((len(made),), nine + 2 * carry), made)
        assert torch.equal(answers_with(Variable(column, "sum9"), torch.full((len(made),), nine), made), whole)


def test_a_base_add_overwritten_changes_its_own_digit_alone():
    clean = answers_with(Variable(0, "carry"), value_of(Variable(0, "carry"), SUMS), SUMS)
    found = answers_with(Variable(1, "base_add"), (SUMS[:, 1] + 3) % 10, SUMS)
    assert torch.equal(found[:, 2], (clean[:, 2] + 3) % 10)
    assert torch.equal(found[:, [0, 1, 3]], clean[:, [0, 1, 3]])


def test_only_the_digits_it_says_depend_on_a_variable():
    for variable in VARIABLES:
        values = range({"T": 20, "base_add": 10, "tricase": 3}.get(variable.kind, 2))
        clean = answers_with(variable, value_of(variable, SUMS), SUMS)
        changed = torch.stack([answers_with(variable, torch.full((len(SUMS),), v), SUMS) != clean for v in values])
        moved = changed.any(0).any(0).tolist()
        assert tuple(d for d, m in zip(LAYOUT.answer_tokens, moved, strict=True) if m) == variable.answer_tokens(LAYOUT)


@pytest.mark.parametrize(
    ("name", "source", "base", "digits", "published"),
    [
        ("D2.tricase", (77711, 22711), (44444, 55555), (0, 1), "109999"),
        ("D1.tricase", (11171, 11171), (44444, 55555), (0, 1, 2), "100999"),
        ("D0.tricase", (11117, 11117), (44444, 55555), (0, 1, 2, 3), "100099"),
        ("D3.tricase", (16111, 16111), (44444, 55555), (0,), "199999"),
        ("D4.tricase", (71111, 71111), (44444, 55555), (0,), "199999"),
        ("D4.base_add", (72222, 71111), (12342, 56573), (1,), "048915"),
    ],
)
def test_the_published_pairs(name, source, base, digits, published):
    """The post's answers: those digits as the model says, the others as the second question has them."""
    layout = Addition(5)
    from_source, own = (
        torch.tensor([[int(x) + int(y) for x, y in zip(*map(str, pair), strict=True)]]) for pair in (source, base)
    )
    variable = read_variable(name, layout)
    found = answers_with(variable, value_of(variable, from_source), own)[0].tolist()
    answer = [int(digit) for digit in f"{sum(base):06d}"]
    assert "".join(str(found[i] if i in digits else answer[i]) for i in range(6)) == published


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("D5.tricase", "expected a column D0 to D4, found D5; name a column of the question"),
        ("D2.tricas", "found tricas; did you mean 'tricase'?"),
        ("D1.T3", "expected T1 to T2 of D1, found T3; write T2, which has seen all columns below"),
        ("D2", "expected a variable like D2.tricase or D4.T1, found D2"),
        ("D0.sum9", "expected a variable that makes a difference, found D0.sum9: no carry comes into D0"),
        ("D0.carry_in", "no carry comes into D0"),
        ("D2.T0", "found T0"),
    ],
)
def test_what_is_no_variable(text, message):
    with pytest.raises(HarnessError) as caught:
        read_variable(text, Addition(5))
    assert message in str(caught.value)


def test_a_name_reads_back():
    for text in ("D2.tricase", "D4.T5", "D0.T1", "D3.carry_in"):
        assert str(read_variable(text, Addition(5))) == text


# Written by hand: the same of the next columns, the others of the column, a sum one level off.
NEAR = {
    "D2.carry": {"D1.carry", "D2.base_add", "D2.sum9", "D2.tricase", "D2.carry_in", "D2.T1"},
    "D1.T1": {"D2.T1", "D0.T1", "D1.base_add", "D1.carry", "D1.sum9", "D1.tricase", "D1.carry_in", "D1.T2"},
    "D2.T3": {"D2.base_add", "D2.carry", "D2.sum9", "D2.tricase", "D2.carry_in", "D2.T2"},
    "D1.sum9": {"D2.sum9", "D1.base_add", "D1.carry", "D1.tricase", "D1.carry_in", "D1.T1"},
    "D0.carry": {"D1.carry", "D0.base_add", "D0.T1"},  # the tri-case of D0 is its carry
    "D0.T1": {"D1.T1", "D0.base_add", "D0.carry", "D0.tricase"},
}


@pytest.mark.parametrize(("name", "near"), NEAR.items(), ids=NEAR)
def test_the_variables_near_one_are_those_of_the_column_and_the_next(name, near):
    found = LAYOUT.variables_near(LAYOUT.read_variable(name))
    assert {str(variable) for variable in found} == near
    assert len(found) == len(near)
    assert all(read_variable(str(variable), LAYOUT) == variable for variable in found)


def test_no_two_near_variables_always_say_the_same():
    """A variable that no question tells from the first would survive as a mutant by definition."""
    sources = SUMS[torch.randperm(len(SUMS), generator=torch.Generator().manual_seed(1))]
    for variable in VARIABLES:
        for other in LAYOUT.variables_near(variable):
            mine, theirs = (answers_with(one, value_of(one, sources), SUMS) for one in (variable, other))
            assert bool((mine != theirs).any()), (variable, other)
