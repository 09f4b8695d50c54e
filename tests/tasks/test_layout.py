"""Positions and names against the notebook's question, written out by hand, and against its slices."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import HarnessError
from harness.tasks.addition.layout import EQUALS, MAX_DIGITS, PLUS, Question
from harness.tasks.addition.task import Addition

FIVE = "D4 D3 D2 D1 D0 + D'4 D'3 D'2 D'1 D'0 = A5 A4 A3 A2 A1 A0"
WORD = "D4 D3 D2 D1 D0 + D'4 D'3 D'2 D'1 D'0 e q u a l s A5 A4 A3 A2 A1 A0"
every_layout = pytest.mark.parametrize(
    "layout", [Addition(n, e) for n in range(1, 21) for e in ("=", "equals")], ids=str
)
layouts = st.builds(Addition, st.integers(1, MAX_DIGITS), st.sampled_from(["=", "equals"]))


@pytest.mark.parametrize(
    ("layout", "names", "n_ctx", "d_vocab", "answer_start", "equals_tokens"),
    [(Addition(5), FIVE, 18, 13, 12, (12,)), (Addition(5, "equals"), WORD, 23, 19, 17, (13, 14, 15, 16, 17, 18))],
)
def test_five_digits_stand_as_in_the_notebook(layout, names, n_ctx, d_vocab, answer_start, equals_tokens):
    assert layout.names == tuple(names.split())
    assert (layout.n_ctx, layout.d_vocab, layout.answer_start) == (n_ctx, d_vocab, answer_start)
    assert (layout.n_answer, layout.equals_tokens) == (6, equals_tokens)
    assert layout.answer_tokens == ("A5", "A4", "A3", "A2", "A1", "A0")


def test_no_two_symbols_share_a_token():
    """The notebook gave Q and U the same one."""
    letters = Addition(5, "equals").equals_tokens
    assert len({*range(10), PLUS, EQUALS, *letters}) == 12 + len("equals")


@pytest.mark.parametrize(
    ("equals", "steps"),
    [
        ("=", {"A5": 11, "A4": 12, "A3": 13, "A2": 14, "A1": 15, "A0": 16}),
        ("equals", {"A5": 16, "A4": 17, "A3": 18, "A2": 19, "A1": 20, "A0": 21}),
    ],
)
def test_a_digit_is_predicted_one_step_before_it_stands(equals, steps):
    layout = Addition(5, equals)
    assert {digit: layout.predicted_at(digit) for digit in layout.answer_tokens} == steps
    assert {digit: layout.step_of(digit) - 1 for digit in layout.answer_tokens} == steps


@every_layout
def test_every_size_agrees_with_the_notebooks_slices(layout):
    n, steps = layout.n_digits, range(layout.n_ctx)
    assert len(layout.names) == len(set(layout.names)) == layout.n_ctx == 3 * n + 2 + len(layout.equals)
    assert layout.names[-(n + 1) :] == layout.answer_tokens == tuple(f"A{n - i}" for i in range(n + 1))
    assert steps[-(n + 1)] == layout.answer_start
    assert [layout.predicted_at(digit) for digit in layout.answer_tokens] == list(steps[-(n + 2) : -1])
    assert [layout.names[k] for k in (n, 2 * n + 1)] == ["+", layout.equals[0]]
    for k in range(n):
        assert layout.step_of(f"D{k}") == n - 1 - k
        assert layout.step_of(f"D'{k}") == 2 * n - k
    for k in steps:
        assert layout.step_of(f"S{k}") == k


@every_layout
def test_predicted_from_a_step_are_the_digits_still_to_come(layout):
    for step in range(layout.n_ctx):
        # What stands strictly to the right of a step is what can still be predicted there.
        assert layout.predicted_from(step) == tuple(x for x in layout.names[step + 1 :] if x.startswith("A"))


@pytest.mark.parametrize("n", [-1, 0, 21])
def test_a_number_of_digits_out_of_range_is_refused(n):
    with pytest.raises(HarnessError) as caught:
        Addition(n)
    assert str(caught.value) == f"expected n_digits from 1 to 20, found {n}; choose one in that range"


@pytest.mark.parametrize("equals", ["=", "equals"])
@pytest.mark.parametrize(
    "name", ["", "S", "S-1", "S01", "S23", "s1", "S1 ", "S１", "D5", "D'5", "d4", "D04", "A6", "A", "+", "=", "e", "5"]
)
def test_what_is_no_step_is_refused(name, equals):
    with pytest.raises(HarnessError, match=r"^expected a step S0 to S\d+ or a token D4 to A0, found "):
        Addition(5, equals).step_of(name)


@pytest.mark.parametrize(("name", "found"), [("S18", "S18"), ("D5", "D5"), ("", "''"), ("A0\n", r"'A0\n'")])
def test_a_bad_step_is_named_in_the_error(name, found):
    with pytest.raises(HarnessError) as caught:
        Addition(5).step_of(name)
    expected = "expected a step S0 to S17 or a token D4 to A0"
    assert str(caught.value) == f"{expected}, found {found}; name a step or token of the layout"


@every_layout
def test_exactly_its_own_answer_digits_are_accepted(layout):
    for digit in layout.answer_tokens:
        layout.check_answer_token(digit)
    with pytest.raises(HarnessError, match=f"^expected an answer digit A{layout.n_digits} to A0, found "):
        layout.check_answer_token(f"A{layout.n_digits + 1}")


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("A6", "A6; write one of A0, A1, A2, A3, A4, A5"),
        ("A5 ", "'A5 '; did you mean 'A5'?"),
        ("D4", "D4; write one of A0, A1, A2, A3, A4, A5"),
        (5, "5; write a digit's name"),
        (None, "nothing; write a digit's name"),
    ],
)
def test_a_bad_answer_digit_is_named_in_the_error(name, rest):
    with pytest.raises(HarnessError) as caught:
        Addition(5).check_answer_token(name)
    assert str(caught.value) == f"expected an answer digit A5 to A0, found {rest}"


def test_leading_zeros_may_be_left_out():
    layout = Addition(5)
    assert layout.read_question("15+45") == layout.read_question("00015+00045") == Question(15, 45)
    assert layout.write_question(Question(15, 45)) == "00015+00045"


@settings(deadline=None)
@given(layouts, st.data())
def test_questions_survive_being_written_and_read(layout, data):
    number = st.integers(0, 10**layout.n_digits - 1)
    question = Question(data.draw(number), data.draw(number))
    text = layout.write_question(question)
    assert len(text) == 2 * layout.n_digits + 1
    assert text[layout.n_digits] == "+"
    assert layout.read_question(text) == layout.read_question(f"{question.x}+{question.y}") == question


NOT_A_QUESTION = "write digits, one +, digits, and quote it if it is a number"
TOO_LONG = "shorten it or name a fixture for more digits"


@pytest.mark.parametrize(
    ("text", "found", "fix"),
    [
        ("100", "100", NOT_A_QUESTION),
        (100, "100", NOT_A_QUESTION),
        (None, "nothing", NOT_A_QUESTION),
        ("", "''", NOT_A_QUESTION),
        ("+45", "+45", NOT_A_QUESTION),
        ("15+", "15+", NOT_A_QUESTION),
        ("15-45", "15-45", NOT_A_QUESTION),
        ("15 + 45", "15 + 45", NOT_A_QUESTION),
        (" 15+45", "' 15+45'", NOT_A_QUESTION),
        ("15+45\n", r"'15+45\n'", NOT_A_QUESTION),
        ("15+45=60", "15+45=60", NOT_A_QUESTION),
        ("1+2+3", "1+2+3", NOT_A_QUESTION),
        ("١٥+45", "١٥+45", NOT_A_QUESTION),
        ("123456+1", "6 digits in 123456+1", TOO_LONG),
        ("1+0000001", "7 digits in 1+0000001", TOO_LONG),
    ],
)
def test_what_is_no_question_is_refused(text, found, fix):
    with pytest.raises(HarnessError) as caught:
        Addition(5).read_question(text)
    expected = "expected a question of two numbers of at most 5 digits, like 15+45"
    assert str(caught.value) == f"{expected}, found {found}; {fix}"
