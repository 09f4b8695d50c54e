"""On a GPU everything comes out as on the CPU: both engines, whole verdicts, training. Skipped where there is none."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from paths import FIXTURE, FIXTURES, HYPOTHESES

from harness.judging.bench import Workbench
from harness.judging.evaluation import gather, judge
from harness.judging.records import record_of
from harness.models.fixtures import load_fixture
from harness.specs.fixtures.files import RECIPE, FixtureRef, recipe_of
from harness.specs.spec_files import load_file
from harness.training.loop import Training
from harness.training.runs import train_fixture

pytestmark = pytest.mark.gpu
GPU = "cuda"
NUMBER = re.compile(r"[-+]?\d+\.\d+(e[-+]?\d+)?")  # what is observed of a loss or of attention


def same(here, there):
    """Return whether two values are the same: counts, words and choices exactly, numbers within 1% or 5e-4, written ones too.

    Two implementations of float32 may each be 1e-4 off, and shares of attention are rounded to four decimals.
    """
    if isinstance(here, dict):
        return here.keys() == there.keys() and all(same(value, there[key]) for key, value in here.items())
    if isinstance(here, list | tuple):
        return len(here) == len(there) and all(map(same, here, there))
    if isinstance(here, str) and NUMBER.fullmatch(here) and NUMBER.fullmatch(there):
        here, there = float(here), float(there)
    return here == pytest.approx(there, rel=1e-2, abs=5e-4) if isinstance(here, float) else here == there


def judged(topic, device, engine):
    """Return the records of a shipped spec, but for where and how fast they were made."""
    bench = Workbench(device, engine)
    claims = load_file(HYPOTHESES / FIXTURE / f"{topic}.yaml", FIXTURES)
    gather(claims, bench)
    records = [record_of(judge(claim, bench)) for claim in claims]
    return [{key: value for key, value in row.items() if key not in ("device", "engine", "seconds")} for row in records]


@pytest.mark.parametrize("topic", ["part14a", "attention"])
def test_verdicts_and_counts_are_those_of_the_cpu_by_either_engine(topic):
    here = judged(topic, "cpu", "cone")
    assert {row["verdict"] for row in here} & {"supported", "refuted"}
    for engine in ("cone", "hooks"):
        for one, other in zip(here, judged(topic, GPU, engine), strict=True):
            assert same(one, other), (one, other)


def test_a_step_of_training_is_the_cpus():
    recipe = recipe_of(FixtureRef("tiny", FIXTURES))
    runs = [Training(recipe, torch.device(device)) for device in ("cpu", GPU)]
    for run in runs:
        for _ in range(20):
            run.advance()
    here, there = (run.curves().values for run in runs)
    assert not torch.allclose(here[0], here[-1], equal_nan=True)
    torch.testing.assert_close(here, there.to("cpu"), rtol=1e-3, atol=1e-4, equal_nan=True)


def test_a_fixture_is_trained_and_loads(tmp_path):
    (tmp_path / "tiny").mkdir()
    shutil.copy(FIXTURES / "tiny" / RECIPE, tmp_path / "tiny")
    made = train_fixture(FixtureRef("tiny", tmp_path), device=GPU)
    assert made.pin.trained.device == torch.cuda.get_device_name()
    uniform = made.pin.measured[0]
    assert uniform.right > 0.9 * uniform.n
    assert load_fixture("tiny", tmp_path, "cpu").weights_sha256 == made.pin.weights_sha256
