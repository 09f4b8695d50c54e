"""Answers, labels and cases against plain integers; a carry is worked out from remainders, not rippled."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
import torch
from asking import answers
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.base.errors import HarnessError
from harness.tasks.addition.arithmetic import (
    add,
    addends,
    cascade_length,
    cases_of,
    decode,
    encode,
    label,
    label_columns,
    longest_cascade,
    tokens_of,
)
from harness.tasks.addition.layout import MAX_DIGITS, Question
from harness.tasks.addition.task import Addition
from harness.tasks.answers import answer_loss

ALL_TWO_DIGITS = [Question(x, y) for x in range(100) for y in range(100)]


@st.composite
def tasks(draw):
    """A layout and some of its questions, with many columns that sum to 9 so that long cascades occur."""
    layout = Addition(draw(st.integers(1, MAX_DIGITS)), draw(st.sampled_from(["=", "equals"])))
    digit = st.integers(0, 9)
    column = st.one_of(st.tuples(digit, digit), digit.map(lambda d: (d, 9 - d)))
    question = st.lists(column, min_size=layout.n_digits, max_size=layout.n_digits).map(
        lambda columns: Question(*(int("".join(map(str, digits))) for digits in zip(*columns, strict=True)))
    )
    return layout, draw(st.lists(question, min_size=1, max_size=6))


def for_every_task(check):
    """Run `check` on all two-digit questions and on random ones of every size."""

    @settings(deadline=None, max_examples=60)
    @given(tasks())
    def random_ones(task):
        check(*task)

    def all_of_two_digits():
        check(Addition(2), ALL_TWO_DIGITS)

    @pytest.mark.parametrize("run", [all_of_two_digits, random_ones])
    def test(run):
        run()

    return test


def column_sums(question, n):
    """Units first."""
    return [question.x // 10**k % 10 + question.y // 10**k % 10 for k in range(n)]


def carries_out(question, k):
    """Whether the lowest `k` columns together give a carry."""
    return question.x % 10**k + question.y % 10**k >= 10**k


def notebook_case(question, n):
    """get_question_case, on lists: it looks at column sums without the carry that comes in."""
    sums = column_sums(question, n)
    carry, nine = [s > 9 for s in sums], [s == 9 for s in sums]
    if not any(carry):
        return "BA"
    if any(carry[k] and nine[k + 1] and nine[k + 2] for k in range(n - 2)):
        return "CascadeUS9"
    if any(carry[k] and nine[k + 1] for k in range(n - 1)):
        return "SimpleUS9"
    return "MC1"


def longest_run(question, n):
    """The longest run of sum-9 columns right above a carry, read off a string; -1 without a carry."""
    text = "".join("<" if s < 9 else "=" if s == 9 else ">" for s in column_sums(question, n))
    return max((len(run) for run in re.findall(">(=*)", text)), default=-1)


@for_every_task
def test_answers_are_the_sums(layout, questions):
    tokens = encode(questions, layout)
    assert [int("".join(map(str, row))) for row in answers(tokens, layout).tolist()] == [x + y for x, y in questions]
    assert answers(tokens, layout).shape == (len(questions), layout.n_digits + 1)


@for_every_task
def test_tokens_are_the_written_question_and_answer(layout, questions):
    n, symbols = layout.n_digits, {"+": 10, "=": 12, "e": 13, "q": 14, "u": 15, "a": 16, "l": 17, "s": 18}
    texts = [f"{x:0{n}d}+{y:0{n}d}{layout.equals}{x + y:0{n + 1}d}" for x, y in questions]
    expected = [[symbols[c] if c in symbols else int(c) for c in text] for text in texts]
    assert encode(questions, layout).tolist() == expected


@for_every_task
def test_decoding_undoes_encoding(layout, questions):
    tokens = encode(questions, layout)
    assert decode(tokens, layout) == questions
    x, y = addends(tokens, layout)
    assert torch.equal(tokens_of(x, y, layout), tokens)
    assert torch.equal(add(x, y), answers(tokens, layout))


@for_every_task
def test_labels_are_those_of_the_notebooks_generator(layout, questions):
    labels = label(encode(questions, layout), layout)
    places = range(layout.n_digits - 1, -1, -1)  # highest first
    expected = {
        "base_add": [[column_sums(q, layout.n_digits)[k] % 10 for k in places] for q in questions],
        "make_carry": [[carries_out(q, k + 1) for k in places] for q in questions],
        "sum9": [[column_sums(q, layout.n_digits)[k] == 9 for k in places] for q in questions],
        "use_carry": [[carries_out(q, k) for k in places] for q in questions],
        "use_sum9": [
            [column_sums(q, layout.n_digits)[k] == 9 and carries_out(q, k) for k in places] for q in questions
        ],
    }
    assert {name: value.tolist() for name, value in labels._asdict().items()} == expected


@for_every_task
def test_cases_are_the_notebooks(layout, questions):
    assert cases_of(encode(questions, layout), layout) == [notebook_case(q, layout.n_digits) for q in questions]


@for_every_task
def test_cascades_are_the_longest_runs_above_a_carry(layout, questions):
    tokens, expected = encode(questions, layout), [longest_run(q, layout.n_digits) for q in questions]
    assert longest_cascade(tokens, layout).tolist() == expected
    assert cascade_length(tokens, layout).tolist() == [max(length, 0) for length in expected]


def test_labels_of_a_column_depend_on_sums_alone():
    sums = torch.tensor(list(product((0, 8, 9, 10, 18), repeat=3)))
    x = torch.minimum(sums, torch.tensor(9))
    by_sums, by_tokens = label_columns(sums), label(tokens_of(x, sums - x, Addition(3)), Addition(3))
    swapped = label(tokens_of(sums - x, x, Addition(3)), Addition(3))
    for name, value in by_sums._asdict().items():
        assert torch.equal(value, getattr(by_tokens, name))
        assert torch.equal(value, getattr(swapped, name))


@pytest.mark.parametrize(
    ("text", "case", "length", "longest"),
    [
        ("00000+00000", "BA", 0, -1),
        ("45454+54545", "BA", 0, -1),  # all nines, and no carry to run through them
        ("60000+30000", "BA", 0, -1),
        ("00005+00005", "MC1", 0, 0),
        ("70000+40000", "MC1", 0, 0),  # nothing above the carry
        ("00095+00005", "SimpleUS9", 1, 1),
        ("35000+69000", "SimpleUS9", 1, 1),
        ("15508+14500", "SimpleUS9", 1, 1),
        ("05095+04105", "SimpleUS9", 1, 1),  # the carry dies at D2, and D3 has none coming in
        ("24533+25933", "SimpleUS9", 1, 1),
        ("00555+00445", "CascadeUS9", 2, 2),
        ("01283+88786", "CascadeUS9", 2, 2),
        ("33340+66660", "CascadeUS9", 3, 3),
        ("05555+04445", "CascadeUS9", 3, 3),
        ("44445+55555", "CascadeUS9", 4, 4),
        ("99999+00001", "CascadeUS9", 4, 4),
        ("99099+00901", "CascadeUS9", 4, 4),
        ("00595+19505", "SimpleUS9", 1, 1),  # two runs of one
        ("95995+04505", "CascadeUS9", 2, 2),  # D2 makes its own carry, and the run starts anew
    ],
)
def test_case_and_cascade_of_questions_worked_out_by_hand(text, case, length, longest):
    layout = Addition(5)
    tokens = encode([layout.read_question(text)], layout)
    assert cases_of(tokens, layout) == [case]
    assert (cascade_length(tokens, layout).item(), longest_cascade(tokens, layout).item()) == (length, longest)


def test_no_questions_are_no_tokens():
    tokens = encode([], Addition(5))
    assert tokens.shape == (0, 18)
    assert decode(tokens, Addition(5)) == cases_of(tokens, Addition(5)) == []


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_loss_is_the_cross_entropy_in_float64(scale):
    layout = Addition(5)
    generator = torch.Generator().manual_seed(7)
    truth = answers(encode(ALL_TWO_DIGITS[::37], layout), layout)
    logits = scale * torch.randn(*truth.shape, layout.d_vocab, generator=generator)
    wide = logits.numpy().astype(np.float64)
    top = wide.max(-1)
    right = np.take_along_axis(wide, truth.numpy()[..., None], -1)[..., 0]
    expected = np.log(np.exp(wide - top[..., None]).sum(-1)) + top - right
    found = answer_loss(logits, truth)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)


def test_an_addend_that_does_not_fit_is_refused():
    with pytest.raises(HarnessError) as error:
        encode([Question(9, 9), Question(7, 100)], Addition(2))
    assert str(error.value) == "expected addends of at most 2 digits, found 7+100; use a longer layout"
    assert encode([Question(99, 99)], Addition(2))[0, -3:].tolist() == [1, 9, 8]
