"""The same answer: by fresh processes, in any order, batch, number of threads, by either engine, on another device.

Shipped claims of every verb are judged again and again. Verdicts, counts and texts are the same ones; numbers that are
no counts differ by at most 1e-5, absolute or relative, whichever allows more. What says how a claim was judged (the
engine, the device, the options, the seconds) is left out of this. Two equal runs write the same bytes, apart from the
seconds. The other device is no GPU: it is the CPU as a device of its own, which refuses tensors of the CPU among its
own as CUDA does, and rounds otherwise.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import second_device
import torch
import transformer_lens.model_bridge  # noqa: F401 - so that the fork server has it already
from forked import in_child, run_in_child
from paths import HYPOTHESES, ROOT

from harness.base.own_code import allow_code
from harness.judging.bench import Workbench
from harness.judging.evaluation import gather, judge
from harness.judging.records import ordered, record_of
from harness.models import fixtures
from harness.reporting.report import to_json
from harness.specs.spec_files import load_file

pytestmark = pytest.mark.usefixtures("server")

TOLERANCE = 1e-5
HOW = {"seconds", "engine", "device", "options"}  # keys of a record that tell how it was made
FEW = {
    "add_d5_l2_h3/part14a.yaml": "D4|S11L0H2",
    "add_d5_l2_h3/attention.yaml": "sums-S12",
    "add_d5_l2_h3/interchange.yaml": "published-pair",
    "add_d5_l2_h3/sufficiency.yaml": "29-heads",
    "quick/comparisons.yaml": "units-are|cascades-of-2",
    "universal/layers.yaml": "ba-no-head",
    "signed_mixed_s0/mixed.yaml": "sign-comes|without-the-operation",
    "induction_gpt2_s0/induction.yaml": "at0|induction-heads",
}  # which claims of a file: those in whose ids this is found
QUICK = {
    "add_d5_l2_h3/part14a.yaml": "D4",
    "add_d5_l2_h3/interchange.yaml": "published-pair",
    "quick/comparisons.yaml": "units-are",
    "induction_gpt2_s0/induction.yaml": "induction-heads",
}
MORE = {
    **dict.fromkeys(FEW, ""),
    "add_d5_l2_h3/cases.yaml": "",
    "quick/comparisons.yaml": "units-are|first|top|with-cascades|help",
    "universal/layers.yaml": "ba-|uc1-",
}


SELECTED = {"QUICK": QUICK, "FEW": FEW, "MORE": MORE}


def claims_of(selected):
    """Return the selected claims, in the order of the files."""
    return [
        claim
        for file, ids in selected.items()
        for claim in load_file((HYPOTHESES / file).relative_to(ROOT), Path("fixtures"))
        if re.search(ids, claim.id)
    ]


def judge_all(out, log, selected, threads, seed, engine, chunk, device):
    """Judge the claims, shuffled if there is a seed, and write the JSON report; runs in a child."""
    in_child(log)
    torch.set_num_threads(threads)
    os.chdir(ROOT)
    allow_code()
    if device is not None:
        second_device.start_device(**device)
        fixtures.resolve_device = torch.device  # a user has the CPU and GPUs to choose from
    claims = claims_of(SELECTED[selected])
    if seed is not None:
        random.Random(seed).shuffle(claims)
    bench = Workbench(second_device.DEVICE if device else "cpu", engine, chunk)
    gather(claims, bench)
    out.write_text(to_json(ordered([record_of(judge(claim, bench)) for claim in claims])), "utf-8")


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Return a function that judges claims in a fresh process and returns the JSON report."""
    place = tmp_path_factory.mktemp("judged")

    def run(selected, threads=1, seed=None, engine="auto", chunk=None, device=None):
        out, log = place / "out.json", place / "log"
        log.touch()
        code = run_in_child(judge_all, out, log, selected, threads, seed, engine, chunk, device)
        assert code == 0, log.read_text("utf-8")
        return out.read_text("utf-8")

    return run


@pytest.fixture(scope="module")
def expected(judged):
    """Return a function that returns the report of selected claims, judged once, as usual."""
    return lru_cache(judged)


def without_times(text):
    """Return a JSON report without the seconds, and how many there were."""
    return re.subn(r'("seconds": )[-+.e0-9]+', r"\1-", text)


def largest_difference(one, other, where=""):
    """Return by how much two records differ at most where they may; elsewhere they do not."""
    if isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE), (where, one, other)
        return abs(one - other) / max(1.0, abs(one))
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() - HOW == other.keys() - HOW, where
        return max((largest_difference(one[k], other[k], f"{where}.{k}") for k in one.keys() - HOW), default=0)
    if isinstance(one, list):
        assert len(one) == len(other), where
        return max((largest_difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True))), default=0)  # fmt: skip
    assert one == other, where
    return 0


def differ(one, other):
    """Return by how much two reports of the same claims differ at most."""
    found, expected = ({claim["key"]: claim for claim in json.loads(text)["claims"]} for text in (one, other))
    assert expected
    return largest_difference(found, expected)


def test_the_claims_are_of_every_verb(monkeypatch):
    monkeypatch.chdir(ROOT)
    verbs = {claim.verb for claim in claims_of(FEW)}  # MORE has all of these
    assert verbs == {"ablate", "keep", "patch", "attend", "answer", "learn", "across"}


def test_a_difference_is_noticed():
    text = json.dumps({"n": 3, "loss": 2.0, "verdict": "supported", "seconds": 1.5})
    record = json.loads(text)
    assert largest_difference(record, record | {"loss": 2.00001, "seconds": 9}) == pytest.approx(5e-6)
    for change in ({"n": 4}, {"loss": 2.0001}, {"verdict": "refuted"}, {"loss": None}, {"n": 3.0}, {"more": 1}):
        with pytest.raises(AssertionError):
            largest_difference(record, record | change)
    assert without_times(text) == (text.replace("1.5", "-"), 1)


WAYS = {
    "in another order": {"seed": 0},
    "all questions in one batch": {"chunk": 10**6},
    "batches of 64 questions": {"chunk": 64},
    "batches of 7 questions": {"chunk": 7},
    "two threads": {"threads": 2},
}
WAYS_OF_FEW = {
    "batches of 1 question": {"chunk": 1},
    "the reference engine": {"engine": "hooks"},
    "the reference engine, in another order, batches of 64 questions, two threads":
        {"engine": "hooks", "chunk": 64, "seed": 1, "threads": 2},
}  # fmt: skip
AT_ONCE = {"another order, batches of 64 questions, two threads": {"chunk": 64, "seed": 2, "threads": 2}}


def test_whichever_way_claims_are_judged(judged, expected, many, figure):
    for name, ways in many({"FEW": WAYS_OF_FEW, "MORE": WAYS}, {"QUICK": AT_ONCE}).items():
        usual = expected(name)
        n = len(json.loads(usual)["claims"])
        for way, options in ways.items():
            largest = differ(judged(name, **options), usual)
            figure(f"claims of every verb: {way}", n, n, f"floats within {largest:.0e}")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return the compiled second device."""
    if second_device.COMPILER is None:
        pytest.skip("no C++ compiler here")
    out = tmp_path_factory.mktemp("device") / "second_device.so"
    second_device.compile_device(out)
    return out


def test_on_a_device_that_rounds_otherwise(judged, expected, compiled, many, figure):
    for name, engine in many([("MORE", "auto"), ("FEW", "hooks")], [("QUICK", "auto")]):
        n = len(json.loads(expected(name))["claims"])
        there = judged(name, engine=engine, device={"compiled": compiled, "ulps": 2})
        largest = differ(there, expected(name))
        assert {claim["device"] for claim in json.loads(there)["claims"]} == {second_device.DEVICE}
        what = f"claims of every verb: another device, engine {engine}"
        figure(what, n, n, f"floats within {largest:.0e}")


def test_a_device_that_rounds_too_much_is_noticed(judged, expected, compiled):
    there = judged("QUICK", device={"compiled": compiled, "tf32": True})
    with pytest.raises(AssertionError):
        differ(there, expected("QUICK"))


def test_what_is_on_the_wrong_device_is_refused(judged, compiled, tmp_path):
    log = tmp_path / "log"
    log.touch()
    assert run_in_child(mix_devices, log, compiled) == 0, log.read_text("utf-8")


def mix_devices(log, compiled):
    """Give operators a tensor of the CPU among those of the second device; runs in a child."""
    in_child(log)
    second_device.start_device(compiled)
    here, there = torch.ones(3, 3), torch.ones(3, 3, device=second_device.DEVICE)
    for mixed in (torch.add, torch.mm, lambda a, b: torch.cat([a, b]), lambda a, b: torch.where(a > 0, a, b)):
        mixed(there, there)
        for both in ((there, here), (here, there)):
            with pytest.raises(RuntimeError, match=r"second:0"):
                mixed(*both)


def test_fresh_processes_write_the_same_bytes(judged, expected, many, figure):
    name = many("FEW", "QUICK")
    texts = [expected(name), *(judged(name) for _ in range(many(4, 1)))]
    stripped = {without_times(text) for text in texts}
    assert len(stripped) == 1
    n = len(json.loads(texts[0])["claims"])
    assert stripped.pop()[1] >= n
    figure("JSON of equal runs", len(texts), len(texts), f"the same bytes apart from seconds, {n} claims each")


def run_pytest(report, workers):
    """Run pytest itself over the claims, with as many workers, and return the JSON report."""
    selected = [claim.key for claim in claims_of(FEW)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "GITHUB", "CI"))}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", *selected, f"-n{workers}", f"--harness-report={report}"]
    told = subprocess.run(
        [*command, "--harness-device=cpu", "-p", "no:cacheprovider"], cwd=ROOT, env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout
    return report.read_text("utf-8")


def test_with_workers_and_without(expected, tmp_path, many, figure, monkeypatch):
    if not many(True, False):
        pytest.skip("`make reliability` starts pytest four times; test_plugin.py compares workers with none, too")
    monkeypatch.chdir(ROOT)
    usual = expected("FEW")
    n, report = len(json.loads(usual)["claims"]), tmp_path / "report.json"
    for workers in (0, 2):
        texts = [run_pytest(report, workers) for _ in range(2)]
        assert len(set(map(without_times, texts))) == 1
        largest = max(differ(text, usual) for text in texts)
        figure(f"claims of every verb: pytest -n {workers}", 2 * n, 2 * n, f"floats within {largest:.0e}")
