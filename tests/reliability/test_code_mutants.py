"""Code mutants: would the tests notice a change of the code?

`make code-mutants` changes seven modules at a seeded sample of the places where mutmut can, one change at a time, and runs
their tests; what came of it stands in `tests/reliability/code_mutants.json`. Those that no test notices are in
`tests/reliability/code-mutants.md`, each with a reason.
"""

from __future__ import annotations

import json
import re

import code_mutants
import pytest
from paths import ROOT

RESULTS = json.loads(code_mutants.RESULTS.read_text("utf-8"))
MODULES = RESULTS["modules"]
EXPLAINED = (ROOT / "tests" / "reliability" / "code-mutants.md").read_text("utf-8")


def killed(found):
    return found["tried"] - len(found["survivors"])


@pytest.mark.parametrize("module", code_mutants.TESTS)
def test_the_mutants_of_a_module(module, figure):
    found = MODULES[module]
    assert found["tried"] == sum(found["came out"].values())
    tests = ", ".join(f"{name}.py" for name in code_mutants.TESTS[module])
    shown = f"of {found['mutants']:,} possible; {tests}; mutmut {RESULTS['mutmut']}, {found['date']}"
    figure(f"mutants of `{module}`, killed", found["tried"], killed(found), shown)


def test_nine_of_ten_are_killed():
    tried = sum(found["tried"] for found in MODULES.values())
    assert tried == code_mutants.SAMPLE
    assert sum(map(killed, MODULES.values())) >= 0.9 * tried


@pytest.mark.parametrize("module", code_mutants.TESTS)
def test_each_survivor_is_explained(module):
    missing = ["\n".join(lines) for lines in MODULES[module]["survivors"].values() if "\n".join(lines) not in EXPLAINED]
    assert missing == []


def test_nothing_is_explained_that_did_not_survive():
    alive = {"\n".join(lines) for module in MODULES.values() for lines in module["survivors"].values()}
    told = re.findall(r"^```diff\n(.*?)\n```$", EXPLAINED, re.M | re.S)
    assert told
    assert set(told) <= alive


def test_a_decorator_moves_without_a_change_of_meaning():
    found = code_mutants.undecorated("@torch.inference_mode()\ndef f(x):\n    return x\n\n\ndef g(x):\n    return x\n")
    assert found == "def f(x):\n    return x\n\n\ndef g(x):\n    return x\n\n\nf = torch.inference_mode()(f)\n"
    assert code_mutants.undecorated("def g():\n    pass\n") == "def g():\n    pass\n"
