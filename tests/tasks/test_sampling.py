"""Samples against exhaustive counts: every question (or every column of it) is enumerated in plain Python."""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import cache
from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.base.errors import HarnessError
from harness.tasks.addition.arithmetic import add, addends, decode, encode
from harness.tasks.addition.layout import Question
from harness.tasks.addition.question_sets import NAMES, named_set
from harness.tasks.addition.sampling import sample_strata, sample_uniform, stratum_share, tokens_for
from harness.tasks.addition.strata import make_strata
from harness.tasks.addition.task import Addition
from harness.tasks.questions import NamedSet, QuestionList, Sample

SIGNS = {"<9": "<", "=9": "=", ">9": ">"}
CASE_NAMES = ("BA", "MC1", "SimpleUS9", "CascadeUS9")
COLUMN_CHARS = ["<" if x + y < 9 else "=" if x + y == 9 else ">" for x in range(10) for y in range(10)]


def tri_cases(question, n):
    """One sign a column, units first: ``>==`` is a carry that runs through two nines."""
    sums = (question.x // 10**k % 10 + question.y // 10**k % 10 for k in range(n))
    return "".join("<" if s < 9 else "=" if s == 9 else ">" for s in sums)


def case_of(signs):
    return next(
        (case for part, case in ((">==", CASE_NAMES[3]), (">=", CASE_NAMES[2]), (">", "MC1")) if part in signs), "BA"
    )


def cascade_of(signs):
    return max((len(run) for run in re.findall(">(=*)", signs)), default=0)


def meets(signs, *, cases=(), cascades=(), columns=None):
    return (
        (not cases or case_of(signs) in cases)
        and (not cascades or cascade_of(signs) in cascades)
        and all(signs[int(place[1:])] == SIGNS[sign] for place, sign in (columns or {}).items())
    )


@cache
def patterns(n):
    """How many questions have each pattern of tri-cases."""
    weight = Counter(COLUMN_CHARS)
    return {"".join(signs): prod(weight[sign] for sign in signs) for signs in product("<=>", repeat=n)}


def exact_share(n, counts=None, **conditions):
    counts = counts or patterns(n)
    assert sum(counts.values()) == 100**n
    return sum(count for signs, count in counts.items() if meets(signs, **conditions)) / 100**n


def draw(layout, strata, n, seed=0):
    return sample_strata(layout, strata, n, torch.Generator().manual_seed(seed))


def signs_of(tokens, layout):
    return [tri_cases(question, layout.n_digits) for question in decode(tokens, layout)]


def condition(stratify, name):
    return {"cases": [name]} if stratify == "case" else {"cascades": [int(name.removeprefix("cascade "))]}


CONDITIONS = [
    {"cases": ["BA"]},
    {"cases": ["SimpleUS9", "CascadeUS9"]},
    {"cascades": [0]},
    {"cascades": [1, 2]},
    {"columns": {"D0": "=9"}},
    {"columns": {"D2": "=9", "D0": ">9"}},
    {"cases": ["MC1"], "columns": {"D1": "=9"}},
    {"cases": ["SimpleUS9"], "columns": {"D2": ">9", "D0": "<9"}},
    {"cases": ["CascadeUS9"], "cascades": [2], "columns": {"D1": "=9"}},
]
SAMPLES = [{}, {"stratify": "case"}, {"stratify": "cascade"}, {"cases": ["SimpleUS9"]}, {"columns": {"D1": "=9"}}]


@pytest.mark.parametrize("asked", SAMPLES, ids=str)
def test_a_sample_depends_on_its_seed_and_on_nothing_else(asked):
    layout = Addition(5)
    sample = Sample(40, 3, make_strata(layout, **asked))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state, python_state = torch.get_rng_state(), random.getstate()
        first = tokens_for(sample, layout)
        assert torch.equal(torch.get_rng_state(), state)
        assert random.getstate() == python_state
        torch.manual_seed(2)
        assert torch.equal(tokens_for(sample, layout), first)
    assert not torch.equal(tokens_for(Sample(40, 4, sample.strata), layout), first)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 20), st.sampled_from(["=", "equals"]), st.sampled_from([None, "case", "cascade"]), st.integers(0, 60)
)
def test_a_sample_has_the_asked_size_and_true_answers(n_digits, equals, stratify, size):
    layout = Addition(n_digits, equals)
    tokens = tokens_for(Sample(size, 5, make_strata(layout, stratify=stratify)), layout)
    assert tokens.shape == (size, layout.n_ctx)
    assert torch.equal(tokens, encode(decode(tokens, layout), layout))


@pytest.mark.parametrize("name", NAMES)
def test_a_named_set_is_asked_whole_and_in_order(name):
    layout = Addition(5)
    assert decode(tokens_for(NamedSet(name), layout), layout) == list(named_set(name, layout))


def test_a_list_is_asked_as_written():
    questions = (Question(15, 45), Question(99999, 1), Question(15, 45))
    assert decode(tokens_for(QuestionList(questions), Addition(5)), Addition(5)) == list(questions)


@pytest.mark.parametrize("n_digits", [1, 2, 5, 10, 20])
@pytest.mark.parametrize("stratify", ["case", "cascade"])
def test_every_question_of_a_stratum_meets_its_condition(n_digits, stratify):
    layout = Addition(n_digits)
    strata = make_strata(layout, stratify=stratify)
    names = CASE_NAMES[: n_digits + 1] if stratify == "case" else [f"cascade {i}" for i in range(n_digits)]
    assert [stratum.name for stratum in strata] == list(names)
    found = signs_of(draw(layout, strata, 30 * len(strata)), layout)
    for i, name in enumerate(names):
        assert all(meets(signs, **condition(stratify, name)) for signs in found[30 * i : 30 * (i + 1)]), name


@pytest.mark.parametrize("asked", CONDITIONS, ids=str)
@pytest.mark.parametrize("n_digits", [5, 20])
def test_conditions_hold_together(n_digits, asked):
    layout = Addition(n_digits)
    strata = make_strata(layout, **asked)
    assert len(strata) == 1
    assert all(meets(signs, **asked) for signs in signs_of(draw(layout, strata, 200), layout))


@pytest.mark.parametrize("stratify", ["case", "cascade"])
@pytest.mark.parametrize(
    "asked",
    [
        {"columns": {"D4": "=9"}},
        {"columns": {"D0": ">9"}},  # no BA
        {"columns": {"D0": "=9"}},  # no cascade of 4
        {"columns": {"D1": "<9", "D3": "<9"}},  # no cascade at all
        {"cases": ["MC1", "CascadeUS9"]},
        {"cascades": [0, 3]},
    ],
    ids=str,
)
def test_strata_hold_the_other_conditions_too(stratify, asked):
    """A stratum that the other conditions leave empty is dropped, not filled with other questions."""
    layout = Addition(5)
    strata = make_strata(layout, stratify=stratify, **asked)
    names = [stratum.name.split(" with ")[0] for stratum in strata]
    every = CASE_NAMES if stratify == "case" else [f"cascade {i}" for i in range(5)]
    signs = [signs for signs in patterns(5) if meets(signs, **asked)]
    assert names == [name for name in every if any(meets(s, **condition(stratify, name)) for s in signs)]
    found = signs_of(draw(layout, strata, 20 * len(strata)), layout)
    for i, name in enumerate(names):
        for drawn in found[20 * i : 20 * (i + 1)]:
            assert meets(drawn, **condition(stratify, name)), (name, drawn)
            assert meets(drawn, **asked), (name, drawn)


@pytest.mark.parametrize("stratify", ["case", "cascade"])
@pytest.mark.parametrize("n_digits", [1, 2, 3, 5])
def test_strata_divide_all_questions(n_digits, stratify):
    layout = Addition(n_digits)
    assert sum(stratum_share(layout, s) for s in make_strata(layout, stratify=stratify)) == pytest.approx(1, abs=1e-12)


@cache
def counted(n_digits):
    """All 10,000 two-digit questions, or all 1,000,000 three-digit ones, by their pattern, one by one."""
    if n_digits == 2:
        return Counter(tri_cases(Question(x, y), 2) for x in range(100) for y in range(100))
    return Counter(map("".join, product(COLUMN_CHARS, repeat=n_digits)))


@pytest.mark.parametrize(
    ("n_digits", "asked"),
    [
        *((n, {"cases": [case]}) for n in (2, 3) for case in CASE_NAMES[: n + 1]),
        *((n, {"cascades": [i]}) for n in (2, 3) for i in range(n)),
        *((n, {"cases": ["BA", "SimpleUS9"]}) for n in (2, 3)),
        *((n, {"columns": {"D1": "=9"}}) for n in (2, 3)),
        *((n, {"cases": ["SimpleUS9"], "columns": {"D0": ">9"}}) for n in (2, 3)),
        *((n, {"cascades": [0], "columns": {"D1": "=9"}}) for n in (2, 3)),
        (3, {"cases": ["MC1"], "columns": {"D0": "=9", "D2": "<9"}}),
    ],
    ids=str,
)
def test_a_share_is_the_count_of_all_questions(n_digits, asked):
    (stratum,) = make_strata(Addition(n_digits), **asked)
    expected = exact_share(n_digits, counted(n_digits), **asked)
    assert expected > 0
    assert stratum_share(Addition(n_digits), stratum) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("asked", "published", "within"),
    [({"cascades": [4]}, 0.000045, 1e-12), ({"cases": ["CascadeUS9"]}, 0.0135, 5e-5)],
    ids=str,
)
def test_cascades_of_five_digits_are_as_rare_as_published(asked, published, within):
    (stratum,) = make_strata(Addition(5), **asked)
    assert stratum_share(Addition(5), stratum) == pytest.approx(published, abs=within)
    assert stratum_share(Addition(5), stratum) == pytest.approx(exact_share(5, **asked), rel=1e-12)


def assert_uniform(tokens, layout, population):
    """Pearson's test of how often each question of `population` was drawn, and none outside it."""
    n = layout.n_digits
    powers = torch.tensor([10**k for k in range(n - 1, -1, -1)])
    x, y = addends(tokens, layout)
    counts = torch.bincount((x * powers).sum(1) * 10**n + (y * powers).sum(1), minlength=100**n)
    inside = torch.tensor([question.x * 10**n + question.y for question in population])
    assert counts[inside].sum() == len(tokens)
    assert stats.chisquare(counts[inside].numpy()).pvalue > 1e-4


@pytest.mark.parametrize(
    "asked",
    [
        *({"cases": [case]} for case in CASE_NAMES[:3]),
        {"cascades": [0]},
        {"columns": {"D1": "=9"}},
        {"cases": ["MC1"], "columns": {"D0": ">9"}},
    ],
    ids=str,
)
def test_within_a_stratum_all_questions_are_equally_likely(asked):
    layout = Addition(2)
    everything = [Question(x, y) for x in range(100) for y in range(100)]
    population = [question for question in everything if meets(tri_cases(question, 2), **asked)]
    tokens = draw(layout, make_strata(layout, **asked), 10 * len(population), seed=11)
    assert_uniform(tokens, layout, population)


def test_uniform_questions_are_uniform():
    layout = Addition(2)
    everything = [Question(x, y) for x in range(100) for y in range(100)]
    assert_uniform(sample_uniform(layout, 100_000, torch.Generator().manual_seed(11)), layout, everything)


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", [*({"cases": [case]} for case in CASE_NAMES), *({"cascades": [i]} for i in range(4))], ids=str
)
def test_patterns_of_columns_are_drawn_by_their_share(asked):
    """Where a carry may stand in several places, each place is as likely as it has questions."""
    layout, n = Addition(4), 10_000
    counts = {signs: count for signs, count in patterns(4).items() if meets(signs, **asked)}
    found = Counter(signs_of(draw(layout, make_strata(layout, **asked), n, seed=12), layout))
    assert set(found) == set(counts)
    if len(counts) > 1:
        total = sum(counts.values())
        expected = [n * count / total for count in counts.values()]
        assert stats.chisquare([found[signs] for signs in counts], expected).pvalue > 1e-4


@pytest.mark.parametrize(
    ("n", "sizes"), [(10, [2] * 5), (12, [3, 3, 2, 2, 2]), (14, [3] * 4 + [2]), (3, [1, 1, 1, 0, 0]), (0, [0] * 5)]
)
def test_strata_are_equal_and_the_first_get_the_remainder(n, sizes):
    layout = Addition(5)
    found = [cascade_of(signs) for signs in signs_of(draw(layout, make_strata(layout, stratify="cascade"), n), layout)]
    assert found == [i for i, size in enumerate(sizes) for _ in range(size)]


def enriched(n, seed, batch_share, digit_share=0.4):
    layout = Addition(5)
    generator = torch.Generator().manual_seed(seed)
    tokens = sample_uniform(layout, n, generator, sum9_batch_share=batch_share, sum9_digit_share=digit_share)
    assert torch.equal(tokens, encode(decode(tokens, layout), layout))
    return addends(tokens, layout)


@pytest.mark.slow
@pytest.mark.parametrize(("batch_share", "digit_share", "expected"), [(0, 0.4, 0.1), (1, 0.4, 0.46), (1, 0.1, 0.19)])
def test_an_enriched_batch_has_the_asked_share_of_nines(batch_share, digit_share, expected):
    """A column that is left alone sums to 9 in 10 of 100 cases, hence 0.4 + 0.6 / 10."""
    for seed in range(5):
        x, y = enriched(4000, seed, batch_share, digit_share)
        nines = int((x + y == 9).sum())
        chosen = int(digit_share * x.numel()) if batch_share else 0
        assert stats.binomtest(nines - chosen, x.numel() - chosen, 0.1).pvalue > 1e-4
        assert nines / x.numel() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("digit_share", [0.0, 0.4, 1.0])
def test_enriching_changes_one_addend_of_the_whole_batch(digit_share):
    changed = set()
    for seed in range(12):
        plain, rich = enriched(200, seed, 0), enriched(200, seed, 1, digit_share)
        different = [p != r for p, r in zip(plain, rich, strict=True)]
        touched = different[0] | different[1]
        changed |= {side for side in (0, 1) if different[side].any()}
        assert not (different[0].any() and different[1].any())
        assert int(touched.sum()) <= int(digit_share * touched.numel())
        assert bool((rich[0] + rich[1] == 9)[touched].all())
    assert changed == ({0, 1} if digit_share else set())


@pytest.mark.parametrize("batch_share", [0.4, 0.9])
def test_batches_are_enriched_as_often_as_asked(batch_share):
    pairs = (enriched(4, seed, batch_share, digit_share=1.0) for seed in range(600))
    batches = sum(bool((x + y == 9).all()) for x, y in pairs)
    assert stats.binomtest(batches, 600, batch_share).pvalue > 1e-4


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_questions_are_enriched_as_often_as_asked_and_each_by_its_own_measure(share):
    layout, n = Addition(5), 20_000
    tokens = sample_uniform(layout, n, torch.Generator().manual_seed(4), sum9_question_share=share)
    x, y = addends(tokens, layout)
    assert x.min() >= 0 <= y.min()
    assert x.max() <= 9 >= y.max()
    assert torch.equal(tokens[:, layout.answer_start :], add(x, y))
    nines = (x + y == 9).double()
    # A column sums to 9 by chance in a tenth of the cases, and by the question's p, uniform, in a half of them.
    expected = (1 - share) * 0.1 + share * (0.5 + 0.5 * 0.1)
    assert float(nines.mean()) == pytest.approx(expected, abs=0.01)
    # All five with one p: E[(p + (1-p)/10)^5] = (1 - 10^-6) / 5.4; had each column a p of its own, 0.55^5 = 0.05.
    every = (1 - share) * 1e-5 + share * (1 - 1e-6) / 5.4
    assert float(nines.all(1).double().mean()) == pytest.approx(every, abs=0.01)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_cascades_are_made_of_every_length_at_every_place(share):
    """Counted in columns that are changed, against the same questions drawn without cascades."""
    layout, n = Addition(5), 20_000
    plain = sample_uniform(layout, n, torch.Generator().manual_seed(4))
    tokens = sample_uniform(layout, n, torch.Generator().manual_seed(4), cascade_share=share)
    (x, y), (was_x, was_y) = addends(tokens, layout), addends(plain, layout)
    assert torch.equal(tokens[:, layout.answer_start :], add(x, y))
    assert not ((x != was_x).any(1) & (y != was_y).any(1)).any()  # one addend is changed, the same in all columns
    changed = ((x != was_x) | (y != was_y)).flip(1)  # units first
    assert (x + y == 9).flip(1)[changed].all()
    places = [(below, length) for length in range(1, 5) for below in range(5 - length)]
    for below, length in places:
        exactly = torch.zeros(5, dtype=torch.bool)
        exactly[below + 1 : below + length + 1] = True
        # Made so, or made longer over columns that summed to 9 already, as one in ten does.
        expected = sum(
            share / 4 / (5 - longer) * 0.9**length * 0.1 ** (longer - length)
            for lower, longer in places
            if lower <= below and lower + longer >= below + length
        )
        assert float((changed == exactly).all(1).double().mean()) == pytest.approx(expected, abs=0.008), (below, length)


@pytest.mark.slow
def test_the_column_below_a_cascade_nearly_is_one_as_often_as_asked():
    """A cascade of four stands over the units: these sum to 8 and 10, where their other digit allows it."""
    layout, n = Addition(5), 40_000
    generator = torch.Generator().manual_seed(4)
    tokens = sample_uniform(layout, n, generator, cascade_share=1.0, near_share=0.5)
    x, y = addends(tokens, layout)
    sums = x + y
    units = sums[(sums[:, :4] == 9).all(1), 4]
    assert len(units) > n / 4
    # By chance a column sums to 8, and to 10, in 9 of 100 cases; in one of 20 these four columns are not all made.
    for total in (8, 10):
        made = 0.25 * 0.9 + 0.5 * 0.09
        assert float((units == total).double().mean()) == pytest.approx(0.95 * made + 0.05 * 0.09, abs=0.015)
    assert float((units == 9).double().mean()) == pytest.approx(0.1, abs=0.015)


@pytest.mark.slow
def test_doubles_nearest_to_a_carry_are_as_many_as_asked():
    layout, n = Addition(5), 40_000
    tokens = sample_uniform(layout, n, torch.Generator().manual_seed(4), double_share=0.2)
    x, y = addends(tokens, layout)
    for digit in range(10):
        made = 0.1 if digit in (4, 5) else 0.0
        assert float(((x == digit) & (y == digit)).double().mean()) == pytest.approx(made + 0.8 * 0.01, abs=0.002)
    assert torch.equal(tokens, encode(decode(tokens, layout), layout))  # the answers are those of the changed columns


def test_no_enriched_questions_draw_nothing_more_than_before():
    layout, one, other = Addition(3), torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    sample_uniform(layout, 10, one)
    sample_uniform(layout, 10, other, sum9_question_share=0.0, cascade_share=0.0, near_share=0.5, double_share=0.0)
    assert torch.equal(one.get_state(), other.get_state())


def test_no_conditions_are_no_strata():
    assert make_strata(Addition(5)) == ()


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (
            {"cascades": [1, -1]},
            "a cascade length 0 to 4, found -1; name one of these; a carry from D0 can run through no more",
        ),
        ({"columns": {"D0": "=9", "A0": "=9"}}, "a column D0 to D4, found A0; name a column of the question"),
    ],
)
def test_what_the_layout_has_not_is_refused(asked, text):
    with pytest.raises(HarnessError) as caught:
        make_strata(Addition(5), **asked)
    assert str(caught.value) == f"expected {text}"


@pytest.mark.parametrize(
    ("n_digits", "asked", "found"),
    [
        (1, {"cases": ["SimpleUS9"]}, "SimpleUS9"),
        (2, {"cases": ["CascadeUS9"]}, "CascadeUS9"),
        (5, {"cases": ["BA"], "cascades": [1]}, "BA and cascade 1"),
        (5, {"cases": ["BA"], "columns": {"D0": ">9"}}, "BA and D0 >9"),
        (5, {"cascades": [4], "columns": {"D0": "<9"}}, "cascade 4 and D0 <9"),
        (5, {"cases": ["CascadeUS9"], "columns": {"D1": "<9", "D3": "<9"}}, "CascadeUS9 and D1 <9 and D3 <9"),
    ],
)
def test_conditions_that_no_question_meets_are_refused(n_digits, asked, found):
    assert exact_share(n_digits, **asked) == 0
    with pytest.raises(HarnessError) as caught:
        make_strata(Addition(n_digits), **asked)
    expected = f"expected conditions that some {n_digits}-digit question meets"
    assert str(caught.value) == f"{expected}, found {found}; drop one of them"
