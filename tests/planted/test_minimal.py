"""`harness minimal` on the model whose inside is known: what suffices is known too."""

from __future__ import annotations

import pytest
from tiny import refusal

from harness.base.errors import HarnessError
from harness.cli import main
from harness.exploring.minimal_sets import find_minimal
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.specs.fixtures.files import FixtureRef
from harness.specs.siblings import write_nodes
from harness.specs.spec_files import load_file

pytestmark = pytest.mark.usefixtures("one_thread")
# Two heads copy the digits, at the two steps that predict; at each, an MLP adds them. Nothing else is read.
SUFFICES = {"heads": "S3-S4L0H0+H1", "mlps": "S3-S4L0M"}


@pytest.mark.parametrize("part", ["heads", "mlps"])
def test_what_suffices_is_found_and_no_more(fixtures, bench, part):
    found = find_minimal(FixtureRef("planted", fixtures), part, bench, n=200)
    assert write_nodes(found.kept) == SUFFICES[part]
    assert found.accuracy == 1


@pytest.mark.slow
@pytest.mark.parametrize("part", ["heads", "mlps"])
def test_the_claim_that_it_prints_is_a_spec_and_holds_on_other_questions(fixtures, tmp_path, capsys, part):
    assert main(["minimal", "planted", "--part", part, "--n", "200", "--fixtures", str(fixtures)]) == 0
    path = tmp_path / "s.yaml"
    path.write_text(capsys.readouterr().out, "utf-8")
    (claim,) = load_file(path, fixtures)
    assert claim.ablate == (SUFFICES[part],)
    assert "seed 77" in claim.source
    assert claim.questions.seed != 77
    assert judge(claim, Workbench("cpu")).verdict == "supported"


def test_without_any_one_of_them_it_fails(fixtures, tmp_path, capsys):
    main(["minimal", "planted", "--n", "200", "--fixtures", str(fixtures)])
    text = capsys.readouterr().out.replace(SUFFICES["heads"], "S3L0H0+H1, S4L0H0")
    path = tmp_path / "s.yaml"
    path.write_text(text, "utf-8")
    assert judge(load_file(path, fixtures)[0], Workbench("cpu")).verdict == "refuted"


def test_nobody_to_search_in(fixtures, bench):
    assert "found nobody" in refusal(HarnessError, find_minimal, FixtureRef("nobody", fixtures), "heads", bench)


def test_the_claim_cuts_by_the_method_of_the_search_and_asks_others_whatever_its_seed(fixtures, tmp_path, capsys):
    for seed in ("31", "32"):
        assert (
            main(["minimal", "planted", "--method", "zero", "--seed", seed, "--n", "200", "--fixtures", str(fixtures)])
            == 0
        )
        (tmp_path / "s.yaml").write_text(capsys.readouterr().out, "utf-8")
        (claim,) = load_file(tmp_path / "s.yaml", fixtures)
        assert claim.method == "zero"
        assert claim.questions.seed != int(seed)
