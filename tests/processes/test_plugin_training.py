"""What pytest does about weights that are not here: it trains them, says how to, or skips what asks for them."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
import time

import matplotlib as mpl
import matplotlib.backends.backend_agg
import matplotlib.figure
import pandas  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import tiny
import transformer_lens.model_bridge  # noqa: F401
from filelock import FileLock
from tiny import contents, recipe_text, write_tiny

# pytester forgets modules that a run inside this process imports; compiled ones like the above must not be
# imported twice, so they are imported before.
import harness.judging.bench
import harness.judging.records
import harness.training.runs
from harness.cli import main
from harness.specs.fixtures.files import FixtureRef
from harness.specs.fixtures.pins import read_pin
from harness.training.runs import train_fixture

SMALLEST = {"n_digits": 1, "n_layers": 1}
STEPS = 30
HUB = {"repo": "somebody/adds", "file": "old.pth"}
HERE = "expected weights pinned in fixtures/{}/model.json, found no such file; "
TO_TRAIN = HERE.format("small") + "train them: harness train small"
TO_IMPORT = HERE.format("published") + "import them: harness import hub:published"
SAME = """\
  - id: {}
    claim: Zeroing a head leaves a loss.
    ablate: S3L0H0
    method: zero
    questions: [1+2, 3+4]
    gate: 0
    expect: {{fails: [], may_fail: [A1, A0], {}}}
"""
HOLDS, FAILS = "loss_above: 1.0e-9", "loss_below: 1.0e-9"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with specs in claims/ and fixtures in fixtures/, not in CI whoever runs these tests."""
    for name in ("CI", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", mpl.get_configdir())  # pytester's home has no list of fonts
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytester.makeini("[pytest]\nharness_paths = claims\naddopts = -p no:cacheprovider --strict-markers\n")
    pytester.mkdir("claims")
    return pytester


def write_spec(project, fixture, *claims, name=None):
    """Write a spec with a claim for each of these expectations, by default one that holds of any model."""
    texts = [SAME.format(f"claim-{n}", expect) for n, expect in enumerate(claims or [HOLDS])]
    path = project.path / "claims" / f"{name or fixture}.yaml"
    path.write_text(f"version: 1\nfixture: {fixture}\nhypotheses:\n{''.join(texts)}", "utf-8")


def write_recipe(project, name="small", **fields):
    directory = project.path / "fixtures" / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "recipe.yaml").write_text(recipe_text(**{**SMALLEST, "steps": STEPS, **fields}), "utf-8")
    return directory


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    fixtures = tmp_path_factory.mktemp("trained")
    (fixtures / "small").mkdir()
    (fixtures / "small" / "recipe.yaml").write_text(recipe_text(**SMALLEST, steps=STEPS), "utf-8")
    train_fixture(FixtureRef("small", fixtures), device="cpu")
    return fixtures / "small"


@pytest.fixture
def trained(project, trained_once):
    """The directory of a fixture of the project that was trained before, and that claims are about."""
    shutil.copytree(trained_once, project.path / "fixtures" / "small")
    write_spec(project, "small", HOLDS, HOLDS)
    write_spec(project, "small", HOLDS, name="more")
    return project.path / "fixtures" / "small"


def run(project, *arguments):
    return project.runpytest("claims", "--harness-device=cpu", *arguments)


def report(project):
    return json.loads((project.path / "reports" / "hypotheses.json").read_text("utf-8"))


def runs_seen(text, name="small"):
    """Return how many training runs are seen to come to their end."""
    return len(re.findall(rf"{name}: 100%", text))


# Training.


def test_what_is_missing_is_trained_and_its_progress_is_seen_under_capture(project):
    directory = write_recipe(project)
    write_spec(project, "small")
    result = project.runpytest_subprocess("claims", "-p", "harness.plugin")
    assert result.ret == 0
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["harness: *fixtures: 1 without weights", "1 claim evaluated: 1 supported"])
    shown = str(result.stderr)
    last = re.search(r"small: 100%.*", shown.replace("\r", "\n"))[0]
    assert re.search(rf"{STEPS}/{STEPS} \[\d\d:\d\d<00:00, [\d.]+ steps/s, loss [\d.]+, [\d.]+% right\]", last), last
    assert "0/30" in shown  # seen from the start on
    assert "steps/s" not in str(result.stdout)
    pin = read_pin(FixtureRef("small", directory.parent))
    assert pin.trained.steps == STEPS
    assert list(report(project)["claims"][0]["weights"].values()) == [pin.weights_sha256]


def test_progress_is_seen_with_capture_of_another_kind_and_with_none(project, trained, monkeypatch):
    monkeypatch.setenv("CI", "false")  # which is not true
    for capture in ("sys", "no"):
        (trained / "model.json").unlink()
        (trained / "model.safetensors").unlink()
        result = run(project, f"--capture={capture}")
        assert result.ret == 0
        assert "loss" in str(result.stderr), capture
        assert runs_seen(str(result.stderr)) == 1


@pytest.mark.parametrize(
    ("ci", "option"),
    [("true", None), ("TRUE", None), ("1", None), (None, "never"), ("false", "never"), ("true", "never")],
)
def test_never_is_an_error_that_names_the_command(project, monkeypatch, ci, option):
    directory = write_recipe(project)
    write_spec(project, "small", HOLDS, HOLDS)
    if ci:
        monkeypatch.setenv("CI", ci)
    result = run(project, *([f"--harness-train={option}"] if option else []))
    assert result.ret == 2
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines([TO_TRAIN, TO_TRAIN, "0 claims evaluated; 2 could not be judged"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert [claim["problems"] for claim in report(project)["claims"]] == [[TO_TRAIN]] * 2
    assert contents(directory).keys() == {"recipe.yaml"}


def test_what_is_wrong_is_told_once(project):
    write_recipe(project)
    write_spec(project, "small")
    result = run(project, "--harness-train=never")
    assert str(result.stdout).splitlines().count(TO_TRAIN) == 1
    result.stdout.no_fnmatch_line("*another exception*")


def test_the_command_that_is_named_says_where_the_fixtures_are(project):
    write_recipe(project)
    write_spec(project, "small")
    (project.path / "fixtures").rename(project.path / "models")
    result = run(project, "--harness-train=never", "--harness-fixtures=models")
    result.stdout.fnmatch_lines(["*; train them: harness train small --fixtures models"])


def test_missing_is_stronger_than_ci(project, monkeypatch):
    directory = write_recipe(project)
    write_spec(project, "small")
    monkeypatch.setenv("CI", "true")
    result = run(project, "--harness-train=missing")
    assert result.ret == 0
    assert runs_seen(str(result.stderr)) == 1
    assert read_pin(FixtureRef("small", directory.parent)).trained.steps == STEPS


@pytest.mark.parametrize(("ci", "option"), [("false", None), ("", None), (None, "missing"), ("true", None)])
def test_what_is_there_is_not_trained_again(project, trained, monkeypatch, ci, option):
    if ci is not None:
        monkeypatch.setenv("CI", ci)
    before = contents(trained)
    result = run(project, *([f"--harness-train={option}"] if option else []))
    assert result.ret == 0
    result.assert_outcomes(passed=3)
    assert "small: " not in str(result.stderr)
    assert contents(trained) == before


def test_always_trains_anew_what_was_trained_here_once_a_run(project, trained):
    """By a recipe that has changed since, so that it shows; several claims in two files are about it."""
    write_recipe(project, seed=7)
    stale = run(project)
    assert stale.ret == 2
    stale.stdout.fnmatch_lines(["*the weights are stale: restore the recipe, or *harness train small --fresh*"])
    before, stamp = read_pin(FixtureRef("small", trained.parent)), (trained / "model.json").stat().st_mtime_ns
    result = run(project, "--harness-train=always")
    assert result.ret == 0
    result.assert_outcomes(passed=3)
    assert runs_seen(str(result.stderr)) == 1
    after = read_pin(FixtureRef("small", trained.parent))
    assert (trained / "model.json").stat().st_mtime_ns > stamp
    assert after.weights_sha256 != before.weights_sha256
    assert {sha256 for claim in report(project)["claims"] for sha256 in claim["weights"].values()} == {
        after.weights_sha256
    }


def test_a_model_that_is_loaded_again_was_trained_once(tmp_path):
    """A run of more fixtures than stay loaded comes back to the first."""
    names, trained = [f"tiny{n}" for n in range(20)], []
    for name in names:
        write_tiny(tmp_path, name, **SMALLEST)
    bench = harness.judging.bench.Workbench("cpu", before_loading=lambda ref: trained.append(ref.name))
    first = bench.fixture(FixtureRef(names[0], tmp_path))
    for name in names:
        bench.fixture(FixtureRef(name, tmp_path))
    assert bench.fixture(FixtureRef(names[0], tmp_path)) is not first  # it was loaded again
    assert trained == names


def test_always_trains_what_is_missing_too_and_leaves_imported_weights_alone(project):
    write_recipe(project)
    write_spec(project, "small")
    write_tiny(project.path / "fixtures", "imported", **SMALLEST)
    write_spec(project, "imported")
    before = contents(project.path / "fixtures" / "imported")
    result = run(project, "--harness-train=always")
    assert result.ret == 0
    result.assert_outcomes(passed=2)
    assert runs_seen(str(result.stderr)) == 1
    assert runs_seen(str(result.stderr), "imported") == 0
    assert contents(project.path / "fixtures" / "imported") == before


@pytest.mark.parametrize("workers", [["-n", "2"], ["-n2"], ["-n", "1"], ["--numprocesses=2"]], ids=" ".join)
def test_always_with_workers_is_a_usage_error(project, trained, workers):
    before = contents(trained)
    result = run(project, "--harness-train=always", *workers)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --harness-train always: expected one process, found -n; *"])
    assert "Traceback" not in str(result.stderr)
    assert contents(trained) == before


def test_always_with_workers_named_one_by_one_is_a_usage_error_too(project, trained):
    result = run(project, "--harness-train=always", "--dist=load", "--tx=2*popen")
    assert result.ret == 4


def test_always_without_workers_may_say_so(project, trained):
    assert run(project, "--harness-train=always", "-n", "0", "--collect-only").ret == 0


def test_training_that_fails_in_the_end_is_not_done_again_for_each_claim(project, trained, monkeypatch):
    def replace(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(harness.training.runs, "replace_fixture_files", replace)
    result = run(project, "--harness-train=always")
    assert result.ret == 2
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["fixtures/small: expected a directory that can be written, found No space left *"])
    assert runs_seen(str(result.stderr)) == 1


def test_another_word_is_a_usage_error(project):
    result = run(project, "--harness-train=sometimes")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--harness-train: invalid choice: 'sometimes' (choose from *missing*never*always*)"])


@pytest.mark.parametrize("option", ["missing", "always", "never"])
def test_a_bad_recipe_is_one_line_where_it_stands(project, option):
    directory = write_recipe(project, steps=0)
    write_spec(project, "small", HOLDS, HOLDS)
    result = run(project, f"--harness-train={option}")
    assert result.ret == 2
    result.assert_outcomes(errors=1)
    problem = "fixtures/small/recipe.yaml:9:8: expected a number of at least 1, found 0; correct `steps`"
    result.stdout.fnmatch_lines([problem])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert report(project)["spec_errors"] == [problem]
    assert contents(directory).keys() == {"recipe.yaml"}


def test_trouble_in_training_is_an_error_of_each_claim_in_one_line(project):
    directory = write_recipe(project)
    write_spec(project, "small", HOLDS, HOLDS)
    (directory / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    result = run(project)
    assert result.ret == 2
    result.assert_outcomes(errors=2)
    problem = "fixtures/small/checkpoint.safetensors: expected a checkpoint, found *; start anew with --fresh"
    result.stdout.fnmatch_lines([problem, problem, "0 claims evaluated; 2 could not be judged"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert (directory / "checkpoint.safetensors").read_bytes() == b"no checkpoint"


def test_collecting_alone_trains_nothing(project):
    directory = write_recipe(project)
    write_spec(project, "small")
    assert run(project, "--collect-only", "-q").ret == 0
    assert contents(directory).keys() == {"recipe.yaml"}


def test_a_fixture_that_no_claim_is_about_is_not_trained(project):
    write_recipe(project, "other")
    write_tiny(project.path / "fixtures", "imported", **SMALLEST)
    write_spec(project, "imported")
    result = run(project)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["harness: *fixtures: imported sha256 *, 1 without weights"])
    assert contents(project.path / "fixtures" / "other").keys() == {"recipe.yaml"}


@pytest.mark.slow
def test_workers_that_want_the_same_weights_train_them_once(project):
    """Both stand at the lock before either may train; what is skipped is skipped there as well."""
    directory = write_recipe(project)
    write_recipe(project, "published", hub=HUB)
    for name in ("one", "two"):  # the larger files go first, to a worker each
        write_spec(project, "small", HOLDS, HOLDS, name=name)
    write_spec(project, "published")
    command = [sys.executable, "-m", "pytest", "claims", "-n", "2", "-p", "harness.plugin"]
    out, err = project.path / "out.txt", project.path / "err.txt"
    with out.open("wb") as stdout, err.open("wb") as stderr, FileLock(directory / ".lock") as lock:
        process = project.popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        try:
            until = time.monotonic() + 200
            while err.read_bytes().count(b"waiting for another process, which trains small") < 2:
                assert process.poll() is None, out.read_text("utf-8")
                assert time.monotonic() < until, err.read_text("utf-8")
                time.sleep(0.05)
            lock.release()
            code = process.wait(200)
        finally:
            process.kill()
    assert code == 0, out.read_text("utf-8")
    assert runs_seen(err.read_text("utf-8")) == 1
    lines = out.read_text("utf-8").splitlines()
    assert f"1 claim skipped: {TO_IMPORT}" in lines
    assert "4 claims evaluated: 4 supported, 3 of them repeat another; 1 skipped, their weights are not here" in lines
    assert report(project)["summary"] == {"skipped": 1, "supported": 4}


# Weights that somebody published, and that are not here.


@pytest.fixture
def published(project):
    """A project with two claims about weights that somebody published; one is known not to hold."""
    write_recipe(project, "published", hub=HUB)
    write_spec(project, "published", HOLDS, f"{FAILS}}}\n    xfail: {{reason: so they say")
    return project


def import_published(project):
    """Give the fixture weights, as `harness import hub:published` would."""
    shutil.rmtree(project.path / "fixtures" / "published")
    write_tiny(project.path / "fixtures", "published", **SMALLEST, hub=HUB)


@pytest.mark.parametrize(
    ("ci", "option"), [(None, None), ("true", None), (None, "never"), ("true", "missing"), (None, "always")]
)
def test_claims_about_weights_that_were_not_imported_are_skipped_and_never_green(published, monkeypatch, ci, option):
    if ci:
        monkeypatch.setenv("CI", ci)
    result = run(published, *([f"--harness-train={option}"] if option else []))
    assert result.ret == 5
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines([
        "harness: *fixtures: 1 without weights",
        f"2 claims skipped: {TO_IMPORT}",
        "0 claims evaluated; 2 skipped, their weights are not here",
    ])  # fmt: skip
    assert contents(published.path / "fixtures" / "published").keys() == {"recipe.yaml"}


def test_the_reason_and_the_command_are_in_every_report(published):
    result = run(published, "-rs", "-v", "--junitxml=junit.xml")
    result.stdout.fnmatch_lines(["claims/published.yaml::claim-0 SKIPPED *", "claims/published.yaml::claim-1 SKIPPED*"])
    result.stdout.fnmatch_lines([f"SKIPPED [[]1[]] *: {TO_IMPORT}"])
    body = report(published)
    assert body["summary"] == {"skipped": 2}
    assert [claim["id"] for claim in body["claims"]] == ["claim-0", "claim-1"]
    for claim in body["claims"]:
        assert (claim["verdict"], claim["status"], claim["problems"]) == ("skipped", "skipped", [TO_IMPORT])
    text = (published.path / "reports" / "hypotheses.md").read_text("utf-8")
    assert "0 claims evaluated; 2 skipped, their weights are not here." in text
    assert TO_IMPORT in text
    assert text.count("| **skipped** | [claim-") == 2
    assert (published.path / "junit.xml").read_text("utf-8").count(TO_IMPORT) >= 2


def test_a_skip_is_shown_where_the_claim_is_written(published):
    result = run(published, "-rs")
    result.stdout.fnmatch_lines([f"SKIPPED [[]*[]] claims/published.yaml:*: {TO_IMPORT}"])


@pytest.mark.parametrize(
    ("others", "code", "outcomes", "summary"),
    [
        ([HOLDS], 0, {"passed": 1}, "1 claim evaluated: 1 supported; 2 skipped, their weights are not here"),
        (
            [HOLDS, FAILS], 1, {"passed": 1, "failed": 1},
            "2 claims evaluated: 1 refuted, 1 supported; 1 not as their specs say; 2 skipped, their weights are not here",
        ),
        ([], 2, {"errors": 1}, "0 claims evaluated; 1 could not be judged; 2 skipped, their weights are not here"),
    ],
)  # fmt: skip
def test_what_else_is_judged_decides_the_exit_code(published, others, code, outcomes, summary):
    write_tiny(published.path / "fixtures", "imported", **SMALLEST)
    write_spec(published, "imported", *others)
    if not others:
        (published.path / "fixtures" / "imported" / "model.safetensors").write_bytes(b"")
    result = run(published)
    assert result.ret == code
    result.assert_outcomes(skipped=2, **outcomes)
    result.stdout.fnmatch_lines([f"2 claims skipped: {TO_IMPORT}", summary])


def test_tests_that_are_no_claims_do_not_make_skipped_ones_green(published):
    published.makepyfile(test_green="def test_one(): assert True")
    result = run(published, "test_green.py")
    assert result.ret == 5
    result.assert_outcomes(passed=1, skipped=2)


def test_the_import_that_is_named_says_where_the_fixtures_are(published):
    (published.path / "fixtures").rename(published.path / "models")
    result = run(published, "--harness-fixtures=models")
    assert result.ret == 5
    result.stdout.fnmatch_lines(["2 claims skipped: *; import them: harness import hub:published --fixtures models"])


def test_once_they_are_here_they_are_judged(published):
    import_published(published)
    result = run(published)
    assert result.ret == 0
    result.assert_outcomes(passed=1, xfailed=1)
    result.stdout.fnmatch_lines(["harness: *fixtures: published sha256 *"])
    result.stdout.no_fnmatch_line("*skipped*")


@pytest.mark.parametrize("trouble", ["a pin of another fixture", "a pin without weights"])
def test_weights_that_are_here_but_broken_are_an_error(published, trouble):
    import_published(published)
    directory = published.path / "fixtures" / "published"
    if trouble == "a pin of another fixture":
        tiny.edit_pin(directory, name="another")
    else:
        (directory / "model.safetensors").unlink()
    result = run(published)
    assert result.ret == 2
    result.assert_outcomes(errors=2)


def test_weights_without_a_pin_are_here_and_not_skipped(published):
    """An import would be refused, so that the command which a skip names could not help."""
    import_published(published)
    (published.path / "fixtures" / "published" / "model.json").unlink()
    result = run(published)
    assert result.ret == 2
    result.assert_outcomes(errors=2)


def test_skipped_on_a_worker_is_skipped(published):
    result = published.runpytest_subprocess("claims", "-n", "2", "-p", "harness.plugin")
    assert result.ret == 5
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines([f"2 claims skipped: {TO_IMPORT}"])
    result.stdout.fnmatch_lines(["0 claims evaluated; 2 skipped, their weights are not here"])
    assert report(published)["summary"] == {"skipped": 2}


@pytest.mark.parametrize(
    ("others", "code", "summary"),
    [
        (None, 2, "0 claims evaluated; 2 skipped, their weights are not here"),
        ([HOLDS], 0, "1 claim evaluated: 1 supported; 2 skipped, their weights are not here"),
        (
            [FAILS], 1,
            "1 claim evaluated: 1 refuted; 1 not as their specs say; 2 skipped, their weights are not here",
        ),
    ],
)  # fmt: skip
def test_check_skips_them_too_and_is_trouble_if_nothing_was_judged(published, capsys, others, code, summary):
    if others:
        write_tiny(published.path / "fixtures", "imported", **SMALLEST)
        write_spec(published, "imported", *others)
    assert main(["check", "claims", "--device=cpu"]) == code
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == [f"2 claims skipped: {TO_IMPORT}", summary]
    assert "Traceback" not in out + err
    assert main(["check", "claims", "--device=cpu", "--json"]) == code
    body = json.loads(capsys.readouterr().out)
    assert [claim["problems"] for claim in body["claims"] if claim["verdict"] == "skipped"] == [[TO_IMPORT]] * 2


def test_check_never_trains(project, capsys):
    directory = write_recipe(project)
    write_spec(project, "small")
    assert main(["check", "claims", "--device=cpu"]) == 2
    assert f"harness: claims/small.yaml::claim-0: {TO_TRAIN}\n" in capsys.readouterr().err
    assert contents(directory).keys() == {"recipe.yaml"}
