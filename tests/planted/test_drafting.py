"""`harness new`: what is drafted is what was seen, is accepted, and is judged on other questions."""

from __future__ import annotations

import pytest
from planted import SAMPLE
from tiny import write_tiny

from harness.base.errors import HarnessError
from harness.cli import main
from harness.exploring.drafts import draft
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.reporting.report import markdown, terminal_table
from harness.reporting.summary import shown_verdict, summary_line
from harness.specs.fixtures.files import FixtureRef
from harness.specs.spec_files import load_file
from harness.tasks.questions import Sample

pytestmark = pytest.mark.usefixtures("one_thread")


def drafted(tmp_path, fixtures, *arguments):
    """Return the claim that is drafted into a file, and the text of it."""
    path = tmp_path / "draft.yaml"
    assert main(["new", *arguments, f"--out={path}", f"--fixtures={fixtures}", "--device=cpu"]) == 0
    (claim,) = load_file(path, fixtures)
    return claim, path


@pytest.mark.parametrize(
    ("nodes", "fails", "by_construction"),
    [
        (["S3L0H0"], ("A1",), False),
        (["S3L0H0", "S4L0M"], ("A1", "A0"), False),
        (["S3L0H2"], (), False),
        (["S2L1"], (), True),
    ],
)
def test_what_was_seen_is_drafted_and_accepted(tmp_path, fixtures, bench, nodes, fails, by_construction, capsys):
    claim, path = drafted(tmp_path, fixtures, "planted", *nodes)
    assert capsys.readouterr().out == f"wrote {path}; judge it: harness check {path}\n"
    assert claim.ablate == tuple(nodes)
    assert claim.recorded
    assert (claim.expect.fails, claim.expect.may_fail) == (fails, ())
    assert claim.by_construction == by_construction
    result = judge(claim, bench)
    assert result.status == "passed"
    assert result.verdict == ("by construction" if by_construction else "supported")
    assert main(["check", str(path), f"--fixtures={fixtures}", "--device=cpu"]) == 0
    assert f"{result.verdict} (recorded)" in capsys.readouterr().out


def test_it_is_judged_on_questions_of_another_seed(tmp_path, fixtures):
    claim, path = drafted(tmp_path, fixtures, "planted", "S3L0H0", "--questions", SAMPLE, "--method", "zero")
    assert claim.questions == Sample(1500, 4)
    assert claim.source == "harness new, 1500 × uniform, seed 3"
    assert claim.method == "zero"
    text = path.read_text("utf-8")
    assert "#   A1  " in text
    assert "Cutting S3L0H0 by zero ablation breaks A1" in claim.claim


def test_conditions_on_the_questions_are_kept(tmp_path, fixtures):
    where = '{n: 600, where: {columns: {D0: ">9"}}}'
    claim, _ = drafted(tmp_path, fixtures, "planted", "S3L0H0", "--questions", where)
    assert str(claim.questions) == "600 × D0 >9, seed 314160"


@pytest.mark.slow
def test_a_model_that_is_often_wrong_gets_a_gate(tmp_path, capsys):
    fixtures = tmp_path / "fixtures"
    write_tiny(fixtures)
    claim, path = drafted(tmp_path, fixtures, "tiny", "S5L0", "--questions", "{n: 20000}")
    assert claim.gate == 0
    assert main(["check", str(path), f"--fixtures={fixtures}", "--device=cpu"]) == 1  # of which nothing can be told
    assert "\nNothing was tested: the clean model gets A2 right on at most " in capsys.readouterr().out
    with pytest.raises(HarnessError, match=r"expected a digit that surely fails .*, found A2 "):
        draft(FixtureRef("tiny", fixtures), ["S5L0"], "{n: 20}", "mean", Workbench("cpu"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["planted", "S9"], "expected a step S0 to S5, found S9 in S9; name one that the model has"),
        (["nope", "S3"], "expected a fixture in "),
        (["planted", "S3", "--questions", "[1+2]"], "expected a sample, with its n, found [1+2]; ask {n: 1000}: "),
        (["planted", "S3", "--questions", "{n: auto}"], "expected a sample, with its n, found {n: auto}; ask "),
        (["planted", "S3L0H2", "--questions", "{n: 10}"], "expected a digit that surely fails on more than 5%, or "),
    ],
)
def test_what_cannot_be_drafted_is_one_line(tmp_path, fixtures, arguments, message, capsys):
    path = tmp_path / "draft.yaml"
    assert main(["new", *arguments, f"--out={path}", f"--fixtures={fixtures}", "--device=cpu"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"harness: {message}")
    assert (out, err.count("\n"), path.exists()) == ("", 1, False)


def test_no_file_is_written_over(tmp_path, fixtures, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("mine", "utf-8")
    assert main(["new", "planted", "S3L0H0", f"--out={path}", f"--fixtures={fixtures}"]) == 2
    expected = f"harness: expected a file that is not there yet, found {path}; name another, or remove it\n"
    assert capsys.readouterr().err == expected
    assert path.read_text("utf-8") == "mine"


def test_reports_tell_records_from_predictions(tmp_path, fixtures, bench):
    claim, path = drafted(tmp_path, fixtures, "planted", "S3L0H0")
    recorded = record_of(judge(claim, bench))
    path.write_text(path.read_text("utf-8").replace("    recorded: true\n", ""), "utf-8")
    (edited,) = load_file(path, fixtures)
    predicted = record_of(judge(edited, bench))
    assert (recorded["recorded"], predicted["recorded"]) == (True, False)
    assert summary_line([recorded, predicted]) == "2 claims evaluated: 2 supported, of these 1 recorded, not predicted"
    assert summary_line([predicted]) == "1 claim evaluated: 1 supported"
    assert (shown_verdict(recorded), shown_verdict(predicted)) == ("supported (recorded)", "supported")
    assert "supported (recorded)" in terminal_table([recorded])
    both = markdown([recorded, predicted])
    assert "**supported (recorded)**" in both
    assert "*Recorded* claims" in both
    assert "ecorded" not in markdown([predicted])
