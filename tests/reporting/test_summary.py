"""What the tables say beside a verdict."""

from __future__ import annotations

import pytest
from tiny import read_claim, write_tiny

from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.reporting.report import markdown
from harness.reporting.summary import least_accuracy, shown_verdict

pytestmark = pytest.mark.usefixtures("one_thread")
LOOKS = "attend: {node: S4L0H0, to: [S0]}\nquestions: {n: 600}\nexpect: {mass_at_least: 0.001}\ngate: 0"


def test_the_clean_accuracy_stands_beside_the_verdict_where_it_is_low(tmp_path):
    """A model with random weights answers nothing right, and looks at S0 all the same, as one that looks anywhere."""
    write_tiny(tmp_path / "fixtures", n_digits=1, n_layers=1)
    result = judge(read_claim(tmp_path, LOOKS, tmp_path / "fixtures", "tiny"), Workbench("cpu"))
    record = record_of(result) | {"options": []}
    accuracy = record["measurement"]["clean_accuracy"]
    assert accuracy < 0.1
    assert result.verdict == "vacuous"
    assert shown_verdict(record).startswith("vacuous (clean ")
    assert "| **vacuous (clean " in markdown([record])
    exact = record | {"measurement": record["measurement"] | {"clean_accuracy": 0.99}}
    assert shown_verdict(exact) == "vacuous"


def test_of_several_runs_it_is_that_of_the_worst():
    by_run = {
        name: {"verdict": "supported", "measurement": {"clean_accuracy": a}} for name, a in (("a", 1), ("b", 0.7))
    }
    record = {"verb": "across", "verdict": "supported", "status": "passed", "measurement": {"by_run": by_run}}
    assert least_accuracy(record) == 0.7
    assert shown_verdict(record) == "supported (clean 70%)"


def test_a_claim_that_was_not_measured_has_none():
    assert least_accuracy({"verb": "ablate", "verdict": "error", "status": "error"}) == 1
