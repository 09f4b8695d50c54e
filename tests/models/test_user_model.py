"""A model of one's own: built by a user's function from the pinned tensors, and run by the reference engine."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from own import BUILD, BUILT, TASK, write_own
from safetensors.torch import save_file
from tiny import contents, read_claim, refusal

from harness.base.errors import FixtureError, HarnessError
from harness.base.own_code import allow_code
from harness.cli import main
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.models.fixtures import load_fixture
from harness.specs.fixtures.files import FixtureRef, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread", "code_allowed")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The file of a small model's tensors, under the names that its own code has for them."""
    scope = {}
    exec(BUILD.replace("    model.load_state_dict(weights)\n", ""), scope)
    state = scope["build"](None, torch.device("cpu"), None).state_dict()
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def pin(fixtures, weights, code=TASK + BUILD, recipe=BUILT):
    directory = write_own(fixtures, task=code, recipe=recipe)
    arguments = [str(weights), "--recipe", str(directory / "recipe.yaml"), "--name", "own", "--fixtures", str(fixtures)]
    return main(["import", *arguments, "--device=cpu", "--allow-code"])


def test_import_hashes_measures_and_pins_and_the_report_names_the_engine(tmp_path, weights, capsys):
    fixtures = tmp_path / "fixtures"
    assert pin(fixtures, weights) == 0
    assert "weights sha256" in capsys.readouterr().out
    pinned = json.loads((fixtures / "own" / "model.json").read_text("utf-8"))
    assert pinned["weights_sha256"] == hashlib.sha256((fixtures / "own" / "model.safetensors").read_bytes()).hexdigest()
    assert pinned["provenance"]["source"] == "w.safetensors"
    assert [row["questions"] for row in pinned["measured"]] == ["uniform", "same", "up", "down"]
    assert "1 layer, 2 heads, built by `letters:build`" in (fixtures / "own" / "README.md").read_text("utf-8")
    allow_code()
    text = "ablate: S2L0H0\nmethod: zero\nquestions: {n: 600}\nexpect: {fails: [], intact_rate: 1.0}\ngate: 0"
    result = judge(read_claim(tmp_path, text, fixtures, "own"), Workbench("cpu"))
    assert result.engine == "hooks (the cone engine cannot run a model that code builds)"
    assert load_fixture("own", fixtures, "cpu").model.cfg.d_mlp == 16
    for command in (["describe", "own"], ["ask", "own", "ab="], ["sweep", "own"]):
        assert main([*command, "--fixtures", str(fixtures), "--device=cpu", "--allow-code"]) == 0
        assert capsys.readouterr().out


def test_the_builder_gets_the_pinned_tensors_and_no_others(tmp_path, weights):
    fixtures = tmp_path / "fixtures"
    assert pin(fixtures, weights) == 0
    allow_code()
    path = fixtures / "own" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert "expected weights of sha256 " in refusal(FixtureError, load_fixture, "own", fixtures, "cpu")


def test_it_is_nobodys_to_train(tmp_path, weights, capsys):
    fixtures = tmp_path / "fixtures"
    write_own(fixtures, task=TASK + BUILD, recipe=BUILT)
    assert main(["train", "own", "--fixtures", str(fixtures), "--allow-code"]) == 2
    assert "expected a recipe to train by, found the model of letters:build; " in capsys.readouterr().err
    allow_code()
    said = refusal(FixtureError, load_fixture, "own", fixtures, "cpu")
    assert f"harness import FILE --recipe {fixtures / 'own' / 'recipe.yaml'} --name own --allow-code" in said


def test_a_model_of_ones_own_may_add(tmp_path):
    directory = write_own(tmp_path / "fixtures", recipe=BUILT.replace("letters:task", "addition\nn_digits: 2"))
    assert recipe_of(FixtureRef("own", tmp_path / "fixtures")).task.title == "2-digit addition"
    (directory / "recipe.yaml").write_text(BUILT.replace("letters:task", "addition"), "utf-8")
    said = refusal(FixtureError, recipe_of, FixtureRef("own", tmp_path / "fixtures"))
    assert "expected the key `n_digits`, found none; add `n_digits: …`" in said


WRONG = {
    "raises": ("    config = Tr", "    1 / 0\n    config = Tr", "expected code that works (letters:build of 22 tensors), found ZeroDivisionError: division by zero; correct it"),
    "no bridge": ("    return model", "    return torch.nn.Linear(2, 2)", "expected a TransformerLens bridge, which has `cfg`, from letters:build, found Linear; return one"),
    "heads": ("n_heads=2", "n_heads=1", "expected n_heads: 1, as letters:build builds it, found 2; correct it"),
    "vocabulary": ("d_vocab_out=5", "d_vocab_out=6", "expected logits of shape (2, 5, 5) from the model, found (2, 5, 6); build a model of the task's vocabulary"),
    "hooks": ("    return model", "    model.__class__ = type('M', (type(model),), {'hook_dict': {}})\n    return model", "expected the hook point blocks.0.attn.hook_z in the model, found none; "),
    "not a function": ("def build(", "build = 3\ndef built(", "expected a function letters:build, found int; write one"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_builder_is_one_line(tmp_path, weights, capsys, kind):
    good, bad, said = WRONG[kind]
    code = BUILD.replace(good, bad)
    assert code != BUILD
    if kind in ("heads", "vocabulary"):
        code = code.replace("    model.load_state_dict(weights)\n", "")
    assert pin(tmp_path / "fixtures", weights, TASK + code) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    assert contents(tmp_path / "fixtures").keys() == {"own/letters.py", "own/recipe.yaml"}


def test_a_recipe_of_a_built_model_says_nothing_of_training(tmp_path):
    write_own(tmp_path / "fixtures", recipe=BUILT + "d_model: 8\nsteps: 3\n")
    with pytest.raises(HarnessError) as caught:
        recipe_of(FixtureRef("own", tmp_path / "fixtures"))
    assert [problem.expected for problem in caught.value.problems] == [
        "no `d_model` in a recipe of a model that code builds", "no `steps` in a recipe of a model that code builds",
    ]  # fmt: skip


def test_the_recipe_lies_where_its_code_is_sought(tmp_path, weights, capsys):
    directory = write_own(tmp_path / "elsewhere", task=TASK + BUILD, recipe=BUILT)
    arguments = [str(weights), "--recipe", str(directory / "recipe.yaml"), "--name", "own"]
    assert main(["import", *arguments, "--fixtures", str(tmp_path / "fixtures"), "--allow-code"]) == 2
    assert "expected a recipe that names code in its fixture's directory, found " in capsys.readouterr().err
