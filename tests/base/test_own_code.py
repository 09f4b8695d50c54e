"""Own code at its edges: what it imports from beside it, what it writes into, and how it ends."""

import pytest
import torch
from asking import answers
from own import BUILT, RECIPE, TASK, write_own
from tiny import make_recipe, refusal

from harness.base.errors import FixtureError
from harness.base.own_code import load_object
from harness.specs.fixtures.files import (
    CARD,
    CHECKPOINT,
    CURVES,
    FIGURES,
    LOCK,
    PIN,
    ROLES,
    WEIGHTS,
    FixtureRef,
    recipe_of,
)
from harness.specs.fixtures.pins import cache_key, code_hashes, recipe_hash
from harness.tasks.own_tasks import load_task
from harness.tasks.pairs import draw_pairs
from harness.tasks.questions import PairSample, Sample

pytestmark = pytest.mark.usefixtures("one_thread", "code_allowed")


def test_a_wrong_task_is_refused_every_time_it_is_asked(tmp_path):
    write_own(tmp_path, task=TASK.replace("(2, n), generator=generator", "(2, n)"))
    task = load_task("letters:task", tmp_path / "own")
    for _ in range(2):
        assert "expected the same questions again" in refusal(FixtureError, task.batch_for, Sample(50, 0))


def test_what_a_causal_model_writes_into_its_questions_is_not_what_the_model_is_asked(tmp_path):
    own = "        questions[:, 0] = values\n        return self.answer(questions)\n\n\ntask"
    text = TASK.replace("        return torch.stack([values, questions[:, :2].amax(1)], dim=1)\n\n\ntask", own)
    text = text.replace("questions[:, :2].amin(1)", "questions[:, 0]").replace('["low"]', '["low", "high"]')
    write_own(tmp_path, task=text)
    layout = load_task("letters:task", tmp_path / "own")
    drawn = draw_pairs(PairSample(60, 1), layout.read_variable("least"), ("low",), layout)
    assert torch.equal(drawn.bases.tokens[:, :2].sort(1).values, answers(drawn.bases.tokens, layout))


def test_a_task_may_be_a_dataclass(tmp_path):
    write_own(tmp_path, task=TASK.replace("class Sort", "import dataclasses\n@dataclasses.dataclass\nclass Sort"))
    task = load_task("letters:task", tmp_path / "own")
    assert len(task.batch_for(Sample(7, 0))) == 7
    assert load_task("letters:task", tmp_path / "own") is task


def test_each_fixture_imports_its_own_file_of_a_name(tmp_path):
    for name in ("one", "two", "three"):
        directory = write_own(tmp_path, name=name, task=f"from own_helper import WHOSE\n{TASK}")
        if name != "three":
            (directory / "own_helper.py").write_text(f"WHOSE = {name!r}\n", "utf-8")
    (tmp_path / "own_helper.py").write_text("WHOSE = 'shared'\n", "utf-8")
    for name, whose in (("one", "one"), ("two", "two"), ("three", "shared")):
        assert load_object("task", "letters:WHOSE", tmp_path / name)[0] == whose


def test_the_line_is_told_where_the_path_is_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = write_own(tmp_path, task="\n1 / 0\n").relative_to(tmp_path)
    assert refusal(FixtureError, load_object, "task", "letters:task", directory).startswith("own/letters.py:2: ")


def test_the_key_of_a_cache_changes_with_whatever_the_code_is_made_of(tmp_path):
    directory, seen = write_own(tmp_path, recipe=BUILT), set()
    others = directory / "config.json", directory / "more" / "x.py", tmp_path / "letters.py", tmp_path / "other.py"
    others[1].parent.mkdir()

    def key():
        return cache_key(recipe_of(FixtureRef("own", tmp_path)))

    seen.add(key())
    for path, counts in ((directory / "letters.py", True), *zip(others, (True, False, False, False), strict=True)):
        path.write_text(f"{TASK}# more\n", "utf-8")
        assert (key() in seen) != counts, path
        seen.add(key())
    for name in (WEIGHTS, PIN, CARD, ROLES, CURVES, CHECKPOINT, LOCK, FIGURES.replace("*", "x")):
        (directory / name).write_text("x", "utf-8")
        assert key() in seen, name
    (directory / "letters.py").unlink()
    assert set(code_hashes(recipe_of(FixtureRef("own", tmp_path)))) == {"letters.py", "own/config.json"}
    assert code_hashes(make_recipe()) == {}
    assert cache_key(make_recipe()) == recipe_hash(make_recipe())


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("__main__:task", "found ValueError: __main__.__spec__ is None"),
        ("own_package.part:task", "found ZeroDivisionError: division by zero"),
        ("own_lacking:task", "found ModuleNotFoundError: No module named 'no_such_module'"),
        ("xml.no_such_module:task", "expected a file xml/no_such_module.py in "),
    ],
)
def test_what_the_import_path_makes_of_a_name_is_one_line(tmp_path, monkeypatch, reference, said):
    (tmp_path / "path" / "own_package").mkdir(parents=True)
    (tmp_path / "path" / "own_package" / "__init__.py").write_text("1 / 0\n", "utf-8")
    (tmp_path / "path" / "own_lacking.py").write_text("import no_such_module\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.setattr("__main__.__spec__", None)
    write_own(tmp_path, recipe=RECIPE.replace("letters:task", reference))
    assert said in refusal(FixtureError, lambda: recipe_of(FixtureRef("own", tmp_path)).task)
