"""`harness reproduce`: the same recipe again, elsewhere, and whether the same weights come out."""

from __future__ import annotations

import pytest
from tiny import contents, recipe_text, write_tiny

from harness.base.errors import FixtureError, HarnessError
from harness.cli import main
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.pins import read_pin
from harness.training.reproduction import Reproduced, reproduce, trained_here
from harness.training.runs import train_fixture

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    """Return a directory with two fixtures that were trained there and one that was imported."""
    path = tmp_path_factory.mktemp("fixtures")
    for seed in (1, 2):
        (path / f"t{seed}").mkdir()
        (path / f"t{seed}" / "recipe.yaml").write_text(recipe_text(steps=30, seed=seed), "utf-8")
        train_fixture(FixtureRef(f"t{seed}", path), device="cpu")
    write_tiny(path, "imported")
    return path


@pytest.mark.slow
def test_the_same_bits_come_out_and_nothing_is_changed(fixtures):
    before = contents(fixtures)
    found = list(reproduce(["t1", "t2"], fixtures, "cpu"))
    assert [made.same_bits for made in found] == [True, True]
    assert [made.row()[:2] for made in found] == [("t1", "bit-identical"), ("t2", "bit-identical")]
    assert contents(fixtures) == before


def test_names_and_globs_of_what_was_trained_here(fixtures):
    assert trained_here(["t*"], fixtures) == ["t1", "t2"]
    assert trained_here(["t2", "t1"], fixtures) == ["t1", "t2"]
    with pytest.raises(HarnessError, match=r"expected a fixture trained here.*found imported"):
        trained_here(["imported"], fixtures)


# Of ten kinds of 1,000 questions each: how many are answered wrong by the weights that were pinned, and by those trained again.
@pytest.mark.parametrize(
    ("pinned", "again", "word"),
    [
        ([0] * 10, [0] * 10, "equal in accuracy"),
        ([0] * 10, [0] * 9 + [2], "equal in accuracy"),
        ([195] * 10, [202] * 10, "equal in accuracy"),
        ([0] * 10, [0] * 9 + [20], "different"),  # one kind
        ([10] * 10, [5] * 10, "different"),  # no kind by itself, but all together
        ([5] * 10, [10] * 10, "different"),
    ],
)
def test_other_weights_are_equal_in_accuracy_or_different(fixtures, pinned, again, word):
    one, two = (read_pin(FixtureRef(name, fixtures)) for name in ("t1", "t2"))
    kind = one.measured[0]
    one, two = (
        pin.model_copy(update={"measured": [kind.model_copy(update={"n": 1000, "right": 1000 - n}) for n in wrong]})
        for pin, wrong in ((one, pinned), (two, again))
    )
    assert Reproduced(one, two).row()[1] == word


def test_a_recipe_that_has_changed_since_is_refused(fixtures, tmp_path):
    (tmp_path / "t1").mkdir()
    for name, content in contents(fixtures / "t1").items():
        (tmp_path / "t1" / name).write_bytes(content)
    (tmp_path / "t1" / "recipe.yaml").write_text(recipe_text(steps=31, seed=1), "utf-8")
    with pytest.raises(FixtureError, match="the weights are stale"):
        list(reproduce(["t1"], tmp_path, "cpu"))


@pytest.mark.slow
def test_the_command_prints_a_row_a_fixture(fixtures, capsys):
    assert main(["reproduce", "t*", "--fixtures", str(fixtures), "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines[:2]] == ["t1", "t2"]
    assert sum("bit-identical" in line for line in lines) == 4
