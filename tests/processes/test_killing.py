"""Training by real processes: killed, interrupted and crowded, it comes to the same bits and no half file."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tiny
import transformer_lens.model_bridge  # noqa: F401 - so that the fork server has it already
from forked import PATIENCE, PROCESSES, in_child, is_write, parts
from paths import FIXTURES, ROOT
from safetensors.torch import load, load_file
from tiny import contents, make_recipe, recipe_text

from harness.base.files import remove_parts
from harness.models.bridge import expected_tensors
from harness.models.fixtures import load_fixture
from harness.models.storage import replace_fixture_files, serialise
from harness.specs.fixtures.files import CHECKPOINT, CURVES, LOCK, PIN, RECIPE, WEIGHTS, FixtureRef, recipe_of
from harness.specs.fixtures.pins import Pin, Provenance, read_pin, recipe_hash
from harness.training import runs as making
from harness.training.loop import Training

STEPS = 1000  # of the shipped tiny recipe
EVERY = 20  # steps between two checkpoints, where a run is killed
KILLS_IN_TRAINING, KILLS_AFTER_IT = 16, 5
QUICK = {"n_digits": 1, "n_layers": 1}
FIGURES = {f"curves-{figure}.png" for figure in ("all-digits", "per-digit", "per-task")}


pytestmark = pytest.mark.usefixtures("one_thread", "server")


def make_recipe_file(fixtures, **fields):
    """Write a recipe without weights, the shipped tiny one unless other fields are given; return its directory."""
    (fixtures / "tiny").mkdir(parents=True)
    text = recipe_text(**fields) if fields else (FIXTURES / "tiny" / RECIPE).read_text("utf-8")
    (fixtures / "tiny" / RECIPE).write_text(text, "utf-8")
    return fixtures / "tiny"


# What runs in the children.


def count_steps(counters):
    """Have every training run of this process say what step it is at, and how many the process has done."""

    class Counted(Training):
        def advance(self):
            super().advance()
            counters[0] = self.step
            counters[1] += 1

    making.Training = Counted


def train(fixtures, log, counters, options=(), checkpoint_every=EVERY):
    in_child(log)
    count_steps(counters)
    making.CHECKPOINT_EVERY = checkpoint_every
    making.train_fixture(FixtureRef("tiny", fixtures), device="cpu", **dict(options))


def start(directory, **options):
    """Start to train the fixture in a child; its ``counters`` are the step it is at and how many it did."""
    log = directory.parent.parent / "log"
    log.touch()
    counters = PROCESSES.RawArray("q", 2)
    child = PROCESSES.Process(target=train, args=(directory.parent, log, counters), kwargs=options)
    child.start()
    child.counters, child.log = counters, log
    return child


def wait_for(what, child):
    """Wait until `what()`, and return whether it came true before the child ended."""
    ends = time.monotonic() + PATIENCE
    while not what():
        if child.exitcode is not None:
            return bool(what())
        assert time.monotonic() < ends
        time.sleep(0.001)
    return True


def kill(child):
    """Kill the child, and return whether it was alive."""
    os.kill(child.pid, signal.SIGKILL)
    child.join(PATIENCE)
    assert child.exitcode in (0, -signal.SIGKILL), child.log.read_text("utf-8")
    return child.exitcode == -signal.SIGKILL


def finish(child):
    child.join(PATIENCE)
    assert child.exitcode == 0, child.log.read_text("utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The shipped tiny recipe, trained by a process that nothing happened to, with checkpoints as usual."""
    directory = make_recipe_file(tmp_path_factory.mktemp("whole") / "fixtures")
    child = start(directory, checkpoint_every=making.CHECKPOINT_EVERY)
    assert wait_for(lambda: child.counters[0] == STEPS, child)
    trained = time.monotonic()
    finish(child)
    return SimpleNamespace(directory=directory, publishing=time.monotonic() - trained)


def assert_same_fixture(directory, expected):
    """Everything that a training run makes is the same to the last bit; the pin and the card tell the time it took."""
    files = {name: raw for name, raw in contents(directory).items() if name not in (PIN, "README.md", LOCK)}
    assert files.keys() == {RECIPE, WEIGHTS, CURVES, *FIGURES}
    assert files == {name: (expected / name).read_bytes() for name in files}
    pins = [read_pin(FixtureRef("tiny", place.parent)) for place in (directory, expected)]
    assert pins[0].measured == pins[1].measured
    assert pins[0].weights_sha256 == hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()


# SIGKILL.


def checkpointed_step(directory):
    """Return the step of the checkpoint, 0 if there is none; it can be read, and is whole."""
    if not (directory / CHECKPOINT).exists():
        return 0
    state = load((directory / CHECKPOINT).read_bytes())
    names = [f"{kind}.{name}" for kind in ("weights", "exp_avg") for name in expected_tensors(make_recipe())]
    assert {*names, "generator", "curves"} <= state.keys()
    return len(state["curves"])


def assert_killed_cleanly(directory, step_before):
    """Whatever moment the process was killed at, what it left is whole, and no step behind what was there."""
    step = checkpointed_step(directory)
    assert step >= step_before
    unfinished = parts(directory)
    if step < STEPS:  # one file at a time
        assert set(unfinished.values()) <= {CHECKPOINT}
        assert contents(directory).keys() <= {RECIPE, CHECKPOINT, LOCK, *unfinished}
    else:
        assert set(unfinished.values()) <= {CHECKPOINT, WEIGHTS, CURVES, PIN, "README.md", *FIGURES}
    if (directory / PIN).exists():
        load_fixture("tiny", directory.parent, "cpu")
    return step


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_the_same_bits(whole, tmp_path):
    rng = random.Random(20)
    directory = make_recipe_file(tmp_path / "fixtures")
    killed, steps = [], [0]
    for moment in sorted(rng.sample(range(STEPS), KILLS_IN_TRAINING)):
        child = start(directory)
        assert wait_for(lambda child=child, moment=moment: child.counters[0] > moment, child)
        time.sleep(rng.uniform(0, 0.02))  # a step takes a few milliseconds, and so does a checkpoint
        killed.append(kill(child))
        steps.append(assert_killed_cleanly(directory, steps[-1]))
    assert not (directory / PIN).exists()
    assert len(set(steps)) > KILLS_IN_TRAINING // 2  # the runs did go on from one another
    before = tmp_path / "before"
    for _ in range(KILLS_AFTER_IT):
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(directory, before)
        longest = 0.9 * whole.publishing
        while True:
            child = start(directory)
            assert wait_for(lambda child=child: child.counters[0] == STEPS or steps[-1] == STEPS, child)
            time.sleep(rng.uniform(0, longest))
            if kill(child) and not (directory / PIN).exists():
                break
            longest *= 0.7  # it was done before: the same again, with less of a wait
            shutil.rmtree(directory)
            shutil.copytree(before, directory)
        killed.append(True)
        steps.append(assert_killed_cleanly(directory, steps[-1]))
    assert sum(killed) >= 20
    assert steps[-1] == STEPS
    finish(start(directory))
    assert_same_fixture(directory, whole.directory)


# Old and new files of a fixture, and a pin that is true of them.
SOME_FILES = (CURVES, "README.md", WEIGHTS)


def some_pin(content):
    return Pin(
        version=1, name="tiny", weights_sha256=hashlib.sha256(content).hexdigest(), measured=[],
        recipe_sha256=recipe_hash(make_recipe()), provenance=Provenance(source="x", source_sha256="0" * 64),
    )  # fmt: skip


def put_and_die(directory, content, survived):
    """Put a fixture's files in place, and be killed before the next but `survived` thing that is done to a file."""
    done = []

    def about_to(event, arguments):
        if is_write(event, arguments):
            done.append(event)
            if len(done) > survived:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(about_to)
    replace_fixture_files(directory, dict.fromkeys(SOME_FILES, content), some_pin(content))


def test_between_any_two_file_operations_a_kill_leaves_a_pin_that_is_true_or_none(tmp_path):
    directory = tmp_path / "tiny"
    directory.mkdir()
    found = []
    for survived in range(1000):
        replace_fixture_files(directory, dict.fromkeys(SOME_FILES, b"old"), some_pin(b"old"))
        child = PROCESSES.Process(target=put_and_die, args=(directory, b"new" * 9999, survived))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode in (0, -signal.SIGKILL)
        left = contents(directory)
        assert {left[name] for name in SOME_FILES} <= {b"old", b"new" * 9999}
        whole = [{left[name] for name in SOME_FILES} == {content} for content in (b"old", b"new" * 9999)]
        pinned = [left.get(PIN) == pin_text(content) for content in (b"old", b"new" * 9999)]
        found.append("old" if pinned[0] else "new" if pinned[1] else "none")
        assert (PIN in left) == any(pinned)
        assert not pinned[0] or whole[0]
        assert not pinned[1] or whole[1]
        parts(directory)
        remove_parts(directory)
        assert contents(directory).keys() <= {*SOME_FILES, PIN}
        assert all(path.is_file() for path in directory.iterdir())
        if child.exitcode == 0:
            break
    assert found == sorted(found, key=["old", "none", "new"].index)  # in this order, and every one of them
    assert found.count("old") > 2 + len(SOME_FILES)
    assert found.count("none") > len(SOME_FILES)
    assert found[-1] == "new"


def pin_text(content):
    return (some_pin(content).model_dump_json(indent=2, exclude_none=True) + "\n").encode()


# Several at once.


def want(number, fixtures, log, counters, barrier, results):
    """Want a fixture, as the command or as pytest does, and tell what was loaded in the end."""
    in_child(log)
    count_steps(counters)
    barrier.wait(PATIENCE)
    if number % 2:
        making.ensure_trained(FixtureRef("tiny", fixtures), "missing", "cpu")
    else:
        making.train_fixture(FixtureRef("tiny", fixtures), device="cpu")
    fixture = load_fixture("tiny", fixtures, "cpu")
    state = b"".join(tensor.numpy().tobytes() for _, tensor in sorted(fixture.model.state_dict().items()))
    told = {"pin": fixture.weights_sha256, "model": hashlib.sha256(state).hexdigest(), "steps": counters[1]}
    (results / f"{number}.json").write_text(json.dumps(told), "utf-8")


def test_eight_processes_that_want_one_fixture_train_it_once_and_load_the_same_bytes(tmp_path):
    directory = make_recipe_file(tmp_path / "fixtures", **QUICK, steps=60)
    barrier, results = PROCESSES.Barrier(8), tmp_path / "results"
    results.mkdir()
    log = tmp_path / "log"
    counters = [PROCESSES.RawArray("q", 2) for _ in range(8)]  # kept: memory that is freed would be shared by two
    children = [
        PROCESSES.Process(target=want, args=(number, directory.parent, log, counters[number], barrier, results))
        for number in range(8)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
    assert [child.exitcode for child in children] == [0] * 8, log.read_text("utf-8")
    told = [json.loads((results / f"{number}.json").read_text("utf-8")) for number in range(8)]
    assert sorted(one["steps"] for one in told) == [0] * 7 + [60]
    assert {one["pin"] for one in told} == {hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest()}
    assert len({one["model"] for one in told}) == 1
    assert contents(directory).keys() == {RECIPE, WEIGHTS, CURVES, PIN, LOCK, "README.md", *FIGURES}


@pytest.mark.slow
def test_who_waits_takes_over_from_a_holder_that_is_killed(whole, tmp_path):
    directory = make_recipe_file(tmp_path / "fixtures")
    holder = start(directory)
    assert wait_for(lambda: holder.counters[0] > 300, holder)
    os.kill(holder.pid, signal.SIGSTOP)  # it holds the lock, and does not finish
    waiter = start(directory)
    said = "waiting for another process, which trains tiny\n"
    assert wait_for(lambda: said in waiter.log.read_text("utf-8"), waiter)
    time.sleep(0.3)
    assert waiter.exitcode is None
    assert list(waiter.counters) == [0, 0]
    assert kill(holder)
    finish(waiter)
    assert waiter.counters[0] == STEPS
    assert waiter.counters[1] <= STEPS - 300  # it went on from the holder's checkpoint
    assert_same_fixture(directory, whole.directory)


# SIGINT.


def interrupt(directory, moment, *options):
    """Run ``harness train`` and send it a SIGINT once `moment()` is true; return its output, line by line."""

    command = [sys.executable, "-m", "harness.cli", "train", "tiny", "--fixtures", str(directory.parent), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of who ignores it would ignore it too
    process = subprocess.Popen(
        [*command, "--device=cpu"], env=environment, cwd=directory.parent, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    signal.signal(signal.SIGINT, ours)
    with process:
        ends = time.monotonic() + PATIENCE
        while process.poll() is None and not moment():
            assert time.monotonic() < ends
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, re.split(r"[\r\n]+", err.strip())


def assert_interrupted(told):
    """It ended by the interrupt, and said so in one line besides the progress bar's."""
    code, out, lines = told
    assert code == 130, lines
    assert out == ""
    assert lines[-1].startswith("harness: interrupted")
    assert [line for line in lines[:-1] if not re.match(r"tiny:.*\| \d+/\d+ \[", line)] == []


@pytest.mark.parametrize(
    "there", [LOCK, pytest.param(CHECKPOINT, marks=pytest.mark.slow)], ids=["at the start", "in the middle"]
)
def test_an_interrupted_run_leaves_a_checkpoint_or_nothing_and_goes_on(tmp_path, there):
    directory = make_recipe_file(tmp_path / "fixtures", **QUICK, steps=1_000_000)
    assert_interrupted(interrupt(directory, (directory / there).exists))
    left = contents(directory).keys()
    assert left in ({RECIPE, LOCK}, {RECIPE, LOCK, CHECKPOINT})
    assert there in left
    state = load_file(directory / CHECKPOINT) if CHECKPOINT in left else {"curves": []}
    step = len(state["curves"])
    how = "resume" if step else "missing"
    assert (
        making.train_fixture(FixtureRef("tiny", tmp_path / "fixtures"), how=how, device="cpu", until=step + 5).step
        == step + 5
    )
    alone = make_recipe_file(tmp_path / "alone", **QUICK, steps=1_000_000)
    making.train_fixture(FixtureRef("tiny", tmp_path / "alone"), device="cpu", until=step + 5)
    found, expected = (load_file(place / CHECKPOINT) for place in (directory, alone))
    assert found.keys() == expected.keys()
    for name in found.keys() - {"seconds"}:
        assert found[name].numpy().tobytes() == expected[name].numpy().tobytes(), name


def test_an_interrupted_retraining_leaves_the_old_fixture(whole, tmp_path):
    directory = tmp_path / "fixtures" / "tiny"
    shutil.copytree(whole.directory, directory)
    older = tiny.random_weights(recipe_of(FixtureRef("tiny", directory.parent)))
    tiny.pin_bytes(directory, serialise(older))
    before = contents(directory)
    assert_interrupted(interrupt(directory, (directory / CHECKPOINT).exists, "--fresh"))
    assert contents(directory).keys() - before.keys() == {CHECKPOINT}
    assert contents(directory).items() >= before.items()
    fixture = load_fixture("tiny", tmp_path / "fixtures", "cpu")
    assert fixture.weights_sha256 == hashlib.sha256(before[WEIGHTS]).hexdigest()
