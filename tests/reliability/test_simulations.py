"""Verdicts at their thresholds: how often they are false

Each kind of claim is judged again and again where what it says is just about false, or just about true: there errors
are most frequent. The counts come from dice or from small models whose rates are known; the rules are the harness's
own. *As it should* counts the verdicts that are not false; the note has the share that is false with its exact 99%
interval, what is promised, and how often a weaker rule is false in the same place, which the same test notices.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from chance import Dice, measured, students, wrong
from paths import FIXTURES, ROOT
from planted import PAIRS, planted_weights, scaling
from scipy import stats
from several import SIZES
from tiny import make_recipe, random_weights, read_claim, write_tiny

from harness.base.intervals import ERROR, draws_for
from harness.engines import interventions
from harness.engines.interventions import CLEAN
from harness.judging import evaluation, interchange, measurement
from harness.judging.bench import Workbench
from harness.judging.evaluation import experiment, judge
from harness.judging.verb import verb_named
from harness.judging.verbs import answer, attend, learn
from harness.judging.verdict import verdict_of
from harness.judging.worth.reseeding import reseeded
from harness.specs.spec_files import load_file
from harness.tasks.pairs import draw_pairs
from harness.tasks.questions import QuestionList

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

RUNS = ["r0", "r1", "r2", "r3"]
DECIDED = ("supported", "refuted")
# S11 is the equals sign of five digits: what happens there reaches all six of the answer.
ABLATE = "ablate: S11L0H0\nmethod: zero\nquestions: {n: 1500, seed: 1}\nexpect: "
TOP_FAILS, NONE_FAILS = "{fails: [A5]}", "{fails: []}"
AT_FAIL_RATE = [0.05, 0, 0, 0, 0, 0]  # A5 fails as often as `fail_rate` says, and so not more often
AT_INTACT_RATE = [0.01] * 6
FAILING_AT_BOTH = [0.05, *[0.01] * 5]
DRAWN = "ablate: S11L0H0\nreference: {n: 1000, seed: 1}\nquestions: {n: 1500, seed: 1}\nexpect: "


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    """Four models of random weights with five digits, and the one whose inside is known."""
    path = tmp_path_factory.mktemp("fixtures")
    for seed, name in enumerate(RUNS):
        write_tiny(path, name, weights=random_weights(make_recipe(n_digits=5), seed), n_digits=5)
    write_tiny(path, "planted", weights=planted_weights(), **SIZES)
    write_tiny(path, "other", weights=None, **SIZES)
    return path


@pytest.fixture
def read(tmp_path, fixtures):
    return lambda text, fixture="r0": read_claim(tmp_path, text, fixtures, fixture)


def thrown(claim, chances, times, judged=experiment):
    """Yield the verdicts on a claim, whose counts are thrown anew each time."""
    dice = Dice(chances if callable(chances) else lambda *_: chances)
    for _ in range(times):
        dice.throw()
        yield judged(claim, dice).verdict


@pytest.mark.parametrize(
    ("text", "chances", "false"),
    [
        (TOP_FAILS, AT_FAIL_RATE, "supported"), (TOP_FAILS, AT_FAIL_RATE, "refuted"),
        (NONE_FAILS, AT_INTACT_RATE, "refuted"), (TOP_FAILS, FAILING_AT_BOTH, "refuted"),
        (NONE_FAILS, [0.01, 0, 0, 0, 0, 0], "supported"),
    ],
)  # fmt: skip
def test_rates(read, many, figure, text, chances, false):
    """Of digits that fail as often as a threshold says, nothing should be found, with a chance of 99%."""
    claim = read(ABLATE + text)
    assert claim.comparisons == 6
    found = wrong(thrown(claim, chances, many(10_000, 2000)), (false,))
    # Each digit's interval by itself, as if there were no others, at 95%.
    alone = wrong(thrown(replace(claim, error=0.05 * 6), chances, 3000), (false,))
    at = " and ".join(f"{rate:.0%}" for rate in sorted(set(chances) - {0}))
    figure(f"rates at {at}: {false}", *found.counts, found.note(ERROR, ("each at 95%", alone)))
    assert found.within(ERROR)
    assert not alone.within(ERROR)


def coins(tokens):
    """Return the chances of six digits: by a coin for each draw of the reference, the first `tokens` of them fail or not."""
    return lambda request, generator: [0.1 * generator.integers(2) if i < tokens else 0.0 for i in range(6)]


@pytest.mark.parametrize(
    ("tokens", "text", "false", "fewer"),
    [(1, NONE_FAILS, "supported", 1), (1, TOP_FAILS, "supported", 1), (6, NONE_FAILS, "refuted", 6)],
)
def test_references_of_dice(read, many, figure, tokens, text, false, fewer):
    """Digits that fail under half of the draws of a reference: what is said of the median draw is a coin's toss."""
    claim = read(DRAWN + text)
    weaker = 1.0 if fewer == 1 else 8 * ERROR
    assert draws_for(weaker) + (fewer > 1) == fewer
    found = wrong(thrown(claim, coins(tokens), many(10_000, 600)), (false,))
    fewer_draws = (weaker, None if fewer == 1 else weaker)
    less = wrong(thrown(replace(claim, drawing_errors=fewer_draws), coins(tokens), 1000), (false,))
    draws = "one draw" if fewer == 1 else f"{fewer} draws"
    note = found.note(ERROR, (draws, less))
    figure(f"references, {tokens} of 6 digits by a coin: {false}", *found.counts, note)
    assert found.within(ERROR)
    assert not less.within(ERROR)


def at_threshold(request, generator):
    """Return the chances of six digits: by a coin, the first fails just as often as makes the claim false, or never."""
    return [0.01 * generator.integers(2), *[0.0] * 5]


def test_references_at_a_threshold(read, many, figure):
    """The worst of both: half of the draws are false by a hair, and all of them see the same lucky prompts."""
    claim = read(DRAWN + NONE_FAILS)
    found = wrong(thrown(claim, at_threshold, many(10_000, 1000)), ("supported",))
    loose = replace(claim, error=0.05 * 6, drawing_errors=(0.3, 0.3))
    less = wrong(thrown(loose, at_threshold, 1000), ("supported",))
    figure("references, half of the draws at 1%: supported", *found.counts, found.note(ERROR, ("each at 95%", less)))
    assert found.within(ERROR)
    assert not less.within(ERROR)


def tossing(path):
    """Write the planted model whose tens, under mean ablation, come out by a coin: see `planted/test_draws.py`."""
    weights = planted_weights()
    mean, _ = scaling(4)
    for unit, (step, _) in enumerate((step, pair) for step in (3, 4) for pair in PAIRS):
        if step == 3:
            weights["blocks.0.mlp.b_in"][unit] = 3 * mean - 2.1
    weights["unembed.b_U"][0] = 1e-6
    write_tiny(path, "planted", weights=weights, **SIZES)


@pytest.mark.parametrize("fails", ["[A1]", "[]"])
def test_references_of_a_model(tmp_path, many, figure, fails):
    """One of `it fails` and `it does not` is false of the median draw, and the other true; both are seldom decided."""
    tossing(tmp_path)
    text = "ablate: S3L0H0\nquestions: [5+5, 6+5, 7+5]\nexpect: {fails: %s}\nreference: {n: 100, seed: %d}"
    bench, times = Workbench("cpu"), many(1500, 60)
    claims = [read_claim(tmp_path, text % (fails, 0), tmp_path, "planted")]
    claims += [reseeded(claims[0], number) for number in range(1, times)]
    verdicts = [experiment(claim, bench, mutant=False).verdict for claim in claims]
    by_one = [
        experiment(replace(claim, drawing_errors=(1.0, None)), bench, mutant=True).verdict for claim in claims[:200]
    ]
    for false in DECIDED:
        found, one = wrong(verdicts, (false,)), wrong(by_one, (false,))
        what = f"references, the planted model, `fails: {fails}`: {false}"
        figure(what, *found.counts, found.note(ERROR, ("one draw", one)))
        assert found.within(ERROR)
        assert not one.within(ERROR)


def test_runs(read, many, figure):
    """A claim about four runs, of each of which it is just about true, or of the last of which it is just about false."""
    group = f"fixtures: [{', '.join(RUNS)}]\n"
    for text, chances, false, at_least in [
        (NONE_FAILS, lambda request, _: AT_INTACT_RATE, "refuted", "4/4"),
        (TOP_FAILS, lambda request, _: AT_FAIL_RATE, "refuted", "4/4"),
        (TOP_FAILS, lambda request, _: [0.2 if request.model.name == "r0" else 0.05, *[0] * 5], "supported", "1/2"),
    ]:
        claim = read(f"{group}{ABLATE}{text[:-1]}, at_least: {at_least}}}")
        apart = replace(claim, members=tuple(replace(member, error=0.25) for member in claim.members))
        found = wrong(thrown(claim, chances, many(3000, 150), judge), (false,))
        each = wrong(thrown(apart, chances, 150, judge), (false,))
        note = found.note(ERROR, ("runs that do not share the error", each))
        figure(f"runs, {at_least} of four: {false}", *found.counts, note)
        assert found.within(ERROR)
        assert not each.within(ERROR)


@pytest.mark.parametrize(
    ("text", "chances"), [(TOP_FAILS, AT_FAIL_RATE), (NONE_FAILS, AT_INTACT_RATE), (TOP_FAILS, FAILING_AT_BOTH)]
)
def test_auto(read, many, figure, monkeypatch, text, chances):
    """Seven looks at a growing sample: whatever any of them decides is false."""
    claim = read(ABLATE.replace("1500", "auto") + text)
    found = wrong(thrown(claim, chances, many(5000, 250)), DECIDED)
    monkeypatch.setattr(evaluation, "error_at", lambda look, error: 0.05)
    again = wrong(thrown(claim, chances, 250), DECIDED)
    note = found.note(ERROR, ("each look at 95%", again))
    at = " and ".join(f"{rate:.0%}" for rate in sorted(set(chances) - {0}))
    figure(f"`n: auto`, rates at {at}: decided", *found.counts, note)
    assert found.within(ERROR)
    assert not again.within(ERROR)


def by_counts(verdict_of_counts, n, chances, times, seed=0):
    """Yield verdicts that depend on how many of `n` questions are of each kind, which is thrown."""
    known, rest = cache(verdict_of_counts), 1 - sum(chances)
    for *counts, _ in np.random.default_rng(seed).multinomial(n, [*chances, rest], times).tolist():
        yield known(*counts)


CAP = math.log(13)
LOSS = "ablate: S11L0H0\nquestions: {n: 1000}\nexpect: {may_fail: [A5, A4, A3, A2, A1, A0], fails: [], loss_%s: %g}"


@pytest.mark.parametrize(
    ("bound", "common", "rare", "mean", "false"),
    [
        ("below", 1e-6, 5.0, 0.016, "supported"), ("below", 1e-6, 5.0, 0.016, "refuted"),
        ("above", 1e-6, 5.0, 0.016, "supported"), ("above", 1e-6, 5.0, 0.016, "refuted"),
        ("above", 1.5, 12.0, 2.0, "refuted"), ("below", 0.7, 1e-6, 0.69, "supported"),
    ],
)  # fmt: skip
def test_losses_with_a_rare_one(read, many, figure, monkeypatch, bound, common, rare, mean, false):
    """The mean of the capped losses is the bound itself; most of it is that of a few questions."""
    claim, verb = read(LOSS % (bound, mean)), verb_named("ablate")
    chance = (mean - common) / (min(rare, CAP) - common)

    def verdict(k):
        losses = torch.tensor([rare] * k + [common] * (1000 - k))
        return verdict_of(
            claim, verb.comparisons(claim, measured(claim.shape.task.answer_tokens, 1000, [0] * 6, losses))
        )

    found = wrong(by_counts(verdict, 1000, [chance], many(20_000, 2000)), (false,))
    note = found.note(ERROR)
    if rare == 5 and (bound, false) in (("below", "supported"), ("above", "refuted")):  # the mean seems too small
        monkeypatch.setattr(measurement, "betting_interval", students)
        normal = wrong(by_counts(verdict, 1000, [chance], 2000), (false,))
        note = found.note(ERROR, ("Student's t", normal))
        assert not normal.within(ERROR)
    figure(f"losses of {common:g}, {chance:.1%} of {rare:g}, {bound} {mean:g}: {false}", *found.counts, note)
    assert found.within(ERROR)


@pytest.mark.parametrize(("bound", "false"), [("below", "supported"), ("above", "refuted")])
def test_losses_of_a_model(tmp_path, read, many, figure, bound, false):
    """Losses of a trained model under an ablation, from which those that are asked are drawn; their mean is the bound."""
    ablate = (
        "ablate: S11L0H0\nquestions: {n: 3000}\nexpect: {fails: [], may_fail: [A5, A4, A3, A2, A1, A0], loss_below: 1}"
    )
    verb = verb_named("ablate")
    (seen,) = Workbench("cpu").answer(verb.requests(read_claim(tmp_path, ablate, FIXTURES, "quick_d5_l2_s0")))
    pool, draw = seen.measurement.losses, torch.Generator().manual_seed(0)
    mean = float(pool.double().clamp(max=CAP).mean())
    claim = read(LOSS % (bound, mean))

    def verdicts():
        for _ in range(many(2000, 100)):
            losses = pool[torch.randint(len(pool), (1000,), generator=draw)]
            yield verdict_of(
                claim, verb.comparisons(claim, measured(claim.shape.task.answer_tokens, 1000, [0] * 6, losses))
            )

    found = wrong(verdicts(), (false,))
    what = f"losses of a model, {mean:.2f} in the mean, {float(pool.max()):.1f} at most, {bound} that: {false}"
    figure(what, *found.counts, found.note(ERROR))
    assert found.within(ERROR)


def shares(values):
    """Return attention patterns over six steps: that share on S0, and what is left on S1."""
    pattern = torch.zeros(len(values), 1, 6)
    pattern[:, 0, 0], pattern[:, 0, 1] = values, 1 - values
    return pattern


@pytest.mark.parametrize(
    ("bound", "common", "rare", "mean", "false"),
    [
        ("least", 1.0, 0.0, 0.9, "refuted"), ("least", 1.0, 0.0, 0.9, "supported"),
        ("most", 0.0, 1.0, 0.1, "supported"), ("least", 0.2, 0.8, 0.5, "supported"),
    ],
)  # fmt: skip
def test_attention(read, many, figure, monkeypatch, bound, common, rare, mean, false):
    """A head whose share of attention on a step is one of two values; the mean is the bound itself."""
    n, verb, chance = 160, verb_named("attend"), (mean - common) / (rare - common)
    claim = read(
        f"attend: {{node: S3L0H0, to: [D0]}}\nquestions: {{n: {n}}}\nexpect: {{mass_at_{bound}: {mean}}}", "planted"
    )
    (seen,) = Workbench("cpu").answer(verb.requests(claim))

    def verdict(k):
        pattern = shares(torch.tensor([rare] * k + [common] * (n - k), dtype=torch.float64))
        return verdict_of(claim, verb.compare(claim, [seen._replace(patterns={claim.nodes[0]: pattern})])[1])

    found = wrong(by_counts(verdict, n, [chance], many(20_000, 2000)), (false,))
    note = found.note(ERROR)
    if (bound, false) == ("most", "supported"):
        monkeypatch.setattr(attend, "mean_interval_within", students)
        normal = wrong(by_counts(verdict, n, [chance], 3000), (false,))
        note = found.note(ERROR, ("Student's t", normal))
        assert not normal.within(ERROR)
    figure(f"attention of {common:g}, {chance:.0%} of {rare:g}, at {bound} {mean:g}: {false}", *found.counts, note)
    assert found.within(ERROR)


@pytest.mark.parametrize(
    ("bound", "better", "worse", "false"),
    [("most", 0.02, 0.0, "supported"), ("least", 0.02, 0.0, "refuted"),
     ("least", 0.3, 0.2, "supported"), ("most", 0.3, 0.2, "refuted")],
)  # fmt: skip
def test_gains(read, many, figure, monkeypatch, bound, better, worse, false):
    """Two models of which one, or the other, is right on some questions alone; the difference is the bound itself."""
    n, verb = 400, verb_named("answer")
    gain = better - worse
    text = f"answer: whole\nfixtures: [planted]\nthan: [other]\nquestions: {{n: {n}}}\nexpect: {{gain_at_{bound}: {gain:g}}}"
    claim = read(text, "planted")
    (ours, theirs) = Workbench("cpu").answer(verb.requests(claim))
    truth = ours.prompts.answers

    def answers(first, last):
        """Return answers that are wrong on these questions; both models are wrong on the last hundred."""
        given = truth.clone()
        for rows in (slice(first, last), slice(n - 100, n)):
            given[rows, -1] = (given[rows, -1] + 1) % 10
        return given

    def verdict(ahead, behind):
        ours_wrong, theirs_wrong = answers(ahead, ahead + behind), answers(0, ahead)
        found = [ours._replace(predicted=ours_wrong), theirs._replace(predicted=theirs_wrong)]
        return verdict_of(claim, verb.compare(claim, found)[1])

    found = wrong(by_counts(verdict, n, [better, worse], many(20_000, 2000)), (false,))
    note = found.note(ERROR)
    if not worse:
        monkeypatch.setattr(answer, "mean_interval_within", students)
        normal = wrong(by_counts(verdict, n, [better, worse], 2000), (false,))
        note = found.note(ERROR, ("Student's t", normal))
        assert not normal.within(ERROR)
    figure(f"gains, {better:.0%} better and {worse:.0%} worse, at {bound} {gain:g}: {false}", *found.counts, note)
    assert found.within(ERROR)


@pytest.mark.parametrize(("runs", "share"), [(8, 0.5), (20, 0.5), (40, 0.8)])
def test_the_order_of_learning(many, figure, monkeypatch, runs, share):
    """A share of training runs, as large as the claim says and so not larger, learns in the claimed order."""
    claims = load_file((ROOT / "hypotheses/quick/comparisons.yaml").relative_to(ROOT), FIXTURES)
    claim = next(replace(one, share_above=share) for one in claims if one.verb == "learn")
    ((early,), (late,)) = claim.first, claim.before

    def verdict_by(claim):
        def verdict(k):
            steps = [{early: 10, late: 20}] * k + [{early: 20, late: 10}] * (runs - k)
            reached = {f"s{i}": one for i, one in enumerate(steps)}
            monkeypatch.setattr(learn, "measure_learning", lambda _: learn.Learned(reached))
            return verdict_of(claim, verb_named("learn").compare(claim, [])[1])

        return verdict

    weaker = replace(claim, error=0.2)
    for false in DECIDED:
        found = wrong(by_counts(verdict_by(claim), runs, [share], many(20_000, 2000)), (false,))
        note = found.note(ERROR)
        if false == "supported":
            often = wrong(by_counts(verdict_by(weaker), runs, [share], 2000), (false,))
            note = found.note(ERROR, ("at 80%", often))
            assert not often.within(ERROR)
        figure(f"`learn`, {runs} runs, a share of {share:g}: {false}", *found.counts, note)
        assert found.within(ERROR)


def rate_over_donors(claim, bench, token, asked):
    """Return how often a token fails under resampling, over all pairs of an `asked` question and another, its donor."""
    task = bench.fixture(claim.ref).task
    every = QuestionList(tuple(task.read_question(f"{a}+{b}") for a, b in PAIRS))
    rows = [(i, j) for i, pair in enumerate(PAIRS) for j in range(100) if asked(*pair) and i != j]
    questions, donors = torch.tensor(rows).T
    values = bench.values(claim.ref, every, claim.nodes)
    prompts = bench.prompts(claim.ref, every)[questions]
    clean, cut = bench.run(claim.ref, prompts, [CLEAN, interventions.resample(values, donors)])
    right, still = (prompts.right.contains(outcome.predicted) for outcome in (clean, cut))
    assert right.all()
    return float((~still)[:, task.answer_tokens.index(token)].double().mean())


@pytest.mark.parametrize(
    ("node", "where", "asked"),
    [("S3L0H0", "", lambda x, y: True), ("S3L0M", ', where: {columns: {D0: "<9"}}', lambda x, y: x + y < 9)],
)
def test_donors(read, many, figure, node, where, asked):
    """A node of the planted model takes another question's value; all pairs of the two say how often A1 fails."""
    n, bench = 800, Workbench("cpu")
    text = f"ablate: {node}\nmethod: resample\nquestions: {{n: {n}{where}}}\nexpect: {{fails: [A1], fail_rate: %.6f}}"
    rate = rate_over_donors(read(text % 0.5, "planted"), bench, "A1", asked)
    claim = read(text % rate, "planted")

    def judged(claims):
        """Return the verdicts, and how often A1 failed."""
        found = [experiment(one, bench, mutant=True) for one in claims]
        rows = [row for one in found for row in one.comparisons if row.subject == "A1"]
        assert {row.n for row in rows} == {n}
        return wrong([one.verdict for one in found], DECIDED), [row.k for row in rows]

    found, failures = judged([reseeded(claim, i) for i in range(1, many(2000, 60) + 1)])
    few, failures_of_few = judged([replace(reseeded(claim, i), reference=ten_of(claim, i)) for i in range(1, 61)])
    ratio, ratio_of_few = (binomial_ratio(ks, n, rate) for ks in (failures, failures_of_few))
    note = f"{found.note(ERROR, ('ten donors for all', few))}; variance {ratio:.2f} and {ratio_of_few:.0f} × binomial"
    figure(f"donors, {node}{where}, {rate:.1%} of all pairs: decided", *found.counts, note)
    assert found.within(ERROR)
    assert near_one(ratio, len(failures))
    assert not few.within(ERROR)
    assert not near_one(ratio_of_few, 60)


def ten_of(claim, seed):
    """Return a reference of ten questions."""
    draw = np.random.default_rng(seed)
    task = claim.shape.task
    return QuestionList(tuple(task.read_question(f"{a}+{b}") for a, b in draw.integers(10, size=(10, 2)).tolist()))


def binomial_ratio(counts, n, rate):
    """Return the variance of counts over that of a binomial count."""
    return statistics.fmean((k - n * rate) ** 2 for k in counts) / (n * rate * (1 - rate))


def near_one(ratio, times):
    """Return whether a variance ratio of so many counts is one but for chance, of which a thousandth is left out."""
    low, high = (stats.chi2.ppf(tail, times) / times for tail in (0.0005, 0.9995))
    return low < ratio < high


PAIR = "patch: {node: S3L0H0, variable: D0.carry, digits: [A1]}\npairs: {n: %d}\nexpect: {follow_rate: %.6f, intact_rate: %.6f}"


def test_pairs(read, many, figure, monkeypatch):
    """A head that carries a carry now and then: how often, a large sample of pairs says."""
    n, large, verb, bench = 800, many(100_000, 20_000), verb_named("patch"), Workbench("cpu")

    def rows_of(*claims):
        """Return the comparisons of claims about the same pairs, and how many followed, or changed without need."""
        answers = bench.answer(verb.requests(claims[0]))
        found = [verb.compare(claim, answers)[1] for claim in claims]
        by_name = {row.subject: row for row in found[0]}
        assert by_name["A1"].n == by_name["agreeing"].n == claims[0].questions.n
        return found, by_name["A1"].k, by_name["agreeing"].k

    follow, change = (k / large for k in rows_of(read(PAIR % (large, 0.5, 0.5), "planted"))[1:])
    claims = {
        "as often as it says, supported": read(PAIR % (n, follow, 0.9), "planted"),
        "as often as it says, refuted": read(PAIR % (n, follow, change), "planted"),
        "agreeing pairs, supported": read(PAIR % (n, 0.05, change), "planted"),
    }

    def judged(times):
        """Return the verdicts on each claim, and the counts, over so many samples of pairs."""
        verdicts, counts = {name: [] for name in claims}, []
        for i in range(1, times + 1):
            same = [reseeded(claim, i) for claim in claims.values()]
            found, *ks = rows_of(*same)
            counts.append(ks)
            for name, claim, rows in zip(claims, same, found, strict=True):
                verdicts[name].append(verdict_of(claim, rows))
        return verdicts, [
            binomial_ratio(ks, n, rate) for ks, rate in zip(zip(*counts, strict=True), (follow, change), strict=True)
        ]

    times = many(1500, 60)
    verdicts, ratios = judged(times)
    monkeypatch.setattr(interchange, "draw_pairs", few_sources)
    verdicts_of_few, (_, ratio_of_few) = judged(60)
    for name in claims:
        false = name.rpartition(" ")[2]
        found, few = wrong(verdicts[name], (false,)), wrong(verdicts_of_few[name], (false,))
        note = found.note(ERROR, *[("sources that agree are twenty", few)] * name.startswith("agreeing"))
        figure(f"pairs: {name}", *found.counts, note)
        assert found.within(ERROR)
        assert not few.within(ERROR) or not name.startswith("agreeing")
    said = " and ".join(f"{ratio:.2f}" for ratio in ratios)
    note = (
        f"variance of what follows and of what changes {said} × binomial; where sources are twenty {ratio_of_few:.0f} ×"
    )
    figure(f"pairs: {follow:.1%} follow, {change:.1%} of those that agree change", times, times, note)
    assert all(near_one(ratio, times) for ratio in ratios)
    assert not near_one(ratio_of_few, 60)


def few_sources(*arguments):
    """Return pairs of which those that agree share twenty sources."""
    drawn = draw_pairs(*arguments)
    variable, task = arguments[1], arguments[3]
    wanted, found = task.value_of(variable, drawn.bases), drawn.agreeing.clone()
    for value in torch.unique(wanted):
        rows = (wanted == value).nonzero().squeeze(1)
        found[rows] = drawn.agreeing[rows[torch.arange(len(rows)) % 10]]
    return drawn._replace(agreeing=found)
