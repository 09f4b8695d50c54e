"""The specs that ship: what their xfails say was measured is what is measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from paths import FIXTURES, HYPOTHESES, ROOT

from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.reporting.summary import tokens_seen
from harness.specs.claim import AcrossRuns
from harness.specs.spec_files import load_hypotheses

ALL = load_hypotheses(HYPOTHESES, FIXTURES)
KNOWN = [h for h in ALL if h.xfail]
# What is measured of a published model, `make language-models` sees: it takes its files and minutes.
OF_ONE = [h for h in KNOWN if not isinstance(h, AcrossRuns) and not h.ref.task]
ACROSS = [h for h in KNOWN if isinstance(h, AcrossRuns)]
FINDINGS = (ROOT / "docs" / "findings.md").read_text("utf-8")


@pytest.fixture(scope="module")
def bench():
    return Workbench("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("hypothesis", OF_ONE, ids=lambda h: h.id)
def test_an_xfail_says_what_is_measured(hypothesis, bench):
    record = record_of(judge(hypothesis, bench))
    if hypothesis.xfail.verdict == "vacuous":  # no number says that nothing was tested
        assert (record["verdict"], record["status"]) == ("vacuous", "xfailed")
        return
    said = hypothesis.xfail.reason.removeprefix("measured ").partition("; by ")
    assert said[0] == tokens_seen(record)
    assert said[2] == ", ".join(record["measurement"].get("by_node", []))


@pytest.mark.parametrize("hypothesis", ACROSS, ids=lambda h: h.id)
def test_an_xfail_of_several_runs_says_what_the_findings_say(hypothesis):
    # Judging all of these once more would take a minute; that none of them holds, `make hypotheses` sees.
    held = re.match(r"measured (\d+/\d+) runs, not ", hypothesis.xfail.reason)[1]
    assert f"({held}; `{hypothesis.id}`)" in FINDINGS


def test_the_findings_tell_of_every_claim_about_several_runs():
    asked = [h.id for h in ALL if Path(h.path).is_relative_to(HYPOTHESES / "universal")]
    assert sorted(re.findall(r"\(\d+/\d+; `([^`]+)`\)", FINDINGS)) == sorted(asked)
    assert len(asked) > 90


def test_every_claim_has_a_source_and_every_refuted_one_a_number_or_a_finding():
    for h in ALL:
        assert h.source, h.id
    for h in KNOWN:
        assert h.xfail.verdict == "vacuous" or re.match(
            r"measured ([Aa]\d \d+/\d+|\d+/\d+ runs, not |whole \d+/\d+|\d+, from |gain [\d.]+%|mass [\d.]+|no digit fails|\w+ (falls|rises) on \d+/\d+|follows \d+/\d+|\w+ kept [\d.]+%)",
            h.xfail.reason,
        ), h.id


def test_ids_are_unique_across_the_files_of_a_fixture():
    ids = [(h.fixture, h.id) for h in ALL]
    assert len(ids) == len(set(ids))
