"""Language models by reference: measured as plain PyTorch hooks measure them, proved, pinned, and loaded once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import tiny_lm
import torch
from paths import FIXTURES
from tiny import read_claim, refusal
from tiny_lm import asked, by_length, metrics, places
from tokenizers import Tokenizer, pre_tokenizers

from harness.base.errors import FixtureError, HarnessError, NotImportedError
from harness.cli import main
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.judging.requests import ablation_of
from harness.models.fetching import refer
from harness.models.fixtures import load_fixture
from harness.models.proof import ask_source, prove
from harness.reporting.failure import failure_text
from harness.specs.fixtures.files import FixtureRef
from harness.specs.spec_files import load_hypotheses
from harness.tasks.questions import Counterparts

pytestmark = pytest.mark.usefixtures("one_thread")

ABC, SWAP, ZERO = "method: {corrupt: abc}", "method: {corrupt: swap}", "method: zero"
SAMPLED = "method: mean\nreference: {n: 100, seed: 5}"
TEXTS = [
    tiny_lm.TEMPLATES[name]
    .replace("{place}", place)
    .replace("{IO}", io)
    .replace("{S as S1}", s)
    .replace("{S as S2}", s)
    for name, place, io, s in (("ABBA", " park", " Mary", " Tom"), ("BABA", " store", " John", " Lisa"))
]
LISTED = f"method: mean\nreference: {TEXTS!r}"
CUTS = [
    ("L1H2@END", ABC), ("L0H1@S2, L0H3@S1", ABC), ("L0M@S2", ABC), ("L0R@S2", SWAP), ("L0H0@S1, L1H0@END", ZERO),
    ("L1M@END", ZERO), ("L0R@IO", ZERO), ("L0H2@S2", SAMPLED), ("L0M@END, L1H3@END", LISTED), ("L0R@S1", LISTED),
]  # fmt: skip
SHARES = "{at_least: 0.1}"
EXPECT = f"{{right: {SHARES}, prefers: {SHARES}, " + ", ".join(
    f"{metric}: {{median_at_most: 3}}" for metric in ("logit_diff", "prob", "prob_diff", "loss", "kl")
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The directory of fixtures that refer to a model of each kind, and the models as transformers has them."""
    root = tmp_path_factory.mktemp("lm") / "fixtures"
    return root, {kind: tiny_lm.write_lm(root, kind)[2] for kind in tiny_lm.KINDS}


def claim_of(directory: Path, root: Path, kind: str, ablate: str, method: str) -> Any:
    text = f"ablate: [{ablate}]\n{method}\nprompts: {{n: 200, seed: 1, stratify: template}}\nexpect: {EXPECT}}}"
    return read_claim(directory, text, root, f"{kind}\ntask: ioi")


@pytest.mark.parametrize("kind", tiny_lm.KINDS)
def test_every_metric_is_what_plain_hooks_on_the_source_model_give(tmp_path, made, kind):
    root, models = made
    model, bench = models[kind], Workbench("cpu")
    claims = [claim_of(tmp_path, root, kind, *cut) for cut in CUTS]
    bench.gather([ablation_of(claim) for claim in claims])
    for claim, (ablate, method) in zip(claims, CUTS, strict=True):
        found = bench.measure(ablation_of(claim)).measurement.metrics
        parsed = [re.fullmatch(r"L(\d)(H\d|M|R)@(\w+)", node).groups() for node in ablate.split(", ")]
        batch = bench.prompts(claim.ref, claim.questions)
        mean = None
        if "mean" in method:
            reference = bench.prompts(claim.ref, claim.reference)
            values = [[] for _ in parsed]
            for length, rows in by_length(reference).items():
                tokens = reference.tokens[rows, :length]
                where = places(tokens, reference.right.ids[rows, 0, 0], reference.wrong.ids[rows, 0, 0])
                cuts = [(layer, part, where[at]) for layer, part, at in parsed]
                for one, seen in zip(values, asked(kind, model, tokens, cuts)[1], strict=True):
                    one.append(seen)
            mean = [torch.cat(one).mean(0) for one in values]
        groups = by_length(batch)
        assert len(groups) == 2  # the templates differ in length
        for length, rows in groups.items():
            tokens, io, s = batch.tokens[rows, :length], batch.right.ids[rows, 0, 0], batch.wrong.ids[rows, 0, 0]
            where = places(tokens, io, s)
            cuts = [(layer, part, where[at]) for layer, part, at in parsed]
            clean = asked(kind, model, tokens, [])[0]
            new = [0.0] * len(cuts) if mean is None else mean
            if "corrupt" in method:
                other = bench.prompts(claim.ref, Counterparts(claim.questions, claim.counterpart, claim.seed)).tokens
                assert other.shape == batch.tokens.shape
                assert not torch.equal(other, batch.tokens)
                new = asked(kind, model, other[rows, :length], cuts)[1]
            after = asked(kind, model, tokens, cuts, new)[0]
            assert (after - clean).abs().amax(1).min() > 1e-4  # the cut is felt on every prompt
            for name, expected in metrics(after, clean, io, s).items():
                torch.testing.assert_close(
                    found[name].after[rows], expected, atol=1e-5, rtol=1e-5, msg=f"{ablate} {name}"
                )
            for name, expected in metrics(clean, clean, io, s).items():
                torch.testing.assert_close(found[name].clean[rows], expected, atol=1e-5, rtol=1e-5, msg=f"clean {name}")


def test_a_median_is_no_percentage(tmp_path, made):
    root, _ = made
    text = "ablate: L1H2@END\nmethod: {corrupt: abc}\nprompts: {n: 200, seed: 1}\ngate: 0\nexpect: %s"
    claim = read_claim(tmp_path, text % "{logit_diff: {median_at_least: 90}}", root, "llama\ntask: ioi")
    found = judge(claim)
    proof = "logits and sums of the stream within 0 of the source library's"
    assert found.engine == f"hooks (the cone engine cannot run a model by reference); {proof}"
    prompts = (root / "prompts" / "ioi.yaml").read_bytes()
    assert found.code == {"prompts/ioi.yaml": hashlib.sha256(prompts).hexdigest()}
    (row,) = [line for line in failure_text(record_of(found)).splitlines() if "median" in line]
    assert re.search(r"logit_diff median +≥ 90 +-?[\d.]+ +-?[\d.]+ to -?[\d.]+ +contradicted", row)


@pytest.mark.parametrize("kind", tiny_lm.KINDS)
def test_the_proof_takes_each_architecture_and_names_a_hook_that_is_wrong(made, kind, monkeypatch):
    root, models = made
    loaded, source = load_fixture(kind, root, "cpu", "ioi").loaded, ask_source(models[kind], torch.device("cpu"))
    bridge, run = loaded.bridge, loaded.bridge.run_with_hooks
    proof = prove(bridge, source, "model.yaml")
    assert max(proof.parity, proof.sums, proof.put_back, loaded.proof.parity) < 1e-5
    other = ask_source(tiny_lm.make_model(kind, source.logits.shape[-1], seed=1), torch.device("cpu"))
    assert "expected logits within 0.0001 of the source library's, found " in refusal(
        FixtureError, prove, bridge, other, "m"
    )

    def with_stream(name, before):
        """Let a hook give its value and the stream before it, as some libraries' modules do."""

        def run_with_hooks(tokens, fwd_hooks):
            seen = {}
            run(
                tokens,
                fwd_hooks=[
                    (f"blocks.1.{one}", lambda x, hook, one=one: seen.update({one: x.clone()})) for one in before
                ],
            )
            extra = sum(seen.values())
            changed = [
                (at, (lambda x, hook, do=do: do(x + extra, hook)) if at == f"blocks.1.{name}" else do)
                for at, do in fwd_hooks
            ]
            return run(tokens, fwd_hooks=changed)

        return run_with_hooks

    for name, before in (("hook_mlp_out", ("hook_resid_pre", "hook_attn_out")), ("hook_attn_out", ("hook_resid_pre",))):
        monkeypatch.setattr(bridge, "run_with_hooks", with_stream(name, before))
        said = refusal(FixtureError, prove, bridge, source, "m")
        assert "expected resid_pre + attn_out + mlp_out = resid_post, found " in said
        assert f" off at blocks.1.{name}, which includes the residual stream; " in said
    dead = "blocks.0.attn.hook_z"  # an edit there goes nowhere
    monkeypatch.setattr(bridge, "run_with_hooks", lambda tokens, fwd_hooks: run(
        tokens, fwd_hooks=[one for one in fwd_hooks if one[0] != dead or len(fwd_hooks) > 1]))  # fmt: skip
    assert f"expected the logits to move when {dead} is set to 0, found " in refusal(
        FixtureError, prove, bridge, source, "m"
    )


def test_what_is_not_as_pinned_is_refused_in_one_line(tmp_path):
    root = tmp_path / "fixtures"
    ref, model, _ = tiny_lm.write_lm(root, "gpt2")
    pin, files = ref.directory / "model.yaml", Path(model.path)
    good, config, tokenizer = pin.read_text("utf-8"), files / "config.json", files / "tokenizer.json"

    def said():
        return refusal(FixtureError, load_fixture, "gpt2", root, "cpu", "ioi")

    pin.write_text(good.replace("n_layers: 2", "n_layers: 3"), "utf-8")
    assert f"{pin}: expected n_layers: 2, as the model has, found 3; correct it" in said()
    pin.write_text(good, "utf-8")
    config.write_bytes(config.read_bytes() + b" ")
    assert f"{config}: expected config.json of sha256 {model.files['config.json']}, found sha256 " in said()
    config.write_bytes(config.read_bytes()[:-1])
    changed = Tokenizer.from_file(str(tokenizer))
    changed.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    changed.save(str(tokenizer))
    assert "expected tokenizer.json of sha256 " in said()
    digest = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    pin.write_text(good.replace(model.files["tokenizer.json"], digest), "utf-8")
    assert f"{tokenizer}: expected a tokenizer of sha256 {model.tokenizer}, found sha256 " in said()


def test_a_file_that_is_not_pinned_is_never_read(tmp_path):
    ref, model, _ = tiny_lm.write_lm(tmp_path / "fixtures", "llama")
    where = model.location(ref.directory)
    (where / "other.safetensors").write_bytes(b"")
    with pytest.raises(FixtureError, match=r"no weights or config but those in `files`, found other.safetensors"):
        load_fixture("llama", ref.root, "cpu", "ioi")


@pytest.mark.parametrize("source", ["hub:gpt2", "pypi:my pkg==1/a.gguf", "pypi:a==x/b", "ftp:x", "path:"])
def test_a_source_that_is_none_is_one_line(tmp_path, source):
    with pytest.raises(HarnessError, match=r"expected hub:OWNER/NAME\[@REVISION\], .*; write one of these"):
        refer(FixtureRef("new", tmp_path / "fixtures"), source)


def test_prompts_of_a_fixture_that_says_itself_what_it_is_asked_is_one_line(capsys):
    assert main(["prompts", "ioi", "--fixture", "add_d5_l1_h3", "--fixtures", str(FIXTURES)]) == 2
    assert "expected a language model by reference, found add_d5_l1_h3, of the task" in capsys.readouterr().err


def test_claims_of_a_model_that_is_not_fetched_are_read_and_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "fixtures"
    tiny_lm.write_prompts(root)
    (root / "far").mkdir()
    zeros = f'"{"0" * 64}"'
    (root / "far" / "model.yaml").write_text(
        f"version: 1\npypi: {{package: no-such-package, version: 0.1.2, member: a/b.gguf}}\nfiles: {{b.gguf: {zeros}}}\n"
        f"tokenizer: {zeros}\nn_layers: 2\nn_heads: 4\nd_vocab: 300\n", "utf-8",
    )  # fmt: skip
    claim_of(tmp_path, root, "far", "L1H2@END", ABC)
    assert [claim.ref.name for claim in load_hypotheses(tmp_path / "s.yaml", root)] == ["far"]
    said = refusal(NotImportedError, load_fixture, "far", root, "cpu", "ioi")
    assert f"found not fetched; harness fetch far --fixtures {root}" in said
    main(["check", str(tmp_path / "s.yaml"), "--fixtures", str(root), "--device=cpu"])
    out = capsys.readouterr()
    assert "skipped" in out.out + out.err
    assert "harness fetch far" in out.out + out.err


def test_a_model_that_is_asked_two_tasks_is_loaded_once_and_a_path_may_be_relative(tmp_path, monkeypatch):
    root = tmp_path / "fixtures"
    tiny_lm.save_model(tmp_path / "files", "llama")
    tiny_lm.write_prompts(root)
    (root / "prompts" / "other.yaml").write_text(tiny_lm.PROMPTS, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert refer(FixtureRef("near", root), "path:files").path == "../../files"  # seen from the fixture
    one, other = (load_fixture("near", root, "cpu", task) for task in ("ioi", "other"))
    assert one.task.title != other.task.title
    assert one.loaded is other.loaded
    assert one.model is other.model
