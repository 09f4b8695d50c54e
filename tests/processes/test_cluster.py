"""Many machines: a Ray cluster of two nodes on this one, whose workers and nodes are killed while they work.

Skipped where Ray is not installed: ``pip install -c constraints.txt -e '.[dev,ray]'``. What is killed is a real process,
and what is run is the command.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import many
import pytest
from paths import FIXTURES, ROOT
from tiny import contents

from harness.specs.fixtures.files import CHECKPOINT, PIN, RECIPE, FixtureRef
from harness.specs.fixtures.pins import read_pin
from harness.training.runs import train_fixture

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mechanistic-harness[ray]'")
psutil = pytest.importorskip("psutil")
Cluster = pytest.importorskip("ray.cluster_utils").Cluster

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
JOBS = {"a", "b", "c", "d", *many.MODELS, "altered", "bare", "published"}  # they are called as their fixtures
PATIENCE = 240  # seconds; only a test that fails waits so long
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
QUICK_TO_NOTICE = {"health_check_period_ms": 500, "health_check_timeout_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": QUICK_TO_NOTICE})
    started.second = started.add_node(**{**NODE, "include_dashboard": None})
    yield started
    started.shutdown()


def start(directory, *arguments):
    """Start the command in a directory, its output in files there."""
    with (directory / "out").open("w") as out, (directory / "err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *arguments], cwd=directory, stdout=out, stderr=err
        )


def finish(command, directory):
    """Wait for the command; return its exit code and what it said."""
    code = command.wait(PATIENCE)
    return code, (directory / "out").read_text("utf-8"), (directory / "err").read_text("utf-8")


def workers(node):
    """Return the node's processes that do a job, by its name, which Ray makes their title; no agents of Ray's own."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    found = {}
    for process in raylet.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            title = process.cmdline()[0]
            job = title.removeprefix("ray::").strip()
            if title.startswith("ray::") and set(job.split()) <= JOBS:
                found[job] = process
    return found


def wait_for(what, command):
    ends = time.monotonic() + PATIENCE
    while not (found := what()):
        assert command.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.02)
    return found


def write_recipes(fixtures, names):
    for seed, name in enumerate(names):
        (fixtures / name).mkdir(parents=True)
        text = (FIXTURES / "tiny" / RECIPE).read_text("utf-8").replace("seed: 1\n", f"seed: {seed}\n")
        text = text.replace("steps: 1000\n", "steps: 400\n")
        (fixtures / name / RECIPE).write_text(text, "utf-8")


def test_training_survives_the_death_of_a_worker_and_of_a_node(cluster, tmp_path):
    """To the same bits as one process alone, without what was finished being done again."""
    names, fixtures = ("a", "b", "c", "d"), tmp_path / "fixtures"
    write_recipes(fixtures, names)
    shutil.copytree(fixtures, tmp_path / "alone")
    command = start(tmp_path, "train", "--all", "--device", "cpu", "--ray", cluster.address)

    def in_training(node):
        found = workers(node).items()
        return [(n, p) for n, p in found if (fixtures / n / CHECKPOINT).exists() and not (fixtures / n / PIN).exists()]

    [(killed, process), *_] = wait_for(lambda: in_training(cluster.head_node), command)
    os.kill(process.pid, signal.SIGKILL)
    finished = wait_for(lambda: [name for name in names if (fixtures / name / PIN).exists()], command)
    before = {name: (contents(fixtures / name), (fixtures / name / PIN).stat().st_mtime_ns) for name in finished}
    [(lost, _), *_] = wait_for(lambda: in_training(cluster.second), command)
    cluster.remove_node(cluster.second, allow_graceful=False)
    code, out, err = finish(command, tmp_path)
    assert code == 0, err
    assert re.fullmatch(r"(fixtures/[a-d]: .*\n.*\n){4}4 of 4 fixtures trained\n", out)
    assert {lost, killed}.isdisjoint(finished)
    for name, (files, stamp) in before.items():
        assert (contents(fixtures / name), (fixtures / name / PIN).stat().st_mtime_ns) == (files, stamp)
    for name in names:
        alone = train_fixture(FixtureRef(name, tmp_path / "alone"), device="cpu").pin
        assert read_pin(FixtureRef(name, fixtures)).weights_sha256 == alone.weights_sha256, name
        assert f"fixtures/{name}: weights sha256 {alone.weights_sha256}" in out
    assert not list(fixtures.glob(".seen-by-all.*"))


def test_the_merged_report_is_that_of_one_machine_also_when_a_worker_and_a_node_die(cluster, tmp_path):
    many.write_project(tmp_path)
    what = ("check", "--all", "--device", "cpu")
    code, _, _ = finish(start(tmp_path, *what, "--report", "alone", "--html", "alone.html"), tmp_path)
    command = start(tmp_path, *what, "--report", "merged", "--html", "merged.html", "--ray", cluster.address)
    _, process = wait_for(lambda: workers(cluster.head_node), command).popitem()
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: workers(cluster.second), command)
    cluster.remove_node(cluster.second, allow_graceful=False)
    merged_code, out, err = finish(command, tmp_path)
    assert merged_code == code == 2, err
    merged = many.report(tmp_path / "merged.json")
    assert {claim["id"]: claim["status"] for claim in merged["claims"]} == many.STATUSES
    assert merged == many.report(tmp_path / "alone.json")
    assert "wrote merged.html; its maps took" in out
    pages = [(tmp_path / f"{name}.html").read_text("utf-8").count("<svg") for name in ("merged", "alone")]
    assert pages[0] == pages[1]
    assert "harness: hypotheses/untrained.yaml::a: expected weights pinned in fixtures/bare/model.json" in err


def test_a_worker_that_dies_every_time_is_an_error_of_its_fixture_alone(cluster, tmp_path):
    many.write_project(tmp_path)
    arguments = ("--device", "cpu", "--ray", cluster.address, "hypotheses/alone.yaml", "hypotheses/known.yaml")
    command = start(tmp_path, "check", "--all", *arguments)
    while command.poll() is None:
        for node in (cluster.head_node, cluster.second):
            if process := workers(node).get("s0"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    code, _, err = finish(command, tmp_path)
    assert code == 2
    statuses = {
        claim["id"]: claim["status"] for claim in many.report(tmp_path / "reports" / "hypotheses.json")["claims"]
    }
    assert statuses == {"holds": "error", "fails": "error", "known": "xfailed", "known-but-holds": "xpassed"}
    assert "harness: hypotheses/alone.yaml::holds: s0: expected a worker that lives to the end, found " in err


def test_a_machine_that_has_another_directory_is_told_apart(cluster, tmp_path, monkeypatch):
    """As if the project were not shared: a worker's directory is a copy, for all that it can see."""
    from harness.base.errors import FixtureError
    from harness.cli.cluster import job_runner

    monkeypatch.chdir(tmp_path)
    (tmp_path / "fixtures").mkdir()
    with job_runner(cluster.address, tmp_path / "fixtures", "cpu") as do:
        assert dict(do({"cwd": os.getcwd})) == {"cwd": str(tmp_path)}
        for witness in (tmp_path / "fixtures").iterdir():
            witness.unlink()
        [(_, found)] = do({"cwd": os.getcwd})
    assert isinstance(found, FixtureError)
    assert str(found) == (
        f"{tmp_path}: expected the project's directory on every machine, found none, or another, on "
        f"{socket.gethostname()}; share it, at the same path"
    )


def test_an_address_where_no_cluster_is_is_told_in_a_line(tmp_path):
    (tmp_path / "fixtures" / "a").mkdir(parents=True)
    shutil.copy(FIXTURES / "tiny" / RECIPE, tmp_path / "fixtures" / "a")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # nobody listens there once it is closed
    for address, found in (
        (f"127.0.0.1:{port}", "Connection refused"),
        ("nonsense", "Invalid address format: nonsense"),
        ("a:b", "Port could not be cast to integer value as 'b'"),
    ):
        code, out, err = finish(start(tmp_path, "train", "--all", "--ray", address), tmp_path)
        line = f"expected a Ray cluster at {address}, found {found}; ray start --head starts one; or name another"
        assert (code, out, err) == (2, "", f"harness: {line}\n")
