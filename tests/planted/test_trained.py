"""The same of a trained model, small enough that all its 10,000 questions can be asked."""

from __future__ import annotations

import shutil

import pytest
from alarms import ask_random_claims
from paths import FIXTURES

from harness.judging.bench import Workbench
from harness.specs.fixtures.files import FixtureRef
from harness.training.runs import train_fixture

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def test_random_claims_about_a_trained_model_are_seldom_supported_falsely(tmp_path):
    fixtures = tmp_path / "fixtures"
    (fixtures / "tiny").mkdir(parents=True)
    shutil.copy(FIXTURES / "tiny" / "recipe.yaml", fixtures / "tiny")
    train_fixture(FixtureRef("tiny", fixtures), device="cpu")
    found = ask_random_claims(tmp_path, fixtures, "tiny", 1000, Workbench("cpu"), digits=["A2", "A1", "A0"], gate=0.9)
    assert found.supported > 100
    found.check()
