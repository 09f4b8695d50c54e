"""Two engines: claims that ship, by the fast one and by TransformerLens's hooks

Claims of one model that ablate or look at attention, asked of at most 300 questions each. Verdicts and all counts are
the same ones; shares of attention differ by less than 1e-5, losses by less than 1e-4. What patches or keeps is compared
by `test_same_answer.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from paths import FIXTURES, HYPOTHESES

from harness.judging import evaluation as evaluate
from harness.judging.bench import Workbench
from harness.specs.fixture_files import FixtureRef, list_fixtures, recipe_of
from harness.specs.recipe import OwnModel
from harness.specs.spec_files import load_hypotheses
from harness.tasks.questions import Sample

pytestmark = pytest.mark.usefixtures("one_thread")
BUILT = {name for name in list_fixtures(FIXTURES) if isinstance(recipe_of(FixtureRef(name, FIXTURES)).model, OwnModel)}


def compared():
    """Return the shipped claims whose counts the engines can be compared by, for each spec file."""
    found = {}
    for h in load_hypotheses(HYPOTHESES, FIXTURES):
        # A model that code builds has one engine.
        if h.verb in ("ablate", "attend") and h.fixture not in BUILT and (FIXTURES / h.fixture / "model.json").exists():
            found.setdefault(h.path, []).append(h)
    return found


def asked_less(h, n):
    """Return the claim, asked of no more than `n` questions: the verdicts may be others then, of both engines."""
    if isinstance(h.questions, Sample):
        h = replace(h, questions=replace(h.questions, n=min(n, h.questions.n)))
    # Siblings are ablations like all others, and would take minutes through hooks.
    return replace(h, expect=replace(h.expect, only_here=False)) if h.verb == "ablate" else h


def test_most_claims_that_ship_are_compared():
    assert sum(map(len, compared().values())) > 130


@pytest.fixture(scope="module")
def benches():
    """One of each engine; what claims of several files share, each runs once."""
    return [Workbench("cpu", engine) for engine in ("cone", "hooks")]


@pytest.mark.slow
@pytest.mark.parametrize("path", compared())
def test_they_agree(path, benches, many, figure):
    """Every verdict, every count, every digit of a file's claims."""
    judged = [asked_less(h, many(300, 100)) for h in compared()[path][:: many(1, 3)]]
    for bench in benches:
        evaluate.gather(judged, bench)
    for h in judged:
        fast, slow = (evaluate.judge(h, bench) for bench in benches)
        assert fast.verdict == slow.verdict, h.id
        if h.verb == "attend":
            assert fast.comparisons[0].value == pytest.approx(slow.comparisons[0].value, abs=1e-5), h.id
            continue
        counts = [[(d.token, d.asked, d.wrong) for d in result.measurement.tokens] for result in (fast, slow)]
        assert counts[0] == counts[1], h.id
        assert fast.measurement.loss == pytest.approx(slow.measurement.loss, abs=1e-4), h.id
    figure(f"claims of `{Path(path).relative_to(HYPOTHESES)}`", len(judged), len(judged))
