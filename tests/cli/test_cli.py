"""The command line, as a user meets it: output, exit codes, one-line errors."""

from __future__ import annotations

import json
import re

import pytest
from paths import FIXTURE, FIXTURES, ROOT
from tiny import make_recipe, random_weights, recipe_text, save_checkpoint, write_tiny

from harness.cli import main
from harness.specs.fixtures.pins import recipe_hash

SPEC = f"""\
version: 1
fixture: {FIXTURE}
hypotheses:
  - id: good
    claim: S12 makes A4.
    ablate: S12
    method: zero
    questions: ba
    expect: {{fails: [A4]}}
  - id: wrong
    claim: S12 makes A3.
    ablate: S12
    method: zero
    questions: ba
    expect: {{fails: [A3]}}
"""
WHERE = [f"--fixtures={FIXTURES}", "--device=cpu"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(SPEC, "utf-8")
    return path


def test_check_says_what_fails_and_exits_1(spec, capsys):
    assert main(["check", str(spec), *WHERE]) == 1
    out, err = capsys.readouterr()
    assert "REFUTED: S12 makes A3." in out
    assert out.endswith("2 claims evaluated: 1 refuted, 1 supported; 1 not as their specs say\n")
    assert err == ""


def test_check_of_what_holds_exits_0_and_prints_json(spec, capsys):
    spec.write_text(SPEC.split("  - id: wrong", maxsplit=1)[0], "utf-8")
    assert main(["check", str(spec), "--json", *WHERE]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["summary"] == {"supported": 1}
    assert body["claims"][0]["measurement"]["patterns"]["yNyyyy"] > 0


def test_check_judges_the_good_files_of_a_directory_beside_a_bad_one(spec, capsys):
    (spec.parent / "bad.yaml").write_text("x: [", "utf-8")
    assert main(["check", str(spec.parent), *WHERE]) == 2
    out, err = capsys.readouterr()
    assert "2 claims evaluated" in out
    assert err.startswith(f"harness: {spec.parent / 'bad.yaml'}:1:5: expected YAML (")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", FIXTURE, "1+1", "--reference", "{n: 0}"], "questions:1:5: expected a number of at least 1, found 0;"),
        (["sweep", "../x"], "expected a fixture name of letters, digits, `_`, `-` and `.`, found ../x; name a"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(arguments, message, capsys):
    assert main([*arguments, *WHERE]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"harness: {message}")
    assert err.count("\n") == 1


def test_ask_prints_answers_as_the_notebook_does(capsys):
    assert main(["ask", FIXTURE, "15508+14500", "35+65", *WHERE]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("15508+14500=030008 yyyyyy loss ")
    assert first.endswith(" SimpleUS9")
    assert second.startswith("00035+00065=000100 yyyyyy loss ")


def test_ask_with_an_ablation_shows_what_breaks(capsys):
    assert main(["ask", FIXTURE, "12345+33333", "--ablate", "S16", "--method", "zero", *WHERE]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "yyyyyN" in line
    assert line.endswith(" BA")


@pytest.mark.slow
def test_sweep_gives_the_same_counts_as_the_oracle(capsys):
    assert main(["sweep", FIXTURE, "--questions", "ba", "--questions", "uc1", "--json", *WHERE]) == 0
    found = json.loads(capsys.readouterr().out)
    oracle = json.loads((ROOT / "tests" / "data" / "oracle.json").read_text("utf-8"))
    by_node = {(e["set"], e["node"], e["method"]): e["patterns"] for e in oracle["entries"]}
    assert [row["n"] for row in found["cases"]] == [17, 19]
    assert all(row["right"] == row["n"] for row in found["cases"])
    for grid in found["grids"]:
        nodes = {node for name, node, _ in by_node if name == grid["questions"] and "R" not in node and "+" not in node}
        for node in nodes:
            failed = sum(n for pattern, n in by_node[grid["questions"], node, "mean"].items() if "N" in pattern)
            assert grid["nodes"].get(node, {"failed": 0})["failed"] == failed, node
    for row in found["steps"]:
        patterns = by_node["ba", f"S{row['step']}L0R", "zero"]
        assert row["zero"]["patterns"] == {pattern: n for pattern, n in patterns.items() if "N" in pattern}


def test_sweep_writes_markdown(tmp_path, capsys):
    out = tmp_path / "sweep.md"
    assert main(["sweep", FIXTURE, "--questions", "[15+45]", "--method", "zero", "--out", str(out), *WHERE]) == 0
    assert capsys.readouterr().out == ""
    text = out.read_text("utf-8")
    assert "## Step × layer × head on 1 listed" in text
    assert "| S16 A1" in text


def test_import_makes_a_fixture_that_loads(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(recipe_text(), "utf-8")
    save_checkpoint(tmp_path / "old.pth", random_weights(make_recipe()))
    fixtures = tmp_path / "fixtures"
    arguments = ["import", str(tmp_path / "old.pth"), "--recipe", str(recipe), "--name", "mine", "--device=cpu"]
    assert main([*arguments, f"--fixtures={fixtures}"]) == 0
    assert "mine: weights sha256 " in capsys.readouterr().out
    assert main(["ask", "mine", "1+1", f"--fixtures={fixtures}", "--reference", "ba", "--device=cpu"]) == 0
    assert "01+01=" in capsys.readouterr().out
    assert main([*arguments, f"--fixtures={fixtures}"]) == 2
    assert "expected a fixture without weights, found model.json already there" in capsys.readouterr().err


def test_hash_prints_what_the_pin_of_a_trained_fixture_has(capsys):
    assert main(["hash", "quick_d5_l2_s0", "tiny", f"--fixtures={FIXTURES}"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    pinned = json.loads((FIXTURES / "quick_d5_l2_s0" / "model.json").read_text("utf-8"))["recipe_sha256"]
    assert first == f"{pinned}  quick_d5_l2_s0"
    assert re.fullmatch(r"[0-9a-f]{64}  tiny", second)


def test_hash_of_no_name_is_of_what_is_to_be_trained_here(tmp_path, capsys):
    hub = {"repo": "a/b", "file": "model.pth"}
    for name, fields in {"bare": {}, "published": {"hub": hub}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("# mine\n" + recipe_text(**fields), "utf-8")
    write_tiny(tmp_path, "pinned")
    assert main(["hash", f"--fixtures={tmp_path}"]) == 0
    assert capsys.readouterr().out == f"{recipe_hash(make_recipe())}  bare\n"
    assert main(["hash", "nobody", f"--fixtures={tmp_path}"]) == 2


def test_a_gpu_by_its_number_is_not_for_a_cluster(tmp_path, capsys):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "recipe.yaml").write_text(recipe_text(), "utf-8")
    assert main(["train", "--all", "--ray=head:6379", "--device=cuda:1", f"--fixtures={tmp_path}"]) == 2
    said = "expected a device auto, cpu or cuda with --ray, found cuda:1; leave out the number"
    assert said in capsys.readouterr().err


def test_schema_is_printed(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"].startswith("A spec of")
