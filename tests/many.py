"""A project of several small fixtures, and claims of every outcome about one, each or some of them."""

from __future__ import annotations

import json

import tiny

from harness.specs.fixtures.files import WEIGHTS

MODELS = ("s0", "s1", "s2")
HUB = {"repo": "somebody/adds", "file": "old.pth"}
ABLATE = """
  - id: {}
    claim: Zeroing a head leaves a loss.
    ablate: S5L0H0
    method: zero
    questions: {{n: 60, seed: 3}}
    gate: 0
    expect: {{fails: [], may_fail: [A2, A1, A0], {}}}
"""
TOGETHER = """
  - id: each-{2}
    claim: Zeroing a head leaves a loss in these runs.
    fixtures: {0}
    ablate: S5L0H0
    method: zero
    questions: {{n: 60, seed: 3}}
    gate: 0
    expect: {{fails: [], may_fail: [A2, A1, A0], loss_above: 1.0e-9, at_least: {1}}}
  - id: compared-{2}
    claim: Models with random weights add.
    fixtures: {0}
    answer: whole
    questions: {{n: 200, seed: 3}}
    expect: {{accuracy_at_least: 0.9}}
"""
XFAIL = "    xfail: {reason: it is so}\n"
HOLDS, FAILS = "loss_above: 1.0e-9", "loss_below: 0.5"
SPECS = {
    "alone": ("s0", ABLATE.format("holds", HOLDS) + ABLATE.format("fails", FAILS)),
    "known": ("s1", ABLATE.format("known", FAILS) + XFAIL + ABLATE.format("known-but-holds", HOLDS) + XFAIL),
    "together": ("s0", TOGETHER.format('"s*"', "3/3", "all") + TOGETHER.format("[s1, s0]", "1/2", "two")),
    "untrained": ("bare", ABLATE.format("a", HOLDS) + ABLATE.format("b", HOLDS)),
    "published": ("published", ABLATE.format("not-here", HOLDS)),
    "some": (
        "s0", TOGETHER.format("[s2, altered]", "1/2", "altered") + TOGETHER.format("[s1, published]", "1/2", "published")
    ),
}  # fmt: skip
# What is known of the claims without judging them; in everything else, two ways of judging them must agree.
STATUSES = {
    "holds": "passed", "fails": "failed", "known": "xfailed", "known-but-holds": "xpassed",
    "each-all": "passed", "compared-all": "failed", "each-two": "passed", "compared-two": "failed",
    "a": "error", "b": "error", "not-here": "skipped", "each-altered": "error", "compared-altered": "error",
    "each-published": "skipped", "compared-published": "skipped",
}  # fmt: skip


def write_project(root):
    """Write the project's fixtures and hypotheses below `root`."""
    fixtures = root / "fixtures"
    for seed, name in enumerate((*MODELS, "altered")):
        tiny.write_tiny(fixtures, name, weights=tiny.random_weights(tiny.make_recipe(), seed))
    (fixtures / "altered" / WEIGHTS).write_bytes((fixtures / "s0" / WEIGHTS).read_bytes())
    for name, fields in (("bare", {}), ("published", {"hub": HUB})):
        (fixtures / name).mkdir()
        (fixtures / name / "recipe.yaml").write_text(tiny.recipe_text(**fields), "utf-8")
    (root / "hypotheses").mkdir()
    for name, (fixture, claims) in SPECS.items():
        text = f"version: 1\nfixture: {fixture}\nhypotheses:{claims}"
        (root / "hypotheses" / f"{name}.yaml").write_text(text, "utf-8")
    (root / "hypotheses" / "bad.yaml").write_text("x: [", "utf-8")
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\nharness_paths = ["hypotheses"]\n', "utf-8")


def report(path):
    """Return a JSON report without what differs between runs: seconds, and the command."""

    def timeless(value):
        if isinstance(value, dict):
            return {key: timeless(inner) for key, inner in value.items() if key != "seconds"}
        return [timeless(inner) for inner in value] if isinstance(value, list) else value

    found = timeless(json.loads(path.read_text("utf-8")))
    del found["command"]
    return found
