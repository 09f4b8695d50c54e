"""Which GPU a worker of xdist sees; no GPU is needed to say."""

from __future__ import annotations

import json
import os
import sys

import pytest
from paths import ROOT

from harness.plugin.gpus import gpu_of, visible_gpus
from harness.plugin.hooks import pytest_configure

TWO_GPUS = "GPU 0: NVIDIA H100 (UUID: GPU-3c0e)\n  MIG 1g.10gb Device 0: (UUID: MIG-9f1d)\nGPU 1: NVIDIA H100 (UUID: GPU-77ab)\n"


@pytest.mark.parametrize(
    ("worker", "gpus", "its"),
    [
        ("gw0", ["0", "1"], "0"), ("gw1", ["0", "1"], "1"), ("gw2", ["0", "1"], "0"), ("gw7", ["0", "1", "2"], "1"),
        ("gw11", ["0", "1"], "1"), ("gw1", ["5"], "5"), ("gw1", ["GPU-3c0e", "GPU-77ab"], "GPU-77ab"),
        ("gw0", [], None), ("master", ["0", "1"], None), ("popen1", ["0", "1"], None),
    ],
)  # fmt: skip
def test_workers_go_round_the_gpus(worker, gpus, its):
    assert gpu_of(worker, gpus) == its


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("2,3", ["2", "3"]), ("3, 0", ["3", "0"]), ("GPU-3c0e,GPU-77ab", ["GPU-3c0e", "GPU-77ab"]), ("MIG-9f1d", ["MIG-9f1d"]),
        ("", []), ("-1", []), ("0,-1,1", ["0"]),
    ],
)  # fmt: skip
def test_what_the_user_lets_be_seen_is_what_is_shared_out(listed, gpus):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": listed}) == gpus


def driver(directory, monkeypatch, script):
    """Have a command of the driver's name alone on the path."""
    directory.mkdir()
    (directory / "nvidia-smi").write_text(f"#!{sys.executable}\n{script}", "utf-8")
    (directory / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_where_nothing_is_said_all_gpus_of_the_machine_are(tmp_path, monkeypatch):
    driver(tmp_path / "bin", monkeypatch, f"import sys\nprint({TWO_GPUS!r} if sys.argv[1:] == ['--list-gpus'] else '')")
    assert visible_gpus({}) == ["0", "1"]


@pytest.mark.parametrize("script", ["raise SystemExit(9)", "print('No devices were found')"])
def test_a_driver_that_finds_none_has_none(tmp_path, monkeypatch, script):
    driver(tmp_path / "bin", monkeypatch, script)
    assert visible_gpus({}) == []


def test_a_machine_without_a_driver_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == []


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with two tests of its own and a spec that is refused: so nothing is measured, on whatever is here."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider -p harness.plugin\n")
    pytester.makepyfile(test_own="def test_own(): pass")
    pytester.mkdir("claims").joinpath("bad.yaml").write_text("version: 1\n", "utf-8")
    return pytester


@pytest.mark.parametrize(
    ("arguments", "its"),
    [
        (["claims"], "6"), (["claims", "--harness-device=cuda"], "6"), ([], "6"),
        (["claims", "--harness-device=cuda:1"], "4,6"), (["claims", "--harness-device=cpu"], "4,6"), (["test_own.py"], "4,6"),
    ],
)  # fmt: skip
def test_only_a_worker_that_has_claims_to_judge_on_any_gpu_takes_one(project, arguments, its):
    config = project.parseconfig(*arguments)
    config.workerinput = {"workerid": "gw1"}
    pytest_configure(config)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == its


def test_on_a_machine_without_gpus_nothing_is_set(project, monkeypatch, tmp_path_factory):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))
    config = project.parseconfig("claims")
    config.workerinput = {"workerid": "gw1"}
    pytest_configure(config)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


SEEN = """
import json, os, sys
from pathlib import Path

def pytest_sessionfinish(session):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "none")
    seen = [os.environ.get("CUDA_VISIBLE_DEVICES"), "torch" in sys.modules]
    Path(__file__).with_name(f"{worker}.json").write_text(json.dumps(seen))
"""


@pytest.mark.slow
def test_xdists_workers_take_theirs_before_torch_is_there(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # where these tests run on workers themselves
    project.makeconftest(SEEN)
    project.runpytest_subprocess("-n", "2", "claims")
    seen = {path.stem: json.loads(path.read_text("utf-8")) for path in project.path.glob("*.json")}
    assert seen == {"gw0": ["4", False], "gw1": ["6", False], "none": ["4,6", False]}  # who reports sees them all
