"""Claims about a compiled program: its own lines say which are true, and addition by hand with what numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from asking import answers
from tiny import make_recipe, write_tiny

import harness
from harness.engines import transformer
from harness.tasks.addition.layout import Question
from harness.tasks.addition.sampling import tokens_for
from harness.tasks.questions import QuestionList

pytest.importorskip("tracr", reason="the compiler is not installed: pip install -c constraints.txt -e '.[dev,tracr]'")
from compiled import BOS, FETCHED, LAYOUT, VARIABLES, answer, by_hand, compiled, converted, places, said, sizes

pytestmark = pytest.mark.usefixtures("one_thread")

EVERY = [f"{x:02d}+{y:02d}" for x in range(100) for y in range(100)]
SAMPLE = "{n: 1500, seed: 3}"
TRUE = {
    "adds": "answer: whole\nquestions: {sample}\nexpect: {{accuracy_at_least: 0.99}}",
    # Cut to its mean, a head gives each digit a tenth: `own` is then the other digit and the commonest.
    "own-x-for-A1": "ablate: S6{own_x}\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.85}}",
    "own-y-for-A0": "ablate: S7{own_y}\nquestions: {sample}\nexpect: {{fails: [A0], fail_rate: 0.85}}",
    # The carry is then as likely as the other digit makes it: wrong in a quarter, and for A2 so only where `own` is 9.
    "own-y-for-A2": "ablate: S5{own_y}\nquestions: {sample}\nexpect: {{fails: [A2], fail_rate: 0.2}}",
    "low-x-for-A1": "ablate: S6{low_x}\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.2}}",
    "low-y-for-A2": "ablate: S5{low_y}\nquestions: {{n: 4000, seed: 3}}\nexpect: {{fails: [A2], fail_rate: 0.01}}",
    # Nothing is below the units: there the heads always fetch the same, which their mean is too, and zero is not.
    "low-not-for-A0": "ablate: S7{low}\nquestions: {sample}\nexpect: {{fails: []}}",
    "low-zeroed-for-A0": "ablate: S7{low_x}\nmethod: zero\nquestions: {sample}\nexpect: {{fails: [A0], fail_rate: 0.85}}",
    "sums-for-all": "ablate: S5-S7{sums}\nquestions: {sample}\nexpect: {{fails: [A2, A1, A0], fail_rate: 0.3}}",
    "whole-for-A1": "ablate: S6{whole}\nquestions: {sample}\nexpect: {{fails: [A1], fail_rate: 0.8}}",
    "answer-for-A2": "ablate: S5{answer}\nmethod: zero\nquestions: {sample}\nexpect: {{fails: [A2], fail_rate: 0.4}}",
    "heads-that-write-nothing": "ablate: [{idle}]\nquestions: {sample}\nexpect: {{fails: []}}",
    "early-steps": "ablate: S0-S4L0R\nquestions: {sample}\nexpect: {{fails: []}}",
    "what-suffices": "keep: {{heads: [S5-S6{own_and_low}, S7{own}], mlps: [S5-S7M]}}\nquestions: {sample}",
    "what-suffices-for-A0": "keep: {{heads: S7{own}, mlps: S7M, digits: [A0]}}\nquestions: {sample}",
    "own-carries-the-base-add": "patch: {{node: S6{own}, variable: D1.base_add, digits: [A1]}}\npairs: {{n: 700}}",
    "own-at-S7": (
        "patch: {{node: S7{own}, variable: D0.base_add, digits: [A0]}}\npairs: {{n: 900}}\nexpect: {{only_here: true}}"
    ),
    "low-carries-the-carry": "patch: {{node: S6{low}, variable: D0.carry, digits: [A1]}}\npairs: {{n: 700}}",
    "low-carries-it-to-A2": "patch: {{node: S5{low}, variable: D0.carry, digits: [A2]}}\npairs: {{n: 700}}",
    "sums-carry-the-sum": "patch: {{node: S5-S6{sums}, variable: D1.T2, digits: [A2, A1]}}\npairs: {{n: 700}}",
    "whole-carries-the-sum": (
        "patch: {{node: S6{whole}, variable: D1.T2, digits: [A1]}}\npairs: {{n: 900}}\nexpect: {{only_here: true}}"
    ),
    "own-x-looks-at-D1": "attend: {{node: S5{own_x}, to: [D1]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.95}}",
    "own-x-then-at-D0": "attend: {{node: S7{own_x}, to: [D0]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.95}}",
    "low-x-at-last-at-the-plus": (
        "attend: {{node: S7{low_x}, to: [S2]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.95}}"
    ),
    "low-y-looks-at-D'0": (
        'attend: {{node: S6{low_y}, to: ["D\'0"]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.95}}'
    ),
}
FALSE = {
    "does-not-add": "answer: whole\nquestions: {sample}\nexpect: {{accuracy_at_most: 0.9}}",
    "own-x-at-S6-for-A0": "ablate: S6{own_x}\nquestions: {sample}\nexpect: {{fails: [A0], may_fail: [A1]}}",
    "own-x-at-S7-unused": "ablate: S7{own_x}\nquestions: {sample}\nexpect: {{fails: []}}",
    "low-x-for-A0": "ablate: S7{low_x}\nquestions: {sample}\nexpect: {{fails: [A0]}}",
    "low-y-for-A2-often": "ablate: S5{low_y}\nquestions: {sample}\nexpect: {{fails: [A2]}}",
    "low-zeroed-for-nothing": "ablate: S7{low}\nmethod: zero\nquestions: {sample}\nexpect: {{fails: []}}",
    "a-head-that-writes-nothing": "ablate: S6{an_idle_one}\nquestions: {sample}\nexpect: {{fails: [A1]}}",
    "early-steps": "ablate: S0-S4L0R\nquestions: {sample}\nexpect: {{fails: [A2]}}",
    "without-a-carry": "keep: {{heads: S5-S7{own}}}\nquestions: {sample}",
    "the-first-MLP-suffices": "keep: {{mlps: S5-S7{sums}}}\nquestions: {sample}",
    "own-x-alone-carries": "patch: {{node: S6{own_x}, variable: D1.base_add, digits: [A1]}}\npairs: {{n: 700}}",
    "low-carries-the-base-add": "patch: {{node: S6{low}, variable: D1.base_add, digits: [A1]}}\npairs: {{n: 700}}",
    "low-carries-that-of-D0": "patch: {{node: S7{low}, variable: D0.base_add, digits: [A0]}}\npairs: {{n: 700}}",
    "own-carries-the-carry": "patch: {{node: S6{own}, variable: D0.carry, digits: [A1]}}\npairs: {{n: 700}}",
    # They carry more than that: the carry as well.
    "sums-carry-their-column-alone": "patch: {{node: S6{sums}, variable: D1.T1, digits: [A1]}}\npairs: {{n: 700}}",
    "an-idle-head-carries": "patch: {{node: S6{an_idle_one}, variable: D0.carry, digits: [A1]}}\npairs: {{n: 700}}",
    "own-x-looks-at-D1-late": (
        "attend: {{node: S7{own_x}, to: [D1]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.1}}"
    ),
    "low-x-looks-at-its-column": (
        "attend: {{node: S6{low_x}, to: [D1]}}\nquestions: {sample}\nexpect: {{mass_at_least: 0.1}}"
    ),
}


@pytest.fixture(scope="module")
def model():
    return compiled()


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("fixtures")
    write_tiny(path, "compiled", weights=converted(model, make_recipe(**sizes(model))), **sizes(model))
    return path


@pytest.fixture(scope="module")
def names(model):
    """What a claim can say in braces: where the compiler has put each part of the program."""
    place, config = places(model), model.model_config
    heads = [f"L{layer}H{head}" for layer in range(config.num_layers) for head in range(config.num_heads)]
    idle = [head for head in heads if head not in place.values()]
    return place | {
        "own": together(place["own_x"], place["own_y"]), "low": together(place["low_x"], place["low_y"]),
        "own_and_low": together(*(place[name] for name in FETCHED)), "sums": place["own"],
        "idle": ", ".join(idle), "an_idle_one": idle[0], "sample": SAMPLE,
    }  # fmt: skip


def together(*heads):
    """Return ``L0H0+H3`` for ``L0H0, L0H3``."""
    (layer,) = {head.partition("H")[0] for head in heads}
    return layer + "+".join(sorted(head.removeprefix(layer) for head in heads))


def read(tmp_path, fixtures, text):
    """Return the claims of a spec that `text` makes of the compiled model, all of it but the sentence."""
    path = tmp_path / "s.yaml"
    claim = "".join(f"    {line}\n" for line in text.splitlines())
    path.write_text(f"version: 1\nfixture: compiled\nhypotheses:\n  - claim: c\n{claim}", "utf-8")
    return harness.load_hypotheses(path, fixtures)


def test_the_compiler_gives_each_variable_a_head_or_an_mlp_of_its_own(model):
    """Four heads fetch; an MLP can do at once what needs nothing but these, and each later line takes another layer."""
    found = places(model)
    assert found.keys() == set(VARIABLES)
    assert {found[name] for name in FETCHED} == {"L0H0", "L0H1", "L0H2", "L0H3"}
    assert [found[name] for name in VARIABLES[4:]] == ["L0M", "L0M", "L1M", "L2M"]


def test_the_converted_model_is_the_compiled_one(model, fixtures):
    """At the steps that predict the answer every coordinate of the compiler's last stream comes out, and the answers.

    The compiler's own engine runs its own weights, without layer norm and with its token at the beginning.
    """
    tokens = tokens_for(QuestionList(tuple(Question(*divmod(i, 100)) for i in range(0, 10_000, 7))), LAYOUT)
    begin = np.full((len(tokens), 1), model.input_encoder.encoding_map[BOS])
    theirs = model.forward(model.params, np.concatenate([begin, tokens.numpy()], axis=1))
    steps = slice(6, 9)  # S5 to S7, behind that token
    ours = harness.load_fixture("compiled", fixtures, "cpu")
    with torch.no_grad():
        *_, last = transformer.run_layers(ours.weights, tokens, transformer.sizes_of(ours.recipe))
        predicted = transformer.unembed(ours.weights, last.resid_post).argmax(-1)
    stream = torch.tensor(np.array(theirs.transformer_output.residuals[-1]))[:, steps]
    assert stream.abs().max() > 0.9
    torch.testing.assert_close(last.resid_post[..., : stream.shape[-1]], stream, rtol=0, atol=1e-3)
    assert predicted.tolist() == np.array(theirs.unembedded_output)[:, steps].tolist()
    assert predicted.tolist() == answers(tokens, LAYOUT).tolist()


@pytest.mark.parametrize("half", [EVERY[:5000], EVERY[5000:]], ids=["lower", "upper"])  # a spec has 64 KiB at most
def test_it_answers_every_question_right(tmp_path, fixtures, bench, half):
    text = f"id: a\nanswer: whole\nquestions: [{', '.join(half)}]\nexpect: {{accuracy_at_least: 0.9999}}"
    (claim,) = read(tmp_path, fixtures, text)
    result = harness.judge(claim, bench)
    assert result.verdict == "supported"
    assert [(row.k, row.n) for row in result.comparisons] == [(5000, 5000)]
    assert [[said(question, step) for step in (5, 6, 7)] for question in half] == [
        answer(question) for question in half
    ]


@pytest.mark.parametrize("text", TRUE.values(), ids=TRUE)
def test_what_the_program_does_is_supported(tmp_path, fixtures, names, bench, text):
    (claim,) = read(tmp_path, fixtures, "id: a\n" + text.format(**names))
    result = harness.judge(claim, bench)
    assert result.verdict == "supported", result.comparisons


@pytest.mark.parametrize("text", FALSE.values(), ids=FALSE)
def test_what_it_does_not_do_is_refuted(tmp_path, fixtures, names, bench, text):
    (claim,) = read(tmp_path, fixtures, "id: a\n" + text.format(**names))
    result = harness.judge(claim, bench)
    assert result.verdict == "refuted", result.comparisons


@pytest.mark.parametrize(("method", "different"), [("zero", 3), ("mean", 14)])
def test_the_counts_are_those_of_the_program_by_hand(tmp_path, fixtures, names, bench, method, different):
    """Each part at each step is zeroed, or gets what it has in one other question, which is then its mean.

    Zeroed, any part leaves nothing to be said at its step but 0, so that each step has one count; else there are many.
    """
    asked, other = random.Random(5).sample(EVERY, 1000), "36+58"
    parts = {name: [name] for name in (*FETCHED, "whole", "answer")} | {"sums": ["own", "carry"]}
    cuts = [(names[node], inside, step) for node, inside in parts.items() for step in (5, 6, 7)]
    claims = read(
        tmp_path, fixtures,
        f"id: at-{{at}}\nablate: '{{at}}'\nmethod: {method}\nquestions: [{', '.join(asked)}]\n"
        + ("" if method == "zero" else f"reference: [{other}]\n")
        + "expect: {fails: [], may_fail: [A2]}\neach:"
        + "".join(f"\n  - {{at: S{step}{node}}}" for node, _, step in cuts),
    )  # fmt: skip
    expected, found = {}, {}
    for claim, (_, inside, step) in zip(claims, cuts, strict=True):
        instead = {name: None if method == "zero" else by_hand(other, step)[name] for name in inside}
        wrong = sum(said(question, step, instead) != answer(question)[step - 5] for question in asked)
        expected[claim.id] = [wrong if i == step - 5 else 0 for i in range(3)]
        measured = harness.judge(claim, bench).measurement
        assert [digit.asked for digit in measured.tokens] == [1000] * 3
        found[claim.id] = [digit.wrong for digit in measured.tokens]
    assert found == expected
    assert len({tuple(counts) for counts in expected.values()}) == different


@pytest.mark.parametrize(
    ("node", "parts", "variable"),
    [("own_x", ["own_x"], "D1.base_add"), ("own", ["own_x", "own_y"], "D1.base_add"), ("low_y", ["low_y"], "D0.carry")],
)
def test_interchange_gives_what_the_program_gives_by_hand(tmp_path, fixtures, names, bench, node, parts, variable):
    """A head's digit is carried into another question: it follows the variable as often as the program then does."""
    draw = random.Random(6)
    pairs = [(draw.choice(EVERY), draw.choice(EVERY)) for _ in range(600)]
    listed = ", ".join(f'"{source} -> {base}"' for source, base in pairs)
    (claim,) = read(
        tmp_path, fixtures,
        f"id: a\npatch: {{node: S6{names[node]}, variable: {variable}, digits: [A1]}}\npairs: [{listed}]",
    )  # fmt: skip
    whose = {"D1.base_add": "own", "D0.carry": "carry"}[variable]
    followed = differing = 0
    for source, base in pairs:
        donor = by_hand(source, 6)
        wanted, clean = said(base, 6, {whose: donor[whose]}), said(base, 6)
        if wanted != clean:
            differing += 1
            followed += said(base, 6, {part: donor[part] for part in parts}) == wanted
    assert differing > 200
    measured = harness.judge(claim, bench).measurement
    assert (len(measured.as_expected), int(measured.as_expected[:, 1].sum())) == (differing, followed)
