"""The named sets against facts taken from the notebook's text by another program."""

from __future__ import annotations

import pytest

from harness.base.errors import HarnessError
from harness.tasks.addition.arithmetic import cases_of, encode
from harness.tasks.addition.question_sets import NAMES, named_set
from harness.tasks.addition.task import Addition

MANUAL = ("ba", "uc1", "simple_us9", "cascade_us9", "steps")
SIZES = range(1, 21)


def exists(name, n):
    return name != "varied" and any(max(question) < 10**n for question in named_set(name, Addition(5)))


def cases(name, n):
    return cases_of(encode(named_set(name, Addition(n)), Addition(n)), Addition(n))


def test_there_are_six_sets():
    assert list(NAMES) == [*MANUAL, "varied"]


@pytest.mark.parametrize(
    ("name", "n", "size", "first", "last", "checksum"),
    [
        ("uc1", 9, 19, (15, 45), (35002, 59019), (5609439, 7464363)),
        ("uc1", 10, 24, (15, 45), (350020000, 590190000), (18695949439, 39085414363)),
    ],
)
def test_a_manual_set_holds_the_notebooks_rows_in_order(name, n, size, first, last, checksum):
    """The checksum is the sum of each addend times its row number, from 1."""
    questions = named_set(name, Addition(n))
    assert (len(questions), questions[0], questions[-1]) == (size, first, last)
    assert tuple(sum(row * question[k] for row, question in enumerate(questions, 1)) for k in (0, 1)) == checksum


def test_varied_is_64_random_questions_and_then_every_manual_set():
    layout = Addition(5)
    varied = named_set("varied", layout)
    assert len(varied) == 172
    assert len(set(varied[:64])) == 64
    assert varied[64:] == tuple(question for name in MANUAL for question in named_set(name, layout))


@pytest.mark.parametrize("n", SIZES)
def test_varied_starts_with_the_same_random_pairs_at_every_size(n):
    longest = named_set("varied", Addition(20))[:64]
    assert named_set("varied", Addition(n))[:64] == tuple((x % 10**n, y % 10**n) for x, y in longest)


def test_the_random_pairs_use_all_twenty_digits():
    written = [Addition(20).write_question(question) for question in named_set("varied", Addition(20))[:64]]
    for column in (*range(20), *range(21, 41)):
        assert len({text[column] for text in written}) > 5


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("name", MANUAL)
def test_fewer_digits_keep_the_questions_that_fit_and_refuse_an_empty_set(name, n):
    kept = tuple(question for question in named_set(name, Addition(5)) if len(str(max(question))) <= n)
    if kept:
        assert named_set(name, Addition(n)) == kept
        return
    with pytest.raises(HarnessError) as caught:
        named_set(name, Addition(n))
    expected = f"expected a question set with questions for {n} digits, found {name}, whose addends are all longer"
    assert str(caught.value) == f"{expected}; choose another set or list the questions"


@pytest.mark.parametrize(
    ("n", "empty"),
    [(1, {"ba", "uc1", "simple_us9", "cascade_us9"}), (2, {"cascade_us9"}), (3, set()), (4, set())],
)
def test_only_these_sets_are_empty_for_few_digits(n, empty):
    assert {name for name in MANUAL if not exists(name, n)} == empty


@pytest.mark.parametrize("n", range(5, 21))
@pytest.mark.parametrize("name", MANUAL)
def test_more_digits_add_questions_only_to_uc1(name, n):
    five = named_set(name, Addition(5))
    assert named_set(name, Addition(n))[: len(five)] == five
    assert len(named_set(name, Addition(n))) == len(five) + 5 * (name == "uc1" and n >= 10)


@pytest.mark.parametrize("n", range(1, 21))
@pytest.mark.parametrize(
    ("name", "case"), [("ba", "BA"), ("uc1", "MC1"), ("simple_us9", "SimpleUS9"), ("cascade_us9", "CascadeUS9")]
)
def test_a_set_named_after_a_case_has_no_other(name, case, n):
    """The notebook's own unit_test_get_question_case, at every size."""
    if exists(name, n):
        assert set(cases(name, n)) == {case}


@pytest.mark.parametrize("n", range(6, 21))
def test_leading_zeros_change_no_case_of_the_steps(n):
    """All questions of the other sets have the case of their set, as above."""
    five = cases("steps", 5)
    assert cases("steps", n)[: len(five)] == five


@pytest.mark.parametrize("n", SIZES)
def test_no_question_is_all_zeros(n):
    """The notebook's row 18 of `steps` was left so."""
    for name in NAMES:
        if name == "varied" or exists(name, n):
            assert (0, 0) not in named_set(name, Addition(n))


@pytest.mark.parametrize("n", SIZES)
def test_every_addend_fits(n):
    for name in NAMES:
        if name == "varied" or exists(name, n):
            assert max(max(question) for question in named_set(name, Addition(n))) < 10**n
