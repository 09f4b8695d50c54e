"""What the README shows is what happens."""

from __future__ import annotations

import re

import pytest
from paths import FIXTURES, ROOT

from harness.base.errors import SpecError
from harness.cli import main
from harness.judging.bench import Workbench
from harness.judging.evaluation import judge
from harness.judging.records import record_of
from harness.reporting.failure import failure_text
from harness.specs.spec_files import load_file
from harness.specs.verbs.ablate import ExpectModel
from harness.specs.verbs.answer import AnsweredModel
from harness.specs.verbs.attend import MassModel
from harness.specs.verbs.learn import ShareModel
from harness.specs.verbs.registry import VERBS, parser_of

README = (ROOT / "README.md").read_text("utf-8")


def block(language, containing):
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in b]
    return found


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(block("yaml", "base-add-A4-at-S12"), "utf-8")
    return path


def test_the_spec_it_shows_is_one(spec):
    (h,) = load_file(spec, FIXTURES)
    assert h.id == "base-add-A4-at-S12"


def test_the_refusal_it_shows_is_what_a_mistaken_spec_gets(spec):
    text = spec.read_text("utf-8")
    for right, wrong in (("S12L0H0+H1", "S12L0H5"), ("case: BA", "case: BBA"), ("fails: [A4]", "fail: [A4]")):
        assert right in text
        text = text.replace(right, wrong)
    spec.write_text(text, "utf-8")
    with pytest.raises(SpecError) as caught:
        load_file(spec, FIXTURES, "hypotheses/add_d5_l2_h3/mine.yaml")
    assert str(caught.value) == block("text", "mine.yaml:8:13").strip()


@pytest.mark.slow
def test_the_table_it_shows_is_what_the_terminal_shows(capsys):
    """Every cell of it: rates are the same on every machine."""
    assert main(["check", str(ROOT / "hypotheses/add_d5_l2_h3/staircase.yaml"), "--fixtures", str(FIXTURES)]) == 0
    table, _, rest = capsys.readouterr().out.partition("\n\n")
    shown = block("text", "S8-impacts-A5-A4")
    assert shown.startswith(f"{table}\n\n{rest.splitlines()[0]}\n")


@pytest.mark.slow
def test_the_comparisons_it_shows_have_the_headings_of_a_failure(spec):
    """The claim that README gets wrong on purpose, judged."""
    (claim,) = load_file(spec, FIXTURES, "hypotheses/add_d5_l2_h3/mine.yaml")
    told = failure_text(record_of(judge(claim, Workbench("cpu"))))
    assert told == block("text", "REFUTED").strip()


def test_it_names_every_key():
    table = README.split("### What can be written")[1].split("## How a verdict")[0]
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", table))))
    keys = set().union(
        *(model.model_fields for model in (*(parser_of(verb).model for verb in VERBS), ExpectModel, AnsweredModel))
    )
    keys |= MassModel.model_fields.keys() | ShareModel.model_fields.keys() | {"each"}
    assert keys - {"id", "claim", "seed"} <= named


def test_its_failure_is_the_harnesss_own_text():
    shown = block("text", "REFUTED")
    assert 'rerun: pytest "hypotheses/add_d5_l2_h3/mine.yaml::base-add-A4-at-S12"' in shown
    assert re.search(
        r"A4 +fails > 50% +\d+/1000 +\d+(\.\d)?% +[\d.]+% to [\d.]+% +[\d.]+% to [\d.]+% +contradicted", shown
    )
