"""What people see of controls, mutants and coverage: pytest on specs of the model whose inside is known."""

from __future__ import annotations

import json

import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401

# As in test_plugin.py: what a run inside this process imports must not be imported twice.

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = """\
version: 1
fixture: planted
hypotheses:
  - id: head-0
    claim: Head 0 at S3 serves A1.
    ablate: S3L0H0
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
    survivors: {head+1: both addends are needed, no-op: nothing at all}
  - id: head-0-at-S4
    claim: Head 0 at S4 serves A0.
    ablate: S4L0H0
    questions: {n: 1000, seed: 3}
    expect: {fails: [A0]}
  - id: mlp
    claim: The MLP at S3 serves A1.
    ablate: S3L0M
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
  - id: head-2
    claim: Head 2 serves A1.
    ablate: S3L0H2
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
    xfail: {reason: it writes nothing}
"""


@pytest.fixture
def run(pytester, fixtures, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider\n")
    pytester.mkdir("claims")
    (pytester.path / "claims" / "a.yaml").write_text(SPEC, "utf-8")
    return lambda *options: pytester.runpytest("claims/", f"--harness-fixtures={fixtures}", *options)


def report(pytester):
    path = pytester.path / "reports" / "hypotheses"
    return json.loads(path.with_suffix(".json").read_text("utf-8")), path.with_suffix(".md").read_text("utf-8")


def test_controls_say_what_is_not_specific(run, pytester):
    result = run("--harness-controls")
    assert result.ret == 0
    result.stdout.fnmatch_lines([
        "supported, not specific*head-0 *",
        "supported, not specific*head-0-at-S4 *",
        "supported  *mlp *",
        "4 claims evaluated: 1 refuted, 3 supported, 2 of the supported not specific (1 refuted or inconclusive as *)",
        "by chance, at most 0.04 of the 4 verdicts on samples are expected to be false",
    ])  # fmt: skip
    body, text = report(pytester)
    controls = {claim["id"]: claim["controls"] for claim in body["claims"]}
    assert controls["mlp"]["specific"] is True
    assert controls["head-0"]["methods"]["zero"] == "supported"
    row = next(line for line in text.splitlines() if line.startswith("| head-0 ") and "S3L0H1 (A1 " in line)
    assert " of 6 " in row  # two other heads, three other steps


def test_without_the_options_nothing_is_said_of_them(run, pytester):
    result = run()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*not specific*")
    result.stdout.no_fnmatch_line("*mutation score*")
    result.stdout.no_fnmatch_line("*coverage*")
    assert "## Controls" not in report(pytester)[1]


def test_mutants_are_scored_and_survivors_listed(run, pytester):
    result = run("--harness-mutate", "--harness-html=page.html")
    assert result.ret == 0
    # Of a head: layer, step (of S3 both ways), no-op, digit, a digit dropped and one added; of head 0 at S4 less.
    result.stdout.fnmatch_lines([
        "mutation score *%: * of * mutants killed; 1 more hold as well, for the reasons that their specs give",
        "  survives: head-0-at-S4 with head+1: S4L0H1: A0 fails > 5%; others < 1%: A0 */1000 (*%)",
        "  does not survive, though its spec gives a reason: head-0 with no-op",
    ])  # fmt: skip
    body, text = report(pytester)
    mutants = {claim["id"]: claim.get("mutants") for claim in body["claims"]}
    assert mutants["head-2"] is None  # it is not supported
    assert [s["reason"] for s in mutants["head-0"]["survivors"]] == ["both addends are needed"]
    killed = sum(len(found["killed"]) for found in mutants.values() if found)
    assert f"{killed} of {killed + 1} mutants killed" in text
    assert "survives: head+1 (S4L0H1: A0 " in (pytester.path / "page.html").read_text("utf-8")


def test_coverage_lists_what_no_supported_claim_names(run, pytester):
    result = run("--harness-coverage")
    assert result.ret == 0
    result.stdout.fnmatch_lines([
        "coverage of planted: 3 of the 6 nodes that matter are named by a supported claim that needs them (50%), 3 by one of*",
        "  not named: S3L0H1 (A1 */1000), S4L0H1 (A0 */1000), S4L0M (A0 */1000)",
    ])  # fmt: skip
    assert report(pytester)[0]["coverage"]["planted"]["missing"] == ["S3L0H1", "S4L0H1", "S4L0M"]


@pytest.mark.slow
@pytest.mark.parametrize(("least", "code"), [(50, 0), (51, 1)])
def test_too_little_coverage_fails(run, least, code):
    result = run(f"--harness-coverage-fail-under={least}")
    assert result.ret == code
    if code:
        result.stdout.fnmatch_lines([f"coverage is under the {least} per cent asked for"])


@pytest.mark.slow
def test_workers_find_the_same(run, pytester):
    run("--harness-controls", "--harness-mutate", "--harness-coverage")
    alone = report(pytester)[0]
    run("--harness-controls", "--harness-mutate", "--harness-coverage", "-n", "2")
    spread = report(pytester)[0]
    for body in (alone, spread):
        body.pop("command")
        for claim in body["claims"]:
            claim.pop("seconds")
    assert alone == spread
