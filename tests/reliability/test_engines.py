"""Two engines: claims that ship, by the fast one and by TransformerLens's hooks

All claims that run a model, of every verb, those about several runs on each of them, with their own numbers of questions
and pairs; those with `n: auto` are asked at its first look. Left out are claims about models that code builds, which
have one engine, and about weights that are not here. Not asked are the siblings of `only_here`, nor other draws of a
sampled reference than the verdict of one needs: both are ablations like the others, and take minutes through hooks.
Verdicts, findings, counts, examples and reasons of errors are the same; numbers that are no counts differ by less than
1e-4 (shares of attention by 1e-5), absolute or relative. Where near-ties are counted, counts may differ by as many.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from paths import FIXTURES, HYPOTHESES

from harness.base.errors import HarnessError
from harness.judging.bench import Workbench
from harness.judging.evaluation import gather, judge
from harness.judging.records import record_of
from harness.judging.verb import verb_named
from harness.specs.fixtures.files import WEIGHTS, FixtureRef, list_fixtures, recipe_of
from harness.specs.fixtures.recipe import OwnModel
from harness.specs.spec_files import load_hypotheses
from harness.specs.verbs.ablating import Hypothesis
from harness.tasks.questions import PairSample, Sample

pytestmark = pytest.mark.usefixtures("one_thread")
BUILT = {name for name in list_fixtures(FIXTURES) if isinstance(recipe_of(FixtureRef(name, FIXTURES)).model, OwnModel)}
COMPARED = ("verdict", "comparisons", "measurement", "untested")  # of a record
ROUNDED = ".by_step."  # these numbers are rounded to 1e-4


@cache
def asked_of_a_model():
    """Return the shipped claims that run a model, each on each run, by whether both engines can be asked."""
    found = {"both": [], "one engine": [], "not here": []}
    for part in (part for claim in load_hypotheses(HYPOTHESES, FIXTURES) for part in claim.parts):
        if part.verb != "learn":
            here = all((FIXTURES / name / WEIGHTS).exists() for name in part.models)
            found["not here" if not here else "one engine" if BUILT & {*part.models} else "both"].append(part)
    return found


def compared():
    """Return the claims that both engines can be asked, for each spec file."""
    found = {}
    for part in asked_of_a_model()["both"]:
        found.setdefault(part.path, []).append(part)
    return found


def asked_by_both(claim, most=None):
    """Return the claim as it is asked: of no more than `most` questions or pairs, with one draw, without siblings."""
    claim = verb_named(claim.verb).without_siblings(claim)
    if isinstance(claim.questions, Sample | PairSample):
        n = claim.questions.n if most is None else min(most, claim.questions.n)
        claim = replace(claim, questions=replace(claim.questions, n=n, auto=False))
    return replace(claim, drawing_errors=(1.0, None)) if isinstance(claim, Hypothesis) else claim


def test_nearly_all_claims_that_ship_are_compared(figure):
    parts = asked_of_a_model()
    n, every = len(parts["both"]), sum(map(len, parts.values()))
    assert {part.verb for part in parts["both"]} == {"ablate", "keep", "patch", "attend", "answer"}
    assert n > 0.9 * every > 700
    note = f"of {every}; {len(parts['not here'])} are about weights that are not here, {len(parts['one engine'])} about models that code builds"
    figure("all claims that are compared, each on each run", n, n, note)


def flat(value, where=""):
    """Yield each leaf of JSON values with its path."""
    if isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(inner, f"{where}.{key}")
    else:
        yield where, value


def record_by(claim, bench):
    """Return what is compared of the record of a claim, by path; of an error, what it says."""
    try:
        record = record_of(judge(claim, bench))
    except HarnessError as error:
        return {"error": str(error)}
    return dict(flat({key: record[key] for key in COMPARED}))


def differences(one, other, within):
    """Return the paths at which two records differ more than engines may."""

    def same(path):
        a, b = one.get(path, "absent"), other.get(path, "absent")
        if isinstance(a, float) and isinstance(b, float):
            most = 2e-4 if ROUNDED in path else within
            return math.isclose(a, b, rel_tol=most, abs_tol=most)
        return type(a) is type(b) and a == b

    return {path for path in one.keys() | other.keys() if not same(path)}


def ties_explain(paths, one, other):
    """Return whether counted near-ties explain differences at these paths: each count differs by as many at most."""
    ties = max(sum(n for path, n in record.items() if path.endswith(".near_ties")) for record in (one, other))
    counts = ((one.get(path), other.get(path)) for path in paths if not path.endswith(".near_ties"))
    return ties > 0 and all(abs(a - b) <= ties for a, b in counts if isinstance(a, int) and isinstance(b, int))


def test_a_difference_is_noticed_and_a_near_tie_explains_no_more_than_it_can():
    record = {".verdict": "supported", ".measurement.loss": 1.0, ".measurement.near_ties": 0, ".comparisons.0.k": 7}
    assert differences(record, record | {".measurement.loss": 1.00005}, 1e-4) == set()
    assert differences(record, record | {".measurement.loss": 1.00005}, 1e-5) == {".measurement.loss"}
    for change in ({".verdict": "refuted"}, {".comparisons.0.k": 8}, {".more": None}, {".comparisons.0.k": 7.0}):
        other = record | change
        paths = differences(record, other, 1e-4)
        assert paths == set(change)
        assert not ties_explain(paths, record, other)
    tied = record | {".measurement.near_ties": 1}
    for k, explained in ((8, True), (6, True), (9, False)):
        other = tied | {".comparisons.0.k": k, ".verdict": "refuted"}
        assert ties_explain(differences(tied, other, 1e-4), tied, other) is explained


@pytest.fixture(scope="module")
def benches():
    """One of each engine; what claims of several files share, each runs once."""
    return [Workbench("cpu", engine) for engine in ("cone", "hooks")]


@pytest.mark.slow
@pytest.mark.parametrize("path", compared())
def test_they_agree(path, benches, many, figure):
    """Every verdict, every count, every digit of a file's claims; in `make test` of some, on at most 100 questions."""
    parts = compared()[path]
    if not many(True, False):
        one_in = 30 if any(part.id == other.id for part, other in pairwise(parts)) else 5  # many runs, or one
        parts = random.Random(path.rpartition("hypotheses")[2]).sample(parts, -(-len(parts) // one_in))
    asked = [asked_by_both(part, many(None, 100)) for part in parts]
    for bench in benches:
        gather(asked, bench)
    told = 0
    for claim in asked:
        fast, slow = (record_by(claim, bench) for bench in benches)
        if paths := differences(fast, slow, 1e-5 if claim.verb == "attend" else 1e-4):
            assert ties_explain(paths, fast, slow), (
                claim.id,
                claim.fixture,
                {p: (fast.get(p), slow.get(p)) for p in paths},
            )
            told += 1
    verbs = ", ".join(f"{n} {verb}" for verb, n in Counter(claim.verb for claim in asked).most_common())
    note = f"{verbs}; {told} differ by near-ties" if told else verbs
    figure(f"claims of `{Path(path).relative_to(HYPOTHESES)}`, each on each run", len(asked), len(asked), note)
