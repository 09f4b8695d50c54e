"""The page that a run of pytest writes, on the model whose inside is known."""

from __future__ import annotations

import json
import re

import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import transformer_lens.model_bridge  # noqa: F401
from planted import RECIPE

import harness.judging.worth.coverage
import harness.reporting.page
from harness.base.errors import HarnessError
from harness.specs.node_sets import all_nodes
from harness.specs.nodes import reach

# As in test_plugin.py: what a run inside this process imports must not be imported twice.

pytestmark = pytest.mark.usefixtures("one_thread")
SUPPORTED = """\
  - id: head-0
    claim: Head 0 at S3 serves A1.
    ablate: S3L0H0
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
  - id: stream
    claim: S4 makes A0.
    ablate: S4
    questions: {n: 1000, seed: 3}
    expect: {fails: [A0]}
"""
REFUTED = """\
  - id: head-2
    claim: Head 2 serves A1.
    ablate: S3L0H2
    questions: {n: 1000, seed: 3}
    expect: {fails: [A1]}
"""


@pytest.fixture
def run(pytester, fixtures, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider\n")
    pytester.mkdir("claims")

    def go(claims, *options, html="out/page.html", inside=True):
        (pytester.path / "claims" / "a.yaml").write_text(
            f"version: 1\nfixture: planted\nhypotheses:\n{claims}", "utf-8"
        )
        options = ("claims/", f"--harness-fixtures={fixtures}", "--harness-device=cpu", *options)
        options += (f"--harness-html={html}",) if html else ()
        if not inside:
            return pytester.runpytest_subprocess(*options, "-p", "harness.plugin")
        return pytester.runpytest(*options)

    return go


def page(pytester, path="out/page.html"):
    return (pytester.path / path).read_text("utf-8")


def cells(html):
    """Return each node of the map, with its classes and what is told of it."""
    found = re.findall(r'<g class="cell ([^"]*)"[^>]*><title>(\w+) ([^<]*)</title>', html)
    return {node: (set(classes.split()), told) for classes, node, told in found}


def test_it_shows_the_claims_of_the_json_report(run, pytester):
    result = run(SUPPORTED + REFUTED, "--harness-controls")
    assert result.ret == 1  # a claim failed, and the page is there all the same
    result.stdout.fnmatch_lines(["wrote reports/hypotheses.json", "wrote out/page.html; its maps took * s"])
    html, body = page(pytester), json.loads(page(pytester, "reports/hypotheses.json"))
    chips = re.findall(r'data-verdict="([^"]*)" aria-pressed="false">.*?<b>(\d+)</b>', html)
    assert {verdict: int(n) for verdict, n in chips} == body["summary"] == {"refuted": 1, "supported": 2}
    assert re.findall(r'<details class="claim" id="claim-claims-a.yaml-([^"]*)"', html) == [
        claim["id"] for claim in body["claims"]
    ]
    assert body["command"] in html
    assert body["claims"][0]["weights"]["planted"] in html
    for claim in body["claims"]:
        for row in claim["comparisons"]:
            assert f"{row['what']}: {row['observed']}" in html
        assert claim["claim"] in html
    assert "- id: head-2\n  claim: Head 2 serves A1.\n" in html
    assert "questions change nothing" in html  # a control


def test_the_map_shows_what_the_weights_do(run, pytester):
    assert run(SUPPORTED).ret == 0
    found = cells(page(pytester))
    shape = RECIPE.shape
    nodes = [node for node in all_nodes(shape) if node.kind != "resid"]
    assert set(found) == set(map(str, nodes))
    assert {name for name, (classes, _) in found.items() if "dead" in classes} == {
        str(node) for node in nodes if not reach([node], shape)
    }
    assert {name for name, (classes, _) in found.items() if "claimed" in classes} == {"S3L0H0"}
    breaking = {name: re.search(r"(A\d) fails", told)[1] for name, (_, told) in found.items() if " fails " in told}
    made_of = {"S3": "A1", "S4": "A0"}  # one head for each addend, and the MLP that knows their sum
    assert breaking == {f"{step}L0{part}": digit for step, digit in made_of.items() for part in ("H0", "H1", "M")}
    assert "named by head-0" in found["S3L0H0"][1]
    assert re.search(r'<g class="step claimed"[^>]*><title>S4L0R\nnamed by stream</title>', page(pytester))


@pytest.mark.slow
def test_one_sweep_serves_the_map_and_the_coverage(run, pytester, monkeypatch):
    asked, real = [], harness.judging.worth.coverage.map_nodes

    def counting(ref, bench, n):
        asked.append((ref.name, n))
        return real(ref, bench, n)

    monkeypatch.setattr(harness.judging.worth.coverage, "map_nodes", counting)
    run(SUPPORTED, "--harness-coverage")
    assert asked == [("planted", 1000)]
    html = page(pytester)
    assert re.search("on 1000 × [^<]*, seed 7007;", html)
    counted = json.loads(page(pytester, "reports/hypotheses.json"))["coverage"]["planted"]["matter"]
    told = {
        name: re.search(r"(A\d) fails (\d+/\d+)", told) for name, (_, told) in cells(html).items() if " fails " in told
    }
    assert {name: f"{match[1]} {match[2]}" for name, match in told.items()} == counted
    run(SUPPORTED)
    assert asked[1:] == [("planted", 300)]
    run(SUPPORTED, html=None)
    assert len(asked) == 2  # who asks for no page waits for none


def test_a_map_that_cannot_be_made_is_said_to_be_missing(run, pytester, monkeypatch):
    def fail(*_):
        raise HarnessError.of("a model", "none", "make one")

    monkeypatch.setattr(harness.judging.worth.coverage, "map_nodes", fail)
    result = run(SUPPORTED)
    assert result.ret == 0
    line = "no map of planted: expected a model, found none; make one"
    result.stdout.fnmatch_lines([line, "wrote out/page.html"])
    assert f"<li>{line}</li>" in page(pytester)
    assert not cells(page(pytester))


def test_bad_specs_alone_make_a_page_too(run, pytester):
    assert run("  x: [").ret == 2
    assert "Specs that could not be read" in page(pytester)


def test_a_directory_gets_an_index_and_a_place_that_cannot_be_written_is_an_error_of_one_line(run, pytester):
    pytester.mkdir("out")
    assert run(SUPPORTED, html="out").ret == 0
    assert "S4 makes A0." in page(pytester, "out/index.html")
    (pytester.path / "file").write_text("in the way", "utf-8")
    result = run(SUPPORTED, html="file/page.html")
    assert result.ret == 2  # it was asked for
    result.stdout.fnmatch_lines(["no page written: *: *; name a file with --harness-html PATH"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert json.loads(page(pytester, "reports/hypotheses.json"))["summary"] == {"supported": 2}


@pytest.mark.slow
def test_two_workers_make_the_same_page(run, pytester):
    run(SUPPORTED + REFUTED)
    alone = page(pytester)
    run(SUPPORTED + REFUTED, "-n", "2")
    spread = page(pytester).replace(" -n 2", "")

    def timeless(html):
        return re.sub(r"\d+\.\d+ s</dd>", "s</dd>", html)

    assert timeless(alone) == timeless(spread)


# Of some instructions Python knows no line, and a Ctrl-C, or a second one, may come at one of those.
AT_A_LINE = "raise KeyboardInterrupt"
AT_NO_LINE = "raise KeyboardInterrupt().with_traceback(types.TracebackType(None, sys._getframe(), 1_000_000, -1))"
TWICE = f"try:\n            {AT_NO_LINE}\n        finally:\n            {AT_A_LINE}"


@pytest.mark.slow
@pytest.mark.parametrize("pressing", [AT_A_LINE, AT_NO_LINE, TWICE], ids=["at a line", "at no line", "twice"])
def test_ctrl_c_writes_what_there_is_and_waits_for_no_map(run, pytester, pressing):
    pytester.makeconftest(
        "import sys, types\n"
        "def pytest_runtest_logreport(report):\n"
        "    if report.when == 'teardown' and 'head-0' in report.nodeid:\n"
        f"        {pressing}\n"
    )
    result = run(SUPPORTED, inside=False)
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*! KeyboardInterrupt !*"])
    result.stdout.fnmatch_lines(["wrote out/page.html"])
    assert "Head 0 at S3 serves A1." in page(pytester)
    assert not cells(page(pytester))
