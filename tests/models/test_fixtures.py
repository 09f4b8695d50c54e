"""Fixtures: a model is that of the weights, the weights are the pinned ones, and nothing is half written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy_model
import pytest
import tiny
import torch
from paths import FIXTURES
from safetensors.torch import load_file
from tiny import BAD_NAMES, BAD_TENSORS, contents, make_recipe, random_weights, recipe_text, refusal, write_tiny

from harness import __version__
from harness.base.errors import FixtureError, HarnessError
from harness.base.files import write_atomically
from harness.models.bridge import resolve_device
from harness.models.fixtures import load_fixture
from harness.models.storage import serialise
from harness.specs.fixtures.files import FixtureRef, list_fixtures, recipe_of
from harness.specs.fixtures.pins import read_pin, recipe_hash

ROOT = Path("fixtures")
TINY = ROOT / "tiny"
WEIGHTS = TINY / "model.safetensors"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(name="tiny", root=ROOT, device="cpu"):
    return load_fixture(name, root, device)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# The model is that of the weights.

SIZES = [
    {},
    {"act_fn": "gelu"},
    {"n_digits": 1, "n_layers": 1, "n_heads": 1, "d_model": 4, "d_mlp": 3},
    {"n_digits": 4, "n_layers": 3, "n_heads": 4, "d_model": 12, "equals": "equals", "init": "transformer_lens"},
]


def both_logits(**fields):
    """Return the logits on random tokens, by the loaded fixture and by numpy."""
    weights = write_tiny(ROOT, **fields)
    fixture = load()
    layout = fixture.task
    tokens = torch.randint(layout.d_vocab, (60, layout.n_ctx), generator=torch.Generator().manual_seed(1))
    return fixture.model(tokens).numpy(), numpy_model.forward(weights, tokens, fixture.recipe.model.act_fn).logits


@pytest.mark.parametrize("fields", SIZES, ids=str)
def test_a_loaded_model_has_the_logits_of_its_weights(fields):
    found, expected = both_logits(**fields)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("what", ["tanh approximation", "epsilon"])
def test_the_comparison_of_logits_would_notice_another_formula(monkeypatch, what):
    if what == "epsilon":
        monkeypatch.setattr(numpy_model, "EPSILON", 1e-6)
    else:
        approximate = torch.nn.GELU(approximate="tanh")
        monkeypatch.setitem(numpy_model.ACTIVATIONS, "gelu", lambda x: approximate(torch.from_numpy(x)).numpy())
    found, expected = both_logits(act_fn="gelu")
    assert np.abs(found - expected).max() > 1e-4


def test_a_loaded_model_is_frozen_and_no_global_random_state_has_moved():
    write_tiny(ROOT)
    before = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    fixture = load()
    after = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    assert after == before
    assert not fixture.model.training
    assert not any(parameter.requires_grad for parameter in fixture.model.parameters())
    assert (fixture.name, fixture.recipe, fixture.weights_sha256) == ("tiny", make_recipe(), sha256(WEIGHTS))


PINNED = [name for name in list_fixtures(FIXTURES) if (FIXTURES / name / "model.json").exists()]


def test_the_fixtures_that_are_said_to_have_weights_have_them():
    assert {"add_d5_l2_h3", "add_d5_l1_h3"} <= set(PINNED)


@pytest.mark.parametrize("name", PINNED)
def test_a_fixture_of_this_repository_is_whole(name):
    pin = read_pin(FixtureRef(name, FIXTURES))
    assert recipe_hash(recipe_of(FixtureRef(name, FIXTURES))) == pin.recipe_sha256
    assert sha256(FIXTURES / name / "model.safetensors") == pin.weights_sha256


# The weights are the pinned ones.


def flip(share):
    """Return a change that flips one bit of the byte at this share of the file's length."""

    def change(raw):
        at = int(share * (len(raw) - 1))
        return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]

    return change


CHANGES = {
    "empty": lambda raw: b"",
    "half": lambda raw: raw[: len(raw) // 2],
    "only the header": lambda raw: raw[: 8 + int.from_bytes(raw[:8], "little")],
    "a byte less": lambda raw: raw[:-1],
    "a byte more": lambda raw: raw + b"\0",
    "another seed's": lambda raw: serialise(random_weights(make_recipe(), seed=1)),
    **{f"a bit at {share:.0%}": flip(share) for share in (0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_weights_are_refused_with_both_hashes(change):
    write_tiny(ROOT)
    pinned, raw = sha256(WEIGHTS), change(WEIGHTS.read_bytes())
    WEIGHTS.write_bytes(raw)
    assert sha256(WEIGHTS) != pinned
    found = f"found sha256 {sha256(WEIGHTS)} ({len(raw)} bytes); restore it from version control"
    assert refusal(FixtureError, load) == f"{WEIGHTS}: expected weights of sha256 {pinned}, {found}"


def test_pinned_weights_that_are_missing_are_an_error_and_not_made_anew():
    write_tiny(ROOT)
    pinned = sha256(WEIGHTS)
    WEIGHTS.unlink()
    before = contents(ROOT)
    fix = "restore it from version control; pinned weights are never made anew"
    expected = f"{WEIGHTS}: expected weights of sha256 {pinned}, found no such file; {fix}"
    assert refusal(FixtureError, load) == expected
    assert contents(ROOT) == before


def test_weights_that_cannot_be_read_are_an_error():
    write_tiny(ROOT)
    WEIGHTS.unlink()
    WEIGHTS.mkdir()
    assert refusal(FixtureError, load) == f"{WEIGHTS}: expected a readable file, found Is a directory; check it"


def test_weights_without_a_pin_are_no_fixture():
    write_tiny(ROOT)
    (TINY / "model.json").unlink()
    fix = "train them: harness train tiny"
    expected = f"expected weights pinned in {TINY / 'model.json'}, found no such file; {fix}"
    assert refusal(FixtureError, load) == expected


def test_weights_are_stale_once_the_recipe_says_something_else():
    write_tiny(ROOT)
    (TINY / "recipe.yaml").write_text(recipe_text(seed=1))
    fix = "the weights are stale: restore the recipe, or import the new one's weights"
    found = f"found a recipe of sha256 {recipe_hash(make_recipe(seed=1))}; {fix}"
    expected = f"{TINY / 'recipe.yaml'}: expected the recipe of sha256 {recipe_hash(make_recipe())}, {found}"
    assert refusal(FixtureError, load) == expected


def test_a_broken_recipe_is_the_fixtures_error_with_its_place():
    write_tiny(ROOT)
    (TINY / "recipe.yaml").write_text(recipe_text(steps=0))
    problem = "expected a number of at least 1, found 0; correct `steps`"
    assert refusal(FixtureError, load) == f"{TINY / 'recipe.yaml'}:9:8: {problem}"


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_a_tensor_that_is_not_the_recipes_is_named_though_its_hash_is_right(kind):
    write_tiny(ROOT, weights=tiny.spoil(random_weights(make_recipe()), kind))
    assert refusal(FixtureError, load) == f"{WEIGHTS}: {BAD_TENSORS[kind][-1]}"


def test_all_tensors_that_are_wrong_are_named_at_once():
    write_tiny(ROOT, weights=tiny.spoil(random_weights(make_recipe()), *BAD_TENSORS))
    lines = refusal(FixtureError, load).splitlines()
    assert sorted(lines) == sorted(f"{WEIGHTS}: {problem}" for *_, problem in BAD_TENSORS.values())


def test_extra_tensors_are_named_in_order():
    extra = [f"blocks.{layer}.ln1.w" for layer in (9, 3, 5, 8, 2, 7, 4, 6)]
    write_tiny(ROOT, weights=random_weights(make_recipe()) | {name: torch.zeros(8) for name in extra})
    found = [line.split("found ")[1].split(";")[0] for line in refusal(FixtureError, load).splitlines()]
    assert found == sorted(extra)


def with_header(header, data=b""):
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello",
        b"\xff" * 64,
        (1 << 62).to_bytes(8, "little") + b"{}",
        with_header([]),
        with_header({"embed.W_E": {"dtype": "F32", "shape": [13, 8], "data_offsets": [0, 416]}}, bytes(400)),
        with_header({"embed.W_E": {"dtype": "F32", "shape": [1 << 40, 8], "data_offsets": [0, 4]}}, bytes(4)),
        with_header({"embed.W_E": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}, bytes(4)),
    ],
    ids=["empty", "text", "bytes", "a huge header", "a list", "too short", "overflow", "a type torch has not"],
)
def test_what_is_no_safetensors_file_is_refused_though_its_hash_is_right(raw):
    write_tiny(ROOT)
    tiny.pin_bytes(TINY, raw)
    assert refusal(FixtureError, load).startswith(f"{WEIGHTS}: expected a safetensors file, found ")


def without(key):
    return lambda pin: json.dumps({name: value for name, value in json.loads(pin).items() if name != key})


def with_value(**changes):
    return lambda pin: json.dumps(json.loads(pin) | changes)


PIN_AS_WRITTEN = "expected a pin as `harness import` writes it, found"
NEWER = f"expected version 1, the newest that harness {__version__} reads, found 2; install a newer harness"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda pin: "[" * 100_000, f"{PIN_AS_WRITTEN} the file: Invalid JSON"),
        (lambda pin: "\udcff", "expected a readable file, found 'utf-8' codec can't decode"),
        (with_value(version=2, licence="MIT"), NEWER),
        (without("recipe_sha256"), f"{PIN_AS_WRITTEN} recipe_sha256: "),
        (with_value(weights_sha256="f" * 63), f"{PIN_AS_WRITTEN} weights_sha256: "),
        (with_value(recipe_sha256="f" * 64 + "\n"), f"{PIN_AS_WRITTEN} recipe_sha256: "),
        (with_value(provenance={"source": "a", "source_sha256": "g" * 64}), f"{PIN_AS_WRITTEN} provenance.source_sha"),
    ],
    ids=["deep", "no UTF-8", "newer", "missing key", "short hash", "line end", "source's hash"],
)
def test_a_broken_pin_is_told_in_one_line(change, problem):
    write_tiny(ROOT)
    path = TINY / "model.json"
    path.write_bytes(change(path.read_text("utf-8")).encode("utf-8", "surrogateescape"))
    assert refusal(FixtureError, load).startswith(f"{path}: {problem}")


# Names and devices.


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_not_a_directorys_is_refused(name):
    write_tiny(ROOT)
    write_tiny(Path(), "outside")
    problem = "expected a fixture name of letters, digits, `_`, `-` and `.`, found "
    assert refusal(HarnessError, load, name).startswith(problem)
    assert refusal(HarnessError, read_pin, FixtureRef(name, ROOT)).startswith(problem)


def test_a_link_that_leads_outside_is_refused():
    write_tiny(Path("elsewhere"))
    ROOT.mkdir()
    TINY.symlink_to(Path.cwd() / "elsewhere" / "tiny")
    expected = "expected a fixture inside fixtures, found tiny, a link that leads outside; copy it in"
    assert refusal(HarnessError, load) == expected


def test_an_unknown_fixture_is_told_what_there_is():
    expected = "expected a directory of fixtures, found fixtures, which is none; name another"
    assert refusal(HarnessError, load) == expected
    ROOT.mkdir()
    expected = "expected a fixture in fixtures, found tiny, but there is none at all; "
    assert refusal(HarnessError, load).startswith(expected)
    write_tiny(ROOT)
    write_tiny(ROOT, "huge")
    (ROOT / "no_recipe").mkdir()
    problem = "expected a fixture in fixtures, found"
    assert refusal(HarnessError, load, "tinny") == f"{problem} tinny; did you mean 'tiny'?"
    assert refusal(HarnessError, load, "x") == f"{problem} x; write one of huge, tiny"
    assert refusal(HarnessError, load, "no_recipe") == f"{problem} no_recipe; write one of huge, tiny"


@pytest.mark.parametrize("device", ["tpu", "gpu", "mps", "meta", "CPU", "cuda:x", "cuda:-1", "cpu\0", ""])
def test_a_device_of_another_kind_is_refused(device):
    write_tiny(ROOT)
    problem = "expected a device auto, cpu or cuda[:N], found "
    assert refusal(HarnessError, load, device=device).startswith(problem)


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
        pytest.param("cuda:0", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
        "cuda:99",
    ],
)
def test_a_gpu_that_is_not_there_is_refused(device):
    write_tiny(ROOT)
    found = f"found {device}, with {torch.cuda.device_count()} GPUs visible; choose cpu"
    assert refusal(HarnessError, load, device=device) == f"expected a device of this machine, {found}"


def test_the_device_auto_is_a_gpu_where_there_is_one():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


# Nothing is half written.


def test_what_is_written_is_what_was_given():
    weights = write_tiny(ROOT)
    assert contents(TINY).keys() == {"recipe.yaml", "model.safetensors", "model.json", "README.md", ".lock"}
    assert (TINY / "recipe.yaml").read_text("utf-8") == recipe_text()
    written = load_file(WEIGHTS)
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)


@pytest.mark.parametrize("there", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("how", ["file", "dangling link"])
def test_weights_are_never_written_over(there, how):
    TINY.mkdir(parents=True)
    if how == "file":
        (TINY / there).write_bytes(b"precious")
    else:
        (TINY / there).symlink_to("nowhere")
    before = contents(ROOT)
    fix = "choose another name, or remove it yourself"
    expected = f"{TINY}: expected a fixture without weights, found {there} already there; {fix}"
    assert refusal(FixtureError, write_tiny, ROOT) == expected
    assert {name: raw for name, raw in contents(ROOT).items() if name != "tiny/.lock"} == before
    assert not (TINY / "nowhere").exists()


def test_a_fixture_is_not_written_through_a_link():
    Path("elsewhere").mkdir()
    ROOT.mkdir()
    TINY.symlink_to(Path.cwd() / "elsewhere")
    assert "expected a directory, found a link" in refusal(FixtureError, write_tiny, ROOT)
    assert not {name for name in contents(Path("elsewhere")) if name != ".lock"}


def test_a_place_that_cannot_be_written_is_told_in_one_line():
    ROOT.write_text("a file")
    expected = f"{TINY}: expected a directory that can be written, found Not a directory; check it"
    assert refusal(FixtureError, write_tiny, ROOT) == expected


def fill_disk(monkeypatch, after):
    """Let `after` files be written; from then on the disk is full."""
    written = []

    def fsync(descriptor):
        written.append(descriptor)
        if len(written) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("after", range(4))
def test_a_full_disk_leaves_nothing_of_a_fixture(monkeypatch, after):
    write_tiny(Path("whole"))
    whole = contents(Path("whole"))
    with monkeypatch.context() as patch:
        fill_disk(patch, after)
        expected = f"{TINY}: expected a directory that can be written, found No space left on device; check it"
        assert refusal(FixtureError, write_tiny, ROOT) == expected
    assert whole.keys() > {"tiny/.lock"}
    assert contents(ROOT).keys() == {"tiny/.lock"}
    with pytest.raises(HarnessError, match="none at all"):
        load()


@pytest.mark.parametrize("after", range(4))
def test_what_a_full_disk_cut_short_can_be_done_again(monkeypatch, after):
    with monkeypatch.context() as patch:
        fill_disk(patch, after)
        refusal(FixtureError, write_tiny, ROOT)
    weights = write_tiny(ROOT)
    assert load_file(WEIGHTS).keys() == weights.keys()


def test_of_several_writers_at_once_exactly_one_writes():
    def write(seed):
        try:
            write_tiny(ROOT, weights=random_weights(make_recipe(), seed))
        except FixtureError:
            return None
        return seed

    with ThreadPoolExecutor(4) as pool:
        winners = [seed for seed in pool.map(write, range(8)) if seed is not None]
    assert len(winners) == 1
    write_tiny(Path("alone"), weights=random_weights(make_recipe(), winners[0]))
    assert contents(ROOT) == contents(Path("alone"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("before", [{}, {"file": b"old"}], ids=["new", "old"])
def test_a_write_that_fails_leaves_the_old_file_and_no_part_of_the_new(monkeypatch, error, before):
    for name, raw in before.items():
        Path(name).write_bytes(raw)

    def fsync(descriptor):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(type(error)):
            write_atomically(Path("file"), b"new")
    assert contents(Path()) == before


def test_a_file_is_written_whole_with_the_rights_of_any_other():
    Path("other").write_bytes(b"")
    for content in (b"first", b"second, and longer", b""):
        write_atomically(Path("file"), content)
        assert contents(Path()) == {"file": content, "other": b""}
        assert Path("file").stat().st_mode == Path("other").stat().st_mode
