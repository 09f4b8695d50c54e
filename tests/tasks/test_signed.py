"""Subtraction and mixed addition and subtraction, as fixtures/signed.py defines them, against Python's integers."""

from __future__ import annotations

import pytest
import torch
from paths import FIXTURES, ROOT

from harness.engines import cone
from harness.engines import hooks as hooked
from harness.engines.interventions import CLEAN, zero
from harness.models.fixtures import load_fixture
from harness.specs.node_sets import all_nodes
from harness.tasks.batch import joined
from harness.tasks.own_tasks import load_task
from harness.tasks.questions import Sample

pytestmark = pytest.mark.usefixtures("one_thread", "code_allowed")
PLUS, MINUS = 10, 11


def task_named(name):
    return load_task(f"signed:{name}", ROOT / "fixtures" / f"signed_{name}_s0")


@pytest.fixture(params=["subtraction", "mixed"])
def task(request):
    return task_named(request.param)


def read(row, n):
    """Return both numbers, the operation, and what stands as the answer, of a row of tokens."""
    x, y = (int("".join(map(str, digits))) for digits in (row[:n], row[n + 1 : 2 * n + 1]))
    return x, y, row[n], row[2 * n + 2 :]


def written(value, n):
    """Return the tokens of an answer, from Python's own notation."""
    return [MINUS if value < 0 else PLUS, *map(int, f"{abs(value):0{n + 1}d}")]


def some_prompts(task, n=400):
    generator = torch.Generator().manual_seed(1)
    return joined([task.training_batch(n, generator, {}), task.batch_for(Sample(n, 2, task.spread()))])


def test_the_layout_is_that_of_the_published_models():
    """Of six digits these have 22 positions, a vocabulary of 15, and the sign before the answer's digits."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("signed", ROOT / "fixtures" / "signed.py")
    signed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(signed)
    six = signed.Signed(6, "+-")
    assert " ".join(six.names) == "D5 D4 D3 D2 D1 D0 op D'5 D'4 D'3 D'2 D'1 D'0 = sign A6 A5 A4 A3 A2 A1 A0"
    assert len(six.names) == 22 == 3 * 6 + 4
    assert "".join(six.vocabulary) == "0123456789+-=*\\"
    assert six.n_answer == 8


def test_answers_are_pythons(task):
    prompts, n = some_prompts(task), task.task.n
    for row in prompts.tokens.tolist():
        x, y, operation, answer = read(row, n)
        assert answer == written(x + y if operation == PLUS else x - y, n)
    assert {PLUS, MINUS} & set(prompts.tokens[:, n].tolist()) == (
        {MINUS} if "mixed" not in task.title else {PLUS, MINUS}
    )


def test_cases_are_what_they_say(task):
    prompts, n = some_prompts(task), task.task.n
    for row, case in zip(prompts.tokens.tolist(), prompts.cases(), strict=True):
        x, y, operation, _ = read(row, n)
        parts = [(x % 10**k, y % 10**k) for k in range(1, n + 1)]
        if operation == PLUS:
            out = [a + b >= 10**k for k, (a, b) in enumerate(parts, 1)]
            alone = [a // 10 ** (k - 1) + b // 10 ** (k - 1) > 9 for k, (a, b) in enumerate(parts, 1)]
            kinds = ("BA", "UC", "US9")
        else:
            out = [a < b for a, b in parts]
            alone = [a // 10 ** (k - 1) < b // 10 ** (k - 1) for k, (a, b) in enumerate(parts, 1)]
            kinds = ("BD", "BO", "CB")
        # A carry, or borrow, that a column gives without giving one by itself, was handed on.
        handed_on = any(gives and not own for gives, own in zip(out, alone, strict=True))
        if operation == MINUS and x < y:
            assert case == "NG"
        elif operation == PLUS:
            nines = any(int(str(x).zfill(n)[i]) + int(str(y).zfill(n)[i]) == 9 and out[n - 2 - i] for i in range(n - 1))
            assert case == kinds[2 if nines else 1 if any(out) else 0]
        else:
            assert case == kinds[2 if handed_on else 1 if any(out) else 0]


def test_the_causal_model_is_long_subtraction_with_one_value_changed(task):
    """By whole numbers: what column k hands up changes the part above it by one, and its own digit is its own."""
    prompts, n = some_prompts(task, 60), task.task.n
    for k in range(n):
        for kind, values in (("base", range(10)), ("out", range(3))):
            variable = task.read_variable(f"D{k}.{kind}")
            for value in values:
                found = task.answers_with(variable, torch.full((len(prompts),), value), prompts).tolist()
                for row, after in zip(prompts.tokens.tolist(), found, strict=True):
                    assert after == overwritten(row, n, k, kind, value)


def overwritten(row, n, k, kind, value):
    x, y, operation, answer = read(row, n)
    adds = operation == PLUS
    top, bottom = (x, y) if adds or x >= y else (y, x)
    low_top, low_bottom = top % 10**k, bottom % 10**k  # below column k
    comes_in = low_top + low_bottom >= 10**k if adds else low_top < low_bottom
    digits = list(reversed(answer[1:]))  # units first
    if kind == "base":
        digits[k] = (value + comes_in if adds else value - comes_in) % 10
    else:
        goes_up = value == 2 or (value == 1 and comes_in)
        high_top, high_bottom = top // 10 ** (k + 1), bottom // 10 ** (k + 1)
        above = high_top + high_bottom + goes_up if adds else (high_top - high_bottom - goes_up) % 10 ** (n - k - 1)
        for place in range(k + 1, n + 1):
            digits[place] = above // 10 ** (place - k - 1) % 10
    return [answer[0], *reversed(digits)]


def test_all_other_variables_of_an_own_task_are_near(task):
    names = {f"D{k}.{kind}" for k in range(task.task.n) for kind in ("base", "out")} | {"sign"}
    found = task.variables_near(task.read_variable("D1.out"))
    assert {str(variable) for variable in found} == names - {"D1.out"}


def test_the_sign_is_a_variable_of_its_own(task):
    prompts = some_prompts(task, 30)
    variable = task.read_variable("sign")
    assert variable.answer_tokens(task) == ("sign",)
    turned = task.answers_with(variable, 1 - task.value_of(variable, prompts), prompts)
    assert bool(((turned == prompts.answers) == torch.tensor([False] + [True] * (task.n_answer - 1))).all())


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("15-8", [0, 0, 1, 5, MINUS, 0, 0, 0, 8, 12]), ("1000+999", [1, 0, 0, 0, PLUS, 0, 9, 9, 9, 12])],
)
def test_questions_are_written_as_people_write_them(text, tokens):
    task = task_named("mixed")
    assert list(task.read_question(text)) == tokens
    x, sign, y = text.partition("-" if "-" in text else "+")
    assert task.write_question(tuple(tokens)) == f"{x:0>4}{sign}{y:0>4}"


@pytest.mark.parametrize("text", ["15+8", "15", "12345-1", "15--8", "-8-3", "a-b", ""])
def test_what_is_no_subtraction_is_refused(text):
    from harness.base.errors import HarnessError

    with pytest.raises(HarnessError, match=r"^expected a question of 4-digit subtraction, found "):
        task_named("subtraction").read_question(text)


def test_the_training_questions_have_more_columns_that_hand_on(task):
    def in_a_row(prompts):
        kinds = torch.stack([task.value_of(task.read_variable(f"D{k}.out"), prompts) for k in range(task.task.n)])
        return int(((kinds[1:] == 1) & (kinds[:-1] == 1)).any(0).sum())

    trained = task.training_batch(2000, torch.Generator().manual_seed(3), {})
    assert in_a_row(trained) > 5 * in_a_row(task.batch_for(Sample(2000, 3)))


@pytest.mark.parametrize("name", ["signed_subtraction_s0", "signed_mixed_s0"])
def test_the_engines_agree_on_the_fixtures(name):
    fixture = load_fixture(name, FIXTURES, "cpu")
    prompts = fixture.task.batch_for(Sample(24, 5, fixture.task.spread()))
    nodes = [node for i, node in enumerate(all_nodes(fixture.shape)) if i % 7 == 0]
    changes = [CLEAN, *(zero({node: fixture.width(node)}) for node in nodes)]
    for fast, slow in zip(cone.run(fixture, prompts, changes), hooked.run(fixture, prompts, changes), strict=True):
        assert torch.equal(fast.predicted, slow.predicted)
        assert torch.allclose(fast.right_logit, slow.right_logit, atol=1e-4)
