"""The commands that look into a language model: what they print is what the source library's model gives."""

from __future__ import annotations

import re

import pytest
import tiny_lm
import torch
import yaml
from tiny_lm import asked

from harness.cli import main
from harness.exploring.attention import attention_maps
from harness.judging.bench import Workbench
from harness.models.fixtures import load_fixture
from harness.specs.spec_files import load_hypotheses

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = "When Mary and Tom went to the park, Tom gave a drink to"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("lm") / "fixtures"
    return root, tiny_lm.write_lm(root, "llama", "mine")[2]


def run(capsys, made, *words):
    code = main([*words, "--task", "ioi", "--fixtures", str(made[0])])
    out, err = capsys.readouterr()
    return code, out, "\n".join(line for line in err.splitlines() if line.startswith("harness:"))


def test_ask_shows_the_likeliest_tokens_before_and_after(capsys, made):
    code, out, _ = run(capsys, made, "ask", "mine", TEXT, "--ablate", "L0H1", "--method", "zero")
    tokens = torch.tensor([tiny_lm.make_tokenizer().encode(TEXT).ids])
    cut = [(0, "H1", None)]
    runs = asked("llama", made[1], tokens, [])[0], asked("llama", made[1], tokens, cut, [0.0])[0]
    assert code == 0
    first, *lines = out.splitlines()
    assert first == f'{TEXT} (right: " Mary")'
    for line, name, logits in zip(lines, ("clean", "zero"), runs, strict=True):
        assert line.split()[0] == name
        best = logits[0].double().softmax(-1).topk(5).values.tolist()
        shown = [float(share) for share in re.findall(r" ([\d.]+)%", line)]
        assert shown == pytest.approx([100 * one for one in best], abs=0.06)
        mary, tom = (tiny_lm.make_tokenizer().encode(name).ids[0] for name in (" Mary", " Tom"))
        diff = float(re.search(r"logit_diff (\S+)$", line)[1])
        assert diff == pytest.approx(float(logits[0, mary] - logits[0, tom]), rel=1e-2)


def test_describe_tells_where_a_model_is_from_and_what_it_proved(capsys, made):
    code, out, _ = run(capsys, made, "describe", "mine")
    assert code == 0
    assert "| source " in out
    assert "sha256 of model.safetensors" in out
    assert "off from the source library's own" in out
    assert "## Circuits" not in out
    size = tuple(made[1].model.embed_tokens.weight.shape)
    assert f"{size[0]} × {size[1]}" in out


def test_attention_draws_the_layers_that_are_named(capsys, made, tmp_path):
    code, out, _ = run(capsys, made, "attention", "mine", TEXT, "--layers", "L1", "--out", str(tmp_path / "a.png"))
    assert (code, out) == (0, f"wrote {tmp_path / 'a.png'}\n")
    fixture = load_fixture("mine", made[0], "cpu", "ioi")
    (one,), (every,) = attention_maps(fixture, [TEXT], layers=[1]), attention_maps(fixture, [TEXT])
    assert one.layers == [1]
    torch.testing.assert_close(one.pattern[0], every.pattern[1])
    model = made[1]
    with torch.no_grad():
        expected = model(torch.tensor([tiny_lm.make_tokenizer().encode(TEXT).ids]), output_attentions=True).attentions
    read = expected[0].shape[-1]  # ours reads the answer too
    torch.testing.assert_close(every.pattern[..., :read, :read], torch.cat(expected), atol=1e-5, rtol=1e-5)
    assert one.labels[:2] == ("When", " Mary")


def test_new_drafts_a_claim_of_a_metric_that_can_be_judged(capsys, made, tmp_path):
    """`--metric` and counterparts; what it says of other prompts is measured again, and holds."""
    path = tmp_path / "drafted.yaml"
    words = ("new", "mine", "L0R@S2", "--corrupt", "abc", "--metric", "prob", "--out", str(path))
    assert run(capsys, made, *words)[0] == 0
    (claim,) = load_hypotheses(path, made[0])
    (bound,) = claim.expect.metrics
    assert bound.metric == "prob"
    assert claim.recorded
    assert run(capsys, made, *words)[0] == 2  # never over a file that is there
    assert main(["check", str(path), "--fixtures", str(made[0])]) == 0
    assert "supported (recorded)" in capsys.readouterr().out


def test_minimal_cuts_what_the_metric_can_spare(capsys, made, tmp_path):
    code, out, _ = run(capsys, made, "minimal", "mine", "--metric", "prob", "--method", "zero", "--n", "40")
    assert code == 0
    spec = yaml.safe_load(out)["hypotheses"][0]
    path = tmp_path / "kept.yaml"
    path.write_text(re.sub(r"    gate: .*\n", "", out) + "    gate: 0\n", "utf-8")
    assert "    gate: " in out  # a random model does not do the task
    (claim,) = load_hypotheses(path, made[0])
    searched = re.search(r"prob (\S+) to (\S+)\)", spec["source"])
    # The same prompts, the same cut, by plain hooks on the source library's model.
    ref = claim.ref
    batch = Workbench("cpu").prompts(ref, claim.questions.__class__(40, 77, claim.questions.strata))
    total = 0.0
    for length, rows in tiny_lm.by_length(batch).items():
        cuts = [(node.layer, node.component[2:], None) for node in claim.nodes]
        logits = asked("llama", made[1], batch.tokens[rows, :length], cuts, [0.0] * len(cuts))[0]
        chances = logits.double().softmax(-1)
        total += float(chances[torch.arange(len(rows)), batch.right.ids[rows, 0, 0]].sum())
    assert total / len(batch) == pytest.approx(float(searched[2]), rel=1e-2)
    assert float(searched[2]) >= 0.8 * float(searched[1])
    assert claim.nodes  # something was cut


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("locate", "mine"), "expected a model whose task names roles to look for, found one of ioi"),
        (
            ("new", "mine", "L0H1@END", "--metric", "kl"),
            "expected a metric logit_diff, prob, prob_diff, loss, found kl",
        ),
        (("new", "mine", "L0H1@END", "--corrupt", "abd"), "expected abc or swap, found abd"),
        (("minimal", "mine", "--nodes", "L0H1@END"), "expected heads at every position, like L12-L29, found L0H1@END"),
        (
            ("minimal", "mine", "--method", "resample"),
            "donors of the same length, found resample; write --corrupt NAME",
        ),
        (("minimal", "mine", "--metric", "loss"), "expected a metric of which more is better, found loss"),
        (("minimal", "mine", "--share", "1"), "expected --share between 0 and 1, found 1"),
        (("ask", "mine", TEXT, "--ablate", "L0H1", "--corrupt", "no"), "expected abc or swap, found no"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys, made, words, said):
    code, out, err = run(capsys, made, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 0
