"""A sweep of some nodes of a language model: against plain hooks on the source model; broken off and gone on with."""

from __future__ import annotations

import json

import pytest
import tiny_lm
import torch
from tiny_lm import asked, by_length, metrics, places

from harness.base.errors import HarnessError
from harness.cli import main
from harness.exploring.scan import scan
from harness.judging.bench import Workbench
from harness.judging.requests import Ablation
from harness.specs.fixtures.roles import shape_of
from harness.specs.nodes import read_nodes
from harness.specs.spec_files import read_questions

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

PROMPTS = "{n: 60, seed: 3, stratify: template}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny Llama: the reference, and the model as transformers has it."""
    ref, _, model = tiny_lm.write_lm(tmp_path_factory.mktemp("lm") / "fixtures", "llama")
    return ref, model


def ablation(ref, nodes):
    shape = shape_of(ref)
    questions = read_questions(PROMPTS, shape)
    return Ablation(ref, read_nodes(nodes, shape), "zero", questions, questions)


def last(scans):
    *_, found = scans
    return found


def test_each_row_is_what_plain_hooks_give(made):
    ref, model = made
    bench, cut = Workbench("cpu"), ablation(ref, ["L0-L1H0+H3@S2", "L0M@END"])
    found = last(scan(cut, "logit_diff", bench))
    assert [row.node for row in found.rows] == [str(node) for node in cut.nodes]
    batch = bench.prompts(ref, cut.questions)
    for row in found.rows:
        clean, after = [], []
        for length, rows in by_length(batch).items():
            tokens, io, s = batch.tokens[rows, :length], batch.right.ids[rows, 0, 0], batch.wrong.ids[rows, 0, 0]
            where = [(row.layer, row.part, places(tokens, io, s)[row.position])]
            before = asked("llama", model, tokens, [])[0]
            clean.append(metrics(before, before, io, s)["logit_diff"])
            after.append(metrics(asked("llama", model, tokens, where, [0.0])[0], before, io, s)["logit_diff"])
        clean, after = torch.cat(clean), torch.cat(after)
        assert row.mean == pytest.approx(float(after.mean()), abs=1e-5)
        assert row.median == pytest.approx(float(after.median()), abs=1e-5)
        assert row.change == pytest.approx(float((after - clean).mean()), abs=1e-5)
        assert row.falls_on == float((after < clean).double().mean())
        assert found.clean == pytest.approx(float(clean.mean()), abs=1e-5)


def test_it_goes_on_where_it_was_broken_off(made, tmp_path, monkeypatch):
    ref, _ = made
    cut, out = ablation(ref, ["L0-L1@END", "L0-L1@S2"]), tmp_path / "rows.jsonl"
    whole = last(scan(cut, "prob", Workbench("cpu"), out))
    lines = out.read_text("utf-8").splitlines(keepends=True)
    out.write_text("".join(lines[:6]) + lines[6][:20], "utf-8")  # a line that was not written to its end
    again, run = [], Workbench.run
    monkeypatch.setattr(Workbench, "run", lambda self, *a, **k: again.append(len(a[2])) or run(self, *a, **k))
    assert last(scan(cut, "prob", Workbench("cpu"), out)) == whole
    assert sum(again) == 1 + len(cut.nodes) - 5  # a clean run, and the rows that were lost
    assert out.read_text("utf-8") == "".join(lines)
    with pytest.raises(HarnessError, match=r"expected the sweep that is asked for, .*, found another \(metric: prob\)"):
        last(scan(cut, "loss", Workbench("cpu"), out))
    for other in (b"no JSON\n", b"[1]\n", b"\xff\xfe\n", b""):
        out.write_bytes(other)
        with pytest.raises(HarnessError, match="expected a sweep to go on with, found something else; name another"):
            last(scan(cut, "prob", Workbench("cpu"), out))


def test_only_the_nodes_that_are_asked_are_told(made, tmp_path):
    ref, _ = made
    last(scan(ablation(ref, ["L0-L1@END"]), "kl", Workbench("cpu"), tmp_path / "rows"))
    found = last(scan(ablation(ref, ["L1H0@END"]), "kl", Workbench("cpu"), tmp_path / "rows"))
    assert [row.node for row in found.rows] == ["L1H0@END"]
    assert found.clean == 0
    assert found.rows[0].mean > 0


def run(made, *arguments):
    ref, _ = made
    return main(["sweep", ref.name, "--task=ioi", "--fixtures", str(ref.root), "--device=cpu", *arguments])


def test_the_command_tells_what_moves_it_most_and_a_map(made, tmp_path, capsys):
    nodes = ["--nodes", "L0-L1@END", "--prompts", PROMPTS, "--corrupt", "abc"]
    assert run(made, *nodes, "--resume", str(tmp_path / "rows")) == 0
    shown = capsys.readouterr()
    assert "# logit_diff of llama with one node cut" in shown.out
    assert "## Change at END" in shown.out
    assert [line.split()[1] for line in shown.out.splitlines() if line.startswith("| L")][-2:] == ["L0", "L1"]
    assert run(made, *nodes, "--json", "--resume", str(tmp_path / "rows")) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2 * (tiny_lm.N_HEADS + 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected --nodes, for a language model has too many of them, found none; write --nodes L12-L29@END"),
        (["--metric=prob"], "expected --nodes with --metric, found --metric alone; name the nodes that are cut"),
        (["--nodes=L0@END", "--metric=prop"], "found prop; did you mean 'prob'?"),
        (["--nodes=L0@END", "--corrupt=abd"], "expected abc or swap, found abd; name a counterpart of the task"),
        (["--nodes=L2@END"], "expected a layer L0 to L1, found L2 in L2@END; name one that the model has"),
        (
            ["--nodes=L0@END", "--prompts={n: 5}", "--prompts={n: 6}"],
            "expected --questions once, with --nodes, found 2",
        ),
    ],
)
def test_what_cannot_be_swept_is_one_line(made, capsys, arguments, said):
    assert run(made, *arguments) == 2
    assert said in capsys.readouterr().err
