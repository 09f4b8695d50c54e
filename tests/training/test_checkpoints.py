"""``harness import``: the checkpoint's tensors and no others, measured, and nothing in it executed."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy_model
import pytest
import tiny
import torch
from evil import EVIL
from safetensors.torch import load_file, save_file
from tiny import BAD_NAMES, BAD_TENSORS, contents, make_recipe, random_weights, recipe_text, refusal, save_checkpoint

from harness.base.errors import FixtureError, HarnessError, SpecError
from harness.engines import hooks as hooked
from harness.models.fixtures import load_fixture
from harness.specs.fixtures.pins import recipe_hash
from harness.tasks.addition.sampling import tokens_for
from harness.tasks.addition.strata import make_strata
from harness.tasks.questions import Sample
from harness.training.accuracy import SEED
from harness.training.checkpoints import import_checkpoint

ROOT = Path("fixtures")
TINY = ROOT / "tiny"
CHECKPOINT, RECIPE = Path("old.pth"), Path("recipe.yaml")
SMALLEST = {"n_digits": 1, "n_layers": 1}  # measured in half a second

# With these weights, 7 of 1,000 questions come out right, and no two logits lie closer than 7e-5.
SOMETIMES_RIGHT = 8


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RECIPE.write_text(recipe_text())


def import_tiny(checkpoint=CHECKPOINT, recipe=RECIPE, name="tiny", device="cpu"):
    return import_checkpoint(checkpoint, recipe, name, ROOT, device=device)


def assert_refused_untouched(problem, **options):
    """The import ends in one FixtureError about the checkpoint, and there is no file that was not there before."""
    before = contents(Path())
    text = refusal(FixtureError, import_tiny, **options)
    assert text.startswith(f"{options.get('checkpoint', CHECKPOINT)}: {problem}")
    assert len(text.splitlines()) == 1
    assert contents(Path()) == before


# What comes out.


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """An old checkpoint, imported, and everything about it."""
    place = tmp_path_factory.mktemp("imported")
    weights = random_weights(make_recipe(), SOMETIMES_RIGHT)
    checkpoint, recipe = place / "old.pth", place / "recipe.yaml"
    save_checkpoint(checkpoint, weights)
    recipe.write_text("# kept\n" + recipe_text())
    pin = import_checkpoint(checkpoint, recipe, "tiny", place / "fixtures", note="Trained by nobody.")
    return SimpleNamespace(
        place=place,
        root=place / "fixtures",
        directory=place / "fixtures" / "tiny",
        weights=weights,
        pin=pin,
        fixture=load_fixture("tiny", place / "fixtures", "cpu"),
    )


def test_imported_weights_are_the_checkpoints_without_its_buffers(imported):
    written = load_file(imported.directory / "model.safetensors")
    assert written.keys() == imported.weights.keys()
    assert all(torch.equal(written[name], weight) for name, weight in imported.weights.items())


def test_the_pin_says_where_the_weights_come_from(imported):
    hashes = {
        name: hashlib.sha256((imported.place / name).read_bytes()).hexdigest()
        for name in ("old.pth", "fixtures/tiny/model.safetensors")
    }
    assert imported.pin.provenance.model_dump() == {
        "source": "old.pth", "source_sha256": hashes["old.pth"], "note": "Trained by nobody.",
    }  # fmt: skip
    assert imported.pin.weights_sha256 == hashes["fixtures/tiny/model.safetensors"]
    assert imported.pin.recipe_sha256 == recipe_hash(make_recipe())
    written = contents(imported.directory)
    assert written.keys() == {"recipe.yaml", "model.safetensors", "model.json", "README.md", ".lock"}
    assert type(imported.pin).model_validate_json(written["model.json"]) == imported.pin
    assert written["recipe.yaml"].decode() == "# kept\n" + recipe_text()
    card = written["README.md"].decode()
    assert all(text in card for text in (*hashes.values(), "Trained by nobody.", "# tiny", "`old.pth`"))


def test_an_imported_fixture_has_the_logits_of_the_checkpoint(imported):
    tokens = tokens_for(Sample(100, 1), imported.fixture.task)
    expected = numpy_model.forward(imported.weights, tokens).logits
    np.testing.assert_allclose(imported.fixture.model(tokens).numpy(), expected, rtol=0, atol=1e-5)


def measured_samples(layout):
    strata = [stratum for kind in ("case", "cascade") for stratum in make_strata(layout, stratify=kind)]
    return {"uniform": Sample(1000, SEED)} | {stratum.name: Sample(1000, SEED, (stratum,)) for stratum in strata}


def test_pinned_accuracy_is_that_of_the_weights(imported):
    layout = imported.fixture.task
    samples = measured_samples(layout)
    assert [accuracy.questions for accuracy in imported.pin.measured] == list(samples)
    for accuracy, sample in zip(imported.pin.measured, samples.values(), strict=True):
        tokens = tokens_for(sample, layout).numpy()
        truth = tokens[:, -layout.n_answer :]
        logits = numpy_model.forward(imported.weights, tokens).logits[:, -layout.n_answer - 1 : -1]
        right = logits.argmax(-1) == truth
        shares = numpy_model.softmax(logits)
        assert accuracy.n == len(tokens) == 1000
        assert accuracy.right == right.all(1).sum()
        assert accuracy.right_teacher_forced == right.sum(0).tolist()
        loss = -np.log(np.take_along_axis(shares, truth[..., None], -1)).mean()
        assert accuracy.loss == pytest.approx(loss, rel=1e-5)
    assert 0 < imported.pin.measured[0].right < 1000


@pytest.mark.slow
def test_free_running_accuracy_is_that_of_a_run_on_all_questions(imported):
    layout = imported.fixture.task
    for accuracy, sample in zip(imported.pin.measured, measured_samples(layout).values(), strict=True):
        tokens = tokens_for(sample, layout)
        truth = tokens[:, -layout.n_answer :]
        context = tokens.numpy().copy()
        context[:, -layout.n_answer :] = 0
        for step in range(-layout.n_answer, 0):
            context[:, step] = numpy_model.forward(imported.weights, context).logits[:, step - 1].argmax(-1)
        generated = hooked.generate(imported.fixture, layout.batch_of(tokens))
        assert generated.tolist() == context[:, -layout.n_answer :].tolist()
        right = generated == truth
        assert accuracy.right_free_running == right.sum(0).tolist()
        assert accuracy.right == right.all(1).sum()
    uniform = imported.pin.measured[0]
    assert uniform.right_free_running != uniform.right_teacher_forced


def tied(weights):
    return weights | {"blocks.0.ln1.b": weights["blocks.0.ln2.b"]}


def overlapping(weights):
    row = torch.arange(12.0)
    return weights | {"ln_final.w": row[:8], "ln_final.b": row[4:]}


def expanded(weights):
    return weights | {"blocks.0.ln1.b": torch.ones(1).expand(8), "unembed.W_U": weights["embed.W_E"].T}


def parameters(weights):
    return {name: torch.nn.Parameter(weight) for name, weight in weights.items()}


@pytest.mark.parametrize(
    ("save", "file"),
    [
        (save_checkpoint, "old.pth"),
        (partial(save_checkpoint, legacy=True), "old.pt"),
        (lambda path, weights: save_file(weights, path), "new.safetensors"),
        (lambda path, weights: save_checkpoint(path, parameters(weights)), "old.pth"),
        (lambda path, weights: save_checkpoint(path, expanded(weights)), "old.pth"),
        (lambda path, weights: save_checkpoint(path, tied(weights)), "old.pth"),
        (lambda path, weights: save_checkpoint(path, overlapping(weights)), "old.pth"),
    ],
    ids=["zip", "legacy", "safetensors", "parameters", "expanded", "tied", "overlapping"],
)
def test_every_kind_of_state_dict_is_imported_exactly(save, file):
    RECIPE.write_text(recipe_text(**SMALLEST))
    save(Path(file), random_weights(make_recipe(**SMALLEST)))
    import_tiny(Path(file))
    expected = load_file(file) if file.endswith(".safetensors") else torch.load(file, weights_only=True)
    written = load_file(TINY / "model.safetensors")
    assert {name for name in expected if not name.endswith((".mask", ".IGNORE"))} == written.keys()
    assert all(torch.equal(written[name], expected[name]) for name in written)


def test_weights_are_imported_into_the_directory_of_their_recipe():
    TINY.mkdir(parents=True)
    recipe = RECIPE.rename(TINY / "recipe.yaml")
    recipe.write_text(recipe_text(**SMALLEST))
    weights = random_weights(make_recipe(**SMALLEST))
    save_checkpoint(CHECKPOINT, weights)
    pin = import_tiny(recipe=recipe)
    assert load_fixture("tiny", ROOT, "cpu").weights_sha256 == pin.weights_sha256
    assert recipe.read_text() == recipe_text(**SMALLEST)


def test_the_device_of_an_import_may_be_auto():
    RECIPE.write_text(recipe_text(**SMALLEST))
    save_checkpoint(CHECKPOINT, random_weights(make_recipe(**SMALLEST)))
    assert import_tiny(device="auto").name == "tiny"


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ("tpu", "expected a device auto, cpu or cuda[:N], found tpu; choose one of them"),
        ("cuda:99", f"expected a device of this machine, found cuda:99, with {torch.cuda.device_count()} GPUs visible"),
    ],
)
def test_a_device_that_is_not_there_is_refused(device, problem):
    save_checkpoint(CHECKPOINT, random_weights(make_recipe()))
    assert refusal(HarnessError, import_tiny, device=device).startswith(problem)
    assert not ROOT.exists()


# What is refused.


def write_legacy(evil, path):
    torch.save({"embed.W_E": evil}, path, _use_new_zipfile_serialization=False)


WRITERS = {
    "zip": (lambda evil, path: torch.save({"embed.W_E": evil}, path), "old.pth"),
    "zip, under a tensor": (lambda evil, path: torch.save({"embed.W_E": [torch.ones(2), evil]}, path), "old.pth"),
    "legacy": (write_legacy, "old.pth"),
    "bare pickle": (lambda evil, path: path.write_bytes(pickle.dumps(evil, protocol=2)), "old.pth"),
    "bare pickle, protocol 5": (lambda evil, path: path.write_bytes(pickle.dumps(evil, protocol=5)), "old.pth"),
    "safetensors": (lambda evil, path: path.write_bytes(pickle.dumps(evil)), "old.safetensors"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("asked_to_trust", [False, True])
@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize(("write", "file"), WRITERS.values(), ids=WRITERS)
def test_nothing_in_a_checkpoint_is_executed(monkeypatch, write, file, evil, asked_to_trust):
    if asked_to_trust:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    write(evil, Path(file))
    assert_refused_untouched("expected a", checkpoint=Path(file))
    assert not Path("canary").exists()


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_the_canary_is_there_once_a_checkpoint_is_executed(evil):
    torch.save({"embed.W_E": evil}, CHECKPOINT)
    torch.load(CHECKPOINT, weights_only=False)
    assert Path("canary").exists()


@pytest.mark.parametrize(
    ("thing", "found"),
    [
        ([torch.zeros(2)], "list"),
        ((torch.zeros(2),), "tuple"),
        (torch.zeros(2), "Tensor"),
        (3, "int"),
        ({"state_dict": {"embed.W_E": torch.zeros(13, 8)}}, "dict"),
        ({"embed.W_E": [0.0] * 8}, "dict"),
        ({"embed.W_E": None}, "dict"),
    ],
    ids=["list", "tuple", "tensor", "number", "nested", "list in dict", "none in dict"],
)
def test_a_checkpoint_that_is_no_state_dict_is_refused(thing, found):
    torch.save(thing, CHECKPOINT)
    problem = f"expected a state dict: names and tensors, found {found}; save model.state_dict()"
    assert_refused_untouched(problem)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("file", ["old.pth", "old.safetensors"])
@pytest.mark.parametrize(
    "raw", [b"", b"hello\n", recipe_text().encode(), b"\0" * 100, b"\x80\x02", b"PK\x03\x04", b"{}", b"\xff" * 9]
)
def test_a_file_that_is_no_checkpoint_is_refused(raw, file):
    Path(file).write_bytes(raw)
    assert_refused_untouched("expected a ", checkpoint=Path(file))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_checkpoint_cut_short_anywhere_is_refused(legacy):
    save_checkpoint(CHECKPOINT, random_weights(make_recipe()), legacy=legacy)
    raw = CHECKPOINT.read_bytes()
    for length in range(1, len(raw), len(raw) // 60):
        CHECKPOINT.write_bytes(raw[:length])
        assert_refused_untouched("expected a ")


def test_a_checkpoint_that_cannot_be_read_is_refused():
    assert_refused_untouched("expected a readable checkpoint, found No such file or directory; check the path")
    CHECKPOINT.mkdir()
    assert_refused_untouched("expected a readable checkpoint, found not a file; check the path")


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_a_tensor_that_is_not_the_recipes_is_named(kind):
    save_checkpoint(CHECKPOINT, tiny.spoil(random_weights(make_recipe()), kind))
    assert_refused_untouched(BAD_TENSORS[kind][-1])


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, lambda t: t.to("meta")], ids=["sparse", "meta"])
def test_a_tensor_without_plain_numbers_is_named(change):
    weights = random_weights(make_recipe())
    save_checkpoint(CHECKPOINT, weights | {"embed.W_E": change(weights["embed.W_E"])})
    text = refusal(FixtureError, import_tiny)
    assert "embed.W_E" in text
    assert not ROOT.exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"n_digits": 3}, "expected pos_embed.W_pos of shape (12, 8), found shape (9, 8); "),
        ({"equals": "equals"}, "expected embed.W_E of shape (19, 8), found shape (13, 8); "),
        ({"n_layers": 1}, "expected only tensors that the recipe has, found blocks.1.attn.W_Q; "),
        ({"n_layers": 3}, "expected the tensor blocks.2.attn.W_Q, found none; "),
        ({"n_heads": 4}, "expected blocks.0.attn.W_K of shape (4, 8, 2), found shape (2, 8, 4); "),
        ({"d_model": 6}, "expected unembed.W_U of shape (6, 13), found shape (8, 13); "),
        ({"d_mlp": 15}, "expected blocks.1.mlp.b_in of shape (15,), found shape (16,); "),
    ],
    ids=str,
)
def test_weights_of_other_sizes_than_the_recipes_are_named(fields, problem):
    save_checkpoint(CHECKPOINT, random_weights(make_recipe()))
    RECIPE.write_text(recipe_text(**fields))
    lines = refusal(FixtureError, import_tiny).splitlines()
    assert any(line.startswith(f"{CHECKPOINT}: {problem}") for line in lines)
    assert not ROOT.exists()


def test_a_bad_recipe_is_refused_where_it_stands():
    save_checkpoint(CHECKPOINT, random_weights(make_recipe()))
    RECIPE.write_text(recipe_text(steps=0))
    expected = f"{RECIPE}:9:8: expected a number of at least 1, found 0; correct `steps`"
    assert refusal(SpecError, import_tiny) == expected
    assert not ROOT.exists()


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_not_a_directorys_is_refused(name):
    save_checkpoint(CHECKPOINT, random_weights(make_recipe()))
    before = contents(Path())
    problem = "expected a fixture name of letters, digits, `_`, `-` and `.`, found "
    assert refusal(HarnessError, import_tiny, name=name).startswith(problem)
    assert contents(Path()) == before


# What is there stays.


@pytest.mark.parametrize("missing", [[], ["model.json"], ["model.safetensors"], ["recipe.yaml", "README.md"]], ids=str)
def test_an_import_never_writes_over_weights(missing):
    tiny.write_tiny(ROOT)
    for file in missing:
        (TINY / file).unlink()
    save_checkpoint(CHECKPOINT, random_weights(make_recipe(), seed=1))
    before = contents(Path())
    found = "model.safetensors" if "model.json" in missing else "model.json"
    fix = "choose another name, or remove it yourself"
    expected = f"{TINY}: expected a fixture without weights, found {found} already there; {fix}"
    assert refusal(FixtureError, import_tiny) == expected
    assert contents(Path()) == before


def test_an_import_that_was_killed_before_its_pin_can_be_done_again():
    RECIPE.write_text(recipe_text(**SMALLEST))
    save_checkpoint(CHECKPOINT, random_weights(make_recipe(**SMALLEST)))
    import_tiny()
    whole = contents(ROOT)
    (TINY / "model.json").unlink()
    (TINY / ".recipe.yaml.1.part").mkdir()
    (TINY / ".recipe.yaml.1.part" / "recipe.yaml").write_bytes(b"half")
    import_tiny()
    assert contents(ROOT) == whole
    assert not list(TINY.glob(".*.part"))


def test_an_import_does_not_follow_a_link():
    Path("elsewhere").mkdir()
    ROOT.mkdir()
    TINY.symlink_to(Path.cwd() / "elsewhere")
    save_checkpoint(CHECKPOINT, random_weights(make_recipe()))
    expected = f"{TINY}: expected a directory, found a link; choose another name"
    assert refusal(FixtureError, import_tiny) == expected
    assert contents(Path("elsewhere")) == {}


@pytest.mark.parametrize("trouble", ["a file in the way", "a full disk"])
def test_an_import_that_cannot_be_written_leaves_no_part_of_it(monkeypatch, trouble):
    RECIPE.write_text(recipe_text(**SMALLEST))
    save_checkpoint(CHECKPOINT, random_weights(make_recipe(**SMALLEST)))
    if trouble == "a full disk":
        found = "No space left on device"

        def fsync(descriptor):
            raise OSError(errno.ENOSPC, found)

        monkeypatch.setattr(os, "fsync", fsync)
    else:
        found = "Not a directory"
        ROOT.write_text("a file")
    before = contents(Path())
    expected = f"{TINY}: expected a directory that can be written, found {found}; check it"
    assert refusal(FixtureError, import_tiny) == expected
    assert {name: raw for name, raw in contents(Path()).items() if not name.endswith("/.lock")} == before
