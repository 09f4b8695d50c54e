"""What the harness says when something is wrong, word for word: an error's text is an interface.

Exact words stand where what they are about is tested: of specs, recipes, roles and pins in `tests/bad_specs`, of YAML
and nodes in test_yamlfile.py and test_nodes.py, of weights in test_fixtures.py and test_checkpoints.py, of training in
test_runs.py. Here are those that stand nowhere else: of the commands, from start to end, and of the parts behind
them. And of every place in the code where something is refused: that it says what was expected, found, and what to do.
"""

from __future__ import annotations

import ast
import shlex

import pytest
import tiny
import torch
from paths import ROOT

from harness.base.errors import HarnessError
from harness.cli import main
from harness.reporting.report import to_json
from harness.tasks.addition.layout import Question
from harness.tasks.addition.sampling import sample_strata
from harness.tasks.addition.strata import Stratum
from harness.tasks.addition.task import Addition
from harness.tasks.addition.variables import read_variable
from harness.tasks.donors import draw_donors
from harness.tasks.pairs import draw_pairs
from harness.tasks.questions import Pair, PairList, PairSample, QuestionList

QUESTION = "a question of two numbers of at most 2 digits, like 15+45"
FORMAT = "a file that ends in .png, .svg or .pdf"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a whole fixture and some that want something, and with files that are none, or reports."""
    place = tmp_path_factory.mktemp("messages")
    tiny.write_tiny(place / "fixtures")
    for name, fields in {"bare": {}, "published": {"hub": {"repo": "a/b", "file": "m.pth"}}, "named": {}}.items():
        (place / "fixtures" / name).mkdir()
        (place / "fixtures" / name / "recipe.yaml").write_text(tiny.recipe_text(**fields), "utf-8")
    (place / "fixtures" / "named" / "roles.yaml").write_text("version: 1\nroles: {}\n", "utf-8")
    (place / "empty").mkdir()
    (place / "text").write_text("x\n", "utf-8")
    (place / "old.json").write_text('{"version": 1, "claims": []}', "utf-8")
    (place / "report.json").write_text(to_json([], []), "utf-8")
    return place


def listed(place):
    """Return all files below a directory but locks, which stay where somebody wanted to write."""
    return sorted(path for path in place.rglob("*") if path.name != ".lock")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("check none.yaml", "none.yaml: expected a readable file, found No such file or directory; check the path"),
        ("check empty", "empty: expected spec files (*.yaml), found none; write one, or name another directory"),
        ("check text", "text:1:1: expected a mapping, found x; correct `the file`"),
        ("ask tny 1+1", "expected a fixture in fixtures, found tny; did you mean 'tiny'?"),
        ("ask tiny 1+1 --fixtures none", "expected a directory of fixtures, found none, which is none; name another"),
        ("ask tiny 1+1 --fixtures empty", "expected a fixture in empty, found tiny, but there is none at all; make one (harness import --help) or name another directory of fixtures"),
        ("ask tiny 1-1", f"expected {QUESTION}, found 1-1; write digits, one +, digits, and quote it if it is a number"),
        ("ask tiny 100+1", f"expected {QUESTION}, found 3 digits in 100+1; shorten it or name a fixture for more digits"),
        ("ask tiny 1+1 --ablate S9", "expected a step S0 to S8, found S9 in S9; name one that the model has"),
        ("ask tiny 1+1 --ablate s3", "expected nodes like S11L0H2, S12L0H0+H1, S0-S7L0R, S8L0M or L0H1, found s3; did you mean S3?"),
        ("ask tiny 1+1 --ablate [carry]", "expected a role that the fixture's roles.yaml has, found carry; find its roles: harness locate --help"),
        ("ask tiny 1+1 --reference vary", "questions:1:1: expected ba, uc1, simple_us9, cascade_us9, steps or varied, found vary; name a set, or write a list or a sample"),
        ("ask tiny 1+1 --reference 7", "questions:1:1: expected a named set, a list or a sample {n: …}, found 7; correct `questions`"),
        ("ask bare 1+1", "expected weights pinned in fixtures/bare/model.json, found no such file; train them: harness train bare"),
        ("ask published 1+1", "expected weights pinned in fixtures/published/model.json, found no such file; import them: harness import hub:published"),
        ("ask tiny 1+1 --device tpu", "expected a device auto, cpu or cuda[:N], found tpu; choose one of them"),
        ("sweep tiny --questions '[1+x]'", f"questions:1:2: expected {QUESTION}, found 1+x; write digits, one +, digits, and quote it if it is a number"),
        ("sweep tiny --questions '{m: 9}'", "questions:1:1: expected the key `n`, found none; add `n: …`\nharness: questions:1:2: expected a known key, found m; known keys: n, seed, stratify, where"),
        ("sweep tiny --questions cascade_us9", "expected a question set with questions for 2 digits, found cascade_us9, whose addends are all longer; choose another set or list the questions"),
        ("minimal tiny --n 0", "expected --n of at least 1, found 0; ask some questions"),
        ("train tine", "expected a fixture in fixtures, found tine; did you mean 'tiny'?"),
        ("train tiny --fresh", "fixtures/tiny: expected weights that were trained here, or none, found weights imported from tiny.pth; they are not written over; copy the recipe to another name"),
        ("train bare --steps 2", "expected --steps from 1 to the recipe's 1, found 2; edit the recipe"),
        ("train bare --resume", "fixtures/bare: expected a checkpoint to go on from, found none; leave out --resume"),
        ("train published", "fixtures/published: expected a recipe to train by, found one of published weights; harness import hub:published"),
        ("curves tiny", "fixtures/tiny/training.csv.gz: expected learning curves, found no such file; only `harness train` records some"),
        ("reproduce tiny", "expected a fixture trained here, in fixtures, found tiny; train one: harness train --help"),
        ("import text", "expected --recipe and --name with a file, found none; add them, or import hub:NAME"),
        ("import hub:tiny --name x", "expected hub:NAME alone, found --recipe or --name as well; leave them out"),
        ("import hub:tiny", "fixtures/tiny/recipe.yaml: expected the key `hub`, found none; name a repository and file"),
        ("import none.pth --recipe fixtures/tiny/recipe.yaml --name x", "none.pth: expected a readable checkpoint, found No such file or directory; check the path"),
        ("import text --recipe none.yaml --name x", "none.yaml: expected a readable file, found No such file or directory; check the path"),
        ("locate named", "expected no roles file yet, found fixtures/named/roles.yaml; write over it with --force, or look with --dry-run"),
        ("locate tiny --confirm 0", "expected --confirm of at least 1, found 0; choose another"),
        ("new tiny S3 --out text", "expected a file that is not there yet, found text; name another, or remove it"),
        ("new tiny S3 --questions varied", "expected a sample, with its n, found varied; ask {n: 1000}: the claim is judged on questions other than those it was made from"),
        ("diff none.json report.json", "none.json: expected a readable file, found No such file or directory; name a JSON report"),
        ("diff text report.json", "text: expected a JSON report, found Expecting value: line 1 column 1 (char 0); write one: pytest hypotheses/"),
        ("findings report.json", "report.json: expected claims that were judged, found none; write it anew: pytest hypotheses/"),
        ("attention tiny 1+1 --out x.txt", f"expected {FORMAT}, found x.txt; choose one of these"),
        ("describe tiny --out text/x", "text/x: expected a directory that can be written, found Not a directory; choose another"),
    ],
)  # fmt: skip
def test_what_a_command_says(place, monkeypatch, capsys, command, message):
    monkeypatch.chdir(place)
    before = listed(place)
    assert main(shlex.split(command)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"harness: {message}\n"
    assert listed(place) == before


def test_a_fixture_whose_pin_has_no_accuracy_is_there_all_the_same(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main(["train", "tiny"]) == 0
    assert capsys.readouterr().out.startswith("fixtures/tiny: has its weights already; --fresh trains new ones\n")


LAYOUT = Addition(2)
NONE = Stratum("a carry and none", frozenset({0}), (frozenset({"<9"}), frozenset({"<9"})))
CARRY = read_variable("D0.carry", LAYOUT)
SAME = PairList((Pair(Question(1, 1), Question(2, 2)),))


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda: sample_strata(LAYOUT, [NONE], 5, torch.Generator()), "expected a stratum with questions, found none with a carry and none; drop a condition"),
        (lambda: draw_donors(LAYOUT.encode([Question(1, 1)]), QuestionList((Question(1, 1),)), 0, LAYOUT), "expected a donor other than the question itself, found none in the reference; name a larger reference"),
        (lambda: draw_pairs(SAME, CARRY, ("A1",), LAYOUT), "expected a pair in which D0.carry differs, found 1 in which it agrees; list one, or nothing could follow"),
        pytest.param(lambda: draw_pairs(PairSample(5, 0), CARRY, ("A0",), LAYOUT), "expected pairs in which D0.carry changes A0, found 0 of 1,638,400; name other digits, or list pairs", marks=pytest.mark.slow),
    ],
    ids=["stratum", "donors", "agreeing pairs", "no pairs"],
)  # fmt: skip
def test_what_a_part_says(do, message):
    with pytest.raises(HarnessError) as caught:
        do()
    assert str(caught.value) == message


# Who refuses something, and at which place of the call stands what to do.
SAYING = {"Problem": 2, "of": 2, "report": 3, "_report": 3, "_refuse": 3}


def sayings(text):
    """Yield the line, and what was expected, what was found and what to do, of every refusal in a module's text."""
    for node in ast.walk(ast.parse(text)):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if name in SAYING and not any(isinstance(part, ast.Starred) for part in node.args[: SAYING[name]]):
            last = SAYING[name]
            yield node.lineno, node.args[last - 2 : last + 1]


def says_nothing(part):
    """Return whether what stands there is a text without words, or nothing at all."""
    if isinstance(part, ast.JoinedStr):
        return not part.values
    return isinstance(part, ast.Constant) and not (isinstance(part.value, str) and part.value.strip())


def complaints(text):
    return [line for line, parts in sayings(text) if len(parts) < 3 or any(map(says_nothing, parts))]


def test_every_refusal_says_what_was_expected_what_was_found_and_what_to_do():
    modules = {str(path): path.read_text("utf-8") for path in (ROOT / "harness").rglob("*.py")}
    found = {name: lines for name, text in modules.items() if (lines := complaints(text))}
    assert found == {}
    assert sum(len(list(sayings(text))) for text in modules.values()) > 150  # they were found at all


@pytest.mark.parametrize(
    "text",
    [
        'Problem("a", "b", "")', 'Problem("a", "b", " ", path)', 'Problem("", "b", "c")', 'HarnessError.of("a", "b")',
        'HarnessError.of("a", f"", "c")', 'self._report("at", "a", "b", None)', "document.report(loc, 'a', '', 'c')",
    ],
)  # fmt: skip
def test_a_refusal_that_says_less_is_noticed(text):
    assert complaints(text) == [1]
