"""A task of one's own: every claim about it is judged like one about addition; a wrong task is one line."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from own import TASK, pin_random, write_own
from tiny import read_claim, refusal

from harness.base.errors import FixtureError, HarnessError, SpecError
from harness.base.own_code import allow_code
from harness.cli import main
from harness.engines import cone
from harness.engines import hooks as hooked
from harness.engines.interventions import CLEAN, Intervention, zero
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.requests import CleanAnswers
from harness.judging.verdict import row_of
from harness.models.fixtures import load_fixture
from harness.reporting.words import observed
from harness.specs.fixtures.files import FixtureRef, fixtures_of_same_shape, recipe_of
from harness.specs.node_sets import all_nodes
from harness.specs.spec_files import load_file
from harness.tasks.questions import NamedSet, PairSample, QuestionList, Sample
from harness.tasks.where import CaseKeys
from harness.training.runs import train_fixture

VOCABULARY = 'vocabulary = "abcd="'

pytestmark = pytest.mark.usefixtures("one_thread", "code_allowed")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The fixtures' directory, with a model that sorts two letters."""
    fixtures = tmp_path_factory.mktemp("own") / "fixtures"
    write_own(fixtures)
    before = allow_code()
    train_fixture(FixtureRef("own", fixtures), device="cpu")
    allow_code(before)
    return fixtures


def claim(trained, tmp_path, text):
    return read_claim(tmp_path, text, trained, "own")


@pytest.mark.slow
def test_it_is_trained_measured_and_described_like_any_other(trained):
    measured = json.loads((trained / "own" / "model.json").read_text("utf-8"))["measured"]
    assert [row["questions"] for row in measured] == ["uniform", "same", "up", "down"]
    assert all(row["right"] == row["n"] for row in measured)
    card = (trained / "own" / "README.md").read_text("utf-8")
    assert "| task     | letters:task, which `letters:task` defines, vocabulary of 5 (n_ctx 5)" in card
    assert "sub-task" not in card
    assert "extra sum-9" not in card
    assert "US9" not in card


def test_questions_are_samples_of_cases_sets_and_texts(trained):
    task = load_fixture("own", trained, "cpu").task
    assert task.batch_for(NamedSet("twins")).tokens.tolist() == [[0, 0, 4, 0, 0], [1, 1, 4, 1, 1]]
    for case in task.cases:
        assert set(task.batch_for(Sample(50, 3, task.strata(CaseKeys(case=case)))).cases()) == {case}
    spread = task.batch_for(Sample(10, 3, task.spread())).cases()
    assert [spread.count(case) for case in task.cases] == [4, 3, 3]
    prompts = task.batch_for(Sample(50, 4))
    assert torch.equal(prompts.tokens, task.batch_for(Sample(50, 4)).tokens)
    assert not torch.equal(prompts.tokens, task.batch_for(Sample(50, 5)).tokens)
    assert [sorted(text[:2]) for text in prompts.texts()] == [
        ["abcd"[t] for t in row[3:]] for row in prompts.tokens.tolist()
    ]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        # The model has one layer, so that the stream after it is all that the answer depends on.
        ("ablate: S2L0R\nquestions: {n: 200, stratify: case}\nexpect: {fails: [low]}", "vacuous"),
        ("ablate: S2L0R\nquestions: {n: 200, stratify: case}\nexpect: {fails: [high]}", None),
        ("ablate: S2L0M\nquestions: {n: 200, where: {case: up}}\nexpect: {fails: [], intact_rate: 0.9}", "supported"),
        ("keep:\n  heads: S3L0\n  digits: [high]\nquestions: twins\nby_construction: true", "by construction"),
        ("keep:\n  heads: S2L0H0\n  digits: [low]\nquestions: {n: 300}\nexpect: {intact_rate: 1.0}", "supported"),
        ("patch: {node: S2L0R, variable: least, digits: [low]}\npairs: {n: 600}", "vacuous"),
        ("patch: {node: S2L0R, variable: least, digits: [low]}\npairs: ['cd= -> ab=', 'aa= -> ab=']", "vacuous"),
        ("answer: whole\nquestions: {n: 600}\nexpect: {accuracy_at_least: 0.98}", "supported"),
        ("answer: [low, high]\nfree_running: true\nquestions: [ab=, dc=]\nexpect: {accuracy_at_least: 1.0}", "supported"),
        ("attend: {node: S2L0H0, to: [x, y]}\nquestions: {n: 600}\nexpect: {mass_at_most: 0.999}", None),
    ],
)  # fmt: skip
def test_each_verb_is_judged_and_by_both_engines_alike(trained, tmp_path, text, verdict):
    if verdict is None and "fails: [high]" in text:
        text_of = refusal(SpecError, claim, trained, tmp_path, text)
        assert "expected digits that S2L0R can change (low), found high" in text_of or "high" in text_of
        return
    results = [judge(claim(trained, tmp_path, text), Workbench("cpu", engine)) for engine in ("cone", "hooks")]
    assert results[0].verdict == results[1].verdict
    if verdict is not None:
        assert results[0].verdict == verdict
    fast, slow = ([observed(row_of(row)) for row in result.comparisons] for result in results)
    assert fast == slow


def test_the_engines_agree_on_every_node(trained):
    fixture = load_fixture("own", trained, "cpu")
    tokens = fixture.task.batch_for(Sample(40, 1))
    changes = [CLEAN, *(zero({node: fixture.width(node)}) for node in all_nodes(fixture.shape))]
    assert all(isinstance(change, Intervention) for change in changes)
    for fast, slow in zip(cone.run(fixture, tokens, changes), hooked.run(fixture, tokens, changes), strict=True):
        assert torch.equal(fast.predicted, slow.predicted)
        assert torch.allclose(fast.loss, slow.loss, atol=1e-4)


def test_pairs_carry_the_variable_and_expect_what_python_says(trained):
    from harness.tasks.pairs import draw_pairs

    layout = load_fixture("own", trained, "cpu").task
    drawn = draw_pairs(PairSample(60, 1), layout.read_variable("least"), ("low",), layout)
    for base, i, j, expected in zip(drawn.bases.tokens.tolist(), drawn.differing.tolist(), drawn.agreeing.tolist(),
                                    drawn.expected.tolist(), strict=True):  # fmt: skip
        source, same = drawn.sources.tokens[i].tolist(), drawn.sources.tokens[j].tolist()
        assert expected == [min(source[:2]), max(base[:2])]
        assert min(source[:2]) != min(base[:2])
        assert min(same[:2]) == min(base[:2])


def test_a_vocabulary_may_repeat_a_text_and_have_what_no_terminal_shows(tmp_path):
    """A tokenizer's texts do: what would break a line is escaped, in prompts, answers and patterns alike."""
    assert VOCABULARY in TASK
    directory = write_own(tmp_path, task=TASK.replace(VOCABULARY, r'vocabulary = ("\n", "b", "\x1b", "", "=", "b")'))
    pin_random(directory)
    asked = QuestionList(((0, 1, 4), (2, 3, 4)))
    task = load_fixture("own", tmp_path, "cpu").task
    assert task.vocabulary == ("\\n", "b", "\\x1b", "''", "=", "b")
    assert task.batch_for(asked).texts() == ["\\n b =", "\\x1b '' ="]
    assert [task.read_question(text) for text in task.batch_for(asked).texts()] == list(asked.questions)
    found = Workbench("cpu").answer([CleanAnswers(FixtureRef("own", tmp_path), asked)])[0]
    assert found.predicted.shape == (2, 2)


# What is wrong with a task: a part of its text, what stands there instead, and what is said of it.
WRONG = {
    "syntax": ("import torch\n", "import torch\ndef\n", "letters.py:2: expected code that works (importing it), found SyntaxError: "),
    "import": ("import torch\n", "import torches\n", "letters.py:1: expected code that works (importing it), found ModuleNotFoundError: No module named 'torches'; correct it"),
    "no such name": ("task = Sort()", "tusk = Sort()", "letters.py: expected task in it, which "),
    "a class": ("task = Sort()", "task = Sort", "expected letters:task to be a harness.Task, found the class Sort; make one: name = MyTask()"),
    "another thing": ("task = Sort()", "task = 3", "expected letters:task to be a harness.Task, found int; "),
    "names twice": ('"low", "high")', '"low", "low")', "expected each of `names` once of letters:task, found low again; "),
    "an answer name": ('"low", "high")', '"low", "loss")', "expected answer names of letters, digits and _ of letters:task, found loss; "),
    "n_answer": ("n_answer = 2", "n_answer = 5", "expected `n_answer` from 1 to 4 of letters:task, found 5; "),
    "no names": ("    names = (", "    nimes = (", "found AttributeError: 'Sort' object has no attribute 'names'; correct it"),
    "variable": ('["low"]}', '["lowest"]}', "expected answer names that depend on least of letters:task, found lowest; correct `variables`"),
    "shape": ("torch.stack([x, y, torch.full_like(x, 4)], dim=1)", "torch.stack([x, y], dim=1)", "expected an int64 tensor of shape (4, 3) from sample of letters:task, found int64 (4, 2); correct it"),
    "type": ("[:, :2].sort(1).values", "[:, :2].float()", "expected an int64 tensor of shape (4, 2) from answer of letters:task, found float32 (4, 2); "),
    "no tensor": ("[:, :2].sort(1).values", ".tolist()", "expected an int64 tensor of shape (4, 2) from answer of letters:task, found list; return one"),
    "tokens": ("torch.full_like(x, 4)", "torch.full_like(x, 5)", "expected tokens 0 to 4 from sample of letters:task, found "),
    "raises": ("        x, y = torch.randint", "        1 / 0\n        x, y = torch.randint", "letters.py:17: expected code that works (sample), found ZeroDivisionError: division by zero; correct it"),
    "the global generator": ("(2, n), generator=generator", "(2, n)", "expected the same questions again from sample, of a generator with the same seed, of letters:task, found others; draw from the generator alone"),
    "case": ("for x, y, _ in", "for y, x, _ in", "expected questions of the case up from sample of letters:task, found some of down; correct it"),
    "no case": ("[self.cases[(x != y) + (x > y)]", "[[x]", "expected cases that `cases` lists from cases_of of letters:task, found [0]; list it"),
    "no cases": ("return [self.cases[(x != y) + (x > y)] for x, y, _ in questions.tolist()]", "pass", "expected code that works (cases_of), found TypeError: 'NoneType' object is not iterable; correct it"),
    "the end": ("import torch\n", "import sys\nsys.exit()\n", "letters.py:2: expected code that works (importing it), found SystemExit: no message; correct it"),
    "another step": ('("x", "y"', '("S1", "y"', "expected no other step's name at S0 of letters:task, found S1; call it otherwise"),
    "unknown case": ("[self.cases[(x != y) + (x > y)]", '["other"', "expected cases that `cases` lists from cases_of of letters:task, found other; list it"),
    "text": ("task = Sort()", "Sort.write_question = lambda self, question: 'aa='\ntask = Sort()", "expected read_question to read aa=, which write_question wrote, of letters:task, found another question; "),
    "causal model": ("torch.stack([values, ", "torch.stack([values * 0, ", "expected the true answers from answers_with, where least keeps its own value, of letters:task, found others; correct the causal model"),
    "no causal model": ("    def value_of", "    def value", "found NotImplementedError: the task has `variables`, and no `value_of`; correct it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_task_is_one_line_that_names_the_file(tmp_path, kind):
    good, bad, said = WRONG[kind]
    assert good in TASK
    fixtures = tmp_path / "fixtures"
    directory = write_own(fixtures)
    pin_random(directory)
    write_own(fixtures, task=TASK.replace(good, bad))
    text = (
        "patch: {node: S2L0R, variable: least, digits: [low]}\npairs: {n: 600}"
        if "causal" in kind
        else "answer: whole\nquestions: {n: 200, where: {case: up}}\nexpect: {accuracy_at_least: 0.1}"
    )
    with pytest.raises(HarnessError) as caught:
        judge(read_claim(tmp_path, text, fixtures, "own"), Workbench("cpu"))
    (problem,) = caught.value.problems
    assert said in str(problem)
    assert str(directory / "letters.py") in str(problem)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("questions: {n: 100, stratify: cascade}", "expected a condition that letters:task knows, found stratify: cascade; name a case: same, up, down"),
        ("questions: {n: 100, where: {cascade: 2}}", "expected a condition that letters:task knows, found cascade; name a case: same, up, down"),
        ('questions: {n: 100, where: {columns: {D1: "=9"}}}', "expected a condition that letters:task knows, found columns; "),
        ("questions: {n: 100, where: {case: BA}}", "expected same, up or down, found BA; correct `case`"),
        ("questions: varied", "expected twins, found varied; name a set, or write a list or a sample"),
        ("questions: [ab]", "expected a question of letters:task, found 2 tokens in ab; write 3"),
        ("questions: [xy=]", "expected a question of letters:task, found xy=; 'xy=' is not in the vocabulary"),
        ("questions: twins", "expected an answer token low to high, found A5; write one of high, low"),
    ],
)  # fmt: skip
def test_a_spec_is_refused_in_the_tasks_own_words(tmp_path, text, said):
    write_own(tmp_path / "fixtures")
    digit = "A5" if text == "questions: twins" else "low"
    whole = f"ablate: S2L0M\n{text}\nexpect: {{fails: [{digit}]}}"
    assert said in refusal(SpecError, read_claim, tmp_path, whole, tmp_path / "fixtures", "own")


def test_a_variable_that_a_task_has_not_is_refused(tmp_path):
    write_own(tmp_path / "fixtures")
    text = "patch: {node: S2L0R, variable: D2.tricase, digits: [low]}\npairs: {n: 600}"
    said = refusal(SpecError, read_claim, tmp_path, text, tmp_path / "fixtures", "own")
    assert "expected a variable of letters:task, found D2.tricase; write one of least" in said


def test_what_is_of_addition_only_is_refused_in_one_line(trained, capsys):
    common = ["--fixtures", str(trained), "--device=cpu", "--allow-code"]
    assert main(["locate", "own", "--dry-run", *common]) == 2
    assert "expected a model whose task names roles to look for, found one of letters:task;" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["sweep", "own"], ["ask", "own", "ab=", "dc="], ["minimal", "own", "--n=30"], ["new", "own", "S2L0M"],
     ["describe", "own"], pytest.param(["curves", "own"], marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_commands_that_look_work_for_any_task(trained, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    device = [] if command[0] == "curves" else ["--device=cpu"]
    assert main([*command, "--fixtures", str(trained), *device, "--allow-code"]) == 0
    out = capsys.readouterr().out
    if command[0] == "ask":
        assert out.startswith("ab==ab yy loss ")
        assert out.splitlines()[1].endswith(" down")
    if command[0] in ("minimal", "new"):  # what they draft can be read, and judged
        (tmp_path / "drafted.yaml").write_text(out, "utf-8")
        allow_code()
        (drafted,) = load_file(tmp_path / "drafted.yaml", trained)
        assert drafted.questions.strata
        judge(drafted, Workbench("cpu"))


def test_attention_pictures_of_any_task(trained, tmp_path):
    from harness.exploring.attention import attention_maps

    shown = attention_maps(load_fixture("own", trained, "cpu"), ["dc="])[0]
    assert shown.title == "dc==cd (down)"
    assert shown.labels == ("x=d", "y=c", "=", "low=c", "high=d")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(trained, tmp_path):
    write_own(tmp_path / "fixtures")
    train_fixture(FixtureRef("own", tmp_path / "fixtures"), device="cpu", until=120)
    pin = train_fixture(FixtureRef("own", tmp_path / "fixtures"), how="resume", device="cpu").pin
    assert pin is not None
    assert pin.weights_sha256 == json.loads((trained / "own" / "model.json").read_text("utf-8"))["weights_sha256"]


def test_fixtures_of_one_task_are_alike_and_no_others_code_is_run(tmp_path):
    from tiny import write_tiny

    fixtures = tmp_path / "fixtures"
    for name in ("one", "two"):
        pin_random(write_own(fixtures, name=name))
    (fixtures / "letters.py").write_text(TASK, "utf-8")
    write_tiny(fixtures, "adds")
    allow_code(False)
    assert fixtures_of_same_shape(FixtureRef("adds", fixtures)) == []  # which asks nothing of the others
    allow_code()
    for name in ("one", "two"):  # one file for both: beside the recipes there is none
        (fixtures / name / "letters.py").unlink()
    assert fixtures_of_same_shape(FixtureRef("one", fixtures)) == ["two"]


def test_code_is_sought_beside_the_recipe_then_in_the_fixtures_then_on_the_path(tmp_path, monkeypatch):
    fixtures = tmp_path / "fixtures"
    directory = write_own(fixtures)
    names = itertools.count()

    def named():
        (fixtures / "own" / "recipe.yaml").touch()
        return recipe_of(FixtureRef("own", fixtures)).task.title

    def put(place):
        name = f"task{next(names)}"
        (place / "letters.py").write_text(TASK + f'\nSort.name = "{name}"\n', "utf-8")
        return name

    on_path = tmp_path / "elsewhere"
    on_path.mkdir()
    (directory / "letters.py").unlink()
    assert "expected a file letters.py in " in refusal(FixtureError, named)
    monkeypatch.syspath_prepend(on_path)
    for place in (on_path, fixtures, directory):
        assert put(place) == named()
    assert not list(tmp_path.rglob("fixtures/**/__pycache__"))


def test_code_is_not_run_without_permission(tmp_path, capsys):
    mark = tmp_path / "mark"
    fixtures = tmp_path / "fixtures"
    write_own(fixtures, task=f"open({str(mark)!r}, 'w').close()\n" + TASK)
    allow_code(False)
    said = (
        f"{fixtures / 'own' / 'recipe.yaml'}: expected nothing that runs code, found task: letters:task; "
        "it runs code: set harness_allow_code = true for pytest, or give --allow-code to harness"
    )
    text = "answer: whole\nquestions: {n: 600}\nexpect: {accuracy_at_least: 0.9}"
    assert said in refusal(FixtureError, read_claim, tmp_path, text, fixtures, "own")
    assert main(["train", "own", "--fixtures", str(fixtures)]) == 2
    assert capsys.readouterr().err == f"harness: {said}\n"
    assert not mark.exists()
    assert main(["train", "own", "--fixtures", str(fixtures), "--device=cpu", "--steps=1", "--allow-code"]) == 0
    assert mark.exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [("n_digits: 2", "expected no `n_digits` in a recipe of a task of one's own, found one; remove it"),
     ("enrichment: null", "expected no `enrichment` in a recipe of a task of one's own, found one; remove it")],
)  # fmt: skip
def test_a_recipe_says_nothing_of_addition(tmp_path, line, said):
    directory = write_own(tmp_path / "fixtures")
    with (directory / "recipe.yaml").open("a") as file:
        file.write(line + "\n")
    assert f"recipe.yaml:11:1: {said}" in refusal(FixtureError, recipe_of, FixtureRef("own", tmp_path / "fixtures"))
