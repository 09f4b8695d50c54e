"""``harness train``: what a training run leaves, how it goes on, and what it never touches."""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import os
import re
import shutil
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tiny import BAD_NAMES, contents, make_recipe, recipe_text, refusal

from harness import __version__
from harness.base.errors import FixtureError, HarnessError, MeasurementError
from harness.base.files import remove_parts, write_together
from harness.cli import main
from harness.models.fixtures import load_fixture
from harness.models.storage import serialise
from harness.specs.fixtures.files import CARD, CHECKPOINT, CURVES, LOCK, PIN, RECIPE, WEIGHTS, FixtureRef, recipe_of
from harness.specs.fixtures.pins import read_pin, recipe_hash
from harness.specs.fixtures.recipe import Hardest, Optimiser
from harness.training import runs as making
from harness.training.accuracy import measure_accuracy
from harness.training.curves import final_losses, read_curves, task_shares
from harness.training.loop import Training
from harness.training.plots import figures_of
from harness.training.runs import TrainingResult, ensure_trained, train_fixture

ROOT = Path("fixtures")
TINY = ROOT / "tiny"
STEPS = 60
QUICK = {"n_digits": 1, "n_layers": 1, "steps": STEPS, "optimiser": {"lr": 3e-3}}  # trained in a quarter of a second
HOWS = ["missing", "resume", "fresh"]
FIGURES = {f"curves-{figure}.png" for figure in ("all-digits", "per-digit", "per-task")}
ALL_FILES = {RECIPE, WEIGHTS, PIN, CARD, CURVES, LOCK, *FIGURES}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(making, "CHECKPOINT_EVERY", 20)
    monkeypatch.setattr("harness.training.plots.card_figures", lambda curves: ())  # drawing takes longer than the rest


def write_recipe(**fields):
    """Write the recipe of a fixture that has no weights, or change that of one that has."""
    TINY.mkdir(parents=True, exist_ok=True)
    (TINY / RECIPE).write_text(recipe_text(**(QUICK | fields)), "utf-8")


def train(how="missing", name="tiny", until=None, device="cpu"):
    return train_fixture(FixtureRef(name, ROOT), how=how, device=device, until=until)


def load():
    return load_fixture("tiny", ROOT, "cpu")


def files(directory=TINY):
    """Return a fixture's files but its lock."""
    return {name: raw for name, raw in contents(directory).items() if name != LOCK}


def assert_refused_untouched(kind, expected, **options):
    """Training ends in one error, and no file but the lock is there that was not, or another."""
    before = files()
    text = refusal(kind, train, **options)
    assert text.startswith(expected)
    assert len(text.splitlines()) == 1
    assert files() == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A fixture trained without a stop, and everything about it."""
    root = tmp_path_factory.mktemp("trained")
    (root / "tiny").mkdir()
    (root / "tiny" / RECIPE).write_text("# kept\n" + recipe_text(**QUICK), "utf-8")
    made = train_fixture(FixtureRef("tiny", root), device="cpu")
    return SimpleNamespace(root=root, directory=root / "tiny", made=made, files=files(root / "tiny"))


@pytest.fixture
def copied(trained):
    """The trained fixture, to be changed."""
    shutil.copytree(trained.directory, TINY, dirs_exist_ok=True)
    return files()


@pytest.fixture
def older(copied):
    """A fixture trained by the same recipe to other weights, as an older torch would have."""
    tiny.pin_bytes(TINY, serialise(tiny.random_weights(make_recipe(**QUICK))))
    return files()


def assert_same_bits(directory, trained):
    """The weights and the curves are the same to the last bit, and pinned."""
    for name in (WEIGHTS, CURVES):
        assert (directory / name).read_bytes() == trained.files[name], name
    pin = read_pin(FixtureRef("tiny", directory.parent))
    assert pin.weights_sha256 == hashlib.sha256(trained.files[WEIGHTS]).hexdigest()
    assert not (directory / CHECKPOINT).exists()


# What a training run leaves.


def test_a_trained_fixture_has_all_its_files_and_a_pin_that_says_how_it_was_made(trained):
    assert trained.files.keys() == ALL_FILES - {LOCK}
    assert trained.files[RECIPE].decode() == "# kept\n" + recipe_text(**QUICK)
    assert all(trained.files[name].startswith(b"\x89PNG") for name in FIGURES)
    pin = read_pin(FixtureRef("tiny", trained.root))
    assert trained.made == TrainingResult(pin, STEPS, already_pinned=False)
    assert pin.provenance is None
    assert pin.weights_sha256 == hashlib.sha256(trained.files[WEIGHTS]).hexdigest()
    assert pin.recipe_sha256 == recipe_hash(make_recipe(**QUICK))
    said = pin.trained
    assert (said.steps, said.device, said.threads) == (STEPS, "cpu", 1)
    assert (said.torch, said.harness) == (torch.__version__, __version__)
    assert 0 < said.seconds < 60
    losses = [float(row["loss"]) for row in rows_of(trained)]
    assert said.loss == pytest.approx(sum(losses[-5:]) / 5, rel=1e-4)


def rows_of(trained):
    return list(csv.DictReader(gzip.decompress(trained.files[CURVES]).decode().splitlines()))


def test_the_curves_have_a_row_for_every_step(trained):
    rows = rows_of(trained)
    assert [int(row["step"]) for row in rows] == list(range(STEPS))
    assert [*rows[0]][1:] == list(make_recipe(**QUICK).task.curve_columns)
    losses = [float(row["loss"]) for row in rows]
    assert losses[0] > 2.5 > 2.35 > losses[-1]  # at first a guess among 13 words or so


def test_the_weights_are_those_of_the_steps_done_one_after_another(trained):
    training = Training(make_recipe(**QUICK), torch.device("cpu"))
    for _ in range(STEPS):
        training.advance()
    written = load_file(trained.directory / WEIGHTS)
    assert written.keys() == training.weights.keys()
    assert all(torch.equal(written[name], weight) for name, weight in training.weights.items())


def test_a_trained_fixture_loads_with_the_accuracy_that_is_pinned(trained):
    fixture = load_fixture("tiny", trained.root, "cpu")
    pin = read_pin(FixtureRef("tiny", trained.root))
    assert fixture.weights_sha256 == pin.weights_sha256
    assert measure_accuracy(fixture) == pin.measured


def test_the_card_has_the_final_losses_and_the_figures(trained):
    card, _, training = trained.files[CARD].decode().partition("## Training\n")
    curves = read_curves(trained.directory / CURVES, make_recipe(**QUICK).task)
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in training.splitlines() if line.startswith("|")]
    assert table[0] == ["digit", "loss", "BA", "UC1", "US9"]
    losses = final_losses(curves)
    assert [row["digit"] for row in losses] == ["all", "A1", "A0"]
    assert table[2:] == [[row.get(column, "") for column in table[0]] for row in losses]
    assert task_shares(curves) in training
    assert set(re.findall(r"\]\((.*?)\)", training)) == FIGURES
    assert f"torch {torch.__version__} on cpu, 1 threads" in card


def test_the_same_recipe_gives_the_same_bits_and_another_seed_others(trained):
    torch.manual_seed(99)  # nobody's
    write_recipe()
    train()
    assert_same_bits(TINY, trained)
    shutil.rmtree(TINY)
    write_recipe(seed=1)
    train()
    assert (TINY / WEIGHTS).read_bytes() != trained.files[WEIGHTS]


def test_how_often_a_run_stops_to_save_and_to_log_does_not_show_in_its_bits(monkeypatch, trained):
    monkeypatch.setattr(making, "CHECKPOINT_EVERY", 7)
    monkeypatch.setattr(making, "LOG_EVERY", 3)
    write_recipe()
    train()
    assert_same_bits(TINY, trained)


def test_training_takes_nothing_from_the_global_generator_and_gives_it_nothing():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    write_recipe()
    train()
    assert torch.equal(torch.get_rng_state(), before)


NOTEBOOK = [0, 8e-6, 1.6e-5, 2.4e-5, 3.2e-5, 4e-5, 4.8e-5, 5.6e-5, 6.4e-5, 7.2e-5, 8e-5, 8e-5]


def test_the_learning_rate_warms_up_as_the_notebooks_and_then_stays():
    found = [Optimiser().lr_at(step, 15_000) for step in range(12)]
    assert found == pytest.approx(NOTEBOOK, rel=1e-12, abs=0)
    assert Optimiser().lr_at(14_999, 15_000) == 8e-5
    assert Optimiser(warmup_steps=0).lr_at(0, 15_000) == 8e-5


def test_the_stable_decay_schedule_is_constant_and_falls_over_the_last_quarter():
    schedule = Optimiser(lr=2.0, schedule="stable_decay", warmup_steps=10)
    found = [schedule.lr_at(step, 200) for step in range(200)]
    assert found[:10] == [2.0 * step / 10 for step in range(10)]
    assert set(found[10:151]) == {2.0}
    assert found[150:] == pytest.approx([2.0 * (200 - step) / 50 for step in range(150, 200)])


def test_the_cosine_schedule_falls_from_the_whole_rate_to_nearly_none():
    cosine = Optimiser(lr=2.0, schedule="cosine", warmup_steps=10)
    found = [cosine.lr_at(step, 110) for step in range(110)]
    assert found[:11] == pytest.approx([0.2 * step for step in range(11)], rel=1e-12)
    assert found[60] == pytest.approx(1, rel=1e-12)
    assert found[35] == pytest.approx(1 + 0.5**0.5, rel=1e-12)
    assert 0 < found[-1] < 1e-3
    assert all(later < earlier for earlier, later in pairwise(found[10:]))
    assert Optimiser(schedule="cosine").lr_at(0, 1) == 0  # more warm-up than steps


@pytest.mark.parametrize(("warmup", "moved"), [(1, False), (0, True)])
def test_the_first_step_of_a_warm_up_moves_nothing(warmup, moved):
    training = Training(make_recipe(**QUICK | {"optimiser": {"lr": 0.1, "warmup_steps": warmup}}), torch.device("cpu"))
    before = {name: weight.detach().clone() for name, weight in training.weights.items()}
    training.advance()
    assert any(not torch.equal(weight, before[name]) for name, weight in training.weights.items()) == moved


# Learning from the hardest questions.


HARDEST = {"hardest": {"of": 3, "last_share": 0.5}}


def test_hardest_is_on_in_the_last_share_of_the_steps():
    on = [[step for step in range(8) if Hardest(of=2, last_share=share).is_on(step, 8)] for share in (0.01, 0.25, 1.0)]
    assert on == [[], [6, 7], [*range(8)]]


def test_late_steps_learn_from_the_hardest_of_what_they_draw_and_record_all_of_it():
    fields = QUICK | {"steps": 4, "batch_size": 8, "optimiser": {"lr": 0.01, "warmup_steps": 0}}
    ours = Training(make_recipe(**fields, **HARDEST), torch.device("cpu"))
    plain = Training(make_recipe(**fields), torch.device("cpu"))
    for _ in range(2):
        ours.advance()
        plain.advance()
    assert all(torch.equal(weight, plain.weights[name]) for name, weight in ours.weights.items())
    copy = torch.Generator()
    copy.set_state(ours.generator.get_state())
    pool = ours.task.training_batch(24, copy, ours.recipe.shares)
    losses = plain.losses(pool)[0].detach().mean(1).tolist()
    hardest = sorted(range(24), key=lambda question: -losses[question])[:8]
    plain.draw_batch = lambda: pool[torch.tensor(hardest)]
    ours.advance()
    plain.advance()
    assert all(torch.equal(weight, plain.weights[name]) for name, weight in ours.weights.items())
    assert float(ours.curves()["loss"][-1]) == pytest.approx(sum(losses) / 24)
    assert float(plain.curves()["loss"][-1]) == pytest.approx(sum(losses[question] for question in hardest) / 8)


def test_a_run_stopped_before_and_amid_the_hardest_questions_goes_on_to_the_same_bits():
    write_recipe(**HARDEST)
    train()
    whole = {name: (TINY / name).read_bytes() for name in (WEIGHTS, CURVES)}
    shutil.rmtree(TINY)
    write_recipe(**HARDEST)
    for step in (10, 30, 31, 50):
        assert train(until=step) == TrainingResult(None, step)
    assert train().step == STEPS
    assert {name: (TINY / name).read_bytes() for name in whole} == whole
    assert "in the last 50% the hardest of 3 times as many" in (TINY / CARD).read_text("utf-8")


# Stopping and going on.


@pytest.mark.parametrize(("how", "stops"), [("missing", [1]), ("resume", [59]), ("missing", [7, 8, 20, 33, 40])])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(trained, stops, how):
    write_recipe()
    for step in stops:
        assert train(until=step) == TrainingResult(None, step)
        assert files().keys() == {RECIPE, CHECKPOINT}
        assert len(load_file(TINY / CHECKPOINT)["curves"]) == step
        assert "weights pinned in" in refusal(FixtureError, load)
    assert train(how).step == STEPS
    assert_same_bits(TINY, trained)


def test_to_stop_at_the_last_step_is_to_finish(trained):
    write_recipe()
    assert train(until=STEPS).pin == read_pin(FixtureRef("tiny", ROOT))
    assert_same_bits(TINY, trained)


def test_to_stop_before_the_checkpoint_leaves_the_checkpoint_as_it_is():
    write_recipe()
    train(until=30)
    before = files()
    assert train(until=10) == TrainingResult(None, 30)
    assert files() == before


@pytest.mark.parametrize("until", [0, -1, STEPS + 1])
@pytest.mark.parametrize("how", HOWS)
def test_more_steps_than_there_are_and_fewer_than_one_are_refused(until, how):
    write_recipe()
    expected = f"expected --steps from 1 to the recipe's {STEPS}, found {until}; edit the recipe"
    assert_refused_untouched(HarnessError, expected, how=how, until=until)


def test_to_resume_without_a_checkpoint_is_refused(trained):
    write_recipe()
    expected = f"{TINY}: expected a checkpoint to go on from, found none; leave out --resume"
    assert_refused_untouched(FixtureError, expected, how="resume")
    shutil.copytree(trained.directory, TINY, dirs_exist_ok=True)
    assert_refused_untouched(FixtureError, expected, how="resume")


def test_fresh_pays_no_heed_to_a_checkpoint(trained):
    write_recipe(seed=1)
    train(until=20)
    write_recipe()
    train("fresh")
    assert_same_bits(TINY, trained)


@pytest.mark.parametrize("how", ["missing", "resume"])
def test_a_checkpoint_of_another_recipe_is_refused(how):
    write_recipe(seed=1)
    train(until=20)
    write_recipe()
    fix = "restore it, or start anew with --fresh"
    expected = f"{TINY / CHECKPOINT}: expected a checkpoint of the recipe as it is, found one of another recipe; {fix}"
    assert_refused_untouched(FixtureError, expected, how=how)


def test_a_recipe_that_says_the_same_in_other_words_goes_on(trained):
    write_recipe()
    train(until=20)
    (TINY / RECIPE).write_text("# the defaults, written out\n" + recipe_text(**QUICK) + "batch_size: 64\n", "utf-8")
    train("resume")
    assert_same_bits(TINY, trained)


def damage(change):
    """Change the tensors of the checkpoint, keeping what it says about itself."""

    def write():
        state = load_file(TINY / CHECKPOINT)
        change(state)
        save_file(state, TINY / CHECKPOINT, {"recipe_sha256": recipe_hash(recipe_of(FixtureRef("tiny", ROOT)))})

    return write


def cut(share):
    def write():
        raw = (TINY / CHECKPOINT).read_bytes()
        (TINY / CHECKPOINT).write_bytes(raw[: int(len(raw) * share)])

    return write


DAMAGE = {
    "empty": cut(0),
    "a byte": cut(1e-4),
    "its header's half": cut(0.1),
    "half": cut(0.5),
    "nearly whole": cut(0.9999),
    "text": lambda: (TINY / CHECKPOINT).write_text("hello\n" * 99),
    "zeros": lambda: (TINY / CHECKPOINT).write_bytes(bytes(9999)),
    "no moment": damage(lambda state: state.pop("exp_avg_sq.embed.W_E")),
    "no curves": damage(lambda state: state.pop("curves")),
    "no generator": damage(lambda state: state.pop("generator")),
    "other sizes": damage(lambda state: state.update({"weights.embed.W_E": torch.zeros(2, 2)})),
    "half a generator": damage(lambda state: state.update(generator=state["generator"][:99].clone())),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_told_in_one_line_and_fresh_starts_anew(how):
    write_recipe()
    train(until=20)
    DAMAGE[how]()
    for way in ("missing", "resume"):
        assert_refused_untouched(FixtureError, f"{TINY / CHECKPOINT}: expected a ", how=way)
        assert refusal(FixtureError, train, way).endswith("start anew with --fresh")
    assert train("fresh", until=3) == TrainingResult(None, 3)


def test_a_checkpoint_that_is_a_directory_is_told_in_one_line():
    write_recipe()
    (TINY / CHECKPOINT).mkdir()
    for how in HOWS:
        assert_refused_untouched(FixtureError, f"{TINY}", how=how)


@pytest.mark.slow
def test_after_a_kill_between_its_pin_and_the_end_a_run_is_done(trained, older):
    (TINY / CHECKPOINT).write_bytes(b"left behind")
    assert train().already_pinned
    assert (TINY / WEIGHTS).read_bytes() == older[WEIGHTS]
    train("fresh")
    assert_same_bits(TINY, trained)


def test_what_killed_processes_left_is_removed():
    write_recipe()
    (TINY / f".{CHECKPOINT}.x1y2.part").write_bytes(b"half a checkpoint")
    train()
    assert contents(TINY).keys() == ALL_FILES - FIGURES


# What is there stays.


def test_a_fixture_that_was_trained_is_left_alone(trained, copied):
    assert train() == TrainingResult(trained.made.pin, STEPS, already_pinned=True)
    assert train(until=5) == TrainingResult(trained.made.pin, STEPS, already_pinned=True)
    assert files() == copied


@pytest.mark.parametrize("how", ["missing", "resume"])
def test_weights_without_a_pin_are_left_alone(copied, how):
    (TINY / PIN).unlink()
    problem = f"no weights without a {PIN}, found {WEIGHTS}; remove it yourself"
    assert_refused_untouched(FixtureError, f"{TINY}: expected {problem}", how=how)


@pytest.mark.parametrize("how", ["resume", "fresh"])
def test_imported_weights_are_never_written_over(how):
    tiny.write_tiny(ROOT, **QUICK)
    fix = "they are not written over; copy the recipe to another name"
    expected = f"{TINY}: expected weights that were trained here, or none, found weights imported from tiny.pth; {fix}"
    assert_refused_untouched(FixtureError, expected, how=how)
    (TINY / CHECKPOINT).write_bytes(b"")
    assert_refused_untouched(FixtureError, expected, how=how)


def test_imported_weights_are_there():
    tiny.write_tiny(ROOT, **QUICK)
    before = files()
    assert train() == TrainingResult(read_pin(FixtureRef("tiny", ROOT)), STEPS, already_pinned=True)
    assert files() == before


@pytest.mark.parametrize("how", HOWS)
def test_published_weights_are_not_trained(how):
    write_recipe(hub={"repo": "some/body", "file": "model.pth"})
    expected = f"{TINY}: expected a recipe to train by, found one of published weights; harness import hub:tiny"
    assert_refused_untouched(FixtureError, expected, how=how)


def test_weights_whose_recipe_changed_are_stale_and_say_so(copied):
    write_recipe(steps=STEPS - 1)
    sha256 = [recipe_hash(make_recipe(**QUICK | {"steps": steps})) for steps in (STEPS, STEPS - 1)]
    fix = "the weights are stale: restore the recipe, or train it again (harness train tiny --fresh)"
    expected = (
        f"{TINY / RECIPE}: expected the recipe of sha256 {sha256[0]}, found a recipe of sha256 {sha256[1]}; {fix}"
    )
    assert refusal(FixtureError, load) == expected
    assert_refused_untouched(FixtureError, expected)
    assert {**files(), RECIPE: copied[RECIPE]} == copied


def test_stale_weights_are_trained_anew_with_fresh(trained, copied):
    write_recipe(steps=STEPS - 1)
    assert train("fresh").step == STEPS - 1
    fixture = load()
    assert fixture.weights_sha256 != trained.made.pin.weights_sha256
    assert read_pin(FixtureRef("tiny", ROOT)).trained.steps == STEPS - 1
    again = (TINY / WEIGHTS).read_bytes()
    shutil.rmtree(TINY)
    write_recipe(steps=STEPS - 1)
    train()
    assert (TINY / WEIGHTS).read_bytes() == again


def test_comments_and_written_out_defaults_make_no_weights_stale(trained, copied):
    (TINY / RECIPE).write_text("# other words\n" + recipe_text(**QUICK) + "act_fn: relu\n", "utf-8")
    assert load().weights_sha256 == trained.made.pin.weights_sha256
    assert train().already_pinned


# What cannot be trained.


def test_a_fixture_that_is_not_there_is_told_in_one_line():
    problem = "expected a directory of fixtures, found fixtures, which is none; name another"
    assert refusal(HarnessError, train) == problem
    write_recipe()
    problem = "expected a fixture in fixtures, found tinny; did you mean 'tiny'?"
    assert_refused_untouched(HarnessError, problem, name="tinny")
    for name in BAD_NAMES:
        expected = "expected a fixture name of letters, digits, `_`, `-` and `.`, found "
        assert_refused_untouched(HarnessError, expected, name=name)


def test_a_bad_recipe_is_told_where_it_stands():
    write_recipe(seed=-1)
    problem = f"{TINY / RECIPE}:8:7: expected a number of at least 0, found -1; correct `seed`"
    assert_refused_untouched(FixtureError, problem)


def test_a_device_that_is_not_there_is_told_in_one_line():
    write_recipe()
    assert_refused_untouched(HarnessError, "expected a device auto, cpu or cuda[:N], found tpu", device="tpu")


@pytest.mark.parametrize("steps", [STEPS, 3])
def test_a_run_that_diverges_ends_in_one_line_and_leaves_no_fixture(steps):
    write_recipe(steps=steps, optimiser={"lr": 1e9, "warmup_steps": 0})
    expected = "expected finite losses, found nan or infinity; lower the learning rate"
    assert_refused_untouched(MeasurementError, expected)
    assert files().keys() == {RECIPE}


def test_a_run_that_diverges_at_its_last_step_leaves_no_fixture():
    write_recipe(steps=1, optimiser={"lr": 1e30, "warmup_steps": 0})
    assert len(refusal(MeasurementError, train).splitlines()) == 1
    assert files().keys() == {RECIPE, CHECKPOINT}


# Disks and directories.

CANNOT_WRITE = f"{TINY}: expected a directory that can be written, found"


@contextmanager
def full_disk(monkeypatch, after):
    """Let `after` files be written; from then on the disk is full."""
    written = []

    def fsync(descriptor):
        written.append(descriptor)
        if len(written) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


def assert_disk_full(how="missing"):
    assert refusal(FixtureError, train, how) == f"{CANNOT_WRITE} No space left on device; check it"


def checkpoint_step():
    return len(load_file(TINY / CHECKPOINT)["curves"]) if (TINY / CHECKPOINT).exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["new", "retrained"])
def test_a_full_disk_at_any_file_leaves_the_old_ones_and_the_run_goes_on(monkeypatch, request, trained, old):
    write_recipe()
    before = request.getfixturevalue("older") if old else files()
    # Written are three checkpoints, then the curves, the card, the weights and the pin.
    for saved in range(3):
        with full_disk(monkeypatch, saved):
            assert_disk_full("fresh")
        assert checkpoint_step() == saved * making.CHECKPOINT_EVERY
        assert {name: raw for name, raw in files().items() if name != CHECKPOINT} == before
    with full_disk(monkeypatch, 1):  # from the second checkpoint on, one more
        assert_disk_full("resume")
    assert checkpoint_step() == STEPS
    checkpoint = files()[CHECKPOINT]
    for published in range(1, 4):
        with full_disk(monkeypatch, published):
            assert_disk_full("resume")
        assert files() == {**before, CHECKPOINT: checkpoint}
        if old:
            assert load().weights_sha256 == hashlib.sha256(before[WEIGHTS]).hexdigest()
        else:
            assert "weights pinned in" in refusal(FixtureError, load)
    with full_disk(monkeypatch, 4):
        train("resume")
    assert_same_bits(TINY, trained)


@contextmanager
def without_rights(directory):
    """Be somebody who may not write in the directory, which root always may."""
    Path().resolve().chmod(0o755)
    directory.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o755)


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
@pytest.mark.parametrize("old", [False, True], ids=["new", "retrained"])
@pytest.mark.parametrize("lock", [False, True], ids=["no lock", "a lock"])
def test_a_read_only_directory_stays_as_it_is(request, old, lock):
    write_recipe()
    if old:
        request.getfixturevalue("older")
    (TINY / LOCK).unlink(missing_ok=True)
    if lock:  # one that anybody may take: the first file that cannot be written is the checkpoint
        (TINY / LOCK).touch()
        (TINY / LOCK).chmod(0o666)
    with without_rights(TINY):
        for how in ("fresh", "missing") if not old else ("fresh",):
            assert_refused_untouched(FixtureError, f"{CANNOT_WRITE} Permission denied; check it", how=how)
        if old:
            assert load().weights_sha256 == hashlib.sha256(files()[WEIGHTS]).hexdigest()
    assert contents(TINY).keys() - files().keys() == ({LOCK} if lock else set())
    train("fresh", until=1)
    assert checkpoint_step() == 1


@pytest.mark.parametrize("after", [0, 4])
def test_an_interrupt_while_a_file_is_written_leaves_no_part_of_it(monkeypatch, older, after):
    written = []

    def fsync(descriptor):
        written.append(descriptor)
        if len(written) > after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(KeyboardInterrupt):
            train("fresh")
    assert {name: raw for name, raw in files().items() if name != CHECKPOINT} == older
    assert checkpoint_step() == (STEPS if after else 0)
    assert load().weights_sha256 == hashlib.sha256(older[WEIGHTS]).hexdigest()


# Several files at once.


def test_files_that_are_written_together_are_whole_and_have_the_rights_of_any_other():
    Path("b").write_bytes(b"old b")
    Path("other").write_bytes(b"")
    write_together({Path("a"): b"new a", Path("b"): b"new b", Path("c"): b""})
    assert contents(Path()) == {"a": b"new a", "b": b"new b", "c": b"", "other": b""}
    assert {path.stat().st_mode for path in Path().iterdir()} == {Path("other").stat().st_mode}


def test_files_take_their_names_in_the_order_given_after_what_vouches_for_them_is_gone(monkeypatch):
    for name in "abv":
        Path(name).write_bytes(b"old")
    seen = []
    replace = Path.replace

    def watched(part, target):
        seen.append((target.name, {name: raw for name, raw in contents(Path()).items() if "." not in name}))
        assert part.read_bytes() == b"new"
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_together({Path(name): b"new" for name in "bva"}, Path("v"))
    assert seen == [
        ("b", {"a": b"old", "b": b"old"}),
        ("v", {"a": b"old", "b": b"new"}),
        ("a", {"a": b"old", "b": b"new", "v": b"new"}),
    ]
    assert contents(Path()) == dict.fromkeys("abv", b"new")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("after", range(3))
@pytest.mark.parametrize("before", [{}, dict.fromkeys("abcv", b"old")], ids=["new", "old"])
def test_of_files_that_are_written_together_all_or_none_are_there(monkeypatch, before, after, error):
    for name, raw in before.items():
        Path(name).write_bytes(raw)
    written = []

    def fsync(descriptor):
        written.append(descriptor)
        if len(written) > after:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(type(error)):
            write_together({Path(name): b"new" for name in "abc"}, Path("v"))
    assert contents(Path()) == before
    write_together({Path(name): b"new" for name in "abc"}, Path("v"))
    assert contents(Path()) == dict.fromkeys("abc", b"new")


def test_files_whose_directory_is_missing_are_not_written():
    Path("v").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        write_together({Path("a"): b"new", Path("nowhere/b"): b"new"}, Path("v"))
    assert contents(Path()) == {"v": b"old"}


def test_only_parts_are_removed():
    kept = ["a.part", ".a.parts", "part", ".part.a", "a", LOCK]
    for name in [*kept, ".a.part"]:
        Path(name).write_bytes(b"")
    for name in ("inside/.a.part", f".{PIN}.4xq.part/{PIN}", ".b.1.part/b", ".[b].1.part/b"):
        Path(name).parent.mkdir()
        Path(name).write_bytes(b"")
    remove_parts(Path(), "[b]")
    assert Path(".b.1.part/b").exists()
    assert not Path(".[b].1.part").exists()
    remove_parts(Path())
    assert not Path(".b.1.part").exists()
    assert contents(Path()).keys() == {*kept, "inside/.a.part"}
    remove_parts(Path())
    remove_parts(Path("nowhere"))


# Whenever a fixture is wanted.


@pytest.mark.parametrize("policy", ["missing", "never", "always"])
def test_what_is_missing_is_trained_unless_never(trained, policy):
    write_recipe()
    ensure_trained(FixtureRef("tiny", ROOT), policy, "cpu")
    if policy == "never":
        assert contents(TINY).keys() == {RECIPE}
    else:
        assert_same_bits(TINY, trained)


@pytest.mark.parametrize("policy", ["missing", "never", pytest.param("always", marks=pytest.mark.slow)])
def test_what_was_trained_is_trained_anew_only_where_always(trained, copied, policy):
    before = (TINY / PIN).stat().st_mtime_ns
    ensure_trained(FixtureRef("tiny", ROOT), policy, "cpu")
    assert_same_bits(TINY, trained)
    assert ((TINY / PIN).stat().st_mtime_ns != before) == (policy == "always")
    write_recipe(seed=1)  # now it is stale
    before = (TINY / WEIGHTS).read_bytes()
    ensure_trained(FixtureRef("tiny", ROOT), policy, "cpu")
    assert ((TINY / WEIGHTS).read_bytes() != before) == (policy == "always")
    if policy == "always":
        assert load().recipe.run.seed == 1
    else:
        assert "the weights are stale" in refusal(FixtureError, load)


@pytest.mark.parametrize("policy", ["missing", "never", "always"])
def test_what_was_imported_or_is_published_is_never_trained(policy):
    tiny.write_tiny(ROOT, **QUICK)
    before = contents(ROOT)
    ensure_trained(FixtureRef("tiny", ROOT), policy, "cpu")
    assert contents(ROOT) == before
    shutil.rmtree(TINY)
    write_recipe(hub={"repo": "some/body", "file": "model.pth"})
    ensure_trained(FixtureRef("tiny", ROOT), policy, "cpu")
    assert contents(TINY).keys() == {RECIPE}


@pytest.mark.slow
def test_missing_goes_on_from_a_checkpoint_and_always_too(trained):
    for policy in ("missing", "always"):
        write_recipe()
        train(until=40)
        ensure_trained(FixtureRef("tiny", ROOT), policy, "cpu")
        assert_same_bits(TINY, trained)
        shutil.rmtree(TINY)


# The command.

WHERE = ["--fixtures=fixtures", "--device=cpu"]


def test_train_prints_what_it_made_and_then_that_it_is_there(capsys):
    write_recipe()
    assert main(["train", "tiny", *WHERE]) == 0
    pin = read_pin(FixtureRef("tiny", ROOT))
    made = [
        f"{TINY}: weights sha256 {pin.weights_sha256}",
        f"{pin.measured[0].right} of 1000 uniform questions right; README.md there has the rest",
    ]
    out, err = capsys.readouterr()
    assert out.splitlines() == made
    assert "tiny: 100%" in err
    assert main(["train", "tiny", *WHERE]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{TINY}: has its weights already; --fresh trains new ones", *made]
    assert err == ""


def test_train_stops_at_a_step_and_goes_on(capsys, trained):
    write_recipe()
    assert main(["train", "tiny", "--steps", "30", *WHERE]) == 0
    expected = f"{TINY}: stopped at step 30; `harness train tiny --resume` goes on from there\n"
    assert capsys.readouterr().out == expected
    assert main(["train", "tiny", "--resume", *WHERE]) == 0
    assert_same_bits(TINY, trained)
    assert "weights sha256" in capsys.readouterr().out


def test_train_fresh_makes_new_weights(trained, copied):
    write_recipe(seed=1)
    assert main(["train", "tiny", *WHERE]) == 2
    assert files() == {**copied, RECIPE: recipe_text(**QUICK, **{"seed": 1}).encode()}
    assert main(["train", "tiny", "--fresh", *WHERE]) == 0
    assert load().recipe.run.seed == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "tiny", "--steps=0"], "expected --steps from 1 to the recipe's 60, found 0; edit the recipe"),
        (["curves", "teeny"], "expected a fixture in fixtures, found teeny; did you mean 'tiny'?"),
    ],
)
def test_what_the_command_cannot_do_is_one_line_and_exit_2(arguments, message, capsys):
    write_recipe()
    device = ["--device=cpu"] if arguments[0] == "train" else []
    assert main([*arguments, "--fixtures=fixtures", *device]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"harness: {message}")
    assert err.count("\n") == 1


def test_fresh_and_resume_together_are_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "tiny", "--fresh", "--resume"])
    assert caught.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.slow
def test_curves_prints_the_final_losses_and_draws_every_figure(capsys, copied):
    assert main(["curves", "tiny", "--format=png", "--out=figures", "--fixtures=fixtures"]) == 0
    lines = capsys.readouterr().out.splitlines()
    curves = read_curves(TINY / CURVES, make_recipe(**QUICK).task)
    heading = "Final losses (mean of the last five steps, nats per digit):"
    assert lines[0] == f"tiny: {STEPS} steps. {heading}"
    assert [line.split()[:2] for line in lines[3:-2]] == [[row["digit"], row["loss"]] for row in final_losses(curves)]
    assert lines[-2] == task_shares(curves)
    assert lines[-1] == f"wrote {', '.join(figures_of(curves))} to figures"
    drawn = contents(Path("figures"))
    assert drawn.keys() == {f"{figure}.png" for figure in figures_of(curves)}
    assert all(raw.startswith(b"\x89PNG") for raw in drawn.values())
    assert files() == copied


def test_curves_that_cannot_be_written_are_one_line(capsys, copied):
    Path("figures").write_text("a file")
    assert main(["curves", "tiny", "--format=png", "--out=figures/here", "--fixtures=fixtures"]) == 2
    expected = "figures/here: expected a directory that can be written, found Not a directory; choose another"
    assert capsys.readouterr().err == f"harness: {expected}\n"


def test_damaged_curves_are_one_line(capsys, copied):
    for raw in (b"", b"hello", copied[CURVES][:-20], gzip.compress(b"step,loss\n0,1\n")):
        (TINY / CURVES).write_bytes(raw)
        assert main(["curves", "tiny", "--format=png", "--out=figures", "--fixtures=fixtures"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"harness: {TINY / CURVES}: expected learning curves as `harness train` writes them, ")
        assert err.count("\n") == 1
    assert not Path("figures").exists()


# What is not yet as it should be.


def test_after_fresh_was_stopped_the_command_that_is_named_goes_on(capsys, copied):
    assert main(["train", "tiny", "--fresh", "--steps=30", *WHERE]) == 0
    assert (TINY / CHECKPOINT).exists()
    (command,) = re.findall("`harness (.*?)`", capsys.readouterr().out)
    assert main([*command.split(), "--steps=40", *WHERE]) == 0
    assert "stopped at step 40" in capsys.readouterr().out


def test_stale_imported_weights_are_not_told_to_be_trained_anew():
    tiny.write_tiny(ROOT, **QUICK)
    write_recipe(seed=1)
    text = refusal(FixtureError, train)
    assert "stale" in text
    assert "--fresh" not in text


@pytest.mark.parametrize("change", ["missing", "altered"])
def test_weights_that_are_not_the_pinned_ones_are_not_said_to_be_there(copied, change):
    if change == "missing":
        (TINY / WEIGHTS).unlink()
    else:
        (TINY / WEIGHTS).write_bytes(b"others")
    assert "restore it from version control" in refusal(FixtureError, train)


def test_when_a_file_cannot_take_its_name_nothing_has_changed():
    for name in "acv":
        Path(name).write_bytes(b"old")
    Path("b").mkdir()
    before = contents(Path())
    with pytest.raises(OSError, match="Is a directory"):
        write_together({Path(name): b"new" for name in "abcv"}, Path("v"))
    assert contents(Path()) == before


def test_a_checkpoint_with_a_flipped_bit_is_refused():
    write_recipe()
    train(until=20)
    raw = bytearray((TINY / CHECKPOINT).read_bytes())
    raw[len(raw) // 2] ^= 1
    (TINY / CHECKPOINT).write_bytes(raw)
    refusal(FixtureError, train, until=21)


def test_a_closed_standard_error_does_not_stop_training(monkeypatch):
    write_recipe()
    monkeypatch.setattr(sys, "stderr", None)
    assert train(until=2).step == 2


@pytest.mark.parametrize("how", ["missing", "resume", "fresh"])
def test_weights_that_are_not_the_pinned_ones_are_somebodys_and_stay(copied, how):
    other = b"somebody's"
    (TINY / WEIGHTS).write_bytes(other)
    before = contents(TINY)
    expected = f"expected weights of sha256 {read_pin(FixtureRef('tiny', ROOT)).weights_sha256}, "
    found = f"found sha256 {hashlib.sha256(other).hexdigest()}"
    assert refusal(FixtureError, train, how).startswith(f"{TINY / WEIGHTS}: {expected}{found}")
    assert contents(TINY) == before


def test_a_checkpoint_is_written_in_the_place_of_a_link_and_not_where_that_leads():
    write_recipe()
    (TINY / CHECKPOINT).symlink_to(Path.cwd() / "elsewhere")
    train(until=20)
    assert not Path("elsewhere").exists()
    assert not (TINY / CHECKPOINT).is_symlink()
