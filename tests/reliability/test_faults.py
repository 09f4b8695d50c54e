"""Faults: killed, out of space, refused, crowded.

Processes are sent signals in the midst of training, of an import, and of writing a report: at a file operation drawn
at random, or a few milliseconds after it. Each then ends as the signal has it, or is done; every file is whole, the
old one or the new; there is at most one temporary thing; and the next run removes that and comes to its end.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import tiny
import transformer_lens.model_bridge  # noqa: F401 - so that the fork server has it already
from forked import PATIENCE, PROCESSES, do, parts, run_in_child, run_program, run_until
from paths import ROOT
from tiny import contents, recipe_text, write_tiny

from harness.base.files import TURN, write_in_turn
from harness.models.fixtures import load_fixture
from harness.models.storage import serialise
from harness.reporting.summary import summary_line
from harness.specs.fixtures.files import CHECKPOINT, CURVES, PIN, RECIPE, WEIGHTS, FixtureRef, recipe_of

DIED = "a worker that died while it judged this"
SIZES = {"n_digits": 1, "n_layers": 1, "steps": 30}
SIGNALS = {"SIGKILL": {-signal.SIGKILL}, "SIGTERM": {-signal.SIGTERM}, "SIGINT": {130, 2}}
CLAIM = """\
  - id: claim-{n}
    claim: Zeroing a head leaves a loss.
    ablate: S3L0H0
    method: zero
    questions: [{n}+2, 3+4]
    gate: 0
    expect: {{fails: [], may_fail: [A1, A0], loss_above: 1.0e-9}}
"""

pytestmark = pytest.mark.usefixtures("one_thread", "server")


# What is done, what it leaves, and what the next run makes of that.


class Train:
    """`harness train --fresh` of a fixture that was trained before."""

    command = ("harness", ["train", "tiny", "--fresh", "--device=cpu"])
    files = 5  # that it writes, or more: checkpoints, then recipe, card, weights, …

    def __init__(self, project):
        self.directory = project / "fixtures" / "tiny"
        self.directory.mkdir(parents=True)
        (self.directory / RECIPE).write_text(recipe_text(**SIZES), "utf-8")

    def prepare(self, log):
        assert run_in_child(run_program, *self.command, self.directory.parent.parent, log) == 0
        self.new = contents(self.directory)
        older = tiny.random_weights(recipe_of(FixtureRef("tiny", self.directory.parent)))
        tiny.pin_bytes(self.directory, serialise(older))
        (self.directory / CURVES).write_bytes(b"old")
        self.old = contents(self.directory)

    def assert_whole(self, done):
        left = contents(self.directory)
        waiting = parts(self.directory)
        assert left.keys() <= self.old.keys() | {CHECKPOINT, *waiting}
        told_of = {"README.md", PIN}  # they tell the time that it took
        for name in self.old.keys() - told_of:
            assert left[name] in (self.old[name], self.new[name])
        if PIN in left:
            assert load_fixture("tiny", self.directory.parent, "cpu").weights_sha256 in left[PIN].decode()
        if PIN in left and left[PIN] == self.old[PIN]:
            assert left.items() >= self.old.items()
        if done:
            assert left[WEIGHTS] == self.new[WEIGHTS]
        return left

    def go_on(self, left):
        how = "--resume" if CHECKPOINT in left else "--fresh"
        return ("harness", ["train", "tiny", how, "--device=cpu"])

    def assert_done(self):
        left = contents(self.directory)
        assert left.keys() == self.new.keys()
        for name in left.keys() - {"README.md", PIN}:
            assert left[name] == self.new[name]


class Import:
    """`harness import` of a checkpoint."""

    command = (
        "harness", ["import", "old.pth", "--recipe=recipe.yaml", "--name=tiny", "--device=cpu"],
    )  # fmt: skip
    files = 4  # recipe, card, weights, pin

    def __init__(self, project):
        self.directory = project / "fixtures" / "tiny"
        project.mkdir()
        (project / "recipe.yaml").write_text(recipe_text(**SIZES), "utf-8")
        tiny.save_checkpoint(project / "old.pth", tiny.random_weights(tiny.make_recipe(**SIZES)))

    def prepare(self, log):
        assert run_in_child(run_program, *self.command, self.directory.parent.parent, log) == 0
        self.new = contents(self.directory)
        shutil.rmtree(self.directory)

    def assert_whole(self, done):
        left = contents(self.directory)
        waiting = parts(self.directory)
        assert {name: raw for name, raw in left.items() if name not in waiting}.items() <= self.new.items()
        if PIN in left:
            assert left.items() >= self.new.items()
            load_fixture("tiny", self.directory.parent, "cpu")
        assert PIN in left or not done
        return left

    def go_on(self, left):
        return None if PIN in left else self.command

    def assert_done(self):
        assert contents(self.directory) == self.new


class Report:
    """`pytest` over claims, one more than the report knows of that is there."""

    command = ("pytest", ["claims", "--harness-device=cpu", "--harness-report=reports", "--harness-html=reports", "-q"])
    files = 3  # Markdown, JSON, page

    def __init__(self, project):
        self.directory = project / "reports"
        write_tiny(project / "fixtures", "small", n_digits=1, n_layers=1)
        (project / "claims").mkdir()
        (project / "pytest.ini").write_text("[pytest]\nharness_paths = claims\n", "utf-8")
        self.spec = project / "claims" / "small.yaml"
        self.directory.mkdir()

    def write_spec(self, claims):
        text = "".join(CLAIM.format(n=n) for n in range(claims))
        self.spec.write_text(f"version: 1\nfixture: small\nhypotheses:\n{text}", "utf-8")

    def prepare(self, log):
        self.write_spec(2)
        assert run_in_child(run_program, *self.command, self.directory.parent, log) == 0
        self.old = contents(self.directory)
        self.write_spec(3)

    def assert_whole(self, done):
        left = contents(self.directory)
        waiting = parts(self.directory)
        assert left.keys() == self.old.keys() | waiting.keys()
        body = json.loads(left["hypotheses.json"])
        assert body["summary"] == Counter(claim["verdict"] for claim in body["claims"])
        assert len(body["claims"]) + len(body["unreached"]) == (
            2 if left["hypotheses.json"] == self.old["hypotheses.json"] else 3
        )
        text = left["hypotheses.md"].decode()
        assert text.startswith("# Claims\n")
        assert text.endswith("</details>\n")
        assert left["index.html"].decode().rstrip().endswith("</html>")
        if done:
            assert_one_run(self.directory)
            assert len(body["claims"]) == 3
        return left

    def go_on(self, left):
        return self.command

    def assert_done(self):
        assert contents(self.directory).keys() == self.old.keys()
        assert len(assert_one_run(self.directory)["claims"]) == 3


def assert_one_run(directory):
    """Both reports are of one run, and count alike."""
    body = json.loads((directory / "hypotheses.json").read_text("utf-8"))
    assert body["summary"] == Counter(claim["verdict"] for claim in body["claims"])
    told = f"`{body['command']}`: {summary_line(body['claims'])}."
    assert told in (directory / "hypotheses.md").read_text("utf-8").splitlines()
    return body


@pytest.fixture(scope="module", params=[Train, Import, Report], ids=lambda kind: kind.__name__)
def prepared(request, tmp_path_factory):
    """What is done, in a project of which there is a copy to begin with, and how many writes it takes."""
    place = tmp_path_factory.mktemp("faults")
    doing = request.param(place / "project")
    doing.prepare(place / "log")
    shutil.copytree(place / "project", place / "before")
    counted = PROCESSES.RawValue("q", 0)
    assert run_in_child(run_until, 0, 0, 0, counted, *doing.command, place / "project", place / "log") == 0
    return SimpleNamespace(doing=doing, place=place, writes=counted.value)


def start_over(place):
    """Bring a project back to its beginning, and return where it and its log are."""
    shutil.rmtree(place / "project")
    shutil.copytree(place / "before", place / "project")
    return place / "project", place / "log"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_a_random_moment(prepared, many, figure, number):
    doing, rng = prepared.doing, random.Random(f"{prepared.doing.__doc__} {number}")
    tried, ended = many(20, 2), Counter()
    counted = PROCESSES.RawValue("q", 0)
    for time in range(tried):
        project, log = start_over(prepared.place)
        counted.value = 0
        # The later half of the writes are those that put things in place.
        moment = rng.randint(1, prepared.writes) if time % 2 else rng.randint(prepared.writes // 2, prepared.writes)
        delay = rng.choice([0, 0, 0.001, 0.005, 0.02])
        code = run_in_child(run_until, getattr(signal, number), moment, delay, counted, *doing.command, project, log)
        ended[code] += 1
        assert code in SIGNALS[number] | {0}, log.read_text("utf-8")
        left = doing.assert_whole(done=code == 0)
        if program := doing.go_on(left):
            assert run_in_child(run_program, *program, project, log) == 0, log.read_text("utf-8")
        assert not parts(doing.directory)
        doing.assert_done()
    assert ended.total() > ended[0]  # some were hit
    how = ", ".join(f"{n} exit code {code}" if code >= 0 else f"{n} killed" for code, n in sorted(ended.items()))
    figure(f"{number} in {doing.__doc__}", tried, tried, how)


# Files that cannot be written.


def obey_permissions():
    """Take from this process, which is root's, the rights to disregard permissions."""
    libc = ctypes.CDLL(None)
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, rights) == 0
    rights[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of the effective ones
    assert libc.capset(header, rights) == 0


def refuse_writing(kind, after, *program):
    """Run a program where from its `after`-th write on nothing can be written, or everything but a little."""
    if kind == "full disk":
        written = []

        def fsync(descriptor):
            written.append(descriptor)
            if len(written) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        os.fsync = fsync
    elif kind == "file too large":  # by the system itself
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    else:  # by the system itself
        directory = program[2] / "reports" if program[0] == "pytest" else program[2] / "fixtures"
        for path in [directory, *directory.glob("*/")]:
            path.chmod(0o555)
        if os.getuid() == 0:
            obey_permissions()
    sys.exit(do(*program))


REFUSED = {
    "full disk": "No space left on device", "file too large": "File too large", "read-only directory": "Permission denied",
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_cannot_be_written(prepared, many, figure, kind):
    doing = prepared.doing
    tried = many(doing.files, 1) if kind == "full disk" else 1
    for after in range(tried):
        project, log = start_over(prepared.place)
        log.write_text("", "utf-8")
        code = run_in_child(refuse_writing, kind, after, *doing.command, project, log)
        said = log.read_text("utf-8")
        assert code == 2, said
        assert REFUSED[kind] in said
        assert "Traceback" not in said
        for path in [doing.directory, doing.directory.parent]:
            if path.exists():
                path.chmod(0o755)
        assert not parts(doing.directory)
        left = doing.assert_whole(done=False)
        if program := doing.go_on(left):
            assert run_in_child(run_program, *program, project, log) == 0, log.read_text("utf-8")
        doing.assert_done()
    figure(f"{kind} in {doing.__doc__}", tried, tried, f"exit code 2: {REFUSED[kind]}")


# Several at once.


def report_often(directory, number, times):
    """Write the reports of a run, again and again; which run's they are is in both."""
    for time in range(times):
        text = f"{number} {time}".encode() * 2000
        write_in_turn({directory / "hypotheses.md": text, directory / "hypotheses.json": text})


def test_reports_of_several_processes_at_once_are_of_one(tmp_path, many, figure):
    tried = many(4 * 100, 4 * 15)
    writers = [PROCESSES.Process(target=report_often, args=(tmp_path, n, tried // 4)) for n in range(4)]
    for writer in writers:
        writer.start()
    looks = 0
    while any(writer.is_alive() for writer in writers):
        for path in tmp_path.glob("hypotheses.*"):
            half = path.read_bytes()
            assert half == half[: len(half) // 2000] * 2000
            looks += 1
    for writer in writers:
        writer.join(PATIENCE)
        assert writer.exitcode == 0
    left = contents(tmp_path)
    assert left.keys() == {"hypotheses.md", "hypotheses.json", TURN}
    assert left["hypotheses.md"] == left["hypotheses.json"]
    figure("reports written by four processes at once into one directory", tried, tried, "seen whole at every look")


def test_two_pytest_runs_at_once_leave_the_reports_of_one(tmp_path, many, figure):
    doing = Report(tmp_path / "project")
    doing.write_spec(3)
    project, tried = tmp_path / "project", many(20, 2)
    for _ in range(tried):
        runs = [
            PROCESSES.Process(
                target=run_program, args=("pytest", [*doing.command[1], *select], project, tmp_path / f"log{select}")
            )
            for select in (["-k", "claim-0"], ["-k", "claim-1 or claim-2"])
        ]  # fmt: skip
        for run in runs:
            run.start()
        for run in runs:
            run.join(PATIENCE)
            assert run.exitcode == 0
        assert len(assert_one_run(doing.directory)["claims"]) in (1, 2)
        assert contents(doing.directory).keys() == {"hypotheses.md", "hypotheses.json", "index.html", TURN}
    figure("two pytest runs at once in one project", tried, tried, "Markdown and JSON are of the same run")


# A worker that dies.

KILLS = """
import os, signal, time, pytest

def die(item, phase):
    if item.nodeid == os.environ["DIES_AT"] and os.environ["DIES_IN"] == phase:
        time.sleep(float(os.environ["DIES_AFTER"]))
        os.kill(os.getpid(), signal.SIGKILL)

def pytest_runtest_setup(item):
    die(item, "setup")

def pytest_runtest_call(item):
    die(item, "call")

@pytest.hookimpl(trylast=True)
def pytest_handlecrashitem():
    if os.environ["STOPS"]:
        raise KeyboardInterrupt
"""


def run_with_workers(project, victim, phase, after, *arguments, stops=""):
    """Run two workers, of which every one that comes to the victim dies there; return the exit code and the output.

    If it `stops`, somebody presses Ctrl-C as soon as one has died.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "GITHUB", "CI"))}
    environment |= {"DIES_AT": victim, "DIES_IN": phase, "DIES_AFTER": after, "STOPS": stops}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "harness.plugin", "-p", "no:cacheprovider", "claims", "-n2"]
    told = subprocess.run(
        [*command, "--harness-device=cpu", *arguments], cwd=project, env=environment, text=True, capture_output=True,
        check=False, timeout=PATIENCE,
    )  # fmt: skip
    return told.returncode, told.stdout


@pytest.fixture
def deadly(tmp_path):
    """A project with three files of three claims, at one of which a worker dies."""
    doing = Report(tmp_path / "project")
    doing.write_spec(3)
    shutil.copyfile(doing.spec, doing.spec.with_name("other.yaml"))
    shutil.copyfile(doing.spec, doing.spec.with_name("third.yaml"))
    (tmp_path / "project" / "conftest.py").write_text(KILLS, "utf-8")
    every = [f"claims/{name}.yaml::claim-{n}" for name in ("other", "small", "third") for n in range(3)]
    return SimpleNamespace(project=tmp_path / "project", reports=doing.directory, every=every)


def test_a_worker_that_dies(deadly, many, figure):
    project, every = deadly.project, deadly.every
    cases = [
        (victim, phase, after, how)
        for after in ["0", "2"]  # seconds; in two, the other worker has done all that it was given
        for how in ([], ["--max-worker-restart=0"], ["--dist=loadscope", "--max-worker-restart=1"])
        for victim, phase in zip(every, ["setup", "call"] * 5, strict=False)
    ]
    rng = random.Random(0)
    tried = many(10, 1)
    for victim, phase, after, how in [(every[1], "setup", "2", []), *rng.sample(cases, tried - 1)]:
        code, said = run_with_workers(project, victim, phase, after, *how)
        assert code == 2, said
        body = assert_one_run(deadly.reports)
        assert [claim["key"] for claim in body["claims"]] == every
        verdicts = {claim["key"]: claim["verdict"] for claim in body["claims"]}
        assert verdicts[victim] == "error"
        (problem,) = body["claims"][every.index(victim)]["problems"]
        assert (
            problem == f"{victim}: expected a verdict, found {DIED}; look at its memory, and run the claim without -n"
        )
        assert problem in said
        if not how:  # the others are judged by whoever takes its place
            assert [key for key in every if verdicts[key] == "error"] == [victim]
    figure(
        "a worker that dies under xdist", tried, tried, "every claim is in the report, what had no verdict as an error"
    )


def test_a_run_that_is_stopped_blames_a_dead_worker_for_one_claim(deadly):
    victim = deadly.every[0]
    code, said = run_with_workers(deadly.project, victim, "setup", "0", stops="yes")
    assert code == 2, said
    body = assert_one_run(deadly.reports)
    assert [claim["key"] for claim in body["claims"] if claim["verdict"] == "error"] == [victim]
    assert len(body["unreached"]) >= 5  # of the nine, the other worker has judged three at most
    assert {claim["key"] for claim in body["claims"]} | set(body["unreached"]) == set(deadly.every)
    assert f"no verdict on {len(body['unreached'])} more, as the run was stopped" in said
